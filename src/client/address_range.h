// Ranges of this process's addresses that are kept free for device memory and pinned memory,
// so that an address means the same on both sides.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace avec::client {

/// A reservation of addresses (PROT_NONE, no memory behind it); released with the object.
class AddressReservation {
 public:
  AddressReservation() = default;
  /// Nothing when another mapping lies there.
  static std::optional<AddressReservation> at(std::uint64_t base, std::uint64_t bytes);
  /// Nothing is reserved: the addresses are only trusted to be free ("bind-address-ranges" off).
  static AddressReservation trusted(std::uint64_t base, std::uint64_t bytes) { return {base, bytes, false}; }
  AddressReservation(AddressReservation&& other) noexcept;
  AddressReservation& operator=(AddressReservation&& other) noexcept;
  ~AddressReservation();

  std::uint64_t base() const { return base_; }
  std::uint64_t bytes() const { return bytes_; }
  /// It keeps its addresses free; otherwise they are only trusted to be.
  bool bound() const { return bound_; }
  bool contains(std::uint64_t address) const { return address - base_ < bytes_; }

 private:
  AddressReservation(std::uint64_t base, std::uint64_t bytes, bool bound)
      : base_(base), bytes_(bytes), bound_(bound) {}
  std::uint64_t base_ = 0, bytes_ = 0;
  bool bound_ = false;  // false: nothing to release
};

enum class RangeUse { kDevice, kHost };

/// Reserves every candidate that is free here, best first: at most `wanted` of them. Wide ones
/// high up where addresses have 47 bits, smaller ones below 2^39 for machines with fewer.
/// `bind` false: the candidates are listed and nothing is reserved.
std::vector<AddressReservation> reserve_candidates(RangeUse use, std::size_t wanted, bool bind = true);

/// Hands out pieces of an address range, rotating so that a piece given back rests as long as
/// possible before it is handed out again. Not thread-safe.
class RangeAllocator {
 public:
  RangeAllocator(std::uint64_t base, std::uint64_t bytes);
  /// 0 when nothing fits. `alignment` is a power of two.
  std::uint64_t take(std::uint64_t bytes, std::uint64_t alignment);
  /// False when not all of it is free.
  bool take_at(std::uint64_t base, std::uint64_t bytes);
  void give_back(std::uint64_t base, std::uint64_t bytes);

 private:
  std::uint64_t take_from(std::map<std::uint64_t, std::uint64_t>::iterator gap, std::uint64_t from,
                          std::uint64_t bytes, std::uint64_t alignment);
  std::map<std::uint64_t, std::uint64_t> gaps_;  // base -> bytes
  std::uint64_t next_;
};

}  // namespace avec::client
