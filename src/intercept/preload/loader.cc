#include "loader.h"

#include <link.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "jump.h"
#include "redirect.h"

namespace avec::preload {
namespace {

struct Watch {
  void (*found)(const Object&) = nullptr;
  std::vector<std::uint64_t> known;  ///< dynamic sections of the objects that were there last time
};

/// Guarded by the loader's own lock, under which all that uses it runs.
Watch& watch() {
  static Watch* instance = new Watch;
  return *instance;
}

struct Seen {
  Object object;
  std::uint64_t id = 0;
};

std::vector<Seen> loaded_objects() {
  std::vector<Seen> objects;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* out) {
        auto& all = *static_cast<std::vector<Seen>*>(out);
        Seen seen;
        seen.object.program = all.empty();  // the first one is the program itself
        seen.object.path = info->dlpi_name != nullptr ? info->dlpi_name : "";
        seen.object.bias = info->dlpi_addr;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& segment = info->dlpi_phdr[i];
          if (segment.p_type == PT_DYNAMIC) seen.id = info->dlpi_addr + segment.p_vaddr;
          if (segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0)
            seen.object.code.push_back({segment.p_vaddr, segment.p_vaddr + segment.p_memsz});
        }
        all.push_back(std::move(seen));
        return 0;
      },
      &objects);
  return objects;
}

void look_for_new() {
  const std::vector<Seen> objects = loaded_objects();
  const std::vector<std::uint64_t> known = std::move(watch().known);
  watch().known.clear();
  for (const Seen& seen : objects) watch().known.push_back(seen.id);
  // May load a library itself and come back here: what is known is up to date by now.
  for (const Seen& seen : objects)
    if (std::ranges::find(known, seen.id) == known.end()) watch().found(seen.object);
}

/// In place of the loader's empty function that debuggers break on: after mapping or unmapping,
/// before relocations and constructors.
void on_change() {
  if (_r_debug.r_state == r_debug::RT_CONSISTENT) look_for_new();
}

/// Whether it only returns, and padding up to its alignment follows.
bool is_empty_function(std::uint64_t address, std::size_t room) {
  const auto* bytes = reinterpret_cast<const std::byte*>(address);
  const std::size_t pad = landing_pad_bytes({bytes, room});
#if defined(__x86_64__)
  constexpr unsigned char kReturn[] = {0xC3};
#else
  constexpr unsigned char kReturn[] = {0xC0, 0x03, 0x5F, 0xD6};
#endif
  return address % room == 0 && std::memcmp(bytes + pad, kReturn, sizeof kReturn) == 0;
}

}  // namespace

void watch_loader(void (*found)(const Object&)) {
  watch().found = found;
  look_for_new();
  constexpr std::size_t kFunctionAlignment = 16;
  const std::uint64_t hook = _r_debug.r_brk;
  if (hook == 0 || !is_empty_function(hook, kFunctionAlignment)) return;
  const Redirection redirection{
      .from = hook, .room = kFunctionAlignment, .to = reinterpret_cast<std::uint64_t>(&on_change)};
  // Without it, libraries that dlopen() loads keep a static runtime; what they call fails clearly.
  [[maybe_unused]] const RedirectResult result = redirect({&redirection, 1});
}

}  // namespace avec::preload
