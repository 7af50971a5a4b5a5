// A session with an executor, and what it says of itself.
//
//   avec::Executor executor = avec::Executor::connect({.url = "tcp://edge:7700"});
//   avec::Buffer x = executor.allocate(n * sizeof(float));
//   x.copy_from(std::as_bytes(std::span(values)));
//   avec::Kernel kernel = executor.load_module(ptx).kernel("scale");
//   kernel.launch({.grid = {blocks}, .block = {256}}, x, 2.0f, n);
//   x.copy_to(std::as_writable_bytes(std::span(values)));
//
// Objects are handles: copying one shares it, and all of a session end before the session does.
// Every function may be called from any thread and throws avec::CudaError. Work is posted: an error
// of posted work is thrown by the next call that waits (copy_to, synchronize, elapsed_ms).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "avec/buffer.h"
#include "avec/error.h"
#include "avec/module.h"
#include "avec/stream.h"
#include "avec/transport.h"

namespace avec {

struct ConnectOptions {
  /// scheme://...; auto://HOST:PORT takes the best transport that both ends can; empty: $AVEC_EXECUTOR,
  /// the settings file, auto://127.0.0.1:7700.
  std::string url;
  /// "auto", "cuda" or "cpu".
  std::string device = "auto";
  /// File with the shared secret; empty: $AVEC_TOKEN_FILE, or none.
  std::string token_file;
  /// For connecting, authenticating and the first answer together.
  std::chrono::milliseconds deadline{5000};
  WaitMode wait = WaitMode::kAdaptive;
  /// Of kAdaptive: how long a waiter polls before it sleeps.
  std::chrono::microseconds spin{50};
};

struct DeviceInfo {
  std::string name;
  std::string pci_bus_id;
  std::uint64_t memory_bytes = 0;
  int compute_major = 0, compute_minor = 0;
  int multiprocessors = 0;
  int max_threads_per_block = 0;
};

/// Since the session was opened.
struct Statistics {
  std::uint64_t posted = 0;       ///< calls sent without waiting
  std::uint64_t waited = 0;       ///< calls that waited for a reply
  std::uint64_t round_trips = 0;  ///< waits for the executor
  std::uint64_t bytes_sent = 0, bytes_received = 0;
};

class Executor {
 public:
  /// Opens a session. Throws ConnectError.
  static Executor connect(const ConnectOptions& options = {});

  std::string url() const;
  /// What the session travels over: "tcp://127.0.0.1:7700", "shm://..."; not always url()'s transport.
  std::string link() const;
  /// "cuda" or "cpu".
  std::string device_kind() const;
  /// Why the executor chose that kind, in words; may be empty.
  std::string device_reason() const;
  /// The executor's AVEC release.
  std::string release() const;
  /// 13000 for CUDA 13.0.
  int driver_version() const;

  const std::vector<DeviceInfo>& devices() const;
  /// The device that objects made from here on belong to; 0 at first.
  void use_device(int device);

  Buffer allocate(std::size_t bytes);
  /// PTX text, cubin or fatbin.
  Module load_module(std::span<const std::byte> image);
  Module load_module(std::string_view ptx);
  Stream create_stream();
  /// The legacy default stream: ordered with all other streams of the device.
  Stream default_stream();
  Event create_event();

  /// Waits for all work of the device in use and throws its error.
  void synchronize();
  /// One round trip that does nothing on the executor.
  std::chrono::nanoseconds ping();
  Statistics statistics() const;
  /// Ends the session in order. Idempotent; the last handle's destructor does it too.
  void close();

  struct State;

 private:
  explicit Executor(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

}  // namespace avec
