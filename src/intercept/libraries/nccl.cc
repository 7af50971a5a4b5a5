// NCCL on the client: configurations without the pointers in them, memory, operators, words of errors.
#include <dlfcn.h>

#include <algorithm>
#include <climits>
#include <cstdint>
#include <cstring>

#include "libraries/abi.h"
#include "libraries/nccl.h"

using namespace avec::libraries;

// The generated functions of schemas/libraries/nccl.api.
extern "C" {
int nccl_init_rank_config(void* comm, std::int32_t ranks, Bytes<128> id, std::int32_t rank, const void* config);
int nccl_init_rank_scalable(void* comm, std::int32_t ranks, std::int32_t rank, std::int32_t ids, const void* id,
                            const void* config);
int nccl_split(const void* comm, std::int32_t color, std::int32_t key, void* made, const void* config);
int nccl_shrink(const void* comm, const std::int32_t* excluded, std::int32_t count, void* made, const void* config,
                std::int32_t flags);
int nccl_pre_multiply_host(std::int32_t* op, const void* scalar, std::int32_t type, std::int32_t residence, const void* comm);
int nccl_pre_multiply_device(std::int32_t* op, void* scalar, std::int32_t type, std::int32_t residence, const void* comm);
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
  constexpr NcclConfig kDefault{sizeof(NcclConfig), kConfigMagic, 22800,   INT_MIN, INT_MIN, INT_MIN, INT_MIN, nullptr,
                                INT_MIN,            INT_MIN,      nullptr, INT_MIN, INT_MIN, INT_MIN, INT_MIN, INT_MIN,
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

/// The driver's function, of whichever libcuda.so.1 the program uses.
template <class Function>
Function driver(const char* name) {
  static void* const library = dlopen("libcuda.so.1", RTLD_LAZY);
  return library == nullptr ? nullptr : reinterpret_cast<Function>(dlsym(library, name));
}

}  // namespace

extern "C" {

int ncclCommInitRankConfig(void* comm, std::int32_t ranks, Bytes<128> id, std::int32_t rank, const void* config) {
  NcclConfig sent;
  const int status = portable(config, sent);
  return status != kSuccess ? status : nccl_init_rank_config(comm, ranks, id, rank, &sent);
}

int ncclCommInitRankScalable(void* comm, std::int32_t ranks, std::int32_t rank, std::int32_t ids, const void* id,
                             const void* config) {
  NcclConfig sent;
  const int status = portable(config, sent);
  return status != kSuccess ? status : nccl_init_rank_scalable(comm, ranks, rank, ids, id, &sent);
}

int ncclCommSplit(const void* comm, std::int32_t color, std::int32_t key, void** made, const void* config) {
  NcclConfig sent;
  if (const int status = portable(config, sent); status != kSuccess) return status;
  const int status = nccl_split(comm, color, key, made, &sent);
  // This rank takes part in the call, and in none of the new communicators.
  if (status == kSuccess && color == kNoColor) *made = nullptr;
  return status;
}

int ncclCommShrink(const void* comm, const std::int32_t* excluded, std::int32_t count, void* made, const void* config,
                   std::int32_t flags) {
  NcclConfig sent;
  const int status = portable(config, sent);
  return status != kSuccess ? status : nccl_shrink(comm, excluded, count, made, &sent, flags);
}

int ncclRedOpCreatePreMulSum(std::int32_t* op, void* scalar, std::int32_t type, std::int32_t residence, const void* comm) {
  return residence == kScalarOnHost ? nccl_pre_multiply_host(op, scalar, type, residence, comm)
                                    : nccl_pre_multiply_device(op, scalar, type, residence, comm);
}

/// Ordinary device memory: collectives work on it; what NCCL registers beyond that is left out.
int ncclMemAlloc(void** address, std::size_t bytes) {
  using Allocate = int (*)(void**, std::size_t);
  if (address == nullptr) return kInvalidArgument;
  *address = nullptr;
  if (bytes == 0) return kSuccess;
  const auto allocate = driver<Allocate>("cuMemAlloc_v2");
  return allocate != nullptr && allocate(address, bytes) == 0 ? kSuccess : kUnhandledCudaError;
}

int ncclMemFree(void* address) {
  using Free = int (*)(void*);
  if (address == nullptr) return kSuccess;
  const auto release = driver<Free>("cuMemFree_v2");
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
int pncclCommInitRankConfig(void* comm, std::int32_t ranks, Bytes<128> id, std::int32_t rank, const void* config) {
  return ncclCommInitRankConfig(comm, ranks, id, rank, config);
}
int pncclCommInitRankScalable(void* comm, std::int32_t ranks, std::int32_t rank, std::int32_t ids, const void* id,
                              const void* config) {
  return ncclCommInitRankScalable(comm, ranks, rank, ids, id, config);
}
int pncclCommSplit(const void* comm, std::int32_t color, std::int32_t key, void** made, const void* config) {
  return ncclCommSplit(comm, color, key, made, config);
}
int pncclCommShrink(const void* comm, const std::int32_t* excluded, std::int32_t count, void* made, const void* config,
                    std::int32_t flags) {
  return ncclCommShrink(comm, excluded, count, made, config, flags);
}
int pncclRedOpCreatePreMulSum(std::int32_t* op, void* scalar, std::int32_t type, std::int32_t residence, const void* comm) {
  return ncclRedOpCreatePreMulSum(op, scalar, type, residence, comm);
}
int pncclMemAlloc(void** address, std::size_t bytes) { return ncclMemAlloc(address, bytes); }
int pncclMemFree(void* address) { return ncclMemFree(address); }
const char* pncclGetErrorString(int status) { return ncclGetErrorString(status); }
const char* pncclGetLastError(const void* comm) { return ncclGetLastError(comm); }
void pncclResetDebugInit() {}
}
