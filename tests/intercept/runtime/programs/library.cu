// Kernels that the program loads itself.
#include <cstdio>
#include <cstring>
#include <string>

#include "check.h"

const char kPtx[] = R"(
.version 7.0
.target sm_70
.address_size 64
.visible .global .align 4 .u32 start = 5;
.visible .entry fill(.param .u64 fill_param_0, .param .u32 fill_param_1) {
  .reg .b32 %r<4>;
  .reg .b64 %rd<3>;
  ld.param.u64 %rd1, [fill_param_0];
  ld.param.u32 %r1, [fill_param_1];
  ld.global.u32 %r2, [start];
  add.u32 %r3, %r1, %r2;
  cvta.to.global.u64 %rd2, %rd1;
  st.global.u32 [%rd2], %r3;
  ret;
}
)";

int main() {
  cudaLibrary_t library;
  {
    // The library keeps what it needs of the code.
    std::string code = kPtx;
    OK(cudaLibraryLoadData(&library, code.c_str(), nullptr, nullptr, 0, nullptr, nullptr, 0));
    code.assign(code.size(), 'x');
  }
  cudaKernel_t kernel;
  OK(cudaLibraryGetKernel(&kernel, library, "fill"));
  int *out, host = 0, value = 37;
  OK(cudaMalloc(&out, sizeof host));
  void* arguments[] = {&out, &value};
  OK(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(1), dim3(1), arguments, 0, nullptr));
  OK(cudaMemcpy(&host, out, sizeof host, cudaMemcpyDeviceToHost));
  CHECK(host == 42);
  void* start = nullptr;
  std::size_t bytes = 0;
  OK(cudaLibraryGetGlobal(&start, &bytes, library, "start"));
  CHECK(bytes == 4);
  FAILS(cudaErrorSymbolNotFound, cudaLibraryGetKernel(&kernel, library, "no_such_kernel"));
  OK(cudaLibraryUnload(library));
  FAILS(cudaErrorFileNotFound,
        cudaLibraryLoadFromFile(&library, "/no/such/file", nullptr, nullptr, 0, nullptr, nullptr, 0));
  OK(cudaFree(out));
  return passed();
}
