// LD_PRELOADed by `avec run`. Runs before all other constructors (-z initfirst), those that
// register device code among them: a program or library that carries the static cudart gets each
// of its cudart functions replaced by a jump to our libcudart.so.13. Anything else is left alone.
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "base/handle.h"
#include "children.h"
#include "elf_file.h"
#include "loader.h"
#include "redirect.h"

namespace avec::preload {
namespace {

/// One line, one write: the program's own output is not torn.
__attribute__((format(printf, 1, 2))) void say(const char* format, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  int bytes = std::vsnprintf(line, sizeof line - 1, format, arguments);
  va_end(arguments);
  if (bytes < 0) return;
  bytes = std::min(bytes, static_cast<int>(sizeof line) - 2);
  line[bytes] = '\n';
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line, static_cast<std::size_t>(bytes) + 1);
}

/// A file, mapped.
class MappedFile {
 public:
  explicit MappedFile(const char* path) {
    const Descriptor file(::open(path, O_RDONLY | O_CLOEXEC));
    struct stat status {};
    if (!file || ::fstat(file.get(), &status) != 0 || status.st_size <= 0) return;
    const auto bytes = static_cast<std::size_t>(status.st_size);
    void* mapped = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (mapped != MAP_FAILED) bytes_ = {static_cast<const std::byte*>(mapped), bytes};
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile() {
    if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  }
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

bool is_cudart_name(std::string_view name) { return name.starts_with("cuda") || name.starts_with("__cuda"); }

/// What kind of program this is, as far as cudart goes.
struct Survey {
  bool static_cudart = false;
  bool shared_cudart = false;  ///< it asks the loader for cudart's functions
  bool older_cudart = false;   ///< static, of a CUDA before 13
};

Survey survey(const std::vector<Symbol>& symbols) {
  Survey result;
  bool older_name = false, insides = false;  // insides: cudart's own functions that nobody calls from outside
  for (const Symbol& symbol : symbols) {
    if (symbol.name.starts_with("libcudart_static_") || symbol.name.starts_with("__cudart")) insides = true;
    if (!is_cudart_name(symbol.name)) continue;
    if (!symbol.defined) {
      if (symbol.name == "__cudaRegisterFatBinary" || symbol.name == "cudaMalloc")
        result.shared_cudart = true;
      continue;
    }
    if (!symbol.function) continue;
    if (symbol.name == "__cudaRegisterFatBinary" || symbol.name == "cudaGetLastError")
      result.static_cudart = true;
    if (symbol.name == "cudaGetDeviceProperties_v2") older_name = true;
  }
  // XLA defines every function of cudart to look it up in the shared one when it is called: nothing to redirect.
  result.older_cudart = older_name && insides;
  if (older_name && !insides) result.static_cudart = false;
  return result;
}

/// The folder of this library, with its final slash; empty when it cannot be known.
std::string own_folder() {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<const void*>(&own_folder), &info) == 0 || info.dli_fname == nullptr)
    return {};
  const std::string path = info.dli_fname;
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash + 1);
}

/// The program's cudart functions that ours has too.
std::vector<Redirection> plan(std::vector<Symbol> symbols, const Object& image, void* cudart) {
  std::erase_if(symbols, [&](const Symbol& symbol) {
    return !symbol.defined || std::ranges::none_of(image.code, [&](const Object::Segment& segment) {
      return symbol.value >= segment.begin && symbol.value < segment.end;
    });
  });
  std::ranges::sort(symbols, {}, &Symbol::value);
  std::vector<Redirection> plans;
  for (auto symbol = symbols.begin(); symbol != symbols.end(); ++symbol) {
    if (!symbol->function || !is_cudart_name(symbol->name)) continue;
    if (!plans.empty() && plans.back().from == symbol->value + image.bias) continue;  // a second name
    // Names of .strtab end with NUL, so they are C strings too.
    void* ours = ::dlsym(cudart, symbol->name.data());
    if (ours == nullptr) continue;
    const auto segment = std::ranges::find_if(
        image.code, [&](const auto& s) { return symbol->value >= s.begin && symbol->value < s.end; });
    const auto next = std::ranges::find_if(symbol, symbols.end(),
                                           [&](const Symbol& other) { return other.value > symbol->value; });
    // Padding behind a function is its own; what follows belongs to the next symbol.
    constexpr std::uint64_t kAlignment = 16;
    const std::uint64_t padded = (symbol->value + symbol->bytes + kAlignment - 1) / kAlignment * kAlignment;
    const std::uint64_t end = std::min({padded, next != symbols.end() ? next->value : padded, segment->end});
    plans.push_back({.from = symbol->value + image.bias,
                     .room = static_cast<std::size_t>(end - symbol->value),
                     .to = reinterpret_cast<std::uint64_t>(ours)});
  }
  return plans;
}

void redirect_static_cudart(const Object& object, const char* name, std::vector<Symbol> symbols) {
  const std::string path = own_folder() + "libcudart.so.13";
  void* cudart = ::dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL);
  if (cudart == nullptr) {
    say("avec: %s; %s keeps its own CUDA runtime", ::dlerror(), name);
    return;
  }
  const RedirectResult result = redirect(plan(std::move(symbols), object, cudart));
  if (result.error != 0)
    say("avec: the CUDA runtime in %s cannot be redirected: %s; relink it with -cudart shared", name,
        std::strerror(result.error));
  if (result.too_small != 0)
    say("avec: %zu functions of the CUDA runtime in %s are too small to be redirected; relink it with "
        "-cudart shared",
        result.too_small, name);
}

/// Whether it is a shared cudart, which is as it should be: ours, or one that the program brings.
bool is_shared_cudart(const Object& object) {
  const std::size_t slash = object.path.rfind('/');
  const std::size_t name = slash == std::string::npos ? 0 : slash + 1;
  return !object.program && object.path.compare(name, 9, "libcudart") == 0;
}

/// What was just loaded: nothing of it ran yet.
void look_at(const Object& object) {
  if (is_shared_cudart(object)) return;
  const MappedFile mapped(object.program ? "/proc/self/exe" : object.path.c_str());
  const ElfFile file(mapped.bytes());
  if (!file.good()) return;
  const bool device_code = file.has_section(".nv_fatbin") || file.has_section(".nvFatBinSegment");
  if (!device_code && !file.has_section(".symtab")) return;
  std::vector<Symbol> symbols = file.symbols();
  const Survey found = survey(symbols);
  const char* name = object.program ? "the program" : object.path.c_str();
  if (found.older_cudart) {
    say("avec: %s carries the CUDA runtime of a toolkit before 13; rebuild it with CUDA 13, or relink it "
        "with -cudart shared",
        name);
    return;
  }
  if (found.static_cudart) {
    redirect_static_cudart(object, name, std::move(symbols));
    return;
  }
  // A library that is like this and is called says so itself (cuGetExportTable): NVIDIA's often are never called.
  if (object.program && !found.shared_cudart && device_code)
    say("avec: %s carries a static CUDA runtime and no symbol table, so its calls cannot be redirected: "
        "relink it with -cudart shared, or keep the symbol table (no strip, no -s)",
        name);
}

__attribute__((constructor)) void start(int, char**, char** environment) {
  // So early, the C library may not know its environment yet; ours reads it when it is loaded.
  if (environ == nullptr) environ = environment;
  note_environment(environment);
  watch_loader(look_at);
}

}  // namespace
}  // namespace avec::preload
