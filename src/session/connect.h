// How a session begins: the control connection (who are you, here is a ticket) and the data
// connection that is opened with the ticket. Every failure becomes a sentence that says what
// to do.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "avec/transport.h"
#include "session/session.h"
#include "wire/handshake.h"

namespace avec::session {

using Failure = Session::Failure;

/// The control connection, which stays open for the executor's Farewell, and its ticket.
struct Admitted {
  std::unique_ptr<Connection> control;
  wire::Admission admission;
  std::string executor_release;
};

/// Connects, authenticates and gets a ticket.
std::expected<Admitted, Failure> open_control(const Options& options, Deadline deadline);

/// Opens a data connection: sends its preamble and proof, waits for nothing. `notice`: of Callbacks,
/// until the connection has been closed; may be empty.
std::expected<std::unique_ptr<Connection>, Failure> open_data(const Options& options,
                                                              const wire::Admission& admission,
                                                              std::uint64_t resume_from, Deadline deadline,
                                                              std::function<void(const std::string&)> notice = {});

/// Receives the worker's answer; returns the highest of our sequences that it has.
std::expected<std::uint64_t, Failure> receive_accept(Connection& data, const Options& options,
                                                     Deadline deadline);

/// The executor's last word on the control connection, if it comes in time.
std::optional<std::string> receive_farewell(Connection& control, Deadline deadline);

/// A failure to open a session as an Error of the given CUresult (docs/architecture.md).
Failure open_failure(int cuda_code, const char* what, std::string message);
/// The failure for a link that broke while the session was being opened.
Failure link_failure(const Options& options, TransportError error, std::string_view during);

/// Moves all bytes or says what went wrong. For the handshake: not for frames.
TransportError send_all(Connection& connection, ConstBytes bytes, Deadline deadline);
TransportError receive_all(Connection& connection, MutableBytes bytes, Deadline deadline);

}  // namespace avec::session
