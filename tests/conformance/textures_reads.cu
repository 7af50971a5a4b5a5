// Reading textures: every kind of resource, coordinates, addressing, filters; compared with the host.
#include "case.h"

#include <cmath>
#include <functional>

template <class T>
__global__ void fetch_1d(cudaTextureObject_t t, T* out, int first, int count) {
  for (int i = 0; i < count; ++i) out[i] = tex1Dfetch<T>(t, first + i);
}
template <class T>
__global__ void read_1d(cudaTextureObject_t t, T* out, float from, float step, int count) {
  for (int i = 0; i < count; ++i) out[i] = tex1D<T>(t, from + i * step);
}
template <class T>
__global__ void read_2d(cudaTextureObject_t t, T* out, float from, float step, int n) {
  for (int i = 0; i < n * n; ++i) out[i] = tex2D<T>(t, from + (i % n) * step, from + (i / n) * step);
}
__global__ void read_3d(cudaTextureObject_t t, float* out, float from, float step, int n) {
  for (int i = 0; i < n * n * n; ++i)
    out[i] = tex3D<float>(t, from + (i % n) * step, from + (i / n % n) * step, from + (i / n / n) * step);
}

template <class T>
struct Buffer {
  T* device = nullptr;
  std::vector<T> host;
  explicit Buffer(std::size_t count) : host(count) { NEED(cudaMalloc(&device, count * sizeof(T))); }
  const std::vector<T>& get() {
    NEED(cudaDeviceSynchronize());
    NEED(cudaMemcpy(host.data(), device, host.size() * sizeof(T), cudaMemcpyDeviceToHost));
    return host;
  }
};

template <class T>
static cudaArray_t array_of(const std::vector<T>& data, std::size_t width, std::size_t height = 0, std::size_t depth = 0,
                            unsigned flags = 0) {
  cudaArray_t array = nullptr;
  const cudaChannelFormatDesc channels = cudaCreateChannelDesc<T>();
  NEED(cudaMalloc3DArray(&array, &channels, make_cudaExtent(width, height, depth), flags));
  cudaMemcpy3DParms p{};
  const std::size_t rows = height == 0 ? 1 : height;
  p.srcPtr = make_cudaPitchedPtr(const_cast<T*>(data.data()), width * sizeof(T), width, rows);
  p.dstArray = array;
  p.extent = make_cudaExtent(width, rows, depth == 0 ? 1 : depth);
  p.kind = cudaMemcpyHostToDevice;
  NEED(cudaMemcpy3D(&p));
  return array;
}

static cudaResourceDesc resource_of(cudaArray_t array) {
  cudaResourceDesc resource{};
  resource.resType = cudaResourceTypeArray;
  resource.res.array.array = array;
  return resource;
}

static cudaTextureObject_t texture_of(const cudaResourceDesc& resource, cudaTextureAddressMode mode,
                                      cudaTextureFilterMode filter, bool normalized,
                                      cudaTextureReadMode read = cudaReadModeElementType, float border = 0) {
  cudaTextureDesc how{};
  for (auto& m : how.addressMode) m = mode;
  how.filterMode = filter;
  how.readMode = read;
  how.normalizedCoords = normalized;
  for (float& b : how.borderColor) b = border;
  cudaTextureObject_t object = 0;
  NEED(cudaCreateTextureObject(&object, &resource, &how, nullptr));
  return object;
}

static std::vector<float> ramp(std::size_t count) {
  std::vector<float> data(count);
  for (std::size_t i = 0; i < count; ++i) data[i] = static_cast<float>((i * 37 + 11) % 64);
  return data;
}

static void print(const char* what, const std::vector<float>& values) {
  std::printf("%s:", what);
  for (float v : values) std::printf(" %g", v);
  std::printf("\n");
}
static void count_equal(const char* what, const std::vector<float>& got, const std::function<float(int)>& expected) {
  int equal = 0;
  for (std::size_t i = 0; i < got.size(); ++i) equal += got[i] == expected(static_cast<int>(i));
  say("%s: %d of %zu equal", what, equal, got.size());
}

