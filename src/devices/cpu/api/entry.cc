// cuInit, versions, error texts and entry points by name.
#include <cudaProfiler.h>

#include <cstring>
#include <string_view>

#include "devices/cpu/attributes.h"
#include "devices/cpu/device.h"
#include "devices/cpu/error_texts.h"
#include "devices/cpu/names.h"

using namespace avec::cpu;

namespace {

const char* error_name(CUresult error) {
  switch (static_cast<int>(error)) {
#define AVEC_ERROR(code, name) \
  case code:                   \
    return #name;
#include "errors.inc"
#undef AVEC_ERROR
    default:
      return nullptr;
  }
}

}  // namespace

extern "C" {

CUresult cuInit(unsigned flags) {
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  auto& all = state();
  std::call_once(all.once, [&all] {
    make_devices(all);
    if (!all.devices.empty()) all.initialised.store(true, std::memory_order_release);
  });
  return all.devices.empty() ? CUDA_ERROR_NO_DEVICE : CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int* version) {
  if (version == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *version = kDriverVersion;
  return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char** text) {
  if (text == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *text = error_name(error);
  return *text ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char** text) {
  if (text == nullptr) return CUDA_ERROR_INVALID_VALUE;
  for (const ErrorText& row : kErrorTexts) {
    if (row.code == error) {
      *text = row.text;
      return CUDA_SUCCESS;
    }
  }
  *text = error_name(error);
  return *text ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetProcAddress_v2(const char* symbol, void** function, int version, cuuint64_t flags,
                             CUdriverProcAddressQueryResult* status) {
  constexpr cuuint64_t kBoth =
      CU_GET_PROC_ADDRESS_LEGACY_STREAM | CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
  if (symbol == nullptr || function == nullptr || (flags & ~kBoth) != 0 || flags == kBoth) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const Lookup found = look_up(symbol, version, (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0);
  *function = found.function;
  if (status != nullptr) *status = found.status;
  // Where the status tells, a function that is not there is an answer and no error.
  return found.function != nullptr || status != nullptr ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

#undef cuGetProcAddress
CUresult cuGetProcAddress(const char* symbol, void** function, int version, cuuint64_t flags) {
  return cuGetProcAddress_v2(symbol, function, version, flags, nullptr);
}

CUresult cuGetExportTable(const void** table, const CUuuid* id) {
  if (table == nullptr || id == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *table = nullptr;
  return CUDA_ERROR_NOT_FOUND;
}

CUresult cuProfilerStart() {
  ContextRef context;
  return current(context);
}

CUresult cuProfilerStop() {
  ContextRef context;
  return current(context);
}

}  // extern "C"
