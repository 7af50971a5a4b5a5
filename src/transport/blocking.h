// Whole messages over a connection, for what two ends say to each other while a session is
// opened: they wait, until a deadline.
#pragma once

#include "avec/transport.h"

namespace avec {

/// Sends all of `bytes`.
TransportError send_whole(Connection& connection, ConstBytes bytes, Deadline deadline) noexcept;
/// Receives exactly `bytes`.
TransportError receive_whole(Connection& connection, MutableBytes bytes, Deadline deadline) noexcept;

}  // namespace avec
