#include "executor/worker/opening.h"

#include <algorithm>
#include <array>

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

wire::Answer<std::uint64_t> check_proof(Connection& connection, ConstBytes preamble, const wire::TicketId& ticket,
                                        const wire::Digest& key, Deadline deadline) {
  std::array<std::byte, wire::kDataOpeningBytes> opening;
  std::ranges::copy(preamble, opening.begin());
  if (!receive_all(connection, MutableBytes(opening).subspan(wire::kPreambleBytes), deadline))
    return std::unexpected(wire::Refused{wire::RefusalCode::Malformed, "a data connection that does not begin"});
  auto checked = wire::check_data_opening(opening, ticket, key);
  if (checked) return checked->resume_from();
  const wire::DataAccept refusal(0, static_cast<std::uint32_t>(checked.error().code), 0);
  send_all(connection, {reinterpret_cast<const std::byte*>(&refusal), sizeof refusal}, deadline);
  return std::unexpected(checked.error());
}

wire::Answer<std::uint64_t> check_opening(Connection& connection, const wire::TicketId& ticket,
                                          const wire::Digest& key, Deadline deadline) {
  std::array<std::byte, wire::kPreambleBytes> preamble;
  if (!receive_all(connection, preamble, deadline))
    return std::unexpected(wire::Refused{wire::RefusalCode::Malformed, "a data connection that does not begin"});
  return check_proof(connection, preamble, ticket, key, deadline);
}

}  // namespace avec::worker