CASE(linear_memory) {
  const std::vector<float> data = ramp(100);
  float* memory = nullptr;
  NEED(cudaMalloc(&memory, 400));
  NEED(cudaMemcpy(memory, data.data(), 400, cudaMemcpyHostToDevice));
  cudaResourceDesc resource{};
  resource.resType = cudaResourceTypeLinear;
  resource.res.linear.devPtr = memory;
  resource.res.linear.desc = cudaCreateChannelDesc<float>();
  resource.res.linear.sizeInBytes = 400;
  cudaTextureDesc how{};
  cudaTextureObject_t t = 0;
  SHOW(cudaCreateTextureObject(&t, &resource, &how, nullptr));
  Buffer<float> out(100);
  fetch_1d<float><<<1, 1>>>(t, out.device, 0, 100);
  count_equal("all", out.get(), [&](int i) { return data[i]; });
  SHOW(cudaDestroyTextureObject(t));
}

CASE(linear_memory_beyond_its_end) {
  const std::vector<float> data = ramp(100);
  float* memory = nullptr;
  NEED(cudaMalloc(&memory, 400));
  NEED(cudaMemcpy(memory, data.data(), 400, cudaMemcpyHostToDevice));
  cudaResourceDesc resource{};
  resource.resType = cudaResourceTypeLinear;
  resource.res.linear.devPtr = memory;
  resource.res.linear.desc = cudaCreateChannelDesc<float>();
  resource.res.linear.sizeInBytes = 200;
  cudaTextureDesc how{};
  cudaTextureObject_t t = 0;
  NEED(cudaCreateTextureObject(&t, &resource, &how, nullptr));
  Buffer<float> out(6);
  fetch_1d<float><<<1, 1>>>(t, out.device, 47, 6);
  count_equal("three of the texture, then zeros", out.get(), [&](int i) { return i < 3 ? data[47 + i] : 0.0f; });
  fetch_1d<float><<<1, 1>>>(t, out.device, -3, 6);
  count_equal("zeros, then three of the texture", out.get(), [&](int i) { return i < 3 ? 0.0f : data[i - 3]; });
}

CASE(linear_memory_of_integers) {
  std::vector<short2> data(40);
  for (int i = 0; i < 40; ++i) data[i] = make_short2(i * 100 - 2000, -i);
  short2* memory = nullptr;
  NEED(cudaMalloc(&memory, 160));
  NEED(cudaMemcpy(memory, data.data(), 160, cudaMemcpyHostToDevice));
  cudaResourceDesc resource{};
  resource.resType = cudaResourceTypeLinear;
  resource.res.linear.devPtr = memory;
  resource.res.linear.desc = cudaCreateChannelDesc<short2>();
  resource.res.linear.sizeInBytes = 160;
  cudaTextureDesc how{};
  cudaTextureObject_t t = 0;
  NEED(cudaCreateTextureObject(&t, &resource, &how, nullptr));
  Buffer<short2> out(40);
  fetch_1d<short2><<<1, 1>>>(t, out.device, 0, 40);
  int equal = 0;
  const auto& got = out.get();
  for (int i = 0; i < 40; ++i) equal += got[i].x == data[i].x && got[i].y == data[i].y;
  say("%d of 40 equal", equal);
}

