#include "executor/worker/driver.h"

#include <dlfcn.h>

namespace avec::worker {

#define AVEC_STRING_OF(text) #text
#define AVEC_STRING(text) AVEC_STRING_OF(text)

std::expected<DriverTable, std::string> load_driver(const std::string& path) {
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* why = ::dlerror();
    return std::unexpected("cannot load the driver library " + path + ": " + (why ? why : "unknown reason"));
  }
  DriverTable table;
  std::string missing;
#define AVEC_LOAD(name)                                                                    \
  table.name = reinterpret_cast<decltype(table.name)>(::dlsym(library, AVEC_STRING(name))); \
  if (table.name == nullptr) missing += std::string(missing.empty() ? "" : ", ") + AVEC_STRING(name);
  AVEC_DRIVER_FUNCTIONS(AVEC_LOAD)
#undef AVEC_LOAD
  if (!missing.empty()) {
    ::dlclose(library);
    return std::unexpected("the driver library " + path + " lacks " + missing +
                           "; a driver for CUDA 13.0 or later is needed");
  }
#define AVEC_LOAD(name) table.name = reinterpret_cast<decltype(table.name)>(::dlsym(library, AVEC_STRING(name)));
  AVEC_DRIVER_OPTIONAL_FUNCTIONS(AVEC_LOAD)
#undef AVEC_LOAD
  table.set_output = reinterpret_cast<decltype(table.set_output)>(::dlsym(library, "avec_cpu_device_set_output"));
  return table;
}

std::string cuda_status_text(int status) {
  switch (status) {
#define AVEC_STATUS(name) \
  case name:              \
    return #name;
    AVEC_STATUS(CUDA_SUCCESS)
    AVEC_STATUS(CUDA_ERROR_INVALID_VALUE)
    AVEC_STATUS(CUDA_ERROR_OUT_OF_MEMORY)
    AVEC_STATUS(CUDA_ERROR_NOT_INITIALIZED)
    AVEC_STATUS(CUDA_ERROR_NO_DEVICE)
    AVEC_STATUS(CUDA_ERROR_INVALID_IMAGE)
    AVEC_STATUS(CUDA_ERROR_INVALID_CONTEXT)
    AVEC_STATUS(CUDA_ERROR_INVALID_HANDLE)
    AVEC_STATUS(CUDA_ERROR_ILLEGAL_ADDRESS)
    AVEC_STATUS(CUDA_ERROR_LAUNCH_FAILED)
    AVEC_STATUS(CUDA_ERROR_NOT_SUPPORTED)
    AVEC_STATUS(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)
    AVEC_STATUS(CUDA_ERROR_UNKNOWN)
#undef AVEC_STATUS
    default:
      return "CUDA error " + std::to_string(status);
  }
}

}  // namespace avec::worker
