// Programs that look for the driver's device files before they ask CUDA (JAX does, and uses no GPU without them):
// a file that this machine lacks is found, as a device. Nothing but its status is asked for; opening it fails.
#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>

namespace {

constexpr std::array<std::string_view, 2> kFiles{"/dev/nvidiactl", "/dev/nvidia0"};
constexpr const char* kThere = "/dev/null";  // a device that every machine has

/// Asks for `path`, and where that is one of ours and missing, for a device that is there.
template <class Ask>
int ask_for(const char* path, Ask ask) {
  const int result = ask(path);
  if (result == 0 || errno != ENOENT || std::ranges::find(kFiles, path) == kFiles.end()) return result;
  return ask(kThere);
}

template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

// In place of the C library's; each passes on to it.
#define AVEC_EXPORTED extern "C" __attribute__((visibility("default")))

AVEC_EXPORTED int stat(const char* path, struct stat* status) noexcept {
  static auto* const real = next<int(const char*, struct stat*)>("stat");
  return ask_for(path, [=](const char* file) { return real(file, status); });
}

AVEC_EXPORTED int stat64(const char* path, struct stat64* status) noexcept {
  static auto* const real = next<int(const char*, struct stat64*)>("stat64");
  return ask_for(path, [=](const char* file) { return real(file, status); });
}

AVEC_EXPORTED int access(const char* path, int mode) noexcept {
  static auto* const real = next<int(const char*, int)>("access");
  return ask_for(path, [=](const char* file) { return real(file, mode); });
}

// What programs call that were built with a C library before 2.33.
extern "C" {
__attribute__((visibility("default"))) int __xstat(int version, const char* path, struct stat* status) noexcept;
__attribute__((visibility("default"))) int __xstat64(int version, const char* path, struct stat64* status) noexcept;
}

int __xstat(int version, const char* path, struct stat* status) noexcept {
  static auto* const real = next<int(int, const char*, struct stat*)>("__xstat");
  return ask_for(path, [=](const char* file) { return real(version, file, status); });
}

int __xstat64(int version, const char* path, struct stat64* status) noexcept {
  static auto* const real = next<int(int, const char*, struct stat64*)>("__xstat64");
  return ask_for(path, [=](const char* file) { return real(version, file, status); });
}
