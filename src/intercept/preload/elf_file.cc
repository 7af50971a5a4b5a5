#include "elf_file.h"

#include <elf.h>

#include <bit>
#include <cstring>

namespace avec::preload {
namespace {

/// The NUL-terminated text at `offset` of a string table; empty when there is none.
std::string_view text_at(std::span<const std::byte> table, std::uint64_t offset) {
  if (offset >= table.size()) return {};
  const auto* start = reinterpret_cast<const char*>(table.data()) + offset;
  const std::size_t room = table.size() - static_cast<std::size_t>(offset);
  const std::size_t length = ::strnlen(start, room);
  return length < room ? std::string_view(start, length) : std::string_view();
}

template <class T>
T load(std::span<const std::byte> bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

}  // namespace

std::span<const std::byte> ElfFile::bytes_at(std::uint64_t offset, std::uint64_t length) const {
  if (offset > file_.size() || length > file_.size() - offset) return {};
  return file_.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(length));
}

ElfFile::ElfFile(std::span<const std::byte> file) : file_(file) {
  constexpr unsigned char kOrder = std::endian::native == std::endian::little ? ELFDATA2LSB : ELFDATA2MSB;
  const auto head = bytes_at(0, sizeof(Elf64_Ehdr));
  if (head.empty()) return;
  const auto header = load<Elf64_Ehdr>(head);
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
      header.e_ident[EI_DATA] != kOrder || header.e_shentsize != sizeof(Elf64_Shdr))
    return;
  good_ = true;
  const auto section_at = [&](std::uint64_t index) {
    return bytes_at(header.e_shoff + index * sizeof(Elf64_Shdr), sizeof(Elf64_Shdr));
  };
  if (header.e_shoff == 0 || header.e_shoff > file_.size()) return;  // no section table: no symbols
  std::uint64_t count = header.e_shnum;
  std::uint64_t names_index = header.e_shstrndx;
  if (const auto first = section_at(0); !first.empty()) {
    // Numbers that do not fit the header are in the first section.
    if (count == 0) count = load<Elf64_Shdr>(first).sh_size;
    if (names_index == SHN_XINDEX) names_index = load<Elf64_Shdr>(first).sh_link;
  }
  if (count > file_.size() / sizeof(Elf64_Shdr)) return;
  std::vector<std::uint32_t> name_offsets;
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto bytes = section_at(i);
    if (bytes.empty()) return;
    const auto section = load<Elf64_Shdr>(bytes);
    const bool stored = section.sh_type != SHT_NOBITS && section.sh_type != SHT_NULL;
    sections_.push_back(
        {.type = section.sh_type,
         .link = section.sh_link,
         .contents = stored ? bytes_at(section.sh_offset, section.sh_size) : std::span<const std::byte>{}});
    name_offsets.push_back(section.sh_name);
  }
  if (names_index >= sections_.size()) return;
  for (std::size_t i = 0; i < sections_.size(); ++i)
    sections_[i].name = text_at(sections_[names_index].contents, name_offsets[i]);
}

bool ElfFile::has_section(std::string_view name) const {
  for (const Section& section : sections_)
    if (section.name == name) return true;
  return false;
}

std::vector<Symbol> ElfFile::symbols() const {
  std::vector<Symbol> found;
  for (const Section& section : sections_) {
    if (section.type != SHT_SYMTAB && section.type != SHT_DYNSYM) continue;
    if (section.link >= sections_.size()) continue;
    const auto& names = sections_[section.link].contents;
    const std::size_t count = section.contents.size() / sizeof(Elf64_Sym);
    if (count > kMaxSymbols - found.size()) continue;
    found.reserve(found.size() + count);
    for (std::size_t i = 0; i < count; ++i) {
      const auto symbol = load<Elf64_Sym>(section.contents.subspan(i * sizeof(Elf64_Sym)));
      const std::string_view name = text_at(names, symbol.st_name);
      if (name.empty()) continue;
      found.push_back({.name = name,
                       .value = symbol.st_value,
                       .bytes = symbol.st_size,
                       .defined = symbol.st_shndx != SHN_UNDEF,
                       .function = ELF64_ST_TYPE(symbol.st_info) == STT_FUNC});
    }
  }
  return found;
}

}  // namespace avec::preload
