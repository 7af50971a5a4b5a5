// Where a session's connections come in: stripes that nobody asked for.
#include "executor/ready_session.h"
#include "support/catch.h"

namespace avec::test {
namespace {

/// A stripe with this opening; what the executor says to it, to its end.
TransportErrc try_stripe(const InProcessExecutor& executor, const wire::Opening& opening) {
  auto stripe = find_transport("tcp://")->connect(executor.address(), soon()).connection;
  REQUIRE(stripe);
  worker::send_all(*stripe, opening, soon());
  std::byte byte{};
  while (true) {
    const MutableBytes into(&byte, 1);
    const IoResult got = stripe->receive({&into, 1});
    if (got.error) return got.error.code;
    if (got.bytes == 0 && stripe->wait(false, soon())) return TransportErrc::kTimeout;
  }
}

TEST_CASE("A stripe of a session that offered none is closed, and the session goes on") {
  Ready ready("tcp://127.0.0.1:0");
  const auto opening = wire::stripe_opening(ready.client.admission.ticket, ready.client.admission.key);
  CHECK(try_stripe(*ready.executor, *opening) == TransportErrc::kClosed);
  CHECK(ready.client.status_of(wire::StreamSynchronize(kStream)) == 0);
}

TEST_CASE("A stripe that does not know the session's key, or no session, is refused") {
  Ready ready("tcp://127.0.0.1:0");
  CHECK(try_stripe(*ready.executor, *wire::stripe_opening(ready.client.admission.ticket, {})) ==
        TransportErrc::kClosed);
  CHECK(try_stripe(*ready.executor, *wire::stripe_opening({}, ready.client.admission.key)) ==
        TransportErrc::kClosed);
  CHECK(ready.client.status_of(wire::StreamSynchronize(kStream)) == 0);
}

}  // namespace
}  // namespace avec::test
