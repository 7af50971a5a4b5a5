#include "wire/handshake.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/handle.h"
#include "wire/frame.h"

namespace avec::wire {
namespace {

constexpr std::size_t kMinTokenBytes = 16;
constexpr std::size_t kMaxTokenBytes = 4096;

ConstBytes bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

auto octets(flatbuffers::FlatBufferBuilder& builder, ConstBytes bytes) {
  return builder.CreateVector(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

ConstBytes view(const flatbuffers::Vector<std::uint8_t>* vector) {
  if (vector == nullptr) return {};
  return {reinterpret_cast<const std::byte*>(vector->data()), vector->size()};
}

std::string text(const flatbuffers::String* string) { return string == nullptr ? std::string() : string->str(); }

template <class T>
const T* verified(ConstBytes bytes) {
  flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size(),
                                 limits::kMaxTableDepth, limits::kMaxTables);
  return verifier.VerifyBuffer<T>(nullptr) ? flatbuffers::GetRoot<T>(bytes.data()) : nullptr;
}

/// The finished table behind its length.
Bytes message_of(const flatbuffers::FlatBufferBuilder& builder) {
  const std::uint32_t size = builder.GetSize();
  Bytes message(sizeof size + size);
  flatbuffers::WriteScalar(message.data(), size);
  std::memcpy(message.data() + sizeof size, builder.GetBufferPointer(), size);
  return message;
}

template <std::size_t N>
bool copy_exact(ConstBytes from, std::array<std::byte, N>& to) {
  if (from.size() != N) return false;
  std::memcpy(to.data(), from.data(), N);
  return true;
}

Result<Digest> client_proof(std::string_view token, const Digest& nonce, const Digest& client_nonce) {
  return hmac(bytes_of(token), {bytes_of("avec-client"), nonce, client_nonce});
}
Result<Digest> executor_proof(std::string_view token, const Digest& nonce, const Digest& client_nonce) {
  return hmac(bytes_of(token), {bytes_of("avec-executor"), client_nonce, nonce});
}
Result<Digest> derived_key(std::string_view token, const Digest& nonce, const Digest& client_nonce) {
  return hmac(bytes_of(token), {bytes_of("avec-session"), nonce, client_nonce});
}

std::unexpected<Refused> refuse(RefusalCode code, std::string message) {
  return std::unexpected(Refused{code, std::move(message)});
}
std::unexpected<Refused> internal(const Error& error) {
  return refuse(RefusalCode::Malformed, fmt::format("{} failed", error.what));
}
std::unexpected<Refused> wrong_version(std::string_view other, std::uint16_t major, std::string_view release) {
  return refuse(RefusalCode::Version,
                fmt::format("the {} speaks protocol {} (avec {}), this side {}: install the same release on both",
                            other, major, release.empty() ? "of an unknown release" : release, kMajor));
}

Preamble make_preamble(ConnectionKind kind, const TicketId& ticket, std::uint64_t resume_from, Upgrades upgrades,
                       Stripes stripes, std::uint32_t serial) {
  const flatbuffers::span<const std::uint8_t, 16> id(reinterpret_cast<const std::uint8_t*>(ticket.data()), 16);
  return {kMagic, kMajor, kMinor, kind, static_cast<std::uint8_t>(upgrades), static_cast<std::uint8_t>(stripes),
          0, serial, id, resume_from};
}

Result<Opening> opening_of(const Preamble& preamble, const Digest& key) {
  const auto preamble_bytes = std::as_bytes(std::span(&preamble, 1));
  const auto proof = hmac(key, {preamble_bytes});
  if (!proof) return std::unexpected(proof.error());
  Opening opening;
  std::memcpy(opening.data(), &preamble, kPreambleBytes);
  std::memcpy(opening.data() + kPreambleBytes, proof->data(), kProofBytes);
  return opening;
}

std::uint32_t next_serial() {
  static std::atomic<std::uint32_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

bool all_zero(ConstBytes bytes) {
  std::byte sum{};
  for (const std::byte b : bytes) sum |= b;
  return sum == std::byte{};
}

ConstBytes ticket_of(const Preamble& preamble) {
  return {reinterpret_cast<const std::byte*>(preamble.ticket()->Data()), sizeof(TicketId)};
}

}  // namespace

int cuda_status(RefusalCode code) noexcept {
  switch (code) {
    case RefusalCode::None: return 0;
    case RefusalCode::Version: return 803;         // CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
    case RefusalCode::Authentication: return 800;  // CUDA_ERROR_NOT_PERMITTED
    case RefusalCode::Busy:
    case RefusalCode::Draining: return 802;  // CUDA_ERROR_SYSTEM_NOT_READY
    case RefusalCode::NoDevice:
    case RefusalCode::Malformed: break;
  }
  return 100;  // CUDA_ERROR_NO_DEVICE
}

Preamble control_preamble() {
  return make_preamble(ConnectionKind::Control, {}, 0, Upgrades::kNone, Stripes::kNone, 0);
}

Result<Preamble> parse_preamble(ConstBytes bytes) {
  if (bytes.size() != kPreambleBytes) return protocol_error("a preamble of the wrong size");
  Preamble preamble;
  std::memcpy(&preamble, bytes.data(), sizeof preamble);
  if (preamble.magic() != kMagic) return protocol_error("the peer does not speak avec's protocol");
  // Only magic, version and kind keep their places in other major versions.
  if (preamble.kind() < ConnectionKind::Control || preamble.kind() > ConnectionKind::Stripe) {
    return protocol_error("an unknown kind of connection");
  }
  if (preamble.major() != kMajor) {
    if (preamble.kind() == ConnectionKind::Control) return preamble;
    return protocol_error("a data connection of another protocol version");
  }
  if (preamble.reserved() != 0) return protocol_error("a preamble with reserved bytes");
  if (preamble.upgrades() > 1 || preamble.stripes() > 1) return protocol_error("a preamble with an unknown wish");
  if (preamble.kind() == ConnectionKind::Control && (preamble.serial() != 0 || !all_zero(ticket_of(preamble))))
    return protocol_error("a control connection with a ticket");
  if (preamble.kind() != ConnectionKind::Data &&
      (preamble.resume_from() != 0 || preamble.upgrades() != 0 || preamble.stripes() != 0)) {
    return protocol_error("a connection with the wishes of another kind");
  }
  return preamble;
}

MutableBytes MessageReceiver::space() {
  if (!length_known_) return MutableBytes(length_).subspan(filled_);
  return MutableBytes(buffer_).subspan(filled_);
}

Result<> MessageReceiver::advance(std::size_t bytes) {
  filled_ += bytes;
  if (length_known_ || filled_ < length_.size()) return {};
  const auto size = flatbuffers::ReadScalar<std::uint32_t>(length_.data());
  if (size == 0 || size > limits::kMaxHandshakeBytes) return protocol_error("a handshake message over the limit");
  buffer_.resize(size);
  filled_ = 0;
  length_known_ = true;
  return {};
}

Answer<Bytes> ClientHandshake::answer(ConstBytes challenge, const Introduction& introduction) {
  const auto* message = verified<Challenge>(challenge);
  if (message == nullptr) return refuse(RefusalCode::Malformed, "the peer does not answer like an avec executor");
  release_ = text(message->release());
  if (message->major() != kMajor) return wrong_version("executor", message->major(), release_);
  if (!copy_exact(view(message->nonce()), nonce_)) {
    return refuse(RefusalCode::Malformed, "the executor's challenge has no nonce");
  }
  if (message->encryption_required() && !exporter_) {
    return std::unexpected(Refused{RefusalCode::Authentication,
                                   "the executor wants TLS: set token-file, or tls-certificate, tls-key and tls-ca, and "
                                   "do not set transport-encryption off",
                                   true});
  }
  authenticated_ = message->authentication_required() && !exporter_;
  if (authenticated_ && token_.empty()) {
    return refuse(RefusalCode::Authentication,
                  "the executor asks for a token: set AVEC_TOKEN_FILE to a file with the executor's token");
  }
  if (!authenticated_ && !exporter_ && !token_.empty()) {
    // Going on would let anybody who answers at that address take the executor's place.
    return refuse(RefusalCode::Authentication,
                  "a token is set here, but the executor runs with --insecure and cannot prove that it is the "
                  "right one: start it with the token, or unset AVEC_TOKEN_FILE");
  }
  if (auto filled = random_bytes(client_nonce_); !filled) return internal(filled.error());

  flatbuffers::FlatBufferBuilder builder;
  flatbuffers::Offset<flatbuffers::Vector<std::uint8_t>> proof;
  if (authenticated_) {
    const auto made = client_proof(token_, nonce_, client_nonce_);
    if (!made) return internal(made.error());
    proof = octets(builder, *made);
  }
  std::vector<flatbuffers::Offset<Variable>> variables;
  for (const auto& [name, value] : introduction.environment) {
    variables.push_back(CreateVariable(builder, builder.CreateString(name), builder.CreateString(value)));
  }
  const auto& i = introduction;
  builder.Finish(CreateControlHello(builder, kMajor, kMinor, builder.CreateString(i.release),
                                    octets(builder, client_nonce_), proof, builder.CreateString(i.host), i.pid,
                                    builder.CreateString(i.program), builder.CreateString(i.device),
                                    builder.CreateVector(variables), i.encryption));
  if (builder.GetSize() > limits::kMaxHandshakeBytes) {
    return refuse(RefusalCode::Malformed, "the variables that the executor is told do not fit one message");
  }
  return message_of(builder);
}

Answer<Admission> ClientHandshake::finish(ConstBytes reply) {
  const auto* message = verified<ControlReply>(reply);
  if (message == nullptr) return refuse(RefusalCode::Malformed, "the executor's answer is malformed");
  if (const auto* refused = message->answer_as_Refusal()) {
    const auto code = refused->code() == RefusalCode::None ? RefusalCode::Malformed : refused->code();
    return refuse(code, text(refused->message()));
  }
  const auto* ticket = message->answer_as_Ticket();
  Admission admission;
  if (ticket == nullptr || !copy_exact(view(ticket->id()), admission.ticket)) {
    return refuse(RefusalCode::Malformed, "the executor's answer holds no ticket");
  }
  admission.device = text(ticket->device());
  admission.reason = text(ticket->reason());
  if (exporter_) {
    const auto exported = exporter_(admission.ticket);
    if (!exported) return internal(exported.error());
    admission.key = *exported;
    admission.encrypted = ticket->encrypted();
    return admission;
  }
  if (!authenticated_) {
    if (!copy_exact(view(ticket->key()), admission.key)) {
      return refuse(RefusalCode::Malformed, "the executor's ticket has no key");
    }
    return admission;
  }
  const auto proof = executor_proof(token_, nonce_, client_nonce_);
  const auto key = derived_key(token_, nonce_, client_nonce_);
  if (!proof || !key) return internal(proof ? key.error() : proof.error());
  if (!same_secret(*proof, view(ticket->proof()))) {
    return refuse(RefusalCode::Authentication, "the executor does not know the token: it is not the right executor");
  }
  admission.key = *key;
  return admission;
}

Result<Opening> data_opening(const TicketId& ticket, const Digest& key, std::uint64_t resume_from,
                             Upgrades upgrades, Stripes stripes) {
  return opening_of(make_preamble(ConnectionKind::Data, ticket, resume_from, upgrades, stripes, next_serial()), key);
}

Result<Opening> stripe_opening(const TicketId& ticket, const Digest& key) {
  return opening_of(make_preamble(ConnectionKind::Stripe, ticket, 0, Upgrades::kNone, Stripes::kNone, next_serial()), key);
}

Result<Bytes> BrokerHandshake::challenge(std::string_view release, bool encryption_required) {
  if (auto filled = random_bytes(nonce_); !filled) return std::unexpected(filled.error());
  flatbuffers::FlatBufferBuilder builder;
  const auto release_text = builder.CreateString(release.data(), release.size());
  builder.Finish(CreateChallenge(builder, kMajor, kMinor, release_text, octets(builder, nonce_),
                                 !token_.empty() && !exporter_, encryption_required));
  return message_of(builder);
}

Answer<Introduction> BrokerHandshake::check(ConstBytes hello) {
  const auto* message = verified<ControlHello>(hello);
  if (message == nullptr) return refuse(RefusalCode::Malformed, "a malformed ControlHello");
  Introduction introduction;
  introduction.major = message->major();
  introduction.minor = message->minor();
  introduction.release = text(message->release());
  if (message->major() != kMajor) return wrong_version("client", message->major(), introduction.release);
  if (!copy_exact(view(message->client_nonce()), client_nonce_)) {
    return refuse(RefusalCode::Malformed, "a ControlHello without a nonce");
  }
  if (!token_.empty() && !exporter_) {
    const auto expected = client_proof(token_, nonce_, client_nonce_);
    if (!expected) return internal(expected.error());
    if (!same_secret(*expected, view(message->proof()))) {
      return refuse(RefusalCode::Authentication,
                    "the client's token is not this executor's: compare the token files of both machines");
    }
  }
  introduction.host = text(message->host());
  introduction.pid = message->pid();
  introduction.program = text(message->program());
  introduction.device = text(message->device());
  introduction.encryption = message->encryption();
  if (const auto* variables = message->environment()) {
    for (const auto* variable : *variables) {
      introduction.environment.emplace_back(text(variable->name()), text(variable->value()));
    }
  }
  return introduction;
}

Result<Bytes> BrokerHandshake::ticket(std::string_view device, std::string_view reason, bool encrypted) {
  if (auto filled = random_bytes(id_); !filled) return std::unexpected(filled.error());
  flatbuffers::FlatBufferBuilder builder;
  flatbuffers::Offset<flatbuffers::Vector<std::uint8_t>> key, proof;
  if (exporter_) {
    const auto exported = exporter_(id_);
    if (!exported) return std::unexpected(exported.error());
    key_ = *exported;
  } else if (token_.empty()) {
    if (auto filled = random_bytes(key_); !filled) return std::unexpected(filled.error());
    key = octets(builder, key_);
  } else {
    const auto derived = derived_key(token_, nonce_, client_nonce_);
    const auto proven = executor_proof(token_, nonce_, client_nonce_);
    if (!derived || !proven) return std::unexpected(derived ? proven.error() : derived.error());
    key_ = *derived;
    proof = octets(builder, *proven);
  }
  const auto id = octets(builder, id_);
  const auto device_text = builder.CreateString(device.data(), device.size());
  const auto reason_text = builder.CreateString(reason.data(), reason.size());
  const auto answer = CreateTicket(builder, id, key, proof, device_text, reason_text, encrypted);
  builder.Finish(CreateControlReply(builder, ControlAnswer::Ticket, answer.Union()));
  return message_of(builder);
}

Bytes refusal(RefusalCode code, std::string_view message) {
  flatbuffers::FlatBufferBuilder builder;
  const auto words = builder.CreateString(message.data(), message.size());
  const auto answer = CreateRefusal(builder, code, words);
  builder.Finish(CreateControlReply(builder, ControlAnswer::Refusal, answer.Union()));
  return message_of(builder);
}

Bytes farewell(std::string_view reason) {
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(CreateFarewell(builder, builder.CreateString(reason.data(), reason.size())));
  return message_of(builder);
}

Result<std::string> parse_farewell(ConstBytes message) {
  const auto* parsed = verified<Farewell>(message);
  if (parsed == nullptr) return protocol_error("a malformed Farewell");
  return text(parsed->reason());
}

Bytes upgrade_request(std::string_view scheme) {
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(CreateUpgradeRequest(builder, builder.CreateString(scheme.data(), scheme.size())));
  return message_of(builder);
}

Result<std::string> parse_upgrade_request(ConstBytes message) {
  const auto* parsed = verified<UpgradeRequest>(message);
  if (parsed == nullptr) return protocol_error("a malformed UpgradeRequest");
  return text(parsed->scheme());
}

Bytes upgrade_answer(bool accepted, std::string_view reason) {
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(CreateUpgradeAnswer(builder, accepted, builder.CreateString(reason.data(), reason.size())));
  return message_of(builder);
}

Result<UpgradeVerdict> parse_upgrade_answer(ConstBytes message) {
  const auto* parsed = verified<UpgradeAnswer>(message);
  if (parsed == nullptr) return protocol_error("a malformed UpgradeAnswer");
  return UpgradeVerdict{parsed->accepted(), text(parsed->reason())};
}

Answer<Preamble> check_data_opening(ConstBytes bytes, const TicketId& ticket, const Digest& key) {
  if (bytes.size() != kDataOpeningBytes) return refuse(RefusalCode::Malformed, "a data opening of the wrong size");
  const auto preamble = parse_preamble(bytes.first(kPreambleBytes));
  if (!preamble) return refuse(RefusalCode::Malformed, preamble.error().what);
  if (preamble->kind() == ConnectionKind::Control) {
    return refuse(RefusalCode::Malformed, "a control connection where data was expected");
  }
  const auto proof = hmac(key, {bytes.first(kPreambleBytes)});
  if (!proof) return internal(proof.error());
  if (!same_secret(ticket, ticket_of(*preamble)) || !same_secret(*proof, bytes.subspan(kPreambleBytes))) {
    return refuse(RefusalCode::Authentication, "a data connection that does not know the session's key");
  }
  return *preamble;
}

Result<Digest> token_key(std::string_view token) { return hmac(bytes_of(token), {bytes_of("avec-tls-token")}); }
Result<Digest> data_key(const Digest& session_key) { return hmac(session_key, {bytes_of("avec-tls-data")}); }

std::expected<std::string, std::string> read_token_file(const std::string& path) {
  const auto fail = [&path](std::string_view why) {
    return std::unexpected(fmt::format("token file {}: {}", path, why));
  };
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file) return fail(std::strerror(errno));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return fail(std::strerror(errno));
  if (!S_ISREG(status.st_mode)) return fail("not a file");
  if ((status.st_mode & (S_IROTH | S_IWOTH)) != 0) {
    return fail(fmt::format("open to every user of this machine; run: chmod 600 {}", path));
  }
  std::string token(kMaxTokenBytes + 1, '\0');
  std::size_t filled = 0;
  while (filled < token.size()) {
    const auto got = ::read(file.get(), token.data() + filled, token.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(std::strerror(errno));
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  if (filled > kMaxTokenBytes) return fail(fmt::format("more than {} bytes", kMaxTokenBytes));
  token.resize(filled);
  token.resize(token.find_last_not_of(" \t\r\n") + 1);
  if (token.size() < kMinTokenBytes) {
    return fail(fmt::format("shorter than {} bytes; make one with: openssl rand -hex 32", kMinTokenBytes));
  }
  return token;
}

}  // namespace avec::wire
