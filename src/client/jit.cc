#include "client/jit.h"

#include <algorithm>
#include <cstring>

namespace avec::client {
namespace {

bool is_number(CUjit_option option) {
  switch (option) {
    case CU_JIT_MAX_REGISTERS:
    case CU_JIT_THREADS_PER_BLOCK:
    case CU_JIT_OPTIMIZATION_LEVEL:
    case CU_JIT_TARGET_FROM_CUCONTEXT:
    case CU_JIT_TARGET:
    case CU_JIT_FALLBACK_STRATEGY:
    case CU_JIT_GENERATE_DEBUG_INFO:
    case CU_JIT_LOG_VERBOSE:
    case CU_JIT_GENERATE_LINE_INFO:
    case CU_JIT_CACHE_MODE:
    case CU_JIT_POSITION_INDEPENDENT_CODE:
    case CU_JIT_MIN_CTA_PER_SM:
    case CU_JIT_MAX_THREADS_PER_BLOCK:
    case CU_JIT_OVERRIDE_DIRECTIVE_VALUES:
      return true;
    default:
      return false;
  }
}

}  // namespace

CUresult check_options(const JitOptions& options) noexcept {
  if (options.count == 0) return CUDA_SUCCESS;
  if (options.options == nullptr || options.values == nullptr) return CUDA_ERROR_INVALID_VALUE;
  for (unsigned i = 0; i < options.count; ++i) {
    const auto option = static_cast<int>(options.options[i]);
    if (option < 0 || option >= CU_JIT_NUM_OPTIONS) return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

NumericOptions numeric_options(const JitOptions& options) {
  NumericOptions result;
  for (unsigned i = 0; i < options.count; ++i) {
    if (!is_number(options.options[i])) continue;
    result.options.push_back(options.options[i]);
    result.values.push_back(reinterpret_cast<std::uintptr_t>(options.values[i]));
  }
  return result;
}

void LogBuffer::write(std::string_view log) const {
  std::size_t written = 0;
  if (text != nullptr && capacity > 0) {
    written = std::min<std::size_t>(log.size(), capacity - 1);
    std::memcpy(text, log.data(), written);
    text[written] = '\0';
  }
  if (size != nullptr) *size = reinterpret_cast<void*>(written);
}

LogBuffers log_buffers(const JitOptions& options) {
  LogBuffers buffers;
  const auto size_of = [](LogBuffer& buffer, void** value) {
    buffer.size = value;
    buffer.capacity = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(*value));
  };
  for (unsigned i = 0; i < options.count; ++i) {
    void** value = &options.values[i];
    switch (options.options[i]) {
      case CU_JIT_INFO_LOG_BUFFER:
        buffers.info.text = static_cast<char*>(*value);
        break;
      case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
        size_of(buffers.info, value);
        break;
      case CU_JIT_ERROR_LOG_BUFFER:
        buffers.error.text = static_cast<char*>(*value);
        break;
      case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
        size_of(buffers.error, value);
        break;
      case CU_JIT_WALL_TIME:
        buffers.wall_time = reinterpret_cast<float*>(value);
        break;
      default:
        break;
    }
  }
  return buffers;
}

}  // namespace avec::client
