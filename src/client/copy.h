// Copies and sets, in the order that CUDA defines for them (docs: "API synchronization behavior").
#pragma once

#include <cuda.h>

#include <cstddef>

namespace avec::client {

/// Whether the call returns before the work is done; the stream counts for both.
enum class Completion { kSynchronous, kAsynchronous };

/// Direction from the addresses (cuMemcpy, cuMemcpyAsync, cuMemcpyPeer).
CUresult copy(CUdeviceptr destination, CUdeviceptr source, std::size_t bytes, CUstream stream,
              Completion completion);
CUresult copy_to_device(CUdeviceptr destination, const void* source, std::size_t bytes, CUstream stream,
                        Completion completion);
CUresult copy_from_device(void* destination, CUdeviceptr source, std::size_t bytes, CUstream stream,
                          Completion completion);
CUresult copy_on_device(CUdeviceptr destination, CUdeviceptr source, std::size_t bytes, CUstream stream);
/// cuMemcpy2D, cuMemcpy2DUnaligned, cuMemcpy2DAsync.
CUresult copy_2d(const CUDA_MEMCPY2D& what, CUstream stream, Completion completion);
/// cuMemcpy3D, cuMemcpy3DAsync.
CUresult copy_3d(const CUDA_MEMCPY3D& what, CUstream stream, Completion completion);
CUresult copy_3d_peer(const CUDA_MEMCPY3D_PEER& what, CUstream stream, Completion completion);
/// One side of a copy of bytes of one row: of an array, from `offset`; or of memory.
struct ArrayBytes {
  CUmemorytype type;
  CUarray array = nullptr;
  std::size_t offset = 0;
  CUdeviceptr device = 0;
  const void* host = nullptr;
};
/// cuMemcpyAtoH and its like.
CUresult copy_array(const ArrayBytes& to, const ArrayBytes& from, std::size_t bytes, CUstream stream,
                    Completion completion);
CUresult copy_peer(CUdeviceptr destination, CUcontext destination_context, CUdeviceptr source,
                   CUcontext source_context, std::size_t bytes, CUstream stream, Completion completion);

/// `height` rows of `width` elements of 1, 2 or 4 bytes, `pitch` bytes apart.
CUresult set_memory(CUdeviceptr destination, std::size_t pitch, unsigned value, unsigned element_bytes,
                    std::size_t width, std::size_t height, CUstream stream, Completion completion);

}  // namespace avec::client
