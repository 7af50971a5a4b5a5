// How two ends come to share memory.
//
//   client                          stream                          executor
//                 <- Meeting: host, name of a socket, nonce, or why not -
//   makes the memory, connects to the socket (its name is in no file; it lives for this one
//   meeting), sends the memory's descriptor with the nonce there
//                 - Verdict: done, or why not ->
//                                                 takes the connection that knows the nonce,
//                                                 checks and maps the memory
//                 <- Verdict: done, or why not -
//
// A stream that is itself a socket of the Unix domain carries the descriptor: no other is made.
// Either end's "why not" leaves the stream as it was before.
#pragma once

#include <string>

#include "transport/shm/connection.h"

namespace avec::shm {

/// An end's half of the above. Errors as Transport::upgrade() has them. `host_file` says which
/// host this is.
ConnectResult meet_as_client(std::unique_ptr<Connection>& stream, const std::string& host_file,
                             Deadline deadline);
ConnectResult meet_as_executor(std::unique_ptr<Connection>& stream, const std::string& host_file,
                               Deadline deadline);

/// Without a meeting, over a socket of the Unix domain, for Transport::connect() and listen():
/// the client offers memory and goes on; the other end takes it or closes.
ConnectResult offer(std::unique_ptr<Connection> stream);
ConnectResult take_offer(std::unique_ptr<Connection> stream, Deadline deadline);

}  // namespace avec::shm
