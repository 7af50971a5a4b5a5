#include <cstring>

#include "support.h"

TEST_CASE("Devices describe themselves") {
  OK(cuInit(0));
  int count = 0;
  OK(cuDeviceGetCount(&count));
  REQUIRE(count == 2);  // AVEC_CPU_DEVICES of these tests
  CUdevice device = -1;
  OK(cuDeviceGet(&device, 1));
  CHECK(device == 1);
  GIVES(CUDA_ERROR_INVALID_DEVICE, cuDeviceGet(&device, 2));
  GIVES(CUDA_ERROR_INVALID_DEVICE, cuDeviceGet(&device, -1));
  char name[64];
  OK(cuDeviceGetName(name, sizeof name, 0));
  CHECK(std::string(name) == "AVEC CPU device");
  size_t bytes = 0;
  OK(cuDeviceTotalMem(&bytes, 0));
  CHECK(bytes == size_t{256} << 20);  // AVEC_CPU_DEVICE_MEMORY of these tests
  int major = 0, minor = -1;
  OK(cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 0));
  OK(cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0));
  CHECK(major == 9);
  CHECK(minor == 0);
  CUuuid first, second;
  OK(cuDeviceGetUuid(&first, 0));
  OK(cuDeviceGetUuid(&second, 1));
  CHECK(std::memcmp(&first, &second, sizeof first) != 0);
  char bus[32];
  OK(cuDeviceGetPCIBusId(bus, sizeof bus, 1));
  OK(cuDeviceGetByPCIBusId(&device, bus));
  CHECK(device == 1);
  GIVES(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetByPCIBusId(&device, "0000:77:00.0"));
}

TEST_CASE("Every device attribute is answered and none beyond") {
  OK(cuInit(0));
  int value = 0;
  for (int i = 1; i < CU_DEVICE_ATTRIBUTE_MAX; ++i) {
    GIVES(CUDA_SUCCESS, cuDeviceGetAttribute(&value, static_cast<CUdevice_attribute>(i), 0));
  }
  GIVES(CUDA_ERROR_INVALID_VALUE, cuDeviceGetAttribute(&value, static_cast<CUdevice_attribute>(0), 0));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MAX, 0));
  GIVES(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 9));
}

TEST_CASE("Errors have names and texts") {
  const char* text = nullptr;
  OK(cuGetErrorName(CUDA_ERROR_ILLEGAL_ADDRESS, &text));
  CHECK(std::string(text) == "CUDA_ERROR_ILLEGAL_ADDRESS");
  OK(cuGetErrorString(CUDA_ERROR_INVALID_VALUE, &text));
  CHECK(std::string(text) == "invalid argument");
  CHECK(cuGetErrorName(static_cast<CUresult>(12345), &text) == CUDA_ERROR_INVALID_VALUE);
  CHECK(text == nullptr);
}

TEST_CASE("Entry points are found by name, version and stream flavour") {
  OK(cuInit(0));
  void *v1 = nullptr, *v2 = nullptr, *found = nullptr;
  CUdriverProcAddressQueryResult status;
  OK(cuGetProcAddress_v2("cuMemAlloc", &v1, 2000, 0, &status));
  OK(cuGetProcAddress_v2("cuMemAlloc", &v2, 13000, 0, &status));
  CHECK(v1 != v2);
  CHECK(v2 == reinterpret_cast<void*>(&cuMemAlloc_v2));
  CHECK(status == CU_GET_PROC_ADDRESS_SUCCESS);
  void *legacy = nullptr, *per_thread = nullptr;
  OK(cuGetProcAddress_v2("cuLaunchKernel", &legacy, 13000, 0, &status));
  OK(cuGetProcAddress_v2("cuLaunchKernel", &per_thread, 13000, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM,
                         &status));
  CHECK(legacy != per_thread);
  OK(cuGetProcAddress_v2("cuLaunchKernelEx", &found, 11000, 0, &status));
  CHECK(status == CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
  CHECK(found == nullptr);
  OK(cuGetProcAddress_v2("cuNothing", &found, 13000, 0, &status));
  GIVES(CUDA_ERROR_NOT_FOUND, cuGetProcAddress_v2("cuNothing", &found, 13000, 0, nullptr));
  CHECK(status == CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
  GIVES(CUDA_ERROR_INVALID_VALUE, cuGetProcAddress_v2(nullptr, &found, 13000, 0, &status));
}

TEST_CASE("What is not implemented says so") {
  OK(cuInit(0));
  CUexternalMemory memory = nullptr;
  const CUDA_EXTERNAL_MEMORY_HANDLE_DESC description{};
  GIVES(CUDA_ERROR_NOT_SUPPORTED, cuImportExternalMemory(&memory, &description));
  const void* table = nullptr;
  const CUuuid id{};
  GIVES(CUDA_ERROR_NOT_FOUND, cuGetExportTable(&table, &id));
}
