// Physical memory passed from one worker to another of the same machine: the exporting worker
// listens on a socket of its own, and whoever presents an export's secret gets the descriptor.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/handle.h"

namespace avec::worker {

/// A CUipcMemHandle: 16 bytes that are the client's, then where to ask, then the secret.
using IpcBytes = std::array<std::byte, 64>;

struct ImportedMemory {
  Descriptor descriptor;
  std::uint64_t bytes = 0;
};

/// What one session exports. The socket and its thread live from the object's making to its end.
class MemoryExports {
 public:
  /// Null when no socket can be had.
  static std::unique_ptr<MemoryExports> open();
  ~MemoryExports();
  MemoryExports(const MemoryExports&) = delete;
  MemoryExports& operator=(const MemoryExports&) = delete;

  /// The handle under which the descriptor can be had. `tag` says what it is of: memory that was
  /// exported before keeps its handle. Nothing: limits::kMaxExports are out, or no random bytes.
  std::optional<IpcBytes> add(std::uint64_t tag, Descriptor descriptor, std::uint64_t bytes);
  /// The memory of this tag has gone: its descriptor would keep it.
  void remove(std::uint64_t tag);

 private:
  MemoryExports() = default;
  void serve();
  void answer(int peer);

  static constexpr std::size_t kNameBytes = 16, kSecretBytes = 32;
  using Secret = std::array<std::byte, kSecretBytes>;
  struct Export {
    std::uint64_t tag = 0;
    Secret secret{};
    Descriptor descriptor;
    std::uint64_t bytes = 0;
  };

  std::array<std::byte, kNameBytes> name_{};  // of the socket, in the abstract namespace
  Descriptor listener_, end_;
  std::mutex mutex_;
  std::vector<Export> exports_;  // guarded by mutex_
  std::thread thread_;

  friend std::optional<ImportedMemory> import_memory(const IpcBytes& handle);
};

/// Asks the exporting worker. Nothing: it is gone, or the secret is wrong. Waits a second at most.
std::optional<ImportedMemory> import_memory(const IpcBytes& handle);

}  // namespace avec::worker
