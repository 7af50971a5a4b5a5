// The symbols and sections of an ELF file that nobody vouches for: every offset and length is
// checked against the file before it is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace avec::preload {

struct Symbol {
  std::string_view name;
  std::uint64_t value = 0;  ///< address, before the load bias
  std::uint64_t bytes = 0;
  bool defined = false;
  bool function = false;
};

/// Symbols in one file; the largest programs have a few million.
inline constexpr std::size_t kMaxSymbols = 16u << 20;

/// A 64-bit ELF file of this machine's byte order, in memory. Views point into that memory.
class ElfFile {
 public:
  /// `good()` is false when the bytes are no such file; then everything is empty.
  explicit ElfFile(std::span<const std::byte> file);

  [[nodiscard]] bool good() const { return good_; }
  [[nodiscard]] bool has_section(std::string_view name) const;
  /// Of .symtab and .dynsym; what lies outside the file is left out.
  [[nodiscard]] std::vector<Symbol> symbols() const;

 private:
  struct Section {
    std::string_view name;
    std::uint32_t type = 0;
    std::uint32_t link = 0;
    std::span<const std::byte> contents;  ///< empty for sections without bytes in the file
  };

  [[nodiscard]] std::span<const std::byte> bytes_at(std::uint64_t offset, std::uint64_t length) const;

  std::span<const std::byte> file_;
  std::vector<Section> sections_;
  bool good_ = false;
};

}  // namespace avec::preload
