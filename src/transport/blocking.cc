#include "transport/blocking.h"

namespace avec {

TransportError send_whole(Connection& connection, ConstBytes bytes, Deadline deadline) noexcept {
  while (!bytes.empty()) {
    const IoResult sent = connection.send({&bytes, 1});
    if (sent.error) return sent.error;
    bytes = bytes.subspan(sent.bytes);
    if (sent.bytes != 0) continue;
    if (const auto failed = connection.wait(true, deadline)) return failed;
  }
  return {};
}

TransportError receive_whole(Connection& connection, MutableBytes bytes, Deadline deadline) noexcept {
  while (!bytes.empty()) {
    const IoResult received = connection.receive({&bytes, 1});
    if (received.error) return received.error;
    bytes = bytes.subspan(received.bytes);
    if (received.bytes != 0) continue;
    if (const auto failed = connection.wait(false, deadline)) return failed;
  }
  return {};
}

}  // namespace avec
