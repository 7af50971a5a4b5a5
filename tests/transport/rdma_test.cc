// The contract over the RDMA transport, and what it adds.
#include <sys/resource.h>

#include "transport/rdma_backend.h"

#define AVEC_TRANSPORT_BACKEND RdmaBackend
#include "transport/contract.h"

namespace avec::contract {
namespace {

TEST_CASE("locked memory beyond the limit is refused as such, and the connection goes on") {
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_MEMLOCK, &limit) == 0);
  Ends ends;
  if (real_adapter() == nullptr) {
    limit.rlim_cur = 8u << 20;
    fake_verbs::control().set_memlock(limit.rlim_cur);
  } else if (limit.rlim_cur > 64u << 20) {
    return;  // this process may lock all it likes
  }
  std::vector<std::byte> large(limit.rlim_cur + (1u << 20));
  const auto error = ends.client.access->add(large);
  CHECK(static_cast<int>(error.code) == static_cast<int>(TransportErrc::kResources));
  CHECK(static_cast<int>(ends.client.access->allocate(large.size() / 4096 * 4096, nullptr).error.code) ==
        static_cast<int>(TransportErrc::kResources));
  const Region some(ends.client, 1 << 20), into(ends.server, 1 << 20);
  some.fill(std::byte{0x31});
  CHECK_FALSE(fetch(ends.server, allowed(ends.client, some.bytes(), RemoteAccess::kRead), 0, into.bytes()));
  CHECK(all(into.bytes(), std::byte{0x31}));
  tell(ends.client, ends.server);
}

TEST_CASE("why a connection broke is told in words, and nothing before it has") {
  RdmaBackend backend;
  auto pair = connected(backend);
  CHECK(pair.client->reason().empty());
  backend.reset(*pair.server);
  CHECK(end_of(*pair.client) == TransportErrc::kReset);
  CHECK(pair.client->reason().find("process has ended") != std::string::npos);
  pair.client->close();
}

}  // namespace
}  // namespace avec::contract
