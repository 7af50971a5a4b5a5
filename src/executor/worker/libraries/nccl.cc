// NCCL on the executor: what it reads from its environment, and sends and receives of a group in one call.
#include "libraries/nccl.h"

#include <cstdint>
#include <cstdlib>

#include "executor/worker/libraries.h"

namespace {

constexpr std::uint16_t kNccl = 8;  // schemas/libraries/nccl.api
constexpr int kInternalError = 3;

using Group = int (*)();
using Transfer = int (*)(std::uint64_t address, std::uint64_t count, int type, int peer, const void* comm,
                         const void* stream);

template <class Function>
Function symbol(const char* name) {
  return reinterpret_cast<Function>(avec_library_symbol(kNccl, name));
}

}  // namespace

extern "C" {
int nccl_prepare();
int nccl_exchange(int count, const void* transfers, const void* comm, const void* stream);
}

/// Ranks of one session share the loop that posts: a rank that waited there for another, at its first
/// collective, would keep that one from being posted. So connections are made with the communicator,
/// on helpers.
int nccl_prepare() {
  ::setenv("NCCL_RUNTIME_CONNECT", "0", 0);
  return 0;
}

int nccl_exchange(int count, const void* transfers, const void* comm, const void* stream) {
  const auto start = symbol<Group>("ncclGroupStart");
  const auto end = symbol<Group>("ncclGroupEnd");
  const auto send = symbol<Transfer>("ncclSend");
  const auto receive = symbol<Transfer>("ncclRecv");
  if (start == nullptr || end == nullptr || send == nullptr || receive == nullptr) return kInternalError;
  const auto* all = static_cast<const avec::libraries::NcclTransfer*>(transfers);
  int status = start();
  if (status != 0) return status;
  for (int i = 0; i < count; ++i) {
    const auto& one = all[i];
    const int done =
        (one.receives != 0 ? receive : send)(one.address, one.count, one.type, one.peer, comm, stream);
    if (status == 0) status = done;
  }
  const int done = end();
  return status != 0 ? status : done;
}
