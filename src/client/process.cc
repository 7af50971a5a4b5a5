#include "client/process.h"

#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <utility>

#include "base/no_cancel.h"
#include "base/settings.h"
#include "client/client.h"
#include "client/context.h"
#include "client/stats.h"
#include "client/status.h"
#include "client/trace.h"

namespace avec::client {
namespace {

// Never destroyed: other threads may still call while the process ends.
std::mutex& opening() {
  static auto* mutex = new std::mutex;
  return *mutex;
}
std::atomic<Client*> the_client{nullptr};
std::atomic<int> the_error{CUDA_ERROR_NOT_INITIALIZED};  // while there is no client
std::atomic<bool> tried{false};                          // opened, or failed for good
std::atomic<bool> ended{false};
/// The program itself initialised CUDA; natively NVML alone does not, so that its forked children may.
std::atomic<bool> by_program{false};

void before_fork() { opening().lock(); }
void after_fork_in_parent() { opening().unlock(); }

void after_fork_in_child() {
  if (Client* client = the_client.exchange(nullptr)) {
    client->abandon_after_fork();  // and leaked: its locks may be held by threads that are gone
    forget_thread_after_fork();
    the_error.store(CUDA_ERROR_NOT_INITIALIZED);
    counting.store(Counting::kOff);
    forget_trace();
    if (!by_program.load()) tried.store(false);
  }
  opening().unlock();
}

void at_exit() {
  if (Client* client = the_client.load()) {
    client->close();
    write_stats();
    write_trace();
  }
  ended.store(true);
}

CUresult fail(const OpenFailure& failure) {
  say(failure.message);
  the_error.store(failure.error);
  tried.store(true);
  return failure.error;
}

CUresult open_client() {
  auto options = options_from_settings();
  if (!options) return fail(options.error());
  options->trace = process_trace();
  // Before it is open: a fork meanwhile waits, so that no child has a lock that nobody releases.
  const NoCancel no_cancel;
  // Once, also in a child that opens its own session; guarded by opening().
  static bool watches_forks = false, watches_exit = false;
  if (!std::exchange(watches_forks, true)) ::pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  auto client = Client::open(*options);
  if (!client) return fail(client.error());
  if (!std::exchange(watches_exit, true)) std::atexit(at_exit);
  the_client.store(client->release(), std::memory_order_release);
  tried.store(true);
  return CUDA_SUCCESS;
}

}  // namespace

CUresult process_init(bool program) {
  if (program) by_program.store(true, std::memory_order_relaxed);
  if (ended.load()) return CUDA_ERROR_DEINITIALIZED;
  if (the_client.load(std::memory_order_acquire) != nullptr) return CUDA_SUCCESS;
  std::scoped_lock lock(opening());
  if (the_client.load(std::memory_order_acquire) != nullptr) return CUDA_SUCCESS;
  if (tried.load()) return static_cast<CUresult>(the_error.load());
  return open_client();
}

Client* process_client(CUresult& error) noexcept {
  if (ended.load(std::memory_order_relaxed)) {
    error = CUDA_ERROR_DEINITIALIZED;
    return nullptr;
  }
  Client* client = the_client.load(std::memory_order_acquire);
  if (client == nullptr) error = static_cast<CUresult>(the_error.load());
  return client;
}

int process_driver_version() noexcept {
  const Client* client = the_client.load(std::memory_order_acquire);
  return client != nullptr ? client->driver_version() : CUDA_VERSION;
}

bool process_ended() noexcept { return ended.load(std::memory_order_relaxed); }

}  // namespace avec::client
