#include "devices/cpu/modules.h"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string_view>

#include "devices/cpu/attributes.h"
#include "devices/cpu/output.h"
#include "fatbin/fatbin.h"

namespace avec::cpu {
namespace {

constexpr unsigned kArchitecture = kMajor * 10 + kMinor;
constexpr unsigned kPtxVersion = 90;

/// The number behind the first `directive` of a PTX text: 90 for ".version 9.0" and ".target sm_90a".
unsigned number_after(std::string_view text, std::string_view directive) {
  const auto found = text.find(directive);
  if (found == std::string_view::npos) return 0;
  auto rest = text.substr(found + directive.size());
  rest = rest.substr(0, rest.find('\n'));
  const auto prefix = rest.find("sm_");
  if (prefix != std::string_view::npos) rest = rest.substr(prefix + 3);
  unsigned number = 0;
  bool any = false;
  for (const char c : rest) {
    if (std::isdigit(static_cast<unsigned char>(c))) {
      number = std::min(number * 10 + static_cast<unsigned>(c - '0'), 100000u);
      any = true;
    } else if (any && c != '.') {
      break;
    }
  }
  return number;
}

/// The entries that this device can use, best first.
CUresult usable_entries(std::span<const std::byte> container, std::vector<fatbin::Entry>& usable, std::string& log) {
  auto entries = fatbin::list(container);
  if (!entries) {
    log = entries.error().what;
    return CUDA_ERROR_INVALID_IMAGE;
  }
  // A cubin says that the device can run the program: then PTX for a newer one does in its place.
  const std::uint32_t stand_in = fatbin::substitute(*entries, kMajor, kMinor);
  std::erase_if(*entries, [stand_in](const fatbin::Entry& entry) {
    const bool stands_in = stand_in != 0 && entry.architecture == stand_in && entry.variant == fatbin::Variant::kPlain;
    return entry.kind != fatbin::Kind::kPtx || (!fatbin::usable(entry, kMajor, kMinor) && !stands_in);
  });
  // Newest first; of the same age what uses no feature of one architecture only.
  std::sort(entries->begin(), entries->end(), [](const fatbin::Entry& a, const fatbin::Entry& b) {
    if (a.architecture != b.architecture) return a.architecture > b.architecture;
    if (a.variant != b.variant) return a.variant < b.variant;
    return a.whole.data() < b.whole.data();
  });
  usable = std::move(*entries);
  if (!usable.empty()) return CUDA_SUCCESS;
  log = "the CPU device needs PTX; the image holds none for compute capability 9.0 or less";
  return CUDA_ERROR_NO_BINARY_FOR_GPU;
}

CUresult text_of(const fatbin::Entry& entry, std::vector<char>& text, std::string& log) {
  const auto plain = fatbin::decompress(entry);
  if (!plain) {
    log = plain.error().what;
    return CUDA_ERROR_INVALID_IMAGE;
  }
  text.assign(reinterpret_cast<const char*>(plain->data()),
              reinterpret_cast<const char*>(plain->data()) + plain->size());
  text.push_back('\0');
  return CUDA_SUCCESS;
}

CUresult compile_container(std::span<const std::byte> container, std::unique_ptr<ptx::Module>& code,
                           std::vector<char>& text, std::string& log) {
  std::vector<fatbin::Entry> entries;
  if (const auto error = usable_entries(container, entries, log)) return error;
  CUresult error = CUDA_ERROR_NO_BINARY_FOR_GPU;
  for (const auto& entry : entries) {
    if (const auto unreadable = text_of(entry, text, log)) return unreadable;
    error = compile_text(text.data(), code, log, entry.architecture);
    if (error == CUDA_SUCCESS) break;
  }
  return error;
}

}  // namespace

CUresult compile_text(const char* text, std::unique_ptr<ptx::Module>& code, std::string& log, unsigned allowed) {
  const std::string_view view(text);
  const unsigned version = number_after(view, ".version"), target = number_after(view, ".target");
  if (version == 0) {
    log = "the image is neither PTX nor a binary";
    return CUDA_ERROR_INVALID_IMAGE;
  }
  if (version > kPtxVersion && allowed <= kArchitecture) {
    log = "ptxas fatal   : Unsupported .version " + std::to_string(version / 10) + "." +
          std::to_string(version % 10) + "; current version is '9.0'";
    return CUDA_ERROR_UNSUPPORTED_PTX_VERSION;
  }
  if (target > std::max(kArchitecture, allowed)) {
    log = "ptxas fatal   : SM version specified by .target is higher than default SM version assumed";
    return CUDA_ERROR_INVALID_PTX;
  }
  code = ptx::Module::compile(view, log);
  return code ? CUDA_SUCCESS : CUDA_ERROR_INVALID_PTX;
}

CUresult ptx_of_image(const void* image, std::vector<char>& text, std::string& log) {
  const auto container = fatbin::container(image);
  if (!container) {
    log += "the image is no fatbin";
    return CUDA_ERROR_INVALID_IMAGE;
  }
  std::vector<fatbin::Entry> entries;
  if (const auto error = usable_entries(*container, entries, log)) return error;
  return text_of(entries.front(), text, log);
}

namespace {

CUresult compile_any(const void* image, std::unique_ptr<ptx::Module>& code, std::vector<char>& text, std::string& log) {
  if (image == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto size = fatbin::image_size(image);
  if (!size) {
    log = size.error().what;
    return CUDA_ERROR_INVALID_IMAGE;
  }
  if (const auto container = fatbin::container(image)) return compile_container(*container, code, text, log);
  const auto* bytes = static_cast<const char*>(image);
  if (fatbin::image_kind({static_cast<const std::byte*>(image), *size}) == fatbin::ImageKind::kElf) {
    log = "a cubin cannot run on the CPU device, which needs PTX (CuPy: CUPY_COMPILE_WITH_PTX=1)";
    return CUDA_ERROR_NO_BINARY_FOR_GPU;
  }
  text.assign(bytes, bytes + *size);
  return compile_text(text.data(), code, log);
}

}  // namespace

CUresult compile_image(const void* image, std::unique_ptr<ptx::Module>& code, std::vector<char>& text,
                       std::string& log) {
  const CUresult error = compile_any(image, code, text, log);
  // No fault of the program: a GPU would run it. Said once, as programs may ignore the error.
  static std::atomic<bool> said{false};
  if (error == CUDA_ERROR_NO_BINARY_FOR_GPU && !said.exchange(true)) write_output(2, "avec: " + log + "\n");
  return error;
}

CUresult instantiate(const ContextRef& context, std::unique_ptr<ptx::Module> code,
                     std::shared_ptr<Module>& module) {
  auto made = std::make_shared<Module>();
  made->context = context;
  made->code = std::move(code);
  const auto variables = made->code->variables();
  std::unordered_map<std::string_view, std::uint64_t> by_name;
  for (const auto& variable : variables) {
    CUdeviceptr address = 0;
    const auto bytes = std::max<std::uint64_t>(variable.bytes, 1);
    if (const auto error = allocate(*context, bytes, Memory::kGlobal, nullptr, address)) return error;
    if (variable.constant || variable.managed) {
      Allocation changed = *state().memory.find(address);
      changed.constant = variable.constant;
      changed.managed_variable = variable.managed;
      state().memory.replace(std::move(changed));
    }
    made->addresses.push_back(address);
    by_name.emplace(variable.name, address);
    std::copy_n(variable.initial.data(), std::min<std::uint64_t>(variable.initial.size(), variable.bytes),
                reinterpret_cast<std::byte*>(address));
  }
  for (std::size_t i = 0; i < variables.size(); ++i) {
    for (const auto& relocation : variables[i].relocations) {
      const auto target = by_name.find(relocation.symbol);
      if (target == by_name.end() || relocation.offset + 8 > variables[i].bytes)
        return CUDA_ERROR_INVALID_PTX;
      auto* place = reinterpret_cast<std::byte*>(made->addresses[i] + relocation.offset);
      std::uint64_t value;
      std::memcpy(&value, place, sizeof value);
      value += target->second;
      std::memcpy(place, &value, sizeof value);
    }
  }
  made->code->bind(made->addresses);
  auto& all = state();
  all.modules.add(made);
  const auto kernels = made->code->kernels();
  for (std::size_t i = 0; i < kernels.size(); ++i) {
    auto function = std::make_shared<Function>();
    function->module = made;
    function->index = i;
    function->facts = &kernels[i];
    function->max_dynamic_shared =
        std::max(0, kSharedPerBlock - static_cast<int>(kernels[i].static_shared_bytes));
    all.functions.add(function);
    made->functions.push_back(std::move(function));
  }
  module = std::move(made);
  return CUDA_SUCCESS;
}

void forget(const std::shared_ptr<Module>& module) {
  auto& all = state();
  for (const auto& function : module->functions)
    all.functions.remove(reinterpret_cast<void*>(function->handle));
  all.modules.remove(reinterpret_cast<void*>(module->handle));
}

namespace {

/// The size is a 32-bit number in the place of a pointer.
std::uint32_t capacity_of(void* value) { return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(value)); }

}  // namespace

CUresult JitLog::read(unsigned count, const CUjit_option* options, void** values) {
  if (count > 0 && (options == nullptr || values == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  for (unsigned i = 0; i < count; ++i) {
    if (options[i] < 0 || options[i] >= CU_JIT_NUM_OPTIONS) return CUDA_ERROR_INVALID_VALUE;
    if (options[i] == CU_JIT_INFO_LOG_BUFFER) info_.text = static_cast<char*>(values[i]);
    if (options[i] == CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES) info_.bytes = &values[i], info_.capacity = capacity_of(values[i]);
    if (options[i] == CU_JIT_ERROR_LOG_BUFFER) error_.text = static_cast<char*>(values[i]);
    if (options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES) error_.bytes = &values[i], error_.capacity = capacity_of(values[i]);
  }
  return CUDA_SUCCESS;
}

void JitLog::put(const Buffer& buffer, const std::string& text) {
  if (buffer.bytes == nullptr) return;
  const std::uint32_t capacity = buffer.capacity;
  std::uint32_t length = 0;
  if (buffer.text != nullptr && capacity > 0) {
    length = static_cast<std::uint32_t>(std::min<std::size_t>(text.size(), capacity - 1));
    std::memcpy(buffer.text, text.data(), length);
    buffer.text[length] = '\0';
  }
  *buffer.bytes = reinterpret_cast<void*>(std::uintptr_t{length});
}

void JitLog::write(const std::string& errors) {
  put(info_, "");
  put(error_, errors);
}

CUresult module_of_library(Library& library, const ContextRef& context, std::shared_ptr<Module>& module) {
  const std::lock_guard lock(library.mutex);
  auto& mine = library.modules[context->handle];
  if (!mine) {
    std::unique_ptr<ptx::Module> code;
    std::string log;
    if (const auto error = compile_text(library.ptx.data(), code, log, std::numeric_limits<unsigned>::max())) return error;
    if (const auto error = instantiate(context, std::move(code), mine)) return error;
    mine->library = library.handle;
  }
  module = mine;
  return CUDA_SUCCESS;
}

CUresult function_of_kernel(CUkernel handle, const ContextRef& context, std::shared_ptr<Function>& function) {
  const auto kernel = state().kernels.find(handle);
  if (!kernel) return CUDA_ERROR_INVALID_HANDLE;
  const auto library = state().libraries.find(reinterpret_cast<void*>(kernel->library));
  if (!library) return CUDA_ERROR_INVALID_HANDLE;
  std::shared_ptr<Module> module;
  if (const auto error = module_of_library(*library, context, module)) return error;
  for (const auto& candidate : module->functions) {
    if (candidate->facts->name == kernel->name) {
      function = candidate;
      return CUDA_SUCCESS;
    }
  }
  return CUDA_ERROR_NOT_FOUND;
}

CUresult function_of(CUfunction handle, std::shared_ptr<Function>& function,
                     std::shared_ptr<Module>& module) {
  if (const auto error = initialised()) return error;
  function = state().functions.find(handle);
  if (!function) {
    if (!state().kernels.find(handle)) return CUDA_ERROR_INVALID_HANDLE;
    ContextRef context;
    if (const auto error = current(context)) return error;
    if (const auto error = function_of_kernel(reinterpret_cast<CUkernel>(handle), context, function))
      return error;
  }
  module = function->module.lock();
  return module ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult global_of(const Module& module, const char* name, CUdeviceptr* address, size_t* bytes) {
  const auto variables = module.code->variables();
  for (std::size_t i = 0; i < variables.size(); ++i) {
    // Not only .visible ones: nvcc leaves that out of __device__ variables, and cudart finds them.
    if (variables[i].name != name) continue;
    if (address != nullptr) *address = module.addresses[i];
    if (bytes != nullptr) *bytes = variables[i].bytes;
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_NOT_FOUND;
}

CUresult get_attribute(const Function& function, CUfunction_attribute attribute, int& value) {
  const auto& facts = *function.facts;
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      value = static_cast<int>(facts.max_threads);
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
      value = static_cast<int>(facts.static_shared_bytes);
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
      value = static_cast<int>(facts.constant_bytes);
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
      value = static_cast<int>(facts.local_bytes);
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
      value = static_cast<int>(facts.registers);
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
      value = static_cast<int>(facts.binary_version);  // of the virtual architecture
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
      value = static_cast<int>(kArchitecture);  // it was compiled for this device
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      value = function.max_dynamic_shared.load();
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      value = function.carveout.load();
      return CUDA_SUCCESS;
    default:
      value = 0;
      return attribute >= 0 && attribute < CU_FUNC_ATTRIBUTE_MAX ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult set_attribute(Function& function, CUfunction_attribute attribute, int value) {
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      if (value < 0 || value > kSharedPerBlockOptIn - static_cast<int>(function.facts->static_shared_bytes)) {
        return CUDA_ERROR_INVALID_VALUE;
      }
      function.max_dynamic_shared = value;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      if (value < -1 || value > 100) return CUDA_ERROR_INVALID_VALUE;
      function.carveout = value;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
    case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

int blocks_per_processor(const Function& function, int block_threads, std::uint64_t dynamic_shared) {
  const auto& facts = *function.facts;
  if (block_threads <= 0 || block_threads > static_cast<int>(facts.max_threads)) return 0;
  const int warps = (block_threads + kWarpSize - 1) / kWarpSize;
  int blocks = std::min(kMaxBlocksPerProcessor, kMaxThreadsPerProcessor / kWarpSize / warps);
  // Registers are given to warps in units of 256, to each thread in units of 8.
  const int per_warp = (std::max(1, static_cast<int>(facts.registers)) + 7) / 8 * 8 * kWarpSize;
  blocks = std::min(blocks, kRegistersPerProcessor / per_warp / warps);
  const std::uint64_t shared = facts.static_shared_bytes + dynamic_shared;
  if (shared > static_cast<std::uint64_t>(kSharedPerBlockOptIn)) return 0;
  const auto granted = (static_cast<int>(shared) + kReservedSharedPerBlock + 127) / 128 * 128;
  return std::min(blocks, kSharedPerProcessor / granted);
}

}  // namespace avec::cpu
