// Layers, cubes, levels of detail and gathering.
#include "case.h"

__global__ void read_layers_1d(cudaTextureObject_t t, float* out, int width, int layers) {
  for (int i = 0; i < width * layers; ++i) out[i] = tex1DLayered<float>(t, i % width + 0.5f, i / width);
}
__global__ void read_layers_2d(cudaTextureObject_t t, float* out, int n, int layers) {
  for (int i = 0; i < n * n * layers; ++i)
    out[i] = tex2DLayered<float>(t, i % n + 0.5f, i / n % n + 0.5f, i / n / n);
}
__global__ void read_cube(cudaTextureObject_t t, float* out, const float3* directions, int count) {
  for (int i = 0; i < count; ++i) out[i] = texCubemap<float>(t, directions[i].x, directions[i].y, directions[i].z);
}
__global__ void read_cubes(cudaTextureObject_t t, float* out, const float3* directions, int count, int layer) {
  for (int i = 0; i < count; ++i)
    out[i] = texCubemapLayered<float>(t, directions[i].x, directions[i].y, directions[i].z, layer);
}
__global__ void read_levels(cudaTextureObject_t t, float* out, float from, float step, int count) {
  for (int i = 0; i < count; ++i) out[i] = tex2DLod<float>(t, 0.5f, 0.5f, from + i * step);
}
__global__ void read_level_3d(cudaTextureObject_t t, float* out) { out[0] = tex3DLod<float>(t, 0.25f, 0.25f, 0.25f, 1); }
__global__ void read_gradients(cudaTextureObject_t t, float* out, const float* sizes, int count) {
  for (int i = 0; i < count; ++i)
    out[i] = tex2DGrad<float>(t, 0.5f, 0.5f, make_float2(sizes[i], 0), make_float2(0, sizes[i]));
}
__global__ void gather(cudaTextureObject_t t, float4* out, float x, float y) {
  out[0] = tex2Dgather<float4>(t, x, y, 0);
  out[1] = tex2Dgather<float4>(t, x, y, 1);
}

