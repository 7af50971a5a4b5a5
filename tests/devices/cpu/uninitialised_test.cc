// A program of its own: nothing here may call cuInit before the test has looked.
#include "support.h"

TEST_CASE("Before cuInit every call but the version and the error texts is refused") {
  int number = 0;
  CUcontext context = nullptr;
  CUdeviceptr pointer = 0;
  CUstream stream = nullptr;
  CUmodule module = nullptr;
  GIVES(CUDA_ERROR_NOT_INITIALIZED, cuDeviceGetCount(&number));
  GIVES(CUDA_ERROR_NOT_INITIALIZED, cuDeviceGet(&number, 0));
  GIVES(CUDA_ERROR_NOT_INITIALIZED, cuCtxGetCurrent(&context));
  GIVES(CUDA_ERROR_NOT_INITIALIZED, cuCtxSynchronize());
  GIVES(CUDA_ERROR_NOT_INITIALIZED, cuMemAlloc(&pointer, 4));
  GIVES(CUDA_ERROR_NOT_INITIALIZED, cuStreamCreate(&stream, 0));
  GIVES(CUDA_ERROR_NOT_INITIALIZED, cuModuleLoadData(&module, ""));
  GIVES(CUDA_ERROR_NOT_INITIALIZED, cuDevicePrimaryCtxRetain(&context, 0));
  GIVES(CUDA_SUCCESS, cuDriverGetVersion(&number));
  CHECK(number == 13000);
  GIVES(CUDA_ERROR_INVALID_VALUE, cuInit(1));
  GIVES(CUDA_SUCCESS, cuInit(0));
  GIVES(CUDA_SUCCESS, cuDeviceGetCount(&number));
  GIVES(CUDA_ERROR_INVALID_CONTEXT, cuCtxSynchronize());
  GIVES(CUDA_ERROR_INVALID_CONTEXT, cuMemAlloc(&pointer, 4));
}
