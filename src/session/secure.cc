#include "session/secure.h"

#include <fmt/format.h>

#include "transport/tcp/factory.h"

namespace avec::session {
namespace {

constexpr int kNotPermitted = 800;  // CUDA_ERROR_NOT_PERMITTED

Failure not_permitted(const Options& options, std::string_view why) {
  return open_failure(kNotPermitted, "authenticating", fmt::format("{}: {}", options.executor, why));
}

/// "edge" of "auto://edge:7700"; of "[2001:db8::7]" without the brackets.
std::string host_of(std::string_view url) {
  const auto begin = url.find("://");
  if (begin != std::string_view::npos) url.remove_prefix(begin + 3);
  if (url.starts_with('[')) return std::string(url.substr(1, url.find(']') - 1));
  return std::string(url.substr(0, url.find_first_of(":/")));
}

std::expected<void, Failure> secure(Connection& connection, const tls::Credentials& credentials, const std::string& name,
                                    const Options& options, std::string_view during, Deadline deadline) {
  auto context = tls::Context::make(End::kClient, credentials);
  if (!context) return std::unexpected(not_permitted(options, context.error()));
  const TransportError error = tcp::secure(connection, std::move(*context), name, deadline);
  if (!error) return {};
  if (const std::string why = connection.reason(); !why.empty()) return std::unexpected(not_permitted(options, why));
  return std::unexpected(link_failure(options, error, during));
}

/// What the user has set, the token as TLS wants it.
std::expected<tls::Credentials, Failure> credentials_of(const Options& options) {
  tls::Credentials credentials = options.credentials;
  if (options.token.empty() || credentials.has_certificate()) return credentials;
  const auto key = wire::token_key(options.token);
  if (!key) return std::unexpected(Failure{key.error(), fmt::format("cannot open a session: {} failed", key.error().what)});
  credentials.secret = tls::PreShared{std::string(tls::kControlName), *key};
  return credentials;
}

}  // namespace

bool can_secure(const Options& options, const Connection& control) {
  const bool of_tcp = control.peer().starts_with("tcp://") && tcp::native_descriptor(control) >= 0;
  return of_tcp && (!options.token.empty() || options.credentials.has_certificate());
}

bool begins_secured(const Options& options, const Connection& control) {
  if (!can_secure(options, control)) return false;
  return options.encryption == Encryption::kOn || tcp::is_remote(control) || options.token.empty();
}

bool wishes_encryption(const Options& options, const Connection& control) {
  if (options.encryption != Encryption::kAuto) return options.encryption == Encryption::kOn;
  // RDMA does not encrypt: who names it asks for none, and gets it where the executor agrees.
  return tcp::is_remote(control) && !options.executor.starts_with("rdma://");
}

std::expected<void, Failure> secure_control(Connection& control, const Options& options, Deadline deadline) {
  const auto credentials = credentials_of(options);
  if (!credentials) return std::unexpected(credentials.error());
  const std::string name = options.server_name.empty() ? host_of(options.executor) : options.server_name;
  return secure(control, *credentials, name, options, "authenticating", deadline);
}

std::expected<void, Failure> secure_data(Connection& data, const wire::Digest& session_key, const Options& options,
                                         Deadline deadline) {
  const auto key = wire::data_key(session_key);
  if (!key) return std::unexpected(Failure{key.error(), fmt::format("cannot open a session: {} failed", key.error().what)});
  tls::Credentials credentials;
  credentials.secret = tls::PreShared{std::string(tls::kDataName), *key};
  return secure(data, credentials, {}, options, "opening the data connection", deadline);
}

wire::KeyExporter exporter_of(const Connection& control) {
  return [channel = tcp::tls_of(control)](const wire::TicketId& ticket) -> Result<wire::Digest> {
    wire::Digest key;
    if (channel == nullptr || !channel->export_key(wire::kExporterLabel, ticket, key))
      return system_error(0, "deriving the session's key");
    return key;
  };
}

}  // namespace avec::session
