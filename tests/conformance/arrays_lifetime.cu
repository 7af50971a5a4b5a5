// Arrays and mipmapped arrays: making them, what they say of themselves, ending them, and the errors.
#include "case.h"

static void describe(cudaArray_t array) {
  cudaChannelFormatDesc channels{};
  cudaExtent extent{};
  unsigned flags = 77;
  SHOW(cudaArrayGetInfo(&channels, &extent, &flags, array));
  say("channels %d %d %d %d kind %d, extent %zu %zu %zu, flags %u", channels.x, channels.y, channels.z, channels.w,
      static_cast<int>(channels.f), extent.width, extent.height, extent.depth, flags);
}

static CUDA_ARRAY3D_DESCRIPTOR descriptor(std::size_t width, std::size_t height, std::size_t depth,
                                          CUarray_format format, unsigned channels, unsigned flags = 0) {
  return {width, height, depth, format, channels, flags};
}

static void use_device() {
  NEED(cuInit(0));
  NEED(cudaFree(nullptr));
}

static void try_3d(const char* what, const CUDA_ARRAY3D_DESCRIPTOR& d) {
  CUarray array = nullptr;
  const CUresult result = cuArray3DCreate(&array, &d);
  const char* name = nullptr;
  cuGetErrorName(result, &name);
  say("%s: %s", what, name);
  if (result == CUDA_SUCCESS) NEED(cuArrayDestroy(array));
}

CASE(array_1d) {
  cudaArray_t array = nullptr;
  cudaChannelFormatDesc channels = cudaCreateChannelDesc<float>();
  SHOW(cudaMallocArray(&array, &channels, 100));
  describe(array);
  SHOW(cudaFreeArray(array));
}

CASE(array_2d) {
  cudaArray_t array = nullptr;
  cudaChannelFormatDesc channels = cudaCreateChannelDesc<uchar4>();
  SHOW(cudaMallocArray(&array, &channels, 64, 32, cudaArraySurfaceLoadStore));
  describe(array);
  cudaChannelFormatDesc again{};
  SHOW(cudaGetChannelDesc(&again, array));
  say("%d %d %d %d %d", again.x, again.y, again.z, again.w, static_cast<int>(again.f));
  SHOW(cudaFreeArray(array));
}

CASE(array_3d) {
  cudaArray_t array = nullptr;
  cudaChannelFormatDesc channels = cudaCreateChannelDesc<short2>();
  SHOW(cudaMalloc3DArray(&array, &channels, make_cudaExtent(8, 9, 10)));
  describe(array);
  SHOW(cudaFreeArray(array));
}

CASE(array_layered) {
  cudaArray_t array = nullptr;
  cudaChannelFormatDesc channels = cudaCreateChannelDesc<int>();
  SHOW(cudaMalloc3DArray(&array, &channels, make_cudaExtent(8, 0, 5), cudaArrayLayered));
  describe(array);
  SHOW(cudaFreeArray(array));
  SHOW(cudaMalloc3DArray(&array, &channels, make_cudaExtent(8, 4, 5), cudaArrayLayered));
  describe(array);
  SHOW(cudaFreeArray(array));
}

CASE(array_cubemap) {
  cudaArray_t array = nullptr;
  cudaChannelFormatDesc channels = cudaCreateChannelDesc<float4>();
  SHOW(cudaMalloc3DArray(&array, &channels, make_cudaExtent(16, 16, 6), cudaArrayCubemap));
  describe(array);
  SHOW(cudaFreeArray(array));
  SHOW(cudaMalloc3DArray(&array, &channels, make_cudaExtent(16, 16, 12), cudaArrayCubemap | cudaArrayLayered));
  describe(array);
  SHOW(cudaFreeArray(array));
}

CASE(array_half_and_normalized) {
  cudaArray_t array = nullptr;
  cudaChannelFormatDesc channels = cudaCreateChannelDescHalf4();
  SHOW(cudaMallocArray(&array, &channels, 16, 16));
  describe(array);
  SHOW(cudaFreeArray(array));
  channels = cudaCreateChannelDesc<cudaChannelFormatKindUnsignedNormalized8X4>();
  SHOW(cudaMallocArray(&array, &channels, 16, 16));
  describe(array);
  SHOW(cudaFreeArray(array));
  channels = cudaCreateChannelDesc<cudaChannelFormatKindSignedNormalized16X2>();
  SHOW(cudaMallocArray(&array, &channels, 16, 16));
  describe(array);
  SHOW(cudaFreeArray(array));
}

