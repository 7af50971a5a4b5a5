#include "devices/cpu/names.h"

#include <cstring>
#include <iterator>

// The table names every export; only addresses matter, so the header's prototypes and the names
// it redirects are kept out of this file.
extern "C" {
#define AVEC_NAME(base, symbol, version, per_thread) void avec_name_##symbol() __asm__(#symbol);
#include "names.inc"
#undef AVEC_NAME
}

namespace avec::cpu {
namespace {

struct Name {
  const char* base;
  const char* symbol;
  int version;
  bool per_thread;
  void (*function)();
};

const Name kNames[] = {
#define AVEC_NAME(base, symbol, version, per_thread) {base, #symbol, version, per_thread, avec_name_##symbol},
#include "names.inc"
#undef AVEC_NAME
};

}  // namespace

Lookup look_up(const char* symbol, int version, bool per_thread) {
  Lookup best;
  bool best_is_per_thread = false;
  int best_version = -1;
  for (const Name& name : kNames) {
    if (std::strcmp(name.base, symbol) != 0) continue;
    if (name.per_thread && !per_thread) continue;
    if (name.version > version) {
      if (best.function == nullptr) best.status = CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT;
      continue;
    }
    const bool better =
        name.per_thread != best_is_per_thread ? name.per_thread : name.version >= best_version;
    if (best.function != nullptr && !better) continue;
    best = {reinterpret_cast<void*>(name.function), CU_GET_PROC_ADDRESS_SUCCESS};
    best_is_per_thread = name.per_thread;
    best_version = name.version;
  }
  return best;
}

}  // namespace avec::cpu
