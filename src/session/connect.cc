#include "session/connect.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <thread>
#include <utility>

#include "base/limits.h"
#include "session/secure.h"
#include "transport/tcp/factory.h"
#include "transport/tcp/stripes.h"
#include "wire/frame.h"

namespace avec::session {
namespace {

constexpr int kNoDevice = 100;  // CUDA_ERROR_NO_DEVICE

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "unknown";
  return name.data();
}

std::string seconds(std::chrono::milliseconds time) {
  return fmt::format("{:g} s", static_cast<double>(time.count()) / 1000);
}

std::string not_an_executor(const Options& options) {
  return fmt::format(
      "what listens at {} is not an AVEC executor: check the port ('avec serve' says which it uses)",
      options.executor);
}

Failure transport_failure(TransportErrc code, const char* what, std::string message) {
  return {Error{Origin::kTransport, static_cast<int>(code), what}, std::move(message)};
}

Failure connect_failure(const Options& options, const ConnectResult& result) {
  const auto& url = options.executor;
  const auto why = result.detail.empty() ? std::string(to_string(result.error.code)) : result.detail;
  std::string message;
  switch (result.error.code) {
    case TransportErrc::kRefused:
      message = fmt::format(
          "no executor at {}: start one with 'avec serve' there, or check the address (connection refused)",
          url);
      break;
    case TransportErrc::kUnreachable:
      message = fmt::format("cannot reach {}: check the host name and the network ({})", url, why);
      break;
    case TransportErrc::kTimeout:
      message = fmt::format("{} did not answer within {}: check the address, the network and the firewall",
                            url, seconds(options.connect_deadline));
      break;
    case TransportErrc::kBadAddress:
      message = fmt::format("'{}' is not an executor's address: write auto://HOST:PORT or tcp://HOST:PORT ({})", url, why);
      break;
    default:
      message = fmt::format("cannot connect to {}: {}", url, why);
      break;
  }
  return transport_failure(result.error.code, "connecting to the executor", std::move(message));
}

/// auto://HOST:PORT stands for the best that both ends can: these, best first, else TCP. With a
/// path, auto:///PATH, it begins at a socket of the Unix domain.
constexpr std::string_view kAuto = "auto://";
constexpr std::array<std::string_view, 2> kCandidates = {"shm", "rdma"};

bool is_auto(const Options& options) { return options.executor.starts_with(kAuto); }

/// Where the session begins: at the executor's URL, or where the transport that it names begins.
std::string first_url(const Options& options) {
  if (is_auto(options)) {
    const std::string rest = options.executor.substr(kAuto.size());
    return (rest.starts_with('/') ? "unix://" : "tcp://") + rest;
  }
  const Transport* transport = find_transport(options.executor);
  std::string url = transport == nullptr ? std::string() : transport->begins_at(options.executor);
  return url.empty() ? options.executor : url;
}

bool needs_upgrade(const Options& options) { return is_auto(options) || first_url(options) != options.executor; }

std::expected<std::unique_ptr<Connection>, Failure> connect(const Options& options, Deadline deadline) {
  const std::string url = first_url(options);
  Transport* named = is_auto(options) ? nullptr : find_transport(options.executor);
  Transport* transport = find_transport(url);
  if (transport == nullptr) {
    std::string known;
    for (const auto& scheme : transport_schemes()) known += (known.empty() ? "" : ", ") + scheme;
    return std::unexpected(transport_failure(
        TransportErrc::kBadAddress, "choosing the transport",
        fmt::format("'{}' is not an executor's address: write auto://HOST:PORT or tcp://HOST:PORT (known transports: {})",
                    options.executor, known)));
  }
  for (const Transport* one : {named, transport}) {
    std::string detail;
    if (const auto viable = one != nullptr ? one->viable(detail) : TransportError{}) {
      return std::unexpected(transport_failure(
          viable.code, "choosing the transport",
          fmt::format("this machine cannot use {}: {}; choose another transport", options.executor, detail)));
    }
  }
  auto result = transport->connect(url, deadline);
  if (!result.connection) return std::unexpected(connect_failure(options, result));
  return std::move(result.connection);
}

Failure refused_failure(const Options& options, const wire::Refused& refused) {
  return open_failure(wire::cuda_status(refused.code), "opening the session",
                      fmt::format("{}: {}", options.executor, refused.message));
}

struct MessageFailure {
  TransportError link;  ///< none: the message was malformed
};

/// Receives one handshake message.
std::expected<wire::Bytes, MessageFailure> receive_message(Connection& connection, Deadline deadline) {
  wire::MessageReceiver receiver;
  while (!receiver.complete()) {
    const MutableBytes space = receiver.space();
    if (const auto failed = receive_all(connection, space, deadline))
      return std::unexpected(MessageFailure{failed});
    if (!receiver.advance(space.size())) return std::unexpected(MessageFailure{});
  }
  const ConstBytes message = receiver.message();
  return wire::Bytes(message.begin(), message.end());
}

Failure message_failure(const Options& options, const MessageFailure& failure, bool first) {
  if (failure.link.code == TransportErrc::kTimeout) {
    return transport_failure(
        TransportErrc::kTimeout, "waiting for the executor",
        fmt::format(
            "{} accepted the connection but did not answer within {}: it is not an AVEC executor, or it is "
            "overloaded",
            options.executor, seconds(options.connect_deadline)));
  }
  if (first || !failure.link)
    return open_failure(kNoDevice, "reading the executor's answer", not_an_executor(options));
  return link_failure(options, failure.link, "authenticating");
}

/// The same, where TLS may know more: an executor tells by it that it does not take a client's certificate.
Failure unanswered(const Options& options, const Connection& control, const MessageFailure& failure, bool first) {
  const std::string why = control.reason();
  if (why.empty()) return message_failure(options, failure, first);
  return refused_failure(options, {wire::RefusalCode::Authentication, why});
}

}  // namespace

