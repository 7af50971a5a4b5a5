#include "executor/worker/door.h"

#include <utility>

#include "executor/worker/session.h"

namespace avec::worker {

wire::Answer<> Door::enter(std::unique_ptr<Connection> connection, const wire::Preamble& preamble) {
  const std::scoped_lock lock(mutex_);
  if (preamble.kind() == wire::ConnectionKind::Data) {
    if (preamble.stripes() != 0) stripes_ = tcp::accept_stripes(*connection);
    session_.attach(std::move(connection), preamble.resume_from());
    return {};
  }
  if (stripes_ == nullptr)
    return std::unexpected(
        wire::Refused{wire::RefusalCode::Malformed, "a stripe of a connection that has none"});
  if (!stripes_->join(std::move(connection)))
    return std::unexpected(wire::Refused{wire::RefusalCode::Busy, "no room for a stripe, or its session is over"});
  return {};
}

}  // namespace avec::worker
