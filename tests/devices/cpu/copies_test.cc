#include <numeric>

#include "support.h"

namespace {

std::vector<std::uint32_t> counted(std::size_t count) {
  std::vector<std::uint32_t> words(count);
  std::iota(words.begin(), words.end(), 0u);
  return words;
}

}  // namespace

TEST_CASE("Bytes survive a round trip in every one-dimensional form") {
  test::Context context;
  const auto words = counted(1000);
  const size_t bytes = words.size() * 4;
  test::Buffer a(bytes), b(bytes);
  OK(cuMemcpyHtoD(a.address, words.data(), bytes));
  OK(cuMemcpyDtoD(b.address, a.address, bytes));
  CHECK(test::read(b.address, 1000) == words);
  OK(cuMemsetD8(b.address, 0, bytes));
  OK(cuMemcpy(b.address, reinterpret_cast<CUdeviceptr>(words.data()), bytes));
  std::vector<std::uint32_t> back(1000);
  OK(cuMemcpy(reinterpret_cast<CUdeviceptr>(back.data()), b.address, bytes));
  CHECK(back == words);
  const CUstream stream = test::make_stream();
  back.assign(1000, 0);
  OK(cuMemcpyHtoDAsync(a.address, words.data(), bytes, stream));
  OK(cuMemcpyDtoHAsync(back.data(), a.address, bytes, stream));
  OK(cuStreamSynchronize(stream));
  CHECK(back == words);
}

TEST_CASE("Bad copies are refused at once") {
  test::Context context;
  test::Buffer buffer(64);
  char host[128];
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD(buffer.address, host, 65));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD(buffer.address + 1, host, 64));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD(0, host, 4));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH(nullptr, buffer.address, 4));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD(reinterpret_cast<CUdeviceptr>(host), host, 4));
  GIVES(CUDA_SUCCESS, cuMemcpyHtoD(buffer.address, host, 0));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemsetD32(buffer.address + 2, 0, 1));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemsetD8(buffer.address, 0, 65));
  GIVES(CUDA_ERROR_INVALID_HANDLE,
        cuMemcpyHtoDAsync(buffer.address, host, 4, reinterpret_cast<CUstream>(0x99)));
}

TEST_CASE("Two and three dimensions keep pitch and offsets apart") {
  test::Context context;
  CUdeviceptr image = 0;
  size_t pitch = 0;
  OK(cuMemAllocPitch(&image, &pitch, 40, 6, 4));
  OK(cuMemsetD2D32(image, pitch, 9, 10, 6));
  const auto words = counted(4 * 3);
  CUDA_MEMCPY2D to{};
  to.srcMemoryType = CU_MEMORYTYPE_HOST;
  to.srcHost = words.data();
  to.srcPitch = 16;
  to.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  to.dstDevice = image;
  to.dstPitch = pitch;
  to.dstXInBytes = 8;
  to.dstY = 2;
  to.WidthInBytes = 16;
  to.Height = 3;
  OK(cuMemcpy2D(&to));
  CHECK(test::read(image + 2 * pitch, 8) == std::vector<std::uint32_t>{9, 9, 0, 1, 2, 3, 9, 9});
  CHECK(test::read(image + 4 * pitch, 4) == std::vector<std::uint32_t>{9, 9, 8, 9});
  CHECK(test::read(image + 5 * pitch, 4) == std::vector<std::uint32_t>{9, 9, 9, 9});
  to.Height = 5;  // beyond the last row
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D(&to));
  to.Height = 3;
  to.srcPitch = 8;  // rows overlap
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D(&to));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D(nullptr));
  OK(cuMemFree(image));

  test::Buffer cube(4 * 4 * 4 * 4);
  OK(cuMemsetD8(cube.address, 0, 256));
  CUDA_MEMCPY3D box{};
  box.srcMemoryType = CU_MEMORYTYPE_UNIFIED;
  box.srcDevice = reinterpret_cast<CUdeviceptr>(words.data());
  box.srcPitch = 8;
  box.srcHeight = 2;
  box.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  box.dstDevice = cube.address;
  box.dstPitch = 16;
  box.dstHeight = 4;
  box.dstXInBytes = 4;
  box.dstY = 1;
  box.dstZ = 2;
  box.WidthInBytes = 8;
  box.Height = 2;
  box.Depth = 2;
  OK(cuMemcpy3D(&box));
  const auto all = test::read(cube.address, 64);
  CHECK(all[2 * 16 + 1 * 4 + 1] == 0);
  CHECK(all[2 * 16 + 1 * 4 + 2] == 1);
  CHECK(all[2 * 16 + 2 * 4 + 1] == 2);
  CHECK(all[3 * 16 + 2 * 4 + 2] == 7);
}

TEST_CASE("Memory moves between devices") {
  test::Context second(1);
  CUdeviceptr there = 0;
  OK(cuMemAlloc(&there, 4000));
  test::Context first(0);
  test::Buffer here(4000);
  const auto words = counted(1000);
  OK(cuMemcpyHtoD(here.address, words.data(), 4000));
  OK(cuMemcpyPeer(there, second.handle, here.address, first.handle, 4000));
  CHECK(test::read(there, 1000) == words);
  GIVES(CUDA_ERROR_INVALID_CONTEXT, cuMemcpyPeer(there, nullptr, here.address, first.handle, 4000));
  OK(cuMemFree(there));
}

TEST_CASE("A pageable source may be changed as soon as an asynchronous copy returns") {
  test::Context context;
  const CUstream stream = test::make_stream();
  test::Buffer buffer(4);
  test::Gate gate;
  gate.close(stream);
  std::uint32_t word = 1;
  OK(cuMemcpyHtoDAsync(buffer.address, &word, 4, stream));
  word = 2;
  gate.open();
  OK(cuStreamSynchronize(stream));
  CHECK(test::read(buffer.address, 1)[0] == 1);
}
