// Initialisation, versions, errors, finding functions by name, profiling.
#include <cudaProfiler.h>
#include <dlfcn.h>

#include <cstring>
#include <mutex>
#include <set>
#include <string>
#include <string_view>

#include "base/settings.h"
#include "client/status.h"
#include "entry.h"
#include "proc_address_table.h"

using namespace avec::client;

AVEC_DRIVER_CALL(cuInit, (unsigned flags), flags != 0 ? CUDA_ERROR_INVALID_VALUE : process_init())

extern "C" CUresult cuDriverGetVersion(int* version) {
  if (version == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *version = process_driver_version();
  return CUDA_SUCCESS;
}

extern "C" CUresult cuGetErrorName(CUresult error, const char** name) {
  if (name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *name = error_name(error);
  return *name != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

extern "C" CUresult cuGetErrorString(CUresult error, const char** text) {
  if (text == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *text = error_text(error);
  return *text != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

namespace avec::driver {
namespace {

/// `caller` is in code that needs what only NVIDIA's driver has.
void say_needs_nvidias_driver(const void* caller) {
  static std::mutex mutex;
  static auto* told = new std::set<const void*>;  // never freed: called from destructors too
  Dl_info info{};
  if (::dladdr(caller, &info) == 0 || info.dli_fname == nullptr) return;
  // A compiler asks too, and does without.
  const std::string_view path = info.dli_fname;
  const std::string_view file = path.substr(path.rfind('/') + 1);
  if (file.starts_with("libnvrtc.") || file.starts_with("libnvJitLink.")) return;
  {
    const std::scoped_lock lock(mutex);
    if (!told->insert(info.dli_fbase).second) return;
  }
  say(std::string(info.dli_fname) +
      " needs private functions of NVIDIA's driver, so its CUDA calls fail here. If it is a library of NVIDIA's, AVEC does "
      "not have it; if it is yours, relink it with -cudart shared, or keep its symbol table (no strip, no -s)");
}

}  // namespace
}  // namespace avec::driver

extern "C" CUresult cuGetProcAddress_v2(const char* symbol, void** function, int version, cuuint64_t flags,
                                        CUdriverProcAddressQueryResult* status) {
  constexpr cuuint64_t kKnown =
      CU_GET_PROC_ADDRESS_LEGACY_STREAM | CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
  if (symbol == nullptr || *symbol == '\0' || function == nullptr || (flags & ~kKnown) != 0)
    return CUDA_ERROR_INVALID_VALUE;
  avec::driver::ProcAddressStatus found;
  *function = avec::driver::find_proc_address(
      symbol, version, (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0, found);
  using enum avec::driver::ProcAddressStatus;
  if (status != nullptr) {
    *status = found == kFound        ? CU_GET_PROC_ADDRESS_SUCCESS
              : found == kNoSuchName ? CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND
                                     : CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT;
  }
  // Where the status tells, a function that is not there is an answer and no error.
  return found == kFound || status != nullptr ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

extern "C" CUresult cuGetProcAddress(const char* symbol, void** function, int version, cuuint64_t flags) {
  return cuGetProcAddress_v2(symbol, function, version, flags, nullptr);
}

// The tables behind it are private to NVIDIA's libraries. A runtime that NVIDIA linked into one asks for them
// before anything else and then fails each call; so this is the place to say why, once for each library.
extern "C" CUresult cuGetExportTable(const void** table, const CUuuid*) {
  if (table == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *table = nullptr;
  avec::driver::say_needs_nvidias_driver(__builtin_return_address(0));
  return CUDA_ERROR_NOT_FOUND;
}

// Marks for a profiler, which is not there: what they enclose runs all the same.
extern "C" CUresult cuProfilerStart() { return CUDA_SUCCESS; }
extern "C" CUresult cuProfilerStop() { return CUDA_SUCCESS; }
// Since CUDA 12.0 it does nothing but this.
extern "C" CUresult cuProfilerInitialize(const char*, const char*, CUoutput_mode) { return CUDA_ERROR_NOT_SUPPORTED; }
