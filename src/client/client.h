// One session seen as a CUDA driver: its devices, memory, contexts and errors. The driver shim
// uses the one of the process (process.h); the C++ library opens its own.
#pragma once

#include <cuda.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "avec/transport.h"
#include "client/address_range.h"
#include "client/errors.h"
#include "transport/tls/context.h"

namespace avec::wire {
enum class Opcode : std::uint16_t;
}

namespace avec::session {
class Session;
}

namespace avec::client {

struct Context;
class Device;
class Coherence;
class Heap;
class HostMemory;
class ManagedMemory;
class Payload;
class Watched;
class ForeignRanges;
class Trace;
class Pools;
class SharedMemory;
class VirtualMemory;

/// What is chosen before a session is opened; text fields as in the settings of the same name.
struct ConnectOptions {
  std::string executor, device = "auto", token, program, wait = "adaptive";
  bool bind_address_ranges = true;
  std::chrono::milliseconds connect_deadline{5000};
  std::chrono::microseconds spin{50};
  unsigned copy_threads = 0;
  unsigned tcp_streams = 0;  ///< session::Options
  Trace* trace = nullptr;    ///< of this session; outlives it
  std::string coherence = "auto";
  // session::Options
  tls::Credentials credentials;
  std::string server_name;
  tls::Encryption encryption = tls::Encryption::kAuto;
};

struct OpenFailure {
  CUresult error;
  std::string message;  ///< one sentence: what happened and what to do
};

/// From the settings of the process; fails when the token file cannot be read.
std::expected<ConnectOptions, OpenFailure> options_from_settings();

/// Text that a kernel printed, to stdout (1) or stderr (2) of this process.
void write_device_output(int descriptor, std::string_view text);

class Client {
 public:
  /// Connects within the deadline.
  static std::expected<std::unique_ptr<Client>, OpenFailure> open(const ConnectOptions& options);
  /// Over a session that exists (tests). `device_range` and `host_range` of its hello must be
  /// free in this process.
  explicit Client(std::shared_ptr<session::Session> session, unsigned copy_threads = 0,
                  std::string_view coherence = "auto");
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  session::Session& session() { return *session_; }
  /// A name that this session has not used before.
  std::uint64_t mint() { return next_name_.fetch_add(1, std::memory_order_relaxed); }
  /// `count` names in a row; the first.
  std::uint64_t mint(std::uint64_t count) { return next_name_.fetch_add(count, std::memory_order_relaxed); }

  int device_count() const { return static_cast<int>(devices_.size()); }
  /// Null when there is no such device.
  Device* device(CUdevice ordinal);
  int driver_version() const { return driver_version_; }

  Heap& heap() { return *heap_; }
  HostMemory& host_memory() { return *host_memory_; }
  ManagedMemory& managed() { return *managed_; }
  Coherence& coherence() { return *coherence_; }
  /// Kernels may be given the address of host memory: Coherence::before_kernel looks at launches.
  bool launches_watched() const { return launches_watched_.load(std::memory_order_relaxed); }
  void watch_launches() { launches_watched_.store(true, std::memory_order_relaxed); }
  /// There is, or was, memory that host and device both use.
  bool coherent() const { return coherent_.load(std::memory_order_relaxed); }
  void note_coherent_memory() {
    coherent_.store(true, std::memory_order_relaxed);
    watch_launches();
  }
  Payload& payload() { return *payload_; }
  Pools& pools() { return *pools_; }
  VirtualMemory& virtual_memory() { return *virtual_memory_; }
  SharedMemory& shared_memory() { return *shared_memory_; }
  Watched& watched() { return *watched_; }
  ForeignRanges& foreign_ranges() { return *foreign_ranges_; }
  DeferredErrors& deferred_errors() { return deferred_errors_; }

  /// The primary context's object of a device; exists always, active or not.
  Context* primary(CUdevice ordinal);
  void add_context(Context* context);
  /// Contexts that are active now.
  std::size_t active_contexts();

  /// From now on there are streams that do not wait for each other.
  void note_unordered_streams() { unordered_streams_.store(true, std::memory_order_relaxed); }
  bool unordered_streams() const { return unordered_streams_.load(std::memory_order_relaxed); }

  /// What a synchronising call returns: its own result, else the error of a posted call.
  CUresult synchronized(CUresult own);
  /// Called by the session when a posted call failed or the session ended. Any thread.
  void posted_call_failed(int status);
  void session_lost(const std::string& reason);
  void pushed(wire::Opcode opcode, ConstBytes body);
  bool lost() const { return lost_.load(std::memory_order_acquire); }
  bool closed() const { return closed_.load(std::memory_order_acquire); }

  /// Orderly end of the session: contexts answer `error` from now on. Idempotent.
  void close(CUresult error = CUDA_ERROR_DEINITIALIZED);
  /// In the child of a fork: everything is forgotten, nothing is sent.
  void abandon_after_fork() noexcept;

 private:
  Client();
  void adopt(std::shared_ptr<session::Session> session, AddressReservation device_range,
             AddressReservation host_range, unsigned copy_threads, std::string_view coherence);
  void adopt_devices();

  std::shared_ptr<session::Session> session_;  // the engine's progress thread holds it as well
  std::atomic<std::uint64_t> next_name_{1};
  std::vector<std::unique_ptr<Device>> devices_;
  std::unique_ptr<Heap> heap_;
  std::unique_ptr<HostMemory> host_memory_;
  std::unique_ptr<Pools> pools_;
  std::unique_ptr<VirtualMemory> virtual_memory_;
  std::unique_ptr<SharedMemory> shared_memory_;
  std::unique_ptr<ManagedMemory> managed_;
  std::unique_ptr<Coherence> coherence_;
  std::unique_ptr<Payload> payload_;
  const std::unique_ptr<Watched> watched_;  // before the session: it is told of pushes
  std::unique_ptr<ForeignRanges> foreign_ranges_;
  DeferredErrors deferred_errors_;
  int driver_version_ = 0;
  std::mutex contexts_mutex_;
  std::vector<Context*> contexts_;   // every live one, primaries too; guarded by contexts_mutex_
  std::vector<Context*> primaries_;  // by ordinal; fixed once opened
  std::atomic<bool> unordered_streams_{false};
  std::atomic<bool> launches_watched_{false};
  std::atomic<bool> coherent_{false};
  std::atomic<bool> lost_{false};
  std::atomic<bool> closed_{false};
};

}  // namespace avec::client
