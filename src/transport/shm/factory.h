// Shared memory with another process of the same host. A session begins as a stream and is
// upgraded: "shm://HOST:PORT" begins at tcp://HOST:PORT, "shm:///run/avec/avec.sock" at the
// socket unix:///run/avec/avec.sock.
#pragma once

#include <memory>
#include <string>

#include "avec/transport.h"

namespace avec::shm {

std::unique_ptr<Transport> make_transport();

/// The same with another file that says which host this is; for tests.
std::unique_ptr<Transport> make_transport(std::string host_file);

}  // namespace avec::shm
