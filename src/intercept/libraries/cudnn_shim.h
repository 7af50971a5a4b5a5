// What the hand-written files of libcudnn.so.9 share: generated entry points that they call, and the
// graph API's one instance.
#pragma once

#include <cstdint>

namespace avec::libraries::cudnn {
class GraphApi;
/// Of this process; made when first used, lasts.
GraphApi& graph_api();
}  // namespace avec::libraries::cudnn

// Of schemas/libraries/cudnn.api, whose `avec` names are not exported.
extern "C" {
int avecCudnnCreateTensor(void* tensor);
int avecCudnnDestroyTensor(const void* tensor);
int avecCudnnSetTensor4d(const void* tensor, std::int32_t format, std::int32_t type, std::int32_t n,
                         std::int32_t c, std::int32_t h, std::int32_t w);
int avecCudnnSetTensor4dStrides(const void* tensor, std::int32_t type, std::int32_t n, std::int32_t c,
                                std::int32_t h, std::int32_t w, std::int32_t n_stride, std::int32_t c_stride,
                                std::int32_t h_stride, std::int32_t w_stride);
int avecCudnnSetTensorNd(const void* tensor, std::int32_t type, std::int32_t count, const std::int32_t* dims,
                         const std::int32_t* strides);
int avecCudnnSetTensorNdFormat(const void* tensor, std::int32_t format, std::int32_t type, std::int32_t count,
                               const std::int32_t* dims);
int avecCudnnCreateFilter(void* filter);
int avecCudnnDestroyFilter(const void* filter);
int avecCudnnSetFilter4d(const void* filter, std::int32_t type, std::int32_t format, std::int32_t k,
                         std::int32_t c, std::int32_t h, std::int32_t w);
int avecCudnnSetFilterNd(const void* filter, std::int32_t type, std::int32_t format, std::int32_t count,
                         const std::int32_t* dims);
int cudnnSetTensorNdDescriptor(const void* tensor, std::int32_t type, std::int32_t count,
                               const std::int32_t* dims, const std::int32_t* strides);
int avecCudnnSetStream(const void* handle, void* stream);
int avecCudnnVersions(std::uint64_t* values);
int avecCudnnLastError(void* message, std::uint64_t length);
int avecCudnnBuild(void* descriptor, std::int32_t type, const void* recipe, std::uint64_t bytes,
                   const void* descriptors, std::uint64_t descriptor_count, const void* handles,
                   std::uint64_t handle_count);
int avecCudnnBuildLong(void* descriptor, std::int32_t type, const void* recipe, std::uint64_t bytes,
                       const void* descriptors, std::uint64_t descriptor_count, const void* handles,
                       std::uint64_t handle_count);
int avecCudnnPack(void* descriptor, std::int32_t type, const void* recipe, std::uint64_t bytes,
                  const void* descriptors, std::uint64_t descriptor_count, const void* handles,
                  std::uint64_t handle_count);
int avecCudnnGet(const void* descriptor, std::int32_t name, std::int32_t type, std::int64_t requested,
                 std::int64_t* count, void* elements, std::uint64_t bytes);
int avecCudnnGetDescriptors(const void* descriptor, std::int32_t name, std::int32_t element_type,
                            std::int64_t requested, std::int64_t* count, void* elements);
int avecCudnnRelease(const void* descriptor);
int avecCudnnTry(const void* handle, const void* plan, const void* pack);
int avecCudnnExecute(const void* handle, const void* plan, const void* pack);
int avecCudnnWeightParams(const void* handle, const void* rnn, std::int32_t layer, std::uint64_t bytes,
                          std::int32_t linear, std::int64_t* offsets, std::int32_t* shapes);
int avecCudnnGetRNNData(const void* data, std::int32_t* type, std::int32_t* layout, std::int32_t* steps,
                        std::int32_t* batch, std::int32_t* vector, std::int32_t requested,
                        std::int32_t* lengths, void* fill);
int avecCudnnGetSeqData(const void* data, std::int32_t* type, std::int32_t* count, std::int32_t requested,
                        std::int32_t* dims, std::int32_t* axes, std::uint64_t* length_count,
                        std::uint64_t lengths_requested, std::int32_t* lengths, void* fill);
}
