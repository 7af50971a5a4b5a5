// Memory operations of streams, flushing of remote writes, tensor maps.
#include <array>
#include <cstring>

#include "executor/worker/session.h"

namespace avec::worker {
namespace {

/// As CUDA: a batch has at most 256 operations.
constexpr std::uint32_t kMaxOperations = 256;

std::uint64_t operand_bytes(std::uint32_t operation) {
  switch (operation) {
    case CU_STREAM_MEM_OP_WAIT_VALUE_32:
    case CU_STREAM_MEM_OP_WRITE_VALUE_32:
      return 4;
    case CU_STREAM_MEM_OP_WAIT_VALUE_64:
    case CU_STREAM_MEM_OP_WRITE_VALUE_64:
      return 8;
    default:
      return 0;
  }
}

CUstreamBatchMemOpParams native(const wire::StreamMemoryOperation& from) {
  CUstreamBatchMemOpParams to;
  std::memset(&to, 0, sizeof to);
  to.operation = static_cast<CUstreamBatchMemOpType>(from.operation());
  switch (to.operation) {
    case CU_STREAM_MEM_OP_WAIT_VALUE_32:
    case CU_STREAM_MEM_OP_WAIT_VALUE_64:
      to.waitValue.address = from.address();
      to.waitValue.value64 = from.value();
      to.waitValue.flags = from.flags();
      break;
    case CU_STREAM_MEM_OP_WRITE_VALUE_32:
    case CU_STREAM_MEM_OP_WRITE_VALUE_64:
      to.writeValue.address = from.address();
      to.writeValue.value64 = from.value();
      to.writeValue.flags = from.flags();
      break;
    case CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES:
      to.flushRemoteWrites.flags = from.flags();
      break;
    case CU_STREAM_MEM_OP_BARRIER:
      to.memoryBarrier.flags = from.flags();
      break;
  }
  return to;
}

bool known(std::uint32_t operation) {
  return operand_bytes(operation) != 0 || operation == CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES ||
         operation == CU_STREAM_MEM_OP_BARRIER;
}

}  // namespace

Result<> Session::operator()(const Header& header, const wire::StreamMemoryOperations& call) {
  if (frame_->payload_follows || call.count() == 0 || call.count() > kMaxOperations ||
      frame_->payload.size() != call.count() * sizeof(wire::StreamMemoryOperation))
    return protocol_error("memory operations that do not have their number");
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  std::vector<CUstreamBatchMemOpParams> operations;
  for (std::uint32_t i = 0; i < call.count(); ++i) {
    wire::StreamMemoryOperation one;
    std::memcpy(&one, frame_->payload.data() + i * sizeof one, sizeof one);
    if (!known(one.operation())) return finish(header, CUDA_ERROR_INVALID_VALUE);
    if (const std::uint64_t bytes = operand_bytes(one.operation());
        bytes != 0 && (one.address() % bytes != 0 || !may_address(one.address(), bytes)))
      return finish(header, CUDA_ERROR_INVALID_VALUE);
    operations.push_back(native(one));
  }
  if (hold(*stream)) return {};
  before_issue(*stream);
  status = driver_.cuStreamBatchMemOp(stream->handle, call.count(), operations.data(), 0);
  if (status == CUDA_SUCCESS) completions_.issued(*stream);
  return finish(header, status);
}

bool Session::may_address(std::uint64_t address, std::uint64_t bytes) const { return memory_.covers(address, bytes); }

Result<> Session::operator()(const Header& header, const wire::RemoteWritesFlush& call) {
  CUresult status;
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return finish(header, status);
  if (driver_.cuFlushGPUDirectRDMAWrites == nullptr) return finish(header, CUDA_ERROR_NOT_SUPPORTED);
  make_current(*context);
  return finish(header, driver_.cuFlushGPUDirectRDMAWrites(
                            static_cast<CUflushGPUDirectRDMAWritesTarget>(call.target()),
                            static_cast<CUflushGPUDirectRDMAWritesScope>(call.scope())));
}

Result<> Session::operator()(const Header& header, const wire::TensorMapEncode& call) {
  CUresult status;
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return finish(header, status);
  if (call.rank() > 5 || call.kind() > 3) return finish(header, CUDA_ERROR_INVALID_VALUE);
  make_current(*context);
  // What the driver writes: 64-byte aligned.
  CUtensorMap map;
  std::memcpy(static_cast<void*>(&map), call.map()->data(), sizeof map);
  auto* address = reinterpret_cast<void*>(static_cast<std::uintptr_t>(call.address()));
  const auto* sizes = reinterpret_cast<const cuuint64_t*>(call.sizes()->data());
  const auto* strides = reinterpret_cast<const cuuint64_t*>(call.strides()->data());
  const auto* box = call.box()->data();
  const auto* steps = reinterpret_cast<const cuuint32_t*>(call.element_strides()->data());
  const auto* lower = reinterpret_cast<const int*>(call.lower_corner()->data());
  const auto* upper = reinterpret_cast<const int*>(call.upper_corner()->data());
  const auto type = static_cast<CUtensorMapDataType>(call.data_type());
  const auto interleave = static_cast<CUtensorMapInterleave>(call.interleave());
  const auto swizzle = static_cast<CUtensorMapSwizzle>(call.swizzle());
  const auto promotion = static_cast<CUtensorMapL2promotion>(call.promotion());
  const auto fill = static_cast<CUtensorMapFloatOOBfill>(call.fill());
  switch (call.kind()) {
    case 0:
      status = driver_.cuTensorMapEncodeTiled(&map, type, call.rank(), address, sizes, strides,
                                              reinterpret_cast<const cuuint32_t*>(box), steps, interleave, swizzle,
                                              promotion, fill);
      break;
    case 1:
      status = driver_.cuTensorMapEncodeIm2col(&map, type, call.rank(), address, sizes, strides, lower, upper,
                                               call.channels(), call.pixels(), steps, interleave, swizzle, promotion,
                                               fill);
      break;
    case 2:
      status = driver_.cuTensorMapEncodeIm2colWide(&map, type, call.rank(), address, sizes, strides, lower[0], upper[0],
                                                   call.channels(), call.pixels(), steps, interleave,
                                                   static_cast<CUtensorMapIm2ColWideMode>(call.mode()), swizzle,
                                                   promotion, fill);
      break;
    default:
      status = driver_.cuTensorMapReplaceAddress(&map, address);
  }
  if (status != CUDA_SUCCESS) return finish(header, status);
  std::array<std::uint8_t, sizeof map> bytes;
  std::memcpy(bytes.data(), &map, sizeof map);
  return answer(header, wire::TensorMapReply(bytes));
}

}  // namespace avec::worker