CASE(pitched_memory) {
  const std::vector<float> data = ramp(20 * 10);
  void* memory = nullptr;
  std::size_t pitch = 0;
  NEED(cudaMallocPitch(&memory, &pitch, 80, 10));
  NEED(cudaMemcpy2D(memory, pitch, data.data(), 80, 80, 10, cudaMemcpyHostToDevice));
  cudaResourceDesc resource{};
  resource.resType = cudaResourceTypePitch2D;
  resource.res.pitch2D.devPtr = memory;
  resource.res.pitch2D.desc = cudaCreateChannelDesc<float>();
  resource.res.pitch2D.width = 20;
  resource.res.pitch2D.height = 10;
  resource.res.pitch2D.pitchInBytes = pitch;
  const cudaTextureObject_t t = texture_of(resource, cudaAddressModeClamp, cudaFilterModePoint, false);
  Buffer<float> out(100);
  read_2d<float><<<1, 1>>>(t, out.device, 0.5f, 1, 10);
  count_equal("points", out.get(), [&](int i) { return data[i / 10 * 20 + i % 10]; });
  const cudaTextureObject_t l = texture_of(resource, cudaAddressModeClamp, cudaFilterModeLinear, false);
  read_2d<float><<<1, 1>>>(l, out.device, 1.0f, 1, 9);
  Buffer<float> middle(81);
  read_2d<float><<<1, 1>>>(l, middle.device, 1.0f, 1, 9);
  count_equal("between four", middle.get(), [&](int i) {
    const float* p = &data[i / 9 * 20 + i % 9];
    return (p[0] + p[1] + p[20] + p[21]) / 4;
  });
}

CASE(points_of_2d) {
  const std::vector<float> data = ramp(16 * 16);
  const cudaTextureObject_t t =
      texture_of(resource_of(array_of(data, 16, 16)), cudaAddressModeClamp, cudaFilterModePoint, false);
  Buffer<float> out(256);
  read_2d<float><<<1, 1>>>(t, out.device, 0.5f, 1, 16);
  count_equal("middles", out.get(), [&](int i) { return data[i]; });
  read_2d<float><<<1, 1>>>(t, out.device, 0.0f, 1, 16);
  count_equal("corners", out.get(), [&](int i) { return data[i]; });
  read_2d<float><<<1, 1>>>(t, out.device, 0.96875f, 1, 16);
  count_equal("near the next", out.get(), [&](int i) { return data[i]; });
}

CASE(points_of_2d_normalized) {
  const std::vector<float> data = ramp(16 * 16);
  const cudaTextureObject_t t =
      texture_of(resource_of(array_of(data, 16, 16)), cudaAddressModeClamp, cudaFilterModePoint, true);
  Buffer<float> out(256);
  read_2d<float><<<1, 1>>>(t, out.device, 0.03125f, 0.0625f, 16);
  count_equal("middles", out.get(), [&](int i) { return data[i]; });
}

CASE(address_modes) {
  const std::vector<float> data = {1, 2, 3, 4};
  const cudaResourceDesc resource = resource_of(array_of(data, 4));
  Buffer<float> out(16);
  const cudaTextureAddressMode modes[] = {cudaAddressModeWrap, cudaAddressModeClamp, cudaAddressModeMirror,
                                          cudaAddressModeBorder};
  const char* names[] = {"wrap", "clamp", "mirror", "border"};
  for (int m = 0; m < 4; ++m) {
    const cudaTextureObject_t t = texture_of(resource, modes[m], cudaFilterModePoint, true, cudaReadModeElementType, 9);
    read_1d<float><<<1, 1>>>(t, out.device, -1.375f, 0.25f, 16);
    print(names[m], out.get());
  }
}

CASE(address_modes_filtered) {
  const std::vector<float> data = {0, 16, 32, 48};
  const cudaResourceDesc resource = resource_of(array_of(data, 4));
  Buffer<float> out(14);
  const cudaTextureAddressMode modes[] = {cudaAddressModeWrap, cudaAddressModeClamp, cudaAddressModeMirror,
                                          cudaAddressModeBorder};
  const char* names[] = {"wrap", "clamp", "mirror", "border"};
  for (int m = 0; m < 4; ++m) {
    const cudaTextureObject_t t = texture_of(resource, modes[m], cudaFilterModeLinear, true, cudaReadModeElementType, 64);
    read_1d<float><<<1, 1>>>(t, out.device, -0.375f, 0.125f, 14);
    print(names[m], out.get());
  }
}

