// The beginning of a data connection, on the executor's side.
#pragma once

#include <cstdint>
#include <memory>

#include "avec/transport.h"
#include "wire/handshake.h"

namespace avec::worker {

/// Receives exactly `bytes` until the deadline; false: the peer left or was too slow.
bool receive_all(Connection& connection, MutableBytes bytes, Deadline deadline);
bool send_all(Connection& connection, ConstBytes bytes, Deadline deadline);

/// Reads preamble and proof, checks them against the session's ticket and key, and upgrades the
/// connection as the client asks. Returns the preamble; `connection` is then the one on which
/// DataAccept and frames travel, or a stripe. A refusal has been sent when this returns one.
wire::Answer<wire::Preamble> check_opening(std::unique_ptr<Connection>& connection, const wire::TicketId& ticket,
                                           const wire::Digest& key, Deadline deadline);
/// The same when the preamble has been read already.
wire::Answer<wire::Preamble> check_proof(std::unique_ptr<Connection>& connection, ConstBytes preamble,
                                         const wire::TicketId& ticket, const wire::Digest& key, Deadline deadline);

}  // namespace avec::worker
