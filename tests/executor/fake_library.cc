// A few functions of cuBLAS, cuRAND and cuSPARSELt that count their calls: the library that library_calls_test.cc lets
// a session load. fake_state() says what came.
#include "executor/fake_library.h"

#include <chrono>
#include <cstdint>
#include <new>
#include <thread>

namespace {

using avec::test::FakeState;

FakeState& state() {
  static FakeState instance;
  return instance;
}

int called() {
  ++state().calls;
  return state().status;
}

/// A call that takes as long as the test wants.
void wait_at_gate() {
  ++state().waiting;
  while (state().gate) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  if (state().no_memory) throw std::bad_alloc();
}

void* const kMade = reinterpret_cast<void*>(0x4242);

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT FakeState* fake_state();
EXPORT FakeState* fake_state() { return &state(); }

EXPORT int cublasCreate_v2(void** handle);
int cublasCreate_v2(void** handle) {
  *handle = kMade;
  return called();
}
EXPORT int cublasDestroy_v2(void* handle);
int cublasDestroy_v2(void*) { return called(); }
EXPORT int cublasSetStream_v2(void* handle, void* stream);
int cublasSetStream_v2(void*, void*) { return called(); }
EXPORT int cublasIsamax_v2(void* handle, int n, const void* x, int incx, int* result);
int cublasIsamax_v2(void* handle, int n, const void*, int, int* result) {
  *result = handle == kMade ? n : -1;
  return called();
}
EXPORT int cublasZscal_v2(void* handle, int n, const double* alpha, void* x, int incx);
int cublasZscal_v2(void*, int, const double* alpha, void*, int) {
  state().seen = alpha[0] + alpha[1];
  return called();
}
EXPORT int cublasSgemmGroupedBatched(void* handle, const int* transa, const int* transb);
int cublasSgemmGroupedBatched(void*, const int*, const int*) { return called(); }

EXPORT int curandCreateGenerator(void** generator, int type);
int curandCreateGenerator(void** generator, int) {
  *generator = kMade;
  return called();
}
EXPORT int curandDestroyGenerator(void* generator);
int curandDestroyGenerator(void*) {
  if (state().gate_ends) wait_at_gate();
  return called();
}
EXPORT int curandSetStream(void* generator, void* stream);
int curandSetStream(void*, void*) { return called(); }
EXPORT int curandGenerateUniform(void* generator, float* output, std::uint64_t count);
int curandGenerateUniform(void*, float* output, std::uint64_t count) {
  wait_at_gate();
  for (std::uint64_t i = 0; i < count; ++i) output[i] = 0.5f;
  return called();
}

// What it is given is the caller's struct, which it reads after the gate.
EXPORT int cusparseLtInit(void* handle);
int cusparseLtInit(void* handle) {
  *static_cast<std::uint64_t*>(handle) = 77;
  return called();
}
EXPORT int cusparseLtDestroy(void* handle);
int cusparseLtDestroy(void*) { return called(); }
EXPORT int cusparseLtGetVersion(const void* handle, int* version);
int cusparseLtGetVersion(const void* handle, int* version) {
  wait_at_gate();
  *version = static_cast<int>(*static_cast<const std::uint64_t*>(handle));
  return called();
}
