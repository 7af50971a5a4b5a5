// Owner of one resource that is not memory: a descriptor, a CUDA object, a mapping.
#pragma once

#include <unistd.h>

#include <utility>

namespace avec {

/// Owns a T; Deleter has `static constexpr T kNull` and `static void release(T) noexcept`.
template <class T, class Deleter>
class Handle {
 public:
  Handle() = default;
  explicit Handle(T value) noexcept : value_(value) {}
  Handle(Handle&& other) noexcept : value_(std::exchange(other.value_, Deleter::kNull)) {}
  Handle& operator=(Handle&& other) noexcept {
    if (this != &other) reset(std::exchange(other.value_, Deleter::kNull));
    return *this;
  }
  ~Handle() { reset(); }

  [[nodiscard]] T get() const noexcept { return value_; }
  [[nodiscard]] T release() noexcept { return std::exchange(value_, Deleter::kNull); }
  void reset(T value = Deleter::kNull) noexcept {
    if (value_ != Deleter::kNull) Deleter::release(value_);
    value_ = value;
  }
  explicit operator bool() const noexcept { return value_ != Deleter::kNull; }

 private:
  T value_ = Deleter::kNull;
};

struct CloseDescriptor {
  static constexpr int kNull = -1;
  static void release(int fd) noexcept { ::close(fd); }
};
using Descriptor = Handle<int, CloseDescriptor>;

}  // namespace avec
