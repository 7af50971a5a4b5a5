// NVRTC for clients without one: programs are put together here, compiled by the executor's library, and
// answered from here again.
#include "libraries/nvrtc.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>

#include "client/library_call.h"
#include "intercept/libraries/keep_context.h"
#include "libraries/texts.h"

#pragma GCC diagnostic ignored "-Wmissing-declarations"

using namespace avec::libraries;

extern "C" {
int avec_nvrtc_version(std::int32_t* major, std::int32_t* minor);
int avec_nvrtc_arch_count(std::int32_t* count);
int avec_nvrtc_archs(std::int32_t* archs);
int avec_nvrtc_compile(const void* request, std::uint64_t bytes, void* program, std::uint64_t* sizes);
int avec_nvrtc_fetch(const void* program, void* parts, std::uint64_t bytes);
int avec_nvrtc_forget(const void* program);
}

namespace {

constexpr int kSuccess = 0, kOutOfMemory = 1, kInvalidInput = 3, kInvalidProgram = 4, kBeforeCompilation = 9, kUnknownExpression = 10,
              kAfterCompilation = 8, kInternalError = 11;

struct Program {
  std::string source, name;
  std::vector<std::string> headers, includes, expressions, lowered;
  std::array<std::string, kNvrtcSizes> parts;
  bool compiled = false;   ///< nvrtcCompileProgram was called
  bool succeeded = false;
};

std::mutex& guard() {
  static auto* mutex = new std::mutex;
  return *mutex;
}
std::set<Program*>& programs() {
  static auto* all = new std::set<Program*>;  // guarded by guard()
  return *all;
}

Program* find(void* handle) {
  const std::scoped_lock lock(guard());
  const auto at = programs().find(static_cast<Program*>(handle));
  return at == programs().end() ? nullptr : *at;
}

int compile(Program& program, const std::vector<std::string>& options) {
  std::string request;
  append_text(request, program.source);
  append_text(request, program.name);
  append_texts(request, program.headers);
  append_texts(request, program.includes);
  append_texts(request, options);
  append_texts(request, program.expressions);
  if (request.size() > kMaxHostBytes) return kOutOfMemory;
  const KeepContext keep;
  std::array<std::uint64_t, kNvrtcSizes> sizes{};
  void* there = nullptr;
  int status = avec_nvrtc_compile(request.data(), request.size(), &there, sizes.data());
  if (status != kSuccess) return status;
  std::uint64_t total = 0;
  for (std::size_t i = 1; i < kNvrtcSizes; ++i) total += sizes[i];
  std::string all(static_cast<std::size_t>(std::min(total, kMaxHostBytes)), '\0');
  if (total != 0) status = avec_nvrtc_fetch(there, all.data(), all.size());
  avec_nvrtc_forget(there);
  if (status != kSuccess) return status;
  std::size_t at = 0;
  for (std::size_t i = 1; i < kNvrtcSizes; ++i) {
    program.parts[i] = all.substr(std::min(at, all.size()), static_cast<std::size_t>(sizes[i]));
    at += static_cast<std::size_t>(sizes[i]);
  }
  program.lowered = TextReader(program.parts[kNvrtcNames]).texts().value_or(std::vector<std::string>());
  return static_cast<int>(sizes[0]);
}

int part_size(void* handle, std::size_t* size, NvrtcPart part) {
  const Program* program = find(handle);
  if (program == nullptr) return kInvalidProgram;
  if (size == nullptr) return kInvalidInput;
  if (part != kNvrtcLog && !program->succeeded) return kInvalidProgram;
  // A log is text: where there is none, its NUL.
  *size = std::max<std::size_t>(program->parts[part].size(), part == kNvrtcLog ? 1 : 0);
  return kSuccess;
}

int part_bytes(void* handle, char* to, NvrtcPart part) {
  std::size_t size = 0;
  if (const int status = part_size(handle, &size, part); status != kSuccess) return status;
  if (to == nullptr) return kInvalidInput;
  std::memset(to, 0, size);
  const std::string& bytes = find(handle)->parts[part];
  std::memcpy(to, bytes.data(), bytes.size());
  return kSuccess;
}

}  // namespace

