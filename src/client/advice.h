// Managed memory: where it should be, who uses it. Nothing of this moves a byte here: what host and
// device have is made alike at launches and synchronisations (coherence.h). It is checked as CUDA
// checks it, and kept for whoever asks.
#pragma once

#include <cuda.h>

#include <cstddef>

namespace avec::client {

CUresult memory_advise(CUdeviceptr address, std::size_t bytes, CUmem_advise advice, CUmemLocation where);
CUresult memory_prefetch(CUdeviceptr address, std::size_t bytes, CUmemLocation where, unsigned flags,
                         CUstream stream);
/// cuMemPrefetchBatchAsync; with `discard`, cuMemDiscardAndPrefetchBatchAsync.
struct PrefetchBatch {
  const CUdeviceptr* addresses;
  const std::size_t* bytes;
  std::size_t count;
  const CUmemLocation* places;
  const std::size_t* first;  ///< of each place: the first range that goes there
  std::size_t place_count;
};
CUresult memory_prefetch_batch(const PrefetchBatch& batch, unsigned long long flags, CUstream stream);
CUresult memory_discard_batch(const CUdeviceptr* addresses, const std::size_t* bytes, std::size_t count,
                              unsigned long long flags, CUstream stream);
CUresult memory_range_attribute(void* data, std::size_t size, CUmem_range_attribute attribute,
                                CUdeviceptr address, std::size_t bytes);
CUresult memory_range_attributes(void** data, std::size_t* sizes, CUmem_range_attribute* attributes,
                                 std::size_t count, CUdeviceptr address, std::size_t bytes);
CUresult stream_attach_memory(CUstream stream, CUdeviceptr address, std::size_t bytes, unsigned flags);

}  // namespace avec::client
