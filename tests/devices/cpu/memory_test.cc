#include <cstring>
#include <memory>

#include "support.h"

namespace {
constexpr size_t kMiB = size_t{1} << 20;
}

TEST_CASE("Memory is counted, and its end is told truthfully") {
  test::Context context;
  size_t before = 0, after = 0, total = 0;
  OK(cuMemGetInfo(&before, &total));
  CUdeviceptr big = 0, more = 0;
  GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc(&big, before + 1));
  OK(cuMemAlloc(&big, before));
  GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc(&more, 1));
  OK(cuMemGetInfo(&after, &total));
  CHECK(after == 0);
  OK(cuMemFree(big));
  OK(cuMemGetInfo(&after, &total));
  CHECK(after == before);
}

TEST_CASE("Bad arguments of allocation and freeing have CUDA's errors") {
  test::Context context;
  CUdeviceptr pointer = 0;
  size_t pitch = 0;
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemAlloc(&pointer, 0));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemAlloc(nullptr, 4));
  GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc(&pointer, ~size_t{0}));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemAllocPitch(&pointer, &pitch, 100, 10, 5));
  GIVES(CUDA_SUCCESS, cuMemFree(0));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemFree(0x1000));
  OK(cuMemAllocPitch(&pointer, &pitch, 513, 10, 4));
  CHECK(pitch == 1024);
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemFree(pointer + 8));
  CUdeviceptr base = 0;
  size_t bytes = 0;
  OK(cuMemGetAddressRange(&base, &bytes, pointer + 1000));
  CHECK(base == pointer);
  CHECK(bytes == 10240);
  OK(cuMemFree(pointer));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemFree(pointer));
  GIVES(CUDA_ERROR_NOT_FOUND, cuMemGetAddressRange(&base, &bytes, pointer));
}

TEST_CASE("Host memory is registered once and unregistered once") {
  test::Context context;
  auto memory = std::make_unique<char[]>(3 * 4096);
  CUdeviceptr pointer = 0;
  GIVES(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, cuMemHostUnregister(memory.get()));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemHostGetDevicePointer(&pointer, memory.get(), 0));
  OK(cuMemHostRegister(memory.get(), 8192, 0));
  GIVES(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, cuMemHostRegister(memory.get() + 4096, 8192, 0));
  OK(cuMemHostGetDevicePointer(&pointer, memory.get() + 5, 0));
  CHECK(pointer == reinterpret_cast<CUdeviceptr>(memory.get() + 5));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemFreeHost(memory.get()));
  OK(cuMemHostUnregister(memory.get()));
  GIVES(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, cuMemHostUnregister(memory.get()));
}

TEST_CASE("Pointers tell what they are") {
  test::Context context;
  test::Buffer buffer(kMiB);
  void* pinned = nullptr;
  OK(cuMemAllocHost(&pinned, 4096));
  unsigned type = 0;
  OK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, buffer.address + 5));
  CHECK(type == CU_MEMORYTYPE_DEVICE);
  OK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, reinterpret_cast<CUdeviceptr>(pinned)));
  CHECK(type == CU_MEMORYTYPE_HOST);
  CUcontext owner = nullptr;
  OK(cuPointerGetAttribute(&owner, CU_POINTER_ATTRIBUTE_CONTEXT, buffer.address));
  CHECK(owner == context.handle);
  int local = 0;
  GIVES(CUDA_ERROR_INVALID_VALUE, cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                                        reinterpret_cast<CUdeviceptr>(&local)));
  CUpointer_attribute attributes[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_RANGE_SIZE};
  size_t bytes = 7;
  void* data[] = {&type, &bytes};
  OK(cuPointerGetAttributes(2, attributes, data, reinterpret_cast<CUdeviceptr>(&local)));
  CHECK(type == 0);
  CHECK(bytes == 0);
  OK(cuMemFreeHost(pinned));
}