CASE(array_block_compressed) {
  cudaArray_t array = nullptr;
  cudaChannelFormatDesc channels = cudaCreateChannelDesc<cudaChannelFormatKindUnsignedBlockCompressed1>();
  SHOW(cudaMallocArray(&array, &channels, 16, 16));
  describe(array);
  SHOW(cudaFreeArray(array));
  channels = cudaCreateChannelDesc<cudaChannelFormatKindUnsignedBlockCompressed7>();
  SHOW(cudaMallocArray(&array, &channels, 32, 16));
  describe(array);
  SHOW(cudaFreeArray(array));
}

CASE(array_nv12_planes) {
  cudaArray_t array = nullptr, plane = nullptr;
  cudaChannelFormatDesc channels = cudaCreateChannelDesc<cudaChannelFormatKindNV12>();
  SHOW(cudaMallocArray(&array, &channels, 64, 32));
  describe(array);
  SHOW(cudaArrayGetPlane(&plane, array, 0));
  describe(plane);
  SHOW(cudaArrayGetPlane(&plane, array, 1));
  describe(plane);
  SHOW(cudaArrayGetPlane(&plane, array, 2));
  SHOW(cudaFreeArray(array));
}

CASE(planes_of_an_array_without) {
  cudaArray_t array = nullptr, plane = nullptr;
  cudaChannelFormatDesc channels = cudaCreateChannelDesc<float>();
  NEED(cudaMallocArray(&array, &channels, 64, 32));
  SHOW(cudaArrayGetPlane(&plane, array, 0));
  SHOW(cudaFreeArray(array));
}

CASE(runtime_null_pointers) {
  cudaArray_t array = nullptr;
  cudaMipmappedArray_t mipmapped = nullptr;
  cudaChannelFormatDesc channels = cudaCreateChannelDesc<float>();
  SHOW(cudaMallocArray(nullptr, &channels, 100));
  SHOW(cudaMallocMipmappedArray(nullptr, &channels, make_cudaExtent(8, 8, 0), 2));
  SHOW(cudaFreeArray(nullptr));
  SHOW(cudaFreeMipmappedArray(nullptr));
  (void)array;
  (void)mipmapped;
}

CASE(bad_channel_descriptors) {
  cudaArray_t array = nullptr;
  cudaChannelFormatDesc channels = cudaCreateChannelDesc(32, 32, 32, 0, cudaChannelFormatKindFloat);
  SHOW(cudaMallocArray(&array, &channels, 16, 16));
  channels = cudaCreateChannelDesc(24, 0, 0, 0, cudaChannelFormatKindSigned);
  SHOW(cudaMallocArray(&array, &channels, 16, 16));
  channels = cudaCreateChannelDesc(8, 16, 0, 0, cudaChannelFormatKindUnsigned);
  SHOW(cudaMallocArray(&array, &channels, 16, 16));
  channels = cudaCreateChannelDesc(0, 0, 0, 0, cudaChannelFormatKindNone);
  SHOW(cudaMallocArray(&array, &channels, 16, 16));
  SHOW(cudaGetLastError());
  SHOW(cudaGetLastError());
}

CASE(driver_descriptors) {
  use_device();
  CUarray array = nullptr;
  CUDA_ARRAY_DESCRIPTOR flat{24, 12, CU_AD_FORMAT_SIGNED_INT16, 2};
  SHOW(cuArrayCreate(&array, &flat));
  CUDA_ARRAY_DESCRIPTOR got{};
  SHOW(cuArrayGetDescriptor(&got, array));
  say("%zu x %zu, format %d, %u channels", got.Width, got.Height, static_cast<int>(got.Format), got.NumChannels);
  CUDA_ARRAY3D_DESCRIPTOR whole{};
  SHOW(cuArray3DGetDescriptor(&whole, array));
  say("%zu x %zu x %zu, format %d, %u channels, flags %u", whole.Width, whole.Height, whole.Depth,
      static_cast<int>(whole.Format), whole.NumChannels, whole.Flags);
  SHOW(cuArrayGetDescriptor(nullptr, array));
  SHOW(cuArray3DGetDescriptor(nullptr, array));
  SHOW(cuArrayDestroy(array));
}