CASE(wrap_needs_normalized_coordinates) {
  const std::vector<float> data = {1, 2, 3, 4};
  Buffer<float> out(8);
  const cudaTextureObject_t t =
      texture_of(resource_of(array_of(data, 4)), cudaAddressModeWrap, cudaFilterModePoint, false);
  read_1d<float><<<1, 1>>>(t, out.device, -1.5f, 1, 8);
  print("as clamp", out.get());
}

CASE(linear_filter_1d) {
  const std::vector<float> data = {0, 256, 512, 768, 1024};
  Buffer<float> out(33);
  const cudaTextureObject_t t =
      texture_of(resource_of(array_of(data, 5)), cudaAddressModeClamp, cudaFilterModeLinear, false);
  read_1d<float><<<1, 1>>>(t, out.device, 0.5f, 0.125f, 33);
  count_equal("eighths", out.get(), [](int i) { return i * 32.0f; });
  read_1d<float><<<1, 1>>>(t, out.device, 0.5f, 0.00390625f, 33);
  count_equal("256ths", out.get(), [](int i) { return i * 1.0f; });
}

CASE(linear_filter_weights_have_eight_bits) {
  const std::vector<float> data = {0, 65536};
  Buffer<float> out(9);
  const cudaTextureObject_t t =
      texture_of(resource_of(array_of(data, 2)), cudaAddressModeClamp, cudaFilterModeLinear, false);
  read_1d<float><<<1, 1>>>(t, out.device, 0.5f, 0.0009765625f, 9);
  int multiples = 0;
  for (float v : out.get()) multiples += std::fmod(v, 256.0f) == 0;
  say("%d of 9 are multiples of 1/256", multiples);
}

CASE(linear_filter_2d) {
  const std::vector<float> data = ramp(16 * 16);
  Buffer<float> out(225);
  const cudaTextureObject_t t =
      texture_of(resource_of(array_of(data, 16, 16)), cudaAddressModeClamp, cudaFilterModeLinear, false);
  read_2d<float><<<1, 1>>>(t, out.device, 0.75f, 1, 15);
  count_equal("quarters", out.get(), [&](int i) {
    const float* p = &data[i / 15 * 16 + i % 15];
    return (p[0] * 9 + p[1] * 3 + p[16] * 3 + p[17]) / 16;
  });
}

CASE(points_and_filter_3d) {
  const std::vector<float> data = ramp(8 * 8 * 8);
  const cudaResourceDesc resource = resource_of(array_of(data, 8, 8, 8));
  Buffer<float> out(343);
  read_3d<<<1, 1>>>(texture_of(resource, cudaAddressModeClamp, cudaFilterModePoint, false), out.device, 0.5f, 1, 7);
  count_equal("points", out.get(), [&](int i) { return data[i / 49 * 64 + i / 7 % 7 * 8 + i % 7]; });
  read_3d<<<1, 1>>>(texture_of(resource, cudaAddressModeClamp, cudaFilterModeLinear, false), out.device, 1.0f, 1, 7);
  count_equal("between eight", out.get(), [&](int i) {
    const float* p = &data[i / 49 * 64 + i / 7 % 7 * 8 + i % 7];
    return (p[0] + p[1] + p[8] + p[9] + p[64] + p[65] + p[72] + p[73]) / 8;
  });
}

CASE(integers_as_they_are) {
  std::vector<uchar4> data(64);
  for (int i = 0; i < 64; ++i) data[i] = make_uchar4(i, 255 - i, i * 3, 200);
  const cudaTextureObject_t t =
      texture_of(resource_of(array_of(data, 8, 8)), cudaAddressModeClamp, cudaFilterModePoint, false);
  Buffer<uchar4> out(64);
  read_2d<uchar4><<<1, 1>>>(t, out.device, 0.5f, 1, 8);
  const auto& got = out.get();
  int equal = 0;
  for (int i = 0; i < 64; ++i) equal += std::memcmp(&got[i], &data[i], 4) == 0;
  say("%d of 64 equal", equal);
}