TEST_CASE("One piece of physical memory can be mapped at two wished addresses") {
  test::Context context;
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
  size_t step = 0;
  OK(cuMemGetAllocationGranularity(&step, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
  CHECK(step == 2 * kMiB);
  CUmemGenericAllocationHandle handle = 0;
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemCreate(&handle, step / 2, &properties, 0));
  GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemCreate(&handle, step * 1000, &properties, 0));
  OK(cuMemCreate(&handle, step, &properties, 0));
  // The test's own pages tell where addresses are free, under a sanitizer too.
  CUdeviceptr range = 0, again = 0;
  OK(cuMemAddressReserve(&range, 8 * step, 0, 0, 0));
  OK(cuMemAddressFree(range, 8 * step));
  OK(cuMemAddressReserve(&again, 8 * step, 0, range, 0));
  CHECK(again == range);
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemMap(range + 8 * step, step, 0, handle, 0));  // not reserved
  OK(cuMemMap(range, step, 0, handle, 0));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemMap(range, step, 0, handle, 0));  // mapped already
  OK(cuMemMap(range + 4 * step, step, 0, handle, 0));
  OK(cuMemRelease(handle));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemRelease(handle));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemsetD32(range, 5, 10));  // no access yet
  CUmemAccessDesc access{properties.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  OK(cuMemSetAccess(range, step, &access, 1));
  OK(cuMemSetAccess(range + 4 * step, step, &access, 1));
  OK(cuMemsetD32(range, 5, step / 4));
  CHECK(test::read(range + 4 * step, 2) == std::vector<std::uint32_t>{5, 5});
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemAddressFree(range, 8 * step));  // still mapped
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemUnmap(range, step / 2));
  OK(cuMemUnmap(range, step));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemsetD32(range, 5, 10));
  OK(cuMemUnmap(range + 4 * step, step));
  OK(cuMemAddressFree(range, 8 * step));
  size_t free = 0, total = 0;
  OK(cuMemGetInfo(&free, &total));
  CHECK(free == total);
}

TEST_CASE("A copy may span mappings that lie side by side, but no gap") {
  test::Context context;
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
  const CUmemAccessDesc access{properties.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  CUdeviceptr range = 0;
  const size_t step = 2 * kMiB;
  OK(cuMemAddressReserve(&range, 4 * step, 0, 0, 0));
  for (const int place : {0, 1, 3}) {
    CUmemGenericAllocationHandle handle = 0;
    OK(cuMemCreate(&handle, step, &properties, 0));
    OK(cuMemMap(range + place * step, step, 0, handle, 0));
    OK(cuMemSetAccess(range + place * step, step, &access, 1));
    OK(cuMemRelease(handle));
  }
  OK(cuMemsetD8(range, 1, 2 * step));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemsetD8(range, 1, 2 * step + 1));
  OK(cuCtxSynchronize());
  OK(cuMemUnmap(range, 2 * step));
  OK(cuMemUnmap(range + 3 * step, step));
  OK(cuMemAddressFree(range, 4 * step));
}

TEST_CASE("Stream-ordered memory is freed when the stream gets there") {
  test::Context context;
  const CUstream stream = test::make_stream();
  CUdeviceptr pointer = 0;
  OK(cuMemAllocAsync(&pointer, kMiB, stream));
  CUmemoryPool pool = nullptr;
  OK(cuDeviceGetDefaultMemPool(&pool, 0));
  cuuint64_t used = 0;
  OK(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used));
  CHECK(used == kMiB);
  test::Gate gate;
  gate.close(stream);
  OK(cuMemFreeAsync(pointer, stream));
  OK(cuMemsetD8(pointer, 1, kMiB));  // still there
  OK(cuStreamSynchronize(nullptr));
  gate.open();
  OK(cuStreamSynchronize(stream));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemsetD8(pointer, 1, kMiB));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemFreeAsync(pointer, stream));
}