CASE(driver_null_pointers) {
  use_device();
  CUarray array = nullptr;
  CUDA_ARRAY_DESCRIPTOR flat{24, 12, CU_AD_FORMAT_FLOAT, 1};
  SHOW(cuArrayCreate(nullptr, &flat));
  SHOW(cuArrayCreate(&array, nullptr));
  SHOW(cuArray3DCreate(&array, nullptr));
  CUmipmappedArray mipmapped = nullptr;
  SHOW(cuMipmappedArrayCreate(&mipmapped, nullptr, 1));
}

CASE(no_context) {
  NEED(cuInit(0));
  CUarray array = nullptr;
  CUDA_ARRAY_DESCRIPTOR flat{24, 12, CU_AD_FORMAT_FLOAT, 1};
  SHOW(cuArrayCreate(&array, &flat));
}

CASE(extents_that_are_none) {
  use_device();
  const CUarray_format f = CU_AD_FORMAT_FLOAT;
  try_3d("width 0", descriptor(0, 0, 0, f, 1));
  try_3d("width 0, height 4", descriptor(0, 4, 0, f, 1));
  try_3d("height 0 and depth", descriptor(4, 0, 4, f, 1));
  try_3d("1D", descriptor(4, 0, 0, f, 1));
  try_3d("2D", descriptor(4, 4, 0, f, 1));
  try_3d("3D", descriptor(4, 4, 4, f, 1));
  try_3d("3 channels", descriptor(4, 4, 0, f, 3));
  try_3d("0 channels", descriptor(4, 4, 0, f, 0));
  try_3d("5 channels", descriptor(4, 4, 0, f, 5));
  try_3d("unknown format", descriptor(4, 4, 0, static_cast<CUarray_format>(0x77), 1));
}

CASE(layers_and_cubes_that_are_none) {
  use_device();
  const CUarray_format f = CU_AD_FORMAT_FLOAT;
  try_3d("layered without layers", descriptor(4, 4, 0, f, 1, CUDA_ARRAY3D_LAYERED));
  try_3d("cube of 5 faces", descriptor(4, 4, 5, f, 1, CUDA_ARRAY3D_CUBEMAP));
  try_3d("cube that is not square", descriptor(4, 8, 6, f, 1, CUDA_ARRAY3D_CUBEMAP));
  try_3d("layered cube of 7 faces", descriptor(4, 4, 7, f, 1, CUDA_ARRAY3D_CUBEMAP | CUDA_ARRAY3D_LAYERED));
  try_3d("gather in 2D", descriptor(4, 4, 0, f, 1, CUDA_ARRAY3D_TEXTURE_GATHER));
  try_3d("gather in 3D", descriptor(4, 4, 4, f, 1, CUDA_ARRAY3D_TEXTURE_GATHER));
}

CASE(extents_beyond_the_device) {
  use_device();
  const CUarray_format f = CU_AD_FORMAT_UNSIGNED_INT8;
  try_3d("1D", descriptor(1u << 20, 0, 0, f, 1));
  try_3d("2D", descriptor(1u << 20, 4, 0, f, 1));
  try_3d("3D", descriptor(1u << 16, 4, 4, f, 1));
  try_3d("layers", descriptor(4, 4, 4096, f, 1, CUDA_ARRAY3D_LAYERED));
}

CASE(mipmapped_levels) {
  cudaMipmappedArray_t mipmapped = nullptr;
  cudaChannelFormatDesc channels = cudaCreateChannelDesc<float>();
  SHOW(cudaMallocMipmappedArray(&mipmapped, &channels, make_cudaExtent(20, 8, 0), 3));
  for (unsigned i = 0; i < 3; ++i) {
    cudaArray_t level = nullptr;
    SHOW(cudaGetMipmappedArrayLevel(&level, mipmapped, i));
    describe(level);
  }
  cudaArray_t level = nullptr;
  SHOW(cudaGetMipmappedArrayLevel(&level, mipmapped, 3));
  SHOW(cudaFreeMipmappedArray(mipmapped));
}

