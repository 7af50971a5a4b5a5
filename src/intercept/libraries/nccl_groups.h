// Groups of NCCL calls, which belong to the calling thread.
#pragma once

#include <dlfcn.h>

#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "libraries/nccl.h"

// The generated functions of schemas/libraries/nccl.api.
extern "C" {
int nccl_group_start();
int nccl_group_end();
int nccl_send(void* from, std::uint64_t count, std::int32_t type, std::int32_t peer, const void* comm,
              void* stream);
int nccl_recv(void* to, std::uint64_t count, std::int32_t type, std::int32_t peer, const void* comm,
              void* stream);
int nccl_exchange(std::int32_t count, const void* transfers, const void* comm, void* stream);
}

namespace avec::libraries::nccl {

/// The driver's function, of whichever libcuda.so.1 the program uses.
template <class Function>
Function driver(const char* name) {
  static void* const library = dlopen("libcuda.so.1", RTLD_LAZY);
  return library == nullptr ? nullptr : reinterpret_cast<Function>(dlsym(library, name));
}

inline void* current_context() {
  static const auto get = driver<int (*)(void**)>("cuCtxGetCurrent");
  void* context = nullptr;
  if (get != nullptr) get(&context);
  return context;
}
inline void use_context(void* context) {
  static const auto set = driver<int (*)(void*)>("cuCtxSetCurrent");
  if (set != nullptr && context != nullptr) set(context);
}

/// A call kept until its group ends, and the context that was current when it was made.
struct Kept {
  void* context;
  std::function<int()> call;
};

/// What a thread's group holds. Calls of one communicator in one stream that are all sends and
/// receives go as one call that waits: they connect to their peers when they first meet, and the
/// executor must go on posting for the peers meanwhile.
struct Group {
  int depth = 0;
  std::vector<Kept> making, posting;
  std::vector<NcclTransfer> transfers;
  const void* comm = nullptr;
  void* stream = nullptr;
  bool one_pair = true;  ///< every call so far is a transfer of `comm` in `stream`
};

inline Group& group() {
  thread_local Group mine;
  return mine;
}

/// Held while the calls of one group are posted, so that no other thread's come between.
inline std::mutex& posting() {
  static std::mutex& mutex = *new std::mutex;
  return mutex;
}

inline int make(std::function<int()> call) {
  Group& mine = group();
  if (mine.depth == 0) return call();
  mine.making.push_back({current_context(), std::move(call)});
  return 0;
}

inline int collective(std::function<int()> call) {
  Group& mine = group();
  if (mine.depth == 0) {
    const std::scoped_lock lock(posting());
    return call();
  }
  mine.posting.push_back({current_context(), std::move(call)});
  mine.one_pair = false;
  return 0;
}

inline int transfer(const NcclTransfer& one, const void* comm, void* stream) {
  Group& mine = group();
  if (mine.depth == 0) return nccl_exchange(1, &one, comm, stream);
  if (mine.posting.empty()) {
    mine.comm = comm;
    mine.stream = stream;
  }
  mine.one_pair = mine.one_pair && mine.comm == comm && mine.stream == stream;
  mine.transfers.push_back(one);
  mine.posting.push_back({current_context(), [one, comm, stream] {
                            void* const address =
                                reinterpret_cast<void*>(static_cast<std::uintptr_t>(one.address));
                            return one.receives != 0
                                       ? nccl_recv(address, one.count, one.type, one.peer, comm, stream)
                                       : nccl_send(address, one.count, one.type, one.peer, comm, stream);
                          }});
  return 0;
}

inline int group_start() {
  ++group().depth;
  return 0;
}

/// Communicators of one group wait for each other: each is made by a thread of its own.
inline int make_all(std::vector<Kept>& making) {
  if (making.size() == 1) return making.front().call();
  std::vector<int> statuses(making.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < making.size(); ++i) {
    threads.emplace_back([&, i] {
      use_context(making[i].context);
      statuses[i] = making[i].call();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const int status : statuses)
    if (status != 0) return status;
  return 0;
}

inline int post_all(const std::vector<Kept>& calls) {
  void* const before = current_context();
  const std::scoped_lock lock(posting());
  int status = nccl_group_start();
  for (const Kept& kept : calls) {
    use_context(kept.context);
    const int one = kept.call();
    if (status == 0) status = one;
  }
  use_context(before);
  const int last = nccl_group_end();
  return status != 0 ? status : last;
}

inline int group_end() {
  constexpr int kInvalidUsage = 5;
  Group& mine = group();
  if (mine.depth == 0) return kInvalidUsage;
  if (--mine.depth != 0) return 0;
  Group ended = std::exchange(mine, Group{});
  if (!ended.making.empty()) {
    if (const int status = make_all(ended.making); status != 0) return status;
  }
  if (ended.posting.empty()) return 0;
  if (ended.one_pair)
    return nccl_exchange(static_cast<std::int32_t>(ended.transfers.size()), ended.transfers.data(),
                         ended.comm, ended.stream);
  return post_all(ended.posting);
}

}  // namespace avec::libraries::nccl
