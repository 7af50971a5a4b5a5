#include "intercept/preload/elf_file.h"

#include <elf.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include "support/catch.h"

using avec::preload::ElfFile;
using avec::preload::Symbol;

extern "C" int avec_test_marker_function() { return 41; }

namespace {

std::vector<std::byte> own_file() {
  std::ifstream file("/proc/self/exe", std::ios::binary);
  const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto* data = reinterpret_cast<const std::byte*>(bytes.data());
  return {data, data + bytes.size()};
}

}  // namespace

TEST_CASE("Symbols of a program are found with their kind") {
  const auto bytes = own_file();
  const ElfFile file(bytes);
  REQUIRE(file.good());
  CHECK(file.has_section(".text"));
  CHECK_FALSE(file.has_section(".nv_fatbin"));
  bool found = false;
  for (const Symbol& symbol : file.symbols()) {
    if (symbol.name != "avec_test_marker_function") continue;
    found = true;
    CHECK(symbol.defined);
    CHECK(symbol.function);
    CHECK(symbol.bytes > 0);
  }
  CHECK(found);
  CHECK(avec_test_marker_function() == 41);
}

TEST_CASE("What is no ELF file of this machine is refused") {
  CHECK_FALSE(ElfFile({}).good());
  const char text[] =
      "#!/bin/sh\necho this is a script that is longer than an ELF header is, by some bytes\n";
  CHECK_FALSE(ElfFile(std::as_bytes(std::span(text))).good());
  auto bytes = own_file();
  bytes[EI_CLASS] = std::byte{ELFCLASS32};
  CHECK_FALSE(ElfFile(bytes).good());
}

TEST_CASE("A file cut short anywhere is read without leaving it") {
  const auto bytes = own_file();
  for (const std::size_t length : {std::size_t{1}, std::size_t{63}, std::size_t{64}, bytes.size() / 3,
                                   bytes.size() / 2, bytes.size() - 64, bytes.size() - 1}) {
    // A copy of exactly that size: a sanitizer sees one byte too many.
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length));
    const ElfFile file(cut);
    for (const Symbol& symbol : file.symbols()) {
      const auto* begin = reinterpret_cast<const std::byte*>(symbol.name.data());
      REQUIRE(begin >= cut.data());
      REQUIRE(begin + symbol.name.size() < cut.data() + cut.size());
    }
  }
}

TEST_CASE("Wrong offsets and counts in the header and the section table are survived") {
  const auto bytes = own_file();
  Elf64_Ehdr header;
  std::memcpy(&header, bytes.data(), sizeof header);
  std::mt19937_64 random(7);
  auto mutant = bytes;
  for (int round = 0; round < 300; ++round) {
    const bool in_header = round % 2 == 0;
    const std::size_t base = in_header ? 16 : static_cast<std::size_t>(header.e_shoff);
    const std::size_t room = in_header ? sizeof header - 16 : bytes.size() - base;
    const std::size_t at = base + random() % room;
    const std::byte old = mutant[at];
    mutant[at] = static_cast<std::byte>(random());
    const ElfFile file(mutant);
    std::size_t letters = 0;
    for (const Symbol& symbol : file.symbols()) letters += symbol.name.size();
    CHECK(letters <= mutant.size() * 2);
    mutant[at] = old;
  }
}
