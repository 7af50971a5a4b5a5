#include "shape.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <optional>
#include <span>

namespace avec::bench {
namespace {

using std::chrono::nanoseconds;

struct Preset {
  std::string_view name, shape;
};
// What a program sees on a good day: payload rates, round trips without load.
constexpr Preset kPresets[] = {
    {"ethernet-1g", "rtt=200us,rate=940mbit"},   {"ethernet-10g", "rtt=100us,rate=9400mbit"},
    {"wifi6", "rtt=4ms,rate=600mbit,loss=0.1%"}, {"5g", "rtt=15ms,rate=300mbit,loss=0.1%"},
    {"4g", "rtt=45ms,rate=40mbit,loss=0.5%"},
};

struct Unit {
  std::string_view name;
  double factor;
};
constexpr Unit kTimes[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}};
constexpr Unit kRates[] = {{"bit", 1}, {"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}};
constexpr Unit kShares[] = {{"%", 0.01}};
constexpr Unit kSizes[] = {{"", 1}, {"k", 1024}, {"m", 1048576}};

constexpr double kMostSeconds = 60, kMostBits = 1e12, kMostBytes = 1e9;

// A number with one of the units, or none: not such a number.
std::optional<double> amount(std::string_view text, std::span<const Unit> units) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !std::isfinite(value) || value < 0) return std::nullopt;
  const std::string_view rest(end, static_cast<std::size_t>(text.data() + text.size() - end));
  for (const auto& unit : units) {
    if (rest == unit.name) return value * unit.factor;
  }
  return std::nullopt;
}

// Applies "key=value"; false when it is not understood.
bool apply(sim::Shape& shape, std::string_view key, std::string_view value) {
  const auto time = [&](nanoseconds& into) {
    const auto found = amount(value, kTimes);
    if (!found || *found > kMostSeconds * 1e9) return false;
    into = nanoseconds(std::llround(*found));
    return true;
  };
  if (key == "rtt") return time(shape.round_trip);
  if (key == "retransmission") return time(shape.retransmission);
  if (key == "rate") {
    const auto found = amount(value, kRates);
    if (!found || *found < 1000 || *found > kMostBits) return false;
    shape.bytes_per_second = static_cast<std::uint64_t>(std::llround(*found / 8));
    return true;
  }
  if (key == "loss") {
    const auto found = value == "0" ? std::optional(0.0) : amount(value, kShares);
    if (!found || *found > 0.5) return false;
    shape.loss = *found;
    return true;
  }
  if (key == "window") {
    const auto found = amount(value, kSizes);
    if (!found || *found < kSegmentBytes || *found > kMostBytes) return false;
    shape.window_bytes = static_cast<std::size_t>(*found);
    return true;
  }
  return false;
}

std::string number(double value, std::span<const Unit> units) {
  const Unit* best = &units.front();
  for (const auto& unit : units) {
    if (value >= unit.factor) best = &unit;
  }
  char text[48];
  std::snprintf(text, sizeof text, "%g%.*s", value / best->factor, static_cast<int>(best->name.size()),
                best->name.data());
  return text;
}

std::string not_a_shape(std::string_view part) {
  std::string text = "'";
  text.append(part).append(
      "' is no shape of a link; write rtt=5ms, rate=100mbit, loss=0.1%, retransmission=20ms, window=512k, or "
      "begin "
      "with a preset: ");
  return text.append(shape_presets());
}

}  // namespace

