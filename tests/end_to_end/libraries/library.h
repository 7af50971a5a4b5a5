// What the programs of this folder share. Each checks its results and prints what must be the same
// natively and through avec: statuses and hashes of the bits of results.
#pragma once

#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

/// Both kinds of functions return 0 when all is well.
#define CHECK(call)                                                               \
  do {                                                                            \
    const int status_ = static_cast<int>(call);                                   \
    if (status_ != 0) {                                                           \
      std::printf("%s:%d: %s returned %d\n", __FILE__, __LINE__, #call, status_); \
      std::exit(1);                                                               \
    }                                                                             \
  } while (0)

#define EXPECT(condition)                                                \
  do {                                                                   \
    if (!(condition)) {                                                  \
      std::printf("%s:%d: wrong: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                      \
    }                                                                    \
  } while (0)

template <class T>
struct Device {
  T* data = nullptr;
  std::size_t count;
  explicit Device(std::size_t n) : count(n) {
    CHECK(cudaMalloc(reinterpret_cast<void**>(&data), n * sizeof(T) + 16));
  }
  explicit Device(const std::vector<T>& values) : Device(values.size()) {
    CHECK(cudaMemcpy(data, values.data(), count * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~Device() { cudaFree(data); }
  Device(const Device&) = delete;
  std::vector<T> host() const {
    std::vector<T> values(count);
    CHECK(cudaMemcpy(values.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }
  operator T*() const { return data; }
};

inline std::uint64_t hash(const void* bytes, std::size_t count) {
  std::uint64_t value = 14695981039346656037u;
  for (std::size_t i = 0; i < count; ++i)
    value = (value ^ static_cast<const unsigned char*>(bytes)[i]) * 1099511628211u;
  return value;
}
template <class T>
std::uint64_t hash(const std::vector<T>& values) {
  return hash(values.data(), values.size() * sizeof(T));
}
template <class T>
void show(const char* what, const std::vector<T>& values) {
  std::printf("%-28s %016llx\n", what, static_cast<unsigned long long>(hash(values)));
}