int cuda_code_for(const Error& error) noexcept {
  if (error.origin == Origin::kCuda) return error.code;
  return 46;  // CUDA_ERROR_DEVICE_UNAVAILABLE: the session is over
}

int cuda_code_for(const Session::Failure& failure) noexcept {
  return failure.error.origin == Origin::kCuda ? failure.error.code : kNoDevice;
}

Failure open_failure(int cuda_code, const char* what, std::string message) {
  return {Error{Origin::kCuda, cuda_code, what}, std::move(message)};
}

Failure link_failure(const Options& options, TransportError error, std::string_view during) {
  if (error.code == TransportErrc::kTimeout) {
    return transport_failure(
        error.code, "opening the session",
        fmt::format("{} did not finish {} within {}: look at the executor's log, or allow more "
                    "time with AVEC_CONNECT_DEADLINE",
                    options.executor, during, seconds(options.connect_deadline)));
  }
  return transport_failure(error.code, "opening the session",
                           fmt::format("{} ended the connection while {}: look at the executor's log ({})",
                                       options.executor, during, to_string(error.code)));
}

TransportError send_all(Connection& connection, ConstBytes bytes, Deadline deadline) {
  while (!bytes.empty()) {
    const IoResult sent = connection.send(std::span(&bytes, 1));
    if (sent.error) return sent.error;
    bytes = bytes.subspan(sent.bytes);
    if (sent.bytes != 0 || bytes.empty()) continue;
    if (const auto failed = connection.wait(true, deadline)) return failed;
  }
  return {};
}

TransportError receive_all(Connection& connection, MutableBytes bytes, Deadline deadline) {
  while (!bytes.empty()) {
    const IoResult received = connection.receive(std::span(&bytes, 1));
    bytes = bytes.subspan(received.bytes);
    if (bytes.empty()) break;
    if (received.error) return received.error;
    if (received.bytes != 0) continue;
    if (const auto failed = connection.wait(false, deadline)) return failed;
  }
  return {};
}