std::expected<sim::Shape, std::string> parse_shape(std::string_view text) {
  sim::Shape shape;
  shape.retransmission = nanoseconds(0);
  shape.window_bytes = 0;
  shape.segment_bytes = kSegmentBytes;
  if (text.empty() || text == "none") return shape;
  for (bool first = true; !text.empty(); first = false) {
    const auto comma = text.find(',');
    const auto part = text.substr(0, comma);
    text = comma == text.npos ? std::string_view() : text.substr(comma + 1);
    const auto equals = part.find('=');
    const auto* preset = std::find_if(std::begin(kPresets), std::end(kPresets),
                                      [&](const Preset& one) { return one.name == part; });
    if (first && preset != std::end(kPresets)) {
      const auto meant = parse_shape(preset->shape);
      if (!meant) return meant;
      shape = *meant;
    } else if (equals == part.npos || !apply(shape, part.substr(0, equals), part.substr(equals + 1))) {
      return std::unexpected(not_a_shape(part));
    }
  }
  return shape;
}

std::string shape_presets() {
  std::string text;
  for (const auto& preset : kPresets) {
    if (!text.empty()) text.append("; ");
    text.append(preset.name).append(" (").append(preset.shape).append(")");
  }
  return text;
}

std::string to_string(const sim::Shape& shape) {
  std::string text;
  const auto add = [&](std::string_view key, const std::string& value) {
    if (!text.empty()) text.append(",");
    text.append(key).append("=").append(value);
  };
  if (shape.round_trip.count() > 0) add("rtt", number(static_cast<double>(shape.round_trip.count()), kTimes));
  if (shape.bytes_per_second > 0)
    add("rate", number(static_cast<double>(shape.bytes_per_second) * 8, kRates));
  if (shape.loss > 0) add("loss", number(shape.loss, kShares));
  if (shape.retransmission.count() > 0)
    add("retransmission", number(static_cast<double>(shape.retransmission.count()), kTimes));
  if (shape.window_bytes > 0) add("window", std::to_string(shape.window_bytes));
  return text.empty() ? "none" : text;
}

bool shapes(const sim::Shape& shape) {
  return shape.round_trip.count() > 0 || shape.bytes_per_second > 0 || shape.loss > 0;
}

Line::Time Line::out(Time now, std::size_t bytes, bool followed) {
  nanoseconds takes{};
  if (shape_.bytes_per_second > 0) {
    takes = nanoseconds(
        static_cast<std::int64_t>(static_cast<double>(bytes) * 1e9 / static_cast<double>(shape_.bytes_per_second)));
  }
  Bandwidth& bandwidth = shared_ != nullptr ? *shared_ : own_;
  bandwidth.free = std::max(now, bandwidth.free) + takes;
  // A connection that is not open yet keeps the link from nobody.
  auto arrival = std::max(bandwidth.free, open_ + takes) + added_;
  if (shape_.loss > 0) {
    // Of the segments of these bytes; a second loss among them costs no further round trip.
    const auto segments = static_cast<double>((bytes + kSegmentBytes - 1) / kSegmentBytes);
    const double lost = 1 - std::pow(1 - shape_.loss, segments);
    if (std::uniform_real_distribution<double>()(random_) < lost) {
      arrival += retransmission(followed);
      ++lost_;
    }
  }
  last_ = std::max(last_, arrival);  // in order
  return last_;
}

nanoseconds Line::retransmission(bool followed) const {
  if (shape_.retransmission.count() > 0) return shape_.retransmission;
  if (followed) return std::max(shape_.round_trip, nanoseconds(std::chrono::milliseconds(1)));
  return std::max(2 * shape_.round_trip, nanoseconds(std::chrono::milliseconds(10)));
}

std::size_t Line::grain() const {
  if (shape_.bytes_per_second == 0) return 64 << 10;
  return std::clamp<std::size_t>(shape_.bytes_per_second / 4000, kSegmentBytes, 64 << 10);  // 250 us
}

std::size_t Line::window() const {
  if (shape_.window_bytes > 0) return shape_.window_bytes;
  const double product =
      static_cast<double>(shape_.bytes_per_second) * std::chrono::duration<double>(shape_.round_trip).count();
  if (shape_.bytes_per_second == 0) return 16 << 20;
  return std::clamp<std::size_t>(static_cast<std::size_t>(2 * product), 256 << 10, 64 << 20);
}

}  // namespace avec::bench
