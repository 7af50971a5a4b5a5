// One warp: its lanes' frames, the fragments that its diverged lanes form, and what handlers
// need of it.
#pragma once

#include <array>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "devices/cpu/ptx/program.h"

namespace avec::cpu::ptx {

class Block;
class Run;

/// One call of a function by some lanes of a warp. It lives until the last of them returns.
struct Frame {
  const Function* function = nullptr;
  Frame* parent = nullptr;
  const Call* call = nullptr;
  Mask lanes = 0;
  std::uint32_t depth = 0;
  std::uint32_t return_to = 0;
  std::uint32_t local_base = 0;  ///< offset of this call's .local variables
  std::uint32_t dynamic_local = 0;  ///< bytes that alloca has added behind them
  std::unique_ptr<std::byte[]> storage;
  std::size_t capacity = 0;
  std::byte* registers = nullptr;  ///< 64-byte aligned, inside storage
};

enum class FragmentState : std::uint8_t { kReady, kSync, kBarrier };

/// Lanes that run together: same frame, same instruction.
struct Fragment {
  Frame* frame = nullptr;
  std::uint32_t pc = 0;
  Mask mask = 0;
  FragmentState state = FragmentState::kReady;
  std::uint32_t turn = 0;            ///< lower turns run first; raised when patience ran out
  const Instruction* waits = nullptr;  ///< the barrier
};

enum class Pause : std::uint8_t { kSlice, kBlocked, kDone, kFault };

class Warp {
 public:
  Warp(Block& block, Run& run, std::uint32_t index, std::uint32_t threads);

  /// Runs up to `budget` instructions.
  Pause run(std::uint32_t budget);
  bool done() const { return live_ == 0; }
  bool ready() const;
  /// Barrier `id` has completed: those that wait go on. `value` is bar.red's result.
  void release_barrier(std::uint32_t id, std::uint32_t value);
  /// Lets a synchronising instruction go on without lanes that cannot come. False: none waits.
  bool force_sync();

  // For handlers.
  template <class T>
  const T* in(Ref ref) const {
    return reinterpret_cast<const T*>(bases_[ref >> 31] + (ref & ~kConstantBit));
  }
  template <class T>
  T* out(Ref ref) {
    return reinterpret_cast<T*>(bases_[0] + ref);
  }
  Mask predicate(Ref ref) const { return *in<Mask>(ref); }
  void set_predicate(Ref ref, Mask value, Mask mask) {
    if (ref == kNoRef) return;
    Mask& p = *out<Mask>(ref);
    p = (p & ~mask) | (value & mask);
  }
  /// Whether all lanes but those that no longer exist are in `mask`: then a handler may write
  /// them all.
  bool dense(Mask mask) const { return (mask | dead_) == kAllLanes; }
  void fault(Fault fault) {
    if (fault_ == Fault::kNone) fault_ = fault;
  }
  bool faulted() const { return fault_ != Fault::kNone; }
  Fault fault() const { return fault_; }
  /// After memory was freed.
  void forget_range() { range_ = {}; }
  Mask live() const { return live_; }
  /// Lanes that have arrived at the cluster's barrier, whose phase is not over.
  Mask cluster_arrived() const { return cluster_arrived_; }
  void set_cluster_arrived(Mask mask) { cluster_arrived_ = mask; }
  /// `bytes` more of local memory for the lanes of the current frame: an address in .local; faults when there is none.
  std::uint64_t grow_local(std::uint64_t bytes, std::uint64_t alignment);
  Frame& frame() { return *frame_; }
  Block& block() { return block_; }
  Run& launch() { return run_; }
  std::uint32_t index() const { return index_; }
  std::uint32_t line() const { return line_; }

  /// Host pointers of `bytes` at address register a + immediate, for the lanes of `mask`; null
  /// pointers elsewhere. False after a fault.
  bool resolve(const Instruction& in, Mask mask, unsigned bytes, bool write);
  std::byte* pointer(unsigned lane) const { return pointers_[lane]; }
  /// One generic address; null and a fault when it is wild.
  std::byte* resolve_generic(std::uint64_t address, unsigned lane, unsigned bytes, bool write);
  std::byte* local(unsigned lane) { return local_.data() + std::size_t{lane} * local_stride_; }
  /// The word-interleaved parameter area of the current frame.
  std::byte* parameters() { return bases_[0] + frame_->function->parameters_at; }

 private:
  void pick();
  void update_limit();
  void step_control(const Instruction& in, Mask mask);
  void unsupported(const Instruction& in);
  void branch(Mask taken, std::uint32_t target);
  void table(const Instruction& in, Mask mask);
  void call(const Instruction& in, Mask mask);
  void enter(const Function& callee, const Call& call, Mask mask);
  void leave_call(Mask mask);
  void exit_lanes(Mask mask);
  void barrier(const Instruction& in, Mask mask);
  void sync(const Instruction& in, Mask mask);
  void lose(Mask mask);
  void split(std::uint32_t pc, Mask mask, Frame* frame);
  void enter_frame(Frame* frame);
  Frame* new_frame(const Function& function);
  void free_frame(Frame* frame);
  bool ensure_local(std::uint64_t bytes);
  std::byte* global(std::uint64_t address, unsigned bytes, bool write);
  bool resolve_fast(const Instruction& in, Mask mask, unsigned bytes, bool write);
  bool resolve_lane(const Instruction& in, unsigned lane, std::uint64_t address, unsigned bytes, bool write);

  std::byte* bases_[2] = {nullptr, nullptr};
  Mask dead_ = 0, live_ = 0, cluster_arrived_ = 0;
  Frame* frame_ = nullptr;
  Fault fault_ = Fault::kNone;
  bool repick_ = false, yield_ = false, forced_ = false;
  std::uint32_t current_ = 0, count_ = 0, limit_ = 0, line_ = 0;
  std::int32_t patience_ = 0;
  std::array<Fragment, kLanes> fragments_;
  std::array<std::byte*, kLanes> pointers_{};
  AddressSpace::Range range_{};
  std::vector<std::unique_ptr<Frame>> frames_, free_frames_;
  std::vector<std::byte> local_;
  std::size_t local_stride_ = 0;
  Block& block_;
  Run& run_;
  std::uint32_t index_;
};

/// Calls f(lane) for each lane of the mask.
template <class F>
inline void for_lanes(Mask mask, F&& f) {
  for (; mask != 0; mask &= mask - 1) f(static_cast<unsigned>(std::countr_zero(mask)));
}

}  // namespace avec::cpu::ptx
