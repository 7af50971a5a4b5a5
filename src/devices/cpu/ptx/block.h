// A running kernel and its blocks.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "devices/cpu/ptx/program.h"
#include "devices/cpu/ptx/warp.h"

namespace avec::cpu::ptx {

/// What the blocks of one launch share. Thread-safe where blocks use it.
class Run {
 public:
  Run(const Program& program, const Function& kernel, const Launch& launch, const std::vector<AddressSpace::Range>& constants);

  Fault execute();

  const Program& program() const { return program_; }
  const Function& kernel() const { return kernel_; }
  const Launch& launch() const { return launch_; }
  std::uint64_t parameters_address() const { return reinterpret_cast<std::uint64_t>(parameters_.data()); }
  const std::byte* parameters() const { return reinterpret_cast<const std::byte*>(parameters_.data()); }
  std::uint64_t parameter_bytes() const { return parameters_.size() * 8; }
  /// What grid-wide barriers of a cooperative launch work on; 0 in others, where they trap.
  std::uint64_t workspace() const { return launch_.cooperative ? reinterpret_cast<std::uint64_t>(workspace_) : 0; }
  unsigned workers() const { return workers_; }
  std::uint64_t id() const { return id_; }
  bool is_constant(std::uint64_t address) const;
  AddressSpace::Range find(std::uint64_t address) const;
  DeviceHeap& heap() const;
  void output(int descriptor, std::string_view text);
  bool stopped() const;
  void fault(Fault fault);

 private:
  void work(unsigned worker);
  std::array<std::uint32_t, 3> block_id(std::uint64_t index) const;

  const Program& program_;
  const Function& kernel_;
  const Launch& launch_;
  const std::vector<AddressSpace::Range>& constants_;
  std::vector<std::uint64_t> parameters_;
  alignas(64) std::uint64_t workspace_[8] = {};
  unsigned workers_ = 1;
  std::uint64_t blocks_ = 0, id_ = 0;
  std::atomic<std::uint64_t> next_block_{0};
  std::atomic<Fault> fault_{Fault::kNone};
  std::mutex output_mutex_;
};

class Block {
 public:
  Block(Run& run, std::array<std::uint32_t, 3> id, unsigned worker);

  enum class State : std::uint8_t { kRunning, kDone, kFault };
  /// Runs every warp that can for one slice.
  State step();
  Fault fault() const { return fault_; }

  const std::array<std::uint32_t, 3>& id() const { return id_; }
  unsigned worker() const { return worker_; }
  std::uint32_t warp_count() const { return static_cast<std::uint32_t>(warps_.size()); }
  std::byte* shared() { return reinterpret_cast<std::byte*>(shared_.data()); }
  std::uint32_t shared_bytes() const { return shared_bytes_; }
  std::uint32_t dynamic_shared_at() const { return dynamic_shared_at_; }

  struct Arrival {
    std::uint32_t id = 0, expected = 0;  ///< expected 0: all threads that live
    std::uint32_t threads = 0;
    std::uint32_t credit = 0;            ///< as `threads`, but a whole warp counts 32
    std::uint32_t votes = 0;             ///< lanes whose predicate is true
  };
  void arrive(const Arrival& arrival);
  void threads_left(std::uint32_t threads);
  /// barrier.cluster.arrive of the lanes of `mask`; when all threads have, all marks go.
  void cluster_arrive(Warp& warp, Mask mask);

 private:
  struct Barrier {
    std::uint32_t arrived = 0, credit = 0, expected = 0, votes = 0;
  };
  void complete_if_full(std::uint32_t id);
  void complete_cluster();

  Run& run_;
  std::array<std::uint32_t, 3> id_;
  unsigned worker_;
  Fault fault_ = Fault::kNone;
  std::uint32_t live_threads_ = 0, shared_bytes_ = 0, dynamic_shared_at_ = 0;
  std::array<Barrier, 16> barriers_{};
  std::vector<std::uint64_t> shared_;
  std::vector<std::unique_ptr<Warp>> warps_;
};

/// vprintf's text of one thread (printf.cc). `read` gives `bytes` at a generic address, or null.
struct PrintfArguments {
  Warp& warp;
  unsigned lane;
  std::uint64_t format, arguments;
};
/// The characters written; -1 after a fault.
int format_printf(const PrintfArguments& in, std::string& text);
/// A zero-terminated string of the device; false after a fault.
bool read_string(Warp& warp, unsigned lane, std::uint64_t address, std::string& text);

/// Runs a builtin for the lanes of `mask` (builtins.cc).
void run_builtin(Warp& warp, const Call& call, Mask mask);

// The parameter area of a frame: words of 4 bytes, 32 lanes of each side by side.
inline std::byte* parameter_byte(std::byte* area, std::uint32_t offset, unsigned lane) {
  return area + (offset / 4) * std::size_t{4 * kLanes} + lane * 4 + offset % 4;
}
std::uint64_t read_parameter(const std::byte* area, std::uint32_t offset, unsigned bytes, unsigned lane);
void write_parameter(std::byte* area, std::uint32_t offset, unsigned bytes, unsigned lane, std::uint64_t value);

}  // namespace avec::cpu::ptx
