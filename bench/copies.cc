// Copies between ordinary host memory and the device, 4 B to 256 MiB.
#include <algorithm>
#include <cstring>
#include <random>

#include "driver.h"

namespace avec::bench {
namespace {

constexpr std::size_t kSizes[] = {4,        64,       1u << 10,  16u << 10, 64u << 10, 256u << 10,
                                  1u << 20, 4u << 20, 16u << 20, 64u << 20, 256u << 20};

void fill(std::vector<std::byte>& data, std::size_t bytes, std::uint64_t seed) {
  std::minstd_rand random(static_cast<unsigned>(seed * 2654435761u + 1));
  for (std::size_t i = 0; i < bytes; i += 61) data[i] = static_cast<std::byte>(random());
}

}  // namespace

// The yardstick's samples alternate with the largest copies: a machine has moods, and both see
// the same ones.
void measure_copies(const Options& options) {
  RawStream stream;
  Driver driver(options);
  driver.open();
  CUdeviceptr device{};
  const auto largest = *std::max_element(std::begin(kSizes), std::end(kSizes));
  AVEC_CHECK(driver.mem_alloc(&device, largest));
  std::vector<std::byte> from(largest, std::byte{1}), into(largest, std::byte{2});
  std::vector<double> raw;
  std::vector<Row> rows;
  for (const auto bytes : kSizes) {
    const auto n = options.samples(std::clamp<std::uint64_t>((1u << 30) / bytes, 7, 2000));
    const auto warm = std::min<std::uint64_t>(n, bytes < (1u << 20) ? 20 : 1);
    std::vector<double> back, arrived, fetched;
    bool verified = true;
    for (std::uint64_t i = 0; i < n + warm; ++i) {
      fill(from, bytes, i + bytes);
      const double yardstick = bytes == largest ? stream.sample(from) : 0;
      const auto start = now_ns();
      AVEC_CHECK(driver.to_device(device, from.data(), bytes));
      const auto returned = now_ns();
      AVEC_CHECK(driver.context_synchronize());
      const auto done = now_ns();
      AVEC_CHECK(driver.from_device(into.data(), device, bytes));
      const auto end = now_ns();
      verified = verified && std::memcmp(from.data(), into.data(), bytes) == 0;
      if (i < warm) continue;
      if (bytes == largest) raw.push_back(yardstick);
      back.push_back(static_cast<double>(returned - start) / 1e3);
      arrived.push_back(static_cast<double>(done - start) / 1e3);
      fetched.push_back(static_cast<double>(end - done) / 1e3);
    }
    const auto keep = [&](const char* name, std::vector<double> times) {
      auto row = summarise(name, "us", std::move(times));
      row.bytes = bytes;
      row.verified = verified;
      rows.push_back(std::move(row));
    };
    keep("copy.to_device_returns", std::move(back));
    keep("copy.to_device", std::move(arrived));
    keep("copy.from_device", std::move(fetched));
  }
  AVEC_CHECK(driver.mem_free(device));
  auto yardstick = summarise("raw.stream", "us", std::move(raw));
  yardstick.bytes = RawStream::kBytes;
  Options of_raw = options;
  of_raw.target = "raw";
  emit(of_raw, yardstick);
  for (const auto& row : rows) emit(options, row);
}

}  // namespace avec::bench
