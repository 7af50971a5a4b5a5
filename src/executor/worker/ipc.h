// Physical memory and events passed from one worker to another of the same machine: the exporting worker
// listens on a socket of its own, and whoever presents an export's secret gets the memory's descriptor, or
// the driver's handle of the event.
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

/// A CUipcMemHandle or CUipcEventHandle: 16 bytes that are the client's, then where to ask, then the secret.
using IpcBytes = std::array<std::byte, 64>;

/// What an export is of. Names and addresses are numbers of the client's: they never stand for each other.
struct ExportTag {
  enum class Kind : std::uint8_t { kAddress, kMemory, kEvent };
  Kind kind = Kind::kAddress;
  std::uint64_t value = 0;
  bool operator==(const ExportTag&) const = default;
};

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
  std::optional<IpcBytes> add(const ExportTag& tag, Descriptor descriptor, std::uint64_t bytes);
  /// The same for an event, by the driver's handle of it.
  std::optional<IpcBytes> add_event(const ExportTag& tag, const IpcBytes& driver_handle);
  /// What has this tag has gone: a descriptor would keep it.
  void remove(const ExportTag& tag);

 private:
  MemoryExports() = default;
  void serve();
  void answer(int peer);

  static constexpr std::size_t kNameBytes = 16, kSecretBytes = 32;
  using Secret = std::array<std::byte, kSecretBytes>;
  struct Export {
    ExportTag tag;
    Secret secret{};
    Descriptor descriptor;
    std::uint64_t bytes = 0;
    IpcBytes event{};  ///< the driver's handle, of an event
  };
  std::optional<IpcBytes> add(Export made);

  std::array<std::byte, kNameBytes> name_{};  // of the socket, in the abstract namespace
  Descriptor listener_, end_;
  std::mutex mutex_;
  std::vector<Export> exports_;  // guarded by mutex_
  std::thread thread_;

  friend Descriptor ask_for(const IpcBytes& handle);
};

/// Asks the exporting worker. Nothing: it is gone, or the secret is wrong. Waits a second at most.
std::optional<ImportedMemory> import_memory(const IpcBytes& handle);

/// The same for an event: the driver's handle.
std::optional<IpcBytes> import_event(const IpcBytes& handle);

}  // namespace avec::worker