namespace {

/// The executor's answer, or what stands in the way. Where it demands TLS and has not been asked with it,
/// `again` says so.
std::expected<Admitted, Failure> ask_for_ticket(std::unique_ptr<Connection> connection, bool secured,
                                                const Options& options, Deadline deadline, bool& again) {
  Admitted admitted;
  admitted.control = std::move(connection);
  Connection& control = *admitted.control;
  wire::ClientHandshake handshake(options.token);
  if (secured) {
    if (auto done = secure_control(control, options, deadline); !done) return std::unexpected(std::move(done.error()));
    handshake.secured_by(exporter_of(control));
  }
  const wire::Preamble preamble = wire::control_preamble();
  // A send that fails here is explained better by what the peer said before it closed.
  send_all(control, std::as_bytes(std::span(&preamble, 1)), deadline);
  const auto challenge = receive_message(control, deadline);
  if (!challenge) return std::unexpected(unanswered(options, control, challenge.error(), true));

  wire::Introduction who;
  who.release = AVEC_RELEASE;
  who.host = host_name();
  who.pid = static_cast<std::uint32_t>(::getpid());
  who.program = options.program;
  who.device = options.device;
  who.environment = options.environment;
  who.encryption = wishes_encryption(options, control);
  const auto answer = handshake.answer(*challenge, who);
  if (!answer) {
    again = answer.error().encryption_required && can_secure(options, control);
    if (answer.error().code == wire::RefusalCode::Malformed && handshake.executor_release().empty()) {
      return std::unexpected(
          open_failure(kNoDevice, "reading the executor's answer", not_an_executor(options)));
    }
    return std::unexpected(refused_failure(options, answer.error()));
  }
  send_all(control, *answer, deadline);
  const auto reply = receive_message(control, deadline);
  if (!reply) return std::unexpected(unanswered(options, control, reply.error(), false));
  auto admission = handshake.finish(*reply);
  if (!admission) return std::unexpected(refused_failure(options, admission.error()));
  admitted.admission = std::move(*admission);
  admitted.executor_release = handshake.executor_release();
  if (options.encryption == Encryption::kOn && !admitted.admission.encrypted && control.peer().starts_with("tcp://")) {
    return std::unexpected(refused_failure(
        options, {wire::RefusalCode::Authentication, "transport-encryption is on here, but there is nothing to "
                                                     "authenticate with: set token-file, or tls-certificate, tls-key and tls-ca"}));
  }
  return admitted;
}

}  // namespace

std::expected<Admitted, Failure> open_control(const Options& options, Deadline deadline) {
  bool secured = false;
  while (true) {
    auto connection = connect(options, deadline);
    if (!connection) return std::unexpected(connection.error());
    secured = secured || begins_secured(options, **connection);
    bool again = false;
    auto admitted = ask_for_ticket(std::move(*connection), secured, options, deadline, again);
    if (admitted || !again || secured) return admitted;
    secured = true;
  }
}

