#include "registry.h"

#include <elf.h>
#include <unistd.h>

#include <cstring>
#include <new>

#include "index.h"
#include "weak_driver.h"

namespace avec::runtime {
namespace {

struct Registry {
  /// Serialises writers of the indices and guards `images`.
  std::mutex mutex;
  PointerIndex<Kernel> kernels;
  PointerIndex<Variable> variables;
  std::vector<std::unique_ptr<Image>> images;
  /// The process that loaded modules: a forked child must not unload its parent's.
  pid_t process = getpid();
};

/// Never destroyed: images are unregistered by functions that the program's own constructors
/// gave to atexit, before or after ours would run.
Registry& registry() {
  static Registry* instance = new Registry;
  return *instance;
}

/// nvcc's wrapper around a container, as fatbinary_section.h declares it.
struct Wrapper {
  int magic;
  int version;
  const void* data;
  void* prelinked;
};
constexpr int kWrapperMagic = 0x466243B1;
/// Version of the wrapper of a linked program: `prelinked` are its units.
constexpr int kLinkedWrapper = 2;
/// Device code of one image, bytes; what a fatbin's 64-bit length could claim is not taken.
constexpr std::size_t kMaxCodeBytes = std::size_t{2} << 30;

Kernel* new_kernel(Image& image, const void* host, const char* name) {
  auto kernel = std::make_unique<Kernel>();
  kernel->image = &image;
  kernel->host = host;
  kernel->name = name;
  Kernel* result = kernel.get();
  image.kernels.push_back(std::move(kernel));
  return result;
}

const FunctionSlot* find_slot(const Kernel& kernel, const Context* context) {
  const FunctionSlot* slot = kernel.slots.load(std::memory_order_acquire);
  while (slot != nullptr && slot->context != context) slot = slot->next;
  return slot;
}

/// Links the units of a program for the device that is current, and loads what comes out.
CUresult link_units(const void* const* units, CUmodule* module) {
  if (cuLinkCreate_v2 == nullptr || cuLinkAddData_v2 == nullptr || cuLinkComplete == nullptr || cuLinkDestroy == nullptr)
    return CUDA_ERROR_NO_BINARY_FOR_GPU;
  CUlinkState link = nullptr;
  CUresult result = cuLinkCreate_v2(0, nullptr, nullptr, &link);
  if (result != CUDA_SUCCESS) return result;
  for (; result == CUDA_SUCCESS && *units != nullptr; ++units) {
    const void* container = container_of(*units);
    result = cuLinkAddData_v2(link, CU_JIT_INPUT_FATBINARY, const_cast<void*>(container), code_bytes(container), "",
                              0, nullptr, nullptr);
    // NVIDIA's own units (cudadevrt) are in every program, with code for NVIDIA's devices only. What else is
    // missing then is an undefined reference.
    if (result == CUDA_ERROR_NO_BINARY_FOR_GPU) result = CUDA_SUCCESS;
  }
  void* cubin = nullptr;
  std::size_t bytes = 0;
  if (result == CUDA_SUCCESS) result = cuLinkComplete(link, &cubin, &bytes);
  if (result == CUDA_SUCCESS) result = cuModuleLoadData(module, cubin);
  cuLinkDestroy(link);
  return result;
}

/// Under image.mutex.
CUresult load_locked(Image& image, const Context& context, CUmodule* module) {
  for (const Image::Module& loaded : image.modules) {
    if (loaded.context != &context) continue;
    *module = loaded.module;
    return CUDA_SUCCESS;
  }
  if (image.code == nullptr) return CUDA_ERROR_INVALID_IMAGE;
  image.modules.reserve(image.modules.size() + 1);
  CUmodule loaded = nullptr;
  CUresult result = cuModuleLoadData(&loaded, image.code);
  // Nothing in it for this device: its units may have.
  if (image.units != nullptr && (result == CUDA_ERROR_NO_BINARY_FOR_GPU || result == CUDA_ERROR_INVALID_IMAGE))
    result = link_units(image.units, &loaded);
  if (result != CUDA_SUCCESS) return result;
  image.modules.push_back({&context, loaded});
  *module = loaded;
  return CUDA_SUCCESS;
}

/// Under the image's mutex.
CUresult load_function(Kernel& kernel, const Context& context, CUfunction* function) {
  if (const FunctionSlot* slot = find_slot(kernel, &context)) {
    *function = slot->function;
    return CUDA_SUCCESS;
  }
  CUmodule module = nullptr;
  if (const CUresult got = load_locked(*kernel.image, context, &module); got != CUDA_SUCCESS) return got;
  if (const CUresult got = cuModuleGetFunction(function, module, kernel.name.c_str()); got != CUDA_SUCCESS)
    return got;
  // Lives as long as the kernel, that is until the process ends.
  auto* slot = new FunctionSlot{&context, *function, kernel.slots.load(std::memory_order_relaxed)};
  kernel.slots.store(slot, std::memory_order_release);
  return CUDA_SUCCESS;
}

CUresult current_context(Context** context) {
  CUcontext handle = nullptr;
  if (const CUresult got = cuCtxGetCurrent(&handle); got != CUDA_SUCCESS) return got;
  *context = context_record(handle);
  return *context != nullptr ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

}  // namespace

const void* container_of(const void* code) noexcept {
  int magic = 0;  // PTX text may be shorter than a wrapper
  std::memcpy(&magic, code, sizeof magic);
  return magic == kWrapperMagic ? static_cast<const Wrapper*>(code)->data : code;
}

std::size_t code_bytes(const void* code) noexcept {
  constexpr std::uint32_t kContainerMagic = 0xba55ed50;
  std::uint32_t magic = 0;
  std::memcpy(&magic, code, sizeof magic);
  if (magic == kContainerMagic) {
    std::uint16_t header = 0;
    std::uint64_t body = 0;
    std::memcpy(&header, static_cast<const char*>(code) + 6, sizeof header);
    std::memcpy(&body, static_cast<const char*>(code) + 8, sizeof body);
    return body < kMaxCodeBytes ? header + static_cast<std::size_t>(body) : 0;
  }
  if (std::memcmp(code, ELFMAG, SELFMAG) == 0) {
    Elf64_Ehdr elf;
    std::memcpy(&elf, code, sizeof elf);
    // The tables of sections and segments come last in a cubin, in either order.
    const std::uint64_t sections = elf.e_shoff + std::uint64_t{elf.e_shnum} * elf.e_shentsize;
    const std::uint64_t segments = elf.e_phoff + std::uint64_t{elf.e_phnum} * elf.e_phentsize;
    const std::uint64_t end = sections > segments ? sections : segments;
    return end < kMaxCodeBytes ? static_cast<std::size_t>(end) : 0;
  }
  const std::size_t length = strnlen(static_cast<const char*>(code), kMaxCodeBytes);
  return length > 0 && length < kMaxCodeBytes ? length + 1 : 0;
}

Image* add_image(const void* code, std::unique_ptr<std::byte[]> copy) noexcept try {
  auto image = std::make_unique<Image>();
  image->code = code != nullptr ? container_of(code) : nullptr;
  image->copy = std::move(copy);
  if (code != nullptr && image->code != code) {
    const auto* wrapper = static_cast<const Wrapper*>(code);
    if (wrapper->version == kLinkedWrapper) image->units = static_cast<const void* const*>(wrapper->prelinked);
  }
  Image* result = image.get();
  const std::lock_guard lock(registry().mutex);
  registry().images.push_back(std::move(image));
  return result;
} catch (const std::bad_alloc&) {
  return nullptr;
}

void add_kernel(Image& image, const void* host, const char* name) noexcept try {
  if (name == nullptr || host == nullptr) return;
  const std::scoped_lock lock(registry().mutex, image.mutex);
  Kernel* kernel = new_kernel(image, host, name);
  registry().kernels.insert(host, kernel);
  registry().kernels.insert(kernel, kernel);
} catch (const std::bad_alloc&) {
  // The kernel stays unknown: using it answers "invalid device function".
}

void add_variable(Image& image, const void* host, const char* name, std::size_t bytes,
                  void** managed) noexcept try {
  if (name == nullptr || host == nullptr) return;
  const std::scoped_lock lock(registry().mutex, image.mutex);
  auto variable = std::make_unique<Variable>();
  variable->image = &image;
  variable->host = host;
  variable->name = name;
  variable->bytes = bytes;
  variable->managed = managed;
  registry().variables.insert(host, variable.get());
  image.variables.push_back(std::move(variable));
} catch (const std::bad_alloc&) {
  // As above: using it answers "invalid device symbol".
}

void remove_image(Image& image) noexcept {
  Registry& all = registry();
  const std::scoped_lock lock(all.mutex, image.mutex);
  for (const auto& kernel : image.kernels) {
    all.kernels.erase(kernel->host, kernel.get());
    all.kernels.erase(kernel.get(), kernel.get());
  }
  for (const auto& variable : image.variables) {
    all.variables.erase(variable->host, variable.get());
    if (variable->managed != nullptr && *variable->managed != nullptr)
      all.variables.erase(*variable->managed, variable.get());
  }
  global_epoch.fetch_add(1, std::memory_order_acq_rel);
  if (getpid() == all.process) {
    for (const Image::Module& loaded : image.modules)
      if (loaded.context->alive.load(std::memory_order_acquire)) cuModuleUnload(loaded.module);
  }
  image.modules.clear();
  image.code = nullptr;
  image.units = nullptr;
  image.copy.reset();
}

Kernel* find_kernel(const void* symbol) noexcept { return registry().kernels.find(symbol); }

const void* symbol_of(CUfunction function) noexcept {
  const std::lock_guard lock(registry().mutex);
  for (const auto& image : registry().images) {
    const std::lock_guard image_lock(image->mutex);
    for (const auto& kernel : image->kernels) {
      const FunctionSlot* slot = kernel->slots.load(std::memory_order_acquire);
      while (slot != nullptr && slot->function != function) slot = slot->next;
      if (slot != nullptr) return kernel->host != nullptr ? kernel->host : kernel.get();
    }
  }
  return nullptr;
}

void place_managed(Variable& variable, void* address) noexcept try {
  const std::lock_guard lock(registry().mutex);
  *variable.managed = address;
  registry().variables.insert(address, &variable);
} catch (const std::bad_alloc&) {
  // It can be used; as a symbol it is not found.
}

Variable* find_variable(const void* symbol) noexcept { return registry().variables.find(symbol); }

CUresult load_module(Image& image, const Context& context, CUmodule* module) noexcept try {
  const std::lock_guard lock(image.mutex);
  return load_locked(image, context, module);
} catch (const std::bad_alloc&) {
  return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult named_kernel(Image& image, const char* name, Kernel** kernel) noexcept try {
  Context* context = nullptr;
  if (const CUresult got = current_context(&context); got != CUDA_SUCCESS) return got;
  const std::scoped_lock lock(registry().mutex, image.mutex);
  for (const auto& known : image.kernels) {
    if (known->name != name) continue;
    *kernel = known.get();
    return CUDA_SUCCESS;
  }
  CUmodule module = nullptr;
  CUfunction function = nullptr;
  if (const CUresult got = load_locked(image, *context, &module); got != CUDA_SUCCESS) return got;
  if (const CUresult got = cuModuleGetFunction(&function, module, name); got != CUDA_SUCCESS) return got;
  *kernel = new_kernel(image, nullptr, name);
  registry().kernels.insert(*kernel, *kernel);
  return CUDA_SUCCESS;
} catch (const std::bad_alloc&) {
  return CUDA_ERROR_OUT_OF_MEMORY;
}

cudaError_t kernel_function(Kernel& kernel, CUfunction* function) noexcept try {
  Context* context = nullptr;
  if (const CUresult got = current_context(&context); got != CUDA_SUCCESS) return to_runtime(got);
  if (const FunctionSlot* slot = find_slot(kernel, context)) {
    *function = slot->function;
    return cudaSuccess;
  }
  const std::lock_guard lock(kernel.image->mutex);
  const CUresult got = load_function(kernel, *context, function);
  return got == CUDA_ERROR_NOT_FOUND ? cudaErrorInvalidDeviceFunction : to_runtime(got);
} catch (const std::bad_alloc&) {
  return cudaErrorMemoryAllocation;
}

cudaError_t variable_address(Variable& variable, CUdeviceptr* address, std::size_t* bytes) noexcept try {
  Context* context = nullptr;
  if (const CUresult got = current_context(&context); got != CUDA_SUCCESS) return to_runtime(got);
  const std::lock_guard lock(variable.image->mutex);
  for (const VariableSlot& slot : variable.slots) {
    if (slot.context != context) continue;
    *address = slot.address;
    *bytes = slot.bytes;
    return cudaSuccess;
  }
  CUmodule module = nullptr;
  if (const CUresult got = load_locked(*variable.image, *context, &module); got != CUDA_SUCCESS)
    return to_runtime(got);
  const CUresult got = cuModuleGetGlobal(address, bytes, module, variable.name.c_str());
  if (got != CUDA_SUCCESS) return got == CUDA_ERROR_NOT_FOUND ? cudaErrorInvalidSymbol : to_runtime(got);
  variable.slots.push_back({context, *address, *bytes});
  return cudaSuccess;
} catch (const std::bad_alloc&) {
  return cudaErrorMemoryAllocation;
}

cudaError_t find_function_slow(const void* symbol, CUfunction* function) noexcept {
  Kernel* kernel = find_kernel(symbol);
  // What is no kernel of this program is taken for a handle, as cudaKernel_t may stand here too.
  if (kernel == nullptr) return symbol == nullptr ? cudaErrorInvalidDeviceFunction : cudaErrorInvalidResourceHandle;
  if (const CUresult bound = bind_context(); bound != CUDA_SUCCESS) return to_runtime(bound);
  if (const cudaError_t found = kernel_function(*kernel, function); found != cudaSuccess) return found;
  Thread& thread = this_thread;
  CUcontext current = nullptr;
  // Only for the context of our own making: another one may die and leave its address to a third.
  if (cuCtxGetCurrent(&current) == CUDA_SUCCESS && current == thread.bound) {
    thread.kernel_key = symbol;
    thread.function = *function;
  }
  return cudaSuccess;
}

}  // namespace avec::runtime
