#include "base/descriptor.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <utility>

namespace avec {
namespace {

constexpr int kHigh = 900;

/// The file system of eventfds, which has no files that a path or a socket could name. 0: not known yet.
std::atomic<std::uint64_t> event_device{0};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

std::uint64_t device_of(int fd) noexcept {
  struct stat status;
  return ::fstat(fd, &status) == 0 ? static_cast<std::uint64_t>(status.st_dev) : 0;
}

bool is_event(int fd) noexcept {
  const auto device = device_of(fd);
  return device != 0 && device == event_device.load(std::memory_order_relaxed);
}

}  // namespace

Descriptor out_of_the_way(Descriptor fd) noexcept {
  if (!fd || fd.get() >= kHigh) return fd;
  const int kept = errno;
  Descriptor high(::fcntl(fd.get(), F_DUPFD_CLOEXEC, kHigh));
  errno = kept;
  return high ? std::move(high) : std::move(fd);
}

Descriptor make_event() noexcept {
  auto event = out_of_the_way(Descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
  if (event) event_device.store(device_of(event.get()), std::memory_order_relaxed);
  return event;
}

void signal_event(int fd) noexcept {
  const int kept = errno;
  const std::uint64_t one = 1;
  // Full (2^64 - 2 signals): it is readable anyway.
  if (is_event(fd)) {
    while (::write(fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
  }
  errno = kept;
}

void consume_event(int fd) noexcept {
  std::uint64_t count = 0;
  if (is_event(fd)) [[maybe_unused]] const auto got = ::read(fd, &count, sizeof count);
}

}  // namespace avec
