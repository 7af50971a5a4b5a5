// Copies to, from and between arrays, of every shape and with every kind of memory on the other side.
#include "case.h"

using Bytes = std::vector<unsigned char>;

static Bytes numbers(std::size_t count, unsigned seed = 1) {
  Bytes result(count);
  for (std::size_t i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    result[i] = static_cast<unsigned char>(seed >> 24);
  }
  return result;
}

static void same(const char* what, const void* a, const void* b, std::size_t bytes) {
  say("%s: %s", what, std::memcmp(a, b, bytes) == 0 ? "same" : "different");
}

template <class T>
static cudaArray_t make(std::size_t width, std::size_t height = 0, std::size_t depth = 0, unsigned flags = 0) {
  cudaArray_t array = nullptr;
  const cudaChannelFormatDesc channels = cudaCreateChannelDesc<T>();
  NEED(cudaMalloc3DArray(&array, &channels, make_cudaExtent(width, height, depth), flags));
  return array;
}

CASE(rectangle_there_and_back) {
  const cudaArray_t array = make<float>(50, 20);
  const Bytes in = numbers(200 * 20);
  Bytes out(200 * 20);
  SHOW(cudaMemcpy2DToArray(array, 0, 0, in.data(), 200, 200, 20, cudaMemcpyHostToDevice));
  SHOW(cudaMemcpy2DFromArray(out.data(), 200, array, 0, 0, 200, 20, cudaMemcpyDeviceToHost));
  same("all", in.data(), out.data(), in.size());
}

CASE(part_of_a_rectangle) {
  const cudaArray_t array = make<uchar4>(16, 8);
  const Bytes all = numbers(64 * 8), piece = numbers(20 * 3, 7);
  Bytes expected = all, out(64 * 8);
  NEED(cudaMemcpy2DToArray(array, 0, 0, all.data(), 64, 64, 8, cudaMemcpyHostToDevice));
  SHOW(cudaMemcpy2DToArray(array, 12, 2, piece.data(), 20, 20, 3, cudaMemcpyHostToDevice));
  for (int y = 0; y < 3; ++y) std::memcpy(&expected[(y + 2) * 64 + 12], &piece[y * 20], 20);
  NEED(cudaMemcpy2DFromArray(out.data(), 64, array, 0, 0, 64, 8, cudaMemcpyDeviceToHost));
  same("all", expected.data(), out.data(), out.size());
  Bytes read(20 * 3);
  SHOW(cudaMemcpy2DFromArray(read.data(), 20, array, 12, 2, 20, 3, cudaMemcpyDeviceToHost));
  same("the piece", piece.data(), read.data(), read.size());
}

CASE(pitched_host_memory) {
  const cudaArray_t array = make<short>(10, 6);
  const Bytes in = numbers(32 * 6);
  Bytes out(48 * 6, 0xee);
  SHOW(cudaMemcpy2DToArray(array, 0, 0, in.data(), 32, 20, 6, cudaMemcpyHostToDevice));
  SHOW(cudaMemcpy2DFromArray(out.data(), 48, array, 0, 0, 20, 6, cudaMemcpyDeviceToHost));
  bool equal = true, untouched = true;
  for (int y = 0; y < 6; ++y) {
    equal = equal && std::memcmp(&in[y * 32], &out[y * 48], 20) == 0;
    for (int x = 20; x < 48; ++x) untouched = untouched && out[y * 48 + x] == 0xee;
  }
  say("equal %d, untouched %d", equal, untouched);
}

CASE(device_memory) {
  const cudaArray_t array = make<int>(32, 16);
  const Bytes in = numbers(128 * 16);
  Bytes out(in.size());
  void *from = nullptr, *to = nullptr;
  std::size_t pitch = 0;
  NEED(cudaMallocPitch(&from, &pitch, 128, 16));
  NEED(cudaMallocPitch(&to, &pitch, 128, 16));
  NEED(cudaMemcpy2D(from, pitch, in.data(), 128, 128, 16, cudaMemcpyHostToDevice));
  SHOW(cudaMemcpy2DToArray(array, 0, 0, from, pitch, 128, 16, cudaMemcpyDeviceToDevice));
  SHOW(cudaMemcpy2DFromArray(to, pitch, array, 0, 0, 128, 16, cudaMemcpyDeviceToDevice));
  NEED(cudaMemcpy2D(out.data(), 128, to, pitch, 128, 16, cudaMemcpyDeviceToHost));
  same("all", in.data(), out.data(), in.size());
}