extern "C" {

const char* nvrtcGetErrorString(int status) {
  static constexpr std::array kNames{
      "NVRTC_SUCCESS", "NVRTC_ERROR_OUT_OF_MEMORY", "NVRTC_ERROR_PROGRAM_CREATION_FAILURE", "NVRTC_ERROR_INVALID_INPUT",
      "NVRTC_ERROR_INVALID_PROGRAM", "NVRTC_ERROR_INVALID_OPTION", "NVRTC_ERROR_COMPILATION", "NVRTC_ERROR_BUILTIN_OPERATION_FAILURE",
      "NVRTC_ERROR_NO_NAME_EXPRESSIONS_AFTER_COMPILATION", "NVRTC_ERROR_NO_LOWERED_NAMES_BEFORE_COMPILATION",
      "NVRTC_ERROR_NAME_EXPRESSION_NOT_VALID", "NVRTC_ERROR_INTERNAL_ERROR", "NVRTC_ERROR_TIME_FILE_WRITE_FAILED",
      "NVRTC_ERROR_NO_PCH_CREATE_ATTEMPTED", "NVRTC_ERROR_PCH_CREATE_HEAP_EXHAUSTED", "NVRTC_ERROR_PCH_CREATE",
      "NVRTC_ERROR_CANCELLED", "NVRTC_ERROR_TIME_TRACE_FILE_WRITE_FAILED"};
  return status >= 0 && static_cast<std::size_t>(status) < kNames.size() ? kNames[static_cast<std::size_t>(status)] : "NVRTC_ERROR unknown";
}

int nvrtcVersion(int* major, int* minor) {
  if (major == nullptr || minor == nullptr) return kInvalidInput;
  const KeepContext keep;
  return avec_nvrtc_version(major, minor);
}

int nvrtcGetNumSupportedArchs(int* count) {
  if (count == nullptr) return kInvalidInput;
  const KeepContext keep;
  return avec_nvrtc_arch_count(count);
}

int nvrtcGetSupportedArchs(int* archs) {
  if (archs == nullptr) return kInvalidInput;
  const KeepContext keep;
  std::array<std::int32_t, 64> all{};
  int count = 0;
  if (const int status = avec_nvrtc_arch_count(&count); status != kSuccess) return status;
  if (count < 0 || static_cast<std::size_t>(count) > all.size()) return kInternalError;
  if (const int status = avec_nvrtc_archs(all.data()); status != kSuccess) return status;
  std::copy_n(all.begin(), count, archs);
  return kSuccess;
}

int nvrtcCreateProgram(void** handle, const char* source, const char* name, int count, const char* const* headers, const char* const* includes) {
  if (handle == nullptr || source == nullptr || count < 0 || (count > 0 && (headers == nullptr || includes == nullptr))) return kInvalidInput;
  auto program = std::make_unique<Program>();
  program->source = source;
  program->name = name != nullptr ? name : "";
  for (int i = 0; i < count; ++i) {
    if (headers[i] == nullptr || includes[i] == nullptr) return kInvalidInput;
    program->headers.emplace_back(headers[i]);
    program->includes.emplace_back(includes[i]);
  }
  const std::scoped_lock lock(guard());
  programs().insert(program.get());
  *handle = program.release();
  return kSuccess;
}

int nvrtcDestroyProgram(void** handle) {
  if (handle == nullptr || find(*handle) == nullptr) return kInvalidProgram;
  const std::scoped_lock lock(guard());
  programs().erase(static_cast<Program*>(*handle));
  delete static_cast<Program*>(*handle);
  *handle = nullptr;
  return kSuccess;
}

int nvrtcAddNameExpression(void* handle, const char* expression) {
  Program* program = find(handle);
  if (program == nullptr) return kInvalidProgram;
  if (expression == nullptr) return kInvalidInput;
  if (program->compiled) return kAfterCompilation;
  program->expressions.emplace_back(expression);
  return kSuccess;
}

int nvrtcCompileProgram(void* handle, int count, const char* const* options) {
  Program* program = find(handle);
  if (program == nullptr) return kInvalidProgram;
  if (count < 0 || (count > 0 && options == nullptr)) return kInvalidInput;
  const int status = compile(*program, std::vector<std::string>(options, options + count));
  program->compiled = true;
  program->succeeded = status == kSuccess;
  return status;
}

int nvrtcGetLoweredName(void* handle, const char* expression, const char** lowered) {
  const Program* program = find(handle);
  if (program == nullptr) return kInvalidProgram;
  if (expression == nullptr || lowered == nullptr) return kInvalidInput;
  if (!program->succeeded) return kBeforeCompilation;
  const auto at = std::ranges::find(program->expressions, expression);
  const auto index = static_cast<std::size_t>(at - program->expressions.begin());
  if (at == program->expressions.end() || index >= program->lowered.size() || program->lowered[index].empty()) return kUnknownExpression;
  *lowered = program->lowered[index].c_str();
  return kSuccess;
}

int nvrtcGetPTXSize(void* program, std::size_t* size) { return part_size(program, size, kNvrtcPtx); }
int nvrtcGetPTX(void* program, char* to) { return part_bytes(program, to, kNvrtcPtx); }
int nvrtcGetCUBINSize(void* program, std::size_t* size) { return part_size(program, size, kNvrtcCubin); }
int nvrtcGetCUBIN(void* program, char* to) { return part_bytes(program, to, kNvrtcCubin); }
int nvrtcGetLTOIRSize(void* program, std::size_t* size) { return part_size(program, size, kNvrtcLtoIr); }
int nvrtcGetLTOIR(void* program, char* to) { return part_bytes(program, to, kNvrtcLtoIr); }
int nvrtcGetOptiXIRSize(void* program, std::size_t* size) { return part_size(program, size, kNvrtcOptixIr); }
int nvrtcGetOptiXIR(void* program, char* to) { return part_bytes(program, to, kNvrtcOptixIr); }
int nvrtcGetProgramLogSize(void* program, std::size_t* size) { return part_size(program, size, kNvrtcLog); }
int nvrtcGetProgramLog(void* program, char* to) { return part_bytes(program, to, kNvrtcLog); }

/// It may only cancel a compilation: not cancelling is allowed.
int nvrtcSetFlowCallback(void* program, int (*)(void*, void*), void*) { return find(program) == nullptr ? kInvalidProgram : kSuccess; }

}
