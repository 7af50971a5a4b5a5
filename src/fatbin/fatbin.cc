#include "fatbin/fatbin.h"

#include <elf.h>
#include <lz4.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>

namespace avec::fatbin {
namespace {

constexpr std::size_t kContainerHeaderBytes = 16;
constexpr std::size_t kEntryHeaderBytes = 64;
constexpr std::uint64_t kFlagLz4 = 0x2000, kFlagZstd = 0x8000, kFlagExact = 0x100000, kFlagFamily = 0x200000;

template <class T>
T load(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

std::span<const std::byte> at(const void* memory, std::size_t bytes) {
  return {static_cast<const std::byte*>(memory), bytes};
}

struct ContainerHeader {
  std::size_t header_bytes;
  std::uint64_t entry_bytes;
};

Result<ContainerHeader> container_header(std::span<const std::byte> bytes) {
  if (bytes.size() < kContainerHeaderBytes || load<std::uint32_t>(bytes, 0) != kContainerMagic) {
    return user_error("no fatbin container");
  }
  ContainerHeader header{load<std::uint16_t>(bytes, 6), load<std::uint64_t>(bytes, 8)};
  if (header.header_bytes < kContainerHeaderBytes) return user_error("fatbin header is too short");
  if (header.entry_bytes > (std::uint64_t{1} << 40)) return user_error("fatbin claims an absurd size");
  return header;
}

Result<Entry> entry_at(std::span<const std::byte> rest) {
  if (rest.size() < kEntryHeaderBytes) return user_error("fatbin entry is cut off");
  const auto header = load<std::uint32_t>(rest, 4);
  const auto padded = load<std::uint64_t>(rest, 8);
  const auto packed = load<std::uint32_t>(rest, 16);
  const auto flags = load<std::uint64_t>(rest, 40);
  if (header < kEntryHeaderBytes || header > rest.size() || padded > rest.size() - header) {
    return user_error("fatbin entry exceeds its container");
  }
  Entry entry;
  entry.kind = static_cast<Kind>(load<std::uint16_t>(rest, 0));
  entry.architecture = load<std::uint32_t>(rest, 28);
  entry.variant = (flags & kFlagExact)    ? Variant::kExact
                  : (flags & kFlagFamily) ? Variant::kFamily
                                          : Variant::kPlain;
  entry.compression = (flags & kFlagZstd)  ? Compression::kZstd
                      : (flags & kFlagLz4) ? Compression::kLz4
                                           : Compression::kNone;
  entry.whole = rest.first(header + padded);
  entry.payload = entry.whole.subspan(header);
  entry.plain_bytes = padded;
  if (entry.compression != Compression::kNone) {
    if (packed > padded) return user_error("fatbin entry is compressed to more than its payload");
    entry.payload = entry.payload.first(packed);
    entry.plain_bytes = load<std::uint64_t>(rest, 56);
  }
  if (entry.plain_bytes > kMaxEntryBytes) return user_error("fatbin entry claims an absurd size");
  return entry;
}

/// End of the last thing that the headers of an ELF64 object point to.
Result<std::size_t> elf_bytes(const void* image) {
  Elf64_Ehdr header;
  std::memcpy(&header, image, sizeof header);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_shentsize != sizeof(Elf64_Shdr)) {
    return user_error("not a 64-bit ELF image");
  }
  const std::uint64_t limit = std::uint64_t{1} << 40;
  if (header.e_shoff > limit || header.e_phoff > limit) return user_error("ELF image claims an absurd size");
  std::uint64_t end = sizeof header;
  end = std::max(end, header.e_phoff + std::uint64_t{header.e_phnum} * header.e_phentsize);
  const auto* sections = static_cast<const std::byte*>(image) + header.e_shoff;
  std::uint64_t count = header.e_shnum;
  if (count == 0 && header.e_shoff != 0) {  // more sections than 16 bits count: the first one says
    Elf64_Shdr first;
    std::memcpy(&first, sections, sizeof first);
    count = first.sh_size;
    if (count > kMaxEntryBytes) return user_error("ELF image claims an absurd size");
  }
  end = std::max(end, header.e_shoff + count * sizeof(Elf64_Shdr));
  for (std::uint64_t i = 0; i < count; ++i) {
    Elf64_Shdr section;
    std::memcpy(&section, sections + i * sizeof section, sizeof section);
    if (section.sh_type == SHT_NOBITS || section.sh_type == SHT_NULL) continue;
    if (section.sh_offset > limit || section.sh_size > limit)
      return user_error("ELF image claims an absurd size");
    end = std::max(end, section.sh_offset + section.sh_size);
  }
  return end;
}

}  // namespace

ImageKind image_kind(std::span<const std::byte> image) {
  if (image.size() >= 4) {
    if (load<std::uint32_t>(image, 0) == kContainerMagic) return ImageKind::kContainer;
    if (std::memcmp(image.data(), ELFMAG, SELFMAG) == 0) return ImageKind::kElf;
  }
  return ImageKind::kText;
}

Result<std::span<const std::byte>> container(const void* image) {
  if (image == nullptr) return user_error("no image");
  if (load<std::uint32_t>(at(image, 4), 0) == kWrapperMagic) {
    image = load<const void*>(at(image, 16), 8);
    if (image == nullptr) return user_error("fatbin wrapper without data");
  }
  if (load<std::uint32_t>(at(image, 4), 0) != kContainerMagic) return user_error("no fatbin container");
  auto header = container_header(at(image, kContainerHeaderBytes));
  if (!header) return std::unexpected(header.error());
  return at(image, header->header_bytes + header->entry_bytes);
}

Result<std::size_t> image_size(const void* image) {
  if (image == nullptr) return user_error("no image");
  // Byte by byte: a text may be shorter than a magic number.
  const auto* text = static_cast<const char*>(image);
  auto starts_with = [text](std::uint32_t magic) {
    for (int i = 0; i < 4; ++i) {
      if (static_cast<unsigned char>(text[i]) != ((magic >> (8 * i)) & 0xff)) return false;
    }
    return true;
  };
  if (starts_with(kWrapperMagic) || starts_with(kContainerMagic)) {
    const auto found = container(image);
    if (!found) return std::unexpected(found.error());
    return found->size();
  }
  if (starts_with(0x464c457f)) return elf_bytes(image);
  const std::size_t length = ::strnlen(text, kMaxTextBytes);
  if (length == kMaxTextBytes) return user_error("PTX text has no end");
  return length + 1;
}

Result<std::vector<Entry>> list(std::span<const std::byte> container) {
  const auto header = container_header(container);
  if (!header) return std::unexpected(header.error());
  if (header->header_bytes > container.size() ||
      header->entry_bytes > container.size() - header->header_bytes) {
    return user_error("fatbin is cut off");
  }
  auto rest = container.subspan(header->header_bytes, header->entry_bytes);
  std::vector<Entry> entries;
  while (!rest.empty()) {
    const auto entry = entry_at(rest);
    if (!entry) return std::unexpected(entry.error());
    if (entries.size() == kMaxEntries) return user_error("fatbin has too many entries");
    entries.push_back(*entry);
    rest = rest.subspan(entry->whole.size());
  }
  return entries;
}

Result<std::vector<std::byte>> decompress(const Entry& entry) {
  if (entry.plain_bytes > kMaxEntryBytes) return user_error("fatbin entry claims an absurd size");
  if (entry.compression == Compression::kNone) {
    return std::vector<std::byte>(entry.payload.begin(), entry.payload.end());
  }
  // LZ4 cannot gain more than 255 times: a claim beyond would only cost memory.
  if (entry.compression == Compression::kLz4 && entry.plain_bytes / 256 > entry.payload.size()) {
    return user_error("fatbin entry claims an absurd size");
  }
  std::vector<std::byte> plain(entry.plain_bytes);
  auto* to = reinterpret_cast<char*>(plain.data());
  const auto* from = reinterpret_cast<const char*>(entry.payload.data());
  bool good;
  if (entry.compression == Compression::kLz4) {
    const int written =
        LZ4_decompress_safe(from, to, static_cast<int>(entry.payload.size()), static_cast<int>(plain.size()));
    good = written >= 0 && static_cast<std::size_t>(written) == plain.size();
  } else {
    const std::size_t written = ZSTD_decompress(to, plain.size(), from, entry.payload.size());
    good = !ZSTD_isError(written) && written == plain.size();
  }
  if (!good) return user_error("fatbin entry does not decompress");
  return plain;
}

bool usable(const Entry& entry, unsigned major, unsigned minor) {
  const unsigned device = major * 10 + minor;
  if (entry.kind != Kind::kPtx && entry.kind != Kind::kCubin) return false;
  if (entry.variant == Variant::kExact) return entry.architecture == device;
  if (entry.architecture > device) return false;
  const bool same_major = entry.architecture / 10 == major;
  return same_major || (entry.kind == Kind::kPtx && entry.variant == Variant::kPlain);
}

std::uint32_t substitute(std::span<const Entry> entries, unsigned major, unsigned minor) {
  bool cubin = false;
  std::uint32_t oldest = 0;
  for (const Entry& entry : entries) {
    if (usable(entry, major, minor)) {
      if (entry.kind == Kind::kPtx) return 0;
      cubin = true;
    } else if (entry.kind == Kind::kPtx && entry.variant == Variant::kPlain) {
      oldest = oldest == 0 ? entry.architecture : std::min(oldest, entry.architecture);
    }
  }
  return cubin ? oldest : 0;
}

Result<std::vector<std::byte>> filter(std::span<const std::byte> image, unsigned major, unsigned minor, bool ptx_only) {
  if (image_kind(image) != ImageKind::kContainer) return std::vector<std::byte>(image.begin(), image.end());
  const auto entries = list(image);
  if (!entries) return std::unexpected(entries.error());
  std::uint32_t newest = 0;
  for (const Entry& entry : *entries) {
    if (entry.kind == Kind::kPtx && usable(entry, major, minor))
      newest = std::max(newest, entry.architecture);
  }
  const std::uint32_t stand_in = ptx_only ? substitute(*entries, major, minor) : 0;
  const auto header_bytes = load<std::uint16_t>(image, 6);
  std::vector<std::byte> kept(image.begin(), image.begin() + header_bytes);
  for (const Entry& entry : *entries) {
    const bool stands_in = entry.kind == Kind::kPtx && entry.variant == Variant::kPlain && stand_in != 0 &&
                           entry.architecture == stand_in;
    if (!usable(entry, major, minor) && !stands_in) continue;
    if (entry.kind == Kind::kPtx && entry.architecture != newest && !stands_in) continue;
    kept.insert(kept.end(), entry.whole.begin(), entry.whole.end());
  }
  const std::uint64_t entry_bytes = kept.size() - header_bytes;
  std::memcpy(kept.data() + 8, &entry_bytes, sizeof entry_bytes);
  return kept;
}

}  // namespace avec::fatbin
