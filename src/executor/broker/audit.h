// The line that a session leaves when it has ended: who used what, from where, how long, and how it ended.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace avec::broker {

struct AuditRecord {
  std::string session, identity, from, program, host, device;
  std::uint64_t program_pid = 0;
  std::int64_t worker_pid = 0;
  bool encrypted = false;
  double seconds = 0;
  /// Unknown of a worker that could not tell any more.
  std::optional<std::uint64_t> calls, bytes_in, bytes_out, bytes_copied;
  std::string ended;
};

/// "audit session=3 identity=laptop ... ended=\"the client closed ...\"": one line of key=value, whatever the client calls
/// itself; what is unknown is "-".
std::string audit_line(const AuditRecord& record);

/// A value as it stands behind a "=": in quotes where it is not one plain word, with nothing that ends line or quotes.
std::string audit_value(std::string_view text);

}  // namespace avec::broker