namespace {

enum class Outcome { kDone, kNotViable };

/// Asks the executor to go on with `scheme`, and does. kNotViable: the connection is as before,
/// `why` says why.
std::expected<Outcome, Failure> upgrade(std::unique_ptr<Connection>& connection, std::string_view scheme,
                                        const Options& options, Deadline deadline, std::string& why) {
  Transport* transport = find_transport(fmt::format("{}://", scheme));
  if (transport == nullptr || transport->viable(why)) return Outcome::kNotViable;
  if (const auto failed = send_all(*connection, wire::upgrade_request(scheme), deadline))
    return std::unexpected(link_failure(options, failed, "changing the transport"));
  const auto message = receive_message(*connection, deadline);
  if (!message) return std::unexpected(message_failure(options, message.error(), false));
  const auto verdict = wire::parse_upgrade_answer(*message);
  if (!verdict) return std::unexpected(message_failure(options, {}, false));
  if (!verdict->accepted) {
    why = verdict->reason;
    return Outcome::kNotViable;
  }
  ConnectResult upgraded = transport->upgrade(connection, End::kClient, deadline);
  if (upgraded.connection) {
    connection = std::move(upgraded.connection);
    return Outcome::kDone;
  }
  why = upgraded.detail.empty() ? std::string(to_string(upgraded.error.code)) : upgraded.detail;
  if (upgraded.error.code == TransportErrc::kNotViable) return Outcome::kNotViable;
  return std::unexpected(transport_failure(upgraded.error.code, "changing the transport",
                                           fmt::format("cannot use {}: {}", options.executor, why)));
}

/// Goes on with the transport of the URL, or with the best that both ends can.
std::expected<void, Failure> upgrade_as_wished(std::unique_ptr<Connection>& connection, const Options& options,
                                               bool encrypted, Deadline deadline) {
  std::string why;
  if (!is_auto(options)) {
    const std::string_view scheme = std::string_view(options.executor).substr(0, options.executor.find("://"));
    const auto outcome = upgrade(connection, scheme, options, deadline, why);
    if (!outcome) return std::unexpected(outcome.error());
    if (*outcome == Outcome::kDone) return {};
    return std::unexpected(transport_failure(
        TransportErrc::kNotViable, "changing the transport",
        fmt::format("cannot use {}: {}; auto:// would choose another transport", options.executor, why)));
  }
  for (const std::string_view scheme : kCandidates) {
    if (scheme == "shm" && !connection->same_host()) continue;
    if (scheme == "rdma" && encrypted) continue;  // it is not
    const auto outcome = upgrade(connection, scheme, options, deadline, why);
    if (!outcome) return std::unexpected(outcome.error());
    if (*outcome == Outcome::kDone) return {};
  }
  if (const auto failed = send_all(*connection, wire::upgrade_request({}), deadline))
    return std::unexpected(link_failure(options, failed, "changing the transport"));
  return {};
}

}  // namespace

namespace {

bool may_have_stripes(const Options& options, const wire::Admission& admission) {
  return options.tcp_streams != 1 && options.resume_window.count() == 0 && !admission.encrypted;
}

/// Each takes a core at either end while it is used, so that few cores are better off with one.
/// And payload on stripes costs a round trip more: where that is long the link is the limit, not
/// the core.
unsigned streams_for(const Options& options, const Connection& data) {
  if (options.tcp_streams != 0) return options.tcp_streams;
  const unsigned cores = std::thread::hardware_concurrency();
  if (cores < 4 || tcp::round_trip(data) > limits::kStripedRoundTrip) return 1;
  return std::min(4u, cores / 2);
}

/// One more connection to the session; null: it could not be opened.
std::unique_ptr<Connection> open_stripe(const Options& options, const wire::Opening& opening) {
  const Deadline deadline = std::chrono::steady_clock::now() + options.connect_deadline;
  auto connection = connect(options, deadline);
  if (!connection || send_all(**connection, opening, deadline)) return nullptr;
  return std::move(*connection);
}

void offer_stripes(Connection& data, const Options& options, const wire::Admission& admission,
                   std::function<void(const std::string&)> notice) {
  const unsigned streams = streams_for(options, data);
  if (streams < 2) return;
  // Each opening is good once.
  struct Openings {
    std::vector<wire::Opening> all;
    std::atomic<std::size_t> used{0};
  };
  auto openings = std::make_shared<Openings>();
  while (openings->all.size() < streams) {
    const auto opening = wire::stripe_opening(admission.ticket, admission.key);
    if (!opening) return;
    openings->all.push_back(*opening);
  }
  Options target;  // what connecting needs, without the session's secrets
  target.executor = options.executor;
  target.connect_deadline = options.connect_deadline;
  tcp::StripeOptions stripes;
  stripes.count = streams;
  stripes.least_bytes = stripes.add_from = limits::kStripedBytes;
  stripes.open = [target, openings]() -> std::unique_ptr<Connection> {
    const std::size_t next = openings->used.fetch_add(1);
    return next < openings->all.size() ? open_stripe(target, openings->all[next]) : nullptr;
  };
  if (notice) {
    stripes.none_opened = [notice = std::move(notice), executor = options.executor] {
      notice(fmt::format("no further connection to {} could be opened: large copies go through one stream "
                         "(AVEC_TCP_STREAMS=1 asks for no more)", executor));
    };
  }
  tcp::offer_stripes(data, std::move(stripes));
}

}  // namespace

