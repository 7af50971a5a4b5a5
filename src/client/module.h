// Modules and their functions. A module is loaded by the hash of its image; what the executor
// says about its functions is kept and answered from here.
#pragma once

#include <cuda.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "client/jit.h"

namespace avec::client {

class Client;
struct Context;
struct Module;

/// Arguments of a launch that are set one by one, as before CUDA 4.0.
struct LegacyLaunch {
  unsigned block_x = 0, block_y = 0, block_z = 0, shared_bytes = 0;
  std::vector<std::byte> parameters;
  std::size_t parameter_bytes = 0;
};

/// A CUfunction is the address of one (Slab<Function>). What a launch checks lies first.
struct Function {
  struct Parameter {
    std::uint32_t offset, bytes;
  };
  Module* module = nullptr;
  Context* context = nullptr;
  std::uint64_t module_name = 0;
  std::uint32_t index = 0;
  std::uint32_t parameter_bytes = 0;
  std::uint32_t parameter_count = 0;
  /// 0: not loaded. Set last, so that who sees it sees the rest.
  std::atomic<std::uint32_t> max_threads{0};
  std::uint32_t static_shared_bytes = 0;
  std::atomic<std::uint32_t> max_dynamic_shared_bytes{0};
  /// Launch limits of the device: block x, y, z, grid x, y, z, threads per block.
  std::array<std::uint32_t, 7> device_limits{};
  std::unique_ptr<Parameter[]> parameters;
  std::string name;
  bool compiled_cluster = false;       ///< __cluster_dims__: fixed
  std::atomic<bool> asked_for{false};  ///< by name: CUDA counts it as loaded

  struct Occupancy {
    int block_size;
    std::uint64_t shared_bytes;
    unsigned flags;
    auto operator<=>(const Occupancy&) const = default;
  };
  std::mutex mutex;  ///< guards what follows
  std::vector<int> attributes;
  std::map<Occupancy, int> occupancy;
  std::map<std::string, int> clusters;  ///< by configuration (launch_attributes.h)
  std::unique_ptr<LegacyLaunch> legacy;  ///< what cuParamSet* and cuFuncSetBlockShape said
};

/// A CUmodule is the address of one (Slab<Module>).
struct Module {
  Context* context = nullptr;
  std::uint64_t name = 0;
  std::vector<Function*> functions;  ///< by index; fixed once loaded
  std::unordered_map<std::string_view, Function*> by_name;
  std::mutex mutex;  ///< guards globals
  std::unordered_map<std::string, std::pair<std::uint64_t, std::uint64_t>> globals;
};

inline CUmodule handle_of(Module* module) { return reinterpret_cast<CUmodule>(module); }
inline CUfunction handle_of(Function* function) { return reinterpret_cast<CUfunction>(function); }

/// An image as the application gives it: cubin, PTX text or fatbin, at an address whose extent
/// is in its own headers.
CUresult module_load(CUmodule* module, const void* image, JitOptions options);
/// The same of bytes whose number is known; PTX text without its final NUL too.
CUresult module_load_bytes(CUmodule* module, std::span<const std::byte> image, JitOptions options);
CUresult module_load_file(CUmodule* module, const char* path);
CUresult module_unload(CUmodule module);
CUresult module_get_function(CUfunction* function, CUmodule module, const char* name);
CUresult module_function_count(unsigned* count, CUmodule module);
CUresult module_functions(CUfunction* functions, unsigned count, CUmodule module);
CUresult module_get_global(CUdeviceptr* address, std::size_t* bytes, CUmodule module, const char* name);
CUresult module_loading_mode(CUmoduleLoadingMode* mode);

/// Loads a function of a large module, which has not been loaded with it: then what its attributes say is
/// known. Does nothing when it is loaded.
CUresult load_function(Function& function);

/// Loads into the given context, whatever is current.
CUresult load_into(Context& context, const void* image, std::size_t bytes, JitOptions options,
                   Module*& module);
/// Ends all modules of a context that goes.
void forget_modules(Context& context);

}  // namespace avec::client
