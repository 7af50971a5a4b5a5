// NCCL on the client: configurations without the pointers in them, groups, memory, operators, words of
// errors.
//
// NCCL's groups belong to a thread, the executor posts for all threads of the program: so the calls of
// a group are kept here, and posted together when the group ends, with no call of another thread
// between them.
#include "libraries/nccl.h"

#include <algorithm>
#include <climits>
#include <cstdint>
#include <cstring>
#include <vector>

#include "intercept/libraries/nccl_groups.h"
#include "libraries/abi.h"

using namespace avec::libraries;

// The generated functions of schemas/libraries/nccl.api.
extern "C" {
int nccl_prepare();
int nccl_unique_id(void* id);
int nccl_init_rank(void* comm, std::int32_t ranks, Bytes<128> id, std::int32_t rank);
int nccl_init_rank_config(void* comm, std::int32_t ranks, Bytes<128> id, std::int32_t rank,
                          const void* config);
int nccl_init_rank_scalable(void* comm, std::int32_t ranks, std::int32_t rank, std::int32_t ids,
                            const void* id, const void* config);
int nccl_init_all(void* comms, std::int32_t devices, const std::int32_t* list);
int nccl_split(const void* comm, std::int32_t color, std::int32_t key, void* made, const void* config);
int nccl_shrink(const void* comm, const std::int32_t* excluded, std::int32_t count, void* made,
                const void* config, std::int32_t flags);
int nccl_pre_multiply_host(std::int32_t* op, const void* scalar, std::int32_t type, std::int32_t residence,
                           const void* comm);
int nccl_pre_multiply_device(std::int32_t* op, void* scalar, std::int32_t type, std::int32_t residence,
                             const void* comm);
}

namespace {

constexpr int kSuccess = 0;
constexpr int kUnhandledCudaError = 1;
constexpr int kInvalidArgument = 4;
constexpr std::uint32_t kConfigMagic = 0xcafebeef;
constexpr std::size_t kConfigHead = offsetof(NcclConfig, blocking);
constexpr int kScalarOnHost = 1;
constexpr int kNoColor = -1;

/// The program's configuration as it can travel: as many bytes of it as are known, names of networks
/// and communicators taken out, and blocking, since calls that take long run on helpers anyway.
int portable(const void* given, NcclConfig& config) {
  constexpr NcclConfig kDefault{sizeof(NcclConfig),
                                kConfigMagic,
                                22800,
                                INT_MIN,
                                INT_MIN,
                                INT_MIN,
                                INT_MIN,
                                nullptr,
                                INT_MIN,
                                INT_MIN,
                                nullptr,
                                INT_MIN,
                                INT_MIN,
                                INT_MIN,
                                INT_MIN,
                                INT_MIN,
                                INT_MIN};
  config = kDefault;
  if (given == nullptr) return kSuccess;
  std::uint64_t size;
  std::memcpy(&size, given, sizeof size);
  if (size < kConfigHead) return kInvalidArgument;
  size = std::min<std::uint64_t>(size, sizeof config);
  std::memcpy(&config, given, size);
  if (config.magic != kConfigMagic) return kInvalidArgument;
  config.size = size;
  config.blocking = 1;
  config.net_name = nullptr;
  config.comm_name = nullptr;
  return kSuccess;
}

/// What the executor's library reads from its environment is set before it is first asked for something.
int prepare() {
  static const int status = nccl_prepare();
  return status;
}

/// Making a communicator: now, or when the group ends.
template <class Call>
int make(const void* config, Call call) {
  NcclConfig sent;
  if (const int status = portable(config, sent); status != kSuccess) return status;
  if (const int status = prepare(); status != kSuccess) return status;
  return nccl::make([call, sent] { return call(sent); });
}

}  // namespace

