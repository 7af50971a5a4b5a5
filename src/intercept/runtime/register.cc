// Registration of device code by the constructors that nvcc puts into every program.
#include <atomic>
#include <cstdio>

#include "api.h"
#include "registry.h"
#include "stubs.h"

using namespace avec::runtime;

namespace {

Image* image_of(void** handle) { return reinterpret_cast<Image*>(handle); }

void say_once(std::atomic<bool>& said, const char* text) {
  if (!said.exchange(true)) std::fprintf(stderr, "avec: %s\n", text);
}

/// Lets the program's pointer to its __managed__ variable point at it.
void bind_managed(Variable& variable) {
  CUdeviceptr address = 0;
  std::size_t bytes = 0;
  CUdevice device = 0;
  int managed = 0;
  if (cuCtxGetDevice(&device) == CUDA_SUCCESS &&
      cuDeviceGetAttribute(&managed, CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, device) == CUDA_SUCCESS &&
      managed != 0 && variable_address(variable, &address, &bytes) == cudaSuccess) {
    place_managed(variable, reinterpret_cast<void*>(address));
    return;
  }
  static std::atomic<bool> said{false};
  say_once(
      said,
      "this device has no managed memory: the program's __managed__ variables cannot be used on the host");
}

}  // namespace

void** __cudaRegisterFatBinary(void* wrapper) { return reinterpret_cast<void**>(add_image(wrapper)); }

void __cudaRegisterFatBinaryEnd(void**) {}

void __cudaUnregisterFatBinary(void** handle) {
  if (handle != nullptr) remove_image(*image_of(handle));
}

void __cudaRegisterFunction(void** handle, const char* host_function, char*, const char* device_name, int,
                            uint3*, uint3*, dim3*, dim3*, int*) {
  if (handle != nullptr) add_kernel(*image_of(handle), host_function, device_name);
}

void __cudaRegisterVar(void** handle, char* host_variable, char*, const char* device_name, int,
                       std::size_t size, int, int) {
  if (handle != nullptr) add_variable(*image_of(handle), host_variable, device_name, size, nullptr);
}

void __cudaRegisterManagedVar(void** handle, void** host_pointer, char*, const char* device_name, int,
                              std::size_t size, int, int) {
  if (handle != nullptr) add_variable(*image_of(handle), host_pointer, device_name, size, host_pointer);
}

// Host memory that device code names directly: only devices that share the host's page tables
// can do it, and the attribute says that ours does not.
void __cudaRegisterHostVar(void**, const char*, char*, std::size_t) {}

char __cudaInitModule(void** handle) {
  if (handle == nullptr || bind_context() != CUDA_SUCCESS) return 0;
  for (const auto& variable : image_of(handle)->variables)
    if (variable->managed != nullptr) bind_managed(*variable);
  return 1;
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host_function) {
  if (kernel == nullptr) return done(cudaErrorInvalidValue);
  *kernel = reinterpret_cast<cudaKernel_t>(find_kernel(host_function));
  return *kernel != nullptr ? cudaSuccess : done(cudaErrorInvalidDeviceFunction);
}

cudaError_t cudaGetKernel(cudaKernel_t* kernel, const void* host_function) {
  AVEC_COUNTED;
  return __cudaGetKernel(kernel, host_function);
}

cudaError_t cudaGetFuncBySymbol(cudaFunction_t* function, const void* symbol) {
  AVEC_COUNTED;
  if (function == nullptr) return done(cudaErrorInvalidValue);
  return done(find_function(symbol, function));
}
