#include "children.h"

#include <alloca.h>
#include <dlfcn.h>
#include <spawn.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace avec::preload {
namespace {

/// A list in a variable, and our word in it.
struct List {
  std::string_view variable;  ///< with its '='
  std::string_view ends_with;
  std::string word;  ///< empty: this process was started without it
};

/// Written once, before the program runs; read by any thread, also in a child after vfork().
struct Noted {
  std::array<List, 3> lists{{{"LD_PRELOAD=", "libavec_preload.so", {}},
                             {"LD_AUDIT=", "/libavec_audit.so", {}},
                             {"LD_LIBRARY_PATH=", "", {}}}};
  std::vector<std::string> settings;  ///< AVEC_...=value
  int (*execve)(const char*, char* const*, char* const*) = nullptr;
  int (*execvpe)(const char*, char* const*, char* const*) = nullptr;
  int (*fexecve)(int, char* const*, char* const*) = nullptr;
  decltype(&::posix_spawn) spawn = nullptr;
  decltype(&::posix_spawnp) spawnp = nullptr;
};

/// Never freed: other libraries' destructors may start programs.
Noted& noted() {
  static Noted* instance = new Noted;
  return *instance;
}

const char* find(char* const* environment, std::string_view variable) {
  for (; environment != nullptr && *environment != nullptr; ++environment)
    if (std::string_view(*environment).starts_with(variable)) return *environment;
  return nullptr;
}

/// The word of a list (of words between ':' or ' ') that ends so.
std::string_view word_of(std::string_view list, std::string_view ending) {
  while (!list.empty()) {
    const std::size_t end = std::min(list.find_first_of(": "), list.size());
    if (list.substr(0, end).ends_with(ending)) return list.substr(0, end);
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return {};
}

/// Whether a child of this environment would come without us.
bool incomplete(char* const* environment) {
  const List& preload = noted().lists[0];
  if (preload.word.empty()) return false;
  const char* line = find(environment, preload.variable);
  return line == nullptr || word_of(std::string_view(line).substr(preload.variable.size()), preload.ends_with).empty();
}

char* append(char* at, std::string_view text) {
  std::memcpy(at, text.data(), text.size());
  return at + text.size();
}

std::string_view name_of(std::string_view line) { return line.substr(0, line.find('=') + 1); }

struct Size {
  std::size_t entries = 1;  ///< the null at the end
  std::size_t bytes = 0;
};

Size size_of_completed(char* const* environment) {
  Size size;
  for (char* const* entry = environment; entry != nullptr && *entry != nullptr; ++entry) ++size.entries;
  for (const List& list : noted().lists) {
    const char* line = find(environment, list.variable);
    size.bytes += list.variable.size() + list.word.size() + 2 + (line != nullptr ? std::strlen(line) : 0);
    ++size.entries;
  }
  size.entries += noted().settings.size();
  return size;
}

/// The environment with our words before those of the lists, and the settings that it lacks. Memory is the
/// caller's: nothing may be allocated in a child after fork().
void complete(char* const* environment, char** entries, char* bytes) {
  const auto ours = [](std::string_view line) -> const List* {
    for (const List& list : noted().lists)
      if (!list.word.empty() && line.starts_with(list.variable)) return &list;
    return nullptr;
  };
  for (char* const* entry = environment; entry != nullptr && *entry != nullptr; ++entry)
    if (ours(*entry) == nullptr) *entries++ = *entry;
  for (const List& list : noted().lists) {
    if (list.word.empty()) continue;
    const char* line = find(environment, list.variable);
    *entries++ = bytes;
    bytes = append(append(bytes, list.variable), list.word);
    if (line != nullptr && line[list.variable.size()] != '\0')
      bytes = append(append(bytes, ":"), std::string_view(line).substr(list.variable.size()));
    *bytes++ = '\0';
  }
  for (std::string& setting : noted().settings)
    if (find(environment, name_of(setting)) == nullptr) *entries++ = setting.data();
  *entries = nullptr;
}

/// Calls `start` with the environment that the child shall have. The stack holds it: see complete().
template <class Start>
int with_completed(char* const* environment, Start start) {
  if (!incomplete(environment)) return start(environment);
  const Size size = size_of_completed(environment);
  auto** entries = static_cast<char**>(::alloca(size.entries * sizeof(char*)));
  complete(environment, entries, static_cast<char*>(::alloca(size.bytes)));
  return start(const_cast<char* const*>(entries));
}

template <class Function>
void look_up(Function& function, const char* name) {
  function = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

/// In case a constructor that runs before ours starts a program.
void look_up_all() {
  Noted& all = noted();
  if (all.spawnp != nullptr) return;
  look_up(all.execve, "execve");
  look_up(all.execvpe, "execvpe");
  look_up(all.fexecve, "fexecve");
  look_up(all.spawn, "posix_spawn");
  look_up(all.spawnp, "posix_spawnp");
}

}  // namespace

void note_environment(char** environment) {
  look_up_all();
  for (List& list : noted().lists) {
    const char* line = find(environment, list.variable);
    if (line == nullptr) continue;
    const std::string_view value = std::string_view(line).substr(list.variable.size());
    // `avec run` puts its own before others; the folder of the shims ends in nothing that tells it.
    list.word = list.ends_with.empty() ? value.substr(0, value.find(':')) : word_of(value, list.ends_with);
  }
  for (; environment != nullptr && *environment != nullptr; ++environment)
    if (std::string_view(*environment).starts_with("AVEC_")) noted().settings.emplace_back(*environment);
}

}  // namespace avec::preload

// In place of the C library's; each passes on to it.
#define AVEC_EXPORTED extern "C" __attribute__((visibility("default")))

namespace preload = avec::preload;

AVEC_EXPORTED int execve(const char* path, char* const arguments[], char* const environment[]) noexcept {
  preload::look_up_all();
  return preload::with_completed(environment, [&](char* const* e) { return preload::noted().execve(path, arguments, e); });
}

AVEC_EXPORTED int execv(const char* path, char* const arguments[]) noexcept { return execve(path, arguments, environ); }

AVEC_EXPORTED int execvpe(const char* file, char* const arguments[], char* const environment[]) noexcept {
  preload::look_up_all();
  return preload::with_completed(environment, [&](char* const* e) { return preload::noted().execvpe(file, arguments, e); });
}

AVEC_EXPORTED int execvp(const char* file, char* const arguments[]) noexcept { return execvpe(file, arguments, environ); }

AVEC_EXPORTED int execle(const char* path, const char* first, ...) noexcept {
  va_list words;
  std::size_t count = 1;
  va_start(words, first);
  for (const char* word = first; word != nullptr; word = va_arg(words, const char*)) ++count;
  va_end(words);
  auto** arguments = static_cast<char**>(::alloca(count * sizeof(char*)));
  va_start(words, first);
  const char* word = first;
  for (std::size_t i = 0; i < count; ++i) {
    arguments[i] = const_cast<char*>(word);
    if (word != nullptr) word = va_arg(words, const char*);
  }
  char* const* environment = va_arg(words, char* const*);
  va_end(words);
  return execve(path, arguments, environment);
}

AVEC_EXPORTED int fexecve(int file, char* const arguments[], char* const environment[]) noexcept {
  preload::look_up_all();
  return preload::with_completed(environment, [&](char* const* e) { return preload::noted().fexecve(file, arguments, e); });
}

AVEC_EXPORTED int posix_spawn(pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions,
                              const posix_spawnattr_t* attributes, char* const arguments[],
                              char* const environment[]) noexcept {
  preload::look_up_all();
  return preload::with_completed(environment, [&](char* const* e) {
    return preload::noted().spawn(pid, path, actions, attributes, arguments, e);
  });
}

AVEC_EXPORTED int posix_spawnp(pid_t* pid, const char* file, const posix_spawn_file_actions_t* actions,
                               const posix_spawnattr_t* attributes, char* const arguments[],
                               char* const environment[]) noexcept {
  preload::look_up_all();
  return preload::with_completed(environment, [&](char* const* e) {
    return preload::noted().spawnp(pid, file, actions, attributes, arguments, e);
  });
}
