// LD_AUDITed by `avec run` (rtld-audit(7)). The loader asks for every library, by whatever path the program or an
// RPATH names it: one of which we have a file of the same name is ours. So the folder of the shims is the list
// of what is remoted; everything else loads as it would without us.
//
//   FOLDER/libcublas.so.13               taken whatever path was asked for
//   FOLDER/fallback/libnvrtc.so.13       taken where the machine has none
//
// Runs inside the loader, under its lock, before the C library does: it has none, allocates nothing, and may
// keep what it returns in one buffer (the loader copies the name before it asks again).
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/syscall.h>

#include <cstddef>
#include <cstdint>

namespace {

/// PATH_MAX; longer names are none of ours.
constexpr std::size_t kMaxPath = 4096;

char folder[kMaxPath];  ///< of the shims, with its final slash; empty: nothing is ours
char answer[kMaxPath];
bool told = false;  ///< of another CUDA version

long system_call(long number, long a, long b, long c, long d) {
#if defined(__x86_64__)
  long result;
  register long fourth asm("r10") = d;
  asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth) : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a;
  register long x1 asm("x1") = b;
  register long x2 asm("x2") = c;
  register long x3 asm("x3") = d;
  asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
  return x0;
#endif
}

bool readable(const char* path) {
  constexpr long kRead = 4;  // R_OK
  return system_call(SYS_faccessat, AT_FDCWD, reinterpret_cast<long>(path), kRead, 0) == 0;
}

std::size_t length_of(const char* text) {
  std::size_t length = 0;
  while (text[length] != '\0') ++length;
  return length;
}

bool starts_with(const char* text, const char* with) {
  while (*with != '\0')
    if (*text++ != *with++) return false;
  return true;
}

bool equal(const char* a, const char* b) { return starts_with(a, b) && a[length_of(b)] == '\0'; }

const char* name_in(const char* path) {
  const char* name = path;
  for (const char* at = path; *at != '\0'; ++at)
    if (*at == '/') name = at + 1;
  return name;
}

/// Text put together in a buffer; what does not fit is left out and remembered.
class Text {
 public:
  Text(char* buffer, std::size_t room) : buffer_(buffer), room_(room) { buffer_[0] = '\0'; }
  Text& operator<<(const char* text) {
    while (*text != '\0') put(*text++);
    return *this;
  }
  void put(char c) {
    if (length_ + 1 >= room_) {
      complete_ = false;
      return;
    }
    buffer_[length_++] = c;
    buffer_[length_] = '\0';
  }
  std::size_t length() const { return length_; }
  bool complete() const { return complete_; }

 private:
  char* buffer_;
  std::size_t room_;
  std::size_t length_ = 0;
  bool complete_ = true;
};

/// The path of our file of this name below the folder of the shims, or null. A full version
/// (libcudart.so.13.0.96) is ours if its beginning is (libcudart.so.13).
char* ours(const char* subfolder, const char* name) {
  Text path(answer, sizeof answer);
  path << folder << subfolder << name;
  if (!path.complete()) return nullptr;
  constexpr std::size_t kSuffix = 3;  // ".so"
  for (;;) {
    if (readable(answer)) return answer;
    std::size_t end = length_of(answer);
    while (end > 0 && answer[end] != '.' && answer[end] != '/') --end;
    if (end < kSuffix || answer[end] != '.' || starts_with(answer + end, ".so")) return nullptr;
    if (starts_with(answer + end - kSuffix, ".so")) return nullptr;  // the major version stays
    answer[end] = '\0';
  }
}

/// Libraries of CUDA, by how their names begin. Ours of other names (libavec.so ...) are nobody's replacement.
bool may_be_cuda(const char* name) { return starts_with(name, "libcu") || starts_with(name, "libnv") || starts_with(name, "libnccl"); }