CASE(default_kind) {
  const cudaArray_t array = make<int>(8, 4);
  const Bytes in = numbers(32 * 4);
  Bytes out(in.size());
  void* device = nullptr;
  NEED(cudaMalloc(&device, in.size()));
  SHOW(cudaMemcpy2DToArray(array, 0, 0, in.data(), 32, 32, 4, cudaMemcpyDefault));
  SHOW(cudaMemcpy2DFromArray(device, 32, array, 0, 0, 32, 4, cudaMemcpyDefault));
  NEED(cudaMemcpy(out.data(), device, out.size(), cudaMemcpyDefault));
  same("all", in.data(), out.data(), in.size());
}

CASE(linear_over_rows) {
  const cudaArray_t array = make<unsigned char>(10, 8);
  const Bytes zeros(80), in = numbers(37);
  Bytes out(80), expected(80), back(37);
  NEED(cudaMemcpyToArray(array, 0, 0, zeros.data(), 80, cudaMemcpyHostToDevice));
  SHOW(cudaMemcpyToArray(array, 4, 1, in.data(), 37, cudaMemcpyHostToDevice));
  std::memcpy(&expected[14], in.data(), 37);
  SHOW(cudaMemcpyFromArray(out.data(), array, 0, 0, 80, cudaMemcpyDeviceToHost));
  same("all", expected.data(), out.data(), 80);
  SHOW(cudaMemcpyFromArray(back.data(), array, 4, 1, 37, cudaMemcpyDeviceToHost));
  same("the bytes", in.data(), back.data(), 37);
}

CASE(array_to_array) {
  const cudaArray_t a = make<float>(16, 8), b = make<float>(16, 8);
  const Bytes in = numbers(64 * 8);
  Bytes out(in.size()), expected(in.size());
  NEED(cudaMemcpy2DToArray(a, 0, 0, in.data(), 64, 64, 8, cudaMemcpyHostToDevice));
  NEED(cudaMemcpy2DToArray(b, 0, 0, expected.data(), 64, 64, 8, cudaMemcpyHostToDevice));
  SHOW(cudaMemcpy2DArrayToArray(b, 16, 3, a, 8, 1, 32, 4, cudaMemcpyDeviceToDevice));
  for (int y = 0; y < 4; ++y) std::memcpy(&expected[(y + 3) * 64 + 16], &in[(y + 1) * 64 + 8], 32);
  NEED(cudaMemcpy2DFromArray(out.data(), 64, b, 0, 0, 64, 8, cudaMemcpyDeviceToHost));
  same("all", expected.data(), out.data(), out.size());
}

CASE(box_there_and_back) {
  const cudaArray_t array = make<short2>(10, 7, 5);
  const Bytes in = numbers(40 * 7 * 5);
  Bytes out(in.size());
  cudaMemcpy3DParms p{};
  p.srcPtr = make_cudaPitchedPtr(const_cast<unsigned char*>(in.data()), 40, 10, 7);
  p.dstArray = array;
  p.extent = make_cudaExtent(10, 7, 5);
  p.kind = cudaMemcpyHostToDevice;
  SHOW(cudaMemcpy3D(&p));
  cudaMemcpy3DParms q{};
  q.srcArray = array;
  q.dstPtr = make_cudaPitchedPtr(out.data(), 40, 10, 7);
  q.extent = make_cudaExtent(10, 7, 5);
  q.kind = cudaMemcpyDeviceToHost;
  SHOW(cudaMemcpy3D(&q));
  same("all", in.data(), out.data(), in.size());
}

CASE(part_of_a_box) {
  const cudaArray_t array = make<int>(8, 6, 5);
  Bytes all = numbers(32 * 6 * 5), out(32 * 6 * 5);
  const Bytes piece = numbers(12 * 2 * 3, 9);
  cudaMemcpy3DParms p{};
  p.srcPtr = make_cudaPitchedPtr(all.data(), 32, 8, 6);
  p.dstArray = array;
  p.extent = make_cudaExtent(8, 6, 5);
  p.kind = cudaMemcpyHostToDevice;
  NEED(cudaMemcpy3D(&p));
  p.srcPtr = make_cudaPitchedPtr(const_cast<unsigned char*>(piece.data()), 12, 3, 2);
  p.dstPos = make_cudaPos(4, 3, 1);
  p.extent = make_cudaExtent(3, 2, 3);
  SHOW(cudaMemcpy3D(&p));
  for (int z = 0; z < 3; ++z)
    for (int y = 0; y < 2; ++y) std::memcpy(&all[((z + 1) * 6 + y + 3) * 32 + 16], &piece[(z * 2 + y) * 12], 12);
  cudaMemcpy3DParms q{};
  q.srcArray = array;
  q.dstPtr = make_cudaPitchedPtr(out.data(), 32, 8, 6);
  q.extent = make_cudaExtent(8, 6, 5);
  q.kind = cudaMemcpyDeviceToHost;
  NEED(cudaMemcpy3D(&q));
  same("all", all.data(), out.data(), out.size());
}

