#include "client/stream_memory.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "client/client.h"
#include "client/coherence.h"
#include "client/context.h"
#include "client/device.h"
#include "client/memory.h"
#include "client/status.h"
#include "client/stream.h"
#include "session/session.h"

namespace avec::client {
namespace {

/// As CUDA: a batch has at most 256 operations.
constexpr unsigned kMaxOperations = 256;
constexpr unsigned kConditions = CU_STREAM_WAIT_VALUE_NOR;
/// Tensor maps remembered of the process; the oldest are not looked for, all go at once.
constexpr std::size_t kRememberedMaps = 4096;

/// Memory that the device reaches at this address, whole and aligned.
bool addressable(const Stream& stream, std::uint64_t address, std::uint64_t bytes) {
  if (address == 0 || address % bytes != 0) return false;
  const Pointee pointee = look_up(*stream.context->client, address);
  if (pointee.device) return address - pointee.device->base + bytes <= pointee.device->bytes;
  return pointee.host.has_value();
}

CUresult check_wait(const Stream& stream, std::uint64_t address, std::uint64_t bytes, unsigned flags) {
  const Device& device = *stream.context->device;
  if ((flags & ~(kConditions | CU_STREAM_WAIT_VALUE_FLUSH)) != 0 || !addressable(stream, address, bytes))
    return CUDA_ERROR_INVALID_VALUE;
  if ((flags & CU_STREAM_WAIT_VALUE_FLUSH) != 0 && device.attribute(CU_DEVICE_ATTRIBUTE_CAN_FLUSH_REMOTE_WRITES) == 0)
    return CUDA_ERROR_NOT_SUPPORTED;
  if ((flags & kConditions) == CU_STREAM_WAIT_VALUE_NOR &&
      device.attribute(CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR) == 0)
    return CUDA_ERROR_NOT_SUPPORTED;
  return CUDA_SUCCESS;
}

CUresult read_operation(const Stream& stream, const CUstreamBatchMemOpParams& from, bool with_barriers,
                        wire::StreamMemoryOperation& to) {
  const auto kind = static_cast<std::uint32_t>(from.operation);
  switch (from.operation) {
    case CU_STREAM_MEM_OP_WAIT_VALUE_32:
    case CU_STREAM_MEM_OP_WAIT_VALUE_64: {
      const bool wide = from.operation == CU_STREAM_MEM_OP_WAIT_VALUE_64;
      to = {kind, from.waitValue.flags, from.waitValue.address, wide ? from.waitValue.value64 : from.waitValue.value};
      return check_wait(stream, from.waitValue.address, wide ? 8 : 4, from.waitValue.flags);
    }
    case CU_STREAM_MEM_OP_WRITE_VALUE_32:
    case CU_STREAM_MEM_OP_WRITE_VALUE_64: {
      const bool wide = from.operation == CU_STREAM_MEM_OP_WRITE_VALUE_64;
      to = {kind, from.writeValue.flags, from.writeValue.address, wide ? from.writeValue.value64 : from.writeValue.value};
      const bool known = (from.writeValue.flags & ~unsigned{CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER}) == 0;
      return known && addressable(stream, from.writeValue.address, wide ? 8 : 4) ? CUDA_SUCCESS
                                                                                : CUDA_ERROR_INVALID_VALUE;
    }
    case CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES:
      to = {kind, from.flushRemoteWrites.flags, 0, 0};
      if (from.flushRemoteWrites.flags != 0) return CUDA_ERROR_INVALID_VALUE;
      return stream.context->device->attribute(CU_DEVICE_ATTRIBUTE_CAN_FLUSH_REMOTE_WRITES) != 0
                 ? CUDA_SUCCESS
                 : CUDA_ERROR_NOT_SUPPORTED;
    case CU_STREAM_MEM_OP_BARRIER:
      to = {kind, from.memoryBarrier.flags, 0, 0};
      return with_barriers && from.memoryBarrier.flags <= CU_STREAM_MEMORY_BARRIER_TYPE_GPU ? CUDA_SUCCESS
                                                                                           : CUDA_ERROR_INVALID_VALUE;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult run_one(CUstream handle, const CUstreamBatchMemOpParams& operation) {
  return stream_memory_operations(handle, 1, &operation, 0, true);
}

}  // namespace

CUresult stream_memory_operations(CUstream handle, unsigned count, const CUstreamBatchMemOpParams* operations,
                                  unsigned flags, bool with_barriers) {
  Stream* stream;
  if (const CUresult result = stream_for_device_work(handle, stream); result != CUDA_SUCCESS) return result;
  if (operations == nullptr || count == 0 || count > kMaxOperations || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  std::vector<wire::StreamMemoryOperation> sent(count);
  for (unsigned i = 0; i < count; ++i) {
    if (const CUresult result = read_operation(*stream, operations[i], with_barriers, sent[i]); result != CUDA_SUCCESS)
      return result;
  }
  Client& client = *stream->context->client;
  const ConstBytes named = std::as_bytes(std::span(sent));  // addresses lie at steps of 8 bytes
  Coherence& coherence = client.coherence();
  const bool watched = client.launches_watched() && coherence.concerned(named);
  if (watched) {
    if (const CUresult result = coherence.before_kernel(*stream, named); result != CUDA_SUCCESS) return result;
  }
  const CUresult posted = to_cuda(client.session().post(wire::StreamMemoryOperations(stream->name, count, 0), named));
  if (watched) coherence.work_posted();
  return posted;
}

CUresult stream_wait_value(CUstream stream, CUdeviceptr address, std::uint64_t value, unsigned flags, bool wide) {
  CUstreamBatchMemOpParams operation;
  std::memset(&operation, 0, sizeof operation);
  operation.operation = wide ? CU_STREAM_MEM_OP_WAIT_VALUE_64 : CU_STREAM_MEM_OP_WAIT_VALUE_32;
  operation.waitValue.address = address;
  operation.waitValue.value64 = value;
  operation.waitValue.flags = flags;
  return run_one(stream, operation);
}

CUresult stream_write_value(CUstream stream, CUdeviceptr address, std::uint64_t value, unsigned flags, bool wide) {
  CUstreamBatchMemOpParams operation;
  std::memset(&operation, 0, sizeof operation);
  operation.operation = wide ? CU_STREAM_MEM_OP_WRITE_VALUE_64 : CU_STREAM_MEM_OP_WRITE_VALUE_32;
  operation.writeValue.address = address;
  operation.writeValue.value64 = value;
  operation.writeValue.flags = flags;
  return run_one(stream, operation);
}

CUresult flush_remote_writes(CUflushGPUDirectRDMAWritesTarget target, CUflushGPUDirectRDMAWritesScope scope) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  if (target != CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX) return CUDA_ERROR_INVALID_VALUE;
  if (scope != CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_OWNER && scope != CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_ALL_DEVICES)
    return CUDA_ERROR_INVALID_VALUE;
  return to_cuda(context->client->session().call(wire::RemoteWritesFlush(context->name.load(), target, scope)));
}

namespace {

struct MapCache {
  std::mutex mutex;
  std::unordered_map<std::string, std::array<std::uint8_t, sizeof(CUtensorMap)>> maps;  // by what was asked
};
MapCache& map_cache() {
  static auto* const cache = new MapCache;
  return *cache;
}

template <class To, class From>
void fill(std::array<To, 5>& to, const From* from, std::uint32_t count) {
  for (std::uint32_t i = 0; from != nullptr && i < std::min<std::uint32_t>(count, 5); ++i) to[i] = static_cast<To>(from[i]);
}

}  // namespace

CUresult tensor_map_encode(CUtensorMap* map, const TensorMapArguments& a) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  const bool encodes = a.kind != TensorMapArguments::kReplaceAddress;
  if (map == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (encodes && (a.rank == 0 || a.rank > 5 || a.sizes == nullptr || (a.strides == nullptr && a.rank > 1) ||
                  a.element_strides == nullptr))
    return CUDA_ERROR_INVALID_VALUE;
  if (a.kind == TensorMapArguments::kTiled && a.box == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if ((a.kind == TensorMapArguments::kIm2col) && (a.lower_corner == nullptr || a.upper_corner == nullptr || a.rank < 3))
    return CUDA_ERROR_INVALID_VALUE;
  std::array<std::uint64_t, 5> sizes{}, strides{};
  std::array<std::uint32_t, 5> box{}, steps{};
  std::array<std::int32_t, 5> lower{}, upper{};
  std::array<std::uint8_t, sizeof(CUtensorMap)> bytes{};
  fill(sizes, a.sizes, a.rank);
  fill(strides, a.strides, a.rank - 1);
  fill(box, a.box, a.rank);
  fill(steps, a.element_strides, a.rank);
  const std::uint32_t corners = a.kind == TensorMapArguments::kIm2col ? a.rank - 2 : 1;
  fill(lower, a.lower_corner, corners);
  fill(upper, a.upper_corner, corners);
  if (!encodes) std::memcpy(bytes.data(), map, sizeof *map);
  const wire::TensorMapEncode body(context->name.load(), reinterpret_cast<std::uintptr_t>(a.address), sizes, strides, box,
                                   steps, lower, upper, a.kind, a.data_type, a.rank, a.channels, a.pixels, a.interleave,
                                   a.mode, a.swizzle, a.promotion, a.fill, bytes);
  std::string key(reinterpret_cast<const char*>(&body), sizeof body);
  MapCache& cache = map_cache();
  {
    std::scoped_lock lock(cache.mutex);
    if (const auto known = cache.maps.find(key); known != cache.maps.end()) {
      std::memcpy(static_cast<void*>(map), known->second.data(), sizeof *map);
      return CUDA_SUCCESS;
    }
  }
  const auto reply = context->client->session().call(body);
  if (!reply) return to_cuda(reply.error());
  std::memcpy(bytes.data(), reply->map()->data(), bytes.size());
  std::memcpy(static_cast<void*>(map), bytes.data(), sizeof *map);
  std::scoped_lock lock(cache.mutex);
  if (cache.maps.size() >= kRememberedMaps) cache.maps.clear();
  cache.maps.emplace(std::move(key), bytes);
  return CUDA_SUCCESS;
}

}  // namespace avec::client
