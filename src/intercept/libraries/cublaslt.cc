// cuBLASLt on the client: descriptors in the program's own memory, the type of scalars, texts.
#include "intercept/libraries/cublaslt.h"

#include <cuda.h>

#include <cstring>

#include "client/library_call.h"
#include "libraries/cublaslt_kinds.h"
#include "libraries/data_types.h"

using namespace avec;
using namespace avec::client;

namespace {

enum Status { kOk = 0, kNotInitialized = 1, kInvalidValue = 7 };
enum State { kScaleType };
// cublasLtMatmulDescAttributes_t, cublasLtMatrixTransformDescAttributes_t.
constexpr int kMatmulScaleType = 1, kMatmulPointerMode = 2, kTransformScaleType = 0, kTransformPointerMode = 1;

LibraryObject* find(const void* descriptor) {
  LibraryObject* object = find_library_object(descriptor, libraries::kCublasltMatmul);
  return object != nullptr ? object : find_library_object(descriptor, libraries::kCublasltTransform);
}

/// `known`: an attribute that is noted here.
int check(const void* descriptor, bool known, const void* value, std::uint64_t bytes) {
  if (find(descriptor) == nullptr || (bytes != 0 && value == nullptr)) return kInvalidValue;
  return known && bytes != sizeof(std::int32_t) ? kInvalidValue : kOk;
}

int note(const void* descriptor, bool scale, bool mode, const void* value) {
  LibraryObject* object = find(descriptor);
  if (object == nullptr || (!scale && !mode)) return kOk;
  std::int32_t number = 0;
  std::memcpy(&number, value, sizeof number);
  if (scale) object->state[kScaleType] = static_cast<std::uint64_t>(number);
  // Device pointers, and vectors of them, all lie in device memory; beta of the last mode is not read there.
  if (mode) object->device_pointers = number != 0;
  return kOk;
}

/// The structs that the *Init functions are given hold a pointer to our object.
template <class Create>
int initialise(void* memory, std::uint64_t bytes, Create&& create) {
  if (memory == nullptr || bytes < sizeof(void*)) return kInvalidValue;
  std::memset(memory, 0, bytes);
  return create(static_cast<void**>(memory));
}

}  // namespace

namespace avec::libraries {

std::uint64_t scale_bytes(const void* descriptor) {
  const LibraryObject* object = find(descriptor);
  return object == nullptr ? 0 : size_of_type(static_cast<int>(object->state[kScaleType]));
}

int check_matmul_attribute(const void* descriptor, int attribute, const void* value, std::uint64_t bytes) {
  return check(descriptor, attribute == kMatmulScaleType || attribute == kMatmulPointerMode, value, bytes);
}
int note_matmul_attribute(const void* descriptor, int attribute, const void* value, std::uint64_t) {
  return note(descriptor, attribute == kMatmulScaleType, attribute == kMatmulPointerMode, value);
}

int check_transform_attribute(const void* descriptor, int attribute, const void* value, std::uint64_t bytes) {
  return check(descriptor, attribute == kTransformScaleType || attribute == kTransformPointerMode, value, bytes);
}
int note_transform_attribute(const void* descriptor, int attribute, const void* value, std::uint64_t) {
  return note(descriptor, attribute == kTransformScaleType, attribute == kTransformPointerMode, value);
}

}  // namespace avec::libraries

extern "C" {

const char* cublasGetStatusName(int status);
const char* cublasGetStatusString(int status);

int cublaslt_get_property(int type, int* value);
int cublaslt_matmul_create(void* out, int compute, int scale);
int cublaslt_transform_create(void* out, int scale);
int cublasLtMatrixLayoutCreate(void* out, int type, std::uint64_t rows, std::uint64_t columns, std::int64_t ld);
int cublasLtMatmulPreferenceCreate(void* out);

int cublasLtMatmulDescCreate(void** out, int compute, int scale) {
  const int status = cublaslt_matmul_create(out, compute, scale);
  if (status == kOk) find(*out)->state[kScaleType] = static_cast<std::uint64_t>(scale);
  return status;
}

int cublasLtMatrixTransformDescCreate(void** out, int scale) {
  const int status = cublaslt_transform_create(out, scale);
  if (status == kOk) find(*out)->state[kScaleType] = static_cast<std::uint64_t>(scale);
  return status;
}

int cublasLtMatrixLayoutInit_internal(void* layout, std::uint64_t bytes, int type, std::uint64_t rows, std::uint64_t columns,
                                      std::int64_t ld) {
  return initialise(layout, bytes, [&](void** out) { return cublasLtMatrixLayoutCreate(out, type, rows, columns, ld); });
}
int cublasLtMatmulDescInit_internal(void* descriptor, std::uint64_t bytes, int compute, int scale) {
  return initialise(descriptor, bytes, [&](void** out) { return cublasLtMatmulDescCreate(out, compute, scale); });
}
int cublasLtMatrixTransformDescInit_internal(void* descriptor, std::uint64_t bytes, int scale) {
  return initialise(descriptor, bytes, [&](void** out) { return cublasLtMatrixTransformDescCreate(out, scale); });
}
int cublasLtMatmulPreferenceInit_internal(void* preference, std::uint64_t bytes) {
  return initialise(preference, bytes, [&](void** out) { return cublasLtMatmulPreferenceCreate(out); });
}

int cublasLtGetProperty(int type, int* value) {
  return value == nullptr ? static_cast<int>(kInvalidValue) : cublaslt_get_property(type, value);
}
std::size_t cublasLtGetVersion(void) {
  int part[3]{};
  for (int type = 0; type < 3; ++type)
    if (cublaslt_get_property(type, &part[type]) != kOk) return 130000;
  return static_cast<std::size_t>(part[0]) * 10000 + static_cast<std::size_t>(part[1]) * 100 + static_cast<std::size_t>(part[2]);
}
std::size_t cublasLtGetCudartVersion(void) { return CUDA_VERSION; }
const char* cublasLtGetStatusName(int status) { return status == kOk ? "CUBLAS_STATUS_SUCCESS" : "CUBLAS_STATUS"; }
const char* cublasLtGetStatusString(int status) { return status == kOk ? "success" : "a call of cuBLASLt failed"; }

/// Answers are remembered in any case.
int cublasLtHeuristicsCacheGetCapacity(std::size_t* capacity) {
  if (capacity == nullptr) return kInvalidValue;
  *capacity = 0;
  return kOk;
}
int cublasLtHeuristicsCacheSetCapacity(std::size_t) { return kOk; }
unsigned cublasLtDisableCpuInstructionsSetMask(unsigned) { return 0; }

int cublasLtLoggerSetCallback(void*) { return kOk; }
int cublasLtLoggerSetFile(void*) { return kOk; }
int cublasLtLoggerOpenFile(const char*) { return kOk; }
int cublasLtLoggerSetLevel(int) { return kOk; }
int cublasLtLoggerSetMask(int) { return kOk; }
int cublasLtLoggerForceDisable(void) { return kOk; }

}  // extern "C"