CASE(layers) {
  const cudaArray_t flat = make<float>(6, 4, 3, cudaArrayLayered), line = make<float>(6, 0, 3, cudaArrayLayered);
  const Bytes in = numbers(24 * 4 * 3), rows = numbers(24 * 3, 3);
  Bytes layer(24 * 4), row(24);
  cudaMemcpy3DParms p{};
  p.srcPtr = make_cudaPitchedPtr(const_cast<unsigned char*>(in.data()), 24, 6, 4);
  p.dstArray = flat;
  p.extent = make_cudaExtent(6, 4, 3);
  p.kind = cudaMemcpyHostToDevice;
  SHOW(cudaMemcpy3D(&p));
  p.srcPtr = make_cudaPitchedPtr(const_cast<unsigned char*>(rows.data()), 24, 6, 1);
  p.dstArray = line;
  p.extent = make_cudaExtent(6, 1, 3);
  SHOW(cudaMemcpy3D(&p));
  cudaMemcpy3DParms q{};
  q.srcArray = flat;
  q.srcPos = make_cudaPos(0, 0, 2);
  q.dstPtr = make_cudaPitchedPtr(layer.data(), 24, 6, 4);
  q.extent = make_cudaExtent(6, 4, 1);
  q.kind = cudaMemcpyDeviceToHost;
  SHOW(cudaMemcpy3D(&q));
  same("layer 2", &in[24 * 4 * 2], layer.data(), layer.size());
  q.srcArray = line;
  q.srcPos = make_cudaPos(0, 0, 1);
  q.dstPtr = make_cudaPitchedPtr(row.data(), 24, 6, 1);
  q.extent = make_cudaExtent(6, 1, 1);
  SHOW(cudaMemcpy3D(&q));
  same("row 1", &rows[24], row.data(), row.size());
}

CASE(box_between_arrays) {
  const cudaArray_t a = make<int>(8, 6, 5), b = make<int>(8, 6, 5);
  const Bytes in = numbers(32 * 6 * 5);
  Bytes out(4 * 4 * 2 * 2);
  cudaMemcpy3DParms p{};
  p.srcPtr = make_cudaPitchedPtr(const_cast<unsigned char*>(in.data()), 32, 8, 6);
  p.dstArray = a;
  p.extent = make_cudaExtent(8, 6, 5);
  p.kind = cudaMemcpyHostToDevice;
  NEED(cudaMemcpy3D(&p));
  cudaMemcpy3DParms q{};
  q.srcArray = a;
  q.srcPos = make_cudaPos(2, 1, 3);
  q.dstArray = b;
  q.dstPos = make_cudaPos(4, 4, 0);
  q.extent = make_cudaExtent(4, 2, 2);
  q.kind = cudaMemcpyDeviceToDevice;
  SHOW(cudaMemcpy3D(&q));
  cudaMemcpy3DParms r{};
  r.srcArray = b;
  r.srcPos = make_cudaPos(4, 4, 0);
  r.dstPtr = make_cudaPitchedPtr(out.data(), 16, 4, 2);
  r.extent = make_cudaExtent(4, 2, 2);
  r.kind = cudaMemcpyDeviceToHost;
  SHOW(cudaMemcpy3D(&r));
  bool equal = true;
  for (int z = 0; z < 2; ++z)
    for (int y = 0; y < 2; ++y)
      equal = equal && std::memcmp(&in[((z + 3) * 6 + y + 1) * 32 + 8], &out[(z * 2 + y) * 16], 16) == 0;
  say("equal %d", equal);
}

