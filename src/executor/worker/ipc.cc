#include "executor/worker/ipc.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "base/limits.h"
#include "wire/crypto.h"

namespace avec::worker {
namespace {

constexpr std::size_t kNameAt = 16, kSecretAt = 32;
/// How long either side waits for the other.
constexpr timeval kPatience{1, 0};

struct Address {
  sockaddr_un address{};
  socklen_t bytes = 0;
  explicit Address(std::span<const std::byte> name) {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string text = "avec-ipc-";
    for (const std::byte b : name) {
      text += kDigits[std::to_integer<unsigned>(b) >> 4];
      text += kDigits[std::to_integer<unsigned>(b) & 15];
    }
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, text.data(), text.size());  // [0] is 0: no file
    bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
};

void be_patient(int socket) {
  ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  ::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
}

/// The same user's process: others have no business here, whatever they know.
bool same_user(int socket) {
  ucred peer{};
  socklen_t bytes = sizeof peer;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 && peer.uid == ::geteuid();
}

/// Room for one descriptor beside a message.
union Control {
  cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int))];
};

void send_descriptor(int socket, int descriptor, std::uint64_t size) {
  iovec part{&size, sizeof size};
  Control control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  (void)::sendmsg(socket, &message, MSG_NOSIGNAL);
}

std::optional<ImportedMemory> receive_descriptor(int socket) {
  ImportedMemory memory;
  iovec part{&memory.bytes, sizeof memory.bytes};
  Control control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  const ssize_t got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  const cmsghdr* header = got < 0 ? nullptr : CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return {};
  int descriptor = -1;
  std::memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
  memory.descriptor.reset(descriptor);
  if (got != static_cast<ssize_t>(sizeof memory.bytes) || (message.msg_flags & MSG_TRUNC) != 0) return {};
  return memory;
}

}  // namespace

std::unique_ptr<MemoryExports> MemoryExports::open() {
  std::unique_ptr<MemoryExports> exports(new MemoryExports);
  if (!wire::random_bytes(exports->name_)) return nullptr;
  const Address address(exports->name_);
  exports->listener_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  exports->end_.reset(::eventfd(0, EFD_CLOEXEC));
  if (!exports->listener_ || !exports->end_ ||
      ::bind(exports->listener_.get(), address.get(), address.bytes) != 0 ||
      ::listen(exports->listener_.get(), 16) != 0) {
    return nullptr;
  }
  exports->thread_ = std::thread([raw = exports.get()] { raw->serve(); });
  return exports;
}

MemoryExports::~MemoryExports() {
  if (!thread_.joinable()) return;
  const std::uint64_t one = 1;
  (void)!::write(end_.get(), &one, sizeof one);
  thread_.join();
}

std::optional<IpcBytes> MemoryExports::add(const ExportTag& tag, Descriptor descriptor, std::uint64_t bytes) {
  return add({tag, {}, std::move(descriptor), bytes, {}});
}

std::optional<IpcBytes> MemoryExports::add_event(const ExportTag& tag, const IpcBytes& driver_handle) {
  return add({tag, {}, {}, 0, driver_handle});
}

std::optional<IpcBytes> MemoryExports::add(Export made) {
  const std::scoped_lock lock(mutex_);
  auto entry = std::ranges::find(exports_, made.tag, &Export::tag);
  if (entry == exports_.end()) {
    if (exports_.size() >= limits::kMaxExports || !wire::random_bytes(made.secret)) return {};
    exports_.push_back(std::move(made));
    entry = std::prev(exports_.end());
  }
  IpcBytes handle{};
  std::ranges::copy(name_, handle.begin() + kNameAt);
  std::ranges::copy(entry->secret, handle.begin() + kSecretAt);
  return handle;
}

void MemoryExports::remove(const ExportTag& tag) {
  const std::scoped_lock lock(mutex_);
  std::erase_if(exports_, [&](const Export& entry) { return entry.tag == tag; });
}

void MemoryExports::serve() {
  while (true) {
    std::array<pollfd, 2> waited{{{listener_.get(), POLLIN, 0}, {end_.get(), POLLIN, 0}}};
    if (::poll(waited.data(), waited.size(), -1) < 0) continue;
    if (waited[1].revents != 0) return;
    const Descriptor peer(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!peer || !same_user(peer.get())) continue;
    be_patient(peer.get());
    answer(peer.get());
  }
}

void MemoryExports::answer(int peer) {
  Secret secret;
  if (::recv(peer, secret.data(), secret.size(), 0) != static_cast<ssize_t>(secret.size())) return;
  const std::scoped_lock lock(mutex_);
  for (const Export& entry : exports_) {
    // 256 random bits: how long a comparison takes tells nobody anything.
    if (entry.secret != secret) continue;
    if (entry.tag.kind != ExportTag::Kind::kEvent) return send_descriptor(peer, entry.descriptor.get(), entry.bytes);
    (void)::send(peer, entry.event.data(), entry.event.size(), MSG_NOSIGNAL);
    return;
  }
}

/// A socket on which the exporting worker answers; or none.
Descriptor ask_for(const IpcBytes& handle) {
  const Address address(std::span<const std::byte>(handle).subspan(kNameAt, MemoryExports::kNameBytes));
  Descriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) return {};
  be_patient(socket.get());
  if (::connect(socket.get(), address.get(), address.bytes) != 0 || !same_user(socket.get())) return {};
  const auto secret = std::span<const std::byte>(handle).subspan(kSecretAt, MemoryExports::kSecretBytes);
  if (::send(socket.get(), secret.data(), secret.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(secret.size()))
    return {};
  return socket;
}

std::optional<ImportedMemory> import_memory(const IpcBytes& handle) {
  const Descriptor socket = ask_for(handle);
  if (!socket) return {};
  return receive_descriptor(socket.get());
}

std::optional<IpcBytes> import_event(const IpcBytes& handle) {
  const Descriptor socket = ask_for(handle);
  IpcBytes event;
  if (!socket || ::recv(socket.get(), event.data(), event.size(), MSG_TRUNC) != static_cast<ssize_t>(event.size()))
    return {};
  return event;
}

}  // namespace avec::worker
