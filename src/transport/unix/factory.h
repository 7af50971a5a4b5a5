// Unix-domain stream sockets: "unix:///run/avec/avec.sock", an absolute path. For clients that
// share a folder with the executor and no network: other containers, other users.
#pragma once

#include <memory>

#include "avec/transport.h"

namespace avec::unix_domain {

std::unique_ptr<Transport> make_transport();

}  // namespace avec::unix_domain
