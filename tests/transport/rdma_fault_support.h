// What the fault tests of the RDMA transport share: connections over the fake verbs library, of
// which either end's queue pair can be broken, and the balance drawn after each test.
#pragma once

#include <cerrno>
#include <functional>
#include <string>

#include "support/catch.h"
#include "transport/fake_verbs/fake_verbs.h"
#include "transport/rdma/factory.h"
#include "transport/tcp/factory.h"

namespace avec::contract {

inline const FakeVerbs& fake() { return fake_verbs::control(); }

inline std::unique_ptr<Transport> make_faulty(const char* device = "") {
  rdma::Options options;
  options.device = device;
  options.verbs_library = options.cm_library = fake_verbs::path();
  return rdma::make_transport(options);
}

/// The backend of contract_support.h and one_sided_support.h.
struct FaultBackend {
  Transport& transport() {
    static const auto made = make_faulty();
    return *made;
  }
  std::string listen_url() { return "rdma://127.0.0.1:0"; }
};

}  // namespace avec::contract

#define AVEC_TRANSPORT_BACKEND FaultBackend
#include "transport/one_sided_support.h"

namespace avec::contract {

/// First in every test: begins with a whole fabric; at the end nothing may be alive, no key have
/// worth, and nothing have been used against the documents of the verbs.
struct Balance {
  Balance() { REQUIRE(fake().reset() == 0); }
  ~Balance() {
    const auto live = fake().live();
    CHECK(live.total() == 0);
    CHECK(live.remote_keys == 0);
    CHECK(live.locked_bytes_kib == 0);
    CHECK(fake().attack_all(nullptr) == 0);
    CHECK(std::string(fake().first_violation()).empty());
  }
  Balance(const Balance&) = delete;
  Balance& operator=(const Balance&) = delete;
};

/// A connection whose queue pairs are known by number.
struct Victim {
  Victim() { identify(); }

  void identify() {
    std::uint32_t numbers[2] = {};
    REQUIRE(fake().queue_pairs(numbers, 2) == 2);
    const auto before = fake().posted_of(numbers[0]);
    tell(ends.client, ends.server);
    const bool first = fake().posted_of(numbers[0]) > before;
    client_qp = numbers[first ? 0 : 1];
    server_qp = numbers[first ? 1 : 0];
  }
  Connection& client() { return *ends.pair.client; }
  Connection& server() { return *ends.pair.server; }

  Ends ends;
  std::uint32_t client_qp = 0, server_qp = 0;
};

/// Sends until the connection says why it cannot any more; kTimeout if it never does.
inline TransportError error_of_sending(Connection& connection) {
  const auto until = soon();
  while (std::chrono::steady_clock::now() < until) {
    if (const auto error = send_text(connection, "x").error) return error;
    std::this_thread::sleep_for(1ms);
  }
  return {TransportErrc::kTimeout, 0};
}

/// What receive() says at last, with errno; kTimeout when it says nothing.
inline TransportError error_of_receiving(Connection& connection) {
  const auto until = soon();
  while (std::chrono::steady_clock::now() < until) {
    std::byte byte{};
    const MutableBytes into(&byte, 1);
    const auto result = connection.receive({&into, 1});
    if (result.error) return result.error;
    if (result.bytes > 0) continue;
    const auto waited = connection.wait(false, until);
    if (waited && waited.code != TransportErrc::kTimeout) return waited;
  }
  return {TransportErrc::kTimeout, 0};
}

/// That the connection is broken with this error, in everything that it says, and says why.
inline void check_broken(Connection& connection, TransportError expected) {
  const auto receiving = error_of_receiving(connection);
  CHECK(static_cast<int>(receiving.code) == static_cast<int>(expected.code));
  CHECK(receiving.os_error == expected.os_error);
  const auto sending = error_of_sending(connection);
  CHECK(static_cast<int>(sending.code) == static_cast<int>(expected.code));
  CHECK(sending.os_error == expected.os_error);
  CHECK_FALSE(connection.reason().empty());
}

/// That the connection ended because of its peer, whichever way it learnt of that.
inline void check_lost(Connection& connection) {
  CHECK(static_cast<int>(error_of_receiving(connection).code) == static_cast<int>(TransportErrc::kReset));
  CHECK_FALSE(connection.reason().empty());
}

/// Two ends of a TCP connection, to be upgraded.
struct Streams {
  Streams() {
    static const auto tcp = tcp::make_transport();
    auto listening = tcp->listen("tcp://127.0.0.1:0");
    REQUIRE(listening.listener);
    client = std::move(tcp->connect(listening.listener->address(), soon()).connection);
    REQUIRE(client);
    server = accept(*listening.listener);
  }
  /// Both ends at once, with transports of their own.
  void upgrade(Transport& at_client, Transport& at_server, ConnectResult& client_result,
               ConnectResult& server_result, Deadline deadline = soon()) {
    std::thread peer([&] { server_result = at_server.upgrade(server, End::kExecutor, deadline); });
    client_result = at_client.upgrade(client, End::kClient, deadline);
    peer.join();
  }
  std::unique_ptr<Connection> client, server;
};

}  // namespace avec::contract
