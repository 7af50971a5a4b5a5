// Modules, kernels, launches.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "avec/buffer.h"
#include "avec/stream.h"

namespace avec {

/// Extents in x, y, z; what is not given is 1.
struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

struct LaunchOptions {
  Dim3 grid{};                            ///< blocks
  Dim3 block{};                           ///< threads in a block
  std::uint32_t shared_bytes = 0;         ///< dynamic shared memory per block
  const Stream* stream = nullptr;         ///< null: the default stream
};

/// A __global__ function. Parameters are checked in number and size against the module's own
/// description before anything is sent.
class Kernel {
 public:
  /// Posts a launch. Arguments: trivially copyable values, passed by value; a Buffer passes its
  /// address.
  template <class... Arguments>
  void launch(const LaunchOptions& options, const Arguments&... arguments) const {
    const std::array<Argument, sizeof...(Arguments)> list{as_argument(arguments)...};
    launch_list(options, list.data(), list.size());
  }

  std::string name() const;
  int max_threads_per_block() const;
  /// Bytes of static shared memory.
  int shared_bytes() const;

  struct State;
  explicit Kernel(std::shared_ptr<State> state) : state_(std::move(state)) {}

 private:
  struct Argument {
    const void* data;
    std::size_t bytes;
    std::uint64_t address;  // used when data is null: a buffer's
  };
  template <class T>
  static Argument as_argument(const T& value) {
    if constexpr (std::is_same_v<T, Buffer>) {
      return {nullptr, sizeof(std::uint64_t), value.address()};
    } else {
      static_assert(std::is_trivially_copyable_v<T>, "kernel arguments are copied byte by byte");
      return {&value, sizeof value, 0};
    }
  }
  void launch_list(const LaunchOptions& options, const Argument* arguments, std::size_t count) const;

  std::shared_ptr<State> state_;
};

class Module {
 public:
  /// Throws when the module has no such kernel (C++ kernels have mangled names unless they are
  /// extern "C").
  Kernel kernel(std::string_view name) const;
  std::vector<std::string> kernel_names() const;

  struct State;
  explicit Module(std::shared_ptr<State> state) : state_(std::move(state)) {}

 private:
  std::shared_ptr<State> state_;
};

}  // namespace avec
