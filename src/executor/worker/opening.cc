#include "executor/worker/opening.h"

#include <algorithm>
#include <array>
#include <string>

#include "transport/tcp/factory.h"

namespace avec::worker {

bool receive_all(Connection& connection, MutableBytes bytes, Deadline deadline) {
  while (!bytes.empty()) {
    const IoResult got = connection.receive({&bytes, 1});
    if (got.error) return false;
    bytes = bytes.subspan(got.bytes);
    if (got.bytes == 0) {
      if (std::chrono::steady_clock::now() >= deadline) return false;
      connection.wait(false, deadline);
    }
  }
  return true;
}

bool send_all(Connection& connection, ConstBytes bytes, Deadline deadline) {
  while (!bytes.empty()) {
    const IoResult sent = connection.send({&bytes, 1});
    if (sent.error) return false;
    bytes = bytes.subspan(sent.bytes);
    if (sent.bytes == 0) {
      if (std::chrono::steady_clock::now() >= deadline) return false;
      connection.wait(true, deadline);
    }
  }
  return true;
}

namespace {

using wire::Refused;
using wire::RefusalCode;

std::unexpected<Refused> malformed(const char* what) {
  return std::unexpected(Refused{RefusalCode::Malformed, what});
}

/// What stands in the way of upgrading to `scheme`; empty: nothing.
std::string obstacle(const std::string& scheme, Transport*& transport) {
  transport = find_transport(scheme + "://");
  if (transport == nullptr) return "the executor does not know " + scheme + "://";
  std::string detail;
  if (transport->viable(detail)) return detail.empty() ? "the executor cannot use " + scheme + "://" : detail;
  return {};
}

/// Does what the client's UpgradeRequests ask for, until one has succeeded or it asks for no more.
wire::Answer<void> answer_upgrades(std::unique_ptr<Connection>& connection, bool encrypted, Deadline deadline) {
  while (true) {
    wire::MessageReceiver message;
    while (!message.complete()) {
      const MutableBytes space = message.space();
      if (!receive_all(*connection, space, deadline) || !message.advance(space.size()))
        return malformed("a data connection whose upgrade does not come");
    }
    const auto scheme = wire::parse_upgrade_request(message.message());
    if (!scheme) return malformed(scheme.error().what);
    if (scheme->empty()) return {};
    Transport* transport = nullptr;
    std::string why_not = obstacle(*scheme, transport);
    // Shared memory does not leave the machine.
    if (encrypted && why_not.empty() && *scheme != "shm")
      why_not = "this session is encrypted, which " + *scheme +
                ":// is not; on a network that you trust, set transport-encryption off at both ends";
    if (!send_all(*connection, wire::upgrade_answer(why_not.empty(), why_not), deadline))
      return malformed("a data connection that broke while it was upgraded");
    if (!why_not.empty()) continue;
    ConnectResult upgraded = transport->upgrade(connection, End::kExecutor, deadline);
    if (upgraded.connection != nullptr) {
      connection = std::move(upgraded.connection);
      return {};
    }
    if (upgraded.error.code != TransportErrc::kNotViable) return malformed("a data connection that broke while it was upgraded");
  }
}

}  // namespace

wire::Answer<> Ticket::use(const wire::Preamble& opening) {
  const auto refuse = [](const char* why) {
    return std::unexpected(Refused{RefusalCode::Authentication, why});
  };
  const std::scoped_lock lock(mutex_);
  if (!opened_ && Clock::now() > first_until_) return refuse("a data connection whose ticket has expired");
  if (opening.serial() <= forgotten_ || !used_.insert(opening.serial()).second)
    return refuse("a data connection that was opened before: somebody plays back what a client has sent");
  if (used_.size() > limits::kRememberedOpenings) {
    forgotten_ = *used_.begin();
    used_.erase(used_.begin());
  }
  opened_ = true;
  return {};
}

namespace {

/// From here on only who knows the session's key can read and write.
wire::Answer<> encrypt(Connection& connection, const Ticket& ticket, Deadline deadline) {
  const auto key = wire::data_key(ticket.key());
  if (!key) return malformed(key.error().what);
  tls::Credentials credentials;
  credentials.secret = tls::PreShared{std::string(tls::kDataName), *key};
  auto context = tls::Context::make(End::kExecutor, credentials);
  if (!context) return std::unexpected(Refused{RefusalCode::Malformed, context.error()});
  if (tcp::secure(connection, std::move(*context), {}, deadline)) {
    const std::string why = connection.reason();
    return std::unexpected(Refused{RefusalCode::Authentication,
                                   "a data connection that does not know the session's key" + (why.empty() ? "" : ": " + why)});
  }
  return {};
}

}  // namespace

wire::Answer<wire::Preamble> check_proof(std::unique_ptr<Connection>& connection, ConstBytes preamble, Ticket& ticket,
                                         Deadline deadline) {
  std::array<std::byte, wire::kDataOpeningBytes> opening;
  std::ranges::copy(preamble, opening.begin());
  if (ticket.encrypted()) {
    if (auto encrypted = encrypt(*connection, ticket, deadline); !encrypted) return std::unexpected(encrypted.error());
  }
  if (!receive_all(*connection, MutableBytes(opening).subspan(wire::kPreambleBytes), deadline))
    return malformed("a data connection that does not begin");
  auto checked = wire::check_data_opening(opening, ticket.id(), ticket.key());
  if (checked) {
    if (auto used = ticket.use(*checked); !used) checked = std::unexpected(used.error());
  }
  if (!checked) {
    const wire::DataAccept refusal(0, static_cast<std::uint32_t>(checked.error().code), 0);
    send_all(*connection, {reinterpret_cast<const std::byte*>(&refusal), sizeof refusal}, deadline);
    return std::unexpected(checked.error());
  }
  if (checked->upgrades() != 0) {
    if (auto upgraded = answer_upgrades(connection, ticket.encrypted(), deadline); !upgraded)
      return std::unexpected(upgraded.error());
  }
  return *checked;
}

wire::Answer<wire::Preamble> check_opening(std::unique_ptr<Connection>& connection, Ticket& ticket, Deadline deadline) {
  std::array<std::byte, wire::kPreambleBytes> preamble;
  if (!receive_all(*connection, preamble, deadline)) return malformed("a data connection that does not begin");
  return check_proof(connection, preamble, ticket, deadline);
}

}  // namespace avec::worker