/// "libcudart.so.12" where ours is libcudart.so.13: the file name of ours, or null. Our libX.so is a link to it.
const char* other_version(const char* name, char* buffer, std::size_t room) {
  char link[kMaxPath];
  Text path(link, sizeof link);
  path << folder;
  const char* at = name;
  while (*at != '\0' && !starts_with(at, ".so")) path.put(*at++);
  if (!starts_with(at, ".so.")) return nullptr;
  path << ".so";
  if (!path.complete()) return nullptr;
  const long got = system_call(SYS_readlinkat, AT_FDCWD, reinterpret_cast<long>(link), reinterpret_cast<long>(buffer),
                               static_cast<long>(room - 1));
  if (got <= 0) return nullptr;
  buffer[got] = '\0';
  // libcufft.so.12.0 and libcufft.so.12 are one version.
  const char* of_ours = name_in(buffer);
  const std::size_t length = length_of(of_ours);
  if (starts_with(name, of_ours) && (name[length] == '\0' || name[length] == '.')) return nullptr;
  return of_ours;
}

void tell_other_version(const char* who, const char* name) {
  if (told) return;
  char buffer[kMaxPath];
  const char* of_ours = other_version(name, buffer, sizeof buffer);
  if (of_ours == nullptr) return;
  told = true;
  char line[2 * kMaxPath];
  Text text(line, sizeof line);
  text << "avec: " << (who != nullptr && *who != '\0' ? who : "the program") << " needs " << name << ", which is of another CUDA version than the "
       << of_ours << " that AVEC has; rebuild it with CUDA 13\n";
  constexpr long kStandardError = 2;
  system_call(SYS_write, kStandardError, reinterpret_cast<long>(line), static_cast<long>(text.length()), 0);
}

/// Whether the object names this library among those that it needs; else somebody tries dlopen() on it.
bool needs(const link_map* object, const char* name) {
  if (object == nullptr || object->l_ld == nullptr) return false;
  std::uintptr_t strings = 0;
  for (const auto* entry = object->l_ld; entry->d_tag != DT_NULL; ++entry)
    if (entry->d_tag == DT_STRTAB) strings = entry->d_un.d_ptr;
  if (strings == 0) return false;
  if (strings < object->l_addr) strings += object->l_addr;  // not relocated by this loader
  for (const auto* entry = object->l_ld; entry->d_tag != DT_NULL; ++entry)
    if (entry->d_tag == DT_NEEDED && equal(reinterpret_cast<const char*>(strings + entry->d_un.d_val), name)) return true;
  return false;
}

/// The folder of this library: where LD_AUDIT names it.
__attribute__((constructor)) void start(int, char**, char** environment) {
  constexpr const char* kVariable = "LD_AUDIT=";
  constexpr const char* kName = "/libavec_audit.so";
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    if (!starts_with(*environment, kVariable)) continue;
    const char* begin = *environment + length_of(kVariable);
    for (const char* at = begin;; ++at) {
      if (starts_with(at, kName)) {
        Text text(folder, sizeof folder);
        while (begin <= at) text.put(*begin++);
        if (!text.complete()) folder[0] = '\0';
        return;
      }
      if (*at == '\0') break;
      if (*at == ':') begin = at + 1;
    }
  }
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

unsigned la_version(unsigned offered) { return offered; }

// Version nodes and symbols need no word of ours: nothing is bound differently, so no call gets slower.
unsigned la_objopen(link_map* object, Lmid_t, std::uintptr_t* cookie) {
  *cookie = reinterpret_cast<std::uintptr_t>(object);
  if (folder[0] != '\0' && object->l_name != nullptr) {
    const char* name = name_in(object->l_name);
    if (starts_with(name, "libcudart.so.")) tell_other_version(nullptr, name);
  }
  return 0;
}

char* la_objsearch(const char* asked, std::uintptr_t* cookie, unsigned stage) {
  char* same = const_cast<char*>(asked);
  const char* name = name_in(asked);
  if (folder[0] == '\0' || !may_be_cuda(name)) return same;
  if (stage == LA_SER_ORIG) {
    if (char* path = ours("", name)) return path;
    const auto* object = reinterpret_cast<const link_map*>(*cookie);
    if (needs(object, asked)) tell_other_version(object->l_name, name);
  } else if (stage == LA_SER_DEFAULT && !readable(asked)) {
    // All other places have been looked at.
    if (char* path = ours("fallback/", name)) return path;
  }
  return same;
}
}
#pragma GCC visibility pop