CASE(mipmapped_levels_are_clamped) {
  cudaMipmappedArray_t mipmapped = nullptr;
  cudaChannelFormatDesc channels = cudaCreateChannelDesc<uchar2>();
  SHOW(cudaMallocMipmappedArray(&mipmapped, &channels, make_cudaExtent(8, 4, 0), 100));
  cudaArray_t level = nullptr;
  SHOW(cudaGetMipmappedArrayLevel(&level, mipmapped, 3));
  describe(level);
  SHOW(cudaGetMipmappedArrayLevel(&level, mipmapped, 4));
  SHOW(cudaFreeMipmappedArray(mipmapped));
}

CASE(mipmapped_3d_and_layered) {
  cudaMipmappedArray_t mipmapped = nullptr;
  cudaArray_t level = nullptr;
  cudaChannelFormatDesc channels = cudaCreateChannelDesc<float>();
  SHOW(cudaMallocMipmappedArray(&mipmapped, &channels, make_cudaExtent(16, 8, 4), 3));
  NEED(cudaGetMipmappedArrayLevel(&level, mipmapped, 2));
  describe(level);
  SHOW(cudaFreeMipmappedArray(mipmapped));
  SHOW(cudaMallocMipmappedArray(&mipmapped, &channels, make_cudaExtent(16, 8, 4), 3, cudaArrayLayered));
  NEED(cudaGetMipmappedArrayLevel(&level, mipmapped, 2));
  describe(level);
  SHOW(cudaFreeMipmappedArray(mipmapped));
}

CASE(requirements_of_ordinary_arrays) {
  use_device();
  CUarray array = nullptr;
  const CUDA_ARRAY3D_DESCRIPTOR d = descriptor(64, 64, 0, CU_AD_FORMAT_FLOAT, 1);
  NEED(cuArray3DCreate(&array, &d));
  CUDA_ARRAY_MEMORY_REQUIREMENTS needs{};
  SHOW(cuArrayGetMemoryRequirements(&needs, array, 0));
  CUDA_ARRAY_SPARSE_PROPERTIES properties{};
  SHOW(cuArrayGetSparseProperties(&properties, array));
  NEED(cuArrayDestroy(array));
}

CASE(pitched_allocations) {
  cudaPitchedPtr box{};
  SHOW(cudaMalloc3D(&box, make_cudaExtent(100, 20, 3)));
  say("pitch is enough: %d, x %zu, y %zu", box.pitch >= 100, box.xsize, box.ysize);
  SHOW(cudaFree(box.ptr));
  void* pointer = nullptr;
  std::size_t pitch = 0;
  SHOW(cudaMallocPitch(&pointer, &pitch, 100, 20));
  say("pitch is enough: %d", pitch >= 100);
  SHOW(cudaFree(pointer));
  SHOW(cudaMallocPitch(nullptr, &pitch, 100, 20));
  SHOW(cudaMallocPitch(&pointer, nullptr, 100, 20));
}

CASE(arrays_free_their_memory) {
  use_device();
  // 40 times 512 MiB, one after the other, on any device.
  const CUDA_ARRAY3D_DESCRIPTOR d = descriptor(8192, 4096, 0, CU_AD_FORMAT_FLOAT, 4);
  int made = 0;
  for (int i = 0; i < 40; ++i) {
    CUarray array = nullptr;
    if (cuArray3DCreate(&array, &d) != CUDA_SUCCESS) break;
    ++made;
    NEED(cuArrayDestroy(array));
  }
  say("made %d", made);
}

CASE(out_of_memory) {
  use_device();
  const CUDA_ARRAY3D_DESCRIPTOR d = descriptor(16384, 16384, 1024, CU_AD_FORMAT_FLOAT, 4);
  CUarray array = nullptr;
  SHOW(cuArray3DCreate(&array, &d));
  const CUDA_ARRAY3D_DESCRIPTOR small = descriptor(16, 16, 16, CU_AD_FORMAT_FLOAT, 4);
  SHOW(cuArray3DCreate(&array, &small));
  SHOW(cuArrayDestroy(array));
}
