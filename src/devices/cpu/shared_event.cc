#include "devices/cpu/shared_event.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string_view>

namespace avec::cpu {
namespace {

constexpr std::string_view kPrefix = "/avec-cpu-event-";
constexpr std::size_t kDigits = 32;

}  // namespace

std::shared_ptr<SharedEvent> SharedEvent::map(const std::string& name, bool owner) {
  const int descriptor = ::shm_open(name.c_str(), O_RDWR | (owner ? O_CREAT | O_EXCL : 0), 0600);
  if (descriptor < 0) return nullptr;
  struct stat facts {};
  bool fits = owner ? ::ftruncate(descriptor, sizeof(Page)) == 0
                    : ::fstat(descriptor, &facts) == 0 && facts.st_size >= static_cast<off_t>(sizeof(Page));
  void* got =
      fits ? ::mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0) : MAP_FAILED;
  ::close(descriptor);
  if (got == MAP_FAILED) {
    if (owner) ::shm_unlink(name.c_str());
    return nullptr;
  }
  return std::shared_ptr<SharedEvent>(new SharedEvent(name, static_cast<Page*>(got), owner));
}

std::shared_ptr<SharedEvent> SharedEvent::make() {
  std::array<unsigned char, kDigits / 2> random{};
  if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) return nullptr;
  std::string name(kPrefix);
  for (const unsigned char byte : random) {
    name += "0123456789abcdef"[byte >> 4];
    name += "0123456789abcdef"[byte & 15];
  }
  return map(name, true);
}

std::shared_ptr<SharedEvent> SharedEvent::open(const CUipcEventHandle& handle) {
  const std::string name(handle.reserved, ::strnlen(handle.reserved, sizeof handle.reserved));
  const std::string_view digits = std::string_view(name).substr(std::min(name.size(), kPrefix.size()));
  const bool ours = name.starts_with(kPrefix) && digits.size() == kDigits &&
                    digits.find_first_not_of("0123456789abcdef") == std::string_view::npos;
  return ours ? map(name, false) : nullptr;
}

SharedEvent::~SharedEvent() {
  ::munmap(page_, sizeof(Page));
  if (owner_) ::shm_unlink(name_.c_str());
}

CUipcEventHandle SharedEvent::handle() const {
  CUipcEventHandle handle{};
  static_assert(kPrefix.size() + kDigits < sizeof handle.reserved);
  std::memcpy(handle.reserved, name_.data(), name_.size());
  return handle;
}

void SharedEvent::reached(std::uint64_t record) {
  std::uint64_t before = page_->done.load();
  while (before < record && !page_->done.compare_exchange_weak(before, record)) {
  }
}

}  // namespace avec::cpu
