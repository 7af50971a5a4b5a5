// Faults of adapters on connections that are open: each ends in the error that the transport
// documents (transport/rdma/context.h), at once, with everything given back.
#include <sys/wait.h>
#include <unistd.h>

#include "transport/rdma_fault_support.h"

namespace avec::contract {
namespace {

using enum TransportErrc;

struct StatusRow {
  ibv_wc_status status;
  TransportError error;
};

constexpr StatusRow kStatuses[] = {
    {IBV_WC_RETRY_EXC_ERR, {kReset, ETIMEDOUT}},
    {IBV_WC_RNR_RETRY_EXC_ERR, {kReset, ENOBUFS}},
    {IBV_WC_REM_ACCESS_ERR, {kReset, EACCES}},
    {IBV_WC_MW_BIND_ERR, {kReset, EACCES}},
    {IBV_WC_REM_INV_REQ_ERR, {kReset, EREMOTEIO}},
    {IBV_WC_REM_OP_ERR, {kReset, EREMOTEIO}},
    {IBV_WC_REM_INV_RD_REQ_ERR, {kReset, EREMOTEIO}},
    {IBV_WC_REM_ABORT_ERR, {kReset, EREMOTEIO}},
    {IBV_WC_WR_FLUSH_ERR, {kReset, ECANCELED}},
    {IBV_WC_LOC_PROT_ERR, {kInternal, EFAULT}},
    {IBV_WC_LOC_ACCESS_ERR, {kInternal, EFAULT}},
    {IBV_WC_LOC_LEN_ERR, {kInternal, EMSGSIZE}},
    {IBV_WC_LOC_QP_OP_ERR, {kInternal, EINVAL}},
    {IBV_WC_FATAL_ERR, {kReset, EIO}},
    {IBV_WC_RESP_TIMEOUT_ERR, {kReset, EIO}},
    {IBV_WC_GENERAL_ERR, {kReset, EIO}},
    {IBV_WC_BAD_RESP_ERR, {kReset, EIO}},
};

TEST_CASE("rdma faults: a message that fails breaks the connection with the error of its status") {
  for (const auto& row : kStatuses) {
    INFO(row.status);
    const Balance balance;
    Victim victim;
    fake().fail_work(IBV_WR_SEND_WITH_IMM, victim.client_qp, 1, row.status);
    static_cast<void>(send_text(victim.client(), "lost"));
    check_broken(victim.client(), row.error);
    victim.client().close();
    check_lost(victim.server());
  }
}

TEST_CASE("rdma faults: a receive that fails breaks the connection with the error of its status") {
  for (const auto& row : kStatuses) {
    INFO(row.status);
    const Balance balance;
    Victim victim;
    fake().fail_work(-2, victim.server_qp, 1, row.status);  // the next that is posted again
    std::size_t sent = 0;
    const auto until = soon();
    TransportError error;
    while (!error && std::chrono::steady_clock::now() < until) {
      sent += send_text(victim.client(), "x").bytes;
      std::byte byte{};
      const MutableBytes into(&byte, 1);
      error = victim.server().receive({&into, 1}).error;
    }
    CHECK(sent > 1);
    check_broken(victim.server(), row.error);
    victim.server().close();
    check_lost(victim.client());
  }
}

TEST_CASE("rdma faults: an access that fails ends with the error of its status, and so does the connection") {
  for (const auto& row : kStatuses) {
    for (const bool reads : {true, false}) {
      INFO(row.status << (reads ? " read" : " write"));
      const Balance balance;
      Victim victim;
      const Region theirs(victim.ends.client, kPage), own(victim.ends.server, kPage);
      const auto key =
          allowed(victim.ends.client, theirs.bytes(), reads ? RemoteAccess::kRead : RemoteAccess::kWrite);
      tell(victim.ends.client, victim.ends.server);
      fake().fail_work(reads ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE, 0, 1, row.status);
      const auto error = reads ? fetch(victim.ends.server, key, 0, own.bytes())
                               : put(victim.ends.server, key, 0, own.bytes());
      CHECK(static_cast<int>(error.code) == static_cast<int>(row.error.code));
      CHECK(error.os_error == row.error.os_error);
      check_broken(victim.server(), row.error);
      victim.server().close();
      check_lost(victim.client());
    }
  }
}

TEST_CASE("rdma faults: a failed first piece of an access of several is the access's error, told once") {
  const Balance balance;
  Victim victim;
  constexpr std::size_t kBytes = 8 << 20;
  const Region theirs(victim.ends.client, kBytes), own(victim.ends.server, kBytes);
  const auto key = allowed(victim.ends.client, theirs.bytes(), RemoteAccess::kRead);
  tell(victim.ends.client, victim.ends.server);
  fake().fail_work(IBV_WR_RDMA_READ, 0, 1, IBV_WC_RETRY_EXC_ERR);
  CHECK(fetch(victim.ends.server, key, 0, own.bytes()).os_error == ETIMEDOUT);
  OneSidedCompletion more;
  CHECK(victim.ends.server.access->completed({&more, 1}) == 0);
}

TEST_CASE("rdma faults: accesses that are under way all end when the connection breaks, in order") {
  const Balance balance;
  Victim victim;
  const Region theirs(victim.ends.client, kPage), own(victim.ends.server, kPage);
  const auto key = allowed(victim.ends.client, theirs.bytes(), RemoteAccess::kRead);
  tell(victim.ends.client, victim.ends.server);
  fake().stall(victim.server_qp, 1);
  for (std::uint64_t token = 1; token <= 10; ++token) {
    REQUIRE(victim.ends.server.access->read(key, 0, own.bytes(), token).bytes == kPage);
  }
  fake().raise_event("fake0", IBV_EVENT_QP_FATAL, victim.server_qp);
  std::vector<std::uint64_t> tokens;
  while (tokens.size() < 10) {
    OneSidedCompletion ended[4];
    std::size_t count = 0;
    REQUIRE_FALSE(await_completions(victim.ends.server, ended, count));
    for (std::size_t i = 0; i < count; ++i) {
      CHECK(ended[i].error.code == kReset);
      tokens.push_back(ended[i].token);
    }
  }
  CHECK(std::is_sorted(tokens.begin(), tokens.end()));
  check_broken(victim.server(), {kReset, EIO});
}

struct EventRow {
  ibv_event_type type;
  TransportError error;
};

TEST_CASE("rdma faults: an event of the adapter wakes who waits, with the error that it stands for") {
  constexpr EventRow kEvents[] = {
      {IBV_EVENT_DEVICE_FATAL, {kReset, ENODEV}},
      {IBV_EVENT_PORT_ERR, {kReset, ENETDOWN}},
      {IBV_EVENT_PATH_MIG_ERR, {kReset, EHOSTUNREACH}},
      {IBV_EVENT_QP_FATAL, {kReset, EIO}},
      {IBV_EVENT_QP_REQ_ERR, {kReset, EIO}},
      {IBV_EVENT_QP_ACCESS_ERR, {kReset, EACCES}},
      {IBV_EVENT_CQ_ERR, {kReset, EIO}},
  };
  for (const auto& row : kEvents) {
    INFO(row.type);
    const Balance balance;
    Victim victim;
    const bool of_queue_pair = row.type != IBV_EVENT_DEVICE_FATAL && row.type != IBV_EVENT_PORT_ERR;
    std::thread adapter([&] {
      std::this_thread::sleep_for(20ms);
      fake().raise_event("fake0", row.type, of_queue_pair ? victim.client_qp : 1);
    });
    CHECK(victim.client().wait(false, soon()).code == kNone);
    adapter.join();
    check_broken(victim.client(), row.error);
    victim.client().close();
    check_lost(victim.server());
  }
}

TEST_CASE("rdma faults: events that do no harm, and those of other ports, leave the connection alone") {
  constexpr std::pair<ibv_event_type, std::uint32_t> kHarmless[] = {
      {IBV_EVENT_PORT_ACTIVE, 1}, {IBV_EVENT_LID_CHANGE, 1},        {IBV_EVENT_PKEY_CHANGE, 1},
      {IBV_EVENT_SM_CHANGE, 1},   {IBV_EVENT_CLIENT_REREGISTER, 1}, {IBV_EVENT_GID_CHANGE, 1},
      {IBV_EVENT_PORT_ERR, 2},
  };
  const Balance balance;
  Victim victim;
  for (const auto& [type, port] : kHarmless) fake().raise_event("fake0", type, port);
  fake().raise_event("fake0", IBV_EVENT_COMM_EST, victim.client_qp);
  fake().raise_event("fake1", IBV_EVENT_DEVICE_FATAL, 0);
  CHECK(victim.client().wait(false, in(20ms)).code == kTimeout);
  tell(victim.ends.client, victim.ends.server);
  tell(victim.ends.server, victim.ends.client);
}

TEST_CASE("rdma faults: a spinning receiver notices an event as well") {
  const Balance balance;
  Victim victim;
  fake().raise_event("fake0", IBV_EVENT_PORT_ERR, 1);
  const auto until = soon();
  TransportError error;
  while (!error && std::chrono::steady_clock::now() < until) {
    std::byte byte{};
    const MutableBytes into(&byte, 1);
    error = victim.client().receive({&into, 1}).error;
  }
  CHECK(error.os_error == ENETDOWN);
}

TEST_CASE("rdma faults: a peer whose adapter has fallen silent is given up after the retries") {
  const Balance balance;
  Victim victim;
  fake().cut(victim.server_qp);
  REQUIRE(send_text(victim.client(), "anybody?").bytes == 8);
  check_broken(victim.client(), {kReset, ETIMEDOUT});
}

TEST_CASE("rdma faults: a port that goes down during a transfer ends both sides of it") {
  const Balance balance;
  Victim victim;
  std::thread adapter([&] {
    std::this_thread::sleep_for(20ms);
    fake().set_port("fake0", 1, IBV_PORT_DOWN);
  });
  const auto data = random_bytes(1 << 20, 1);
  TransportError sending;
  std::thread sender([&] {
    while (!sending) sending = send_all(victim.client(), data);
  });
  CHECK(end_of(victim.server()) == kReset);
  adapter.join();
  sender.join();
  CHECK(sending.code == kReset);
}

TEST_CASE(
    "rdma faults: functions of the library that fail on the path break the connection, and nothing hangs") {
  struct Row {
    const char* function;
    int error;
    TransportErrc code;
    int os_error;
  };
  constexpr Row kRows[] = {
      {"ibv_post_send", ENOMEM, kInternal, ENOMEM},
      {"ibv_post_send", EIO, kInternal, EIO},
      {"ibv_post_recv", ENOMEM, kInternal, ENOMEM},
      {"ibv_poll_cq", EIO, kInternal, EIO},
  };
  for (const auto& row : kRows) {
    INFO(row.function);
    const Balance balance;
    Victim victim;
    tell(victim.ends.client, victim.ends.server);
    REQUIRE(fake().fail_call(row.function, 1, row.error, 1) != 0);
    // Which end meets the fault is not known beforehand.
    TransportError error;
    const auto until = soon();
    while (!error && std::chrono::steady_clock::now() < until) {
      for (auto* connection : {&victim.client(), &victim.server()}) {
        if (!error) error = send_text(*connection, "x").error;
        std::byte byte{};
        const MutableBytes into(&byte, 1);
        if (!error) error = connection->receive({&into, 1}).error;
      }
    }
    CHECK((error.code == row.code || error.code == kReset));
    const bool at_client = victim.client().reason().empty() == false;
    auto& broken = at_client ? victim.client() : victim.server();
    CHECK(static_cast<int>(error_of_sending(broken).code) == static_cast<int>(row.code));
    CHECK(error_of_sending(broken).os_error == row.os_error);
  }
}

TEST_CASE("rdma faults: an adapter that does not notify breaks the connection of who would sleep") {
  const Balance balance;
  Victim victim;
  REQUIRE(fake().fail_call("ibv_req_notify_cq", 1, EINVAL, 0) != 0);
  CHECK(victim.client().wait(false, soon()).code == kNone);
  check_broken(victim.client(), {kInternal, EINVAL});
}

TEST_CASE("rdma faults: a device that dies is closed without a hang, with accesses and keys about") {
  const Balance balance;
  Victim victim;
  const Region theirs(victim.ends.client, kPage), own(victim.ends.server, kPage);
  const auto key = allowed(victim.ends.client, theirs.bytes(), RemoteAccess::kRead);
  tell(victim.ends.client, victim.ends.server);
  fake().stall(victim.server_qp, 1);
  REQUIRE(victim.ends.server.access->read(key, 0, own.bytes(), 1).bytes == kPage);
  fake().raise_event("fake0", IBV_EVENT_DEVICE_FATAL, 0);
  check_broken(victim.client(), {kReset, ENODEV});
  check_broken(victim.server(), {kReset, ENODEV});
  RemoteKey another;
  CHECK(victim.ends.client.access->allow(theirs.bytes(), RemoteAccess::kRead, another).code == kReset);
  CHECK(victim.ends.client.access->add(theirs.part(0, 8)).code == kReset);
  victim.ends.client.access->revoke(key);
}

TEST_CASE("rdma faults: completions of queue pairs that are gone confuse nobody, kept or dropped") {
  for (const bool kept : {true, false}) {
    const Balance balance;
    fake().set_stale_completions(kept);
    Victim victim;
    for (int i = 0; i < 5; ++i) send_text(victim.client(), "never read");
    victim.server().close();
    CHECK(end_of(victim.client()) == kClosed);
  }
}

TEST_CASE("rdma faults: a forked child leaves the connection and the adapter alone") {
  const Balance balance;
  Victim victim;
  const Region theirs(victim.ends.client, kPage);
  const auto key = allowed(victim.ends.client, theirs.bytes(), RemoteAccess::kRead);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const bool says_closed = send_text(victim.client(), "x").error.code == kClosed;
    victim.ends.pair.client.reset();
    victim.ends.pair.server.reset();
    ::_exit(says_closed ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  tell(victim.ends.client, victim.ends.server);
  const Region own(victim.ends.server, kPage);
  CHECK_FALSE(fetch(victim.ends.server, key, 0, own.bytes()));
  victim.ends.client.access->revoke(key);
}

}  // namespace
}  // namespace avec::contract
