// Copies between ordinary host memory and the device, 4 B to 256 MiB.
#include <algorithm>
#include <cstring>
#include <random>

#include "driver.h"

namespace avec::bench {
namespace {

constexpr std::size_t kSizes[] = {4,         64,      1u << 10, 16u << 10, 64u << 10, 256u << 10,
                                  1u << 20, 4u << 20, 16u << 20, 64u << 20, 256u << 20};

void fill(std::vector<std::byte>& data, std::size_t bytes, std::uint64_t seed) {
  std::minstd_rand random(static_cast<unsigned>(seed * 2654435761u + 1));
  for (std::size_t i = 0; i < bytes; i += 61) data[i] = static_cast<std::byte>(random());
}

}  // namespace

void measure_copies(const Options& options) {
  Driver driver(options);
  driver.open();
  CUdeviceptr device{};
  const auto largest = *std::max_element(std::begin(kSizes), std::end(kSizes));
  AVEC_CHECK(driver.mem_alloc(&device, largest));
  std::vector<std::byte> from(largest, std::byte{1}), into(largest, std::byte{2});
  for (const auto bytes : kSizes) {
    const auto n = options.samples(std::clamp<std::uint64_t>((1u << 30) / bytes, 5, 2000));
    const auto warm = std::min<std::uint64_t>(n, bytes < (1u << 20) ? 20 : 1);
    std::vector<double> back, arrived, fetched;
    bool verified = true;
    for (std::uint64_t i = 0; i < n + warm; ++i) {
      fill(from, bytes, i + bytes);
      const auto start = now_ns();
      AVEC_CHECK(driver.to_device(device, from.data(), bytes));
      const auto returned = now_ns();
      AVEC_CHECK(driver.context_synchronize());
      const auto done = now_ns();
      AVEC_CHECK(driver.from_device(into.data(), device, bytes));
      const auto end = now_ns();
      verified = verified && std::memcmp(from.data(), into.data(), bytes) == 0;
      if (i < warm) continue;
      back.push_back(static_cast<double>(returned - start) / 1e3);
      arrived.push_back(static_cast<double>(done - start) / 1e3);
      fetched.push_back(static_cast<double>(end - done) / 1e3);
    }
    const auto report = [&](const char* name, std::vector<double> times) {
      auto row = summarise(name, "us", std::move(times));
      row.bytes = bytes;
      row.verified = verified;
      emit(options, row);
    };
    report("copy.to_device_returns", std::move(back));
    report("copy.to_device", std::move(arrived));
    report("copy.from_device", std::move(fetched));
  }
  AVEC_CHECK(driver.mem_free(device));
}

}  // namespace avec::bench