CASE(large_copies) {
  // 12 MiB, in more than one piece whatever way they go.
  const cudaArray_t array = make<float>(1024, 1024, 3);
  const Bytes in = numbers(4096u * 1024 * 3);
  Bytes out(in.size()), pinned_out(in.size());
  void* pinned = nullptr;
  NEED(cudaMallocHost(&pinned, in.size()));
  std::memcpy(pinned, in.data(), in.size());
  cudaMemcpy3DParms p{}, q{};
  p.srcPtr = make_cudaPitchedPtr(const_cast<unsigned char*>(in.data()), 4096, 1024, 1024);
  p.dstArray = array;
  p.extent = make_cudaExtent(1024, 1024, 3);
  p.kind = cudaMemcpyHostToDevice;
  SHOW(cudaMemcpy3D(&p));
  q.srcArray = array;
  q.dstPtr = make_cudaPitchedPtr(out.data(), 4096, 1024, 1024);
  q.extent = make_cudaExtent(1024, 1024, 3);
  q.kind = cudaMemcpyDeviceToHost;
  SHOW(cudaMemcpy3D(&q));
  same("pageable", in.data(), out.data(), in.size());
  p.srcPtr.ptr = pinned;
  SHOW(cudaMemcpy3DAsync(&p, nullptr));
  SHOW(cudaDeviceSynchronize());
  std::memset(pinned, 0, in.size());
  q.dstPtr.ptr = pinned;
  SHOW(cudaMemcpy3DAsync(&q, nullptr));
  SHOW(cudaDeviceSynchronize());
  same("pinned", in.data(), pinned, in.size());
  NEED(cudaFreeHost(pinned));
}

CASE(streams_keep_the_order) {
  const cudaArray_t array = make<int>(256, 64);
  cudaStream_t stream = nullptr;
  NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  unsigned char *pinned = nullptr, *back = nullptr;
  NEED(cudaMallocHost(&pinned, 1024 * 64));
  NEED(cudaMallocHost(&back, 1024 * 64));
  bool equal = true;
  for (unsigned i = 0; i < 10; ++i) {
    const Bytes in = numbers(1024 * 64, i);
    std::memcpy(pinned, in.data(), in.size());
    NEED(cudaMemcpy2DToArrayAsync(array, 0, 0, pinned, 1024, 1024, 64, cudaMemcpyHostToDevice, stream));
    NEED(cudaMemcpy2DFromArrayAsync(back, 1024, array, 0, 0, 1024, 64, cudaMemcpyDeviceToHost, stream));
    NEED(cudaStreamSynchronize(stream));
    equal = equal && std::memcmp(back, in.data(), in.size()) == 0;
  }
  say("equal %d", equal);
}

CASE(driver_bytes_of_1d_arrays) {
  NEED(cuInit(0));
  NEED(cudaFree(nullptr));
  CUDA_ARRAY_DESCRIPTOR d{64, 0, CU_AD_FORMAT_UNSIGNED_INT32, 1};
  CUarray a = nullptr, b = nullptr;
  NEED(cuArrayCreate(&a, &d));
  NEED(cuArrayCreate(&b, &d));
  const Bytes in = numbers(256);
  Bytes out(256), device_out(256);
  CUdeviceptr device = 0;
  NEED(cuMemAlloc(&device, 256));
  SHOW(cuMemcpyHtoA(a, 0, in.data(), 256));
  SHOW(cuMemcpyAtoH(out.data(), a, 0, 256));
  same("there and back", in.data(), out.data(), 256);
  SHOW(cuMemcpyAtoA(b, 64, a, 0, 128));
  SHOW(cuMemcpyAtoH(out.data(), b, 64, 128));
  same("between arrays", in.data(), out.data(), 128);
  SHOW(cuMemcpyAtoD(device, a, 16, 240));
  SHOW(cuMemcpyDtoA(b, 0, device, 240));
  SHOW(cuMemcpyAtoH(out.data(), b, 0, 240));
  same("by device memory", &in[16], out.data(), 240);
  SHOW(cuMemcpyHtoAAsync(a, 128, in.data(), 128, nullptr));
  SHOW(cuMemcpyAtoHAsync(out.data(), a, 128, 128, nullptr));
  SHOW(cuCtxSynchronize());
  same("asynchronous", in.data(), out.data(), 128);
}

