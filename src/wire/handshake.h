// How a session begins (schemas/handshake.fbs says what and why): the messages over bytes, for
// the client's session and the broker alike. Nothing here touches a socket.
//
// Client                                   Broker
//   control_preamble()              --->     parse_preamble()
//   ClientHandshake::answer()       <---     BrokerHandshake::challenge()
//                                   --->     BrokerHandshake::check()
//   ClientHandshake::finish()       <---     BrokerHandshake::ticket(), or refusal()
//                                          Worker
//   data_opening()                  --->     check_data_opening()
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "avec/transport.h"
#include "base/limits.h"
#include "base/result.h"
#include "handshake_generated.h"
#include "wire/crypto.h"

namespace avec::wire {

using Bytes = std::vector<std::byte>;
using TicketId = std::array<std::byte, 16>;

inline constexpr std::size_t kPreambleBytes = sizeof(Preamble);
inline constexpr std::size_t kProofBytes = sizeof(Digest);
/// A data connection starts with its preamble and the proof of it.
inline constexpr std::size_t kDataOpeningBytes = kPreambleBytes + kProofBytes;
static_assert(kPreambleBytes == 40 && sizeof(DataAccept) == 16);

/// Why a session does not begin, on either side: the code goes over the wire, the message to
/// people. Version, Authentication ... are told apart because CUDA's errors differ.
struct Refused {
  RefusalCode code = RefusalCode::Malformed;
  std::string message;
  /// The same over a connection of TLS may be answered otherwise.
  bool encryption_required = false;
};
template <class T = void>
using Answer = std::expected<T, Refused>;

/// The CUresult that a program sees when its session was refused (docs/architecture.md).
int cuda_status(RefusalCode code) noexcept;

// ---- preamble --------------------------------------------------------------------------

Preamble control_preamble();
/// Checks kPreambleBytes bytes: "AVEC", a known kind, zeros where they belong. The version is not
/// checked on control connections, so that the broker can answer with its own.
Result<Preamble> parse_preamble(ConstBytes bytes);

// ---- messages --------------------------------------------------------------------------

/// Receives one message, length and table, and never a byte behind it.
class MessageReceiver {
 public:
  /// Where the next bytes go; empty: the message is complete. Never more than it lacks.
  MutableBytes space();
  /// `bytes` of them have been written. Fails when the length is 0 or over kMaxHandshakeBytes.
  Result<> advance(std::size_t bytes);
  bool complete() const { return length_known_ && filled_ == buffer_.size(); }
  /// The table of a complete message.
  ConstBytes message() const { return buffer_; }
  /// Makes ready for the next message.
  void reset() { *this = MessageReceiver(); }

 private:
  std::array<std::byte, 4> length_{};
  Bytes buffer_;  // from operator new: aligned for FlatBuffers
  std::size_t filled_ = 0;
  bool length_known_ = false;
};

/// Who asks for a session, for the operator's log and the choice of a device.
struct Introduction {
  std::uint16_t major = 0, minor = 0;  ///< filled when received
  std::string release;
  std::string host;
  std::uint32_t pid = 0;
  std::string program;
  std::string device = "auto";
  std::vector<std::pair<std::string, std::string>> environment;
  bool encryption = false;  ///< of data connections, wished
};

/// The session's key, from the secrets of the TLS connection that carries the handshake.
using KeyExporter = std::function<Result<Digest>(const TicketId& ticket)>;
/// What a KeyExporter asks TLS for.
inline constexpr std::string_view kExporterLabel = "EXPORTER-avec-session";

/// What a client needs for its data connections, and what the executor chose.
struct Admission {
  TicketId ticket{};
  Digest key{};
  std::string device, reason;
  bool encrypted = false;  ///< data connections go on with TLS behind their preamble
};

// ---- client ----------------------------------------------------------------------------

class ClientHandshake {
 public:
  /// An empty token: the executor must run with --insecure.
  explicit ClientHandshake(std::string token) : token_(std::move(token)) {}
  /// The connection is one of TLS, which has authenticated both ends: the token proves nothing more.
  void secured_by(KeyExporter exporter) { exporter_ = std::move(exporter); }

