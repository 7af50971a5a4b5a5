// When and how the connections of a session are encrypted (docs/security.md).
#pragma once

#include "session/connect.h"

namespace avec::session {

/// Whether a control connection that leads there begins with TLS, as far as this end decides.
bool begins_secured(const Options& options, const Connection& control);
/// Whether it could: it is of TCP, and there is something to authenticate with.
bool can_secure(const Options& options, const Connection& control);
/// Whether data connections shall be encrypted.
bool wishes_encryption(const Options& options, const Connection& control);

/// Authenticates both ends of a control connection; afterwards nobody else reads or changes it.
std::expected<void, Failure> secure_control(Connection& control, const Options& options, Deadline deadline);
/// The same of a data connection, by the session's key.
std::expected<void, Failure> secure_data(Connection& data, const wire::Digest& session_key, const Options& options,
                                         Deadline deadline);
/// The session's key, from a control connection that is secured.
wire::KeyExporter exporter_of(const Connection& control);

}  // namespace avec::session
