// TCP: "tcp://HOST:PORT", HOST a name, an IPv4 address or an IPv6 address in brackets.
#pragma once

#include <memory>

#include "avec/transport.h"
#include "transport/tls/channel.h"

namespace avec::tcp {

std::unique_ptr<Transport> make_transport();

/// A connection made from a connected stream socket, of TCP or a Unix-domain one, which it owns from now on. Bytes that
/// were not yet read stay readable. Null, and `fd` closed, when it is no such socket.
std::unique_ptr<Connection> adopt(int fd) noexcept;

/// The descriptor of a TCP connection that is handed to another process (SCM_RIGHTS), or -1
/// when `connection` is of another transport. Still owned by the connection.
int native_descriptor(const Connection& connection) noexcept;

/// The round trip of a TCP connection as the kernel knows it; 0 of any other.
std::chrono::microseconds round_trip(const Connection& connection) noexcept;

/// Encrypts a TCP connection from here on, both ends at the same point of the stream. `name`: whom a client expects
/// the executor to be, where certificates decide. On failure the connection is to be closed, and its reason() says
/// more than the error.
TransportError secure(Connection& connection, std::shared_ptr<const tls::Context> context, const std::string& name,
                      Deadline deadline) noexcept;
bool is_encrypted(const Connection& connection) noexcept;
/// Null: it is not encrypted.
const tls::Channel* tls_of(const Connection& connection) noexcept;

/// A TCP connection with another machine, as far as addresses tell: over loopback, or with an address of its own,
/// a machine talks to itself.
bool is_remote(const Connection& connection) noexcept;

/// Takes the descriptor out of a connection, which is then as after close(); the peer notices
/// nothing. -1 when `connection` is of another transport, or closed.
int release_descriptor(Connection& connection) noexcept;

}  // namespace avec::tcp
