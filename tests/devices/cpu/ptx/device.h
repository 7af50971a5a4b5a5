// A device for tests: one module, its variables in host memory, arguments by value.
#pragma once

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "devices/cpu/ptx/ptx.h"

namespace avec::cpu::ptx {

/// The PTX of kernels/<source>.cu for a variant of CMakeLists.txt.
std::string ptx_of(const std::string& source, const std::string& variant);
/// A module around instructions: one kernel "k" with a 64-bit parameter "out", already in %out.
std::string kernel_around(const std::string& body);

class TestDevice final : public AddressSpace {
 public:
  explicit TestDevice(const std::string& text);

  Range find(std::uint64_t address) const override;
  /// Memory that kernels may touch, zeroed.
  template <class T>
  T* allocate(std::size_t n, bool writable = true) {
    auto& block = memory_.emplace_back((n * sizeof(T) + 15) / 8, 0);
    const auto begin = reinterpret_cast<std::uint64_t>(block.data());
    ranges_[begin] = {begin, begin + n * sizeof(T), writable};
    return reinterpret_cast<T*>(begin);
  }
  template <class T>
  T* upload(const std::vector<T>& values) {
    T* p = allocate<T>(values.size());
    std::copy(values.begin(), values.end(), p);
    return p;
  }

  template <class... A>
  Fault run(const std::string& kernel, std::array<std::uint32_t, 3> grid, std::array<std::uint32_t, 3> block,
            std::uint32_t shared, A... arguments) {
    std::vector<std::byte> buffer;
    (append(buffer, arguments), ...);
    return launch(kernel, grid, block, shared, buffer);
  }
  Fault launch(const std::string& kernel, std::array<std::uint32_t, 3> grid, std::array<std::uint32_t, 3> block,
               std::uint32_t shared, const std::vector<std::byte>& parameters);
  std::size_t index_of(const std::string& kernel) const;
  const Module& module() const { return *module_; }

  std::string log, out, err;
  bool cooperative = false;
  std::atomic<bool> stop{false};

 private:
  template <class T>
  static void append(std::vector<std::byte>& buffer, const T& value) {
    const std::size_t at = (buffer.size() + alignof(T) - 1) / alignof(T) * alignof(T);
    buffer.resize(at + sizeof(T));
    std::memcpy(buffer.data() + at, &value, sizeof(T));
  }

  std::deque<std::vector<std::uint64_t>> memory_;
  std::map<std::uint64_t, Range> ranges_;
  std::unique_ptr<Module> module_;
  DeviceHeap heap_;
};

}  // namespace avec::cpu::ptx
