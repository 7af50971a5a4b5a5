#include "executor/worker_channel.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace avec::executor {
namespace {

constexpr std::size_t kMaxText = 1024;

/// A message's bytes. Both ends are the same program, so this is no wire format.
struct Packet {
  MessageKind kind;
  bool encrypted;
  std::byte ticket[16];
  std::byte key[32];
  std::uint64_t bytes_in, bytes_out, calls, bytes_copied;
  std::uint32_t text_bytes;
  char text[kMaxText];
};

union Control {
  cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int))];
};

}  // namespace

bool send_message(int channel, const ChannelMessage& message) {
  Packet packet{};
  packet.kind = message.kind;
  packet.encrypted = message.encrypted;
  std::ranges::copy(message.ticket, packet.ticket);
  std::ranges::copy(message.key, packet.key);
  packet.bytes_in = message.bytes_in;
  packet.bytes_out = message.bytes_out;
  packet.calls = message.calls;
  packet.bytes_copied = message.bytes_copied;
  packet.text_bytes = static_cast<std::uint32_t>(std::min(message.text.size(), kMaxText));
  std::memcpy(packet.text, message.text.data(), packet.text_bytes);
  iovec part{&packet, sizeof packet};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  Control control{};
  if (message.descriptor) {
    header.msg_control = &control;
    header.msg_controllen = sizeof control.bytes;
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = message.descriptor.get();
    std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  ssize_t sent;
  do {
    sent = ::sendmsg(channel, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(sizeof packet);
}

Received receive_message(int channel, ChannelMessage& message, bool wait) {
  Packet packet{};
  iovec part{&packet, sizeof packet};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  Control control{};
  header.msg_control = &control;
  header.msg_controllen = sizeof control.bytes;
  ssize_t got;
  do {
    got = ::recvmsg(channel, &header, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
  } while (got < 0 && errno == EINTR);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Received::kNothing;
  if (got != static_cast<ssize_t>(sizeof packet)) return Received::kEnd;
  message = {};
  message.kind = packet.kind;
  message.encrypted = packet.encrypted;
  std::ranges::copy(packet.ticket, message.ticket.begin());
  std::ranges::copy(packet.key, message.key.begin());
  message.bytes_in = packet.bytes_in;
  message.bytes_out = packet.bytes_out;
  message.calls = packet.calls;
  message.bytes_copied = packet.bytes_copied;
  message.text.assign(packet.text, std::min<std::size_t>(packet.text_bytes, kMaxText));
  const cmsghdr* rights = CMSG_FIRSTHDR(&header);
  if (rights != nullptr && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(rights), sizeof fd);
    message.descriptor.reset(fd);
  }
  return Received::kMessage;
}

}  // namespace avec::executor