CASE(driver_beyond_the_array) {
  NEED(cuInit(0));
  NEED(cudaFree(nullptr));
  CUDA_ARRAY_DESCRIPTOR d{16, 8, CU_AD_FORMAT_UNSIGNED_INT32, 1};
  CUarray array = nullptr;
  NEED(cuArrayCreate(&array, &d));
  Bytes host(64 * 9);
  CUDA_MEMCPY2D copy{};
  copy.srcMemoryType = CU_MEMORYTYPE_HOST;
  copy.srcHost = host.data();
  copy.srcPitch = 64;
  copy.dstMemoryType = CU_MEMORYTYPE_ARRAY;
  copy.dstArray = array;
  copy.WidthInBytes = 64;
  copy.Height = 9;
  SHOW(cuMemcpy2D(&copy));
  copy.Height = 8;
  copy.dstXInBytes = 4;
  SHOW(cuMemcpy2D(&copy));
  copy.dstXInBytes = 0;
  copy.dstY = 1;
  SHOW(cuMemcpy2D(&copy));
  copy.dstY = 0;
  SHOW(cuMemcpy2D(&copy));
  copy.WidthInBytes = 0;
  SHOW(cuMemcpy2D(&copy));
  SHOW(cuMemcpy2D(nullptr));
  NEED(cuArrayDestroy(array));
}

CASE(runtime_errors) {
  const cudaArray_t array = make<int>(8, 4);
  Bytes host(32 * 8);
  SHOW(cudaMemcpy2DToArray(array, 0, 0, host.data(), 16, 32, 4, cudaMemcpyHostToDevice));
  SHOW(cudaMemcpy2DToArray(array, 0, 0, host.data(), 32, 32, 5, cudaMemcpyHostToDevice));
  SHOW(cudaMemcpy2DToArray(array, 4, 0, host.data(), 32, 32, 4, cudaMemcpyHostToDevice));
  SHOW(cudaMemcpy2DToArray(array, 0, 0, host.data(), 32, 32, 4, cudaMemcpyDeviceToHost));
  SHOW(cudaMemcpy2DFromArray(host.data(), 32, array, 0, 0, 32, 4, cudaMemcpyHostToDevice));
  SHOW(cudaMemcpy2DToArray(array, 0, 0, host.data(), 32, 0, 4, cudaMemcpyHostToDevice));
  cudaMemcpy3DParms p{};
  SHOW(cudaMemcpy3D(nullptr));
  p.dstArray = array;
  p.extent = make_cudaExtent(8, 4, 1);
  p.kind = cudaMemcpyHostToDevice;
  SHOW(cudaMemcpy3D(&p));
  p.srcPtr = make_cudaPitchedPtr(host.data(), 16, 8, 4);
  SHOW(cudaMemcpy3D(&p));
  p.srcPtr = make_cudaPitchedPtr(host.data(), 32, 8, 4);
  p.dstPos = make_cudaPos(1, 0, 0);
  SHOW(cudaMemcpy3D(&p));
}

CASE(block_compressed) {
  cudaArray_t array = nullptr;
  const cudaChannelFormatDesc channels = cudaCreateChannelDesc<cudaChannelFormatKindUnsignedBlockCompressed1>();
  NEED(cudaMallocArray(&array, &channels, 16, 8));
  // 4 x 2 blocks of 8 bytes.
  const Bytes in = numbers(64);
  Bytes out(64);
  SHOW(cudaMemcpy2DToArray(array, 0, 0, in.data(), 32, 32, 2, cudaMemcpyHostToDevice));
  SHOW(cudaMemcpy2DFromArray(out.data(), 32, array, 0, 0, 32, 2, cudaMemcpyDeviceToHost));
  same("all", in.data(), out.data(), 64);
}

CASE(mipmapped_level) {
  cudaMipmappedArray_t mipmapped = nullptr;
  const cudaChannelFormatDesc channels = cudaCreateChannelDesc<float>();
  NEED(cudaMallocMipmappedArray(&mipmapped, &channels, make_cudaExtent(16, 8, 0), 3));
  cudaArray_t first = nullptr, second = nullptr;
  NEED(cudaGetMipmappedArrayLevel(&first, mipmapped, 0));
  NEED(cudaGetMipmappedArrayLevel(&second, mipmapped, 1));
  const Bytes in = numbers(64 * 8), small = numbers(32 * 4, 5);
  Bytes out(64 * 8), small_out(32 * 4);
  SHOW(cudaMemcpy2DToArray(first, 0, 0, in.data(), 64, 64, 8, cudaMemcpyHostToDevice));
  SHOW(cudaMemcpy2DToArray(second, 0, 0, small.data(), 32, 32, 4, cudaMemcpyHostToDevice));
  SHOW(cudaMemcpy2DFromArray(out.data(), 64, first, 0, 0, 64, 8, cudaMemcpyDeviceToHost));
  SHOW(cudaMemcpy2DFromArray(small_out.data(), 32, second, 0, 0, 32, 4, cudaMemcpyDeviceToHost));
  same("level 0", in.data(), out.data(), out.size());
  same("level 1", small.data(), small_out.data(), small_out.size());
}
