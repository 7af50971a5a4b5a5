// cuRAND's tables for device code: the library tells where they lie, the client wants their bytes.
#include "libraries/curand.h"

#include <cstdint>
#include <cstring>

#include "executor/worker/libraries.h"

namespace {

constexpr std::uint16_t kCurand = 4;  // schemas/libraries/curand.api
constexpr int kOutOfRange = 104;
constexpr int kInternalError = 999;

template <class Function>
Function symbol(const char* name) {
  return reinterpret_cast<Function>(avec_library_symbol(kCurand, name));
}

}  // namespace

extern "C" int curand_table(int kind, int set, void* table);

int curand_table(int kind, int set, void* table) {
  using namespace avec::libraries;
  const std::uint64_t bytes = curand_table_bytes(kind);
  if (bytes == 0 || table == nullptr) return kOutOfRange;
  const void* where = nullptr;
  int status = kInternalError;
  if (kind == kVectors32 || kind == kVectors64) {
    const char* name = kind == kVectors32 ? "curandGetDirectionVectors32" : "curandGetDirectionVectors64";
    const auto get = symbol<int (*)(const void**, int)>(name);
    if (get != nullptr) status = get(&where, set);
  } else {
    const char* name = kind == kScramble32 ? "curandGetScrambleConstants32" : "curandGetScrambleConstants64";
    const auto get = symbol<int (*)(const void**)>(name);
    if (get != nullptr) status = get(&where);
  }
  if (status == 0) std::memcpy(table, where, bytes);
  return status;
}