extern "C" {

int ncclGetUniqueId(void* id) {
  const int status = prepare();
  return status != kSuccess ? status : nccl_unique_id(id);
}

int ncclCommInitRank(void* comm, std::int32_t ranks, Bytes<128> id, std::int32_t rank) {
  return make(nullptr, [=](const NcclConfig&) { return nccl_init_rank(comm, ranks, id, rank); });
}

int ncclCommInitRankConfig(void* comm, std::int32_t ranks, Bytes<128> id, std::int32_t rank,
                           const void* config) {
  return make(config,
              [=](const NcclConfig& sent) { return nccl_init_rank_config(comm, ranks, id, rank, &sent); });
}

int ncclCommInitRankScalable(void* comm, std::int32_t ranks, std::int32_t rank, std::int32_t ids,
                             const void* id, const void* config) {
  if (id == nullptr || ids < 1 || ids > ranks) return kInvalidArgument;
  const auto* first = static_cast<const char*>(id);
  const std::vector<char> kept(first, first + nccl_id_bytes(ids));
  return make(config, [=](const NcclConfig& sent) {
    return nccl_init_rank_scalable(comm, ranks, rank, ids, kept.data(), &sent);
  });
}

int ncclCommInitAll(void* comms, std::int32_t devices, const std::int32_t* list) {
  const int status = prepare();
  return status != kSuccess ? status : nccl_init_all(comms, devices, list);
}

int ncclCommSplit(const void* comm, std::int32_t color, std::int32_t key, void** made, const void* config) {
  return make(config, [=](const NcclConfig& sent) {
    const int status = nccl_split(comm, color, key, made, &sent);
    // This rank takes part in the call, and in none of the new communicators.
    if (status == kSuccess && color == kNoColor) *made = nullptr;
    return status;
  });
}

int ncclCommShrink(const void* comm, const std::int32_t* excluded, std::int32_t count, void* made,
                   const void* config, std::int32_t flags) {
  NcclConfig sent;
  const int status = portable(config, sent);
  return status != kSuccess ? status : nccl_shrink(comm, excluded, count, made, &sent, flags);
}

int ncclGroupStart() { return nccl::group_start(); }
int ncclGroupEnd() { return nccl::group_end(); }

// Collectives: NAME of the schema, with the parameters between the buffers and the communicator.
#define AVEC_COLLECTIVE(EXPORTED, NAME, TYPES, NAMES)    \
  int NAME TYPES;                                        \
  int EXPORTED TYPES {                                   \
    return nccl::collective([=] { return NAME NAMES; }); \
  }                                                      \
  int p##EXPORTED TYPES __attribute__((alias(#EXPORTED)));

AVEC_COLLECTIVE(ncclReduce, nccl_reduce,
                (void* from, void* to, std::uint64_t n, std::int32_t type, std::int32_t op, std::int32_t root,
                 const void* comm, void* stream),
                (from, to, n, type, op, root, comm, stream))
AVEC_COLLECTIVE(ncclBcast, nccl_bcast,
                (void* buffer, std::uint64_t n, std::int32_t type, std::int32_t root, const void* comm,
                 void* stream),
                (buffer, n, type, root, comm, stream))
AVEC_COLLECTIVE(ncclBroadcast, nccl_broadcast,
                (void* from, void* to, std::uint64_t n, std::int32_t type, std::int32_t root,
                 const void* comm, void* stream),
                (from, to, n, type, root, comm, stream))
AVEC_COLLECTIVE(ncclAllReduce, nccl_all_reduce,
                (void* from, void* to, std::uint64_t n, std::int32_t type, std::int32_t op, const void* comm,
                 void* stream),
                (from, to, n, type, op, comm, stream))
AVEC_COLLECTIVE(ncclReduceScatter, nccl_reduce_scatter,
                (void* from, void* to, std::uint64_t n, std::int32_t type, std::int32_t op, const void* comm,
                 void* stream),
                (from, to, n, type, op, comm, stream))
AVEC_COLLECTIVE(ncclAllGather, nccl_all_gather,
                (void* from, void* to, std::uint64_t n, std::int32_t type, const void* comm, void* stream),
                (from, to, n, type, comm, stream))
AVEC_COLLECTIVE(ncclAlltoAll, nccl_all_to_all,
                (void* from, void* to, std::uint64_t n, std::int32_t type, const void* comm, void* stream),
                (from, to, n, type, comm, stream))
AVEC_COLLECTIVE(ncclGather, nccl_gather,
                (void* from, void* to, std::uint64_t n, std::int32_t type, std::int32_t root,
                 const void* comm, void* stream),
                (from, to, n, type, root, comm, stream))
AVEC_COLLECTIVE(ncclScatter, nccl_scatter,
                (void* from, void* to, std::uint64_t n, std::int32_t type, std::int32_t root,
                 const void* comm, void* stream),
                (from, to, n, type, root, comm, stream))

int ncclSend(void* from, std::uint64_t n, std::int32_t type, std::int32_t peer, const void* comm,
             void* stream) {
  return nccl::transfer({reinterpret_cast<std::uintptr_t>(from), n, type, peer, 0, 0}, comm, stream);
}
int ncclRecv(void* to, std::uint64_t n, std::int32_t type, std::int32_t peer, const void* comm,
             void* stream) {
  return nccl::transfer({reinterpret_cast<std::uintptr_t>(to), n, type, peer, 1, 0}, comm, stream);
}

int ncclRedOpCreatePreMulSum(std::int32_t* op, void* scalar, std::int32_t type, std::int32_t residence,
                             const void* comm) {
  return residence == kScalarOnHost ? nccl_pre_multiply_host(op, scalar, type, residence, comm)
                                    : nccl_pre_multiply_device(op, scalar, type, residence, comm);
}

/// Ordinary device memory: collectives work on it; what NCCL registers beyond that is left out.
int ncclMemAlloc(void** address, std::size_t bytes) {
  using Allocate = int (*)(void**, std::size_t);
  if (address == nullptr) return kInvalidArgument;
  *address = nullptr;
  if (bytes == 0) return kSuccess;
  const auto allocate = nccl::driver<Allocate>("cuMemAlloc_v2");
  return allocate != nullptr && allocate(address, bytes) == 0 ? kSuccess : kUnhandledCudaError;
}

int ncclMemFree(void* address) {
  using Free = int (*)(void*);
  if (address == nullptr) return kSuccess;
  const auto release = nccl::driver<Free>("cuMemFree_v2");
  return release != nullptr && release(address) == 0 ? kSuccess : kUnhandledCudaError;
}

const char* ncclGetErrorString(int status) {
  static constexpr const char* kWords[] = {
      "no error",
      "unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
      "unhandled system error (run with NCCL_DEBUG=INFO for details)",
      "internal error - please report this issue to the NCCL developers",
      "invalid argument (run with NCCL_DEBUG=WARN for details)",
      "invalid usage (run with NCCL_DEBUG=WARN for details)",
      "remote process exited or there was a network error",
      "NCCL operation in progress",
  };
  constexpr int kCount = sizeof kWords / sizeof kWords[0];
  return status >= 0 && status < kCount ? kWords[status] : "unknown result code";
}

/// What the executor's library says is in the executor's log.
const char* ncclGetLastError(const void*) { return ""; }
void ncclResetDebugInit() {}

// Profilers that replace a function call the original by these names.
#define AVEC_PROFILED(NAME) decltype(NAME) p##NAME __attribute__((alias(#NAME)))
AVEC_PROFILED(ncclGetUniqueId);
AVEC_PROFILED(ncclCommInitRank);
AVEC_PROFILED(ncclCommInitRankConfig);
AVEC_PROFILED(ncclCommInitRankScalable);
AVEC_PROFILED(ncclCommInitAll);
AVEC_PROFILED(ncclCommSplit);
AVEC_PROFILED(ncclCommShrink);
AVEC_PROFILED(ncclGroupStart);
AVEC_PROFILED(ncclGroupEnd);
AVEC_PROFILED(ncclSend);
AVEC_PROFILED(ncclRecv);
AVEC_PROFILED(ncclRedOpCreatePreMulSum);
AVEC_PROFILED(ncclMemAlloc);
AVEC_PROFILED(ncclMemFree);
AVEC_PROFILED(ncclGetErrorString);
AVEC_PROFILED(ncclGetLastError);
AVEC_PROFILED(ncclResetDebugInit);
}
