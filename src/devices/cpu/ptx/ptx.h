// PTX on the host: compile() decodes a module once, run() applies each decoded instruction to
// all lanes of a warp. A reference, built for being right. NVIDIA's "PTX ISA" 9.0 is the source.
//
// Addresses: device pointers are host addresses. Generic addresses of shared and local memory
// lie in windows that no allocation uses, so cvta and generic loads behave as on a GPU.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace avec::cpu::ptx {

struct Parameter {
  std::uint32_t offset = 0;  ///< bytes in the parameter buffer
  std::uint32_t bytes = 0;
};

/// .global and .const variables; the device gives them memory and an address.
struct Variable {
  std::string name;
  std::uint64_t bytes = 0;
  std::uint32_t alignment = 1;
  bool constant = false;      ///< .const
  bool managed = false;       ///< .attribute(.managed): the host uses it too
  bool visible = false;       ///< .visible, .weak or .extern
  std::vector<std::byte> initial;  ///< at most `bytes`; the rest is zero
  /// 8-byte addresses of variables to be added into `initial` once these have theirs. Addresses
  /// of functions are in `initial` already.
  struct Relocation { std::uint64_t offset; std::string symbol; };
  std::vector<Relocation> relocations;
};

struct KernelFacts {
  std::string name;
  std::vector<Parameter> parameters;
  std::uint32_t parameter_bytes = 0;
  std::uint32_t static_shared_bytes = 0;
  std::uint32_t constant_bytes = 0;
  std::uint32_t local_bytes = 0;       ///< per thread
  std::uint32_t registers = 0;         ///< as declared, 32-bit units, at most 255
  std::uint32_t max_threads = 1024;    ///< .maxntid, or 1024
  std::uint32_t ptx_version = 0;       ///< 90 for 9.0
  std::uint32_t binary_version = 0;    ///< of the target: 90 for sm_90
};

enum class Fault : std::uint8_t {
  kNone,
  kIllegalAddress,      // CUDA_ERROR_ILLEGAL_ADDRESS
  kMisalignedAddress,   // CUDA_ERROR_MISALIGNED_ADDRESS
  kTrap,                // CUDA_ERROR_LAUNCH_FAILED
  kIllegalInstruction,  // CUDA_ERROR_ILLEGAL_INSTRUCTION
  kInvalidAddressSpace, // CUDA_ERROR_INVALID_ADDRESS_SPACE
  kInvalidPc,           // CUDA_ERROR_INVALID_PC
  kAssert,              // CUDA_ERROR_ASSERT
  kStopped              // stop() was asked for
};

/// Which addresses kernels may touch. Thread-safe; asked once per range and cached per launch.
class AddressSpace {
 public:
  virtual ~AddressSpace() = default;
  struct Range { std::uint64_t begin = 0, end = 0; bool writable = true; };
  /// The allocation that holds `address`, or an empty range.
  virtual Range find(std::uint64_t address) const = 0;
};

/// What device code gets from malloc(). Thread-safe. Lives as long as its context: memory may be
/// freed by a later kernel.
class DeviceHeap {
 public:
  explicit DeviceHeap(std::uint64_t limit_bytes = 8u << 20) : limit_(limit_bytes) {}
  ~DeviceHeap();
  DeviceHeap(const DeviceHeap&) = delete;
  DeviceHeap& operator=(const DeviceHeap&) = delete;
  /// cudaLimitMallocHeapSize.
  void set_limit(std::uint64_t bytes);
  /// 16-byte aligned; 0 when the limit is reached.
  std::uint64_t allocate(std::uint64_t bytes);
  /// False: no allocation begins here.
  bool release(std::uint64_t address);
  AddressSpace::Range find(std::uint64_t address) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::uint64_t, std::uint64_t> blocks_;  // address: bytes
  std::uint64_t used_ = 0, limit_;
};

class ObjectSpace;  // texture.h

struct Launch {
  std::array<std::uint32_t, 3> grid{1, 1, 1};
  std::array<std::uint32_t, 3> block{1, 1, 1};
  std::uint32_t dynamic_shared_bytes = 0;
  std::span<const std::byte> parameters;
  /// Null: any address goes.
  const AddressSpace* memory = nullptr;
  /// Textures and surfaces. Null: there are none.
  const ObjectSpace* objects = nullptr;
  /// For malloc() and free() in kernels. Null: one of the process.
  DeviceHeap* heap = nullptr;
  /// All blocks run at once, so that grid-wide barriers work.
  bool cooperative = false;
  /// Device printf and assert text; descriptor 1 or 2. May be null.
  std::function<void(int descriptor, std::string_view text)> output;
  /// cudaGraphSetConditional(): false if there is no such handle. May be null.
  std::function<bool(std::uint64_t handle, std::uint32_t value)> set_conditional;
  /// Set by another thread to give up (context destroyed). May be null.
  const std::atomic<bool>* stop = nullptr;
};

/// A compiled module. Immutable after bind(); run() from any thread.
class Module {
 public:
  /// Null on error; `log` then says what and on which line, as ptxas does.
  static std::unique_ptr<Module> compile(std::string_view text, std::string& log);
  virtual ~Module() = default;

  virtual std::span<const Variable> variables() const = 0;
  virtual std::span<const KernelFacts> kernels() const = 0;
  /// Addresses of variables(), in their order. Once, before any run().
  virtual void bind(std::span<const std::uint64_t> addresses) = 0;
  /// Threads per block beyond .maxntid and shared memory beyond the device are the caller's to refuse.
  /// Runs kernel `index` to its end on this thread (and on helpers of its own, blocks in
  /// parallel where that helps).
  virtual Fault run(std::size_t index, const Launch& launch) const = 0;
};

}  // namespace avec::cpu::ptx