  /// Reads the Challenge; returns the ControlHello to send, length included.
  Answer<Bytes> answer(ConstBytes challenge, const Introduction& introduction);
  /// Reads the ControlReply; checks the executor's proof.
  Answer<Admission> finish(ConstBytes reply);
  /// The executor's release, once answer() has read it.
  const std::string& executor_release() const { return release_; }

 private:
  std::string token_;
  std::string release_;
  Digest nonce_{}, client_nonce_{};
  KeyExporter exporter_;
  bool authenticated_ = false;
};

/// Whether UpgradeRequests follow the opening of a data connection.
enum class Upgrades : std::uint8_t { kNone = 0, kFollow = 1 };
/// Whether the client may open stripes beside it.
enum class Stripes : std::uint8_t { kNone = 0, kMayFollow = 1 };

using Opening = std::array<std::byte, kDataOpeningBytes>;
/// The first kDataOpeningBytes of a data connection, with a serial that no other opening of this process has.
Result<Opening> data_opening(const TicketId& ticket, const Digest& key, std::uint64_t resume_from,
                             Upgrades upgrades = Upgrades::kNone, Stripes stripes = Stripes::kNone);
/// The same of a stripe.
Result<Opening> stripe_opening(const TicketId& ticket, const Digest& key);

// ---- executor --------------------------------------------------------------------------

class BrokerHandshake {
 public:
  /// An empty token means --insecure: whoever comes is admitted.
  explicit BrokerHandshake(std::string token) : token_(std::move(token)) {}
  /// As of ClientHandshake.
  void secured_by(KeyExporter exporter) { exporter_ = std::move(exporter); }

  /// The Challenge to send, length included. Once per connection.
  Result<Bytes> challenge(std::string_view release, bool encryption_required = false);
  /// Reads the ControlHello and checks version and proof.
  Answer<Introduction> check(ConstBytes hello);
  /// Mints ticket and key of an admitted client; returns the ControlReply, length included.
  Result<Bytes> ticket(std::string_view device, std::string_view reason, bool encrypted = false);
  const TicketId& ticket_id() const { return id_; }
  const Digest& session_key() const { return key_; }

 private:
  std::string token_;
  Digest nonce_{}, client_nonce_{}, key_{};
  TicketId id_{};
  KeyExporter exporter_;
};

/// A ControlReply that refuses, length included.
Bytes refusal(RefusalCode code, std::string_view message);
/// A Farewell, length included, and its reading.
Bytes farewell(std::string_view reason);
Result<std::string> parse_farewell(ConstBytes message);

// ---- upgrades: a data connection becomes one of another transport ---------------------------

/// Messages, length included, and their reading. An empty scheme: no further upgrade.
Bytes upgrade_request(std::string_view scheme);
Result<std::string> parse_upgrade_request(ConstBytes message);
struct UpgradeVerdict {
  bool accepted = false;
  std::string reason;  ///< why not
};
Bytes upgrade_answer(bool accepted, std::string_view reason);
Result<UpgradeVerdict> parse_upgrade_answer(ConstBytes message);

/// Checks the first kDataOpeningBytes of a data connection or stripe against the session's ticket
/// and key; returns its preamble. A refusal's code belongs in DataAccept.status.
Answer<Preamble> check_data_opening(ConstBytes bytes, const TicketId& ticket, const Digest& key);

// ---- keys of TLS ------------------------------------------------------------------------

/// The pre-shared key of control connections, from the token; and of data connections, from the session's key.
Result<Digest> token_key(std::string_view token);
Result<Digest> data_key(const Digest& session_key);

// ---- token -----------------------------------------------------------------------------

/// The secret in a token file, white space at its end removed: at least 16 bytes, at most 4096, in
/// a file that others cannot read. The error is a sentence for the user.
std::expected<std::string, std::string> read_token_file(const std::string& path);

}  // namespace avec::wire
