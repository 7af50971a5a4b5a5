#include "executor/worker/opening.h"

#include <algorithm>
#include <array>
#include <string>

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
wire::Answer<void> answer_upgrades(std::unique_ptr<Connection>& connection, Deadline deadline) {
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
    const std::string why_not = obstacle(*scheme, transport);
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

wire::Answer<wire::Preamble> check_proof(std::unique_ptr<Connection>& connection, ConstBytes preamble,
                                         const wire::TicketId& ticket, const wire::Digest& key, Deadline deadline) {
  std::array<std::byte, wire::kDataOpeningBytes> opening;
  std::ranges::copy(preamble, opening.begin());
  if (!receive_all(*connection, MutableBytes(opening).subspan(wire::kPreambleBytes), deadline))
    return malformed("a data connection that does not begin");
  const auto checked = wire::check_data_opening(opening, ticket, key);
  if (!checked) {
    const wire::DataAccept refusal(0, static_cast<std::uint32_t>(checked.error().code), 0);
    send_all(*connection, {reinterpret_cast<const std::byte*>(&refusal), sizeof refusal}, deadline);
    return std::unexpected(checked.error());
  }
  if (checked->upgrades() != 0) {
    if (auto upgraded = answer_upgrades(connection, deadline); !upgraded) return std::unexpected(upgraded.error());
  }
  return *checked;
}

wire::Answer<wire::Preamble> check_opening(std::unique_ptr<Connection>& connection, const wire::TicketId& ticket,
                                           const wire::Digest& key, Deadline deadline) {
  std::array<std::byte, wire::kPreambleBytes> preamble;
  if (!receive_all(*connection, preamble, deadline)) return malformed("a data connection that does not begin");
  return check_proof(connection, preamble, ticket, key, deadline);
}

}  // namespace avec::worker
