// Surfaces: reading and writing arrays from kernels, what lies outside, and the errors of objects.
#include "case.h"

__global__ void write_2d(cudaSurfaceObject_t s, int width, int height) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y;
  if (x < width && y < height) surf2Dwrite(static_cast<float>(y * width + x), s, x * 4, y);
}
__global__ void add_one(cudaSurfaceObject_t s, int width) {
  const int x = threadIdx.x, y = blockIdx.x;
  if (x >= width) return;
  uchar4 v;
  surf2Dread(&v, s, x * 4, y);
  surf2Dwrite(make_uchar4(v.x + 1, v.y + 2, v.z + 3, v.w + 4), s, x * 4, y);
}
__global__ void write_1d(cudaSurfaceObject_t s, int count) {
  for (int i = 0; i < count; ++i) surf1Dwrite(static_cast<short>(i * 3), s, i * 2);
}
__global__ void write_3d(cudaSurfaceObject_t s, int n) {
  for (int i = 0; i < n * n * n; ++i) surf3Dwrite(i, s, i % n * 4, i / n % n, i / n / n);
}
__global__ void write_layers(cudaSurfaceObject_t s, int n, int layers) {
  for (int i = 0; i < n * n * layers; ++i) surf2DLayeredwrite(i, s, i % n * 4, i / n % n, i / n / n);
}
__global__ void write_rows(cudaSurfaceObject_t s, int n, int layers) {
  for (int i = 0; i < n * layers; ++i) surf1DLayeredwrite(i, s, i % n * 4, i / n);
}
__global__ void write_faces(cudaSurfaceObject_t s, int n) {
  for (int i = 0; i < n * n * 6; ++i) surfCubemapwrite(i, s, i % n * 4, i / n % n, i / n / n);
}
__global__ void wide(cudaSurfaceObject_t s, float4* out) {
  surf2Dwrite(make_float4(1, 2, 3, 4), s, 16, 1);
  surf2Dread(out, s, 16, 1);
  float2 part;
  surf2Dread(&part, s, 24, 1);
  out[1] = make_float4(part.x, part.y, 0, 0);
}
__global__ void outside(cudaSurfaceObject_t s, int* out) {
  surf2Dread(&out[0], s, 16, 0, cudaBoundaryModeZero);
  surf2Dread(&out[1], s, -4, 1, cudaBoundaryModeZero);
  surf2Dread(&out[2], s, 16, 0, cudaBoundaryModeClamp);
  surf2Dread(&out[3], s, 0, 100, cudaBoundaryModeClamp);
  surf2Dread(&out[4], s, -4, -1, cudaBoundaryModeClamp);
}
__global__ void write_outside(cudaSurfaceObject_t s) {
  surf2Dwrite(77, s, 16, 0, cudaBoundaryModeZero);
  surf2Dwrite(88, s, 100, 100, cudaBoundaryModeClamp);
}
__global__ void read_texture(cudaTextureObject_t t, float* out) {
  const int i = threadIdx.x;
  out[i] = tex2D<float>(t, i % 8 + 0.5f, i / 8 + 0.5f);
}

template <class T>
static cudaArray_t make(std::size_t width, std::size_t height, std::size_t depth = 0, unsigned flags = 0) {
  cudaArray_t array = nullptr;
  const cudaChannelFormatDesc channels = cudaCreateChannelDesc<T>();
  NEED(cudaMalloc3DArray(&array, &channels, make_cudaExtent(width, height, depth), flags | cudaArraySurfaceLoadStore));
  return array;
}
static cudaResourceDesc resource_of(cudaArray_t array) {
  cudaResourceDesc resource{};
  resource.resType = cudaResourceTypeArray;
  resource.res.array.array = array;
  return resource;
}
static cudaSurfaceObject_t surface_of(cudaArray_t array) {
  const cudaResourceDesc resource = resource_of(array);
  cudaSurfaceObject_t object = 0;
  NEED(cudaCreateSurfaceObject(&object, &resource));
  return object;
}
template <class T>
static std::vector<T> contents(cudaArray_t array, std::size_t width, std::size_t height, std::size_t depth = 1) {
  std::vector<T> values(width * height * depth);
  cudaMemcpy3DParms p{};
  p.srcArray = array;
  p.dstPtr = make_cudaPitchedPtr(values.data(), width * sizeof(T), width, height);
  p.extent = make_cudaExtent(width, height, depth);
  p.kind = cudaMemcpyDeviceToHost;
  NEED(cudaDeviceSynchronize());
  NEED(cudaMemcpy3D(&p));
  return values;
}
template <class T, class F>
static void count_equal(const char* what, const std::vector<T>& got, F expected) {
  int equal = 0;
  for (std::size_t i = 0; i < got.size(); ++i) equal += got[i] == expected(static_cast<int>(i));
  say("%s: %d of %zu equal", what, equal, got.size());
}

