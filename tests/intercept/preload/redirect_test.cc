#include "intercept/preload/redirect.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <string>

#include "intercept/preload/jump.h"
#include "support/catch.h"

using namespace avec::preload;

namespace {

int replacement(int value) { return value + 1000; }
int other_replacement(int value) { return value + 2000; }

using Function = int (*)(int);

std::uint64_t address(Function function) { return reinterpret_cast<std::uint64_t>(function); }

/// A page of code with room for several functions; its contents are never run before they are
/// redirected.
class CodePage {
 public:
  CodePage() {
    page_ = ::mmap(nullptr, size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    std::memset(page_, 0, size());
    ::mprotect(page_, size(), PROT_READ | PROT_EXEC);
  }
  ~CodePage() { ::munmap(page_, size()); }
  CodePage(const CodePage&) = delete;
  CodePage& operator=(const CodePage&) = delete;

  [[nodiscard]] std::uint64_t at(std::size_t offset) const {
    return reinterpret_cast<std::uint64_t>(page_) + offset;
  }
  static std::size_t size() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

 private:
  void* page_ = nullptr;
};

int call(std::uint64_t at, int value) { return reinterpret_cast<Function>(at)(value); }

/// Permissions of the page, as in /proc/self/maps: "r-xp".
std::string permissions(std::uint64_t at) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const std::uint64_t begin = std::stoull(line, nullptr, 16);
    const std::uint64_t end = std::stoull(line.substr(line.find('-') + 1), nullptr, 16);
    if (at >= begin && at < end) return line.substr(line.find(' ') + 1, 4);
  }
  return {};
}

}  // namespace

TEST_CASE("A function with room jumps to its replacement") {
  const CodePage page;
  const Redirection plan[] = {{page.at(64), 64, address(replacement)},
                              {page.at(256), 64, address(other_replacement)}};
  const RedirectResult result = redirect(plan);
  CHECK(result.done == 2);
  CHECK(result.error == 0);
  CHECK(call(page.at(64), 5) == 1005);
  CHECK(call(page.at(256), 6) == 2006);
  CHECK(permissions(page.at(64)) == "r-xp");
}

TEST_CASE("A function too small for an address jumps by way of an island near it") {
  const CodePage page;
  const Redirection plan[] = {{page.at(0), kNearBytes, address(replacement)},
                              {page.at(16), kFarBytes - 1, address(other_replacement)}};
  const RedirectResult result = redirect(plan);
  CHECK(result.done == 2);
  CHECK(call(page.at(0), 5) == 1005);
  CHECK(call(page.at(16), 5) == 2005);
  const auto* beyond = reinterpret_cast<const unsigned char*>(page.at(kNearBytes));
  CHECK(*beyond == 0);
}

TEST_CASE("A function without room for any jump is left alone and counted") {
  const CodePage page;
  const Redirection plan[] = {{page.at(32), kNearBytes - 1, address(replacement)}};
  const RedirectResult result = redirect(plan);
  CHECK(result.done == 0);
  CHECK(result.too_small == 1);
  CHECK(*reinterpret_cast<const unsigned char*>(page.at(32)) == 0);
}

TEST_CASE("Nothing to redirect changes nothing") {
  const RedirectResult result = redirect({});
  CHECK(result.done == 0);
  CHECK(result.error == 0);
}
