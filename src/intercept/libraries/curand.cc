// cuRAND on the client: generators of device memory are posted to, generators of host memory are
// asked, and tables for device code are kept once they have come.
#include "intercept/libraries/curand.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

#include "libraries/curand.h"

using namespace avec;
using namespace avec::libraries;

// The generated functions of schemas/libraries/curand.api.
extern "C" {
int curand_create_device(void* generator, std::int32_t type);
int curand_create_host(void* generator, std::int32_t type);
int curand_destroy(const void* generator);
int curand_table(std::int32_t kind, std::int32_t set, void* table);
}

namespace {

constexpr int kOk = 0;
constexpr int kNotInitialized = 101;
constexpr int kAllocationFailed = 102;
constexpr int kOutOfRange = 104;
constexpr int kFirstQuasiType = 200;
/// Elements that one call of a host generator brings. A multiple of what any generator does in one
/// round, so that the pieces are what one call would have given.
constexpr std::uint64_t kPiece = 1u << 20;

client::LibraryObject* find(const void* generator) {
  return client::find_library_object(generator, kCurandGenerator);
}

int create(void* generator, int type, bool host) {
  const int status = host ? curand_create_host(generator, type) : curand_create_device(generator, type);
  if (status != kOk) return status;
  if (client::LibraryObject* made = find(*static_cast<void**>(generator)); made != nullptr) {
    made->state[kOnHost] = host;
    made->state[kQuasi] = type >= kFirstQuasiType;
  }
  return kOk;
}

/// Calls the form that the generator needs; both take (generator, output, count, arguments...).
template <class T, class Device, class Host, class... Arguments>
int generate(Device device, Host host, const void* generator, T* output, std::uint64_t count,
             Arguments... arguments) {
  const client::LibraryObject* found = find(generator);
  if (found == nullptr) return kNotInitialized;
  if (found->state[kOnHost] == 0) return device(generator, output, count, arguments...);
  // Quasi-random numbers are ordered by dimension over the whole of a call.
  if (found->state[kQuasi] != 0) return host(generator, output, count, arguments...);
  do {
    const std::uint64_t piece = count < kPiece ? count : kPiece;
    if (const int status = host(generator, output, piece, arguments...); status != kOk) return status;
    output += piece;
    count -= piece;
  } while (count != 0);
  return kOk;
}

struct Table {
  std::mutex mutex;
  std::unique_ptr<std::byte[]> bytes;  // never freed: programs keep the pointer
};

/// A table of the executor's library. Sets of direction vectors are two for each width.
int table(CurandTable kind, int set, int variant, void** result) {
  static auto& tables = *new std::array<std::array<Table, 2>, kCurandTables>;
  if (result == nullptr) return kOutOfRange;
  Table& one = tables[static_cast<std::size_t>(kind)][static_cast<std::size_t>(variant)];
  std::scoped_lock lock(one.mutex);
  if (one.bytes == nullptr) {
    std::unique_ptr<std::byte[]> bytes(new (std::nothrow) std::byte[curand_table_bytes(kind)]);
    if (bytes == nullptr) return kAllocationFailed;
    if (const int status = curand_table(kind, set, bytes.get()); status != kOk) return status;
    one.bytes = std::move(bytes);
  }
  *result = one.bytes.get();
  return kOk;
}

}  // namespace

extern "C" {

int curandCreateGenerator(void* generator, std::int32_t type) { return create(generator, type, false); }
int curandCreateGeneratorHost(void* generator, std::int32_t type) { return create(generator, type, true); }
int curandDestroyGenerator(const void* generator) { return curand_destroy(generator); }

// One function in two forms, of the same name as in the schema: NAME_device and NAME_host.
#define AVEC_GENERATE(EXPORTED, NAME, T)                                       \
  int NAME##_device(const void* generator, void* output, std::uint64_t count); \
  int NAME##_host(const void* generator, T* output, std::uint64_t count);      \
  int EXPORTED(const void* generator, T* output, std::uint64_t count) {        \
    return generate(NAME##_device, NAME##_host, generator, output, count);     \
  }
#define AVEC_GENERATE1(EXPORTED, NAME, T, A)                                        \
  int NAME##_device(const void* generator, void* output, std::uint64_t count, A a); \
  int NAME##_host(const void* generator, T* output, std::uint64_t count, A a);      \
  int EXPORTED(const void* generator, T* output, std::uint64_t count, A a) {        \
    return generate(NAME##_device, NAME##_host, generator, output, count, a);       \
  }
#define AVEC_GENERATE2(EXPORTED, NAME, T, A, B)                                          \
  int NAME##_device(const void* generator, void* output, std::uint64_t count, A a, B b); \
  int NAME##_host(const void* generator, T* output, std::uint64_t count, A a, B b);      \
  int EXPORTED(const void* generator, T* output, std::uint64_t count, A a, B b) {        \
    return generate(NAME##_device, NAME##_host, generator, output, count, a, b);         \
  }

AVEC_GENERATE(curandGenerate, curand_generate, std::uint32_t)
AVEC_GENERATE(curandGenerateLongLong, curand_generate_long, std::uint64_t)
AVEC_GENERATE(curandGenerateUniform, curand_uniform, float)
AVEC_GENERATE(curandGenerateUniformDouble, curand_uniform_double, double)
AVEC_GENERATE2(curandGenerateNormal, curand_normal, float, float, float)
AVEC_GENERATE2(curandGenerateNormalDouble, curand_normal_double, double, double, double)
AVEC_GENERATE2(curandGenerateLogNormal, curand_log_normal, float, float, float)
AVEC_GENERATE2(curandGenerateLogNormalDouble, curand_log_normal_double, double, double, double)
AVEC_GENERATE1(curandGeneratePoisson, curand_poisson, std::uint32_t, double)
AVEC_GENERATE2(curandGeneratePoissonMethod, curand_poisson_method, std::uint32_t, double, std::int32_t)

// Sets 101 and 102 have vectors of 32 bits, 103 and 104 of 64 bits (curandDirectionVectorSet_t).
int curandGetDirectionVectors32(void** vectors, std::int32_t set) {
  return set == 101 || set == 102 ? table(kVectors32, set, set - 101, vectors) : kOutOfRange;
}
int curandGetDirectionVectors64(void** vectors, std::int32_t set) {
  return set == 103 || set == 104 ? table(kVectors64, set, set - 103, vectors) : kOutOfRange;
}
int curandGetScrambleConstants32(void** constants) { return table(kScramble32, 0, 0, constants); }
int curandGetScrambleConstants64(void** constants) { return table(kScramble64, 0, 0, constants); }
}
