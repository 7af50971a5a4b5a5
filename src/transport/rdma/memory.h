// One-sided access over RDMA: memory regions of this end, windows the peer reaches them through, and
// RDMA READs and WRITEs of the peer's memory.
//
// A region is registered for this end only. allow() binds a type-2 memory window to exactly the range
// with exactly the right; it works for this queue pair only and ends with LOCAL_INV, which revoke()
// waits for. Adapters without type-2 windows, and memory that this process may not write, get a
// registration of their own for each key instead, which is slower. A window is used again with another key
// (the low 8 bits of an rkey count up).
//
// Life of a window:
//
//   state        left by           when
//   kFree        allow()           a bind is posted; the key in a later message finds it done
//   kBound       revoke()          LOCAL_INV is posted
//   kEnding      its completion    -> kFree; after an error of the queue pair nothing of the peer
//                                  comes in any more, and the window is given back to the adapter
#pragma once

#include <array>
#include <map>
#include <memory>
#include <vector>

#include "avec/one_sided.h"
#include "transport/rdma/queue_pair.h"

namespace avec::rdma {

class Memory final : public OneSided, private WorkOwner {
 public:
  explicit Memory(QueuePair& queue_pair);

  OneSidedTraits traits() const noexcept override;
  MemoryResult allocate(std::size_t bytes, void* wish) noexcept override;
  void free(MutableBytes memory, bool keep_reserved) noexcept override;
  TransportError add(MutableBytes memory) noexcept override;
  TransportError add_device(std::uint64_t address, std::size_t bytes, int dma_buf,
                            std::uint64_t offset) noexcept override;
  void remove(MutableBytes memory) noexcept override;
  TransportError allow(MutableBytes range, RemoteAccess access, RemoteKey& key) noexcept override;
  void revoke(const RemoteKey& key) noexcept override;
  MappedMemory mapped(const RemoteKey&) noexcept override { return {}; }
  IoResult read(const RemoteKey& key, std::uint64_t offset, MutableBytes into,
                std::uint64_t token) noexcept override;
  IoResult write(const RemoteKey& key, std::uint64_t offset, ConstBytes from,
                 std::uint64_t token) noexcept override;
  std::size_t completed(std::span<OneSidedCompletion> ended) noexcept override;

  /// The driving thread is about to sleep; to be called before busy() is asked for that.
  void set_asleep(bool asleep) noexcept { asleep_ = asleep; }
  /// completed() has something. The driving thread; not locked.
  bool has_completed() const noexcept {
    return finished_.load(std::memory_order_acquire) != taken_.load(std::memory_order_relaxed);
  }
  /// Accesses are under way: sends must be polled and armed.
  bool busy() const noexcept { return started_.load() != finished_.load(std::memory_order_acquire); }
  /// Gives back every window; the queue pair has been stopped.
  void end_windows() noexcept;
  /// Gives back every registration; the queue pair has been destroyed. Memory of allocate() stays
  /// mapped.
  void end_regions() noexcept;

 private:
  using Registration = std::unique_ptr<ibv_mr, int (*)(ibv_mr*)>;
  using WindowObject = std::unique_ptr<ibv_mw, int (*)(ibv_mw*)>;

  struct Region {
    MutableBytes bytes;
    Registration registration{nullptr, nullptr};  // null after end_regions()
    bool writable = true;
    bool device = false;     // of add_device(): for this end's accesses only, and no processor reads it
    std::uint32_t adds = 1;  // of exactly these bytes, not yet removed; 0: kept for its keys only
    std::uint32_t keys = 0;  // windows that reach into it
    std::uint32_t uses = 0;  // accesses under way into or from it
    std::uint32_t registering = 0;  // keys of registrations that are being made
    bool parked = false;            // removed: goes with its last key and access
  };
  enum class WindowState : std::uint8_t { kFree, kBound, kEnding };
  struct Window {
    WindowState state = WindowState::kFree;
    WindowObject object{nullptr, nullptr};        // type 2
    Registration registration{nullptr, nullptr};  // instead of it
    std::uint32_t rkey = 0;
    std::uint32_t index = 0;
    std::uint32_t generation = 0;  // counts its lives
    RemoteKey key;
    Region* region = nullptr;
  };
  struct Access {
    std::uint64_t token = 0;
    Region* region = nullptr;
    TransportError error;
    bool ended = false;
  };
  using Lock = std::unique_lock<std::mutex>;

  void ended(std::uint64_t word, TransportError error) noexcept override;

  TransportError add_region(MutableBytes memory);
  void remove_region(Region& region, Lock& lock) noexcept;
  void erase_if_unused(Region& region) noexcept;
  Region* find(const std::byte* begin, std::size_t bytes) noexcept;
  Region* find_exact(MutableBytes memory) noexcept;
  /// Takes a window; `alone`: it needs no window of the adapter.
  Window* free_window(bool alone) noexcept;
  void release(Window& window) noexcept;
  TransportError bind(Window& window, MutableBytes range, RemoteAccess access) noexcept;
  /// remove() of the region waits for it; if that has begun when it ends, there is no registration.
  TransportError register_alone(Region& region, MutableBytes range, RemoteAccess access,
                                Registration& registration, Lock& lock) noexcept;
  void revoke_window(Window& window, Lock& lock) noexcept;
  IoResult start(ibv_wr_opcode opcode, const RemoteKey& key, std::uint64_t offset, ConstBytes here,
                 std::uint64_t token) noexcept;
  /// Polls until `done` says so, the queue pair fails or kRevokeDeadline passes. False: it passed.
  template <class Done>
  bool wait_until(Lock& lock, Done done) noexcept;

  QueuePair& pair_;
  const bool type2_;
  // Everything below is guarded by pair_.mutex().
  std::multimap<const std::byte*, std::unique_ptr<Region>> regions_;  // by their first byte
  std::vector<std::unique_ptr<Window>> windows_;
  std::vector<std::uint32_t> free_windows_;
  // Accesses, by the order of their starts. A ring: those from taken_ on have ended and wait for
  // completed(), those from finished_ on are under way.
  std::array<Access, kAccesses> accesses_{};
  std::atomic<std::uint64_t> started_{0}, finished_{0};
  std::atomic<std::uint64_t> taken_{0};
  // The driving thread sleeps or is about to: who starts an access arms the send queue first.
  std::atomic<bool> asleep_{false};
};

}  // namespace avec::rdma
