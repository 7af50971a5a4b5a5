// Copies between host memory, pageable and pinned, and the device, 4 B to 256 MiB.
#include <algorithm>
#include <cstring>
#include <optional>
#include <random>

#include "driver.h"
#include "peer.h"
#include "shape.h"

namespace avec::bench {
namespace {

constexpr std::uint64_t kSizes[] = {4,        64,       1u << 10,  16u << 10, 64u << 10, 256u << 10,
                                    1u << 20, 4u << 20, 16u << 20, 64u << 20, 256u << 20};

void fill(MutableBytes data, std::uint64_t seed) {
  std::minstd_rand random(static_cast<unsigned>(seed * 2654435761u + 1));
  for (std::size_t i = 0; i < data.size(); i += 61) data[i] = static_cast<std::byte>(random());
}

// Those wished for, or all; over a slow link those that take no longer than a second.
std::vector<std::uint64_t> sizes(const Options& options) {
  std::vector<std::uint64_t> wished(std::begin(kSizes), std::end(kSizes));
  if (!options.sizes.empty()) wished = options.sizes;
  if (const auto shape = parse_shape(options.shape); shape && shape->bytes_per_second != 0)
    std::erase_if(wished, [&](std::uint64_t bytes) { return bytes > shape->bytes_per_second; });
  if (wished.empty()) fail("no size is left that this link moves in a second");
  return wished;
}

// Host memory of one kind: what a program copies from and to.
class HostMemory {
 public:
  HostMemory(Driver& driver, bool pinned, std::size_t bytes) : driver_(driver), bytes_(bytes) {
    if (!pinned) {
      pageable_.assign(bytes, std::byte{1});
      data_ = pageable_.data();
      return;
    }
    void* memory = nullptr;
    AVEC_CHECK(driver_.host_alloc(&memory, bytes, 0));
    pinned_ = memory;
    data_ = static_cast<std::byte*>(memory);
    std::memset(data_, 1, bytes);
  }
  ~HostMemory() {
    if (pinned_ != nullptr) (void)driver_.host_free(pinned_);
  }
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;
  MutableBytes first(std::size_t bytes) { return {data_, std::min(bytes, bytes_)}; }

 private:
  Driver& driver_;
  const std::size_t bytes_;
  std::vector<std::byte> pageable_;
  void* pinned_ = nullptr;
  std::byte* data_ = nullptr;
};

struct Samples {
  std::vector<double> returned, arrived, fetched, yardstick;
  bool verified = true;
};

Samples copy_often(const Options& options, Driver& driver, CUdeviceptr device, MutableBytes from,
                   MutableBytes into, RawStream* stream) {
  const auto bytes = from.size();
  const auto n = options.samples(std::clamp<std::uint64_t>((1u << 30) / bytes, 7, 2000));
  const auto warm = std::min<std::uint64_t>(n, bytes < (1u << 20) ? 20 : 1);
  Samples samples;
  for (std::uint64_t i = 0; i < n + warm; ++i) {
    fill(from, i + bytes);
    const double yardstick = stream != nullptr ? stream->sample() : 0;
    const auto start = now_ns();
    AVEC_CHECK(driver.to_device(device, from.data(), bytes));
    const auto returned = now_ns();
    AVEC_CHECK(driver.context_synchronize());
    const auto done = now_ns();
    AVEC_CHECK(driver.from_device(into.data(), device, bytes));
    const auto end = now_ns();
    samples.verified = samples.verified && std::memcmp(from.data(), into.data(), bytes) == 0;
    if (i < warm) continue;
    if (stream != nullptr) samples.yardstick.push_back(yardstick);
    samples.returned.push_back(static_cast<double>(returned - start) / 1e3);
    samples.arrived.push_back(static_cast<double>(done - start) / 1e3);
    samples.fetched.push_back(static_cast<double>(end - done) / 1e3);
  }
  return samples;
}

}  // namespace

// The yardstick's samples alternate with the largest copies: a machine has moods, and both see
// the same ones.
void measure_copies(const Options& options) {
  const auto all = sizes(options);
  const auto largest = *std::max_element(all.begin(), all.end());
  std::optional<RawStream> stream;
  if (options.target == "avec") stream.emplace(options, largest);
  Driver driver(options);
  driver.open();
  CUdeviceptr device{};
  AVEC_CHECK(driver.mem_alloc(&device, largest));
  for (const bool pinned : {false, true}) {
    HostMemory from(driver, pinned, largest), into(driver, pinned, largest);
    std::vector<Row> rows;
    const std::string kind = pinned ? "copy.pinned." : "copy.";
    for (const auto bytes : all) {
      auto* beside = bytes == largest && !pinned && stream ? &*stream : nullptr;
      const auto samples = copy_often(options, driver, device, from.first(bytes), into.first(bytes), beside);
      const auto keep = [&](const std::string& name, const std::vector<double>& times) {
        auto row = summarise(name, "us", times);
        row.bytes = bytes;
        row.verified = samples.verified;
        rows.push_back(std::move(row));
      };
      if (beside != nullptr) {
        auto row = summarise("raw.stream", "us", samples.yardstick);
        row.bytes = bytes;
        row.target = "raw";
        emit(options, row);
      }
      keep(kind + "to_device_returns", samples.returned);
      keep(kind + "to_device", samples.arrived);
      keep(kind + "from_device", samples.fetched);
    }
    for (const auto& row : rows) emit(options, row);
  }
  AVEC_CHECK(driver.mem_free(device));
}

}  // namespace avec::bench
