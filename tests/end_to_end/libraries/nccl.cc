// NCCL: sums over every device of the machine, by one thread in groups and by one thread for each device.
#include <nccl.h>

#include <thread>

#include "library.h"

namespace {

constexpr std::size_t kCount = 1 << 16;

std::vector<float> values_of(int rank) {
  std::vector<float> values(kCount);
  for (std::size_t i = 0; i < kCount; ++i)
    values[i] = static_cast<float>((i + static_cast<std::size_t>(rank) * 31) % 127);
  return values;
}

void expect_sum(const std::vector<float>& found, int ranks) {
  std::vector<float> sum(kCount, 0.0f);
  for (int rank = 0; rank < ranks; ++rank) {
    const auto one = values_of(rank);
    for (std::size_t i = 0; i < kCount; ++i) sum[i] += one[i];
  }
  EXPECT(found == sum);
}

void one_thread(int devices) {
  std::vector<ncclComm_t> comms(static_cast<std::size_t>(devices));
  CHECK(ncclCommInitAll(comms.data(), devices, nullptr));
  std::vector<float*> buffers(comms.size());
  std::vector<cudaStream_t> streams(comms.size());
  for (int rank = 0; rank < devices; ++rank) {
    const auto at = static_cast<std::size_t>(rank);
    int number = -1;
    CHECK(ncclCommUserRank(comms[at], &number));
    EXPECT(number == rank);
    CHECK(cudaSetDevice(rank));
    CHECK(cudaMalloc(reinterpret_cast<void**>(&buffers[at]), kCount * sizeof(float)));
    CHECK(cudaMemcpy(buffers[at], values_of(rank).data(), kCount * sizeof(float), cudaMemcpyHostToDevice));
    CHECK(cudaStreamCreate(&streams[at]));
  }
  CHECK(ncclGroupStart());
  for (std::size_t at = 0; at < comms.size(); ++at)
    CHECK(ncclAllReduce(buffers[at], buffers[at], kCount, ncclFloat, ncclSum, comms[at], streams[at]));
  CHECK(ncclGroupEnd());
  for (std::size_t at = 0; at < comms.size(); ++at) {
    CHECK(cudaSetDevice(static_cast<int>(at)));
    CHECK(cudaStreamSynchronize(streams[at]));
    std::vector<float> found(kCount);
    CHECK(cudaMemcpy(found.data(), buffers[at], kCount * sizeof(float), cudaMemcpyDeviceToHost));
    expect_sum(found, devices);
    ncclResult_t state = ncclInternalError;
    CHECK(ncclCommGetAsyncError(comms[at], &state));
    EXPECT(state == ncclSuccess);
    CHECK(ncclCommDestroy(comms[at]));
    CHECK(cudaFree(buffers[at]));
    CHECK(cudaStreamDestroy(streams[at]));
  }
}

void rank_of(int rank, int ranks, ncclUniqueId id) {
  CHECK(cudaSetDevice(rank));
  ncclComm_t comm;
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  CHECK(ncclCommInitRankConfig(&comm, ranks, id, rank, &config));
  int count = 0;
  CHECK(ncclCommCount(comm, &count));
  EXPECT(count == ranks);
  Device<float> from(values_of(rank)), to(kCount), all(kCount * static_cast<std::size_t>(ranks));
  cudaStream_t stream;
  CHECK(cudaStreamCreate(&stream));
  CHECK(ncclAllReduce(from.data, to.data, kCount, ncclFloat, ncclSum, comm, stream));
  CHECK(ncclAllGather(from.data, all.data, kCount, ncclFloat, comm, stream));
  CHECK(cudaStreamSynchronize(stream));
  expect_sum(to.host(), ranks);
  const auto gathered = all.host();
  for (int other = 0; other < ranks; ++other) {
    const auto expected = values_of(other);
    for (std::size_t i = 0; i < kCount; ++i)
      EXPECT(gathered[static_cast<std::size_t>(other) * kCount + i] == expected[i]);
  }
  // Around the ring; alone, to itself.
  CHECK(ncclGroupStart());
  CHECK(ncclSend(from.data, kCount, ncclFloat, (rank + 1) % ranks, comm, stream));
  CHECK(ncclRecv(to.data, kCount, ncclFloat, (rank + ranks - 1) % ranks, comm, stream));
  CHECK(ncclGroupEnd());
  CHECK(cudaStreamSynchronize(stream));
  EXPECT(to.host() == values_of((rank + ranks - 1) % ranks));
  ncclRedOp_t half;
  float scalar = 0.5f;
  CHECK(ncclRedOpCreatePreMulSum(&half, &scalar, ncclFloat, ncclScalarHostImmediate, comm));
  CHECK(ncclBroadcast(from.data, to.data, kCount, ncclFloat, 0, comm, stream));
  CHECK(cudaStreamSynchronize(stream));
  EXPECT(to.host() == values_of(0));
  CHECK(ncclRedOpDestroy(half, comm));
  CHECK(cudaStreamDestroy(stream));
  CHECK(ncclCommDestroy(comm));
}

}  // namespace

int main() {
  int devices = 0, version = 0;
  CHECK(cudaGetDeviceCount(&devices));
  CHECK(ncclGetVersion(&version));
  EXPECT(version / 10000 == NCCL_MAJOR);
  one_thread(devices);
  ncclUniqueId id;
  CHECK(ncclGetUniqueId(&id));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < devices; ++rank) threads.emplace_back(rank_of, rank, devices, id);
  for (auto& thread : threads) thread.join();
  void* memory = nullptr;
  CHECK(cudaSetDevice(0));
  CHECK(ncclMemAlloc(&memory, 1 << 20));
  CHECK(cudaMemset(memory, 0, 1 << 20));
  CHECK(ncclMemFree(memory));
  std::printf("%s\nnccl: ok, %d devices\n", ncclGetErrorString(ncclInvalidUsage), devices);
  return 0;
}
