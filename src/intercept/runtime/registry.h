// Device code that the program has registered: images (one per translation unit or library),
// their kernels and variables, and what they are in each context. An image is loaded into a
// context when one of its kernels or variables is first used there.
#pragma once

#include <cuda.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "context.h"

namespace avec::runtime {

struct Image;

/// What a kernel is in one context. Only ever added, so it is read without a lock.
struct FunctionSlot {
  const Context* context;
  CUfunction function;
  FunctionSlot* next;
};

/// A registered kernel; its address is the program's cudaKernel_t.
struct Kernel {
  Image* image = nullptr;
  const void* host = nullptr;
  std::string name;
  std::atomic<FunctionSlot*> slots{nullptr};
};

struct VariableSlot {
  const Context* context;
  CUdeviceptr address;
  std::size_t bytes;
};

struct Variable {
  Image* image = nullptr;
  const void* host = nullptr;
  std::string name;
  /// As the program declared it.
  std::size_t bytes = 0;
  /// __managed__: where the program keeps the pointer to it. Null for other variables.
  void** managed = nullptr;
  /// Under Image::mutex.
  std::vector<VariableSlot> slots;
};

struct Image {
  const void* code = nullptr;
  /// Of a program compiled in separate units (-rdc=true): the units' containers, null at the end, for
  /// devices that `code` has nothing for. Null otherwise.
  const void* const* units = nullptr;
  /// Set when `code` is a copy of ours (cudaLibraryLoadData).
  std::unique_ptr<std::byte[]> copy;
  /// Guards what follows and the slots of the kernels and variables. Held while a module loads.
  std::mutex mutex;
  struct Module {
    const Context* context;
    CUmodule module;
  };
  std::vector<Module> modules;
  std::vector<std::unique_ptr<Kernel>> kernels;
  std::vector<std::unique_ptr<Variable>> variables;
};

/// Bytes of the code at `code`: a fatbin container, a cubin, or PTX text with its NUL. 0: none of them.
std::size_t code_bytes(const void* code) noexcept;
/// The container that nvcc's wrapper points at; `code` itself when it is no wrapper.
const void* container_of(const void* code) noexcept;

/// Null when memory is short. The image lives until the process ends: code that runs while a
/// library is being unloaded may still name its kernels.
Image* add_image(const void* code, std::unique_ptr<std::byte[]> copy = nullptr) noexcept;
void add_kernel(Image& image, const void* host, const char* name) noexcept;
void add_variable(Image& image, const void* host, const char* name, std::size_t bytes,
                  void** managed) noexcept;
/// Forgets its kernels and variables and unloads it everywhere.
void remove_image(Image& image) noexcept;

/// By the host stub, or by the kernel handle itself. Null when unknown.
Kernel* find_kernel(const void* symbol) noexcept;
Variable* find_variable(const void* symbol) noexcept;
/// The program finds its __managed__ variable there; as a symbol it is named by that address too.
void place_managed(Variable& variable, void* address) noexcept;

/// What the program calls a function by: its host stub, or the kernel's handle. Null when unknown.
const void* symbol_of(CUfunction function) noexcept;

/// The image's module in the context, loaded if need be. The context must be current.
CUresult load_module(Image& image, const Context& context, CUmodule* module) noexcept;
/// A kernel of the image by its device name, registered or not. Null when the image has none.
CUresult named_kernel(Image& image, const char* name, Kernel** kernel) noexcept;
/// The kernel in the current context.
cudaError_t kernel_function(Kernel& kernel, CUfunction* function) noexcept;
/// The variable in the current context.
cudaError_t variable_address(Variable& variable, CUdeviceptr* address, std::size_t* bytes) noexcept;

/// The function of a host stub or kernel handle in the thread's context, which is made current.
cudaError_t find_function_slow(const void* symbol, CUfunction* function) noexcept;

inline cudaError_t find_function(const void* symbol, CUfunction* function) noexcept {
  const Thread& thread = this_thread;
  CUcontext current = nullptr;
  if (thread.kernel_key == symbol && symbol != nullptr &&
      thread.epoch == global_epoch.load(std::memory_order_acquire) &&
      cuCtxGetCurrent(&current) == CUDA_SUCCESS && current == thread.bound) [[likely]] {
    *function = thread.function;
    return cudaSuccess;
  }
  return find_function_slow(symbol, function);
}

}  // namespace avec::runtime