CASE(written_2d) {
  const cudaArray_t array = make<float>(100, 20);
  const cudaSurfaceObject_t s = surface_of(array);
  write_2d<<<dim3(4, 20), 32>>>(s, 100, 20);
  count_equal("all", contents<float>(array, 100, 20), [](int i) { return static_cast<float>(i); });
  SHOW(cudaDestroySurfaceObject(s));
  SHOW(cudaFreeArray(array));
}

CASE(read_and_written) {
  const cudaArray_t array = make<uchar4>(16, 8);
  std::vector<uchar4> in(128);
  for (int i = 0; i < 128; ++i) in[i] = make_uchar4(i, 2 * i, 3 * i, 255);
  NEED(cudaMemcpy2DToArray(array, 0, 0, in.data(), 64, 64, 8, cudaMemcpyHostToDevice));
  add_one<<<8, 32>>>(surface_of(array), 16);
  const auto got = contents<uchar4>(array, 16, 8);
  int equal = 0;
  for (int i = 0; i < 128; ++i) {
    const uchar4 e = make_uchar4(in[i].x + 1, in[i].y + 2, in[i].z + 3, in[i].w + 4);
    equal += std::memcmp(&got[i], &e, 4) == 0;
  }
  say("%d of 128 equal", equal);
}

CASE(written_1d) {
  const cudaArray_t array = make<short>(50, 0);
  write_1d<<<1, 1>>>(surface_of(array), 50);
  count_equal("all", contents<short>(array, 50, 1), [](int i) { return static_cast<short>(i * 3); });
}

CASE(written_3d) {
  const cudaArray_t array = make<int>(6, 6, 6);
  write_3d<<<1, 1>>>(surface_of(array), 6);
  count_equal("all", contents<int>(array, 6, 6, 6), [](int i) { return i; });
}

CASE(written_layers) {
  const cudaArray_t flat = make<int>(5, 5, 3, cudaArrayLayered), rows = make<int>(5, 0, 3, cudaArrayLayered);
  write_layers<<<1, 1>>>(surface_of(flat), 5, 3);
  count_equal("rectangles", contents<int>(flat, 5, 5, 3), [](int i) { return i; });
  write_rows<<<1, 1>>>(surface_of(rows), 5, 3);
  count_equal("rows", contents<int>(rows, 5, 1, 3), [](int i) { return i; });
}

CASE(written_cube) {
  const cudaArray_t array = make<int>(4, 4, 6, cudaArrayCubemap);
  write_faces<<<1, 1>>>(surface_of(array), 4);
  count_equal("faces", contents<int>(array, 4, 4, 6), [](int i) { return i; });
}

CASE(sixteen_bytes_and_eight_of_them) {
  const cudaArray_t array = make<float4>(4, 4);
  float4 *out = nullptr, host[2];
  NEED(cudaMalloc(&out, sizeof host));
  wide<<<1, 1>>>(surface_of(array), out);
  NEED(cudaMemcpy(host, out, sizeof host, cudaMemcpyDeviceToHost));
  for (const float4& v : host) say("%g %g %g %g", v.x, v.y, v.z, v.w);
}

