// nvJitLink for clients without one: a link lives in the executor's library, which gives every status and log.
// Files are read here, where the program's files are.
#include "libraries/nvjitlink.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "intercept/libraries/keep_context.h"
#include "libraries/abi.h"
#include "libraries/texts.h"

#pragma GCC diagnostic ignored "-Wmissing-declarations"

using namespace avec::libraries;

extern "C" {
int avec_jitlink_version(std::uint32_t* major, std::uint32_t* minor);
int avec_jitlink_create(const void* options, std::uint64_t bytes, void* link, std::int32_t* status);
int avec_jitlink_begin(const void* link, const void* data, std::uint64_t bytes);
int avec_jitlink_add(const void* link, std::int32_t type, const void* data, std::uint64_t bytes, const char* name);
int avec_jitlink_complete(const void* link);
int avec_jitlink_size(const void* link, std::int32_t part, std::uint64_t* size);
int avec_jitlink_fetch(const void* link, std::int32_t part, std::uint64_t first, void* to, std::uint64_t bytes);
int avec_jitlink_destroy(const void* link);
}

namespace {

/// What one call carries, with room for its other arguments.
constexpr std::uint64_t kChunk = kMaxHostBytes / 2;

int add(const void* link, int type, std::string_view data, const char* name) {
  if (data.size() > kMaxLinkBytes) return kLinkInvalidInput;
  const KeepContext keep;
  while (data.size() > kChunk) {
    if (const int status = avec_jitlink_begin(link, data.data(), kChunk); status != kLinkOk) return status;
    data.remove_prefix(kChunk);
  }
  return avec_jitlink_add(link, type, data.data(), data.size(), name);
}

int part_size(const void* link, std::size_t* size, JitLinkPart part) {
  if (link == nullptr || size == nullptr) return kLinkNullInput;
  const KeepContext keep;
  std::uint64_t bytes = 0;
  const int status = avec_jitlink_size(link, part, &bytes);
  if (status == kLinkOk) *size = static_cast<std::size_t>(bytes);
  return status;
}

int part_bytes(const void* link, void* to, JitLinkPart part) {
  if (to == nullptr) return kLinkNullInput;
  std::size_t size = 0;
  if (const int status = part_size(link, &size, part); status != kLinkOk) return status;
  const KeepContext keep;
  for (std::size_t first = 0; first < size; first += kChunk) {
    const std::size_t bytes = std::min<std::size_t>(size - first, kChunk);
    if (const int status = avec_jitlink_fetch(link, part, first, static_cast<char*>(to) + first, bytes); status != kLinkOk) return status;
  }
  return kLinkOk;
}

}  // namespace

extern "C" {

int nvJitLinkVersion(unsigned* major, unsigned* minor) {
  if (major == nullptr || minor == nullptr) return kLinkNullInput;
  const KeepContext keep;
  return avec_jitlink_version(major, minor);
}

int nvJitLinkCreate(void** link, std::uint32_t count, const char* const* options) {
  if (link == nullptr || options == nullptr) return kLinkNullInput;
  std::vector<std::string> all;
  for (std::uint32_t i = 0; i < count; ++i) {
    if (options[i] == nullptr) return kLinkNullInput;
    all.emplace_back(options[i]);
  }
  std::string request;
  append_texts(request, all);
  if (request.size() > kChunk) return kLinkInvalidInput;
  const KeepContext keep;
  std::int32_t status = kLinkInternal;
  const int called = avec_jitlink_create(request.data(), request.size(), link, &status);
  return called == kLinkOk ? status : called;
}

int nvJitLinkDestroy(void** link) {
  if (link == nullptr || *link == nullptr) return kLinkNullInput;
  const KeepContext keep;
  const int status = avec_jitlink_destroy(*link);
  if (status == kLinkOk) *link = nullptr;
  return status;
}

int nvJitLinkAddData(void* link, int type, const void* data, std::size_t size, const char* name) {
  if (link == nullptr) return kLinkNullInput;
  if (data == nullptr || size == 0) return kLinkInvalidInput;
  return add(link, type, {static_cast<const char*>(data), size}, name);
}

int nvJitLinkAddFile(void* link, int type, const char* name) {
  if (link == nullptr || name == nullptr) return kLinkNullInput;
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(name, error);
  if (error || size == 0 || size > kMaxLinkBytes) return kLinkInvalidInput;
  std::string bytes(static_cast<std::size_t>(size), '\0');
  std::ifstream file(name, std::ios::binary);
  if (!file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()))) return kLinkInvalidInput;
  return add(link, type, bytes, name);
}

int nvJitLinkComplete(void* link) {
  if (link == nullptr) return kLinkNullInput;
  const KeepContext keep;
  return avec_jitlink_complete(link);
}

int nvJitLinkGetLinkedCubinSize(void* link, std::size_t* size) { return part_size(link, size, kLinkedCubin); }
int nvJitLinkGetLinkedCubin(void* link, void* to) { return part_bytes(link, to, kLinkedCubin); }
int nvJitLinkGetLinkedPtxSize(void* link, std::size_t* size) { return part_size(link, size, kLinkedPtx); }
int nvJitLinkGetLinkedPtx(void* link, char* to) { return part_bytes(link, to, kLinkedPtx); }
int nvJitLinkGetErrorLogSize(void* link, std::size_t* size) { return part_size(link, size, kLinkErrorLog); }
int nvJitLinkGetErrorLog(void* link, char* to) { return part_bytes(link, to, kLinkErrorLog); }
int nvJitLinkGetInfoLogSize(void* link, std::size_t* size) { return part_size(link, size, kLinkInfoLog); }
int nvJitLinkGetInfoLog(void* link, char* to) { return part_bytes(link, to, kLinkInfoLog); }

#define AVEC_SAME(name) __attribute__((alias(#name)))
int __nvJitLinkCreate_13_0(void**, std::uint32_t, const char* const*) AVEC_SAME(nvJitLinkCreate);
int __nvJitLinkDestroy_13_0(void**) AVEC_SAME(nvJitLinkDestroy);
int __nvJitLinkAddData_13_0(void*, int, const void*, std::size_t, const char*) AVEC_SAME(nvJitLinkAddData);
int __nvJitLinkAddFile_13_0(void*, int, const char*) AVEC_SAME(nvJitLinkAddFile);
int __nvJitLinkComplete_13_0(void*) AVEC_SAME(nvJitLinkComplete);
int __nvJitLinkGetLinkedCubinSize_13_0(void*, std::size_t*) AVEC_SAME(nvJitLinkGetLinkedCubinSize);
int __nvJitLinkGetLinkedCubin_13_0(void*, void*) AVEC_SAME(nvJitLinkGetLinkedCubin);
int __nvJitLinkGetLinkedPtxSize_13_0(void*, std::size_t*) AVEC_SAME(nvJitLinkGetLinkedPtxSize);
int __nvJitLinkGetLinkedPtx_13_0(void*, char*) AVEC_SAME(nvJitLinkGetLinkedPtx);
int __nvJitLinkGetErrorLogSize_13_0(void*, std::size_t*) AVEC_SAME(nvJitLinkGetErrorLogSize);
int __nvJitLinkGetErrorLog_13_0(void*, char*) AVEC_SAME(nvJitLinkGetErrorLog);
int __nvJitLinkGetInfoLogSize_13_0(void*, std::size_t*) AVEC_SAME(nvJitLinkGetInfoLogSize);
int __nvJitLinkGetInfoLog_13_0(void*, char*) AVEC_SAME(nvJitLinkGetInfoLog);
#undef AVEC_SAME
}
