// The linker. What it makes is PTX again, which this device loads like any other.
#include <fstream>
#include <iterator>
#include <vector>

#include "devices/cpu/modules.h"
#include "devices/cpu/ptx/linker.h"
#include "fatbin/fatbin.h"

using namespace avec::cpu;

namespace {

struct Link {
  std::uintptr_t handle = 0;
  ContextRef context;
  std::mutex mutex;  // guards what follows
  JitLog log;        // of the options of cuLinkCreate, whose buffers live as long as this
  std::string errors;
  ptx::Linker linker;
  std::string linked;
  bool complete = false;
};

Table<Link>& links() {
  static auto* const table = new Table<Link>;
  return *table;
}

CUresult find(CUlinkState state, std::shared_ptr<Link>& link) {
  if (const auto error = initialised()) return error;
  link = links().find(state);
  return link ? link->context->fault.load() : CUDA_ERROR_INVALID_HANDLE;
}

/// The PTX of an input; what holds none is an error.
CUresult text_of(CUjitInputType type, const void* data, std::size_t bytes, std::vector<char>& text,
                 std::string& log) {
  const auto* chars = static_cast<const char*>(data);
  const std::string_view view(chars, bytes);
  if (view.starts_with("!<arch>\n")) return CUDA_SUCCESS;  // a library of host objects: what it lacks is told later
  if (type == CU_JIT_INPUT_PTX || view.starts_with(".version")) {
    text.assign(view.begin(), view.end());
    return CUDA_SUCCESS;
  }
  if (type == CU_JIT_INPUT_FATBINARY && bytes >= 16) return ptx_of_image(data, text, log);
  log += "error   : this input holds no PTX, which the CPU device needs\n";
  return type == CU_JIT_INPUT_CUBIN ? CUDA_ERROR_NO_BINARY_FOR_GPU : CUDA_ERROR_INVALID_IMAGE;
}

}  // namespace

extern "C" {

CUresult cuLinkCreate_v2(unsigned count, CUjit_option* options, void** values, CUlinkState* state) {
  ContextRef context;
  if (const auto error = current(context)) return error;
  if (state == nullptr) return CUDA_ERROR_INVALID_VALUE;
  auto link = std::make_shared<Link>();
  link->context = context;
  if (const auto error = link->log.read(count, options, values)) return error;
  link->log.write("");
  *state = as_handle<CUlinkState>(links().add(link));
  return CUDA_SUCCESS;
}

CUresult cuLinkAddData_v2(CUlinkState state, CUjitInputType type, void* data, size_t bytes, const char* name,
                          unsigned count, CUjit_option* options, void** values) {
  std::shared_ptr<Link> link;
  if (const auto error = find(state, link)) return error;
  if (data == nullptr || bytes == 0 || type < 0 || type >= CU_JIT_NUM_INPUT_TYPES) return CUDA_ERROR_INVALID_VALUE;
  JitLog own;
  if (const auto error = own.read(count, options, values)) return error;
  const std::lock_guard lock(link->mutex);
  if (link->complete) return CUDA_ERROR_INVALID_VALUE;
  std::vector<char> text;
  CUresult result = text_of(type, data, bytes, text, link->errors);
  if (result == CUDA_SUCCESS && !text.empty()) {
    std::unique_ptr<ptx::Module> ignored;
    const bool added = link->linker.add({text.data(), text.size()}, name != nullptr ? name : "", link->errors);
    if (!added) result = CUDA_ERROR_INVALID_PTX;
  }
  if (result != CUDA_SUCCESS) link->log.write(link->errors);
  return result;
}

CUresult cuLinkAddFile_v2(CUlinkState state, CUjitInputType type, const char* path, unsigned count,
                          CUjit_option* options, void** values) {
  std::shared_ptr<Link> link;
  if (const auto error = find(state, link)) return error;
  if (path == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::ifstream file(path, std::ios::binary);
  if (!file) return CUDA_ERROR_FILE_NOT_FOUND;
  std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (bytes.empty()) return CUDA_ERROR_INVALID_IMAGE;
  return cuLinkAddData_v2(state, type, bytes.data(), bytes.size(), path, count, options, values);
}

CUresult cuLinkComplete(CUlinkState state, void** cubin, size_t* bytes) {
  std::shared_ptr<Link> link;
  if (const auto error = find(state, link)) return error;
  if (cubin == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const std::lock_guard lock(link->mutex);
  if (!link->complete) {
    CUresult result = CUDA_ERROR_INVALID_IMAGE;
    if (link->linker.link(link->linked, link->errors)) {
      std::unique_ptr<ptx::Module> code;
      result = compile_text(link->linked.c_str(), code, link->errors);
    }
    if (result != CUDA_SUCCESS) {
      link->log.write(link->errors);
      return result;
    }
    link->complete = true;
  }
  *cubin = link->linked.data();
  if (bytes != nullptr) *bytes = link->linked.size() + 1;  // with its NUL
  return CUDA_SUCCESS;
}

CUresult cuLinkDestroy(CUlinkState state) {
  if (const auto error = initialised()) return error;
  return links().remove(state) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

}  // extern "C"
