// Texture objects: what they are made of, what they say of themselves, and the errors.
#include "case.h"

static cudaResourceDesc linear(void* memory, std::size_t bytes) {
  cudaResourceDesc resource{};
  resource.resType = cudaResourceTypeLinear;
  resource.res.linear.devPtr = memory;
  resource.res.linear.desc = cudaCreateChannelDesc<float>();
  resource.res.linear.sizeInBytes = bytes;
  return resource;
}
static cudaResourceDesc pitched(void* memory, std::size_t pitch, std::size_t width, std::size_t height) {
  cudaResourceDesc resource{};
  resource.resType = cudaResourceTypePitch2D;
  resource.res.pitch2D.devPtr = memory;
  resource.res.pitch2D.desc = cudaCreateChannelDesc<float>();
  resource.res.pitch2D.width = width;
  resource.res.pitch2D.height = height;
  resource.res.pitch2D.pitchInBytes = pitch;
  return resource;
}
template <class T>
static cudaResourceDesc array(std::size_t width, std::size_t height) {
  cudaArray_t made = nullptr;
  const cudaChannelFormatDesc channels = cudaCreateChannelDesc<T>();
  NEED(cudaMallocArray(&made, &channels, width, height));
  cudaResourceDesc resource{};
  resource.resType = cudaResourceTypeArray;
  resource.res.array.array = made;
  return resource;
}

CASE(descriptions_come_back) {
  const cudaResourceDesc resource = array<float>(16, 8);
  cudaTextureDesc how{};
  how.addressMode[0] = cudaAddressModeMirror;
  how.addressMode[1] = cudaAddressModeBorder;
  how.filterMode = cudaFilterModeLinear;
  how.normalizedCoords = 1;
  how.borderColor[2] = 0.5f;
  how.maxMipmapLevelClamp = 3;
  cudaTextureObject_t t = 0;
  SHOW(cudaCreateTextureObject(&t, &resource, &how, nullptr));
  cudaResourceDesc what{};
  cudaTextureDesc got{};
  cudaResourceViewDesc view{};
  SHOW(cudaGetTextureObjectResourceDesc(&what, t));
  say("type %d, the array %d", static_cast<int>(what.resType), what.res.array.array == resource.res.array.array);
  SHOW(cudaGetTextureObjectTextureDesc(&got, t));
  say("address %d %d, filter %d, read %d, normalized %d, border %g, most %g", static_cast<int>(got.addressMode[0]),
      static_cast<int>(got.addressMode[1]), static_cast<int>(got.filterMode), static_cast<int>(got.readMode),
      got.normalizedCoords, got.borderColor[2], got.maxMipmapLevelClamp);
  SHOW(cudaGetTextureObjectResourceViewDesc(&view, t));
  SHOW(cudaDestroyTextureObject(t));
}

CASE(linear_description_comes_back) {
  void* memory = nullptr;
  NEED(cudaMalloc(&memory, 4096));
  const cudaResourceDesc resource = linear(memory, 4096);
  const cudaTextureDesc how{};
  cudaTextureObject_t t = 0;
  NEED(cudaCreateTextureObject(&t, &resource, &how, nullptr));
  cudaResourceDesc what{};
  SHOW(cudaGetTextureObjectResourceDesc(&what, t));
  say("type %d, memory %d, %zu bytes, x %d kind %d", static_cast<int>(what.resType),
      what.res.linear.devPtr == memory, what.res.linear.sizeInBytes, what.res.linear.desc.x,
      static_cast<int>(what.res.linear.desc.f));
}

CASE(view_comes_back) {
  const cudaResourceDesc resource = array<uchar4>(16, 8);
  const cudaTextureDesc how{};
  cudaResourceViewDesc view{}, got{};
  view.format = cudaResViewFormatUnsignedInt1;
  view.width = 16;
  view.height = 8;
  cudaTextureObject_t t = 0;
  SHOW(cudaCreateTextureObject(&t, &resource, &how, &view));
  SHOW(cudaGetTextureObjectResourceViewDesc(&got, t));
  say("format %d, %zu x %zu", static_cast<int>(got.format), got.width, got.height);
}

CASE(null_pointers) {
  const cudaResourceDesc resource = array<float>(16, 8);
  const cudaTextureDesc how{};
  cudaTextureObject_t t = 0;
  SHOW(cudaCreateTextureObject(nullptr, &resource, &how, nullptr));
  SHOW(cudaCreateTextureObject(&t, nullptr, &how, nullptr));
  SHOW(cudaCreateTextureObject(&t, &resource, nullptr, nullptr));
}