template <class T>
static T* device_copy(const std::vector<T>& values) {
  T* memory = nullptr;
  NEED(cudaMalloc(&memory, values.size() * sizeof(T)));
  NEED(cudaMemcpy(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  return memory;
}
template <class T>
static std::vector<T> host_copy(const T* memory, std::size_t count) {
  std::vector<T> values(count);
  NEED(cudaDeviceSynchronize());
  NEED(cudaMemcpy(values.data(), memory, count * sizeof(T), cudaMemcpyDeviceToHost));
  return values;
}
static void print(const char* what, const std::vector<float>& values) {
  std::printf("%s:", what);
  for (float v : values) std::printf(" %g", v);
  std::printf("\n");
}

template <class T>
static void fill(cudaArray_t array, const std::vector<T>& data, std::size_t width, std::size_t height, std::size_t depth) {
  cudaMemcpy3DParms p{};
  p.srcPtr = make_cudaPitchedPtr(const_cast<T*>(data.data()), width * sizeof(T), width, height);
  p.dstArray = array;
  p.extent = make_cudaExtent(width, height, depth);
  p.kind = cudaMemcpyHostToDevice;
  NEED(cudaMemcpy3D(&p));
}
template <class T>
static cudaArray_t array_of(const std::vector<T>& data, std::size_t width, std::size_t height, std::size_t depth,
                            unsigned flags) {
  cudaArray_t array = nullptr;
  const cudaChannelFormatDesc channels = cudaCreateChannelDesc<T>();
  NEED(cudaMalloc3DArray(&array, &channels, make_cudaExtent(width, height, depth), flags));
  fill(array, data, width, height == 0 ? 1 : height, depth == 0 ? 1 : depth);
  return array;
}
static cudaTextureObject_t texture_of(cudaArray_t array, bool normalized, cudaTextureFilterMode filter = cudaFilterModePoint) {
  cudaResourceDesc resource{};
  resource.resType = cudaResourceTypeArray;
  resource.res.array.array = array;
  cudaTextureDesc how{};
  for (auto& m : how.addressMode) m = cudaAddressModeClamp;
  how.filterMode = filter;
  how.normalizedCoords = normalized;
  cudaTextureObject_t object = 0;
  NEED(cudaCreateTextureObject(&object, &resource, &how, nullptr));
  return object;
}
static std::vector<float> ramp(std::size_t count) {
  std::vector<float> data(count);
  for (std::size_t i = 0; i < count; ++i) data[i] = static_cast<float>((i * 37 + 11) % 1024);
  return data;
}

CASE(layers_of_rows) {
  const std::vector<float> data = ramp(10 * 4);
  float* out = device_copy(std::vector<float>(40));
  read_layers_1d<<<1, 1>>>(texture_of(array_of(data, 10, 0, 4, cudaArrayLayered), false), out, 10, 4);
  say("%s", host_copy(out, 40) == data ? "equal" : "different");
}

CASE(layers_of_rectangles) {
  const std::vector<float> data = ramp(6 * 6 * 5);
  float* out = device_copy(std::vector<float>(180));
  read_layers_2d<<<1, 1>>>(texture_of(array_of(data, 6, 6, 5, cudaArrayLayered), false), out, 6, 5);
  say("%s", host_copy(out, 180) == data ? "equal" : "different");
}

CASE(layers_beyond_the_last_are_the_last) {
  const std::vector<float> data = {1, 2, 3, 4};
  float* out = device_copy(std::vector<float>(12));
  read_layers_1d<<<1, 1>>>(texture_of(array_of(data, 2, 0, 2, cudaArrayLayered), false), out, 2, 4);
  const auto got = host_copy(out, 8);
  print("all", got);
}

CASE(faces_of_a_cube) {
  std::vector<float> data(4 * 4 * 6);
  for (int i = 0; i < 96; ++i) data[i] = static_cast<float>(i / 16);
  const std::vector<float3> directions = {{1, 0.1f, 0.2f},  {-1, 0.1f, 0.2f}, {0.1f, 1, 0.2f},
                                          {0.1f, -1, 0.2f}, {0.1f, 0.2f, 1},  {0.1f, 0.2f, -1}};
  float* out = device_copy(std::vector<float>(6));
  read_cube<<<1, 1>>>(texture_of(array_of(data, 4, 4, 6, cudaArrayCubemap), true), out, device_copy(directions), 6);
  print("faces", host_copy(out, 6));
}

CASE(elements_of_a_cube) {
  std::vector<float> data(4 * 4 * 6);
  for (int i = 0; i < 96; ++i) data[i] = static_cast<float>(i);
  std::vector<float3> directions;
  const float at[] = {-0.75f, -0.25f, 0.25f, 0.75f};
  for (float a : at)
    for (float b : at) {
      directions.push_back({1, a, b});
      directions.push_back({-1, a, b});
      directions.push_back({a, 1, b});
      directions.push_back({a, -1, b});
      directions.push_back({a, b, 1});
      directions.push_back({a, b, -1});
    }
  float* out = device_copy(std::vector<float>(96));
  read_cube<<<1, 1>>>(texture_of(array_of(data, 4, 4, 6, cudaArrayCubemap), true), out, device_copy(directions), 96);
  // "Cubemap Textures" of the programming guide: face, s and t by the largest component.
  int equal = 0;
  const auto got = host_copy(out, 96);
  for (int i = 0; i < 96; ++i) {
    const float3 d = directions[i];
    const int face = i % 6;
    float s = 0, t = 0;
    if (face == 0) s = -d.z, t = -d.y;
    if (face == 1) s = d.z, t = -d.y;
    if (face == 2) s = d.x, t = d.z;
    if (face == 3) s = d.x, t = -d.z;
    if (face == 4) s = d.x, t = -d.y;
    if (face == 5) s = -d.x, t = -d.y;
    const int x = static_cast<int>((s + 1) / 2 * 4), y = static_cast<int>((t + 1) / 2 * 4);
    equal += got[i] == data[face * 16 + y * 4 + x];
  }
  say("%d of 96 equal", equal);
}

CASE(layers_of_cubes) {
  std::vector<float> data(2 * 2 * 12);
  for (int i = 0; i < 48; ++i) data[i] = static_cast<float>(i / 4);
  const std::vector<float3> directions = {{1, 0.1f, 0.2f}, {0.1f, -1, 0.2f}, {0.1f, 0.2f, -1}};
  const cudaTextureObject_t t = texture_of(array_of(data, 2, 2, 12, cudaArrayCubemap | cudaArrayLayered), true);
  float* out = device_copy(std::vector<float>(3));
  for (int layer = 0; layer < 2; ++layer) {
    read_cubes<<<1, 1>>>(t, out, device_copy(directions), 3, layer);
    print("faces", host_copy(out, 3));
  }
}

static cudaMipmappedArray_t pyramid(std::size_t width, std::size_t height, std::size_t depth, unsigned levels) {
  cudaMipmappedArray_t mipmapped = nullptr;
  const cudaChannelFormatDesc channels = cudaCreateChannelDesc<float>();
  NEED(cudaMallocMipmappedArray(&mipmapped, &channels, make_cudaExtent(width, height, depth), levels));
  for (unsigned i = 0; i < levels; ++i) {
    cudaArray_t level = nullptr;
    NEED(cudaGetMipmappedArrayLevel(&level, mipmapped, i));
    const std::size_t w = width >> i, h = height >> i, d = depth == 0 ? 1 : depth >> i;
    fill(level, std::vector<float>(w * h * d, 100.0f * i), w, h, d);
  }
  return mipmapped;
}
static cudaTextureObject_t texture_of(cudaMipmappedArray_t mipmapped, cudaTextureFilterMode filter, float bias = 0,
                                      float least = 0, float most = 100, const cudaResourceViewDesc* view = nullptr) {
  cudaResourceDesc resource{};
  resource.resType = cudaResourceTypeMipmappedArray;
  resource.res.mipmap.mipmap = mipmapped;
  cudaTextureDesc how{};
  for (auto& m : how.addressMode) m = cudaAddressModeClamp;
  how.normalizedCoords = 1;
  how.mipmapFilterMode = filter;
  how.mipmapLevelBias = bias;
  how.minMipmapLevelClamp = least;
  how.maxMipmapLevelClamp = most;
  cudaTextureObject_t object = 0;
  NEED(cudaCreateTextureObject(&object, &resource, &how, view));
  return object;
}

CASE(nearest_level) {
  float* out = device_copy(std::vector<float>(5));
  read_levels<<<1, 1>>>(texture_of(pyramid(16, 16, 0, 5), cudaFilterModePoint), out, 0, 1, 5);
  print("whole", host_copy(out, 5));
  read_levels<<<1, 1>>>(texture_of(pyramid(16, 16, 0, 5), cudaFilterModePoint), out, 0.25f, 1, 5);
  print("and a quarter", host_copy(out, 5));
}

CASE(between_levels) {
  float* out = device_copy(std::vector<float>(9));
  read_levels<<<1, 1>>>(texture_of(pyramid(16, 16, 0, 5), cudaFilterModeLinear), out, 0, 0.5f, 9);
  print("halves", host_copy(out, 9));
}

CASE(levels_are_biased_and_clamped) {
  const cudaMipmappedArray_t mipmapped = pyramid(16, 16, 0, 5);
  float* out = device_copy(std::vector<float>(5));
  read_levels<<<1, 1>>>(texture_of(mipmapped, cudaFilterModePoint, 1), out, 0, 1, 5);
  print("biased", host_copy(out, 5));
  read_levels<<<1, 1>>>(texture_of(mipmapped, cudaFilterModePoint, 0, 1, 3), out, 0, 1, 5);
  print("clamped", host_copy(out, 5));
  read_levels<<<1, 1>>>(texture_of(mipmapped, cudaFilterModePoint, 0, 0, 0), out, 0, 1, 5);
  print("only the first", host_copy(out, 5));
}

CASE(levels_of_a_view) {
  cudaResourceViewDesc view{};
  view.format = cudaResViewFormatNone;
  view.width = 16;
  view.height = 16;
  view.firstMipmapLevel = 1;
  view.lastMipmapLevel = 3;
  float* out = device_copy(std::vector<float>(5));
  read_levels<<<1, 1>>>(texture_of(pyramid(16, 16, 0, 5), cudaFilterModePoint, 0, 0, 100, &view), out, 0, 1, 5);
  print("levels", host_copy(out, 5));
}

CASE(level_of_3d) {
  float* out = device_copy(std::vector<float>(1));
  read_level_3d<<<1, 1>>>(texture_of(pyramid(8, 8, 8, 3), cudaFilterModePoint), out);
  print("level", host_copy(out, 1));
}

CASE(gradients) {
  const std::vector<float> sizes = {0.0625f, 0.125f, 0.25f, 0.5f};
  float* out = device_copy(std::vector<float>(4));
  read_gradients<<<1, 1>>>(texture_of(pyramid(16, 16, 0, 5), cudaFilterModePoint), out, device_copy(sizes), 4);
  print("levels", host_copy(out, 4));
}

CASE(gathering) {
  std::vector<float2> data(16);
  for (int i = 0; i < 16; ++i) data[i] = make_float2(i, 100 + i);
  const cudaTextureObject_t t = texture_of(array_of(data, 4, 4, 0, cudaArrayTextureGather), false);
  float4* out = device_copy(std::vector<float4>(2));
  gather<<<1, 1>>>(t, out, 2.0f, 2.0f);
  for (const float4& v : host_copy(out, 2)) say("%g %g %g %g", v.x, v.y, v.z, v.w);
  gather<<<1, 1>>>(t, out, 0.25f, 3.75f);
  for (const float4& v : host_copy(out, 2)) say("%g %g %g %g", v.x, v.y, v.z, v.w);
}
