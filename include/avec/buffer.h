// Device memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace avec {

class Stream;

/// An allocation on the executor's device; freed with the last handle. Copies without a stream
/// are ordered as cudaMemcpy is (the legacy default stream).
class Buffer {
 public:
  /// The address as kernels see it. Not an address of this process.
  std::uint64_t address() const noexcept;
  std::size_t bytes() const noexcept;

  /// Copies source.size() bytes to `offset`. Returns once the source may be reused; does not
  /// wait for the executor.
  void copy_from(std::span<const std::byte> source, std::size_t offset = 0);
  /// Copies destination.size() bytes from `offset`; waits for them.
  void copy_to(std::span<std::byte> destination, std::size_t offset = 0) const;
  void copy_from(std::span<const std::byte> source, const Stream& stream, std::size_t offset = 0);
  void copy_to(std::span<std::byte> destination, const Stream& stream, std::size_t offset = 0) const;
  /// Copies all of `source`, which may be shorter, on the device.
  void copy_from(const Buffer& source);
  /// Sets every byte.
  void fill(std::uint8_t value);

  struct State;
  explicit Buffer(std::shared_ptr<State> state) : state_(std::move(state)) {}

 private:
  std::shared_ptr<State> state_;
};

}  // namespace avec