std::expected<std::unique_ptr<Connection>, Failure> open_data(const Options& options,
                                                              const wire::Admission& admission,
                                                              std::uint64_t resume_from, Deadline deadline,
                                                              std::function<void(const std::string&)> notice) {
  const bool upgrades = needs_upgrade(options);
  const auto opening = wire::data_opening(admission.ticket, admission.key, resume_from,
                                          upgrades ? wire::Upgrades::kFollow : wire::Upgrades::kNone,
                                          may_have_stripes(options, admission) ? wire::Stripes::kMayFollow : wire::Stripes::kNone);
  if (!opening) {
    return std::unexpected(
        Failure{opening.error(), fmt::format("cannot open a session: {} failed", opening.error().what)});
  }
  auto connection = connect(options, deadline);
  if (!connection) return connection;
  // In clear is what the broker chooses the worker by; TLS begins behind it.
  ConstBytes rest(*opening);
  if (admission.encrypted) {
    auto failed = send_all(**connection, rest.first(wire::kPreambleBytes), deadline);
    rest = rest.subspan(wire::kPreambleBytes);
    if (failed) return std::unexpected(link_failure(options, failed, "opening the data connection"));
    if (auto secured = secure_data(**connection, admission.key, options, deadline); !secured)
      return std::unexpected(std::move(secured.error()));
  }
  if (const auto failed = send_all(**connection, rest, deadline)) {
    return std::unexpected(link_failure(options, failed, "opening the data connection"));
  }
  if (upgrades) {
    if (auto upgraded = upgrade_as_wished(*connection, options, admission.encrypted, deadline); !upgraded)
      return std::unexpected(std::move(upgraded.error()));
  }
  if (may_have_stripes(options, admission)) offer_stripes(**connection, options, admission, std::move(notice));
  return connection;
}

std::expected<std::uint64_t, Failure> receive_accept(Connection& data, const Options& options,
                                                     Deadline deadline) {
  std::array<std::byte, sizeof(wire::DataAccept)> bytes;
  if (const auto failed = receive_all(data, bytes, deadline)) {
    return std::unexpected(link_failure(options, failed, "opening the data connection"));
  }
  wire::DataAccept accept;
  std::memcpy(&accept, bytes.data(), sizeof accept);
  if (accept.status() != 0) {
    const auto code = static_cast<wire::RefusalCode>(accept.status());
    return std::unexpected(open_failure(
        wire::cuda_status(code), "opening the data connection",
        fmt::format("{} refused the data connection ({}): look at the executor's log", options.executor,
                    accept.status() <= static_cast<std::uint32_t>(wire::RefusalCode::MAX)
                        ? wire::EnumNameRefusalCode(code)
                        : "unknown reason")));
  }
  return accept.resume_from();
}

std::optional<std::string> receive_farewell(Connection& control, Deadline deadline) {
  const auto message = receive_message(control, deadline);
  if (!message) return std::nullopt;
  auto reason = wire::parse_farewell(*message);
  if (!reason) return std::nullopt;
  return std::move(*reason);
}

}  // namespace avec::session
