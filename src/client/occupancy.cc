// How many blocks fit. The executor's driver answers once for each set of arguments.
#include <algorithm>

#include "client/client.h"
#include "client/context.h"
#include "client/device.h"
#include "client/function.h"
#include "client/module.h"
#include "client/status.h"
#include "session/session.h"

namespace avec::client {
namespace {

constexpr std::size_t kSharedGranularity = 128;
/// Sets of arguments remembered of one function.
constexpr std::size_t kRemembered = 4096;

}  // namespace

CUresult occupancy_blocks(int* blocks, CUfunction handle, int block_size, std::size_t shared_bytes,
                          unsigned flags) {
  Function* function;
  if (const CUresult result = ready_function(handle, function); result != CUDA_SUCCESS) return result;
  if (blocks == nullptr || block_size <= 0 || flags > CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE)
    return CUDA_ERROR_INVALID_VALUE;
  const Function::Occupancy key{block_size, shared_bytes, flags};
  {
    std::scoped_lock lock(function->mutex);
    if (const auto known = function->occupancy.find(key); known != function->occupancy.end()) {
      *blocks = known->second;
      return CUDA_SUCCESS;
    }
  }
  const auto reply = function->context->client->session().call(
      wire::OccupancyBlocks(function->module_name, function->index, block_size, shared_bytes, flags, 0));
  if (!reply) return to_cuda(reply.error());
  std::scoped_lock lock(function->mutex);
  if (function->occupancy.size() < kRemembered) function->occupancy.emplace(key, reply->blocks());
  *blocks = reply->blocks();
  return CUDA_SUCCESS;
}

CUresult occupancy_block_size(int* min_grid, int* block_size, CUfunction handle,
                              CUoccupancyB2DSize shared_of_block, std::size_t shared_bytes, int limit,
                              unsigned flags) {
  Function* function;
  if (const CUresult result = ready_function(handle, function); result != CUDA_SUCCESS) return result;
  if (min_grid == nullptr || block_size == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const Device& device = *function->context->device;
  const int warp = std::max(device.attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE), 1);
  const int per_processor = device.attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR);
  int most = std::min(static_cast<int>(function->max_threads.load()),
                      device.attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK));
  if (limit > 0) most = std::min(most, limit);

  int best_threads = 0, best_size = 0, best_blocks = 0;
  // From the largest size down in whole warps; the first to fill the processor is taken.
  for (int size = (most + warp - 1) / warp * warp; size > 0 && best_threads < per_processor; size -= warp) {
    const int tried = std::min(size, most);
    const std::size_t shared = shared_of_block != nullptr ? shared_of_block(tried) : shared_bytes;
    int blocks = 0;
    if (const CUresult result = occupancy_blocks(&blocks, handle, tried, shared, flags);
        result != CUDA_SUCCESS)
      return result;
    if (blocks * tried > best_threads) {
      best_threads = blocks * tried;
      best_size = tried;
      best_blocks = blocks;
    }
  }
  *block_size = best_size;
  *min_grid = best_blocks * device.attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
  return CUDA_SUCCESS;
}

CUresult occupancy_available_shared(std::size_t* bytes, CUfunction handle, int blocks, int block_size) {
  Function* function;
  if (const CUresult result = ready_function(handle, function); result != CUDA_SUCCESS) return result;
  if (bytes == nullptr || blocks <= 0 || block_size <= 0) return CUDA_ERROR_INVALID_VALUE;
  const Device& device = *function->context->device;
  const auto whole =
      static_cast<std::int64_t>(device.attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR));
  const auto reserved =
      static_cast<std::int64_t>(device.attribute(CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK));
  const std::int64_t share = whole / blocks / static_cast<std::int64_t>(kSharedGranularity) *
                             static_cast<std::int64_t>(kSharedGranularity);
  const std::int64_t room = share - reserved - function->static_shared_bytes;
  const auto most = static_cast<std::int64_t>(function->max_dynamic_shared_bytes.load());
  *bytes = static_cast<std::size_t>(std::clamp<std::int64_t>(room, 0, most));
  return CUDA_SUCCESS;
}

}  // namespace avec::client
