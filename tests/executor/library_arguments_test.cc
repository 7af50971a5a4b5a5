// What a library gets of a call's words: where it lies, and what is refused.
#include "support/catch.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

#include "executor/worker/libraries.h"

namespace avec::worker {
namespace {

constexpr LibraryDescription kLibrary{1, "none", "libnone.so.1", nullptr, 0, 3, 7, 15, nullptr, 0};

using Words = std::vector<std::uint64_t>;

struct Call {
  explicit Call(std::vector<std::uint64_t> words)
      : arguments(session, kLibrary, std::move(words), [](std::uint64_t) { return nullptr; }, [](std::uint64_t) { return nullptr; }) {}
  SessionLibraries session;
  LibraryArguments arguments;
};

bool aligned(const void* address) { return reinterpret_cast<std::uintptr_t>(address) % 16 == 0; }

TEST_CASE("a complex scalar of doubles lies at a multiple of 16 wherever its words are") {
  for (std::size_t before = 0; before < 4; ++before) {
    std::vector<std::uint64_t> words(before, 5);
    words.insert(words.end(), {1, 0x3ff0000000000000, 0x4000000000000000});
    Call call(words);
    for (std::size_t i = 0; i < before; ++i) call.arguments.word();
    const void* scalar = call.arguments.scalar(16);
    REQUIRE(scalar != nullptr);
    CHECK(aligned(scalar));
    double parts[2];
    std::memcpy(parts, scalar, sizeof parts);
    CHECK(parts[0] == 1.0);
    CHECK(parts[1] == 2.0);
    CHECK(call.arguments.good());
  }
}

TEST_CASE("arrays, results and scratch lie at multiples of 16, and what is written to an array comes back") {
  Call call({9, 24, 1, 2, 3, 1});
  call.arguments.word();
  const LibraryArguments::Blob blob = call.arguments.in();
  auto* data = static_cast<std::uint64_t*>(call.arguments.both(blob, 24, false));
  REQUIRE(data != nullptr);
  CHECK(aligned(data));
  CHECK(data[2] == 3);
  data[2] = 33;
  auto* result = static_cast<std::uint64_t*>(call.arguments.out(call.arguments.wanted(), 8, false));
  REQUIRE(result != nullptr);
  CHECK(aligned(result));
  *result = 44;
  CHECK(aligned(call.arguments.scratch(1)));
  CHECK(call.arguments.results() == std::vector<std::uint64_t>{1, 2, 33, 44});
}

TEST_CASE("scratch is lent beyond what one call may read and write, as far as the session may have") {
  Call call({});
  auto* scratch = static_cast<std::byte*>(call.arguments.scratch(64u << 20));
  REQUIRE(scratch != nullptr);
  CHECK(aligned(scratch));
  scratch[0] = scratch[(64u << 20) - 1] = std::byte{1};
  {
    const auto none = [](std::uint64_t) { return nullptr; };
    LibraryArguments other(call.session, kLibrary, {}, none, none);
    CHECK(other.scratch(libraries::kMaxScratchBytes - (64u << 20)) != nullptr);
    CHECK(other.good());
    CHECK(call.arguments.scratch(1) == nullptr);
    CHECK(call.arguments.failure() == 3);
    CHECK(call.arguments.malformed() == nullptr);
  }
  for (const std::uint64_t bytes : {libraries::kMaxScratchBytes + 1, ~std::uint64_t{0}}) {
    LibraryArguments more(call.session, kLibrary, {}, nullptr, nullptr);
    CHECK(more.scratch(bytes) == nullptr);
    CHECK(more.failure() == 3);
  }
  // The other's is the session's again.
  LibraryArguments last(call.session, kLibrary, {}, nullptr, nullptr);
  CHECK(last.scratch(libraries::kMaxScratchBytes - (64u << 20)) != nullptr);
}

TEST_CASE("a null pointer is an argument only where the function takes one, or of no bytes") {
  using Take = std::function<void(LibraryArguments&)>;
  const std::uint64_t null = libraries::kNull;
  const std::vector<std::pair<Words, Take>> cases{
      {{null}, [](LibraryArguments& a) { CHECK(a.expect(a.in(), 8, false) == nullptr); }},
      {{null}, [](LibraryArguments& a) { CHECK(a.both(a.in(), 8, false) == nullptr); }},
      {{0}, [](LibraryArguments& a) { CHECK(a.out(a.wanted(), 8, false) == nullptr); }},
      {{null}, [](LibraryArguments& a) { CHECK(a.string(false) == nullptr); }},
      {{0, 0}, [](LibraryArguments& a) { CHECK(a.scalar(8) == nullptr); }},
      {{0, 0}, [](LibraryArguments& a) { CHECK(a.result(8) == nullptr); }},
      {{1, 0}, [](LibraryArguments& a) { CHECK(a.result(8) == nullptr); }},
      {{0, 0}, [](LibraryArguments& a) { CHECK(a.expect(a.sized_scalar(), 8) == nullptr); }},
      {{1, null}, [](LibraryArguments& a) { CHECK(a.expect(a.sized_scalar(), 8) == nullptr); }},
      {{0, 0}, [](LibraryArguments& a) { CHECK(a.out(a.sized_result(), 8) == nullptr); }},
      {{1, 0}, [](LibraryArguments& a) { CHECK(a.out(a.sized_result(), 8) == nullptr); }},
  };
  for (const auto& [words, take] : cases) {
    Call call(words);
    take(call.arguments);
    CHECK(call.arguments.malformed() == nullptr);
    CHECK(call.arguments.failure() == 7);
    CHECK(call.arguments.invoke([] { FAIL("the function is called"); return 0; }) == 7);
  }
  Call allowed({null, null, 0, 0, null});
  CHECK(allowed.arguments.expect(allowed.arguments.in(), 8, true) == nullptr);
  CHECK(allowed.arguments.expect(allowed.arguments.in(), 0, false) == nullptr);
  CHECK(allowed.arguments.out(allowed.arguments.wanted(), 8, true) == nullptr);
  CHECK(allowed.arguments.out(allowed.arguments.wanted(), 0, false) == nullptr);
  CHECK(allowed.arguments.string(true) == nullptr);
  CHECK(allowed.arguments.good());
}

/// In the library's constructor, until go_on(): slow_library.cc reads from this pipe there.
class SlowLoad {
 public:
  SlowLoad() {
    ::unlink(path_.c_str());
    REQUIRE(::mkfifo(path_.c_str(), 0600) == 0);
    ::setenv("AVEC_TEST_SLOW_LOAD", path_.c_str(), 1);
  }
  ~SlowLoad() {
    go_on();
    ::unlink(path_.c_str());
  }
  bool reached() {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (gate_ < 0 && std::chrono::steady_clock::now() < deadline) {
      gate_ = ::open(path_.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return gate_ >= 0;
  }
  void go_on() {
    if (gate_ >= 0) ::close(std::exchange(gate_, -1));
  }

 private:
  const std::string path_ = AVEC_SLOW_LIBRARY "/gate." + std::to_string(::getpid());
  int gate_ = -1;
};

TEST_CASE("threads that ask for a function while its library is being loaded all get it") {
  SlowLoad load;
  SessionLibraries session;
  session.configure(AVEC_SLOW_LIBRARY, {});
  std::array<void*, 4> found{};
  std::vector<std::thread> threads;
  threads.emplace_back([&] { found[0] = session.symbol(3, "slow_value"); });
  REQUIRE(load.reached());
  for (std::size_t i = 1; i < found.size(); ++i)
    threads.emplace_back([&, i] { found[i] = session.symbol(3, "slow_value"); });
  // Time for them to find the library half loaded, if that can be.
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  load.go_on();
  for (std::thread& thread : threads) thread.join();
  for (void* one : found) {
    CHECK(one != nullptr);
    CHECK(one == found[0]);
  }
}

TEST_CASE("what is longer than the frame is no argument") {
  Call scalar({1, 0});
  CHECK(scalar.arguments.scalar(16) == nullptr);
  CHECK(scalar.arguments.malformed() != nullptr);
  Call array({std::uint64_t{1} << 63, 0, 0});
  CHECK(array.arguments.in().data == nullptr);
  CHECK(array.arguments.malformed() != nullptr);
  Call nothing({});
  CHECK(nothing.arguments.value<int>() == 0);
  CHECK(nothing.arguments.malformed() != nullptr);
}

}  // namespace
}  // namespace avec::worker
