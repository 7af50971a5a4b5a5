// NCCL's groups on the client, over recorded calls in place of the generated functions.
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <climits>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "libraries/abi.h"
#include "libraries/nccl.h"

using avec::libraries::Bytes;
using avec::libraries::NcclConfig;
using avec::libraries::NcclTransfer;

namespace {

std::mutex mutex;
std::vector<std::string> calls;
std::vector<NcclTransfer> exchanged;
NcclConfig configured;
int status_of_reduce = 0;
/// Ranks that are being made at once; each waits for `expected_ranks`, as NCCL does.
std::atomic<int> meeting{0};
int expected_ranks = 1;

int record(std::string call) {
  const std::scoped_lock lock(mutex);
  calls.push_back(std::move(call));
  return 0;
}

int meet(void* comm, int rank) {
  ++meeting;
  for (int i = 0; i < 5000 && meeting < expected_ranks; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  if (meeting < expected_ranks) return 2;
  *static_cast<void**>(comm) = reinterpret_cast<void*>(static_cast<std::uintptr_t>(rank + 1));
  return 0;
}

void forget() {
  calls.clear();
  exchanged.clear();
  status_of_reduce = 0;
  meeting = 0;
}

void* address(std::uintptr_t value) { return reinterpret_cast<void*>(value); }

}  // namespace

extern "C" {
// What src/intercept/libraries/nccl.cc exports.
int ncclGroupStart();
int ncclGroupEnd();
int ncclAllReduce(void*, void*, std::uint64_t, std::int32_t, std::int32_t, const void*, void*);
int ncclAllGather(void*, void*, std::uint64_t, std::int32_t, const void*, void*);
int ncclSend(void*, std::uint64_t, std::int32_t, std::int32_t, const void*, void*);
int ncclRecv(void*, std::uint64_t, std::int32_t, std::int32_t, const void*, void*);
int ncclCommInitRank(void*, std::int32_t, Bytes<128>, std::int32_t);
int ncclCommInitRankConfig(void*, std::int32_t, Bytes<128>, std::int32_t, const void*);
int ncclCommSplit(const void*, std::int32_t, std::int32_t, void**, const void*);

// What the generator makes, recorded.
int nccl_prepare() { return record("prepare"); }
int nccl_unique_id(void*) { return record("id"); }
int nccl_init_rank(void* comm, std::int32_t, Bytes<128>, std::int32_t rank) { return meet(comm, rank); }
int nccl_init_rank_config(void* comm, std::int32_t, Bytes<128>, std::int32_t rank, const void* config) {
  std::memcpy(&configured, config, sizeof configured);
  return meet(comm, rank);
}
int nccl_init_rank_scalable(void* comm, std::int32_t, std::int32_t rank, std::int32_t, const void*,
                            const void*) {
  return meet(comm, rank);
}
int nccl_init_all(void*, std::int32_t, const std::int32_t*) { return record("all"); }
int nccl_split(const void*, std::int32_t, std::int32_t, void* made, const void*) {
  *static_cast<void**>(made) = address(77);
  return record("split");
}
int nccl_shrink(const void*, const std::int32_t*, std::int32_t, void*, const void*, std::int32_t) {
  return record("shrink");
}
int nccl_pre_multiply_host(std::int32_t*, const void*, std::int32_t, std::int32_t, const void*) {
  return record("host");
}
int nccl_pre_multiply_device(std::int32_t*, void*, std::int32_t, std::int32_t, const void*) {
  return record("device");
}
int nccl_group_start() { return record("start"); }
int nccl_group_end() { return record("end"); }
int nccl_send(void*, std::uint64_t, std::int32_t, std::int32_t, const void*, void*) { return record("send"); }
int nccl_recv(void*, std::uint64_t, std::int32_t, std::int32_t, const void*, void*) { return record("recv"); }
int nccl_exchange(std::int32_t count, const void* transfers, const void*, void*) {
  const auto* first = static_cast<const NcclTransfer*>(transfers);
  exchanged.assign(first, first + count);
  return record("exchange");
}
int nccl_all_reduce(void*, void*, std::uint64_t n, std::int32_t, std::int32_t, const void*, void*) {
  record("reduce " + std::to_string(n));
  return status_of_reduce;
}
int nccl_all_gather(void*, void*, std::uint64_t, std::int32_t, const void*, void*) {
  return record("gather");
}
int nccl_reduce(void*, void*, std::uint64_t, std::int32_t, std::int32_t, std::int32_t, const void*, void*) {
  return record("-");
}
int nccl_bcast(void*, std::uint64_t, std::int32_t, std::int32_t, const void*, void*) { return record("-"); }
int nccl_broadcast(void*, void*, std::uint64_t, std::int32_t, std::int32_t, const void*, void*) {
  return record("-");
}
int nccl_reduce_scatter(void*, void*, std::uint64_t, std::int32_t, std::int32_t, const void*, void*) {
  return record("-");
}
int nccl_all_to_all(void*, void*, std::uint64_t, std::int32_t, const void*, void*) { return record("-"); }
int nccl_gather(void*, void*, std::uint64_t, std::int32_t, std::int32_t, const void*, void*) {
  return record("-");
}
int nccl_scatter(void*, void*, std::uint64_t, std::int32_t, std::int32_t, const void*, void*) {
  return record("-");
}
}

using Calls = std::vector<std::string>;

TEST_CASE("A collective outside of a group is posted at once") {
  forget();
  CHECK(ncclAllReduce(nullptr, nullptr, 5, 7, 0, address(1), nullptr) == 0);
  CHECK(calls == Calls{"reduce 5"});
}

TEST_CASE("The calls of a group are posted when the outermost group ends") {
  forget();
  CHECK(ncclGroupStart() == 0);
  ncclAllReduce(nullptr, nullptr, 1, 7, 0, address(1), nullptr);
  CHECK(ncclGroupStart() == 0);
  ncclAllGather(nullptr, nullptr, 2, 7, address(2), nullptr);
  CHECK(ncclGroupEnd() == 0);
  CHECK(calls.empty());
  CHECK(ncclGroupEnd() == 0);
  CHECK(calls == Calls{"start", "reduce 1", "gather", "end"});
  CHECK(ncclGroupEnd() == 5);  // ncclInvalidUsage: no group
}

TEST_CASE("A group reports the first status that is not success, and is closed on the executor") {
  forget();
  status_of_reduce = 4;
  ncclGroupStart();
  ncclAllReduce(nullptr, nullptr, 1, 7, 0, address(1), nullptr);
  CHECK(ncclGroupEnd() == 4);
  CHECK(calls.back() == "end");
}

TEST_CASE("Groups of threads are posted one after another, whole") {
  forget();
  const auto work = [](std::uint64_t n) {
    for (int round = 0; round < 200; ++round) {
      ncclGroupStart();
      ncclAllReduce(nullptr, nullptr, n, 7, 0, address(n), nullptr);
      ncclAllReduce(nullptr, nullptr, n, 7, 0, address(n), nullptr);
      ncclGroupEnd();
      ncclAllGather(nullptr, nullptr, n, 7, address(n), nullptr);
    }
  };
  std::thread one(work, 1), two(work, 2);
  one.join();
  two.join();
  REQUIRE(calls.size() == 2 * 200 * 5);
  for (std::size_t i = 0; i < calls.size();) {
    if (calls[i] == "gather") {
      ++i;
      continue;
    }
    REQUIRE(i + 3 < calls.size());
    REQUIRE(calls[i] == "start");
    REQUIRE(calls[i + 1].starts_with("reduce"));
    REQUIRE(calls[i + 2] == calls[i + 1]);
    REQUIRE(calls[i + 3] == "end");
    i += 4;
  }
}

TEST_CASE("Sends and receives of one communicator in one stream are one call") {
  forget();
  ncclGroupStart();
  ncclSend(address(64), 10, 7, 3, address(1), address(9));
  ncclRecv(address(128), 11, 7, 2, address(1), address(9));
  CHECK(ncclGroupEnd() == 0);
  CHECK(calls == Calls{"exchange"});
  REQUIRE(exchanged.size() == 2);
  CHECK((exchanged[0].address == 64 && exchanged[0].count == 10 && exchanged[0].peer == 3 &&
         exchanged[0].receives == 0));
  CHECK((exchanged[1].address == 128 && exchanged[1].count == 11 && exchanged[1].peer == 2 &&
         exchanged[1].receives == 1));
}

TEST_CASE("Transfers in two streams, or beside a collective, are posted as a group") {
  forget();
  ncclGroupStart();
  ncclSend(address(64), 10, 7, 3, address(1), address(9));
  ncclRecv(address(128), 11, 7, 2, address(1), address(10));
  ncclGroupEnd();
  CHECK(calls == Calls{"start", "send", "recv", "end"});
  forget();
  ncclGroupStart();
  ncclAllGather(nullptr, nullptr, 1, 7, address(1), address(9));
  ncclSend(address(64), 10, 7, 3, address(1), address(9));
  ncclGroupEnd();
  CHECK(calls == Calls{"start", "gather", "send", "end"});
}

TEST_CASE("Communicators of one group are made at once, since they wait for each other") {
  forget();
  expected_ranks = 3;
  std::vector<void*> comms(3);
  ncclGroupStart();
  for (int rank = 0; rank < 3; ++rank)
    CHECK(ncclCommInitRank(&comms[static_cast<std::size_t>(rank)], 3, {}, rank) == 0);
  CHECK(ncclGroupEnd() == 0);
  expected_ranks = 1;
  for (std::uintptr_t rank = 0; rank < 3; ++rank) CHECK(comms[rank] == address(rank + 1));
}

TEST_CASE("A configuration travels without its pointers, as much of it as the program knows") {
  forget();
  NcclConfig given{};
  given.size = 40;  // up to and including the name of the network
  given.magic = 0xcafebeef;
  given.version = 21700;
  given.blocking = 0;
  given.max_ctas = 8;
  given.net_name = "Socket";
  void* comm = nullptr;
  CHECK(ncclCommInitRankConfig(&comm, 1, {}, 0, &given) == 0);
  CHECK(configured.size == 40);
  CHECK(configured.blocking == 1);
  CHECK(configured.max_ctas == 8);
  CHECK(configured.net_name == nullptr);
  CHECK(configured.split_share == INT_MIN);
  CHECK(ncclCommInitRankConfig(&comm, 1, {}, 0, nullptr) == 0);
  CHECK(configured.size == sizeof configured);
  CHECK(configured.blocking == INT_MIN);
  given.magic = 1;
  CHECK(ncclCommInitRankConfig(&comm, 1, {}, 0, &given) == 4);
  given.size = 8;
  CHECK(ncclCommInitRankConfig(&comm, 1, {}, 0, &given) == 4);
}

TEST_CASE("A rank without a color takes part in a split and gets no communicator") {
  forget();
  void* made = nullptr;
  CHECK(ncclCommSplit(address(1), 0, 0, &made, nullptr) == 0);
  CHECK(made == address(77));
  CHECK(ncclCommSplit(address(1), -1, 0, &made, nullptr) == 0);
  CHECK(made == nullptr);
}