CASE(outside_reads) {
  const cudaArray_t array = make<int>(4, 4);
  std::vector<int> in(16);
  for (int i = 0; i < 16; ++i) in[i] = 10 + i;
  NEED(cudaMemcpy2DToArray(array, 0, 0, in.data(), 16, 16, 4, cudaMemcpyHostToDevice));
  int *out = nullptr, host[5];
  NEED(cudaMalloc(&out, sizeof host));
  outside<<<1, 1>>>(surface_of(array), out);
  NEED(cudaMemcpy(host, out, sizeof host, cudaMemcpyDeviceToHost));
  say("zero: %d %d, clamp: %d %d %d", host[0], host[1], host[2], host[3], host[4]);
}

CASE(outside_writes) {
  const cudaArray_t array = make<int>(4, 4);
  const std::vector<int> zeros(16);
  NEED(cudaMemcpy2DToArray(array, 0, 0, zeros.data(), 16, 16, 4, cudaMemcpyHostToDevice));
  write_outside<<<1, 1>>>(surface_of(array));
  for (int v : contents<int>(array, 4, 4)) std::printf("%d ", v);
  say("(all)");
}

CASE(texture_of_what_a_surface_wrote) {
  const cudaArray_t array = make<float>(8, 8);
  const cudaResourceDesc resource = resource_of(array);
  cudaTextureDesc how{};
  how.addressMode[0] = how.addressMode[1] = cudaAddressModeClamp;
  cudaTextureObject_t t = 0;
  NEED(cudaCreateTextureObject(&t, &resource, &how, nullptr));
  write_2d<<<dim3(1, 8), 32>>>(surface_of(array), 8, 8);
  float* out = nullptr;
  std::vector<float> host(64);
  NEED(cudaMalloc(&out, 256));
  read_texture<<<1, 64>>>(t, out);
  NEED(cudaMemcpy(host.data(), out, 256, cudaMemcpyDeviceToHost));
  count_equal("all", host, [](int i) { return static_cast<float>(i); });
}

CASE(level_of_a_mipmapped_array) {
  cudaMipmappedArray_t mipmapped = nullptr;
  const cudaChannelFormatDesc channels = cudaCreateChannelDesc<float>();
  NEED(cudaMallocMipmappedArray(&mipmapped, &channels, make_cudaExtent(16, 16, 0), 2, cudaArraySurfaceLoadStore));
  cudaArray_t level = nullptr;
  NEED(cudaGetMipmappedArrayLevel(&level, mipmapped, 1));
  write_2d<<<dim3(1, 8), 32>>>(surface_of(level), 8, 8);
  count_equal("level 1", contents<float>(level, 8, 8), [](int i) { return static_cast<float>(i); });
}

CASE(what_a_surface_says_of_itself) {
  const cudaArray_t array = make<float>(8, 8);
  const cudaSurfaceObject_t s = surface_of(array);
  cudaResourceDesc got{};
  SHOW(cudaGetSurfaceObjectResourceDesc(&got, s));
  say("type %d, the array %d", static_cast<int>(got.resType), got.res.array.array == array);
  SHOW(cudaDestroySurfaceObject(s));
}

CASE(errors_of_surfaces) {
  cudaArray_t plain = nullptr;
  const cudaChannelFormatDesc channels = cudaCreateChannelDesc<float>();
  NEED(cudaMallocArray(&plain, &channels, 8, 8));
  cudaSurfaceObject_t s = 0;
  cudaResourceDesc resource = resource_of(plain);
  SHOW(cudaCreateSurfaceObject(&s, &resource));
  SHOW(cudaCreateSurfaceObject(nullptr, &resource));
  SHOW(cudaCreateSurfaceObject(&s, nullptr));
  void* memory = nullptr;
  NEED(cudaMalloc(&memory, 1024));
  resource.resType = cudaResourceTypeLinear;
  resource.res.linear.devPtr = memory;
  resource.res.linear.desc = channels;
  resource.res.linear.sizeInBytes = 1024;
  SHOW(cudaCreateSurfaceObject(&s, &resource));
}
