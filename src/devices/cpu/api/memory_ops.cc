#include "devices/cpu/memory_ops.h"

#include <atomic>

#include "devices/cpu/copy.h"
#include "devices/cpu/graph/capture.h"

using namespace avec::cpu;

namespace {

constexpr unsigned kConditions = 3;
constexpr unsigned kMaxBatch = 256;

bool is_wide(const CUstreamBatchMemOpParams& one) {
  return one.operation == CU_STREAM_MEM_OP_WAIT_VALUE_64 || one.operation == CU_STREAM_MEM_OP_WRITE_VALUE_64;
}
bool is_wait(const CUstreamBatchMemOpParams& one) {
  return one.operation == CU_STREAM_MEM_OP_WAIT_VALUE_64 || one.operation == CU_STREAM_MEM_OP_WAIT_VALUE_32;
}
bool is_write(const CUstreamBatchMemOpParams& one) {
  return one.operation == CU_STREAM_MEM_OP_WRITE_VALUE_64 || one.operation == CU_STREAM_MEM_OP_WRITE_VALUE_32;
}
/// Waits and writes begin alike.
CUdeviceptr address_of(const CUstreamBatchMemOpParams& one) { return one.waitValue.address; }
std::uint64_t bytes_of(const CUstreamBatchMemOpParams& one) { return is_wide(one) ? 8 : 4; }

bool usable(const Context& context, const CUstreamBatchMemOpParams& one) {
  return accessible(context, address_of(one), bytes_of(one), is_write(one));
}

template <class T>
bool reached(T seen, T value, unsigned condition) {
  switch (condition) {
    case CU_STREAM_WAIT_VALUE_GEQ:  // cyclic
      return static_cast<std::make_signed_t<T>>(seen - value) >= 0;
    case CU_STREAM_WAIT_VALUE_EQ:
      return seen == value;
    case CU_STREAM_WAIT_VALUE_AND:
      return (seen & value) != 0;
    default:
      return static_cast<T>(~(seen | value)) != 0;
  }
}

template <class T>
bool seen_at(CUdeviceptr address, T value, unsigned flags) {
  const T seen = std::atomic_ref<T>(*reinterpret_cast<T*>(address)).load(std::memory_order_seq_cst);
  return reached(seen, value, flags & kConditions);
}

template <class T>
void store_at(CUdeviceptr address, T value) {
  std::atomic_ref<T>(*reinterpret_cast<T*>(address)).store(value, std::memory_order_seq_cst);
}

/// Puts checked operations into a stream, one node of them if it captures.
CUresult submit(CUstream handle, const CUstreamBatchMemOpParams* operations, unsigned count) {
  StreamRef stream;
  if (const auto error = stream_of(handle, stream)) return error;
  for (unsigned i = 0; i < count; ++i) {
    if (const auto error = check_memory_op(*stream->context, operations[i])) return error;
  }
  const auto node = captured(stream, [&](Graph&, Params& params) {
    params = BatchParams{stream->context, {operations, operations + count}, 0};
    return CUDA_SUCCESS;
  });
  if (node) return *node;
  for (unsigned i = 0; i < count; ++i) {
    Task task;
    const auto& one = operations[i];
    if (is_wait(one))
      task.ready = [stream = stream.get(), one] { return memory_op_ready(*stream->context, one); };
    task.run = [stream = stream.get(), one](CUresult) { return run_memory_op(*stream->context, one); };
    state().scheduler.enqueue(stream, std::move(task));
  }
  return CUDA_SUCCESS;
}

CUstreamBatchMemOpParams make(CUstreamBatchMemOpType operation, CUdeviceptr address, cuuint64_t value,
                              unsigned flags) {
  CUstreamBatchMemOpParams one{};
  one.waitValue.operation = operation;
  one.waitValue.address = address;
  one.waitValue.value64 = value;  // the narrow value lies in its low half
  one.waitValue.flags = flags;
  return one;
}

}  // namespace

namespace avec::cpu {

CUresult check_memory_op(const Context& context, const CUstreamBatchMemOpParams& one) {
  if (one.operation == CU_STREAM_MEM_OP_BARRIER) return CUDA_SUCCESS;  // what runs in order needs none
  if (!is_wait(one) && !is_write(one)) return CUDA_ERROR_NOT_SUPPORTED;
  const unsigned flags = one.waitValue.flags;
  const unsigned known = is_write(one) ? static_cast<unsigned>(CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER)
                                       : kConditions | static_cast<unsigned>(CU_STREAM_WAIT_VALUE_FLUSH);
  if (address_of(one) % bytes_of(one) != 0 || (flags & ~known) != 0) return CUDA_ERROR_INVALID_VALUE;
  if (is_wait(one) && (flags & CU_STREAM_WAIT_VALUE_FLUSH) != 0) return CUDA_ERROR_NOT_SUPPORTED;
  return usable(context, one) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

bool memory_op_ready(const Context& context, const CUstreamBatchMemOpParams& one) {
  // Freed while it was waited for: running it reports that.
  if (!is_wait(one) || !usable(context, one)) return true;
  return is_wide(one) ? seen_at<std::uint64_t>(address_of(one), one.waitValue.value64, one.waitValue.flags)
                      : seen_at<std::uint32_t>(address_of(one), one.waitValue.value, one.waitValue.flags);
}

CUresult run_memory_op(const Context& context, const CUstreamBatchMemOpParams& one) {
  if (!is_wait(one) && !is_write(one)) return CUDA_SUCCESS;
  if (!usable(context, one)) return CUDA_ERROR_ILLEGAL_ADDRESS;
  if (is_write(one) && is_wide(one)) store_at<std::uint64_t>(address_of(one), one.writeValue.value64);
  if (is_write(one) && !is_wide(one)) store_at<std::uint32_t>(address_of(one), one.writeValue.value);
  return CUDA_SUCCESS;
}

}  // namespace avec::cpu

extern "C" {

CUresult cuStreamWriteValue32_v2(CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned flags) {
  const auto one = make(CU_STREAM_MEM_OP_WRITE_VALUE_32, address, value, flags);
  return submit(stream, &one, 1);
}
CUresult cuStreamWriteValue64_v2(CUstream stream, CUdeviceptr address, cuuint64_t value, unsigned flags) {
  const auto one = make(CU_STREAM_MEM_OP_WRITE_VALUE_64, address, value, flags);
  return submit(stream, &one, 1);
}
CUresult cuStreamWaitValue32_v2(CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned flags) {
  const auto one = make(CU_STREAM_MEM_OP_WAIT_VALUE_32, address, value, flags);
  return submit(stream, &one, 1);
}
CUresult cuStreamWaitValue64_v2(CUstream stream, CUdeviceptr address, cuuint64_t value, unsigned flags) {
  const auto one = make(CU_STREAM_MEM_OP_WAIT_VALUE_64, address, value, flags);
  return submit(stream, &one, 1);
}

CUresult cuStreamBatchMemOp_v2(CUstream stream, unsigned count, CUstreamBatchMemOpParams* operations,
                               unsigned flags) {
  if (const auto error = initialised()) return error;
  if (operations == nullptr || count == 0 || count > kMaxBatch || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  return submit(stream, operations, count);
}

}  // extern "C"
