// Options of the JIT and the linker.
#pragma once

#include <cuda.h>

#include <flatbuffers/flatbuffers.h>

#include <cstdint>
#include <string_view>
#include <vector>

namespace avec::client {

/// Options of cuModuleLoadDataEx and cuLink*: a struct of the three arguments.
struct JitOptions {
  unsigned count = 0;
  const CUjit_option* options = nullptr;
  void** values = nullptr;  ///< sizes of log buffers are written back, as CUDA documents
};

/// CUDA_ERROR_INVALID_VALUE for missing arrays and options that CUDA does not know.
CUresult check_options(const JitOptions& options) noexcept;

/// The options that carry numbers, which the executor's driver gets.
struct NumericOptions {
  std::vector<std::int32_t> options;
  std::vector<std::uint64_t> values;
};
NumericOptions numeric_options(const JitOptions& options);

/// A log buffer of the application: where it is, and where its size is written back.
struct LogBuffer {
  char* text = nullptr;
  unsigned capacity = 0;
  void** size = nullptr;

  /// Writes what fits, with its NUL; the size is then the number of characters.
  void write(std::string_view log) const;
};
struct LogBuffers {
  LogBuffer info, error;
  float* wall_time = nullptr;  ///< milliseconds
};
LogBuffers log_buffers(const JitOptions& options);

}  // namespace avec::client
