#include "transport/shm/context.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace avec::shm {
namespace {

// Of linux/magic.h, which not every distribution's headers have in one place.
constexpr decltype(statfs::f_type) kTmpfs = 0x01021994;
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
// Linux 6.3; older kernels refuse it, newer ones can be set up to want it.
constexpr unsigned kNotExecutable = 0x0008U;

}  // namespace

Mapping Mapping::of(int fd, std::size_t bytes) noexcept {
  Mapping mapping;
  void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) return mapping;
  mapping.bytes_ = {static_cast<std::byte*>(at), bytes};
  ::madvise(at, bytes, MADV_DONTFORK);
  return mapping;
}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    reset();
    bytes_ = other.release();
  }
  return *this;
}

void Mapping::reset() noexcept {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
  bytes_ = {};
}

Descriptor make_sealed_memory(const char* name, std::size_t bytes) noexcept {
  Descriptor fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | kNotExecutable));
  if (!fd && errno == EINVAL) fd.reset(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return fd;
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0 || ::fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) {
    const int error = errno;
    fd.reset();
    errno = error;
  }
  return fd;
}

bool is_sealed_memory(int fd, std::size_t bytes) noexcept {
  const int seals = ::fcntl(fd, F_GET_SEALS);
  struct stat status {};
  struct statfs system {};
  return seals >= 0 && (seals & kSeals) == kSeals && ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
         status.st_size >= 0 && static_cast<std::size_t>(status.st_size) == bytes &&
         // Memory of hugetlbfs can lack a page when it is touched.
         ::fstatfs(fd, &system) == 0 && system.f_type == kTmpfs;
}

// ---- the socket ------------------------------------------------------------------------

bool send_with_descriptor(int socket, ConstBytes bytes, int attached) noexcept {
  iovec vector{const_cast<std::byte*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> space{};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  if (attached >= 0) {
    message.msg_control = space.data();
    message.msg_controllen = space.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &attached, sizeof attached);
  }
  while (true) {
    // Bytes as few as a message's go as a whole or not at all.
    const ssize_t sent = ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == static_cast<ssize_t>(bytes.size())) return true;
    if (sent >= 0) errno = EPIPE;
    if (errno != EINTR) return false;
  }
}

ssize_t receive_with_descriptor(int socket, MutableBytes bytes, Descriptor& attached) noexcept {
  iovec vector{bytes.data(), bytes.size()};
  // Room for one more than is wanted, so that a peer that sends several is noticed.
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(2 * sizeof(int))> space{};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = space.data();
  message.msg_controllen = space.size();
  ssize_t got;
  do {
    got = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return got;
  bool too_many = (message.msg_flags & MSG_CTRUNC) != 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      too_many = too_many || attached;
      attached.reset(fd);
    }
  }
  if (!too_many) return got;
  errno = EPROTO;
  return -1;
}

Control::Sent Control::send(const Message& message, int attached) noexcept {
  if (send_with_descriptor(fd_.get(), std::as_bytes(std::span(&message, 1)), attached)) return Sent::kDone;
  // ETOOMANYREFS: the peer has not yet taken descriptors that were sent before.
  const bool full =
      errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ENOMEM || errno == ETOOMANYREFS;
  return full ? Sent::kFull : Sent::kBroken;
}

Control::Received Control::receive(Message& message, Descriptor& attached) noexcept {
  const auto rest = MutableBytes(partial_).subspan(partial_bytes_);
  const ssize_t got = receive_with_descriptor(fd_.get(), rest, partial_attached_);
  if (got < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return Received::kNothing;
    return errno == EPROTO ? Received::kMalformed : Received::kEnd;
  }
  if (got == 0) return Received::kEnd;
  partial_bytes_ += static_cast<std::size_t>(got);
  if (partial_bytes_ < partial_.size()) return Received::kNothing;
  partial_bytes_ = 0;
  std::memcpy(&message, partial_.data(), sizeof message);
  attached = std::move(partial_attached_);
  return Received::kMessage;
}

void Control::close() noexcept {
  if (std::exchange(closed_, true)) return;
  ::shutdown(fd_.get(), SHUT_RDWR);
}

}  // namespace avec::shm
