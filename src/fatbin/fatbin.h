// The container in which nvcc embeds device code: list, decompress, filter.
//
//   container   16 bytes: u32 magic 0xba55ed50, u16 version 1, u16 header bytes, u64 bytes that
//               follow the header; then entries
//   entry       header, then payload, padded to 8 bytes. Header, 64 bytes and more:
//                 0 u16 kind (1 PTX, 2 cubin, 8 NVVM for link time)    2 u16 version 0x0101
//                 4 u32 header bytes                                    8 u64 payload bytes, padded
//                16 u32 compressed bytes, 0 when not compressed        28 u32 architecture, 90 for 9.0
//                40 u64 flags: 0x2000 LZ4, 0x8000 zstd, 0x100000 "a" target, 0x200000 "f" target
//                56 u64 bytes after decompression
//   wrapper     what __cudaRegisterFatBinary gets: u32 magic 0x466243b1, u32 version, pointer to
//               the container, pointer to prelinked containers
//
// All integers are little endian. NVIDIA does not document the layout; it was read off the output
// of nvcc 13.0 in every compression mode (tests/fatbin does so again).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace avec::fatbin {

inline constexpr std::uint32_t kContainerMagic = 0xba55ed50;
inline constexpr std::uint32_t kWrapperMagic = 0x466243b1;

/// Entries of one container; the largest libraries hold some hundreds.
inline constexpr std::size_t kMaxEntries = 65536;
/// One entry after decompression, bytes.
inline constexpr std::uint64_t kMaxEntryBytes = std::uint64_t{1} << 30;
/// Text of one PTX image of which only the address is known, bytes.
inline constexpr std::size_t kMaxTextBytes = std::size_t{1} << 30;

enum class Kind : std::uint16_t { kPtx = 1, kCubin = 2, kNvvm = 8 };
enum class Compression : std::uint8_t { kNone, kLz4, kZstd };
/// kExact ("sm_90a") runs on its own architecture only, kFamily ("sm_100f") within its major.
enum class Variant : std::uint8_t { kPlain, kExact, kFamily };

struct Entry {
  Kind kind = Kind::kPtx;  ///< other values are possible
  Variant variant = Variant::kPlain;
  Compression compression = Compression::kNone;
  std::uint32_t architecture = 0;      ///< 90 for compute capability 9.0
  std::uint64_t plain_bytes = 0;       ///< after decompression
  std::span<const std::byte> payload;  ///< as stored, without padding
  std::span<const std::byte> whole;    ///< header, payload and padding
};

/// What an image is, by its first bytes.
enum class ImageKind : std::uint8_t { kContainer, kElf, kText };
[[nodiscard]] ImageKind image_kind(std::span<const std::byte> image);

/// The container at `image`, which is a wrapper or the container itself. The caller vouches that
/// the memory is there: only what the headers claim is read.
[[nodiscard]] Result<std::span<const std::byte>> container(const void* image);

/// Bytes of the image at `image`, a wrapper (its container counts), a container, an ELF object
/// or PTX text (its final NUL counts), as cuModuleLoadData gets it.
[[nodiscard]] Result<std::size_t> image_size(const void* image);

/// The entries of untrusted bytes; spans point into them.
[[nodiscard]] Result<std::vector<Entry>> list(std::span<const std::byte> container);

/// The entry's code, exactly plain_bytes.
[[nodiscard]] Result<std::vector<std::byte>> decompress(const Entry& entry);

/// Can a device of this compute capability use the entry: cubins of its major and at most its
/// minor version, PTX of at most its version; "a" targets must match exactly, "f" targets in the major.
[[nodiscard]] bool usable(const Entry& entry, unsigned major, unsigned minor);

/// Whether a device that reads PTX only stands in for a device of this compute capability with the
/// oldest PTX for newer ones: a cubin would run on that device, and there is no PTX that would. Libraries are
/// often built so. The architecture of that PTX; 0 otherwise.
[[nodiscard]] std::uint32_t substitute(std::span<const Entry> entries, unsigned major, unsigned minor);

/// A container with only what a device of this compute capability can use: the matching cubins
/// and the newest matching PTX (`ptx_only`: or its substitute). Images that are no container come back as they are.
[[nodiscard]] Result<std::vector<std::byte>> filter(std::span<const std::byte> image, unsigned major,
                                                    unsigned minor, bool ptx_only = false);

}  // namespace avec::fatbin
