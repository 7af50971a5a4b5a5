// What device memory the session owns, and how a copy is cut into pieces.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>

#include "executor/worker/driver.h"

namespace avec::worker {

/// Physical memory mapped at an address of the device range, or a module's global variable.
struct Mapping {
  std::uint64_t bytes = 0;
  CUmemGenericAllocationHandle handle = 0;  ///< 0 for a global, and for memory with a name of its own
  int device = 0;
  std::uint64_t module = 0;  ///< name of the module whose global this is; 0: physical memory
};

/// Every address that the session may name. One thread only.
class AddressMap {
 public:
  /// False when it overlaps what is there (a global may be added again unchanged).
  bool add(std::uint64_t address, const Mapping& mapping);
  bool overlaps(std::uint64_t address, std::uint64_t bytes) const;
  /// True when [address, address + bytes) is mapped without a gap. Zero bytes: true.
  bool covers(std::uint64_t address, std::uint64_t bytes) const;
  /// True when the range consists of whole mappings made by MemMap.
  bool whole(std::uint64_t address, std::uint64_t bytes) const;
  /// Takes the mappings out that lie in the range, first by first.
  std::optional<std::pair<std::uint64_t, Mapping>> take(std::uint64_t address, std::uint64_t bytes);
  void forget_module(std::uint64_t module);
  std::uint64_t total_bytes() const { return total_bytes_; }
  const std::map<std::uint64_t, Mapping>& all() const { return mappings_; }

 private:
  std::map<std::uint64_t, Mapping> mappings_;  // key: first address
  std::uint64_t total_bytes_ = 0;
};

/// Where rows lie that are an array's: those of a box from its row `first`; each slice of the box
/// has `rows` rows, from row y, and the first slice is z. x in bytes.
struct RowsInArray {
  CUarray array = nullptr;
  std::uint64_t x = 0, y = 0, z = 0, rows = 1, first = 0;
};

/// A rectangle in device memory: `height` rows of `width` bytes, `pitch` bytes apart; or as many
/// rows of an array.
struct Extent {
  std::uint64_t address = 0;
  std::uint64_t pitch = 0;
  std::uint64_t width = 0;
  std::uint64_t height = 0;
  RowsInArray in{};  ///< in.array not null: address and pitch mean nothing

  /// False when the numbers overflow, rows overlap, or the bytes exceed what a frame carries.
  bool sane() const;
  std::uint64_t bytes() const { return width * height; }
  /// Bytes from the first to the last one touched.
  std::uint64_t span() const { return bytes() == 0 ? 0 : pitch_or_width() * (height - 1) + width; }
  bool contiguous() const { return height <= 1 || (pitch == width && in.array == nullptr); }
  /// `rows` rows of `bytes` bytes that begin in this row and column.
  Extent part(std::uint64_t row, std::uint64_t column, std::uint64_t bytes, std::uint64_t rows) const;

 private:
  std::uint64_t pitch_or_width() const { return height <= 1 ? width : pitch; }
};

/// A part of an extent that one copy moves: tight on the host, an extent on the device.
struct CopyPiece {
  Extent device;
  std::uint64_t bytes = 0;
};

/// The piece that begins `offset` tight bytes into the extent and has at most `most` bytes:
/// whole rows where a row fits, a part of a row otherwise.
CopyPiece piece_at(const Extent& extent, std::uint64_t offset, std::uint64_t most);

/// Issues the copy of one piece between host memory and the device. Returns the driver's answer.
CUresult copy_to_device(const DriverTable& driver, const CopyPiece& piece, const void* host, CUstream stream);
CUresult copy_from_device(const DriverTable& driver, const CopyPiece& piece, void* host, CUstream stream);

}  // namespace avec::worker