CASE(linear_memory_that_does_not_fit) {
  char* memory = nullptr;
  NEED(cudaMalloc(&memory, 4096));
  const cudaTextureDesc how{};
  cudaTextureObject_t t = 0;
  cudaResourceDesc resource = linear(memory + 4, 1024);
  SHOW(cudaCreateTextureObject(&t, &resource, &how, nullptr));
  resource = linear(nullptr, 1024);
  SHOW(cudaCreateTextureObject(&t, &resource, &how, nullptr));
  resource = linear(memory, 4096);
  resource.res.linear.desc = cudaCreateChannelDesc(32, 32, 32, 0, cudaChannelFormatKindFloat);
  SHOW(cudaCreateTextureObject(&t, &resource, &how, nullptr));
}

CASE(pitched_memory_that_does_not_fit) {
  char* memory = nullptr;
  NEED(cudaMalloc(&memory, 64 * 1024));
  const cudaTextureDesc how{};
  cudaTextureObject_t t = 0;
  cudaResourceDesc resource = pitched(memory, 512, 100, 10);
  SHOW(cudaCreateTextureObject(&t, &resource, &how, nullptr));
  resource = pitched(memory, 420, 100, 10);
  SHOW(cudaCreateTextureObject(&t, &resource, &how, nullptr));
  resource = pitched(memory + 16, 512, 100, 10);
  SHOW(cudaCreateTextureObject(&t, &resource, &how, nullptr));
}

CASE(unknown_kinds) {
  cudaResourceDesc resource = array<float>(16, 8);
  const cudaTextureDesc how{};
  cudaTextureObject_t t = 0;
  resource.resType = static_cast<cudaResourceType>(17);
  SHOW(cudaCreateTextureObject(&t, &resource, &how, nullptr));
}

CASE(filters_need_floats) {
  const cudaResourceDesc resource = array<int>(16, 8);
  cudaTextureDesc how{};
  how.filterMode = cudaFilterModeLinear;
  cudaTextureObject_t t = 0;
  SHOW(cudaCreateTextureObject(&t, &resource, &how, nullptr));
}

CASE(driver_objects) {
  NEED(cuInit(0));
  NEED(cudaFree(nullptr));
  CUarray made = nullptr;
  CUDA_ARRAY_DESCRIPTOR d{16, 16, CU_AD_FORMAT_UNSIGNED_INT8, 4};
  NEED(cuArrayCreate(&made, &d));
  CUDA_RESOURCE_DESC resource{};
  resource.resType = CU_RESOURCE_TYPE_ARRAY;
  resource.res.array.hArray = made;
  CUDA_TEXTURE_DESC how{};
  how.flags = CU_TRSF_NORMALIZED_COORDINATES | CU_TRSF_SRGB;
  how.addressMode[0] = CU_TR_ADDRESS_MODE_CLAMP;
  CUtexObject t = 0;
  SHOW(cuTexObjectCreate(&t, &resource, &how, nullptr));
  CUDA_RESOURCE_DESC what{};
  CUDA_TEXTURE_DESC got{};
  SHOW(cuTexObjectGetResourceDesc(&what, t));
  say("type %d, the array %d", static_cast<int>(what.resType), what.res.array.hArray == made);
  SHOW(cuTexObjectGetTextureDesc(&got, t));
  say("flags %u, address %d", got.flags, static_cast<int>(got.addressMode[0]));
  SHOW(cuTexObjectCreate(nullptr, &resource, &how, nullptr));
  SHOW(cuTexObjectCreate(&t, nullptr, &how, nullptr));
  SHOW(cuTexObjectCreate(&t, &resource, nullptr, nullptr));
  SHOW(cuTexObjectDestroy(t));
  SHOW(cuArrayDestroy(made));
}

CASE(driver_without_a_context) {
  NEED(cuInit(0));
  CUDA_RESOURCE_DESC resource{};
  CUDA_TEXTURE_DESC how{};
  CUtexObject t = 0;
  SHOW(cuTexObjectCreate(&t, &resource, &how, nullptr));
  CUsurfObject s = 0;
  SHOW(cuSurfObjectCreate(&s, &resource));
}

CASE(many_objects) {
  const cudaResourceDesc resource = array<float>(16, 8);
  const cudaTextureDesc how{};
  int made = 0, ended = 0;
  std::vector<cudaTextureObject_t> all;
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < 200; ++i) {
      cudaTextureObject_t t = 0;
      if (cudaCreateTextureObject(&t, &resource, &how, nullptr) == cudaSuccess) ++made, all.push_back(t);
    }
    for (cudaTextureObject_t t : all) ended += cudaDestroyTextureObject(t) == cudaSuccess;
    all.clear();
  }
  say("made %d, ended %d", made, ended);
}

CASE(reset_ends_objects) {
  const cudaResourceDesc resource = array<float>(16, 8);
  const cudaTextureDesc how{};
  cudaTextureObject_t t = 0;
  SHOW(cudaCreateTextureObject(&t, &resource, &how, nullptr));
  SHOW(cudaDeviceReset());
  const cudaResourceDesc other = array<float>(16, 8);
  SHOW(cudaCreateTextureObject(&t, &other, &how, nullptr));
  SHOW(cudaDestroyTextureObject(t));
}