CASE(integers_as_normalized_floats) {
  std::vector<unsigned char> bytes(256);
  std::vector<short> shorts = {-32768, -32767, -16384, 0, 1, 16384, 32767};
  for (int i = 0; i < 256; ++i) bytes[i] = static_cast<unsigned char>(i);
  Buffer<float> out(256), few(7);
  const cudaTextureObject_t u = texture_of(resource_of(array_of(bytes, 256)), cudaAddressModeClamp,
                                           cudaFilterModePoint, false, cudaReadModeNormalizedFloat);
  read_1d<float><<<1, 1>>>(u, out.device, 0.5f, 1, 256);
  int close = 0;
  const auto& got = out.get();
  for (int i = 0; i < 256; ++i) close += std::fabs(got[i] - i / 255.0f) < 1e-6f;
  say("%d of 256 close", close);
  const cudaTextureObject_t s = texture_of(resource_of(array_of(shorts, 7)), cudaAddressModeClamp,
                                           cudaFilterModePoint, false, cudaReadModeNormalizedFloat);
  read_1d<float><<<1, 1>>>(s, few.device, 0.5f, 1, 7);
  for (float v : few.get()) std::printf("%.4f ", v);
  say("(signed)");
}

CASE(half_is_read_as_float) {
  const std::vector<unsigned short> halves = {0x0000, 0x3c00, 0xbc00, 0x3800, 0x7bff, 0x0001, 0x4248};
  cudaArray_t array = nullptr;
  const cudaChannelFormatDesc channels = cudaCreateChannelDescHalf();
  NEED(cudaMallocArray(&array, &channels, 7));
  NEED(cudaMemcpy2DToArray(array, 0, 0, halves.data(), 14, 14, 1, cudaMemcpyHostToDevice));
  Buffer<float> out(7);
  read_1d<float><<<1, 1>>>(texture_of(resource_of(array), cudaAddressModeClamp, cudaFilterModePoint, false), out.device,
                           0.5f, 1, 7);
  print("values", out.get());
}

CASE(four_channels_filtered) {
  std::vector<float4> data(4);
  for (int i = 0; i < 4; ++i) data[i] = make_float4(i, 10.0f * i, -1.0f * i, 1);
  const cudaTextureObject_t t =
      texture_of(resource_of(array_of(data, 4)), cudaAddressModeClamp, cudaFilterModeLinear, false);
  Buffer<float4> out(4);
  read_1d<float4><<<1, 1>>>(t, out.device, 1.0f, 0.5f, 4);
  for (const float4& v : out.get()) say("%g %g %g %g", v.x, v.y, v.z, v.w);
}

CASE(what_is_written_later_is_read_later) {
  std::vector<float> data(16, 1.0f);
  const cudaArray_t array = array_of(data, 16);
  const cudaTextureObject_t t = texture_of(resource_of(array), cudaAddressModeClamp, cudaFilterModePoint, false);
  Buffer<float> out(16);
  read_1d<float><<<1, 1>>>(t, out.device, 0.5f, 1, 16);
  count_equal("first", out.get(), [](int) { return 1.0f; });
  for (float& v : data) v = 2;
  NEED(cudaMemcpy2DToArray(array, 0, 0, data.data(), 64, 64, 1, cudaMemcpyHostToDevice));
  read_1d<float><<<1, 1>>>(t, out.device, 0.5f, 1, 16);
  count_equal("second", out.get(), [](int) { return 2.0f; });
  NEED(cudaDestroyTextureObject(t));
  NEED(cudaFreeArray(array));
}
