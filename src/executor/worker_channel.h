// What broker and worker say to each other: messages of a SOCK_SEQPACKET socket pair.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/handle.h"
#include "wire/handshake.h"

namespace avec::executor {

enum class MessageKind : std::uint8_t {
  kStart = 1,  ///< broker: ticket and key; text is the session's name
  kData = 2,   ///< broker: a data connection, unread, as descriptor
  kStop = 3,   ///< broker: end the session; text is the reason
  kEnded = 4,  ///< worker: how the session went; text is the reason
  kReady = 5   ///< worker started ahead: its devices are open; or text says why not
};

struct ChannelMessage {
  MessageKind kind = MessageKind::kStop;
  wire::TicketId ticket{};
  wire::Digest key{};
  bool encrypted = false;  ///< with kStart: data connections are of TLS
  std::uint64_t bytes_in = 0, bytes_out = 0, calls = 0, bytes_copied = 0;
  std::string text;
  Descriptor descriptor;
};

/// Sends without waiting; false when the other side is gone or does not read.
bool send_message(int channel, const ChannelMessage& message);
enum class Received { kMessage, kNothing, kEnd };
/// Receives one message. `wait`: blocks until one comes.
Received receive_message(int channel, ChannelMessage& message, bool wait);

}  // namespace avec::executor
