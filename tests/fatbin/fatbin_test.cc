#include "fatbin/fatbin.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "support/catch.h"

namespace avec::fatbin {
namespace {

std::vector<std::byte> image(const std::string& name) {
  std::ifstream file(std::string(AVEC_TEST_IMAGES) + "/" + name, std::ios::binary);
  REQUIRE(file);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  std::vector<std::byte> bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

template <class T>
void store(std::vector<std::byte>& bytes, std::size_t offset, T value) {
  REQUIRE(offset + sizeof value <= bytes.size());
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

std::string text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

const char* const kModes[] = {"none.fatbin", "default.fatbin", "speed.fatbin",
                              "size.fatbin", "balance.fatbin", "all.fatbin"};

}  // namespace

TEST_CASE("Every compression mode of nvcc yields the same code") {
  const auto plain = image("none.fatbin");
  const auto expected = list(plain);
  REQUIRE(expected);
  REQUIRE(expected->size() == 7);
  for (const char* mode : kModes) {
    INFO(mode);
    const auto bytes = image(mode);
    const auto entries = list(bytes);
    REQUIRE(entries);
    REQUIRE(entries->size() == expected->size());
    for (std::size_t i = 0; i < entries->size(); ++i) {
      const Entry& entry = (*entries)[i];
      CHECK(entry.kind == (*expected)[i].kind);
      CHECK(entry.variant == (*expected)[i].variant);
      CHECK(entry.architecture == (*expected)[i].architecture);
      const auto code = decompress(entry);
      REQUIRE(code);
      CHECK(code->size() == entry.plain_bytes);
      if (entry.kind == Kind::kCubin) {
        CHECK(text(*code) == text(*decompress((*expected)[i])));
        CHECK(image_kind(*code) == ImageKind::kElf);
      } else {  // without compression the padding is part of the payload
        const auto whole = text(*decompress((*expected)[i]));
        CHECK(std::string(text(*code).c_str()) == std::string(whole.c_str()));
        CHECK(text(*code).find(".version") != std::string::npos);
      }
    }
  }
}

TEST_CASE("Both compressions are really met by these tests") {
  auto uses = [](const char* mode, Compression compression) {
    const auto bytes = image(mode);
    const auto entries = list(bytes).value();
    for (const Entry& entry : entries) {
      if (entry.compression == compression) return true;
    }
    return false;
  };
  CHECK(uses("speed.fatbin", Compression::kLz4));
  CHECK(uses("all.fatbin", Compression::kZstd));
  CHECK_FALSE(uses("none.fatbin", Compression::kZstd));
}

TEST_CASE("A filtered container holds only what the device can use") {
  struct Expected {
    unsigned major, minor;
    std::size_t cubins;
    std::vector<std::uint32_t> ptx;
  };
  const Expected table[] = {
      {9, 0, 2, {90}},   // sm_90, sm_90a, PTX of 9.0a
      {8, 9, 1, {80}},   // sm_80 runs on 8.9
      {7, 5, 0, {75}},   // PTX only
      {7, 0, 0, {}},     // nothing
      {10, 3, 1, {80}},  // sm_100f within its family; the PTX of 9.0a is no use elsewhere
      {12, 0, 0, {80}},
  };
  for (const char* mode : kModes) {
    const auto whole = image(mode);
    for (const Expected& row : table) {
      INFO(mode << " for " << row.major << "." << row.minor);
      const auto kept = filter(whole, row.major, row.minor);
      REQUIRE(kept);
      CHECK(kept->size() < whole.size());
      CHECK(*image_size(kept->data()) == kept->size());
      const auto entries = list(*kept);
      REQUIRE(entries);
      std::size_t cubins = 0;
      std::vector<std::uint32_t> ptx;
      for (const Entry& entry : *entries) {
        if (entry.kind == Kind::kCubin) ++cubins;
        if (entry.kind == Kind::kPtx) ptx.push_back(entry.architecture);
        CHECK(decompress(entry));
      }
      CHECK(cubins == row.cubins);
      CHECK(ptx == row.ptx);
    }
  }
}

TEST_CASE("Where only cubins fit, what reads PTX only gets the oldest newer PTX") {
  const auto whole = image(kModes[0]);
  const auto entries = list(whole);
  REQUIRE(entries);
  std::vector<Entry> chosen;
  const auto add = [&](Kind kind, std::uint32_t architecture, Variant variant) {
    Entry entry;
    entry.kind = kind;
    entry.architecture = architecture;
    entry.variant = variant;
    chosen.push_back(entry);
  };
  add(Kind::kPtx, 120, Variant::kPlain);
  add(Kind::kPtx, 100, Variant::kPlain);
  add(Kind::kPtx, 100, Variant::kExact);
  CHECK(substitute(chosen, 9, 0) == 0);  // the device itself could not run it
  add(Kind::kCubin, 90, Variant::kPlain);
  CHECK(substitute(chosen, 9, 0) == 100);
  CHECK(substitute(chosen, 8, 0) == 0);
  add(Kind::kPtx, 80, Variant::kPlain);
  CHECK(substitute(chosen, 9, 0) == 0);
}

TEST_CASE("Images that are no container pass the filter unchanged") {
  for (const char* name : {"kernels.cubin", "kernels.ptx"}) {
    const auto bytes = image(name);
    const auto kept = filter(bytes, 9, 0);
    REQUIRE(kept);
    CHECK(text(*kept) == text(bytes));
  }
}

TEST_CASE("The size of an image is found from its address alone") {
  for (const char* name : {"none.fatbin", "all.fatbin", "kernels.cubin"}) {
    INFO(name);
    auto bytes = image(name);
    const std::size_t size = bytes.size();
    bytes.resize(size + 64);  // what follows does not count
    CHECK(*image_size(bytes.data()) == size);
  }
  auto ptx = image("kernels.ptx");
  const std::size_t length = text(ptx).c_str() == text(ptx) ? ptx.size() : std::strlen(text(ptx).c_str());
  ptx.push_back(std::byte{0});
  CHECK(*image_size(ptx.data()) == length + 1);
  CHECK(*image_size("") == 1);
  CHECK_FALSE(image_size(nullptr));
}

TEST_CASE("A wrapper leads to its container") {
  const auto bytes = image("all.fatbin");
  struct {
    std::uint32_t magic = kWrapperMagic, version = 1;
    const void* data;
    const void* prelinked = nullptr;
  } wrapper;
  wrapper.data = bytes.data();
  const auto found = container(&wrapper);
  REQUIRE(found);
  CHECK(found->data() == bytes.data());
  CHECK(found->size() == bytes.size());
  CHECK(*image_size(&wrapper) == bytes.size());
  CHECK(container(bytes.data())->size() == bytes.size());
  wrapper.data = nullptr;
  CHECK_FALSE(container(&wrapper));
  wrapper.magic = 7;
  CHECK_FALSE(container(&wrapper));
}

TEST_CASE("A container that lies about its sizes is refused") {
  const auto good = image("all.fatbin");
  auto refused = [&](std::size_t offset, auto value) {
    auto bad = good;
    store(bad, offset, value);
    return !list(bad);
  };
  CHECK(refused(0, std::uint32_t{1}));                 // magic
  CHECK(refused(6, std::uint16_t{15}));                // container header too short
  CHECK(refused(8, std::uint64_t{good.size() - 15}));  // one byte more than there is
  CHECK(refused(8, ~std::uint64_t{0}));
  CHECK(refused(16 + 4, std::uint32_t{63}));  // entry header too short
  CHECK(refused(16 + 4, ~std::uint32_t{0}));
  CHECK(refused(16 + 8, ~std::uint64_t{0}));      // payload
  CHECK(refused(16 + 16, ~std::uint32_t{0}));     // compressed to more than the payload
  CHECK(refused(16 + 56, kMaxEntryBytes + 1));    // decompresses to more than the limit
  CHECK_FALSE(refused(16 + 56, kMaxEntryBytes));  // within the limit: found out later
  for (std::size_t bytes : {0, 1, 15, 16, 17, 79, 80, 100}) {
    CHECK_FALSE(list(std::span(good).first(bytes)));
  }
}

TEST_CASE("An entry that decompresses to another size is refused") {
  for (const char* mode : {"speed.fatbin", "all.fatbin"}) {
    const auto bytes = image(mode);
    const auto entries = list(bytes).value();
    for (Entry entry : entries) {
      if (entry.compression == Compression::kNone) continue;
      ++entry.plain_bytes;
      CHECK_FALSE(decompress(entry));
      entry.plain_bytes -= 2;
      CHECK_FALSE(decompress(entry));
      entry.plain_bytes += 1;
      entry.payload = entry.payload.first(entry.payload.size() / 2);
      CHECK_FALSE(decompress(entry));
    }
  }
}

TEST_CASE("Mutants are listed, filtered and decompressed without harm") {
  std::mt19937_64 random(20);
  for (const char* mode : {"speed.fatbin", "all.fatbin"}) {
    const auto good = image(mode);
    for (int round = 0; round < 2000; ++round) {
      auto bad = good;
      const int changes = 1 + static_cast<int>(random() % 4);
      for (int i = 0; i < changes; ++i) {
        // Headers are where the danger is: half of the changes go to the first 200 bytes.
        const std::size_t place = random() % (random() % 2 ? 200 : bad.size());
        bad[place] = static_cast<std::byte>(random());
      }
      if (random() % 4 == 0) bad.resize(random() % bad.size());
      if (const auto kept = filter(bad, 9, 0)) {
        const auto entries = list(*kept);
        if (!entries) continue;
        for (const Entry& entry : *entries) {
          if (entry.plain_bytes <= (std::uint64_t{1} << 24)) (void)decompress(entry);
        }
      }
    }
  }
  SUCCEED();
}

}  // namespace avec::fatbin
