// Addresses and sockets of the Unix domain. The connections are those of tcp, which is a
// stream socket's class.
#pragma once

#include <expected>
#include <string>
#include <string_view>

#include "transport/tcp/context.h"

namespace avec::unix_domain {

using tcp::Failure;
using tcp::SocketAddress;

/// Who may connect: the executor's user and group.
inline constexpr unsigned kSocketMode = 0660;

/// The path of a URL.
std::expected<std::string, Failure> parse_url(std::string_view url);
/// The address of a path that parse_url() gave.
SocketAddress to_address(const std::string& path);

/// A connected socket, non-blocking, or why not.
std::expected<Descriptor, Failure> connect_socket(const std::string& path, Deadline deadline);
/// A listening socket, non-blocking, with its file in place. A file that a dead process left
/// behind is replaced.
std::expected<Descriptor, Failure> listen_socket(const std::string& path);

}  // namespace avec::unix_domain
