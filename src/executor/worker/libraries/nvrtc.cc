// A whole compilation by the executor's NVRTC, for a client that has none.
#include "libraries/nvrtc.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>

#include "executor/worker/libraries.h"
#include "libraries/texts.h"

using namespace avec::libraries;

namespace {

constexpr std::uint16_t kNvrtc = 22;  // schemas/libraries/nvrtc.api
constexpr int kSuccess = 0, kOutOfMemory = 1, kInvalidInput = 3, kInvalidProgram = 4, kInternalError = 11;
/// Options, headers or name expressions of one program.
constexpr std::size_t kMaxTexts = 4096;

using Program = void*;

template <class... Arguments>
int call(const char* name, Arguments... arguments) {
  const auto function = reinterpret_cast<int (*)(Arguments...)>(avec_library_symbol(kNvrtc, name));
  return function == nullptr ? kInternalError : function(arguments...);
}

struct Result {
  std::array<std::string, kNvrtcSizes> parts;  // [0] is not used
};

struct Request {
  std::string source, name;
  std::vector<std::string> headers, includes, options, expressions;
};

std::optional<Request> read(std::string_view bytes) {
  TextReader reader(bytes);
  auto source = reader.text();
  auto name = source ? reader.text() : std::nullopt;
  std::array<std::vector<std::string>, 4> lists;
  for (auto& list : lists) {
    auto one = name ? reader.texts() : std::nullopt;
    if (!one || one->size() > kMaxTexts) return std::nullopt;
    list = std::move(*one);
  }
  if (!reader.at_end() || lists[0].size() != lists[1].size()) return std::nullopt;
  return Request{std::move(*source), std::move(*name), std::move(lists[0]), std::move(lists[1]), std::move(lists[2]), std::move(lists[3])};
}

std::vector<const char*> pointers(const std::vector<std::string>& texts) {
  std::vector<const char*> result;
  for (const std::string& text : texts) result.push_back(text.c_str());
  return result;
}

/// Absent output is an answer as well: empty.
std::string part(Program program, const char* size_of, const char* get) {
  std::size_t size = 0;
  if (call(size_of, program, &size) != kSuccess || size == 0 || size > kMaxHostBytes) return {};
  std::string bytes(size, '\0');
  return call(get, program, bytes.data()) == kSuccess ? bytes : std::string();
}

int compile(const Request& request, Result& result) {
  Program program = nullptr;
  auto headers = pointers(request.headers), includes = pointers(request.includes), options = pointers(request.options);
  int status = call("nvrtcCreateProgram", &program, request.source.c_str(), request.name.empty() ? nullptr : request.name.c_str(),
                    static_cast<int>(headers.size()), static_cast<const char* const*>(headers.data()),
                    static_cast<const char* const*>(includes.data()));
  if (status != kSuccess) return status;
  for (const std::string& expression : request.expressions)
    if (status == kSuccess) status = call("nvrtcAddNameExpression", program, expression.c_str());
  if (status == kSuccess)
    status = call("nvrtcCompileProgram", program, static_cast<int>(options.size()), static_cast<const char* const*>(options.data()));
  result.parts[kNvrtcLog] = part(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog");
  if (status == kSuccess) {
    result.parts[kNvrtcPtx] = part(program, "nvrtcGetPTXSize", "nvrtcGetPTX");
    result.parts[kNvrtcCubin] = part(program, "nvrtcGetCUBINSize", "nvrtcGetCUBIN");
    result.parts[kNvrtcLtoIr] = part(program, "nvrtcGetLTOIRSize", "nvrtcGetLTOIR");
    result.parts[kNvrtcOptixIr] = part(program, "nvrtcGetOptiXIRSize", "nvrtcGetOptiXIR");
    std::vector<std::string> names;
    for (const std::string& expression : request.expressions) {
      const char* lowered = nullptr;
      names.emplace_back(call("nvrtcGetLoweredName", program, expression.c_str(), &lowered) == kSuccess && lowered != nullptr ? lowered : "");
    }
    append_texts(result.parts[kNvrtcNames], names);
  }
  call("nvrtcDestroyProgram", &program);
  return status;
}

}  // namespace

extern "C" {
int avec_nvrtc_compile(const void* request, std::uint64_t bytes, void** program, std::uint64_t* sizes);
int avec_nvrtc_fetch(void* program, void* parts, std::uint64_t bytes);
int avec_nvrtc_forget(void* program);

int avec_nvrtc_compile(const void* request, std::uint64_t bytes, void** program, std::uint64_t* sizes) {
  const auto asked = read({static_cast<const char*>(request), static_cast<std::size_t>(bytes)});
  if (!asked) return kInvalidInput;
  auto result = std::make_unique<Result>();
  // A program that does not compile is an answer, not a failed call: its log is wanted.
  sizes[0] = static_cast<std::uint64_t>(compile(*asked, *result));
  std::uint64_t total = 0;
  for (std::size_t i = 1; i < kNvrtcSizes; ++i) total += sizes[i] = result->parts[i].size();
  if (total > kMaxHostBytes) return kOutOfMemory;
  *program = result.release();
  return kSuccess;
}

int avec_nvrtc_fetch(void* program, void* parts, std::uint64_t bytes) {
  const auto* result = static_cast<const Result*>(program);
  if (result == nullptr) return kInvalidProgram;
  std::string all;
  for (std::size_t i = 1; i < kNvrtcSizes; ++i) all += result->parts[i];
  if (all.size() != bytes) return kInvalidInput;
  std::memcpy(parts, all.data(), all.size());
  return kSuccess;
}

int avec_nvrtc_forget(void* program) {
  delete static_cast<Result*>(program);
  return kSuccess;
}
}
