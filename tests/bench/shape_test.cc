#include "shape.h"

#include "support/catch.h"

namespace avec::bench {
namespace {

using namespace std::chrono_literals;

const Line::Time kStart = Line::Time(1000s);

TEST_CASE("a shape is written as times, bits per second and percent") {
  const auto shape = parse_shape("rtt=5ms,rate=100mbit,loss=0.1%,retransmission=20ms,window=512k");
  REQUIRE(shape.has_value());
  CHECK(shape->round_trip == 5ms);
  CHECK(shape->bytes_per_second == 12'500'000);
  CHECK(shape->loss == Approx(0.001));
  CHECK(shape->retransmission == 20ms);
  CHECK(shape->window_bytes == 512u << 10);
  CHECK(parse_shape("rtt=1.5us")->round_trip == 1500ns);
  CHECK(parse_shape("rate=2.5gbit")->bytes_per_second == 312'500'000);
  CHECK(parse_shape("rate=64kbit")->bytes_per_second == 8000);
}

TEST_CASE("a preset is a shape, and keys after it change it") {
  const auto shape = parse_shape("4g,loss=0");
  REQUIRE(shape.has_value());
  CHECK(shape->round_trip == 45ms);
  CHECK(shape->loss == 0);
  for (const char* name : {"ethernet-1g", "ethernet-10g", "wifi6", "5g", "4g"}) {
    CAPTURE(name);
    const auto preset = parse_shape(name);
    REQUIRE(preset.has_value());
    CHECK(shapes(*preset));
    CHECK(shape_presets().find(name) != std::string::npos);
  }
}

TEST_CASE("no shape is one too") {
  for (const char* text : {"", "none"}) {
    const auto shape = parse_shape(text);
    REQUIRE(shape.has_value());
    CHECK_FALSE(shapes(*shape));
  }
}

TEST_CASE("what is no shape is refused with the word that is wrong and the presets") {
  for (const char* text : {"rtt", "rtt=", "rtt=5", "rtt=-5ms", "rtt=5mss", "rtt=61s", "rate=5", "rate=5mb",
                           "rate=999bit", "loss=3", "loss=51%", "window=1k", "window=2g", "speed=1mbit", "6g",
                           "rtt=5ms,4g", ",", "rtt=nanms"}) {
    CAPTURE(text);
    const auto shape = parse_shape(text);
    REQUIRE_FALSE(shape.has_value());
    CHECK(shape.error().find("wifi6") != std::string::npos);
  }
  CHECK(parse_shape("rtt=60s").has_value());
  CHECK(parse_shape("rate=1000bit").has_value());
  CHECK(parse_shape("loss=50%").has_value());
}

TEST_CASE("a printed shape reads as the same shape") {
  for (const char* text : {"rtt=5ms,rate=100mbit,loss=0.1%", "wifi6", "rate=1gbit,window=65536", "none",
                           "rtt=250us,retransmission=30ms"}) {
    CAPTURE(text);
    const auto shape = parse_shape(text);
    const auto again = parse_shape(to_string(*shape));
    REQUIRE(again.has_value());
    CHECK(to_string(*again) == to_string(*shape));
    CHECK(again->round_trip == shape->round_trip);
    CHECK(again->bytes_per_second == shape->bytes_per_second);
  }
}

TEST_CASE("a line delays by what it is told and lets bytes out at its rate") {
  Line line(*parse_shape("rtt=10ms,rate=8mbit"), 5ms, 1);
  CHECK(line.out(kStart, 1000, true) == kStart + 1ms + 5ms);
  // Those behind wait until the line is free.
  CHECK(line.out(kStart, 1000, true) == kStart + 2ms + 5ms);
  CHECK(line.out(kStart + 10ms, 1000, true) == kStart + 11ms + 5ms);
}

TEST_CASE("a line without a rate only delays") {
  Line line(*parse_shape("rtt=10ms"), 5ms, 1);
  CHECK(line.out(kStart, 1 << 30, true) == kStart + 5ms);
}

TEST_CASE("nothing comes out before the line is open") {
  Line line(*parse_shape("rtt=10ms"), 5ms, 1);
  line.open_at(kStart + 10ms);
  CHECK(line.out(kStart, 1, true) == kStart + 15ms);
}

TEST_CASE("loss delays, never drops, and keeps the order") {
  Line line(*parse_shape("rtt=10ms,loss=50%"), 5ms, 7);
  auto last = kStart;
  unsigned late = 0;
  constexpr unsigned kCount = 2000;
  for (unsigned i = 0; i < kCount; ++i) {
    const auto now = kStart + i * 100ms;
    const auto out = line.out(now, kSegmentBytes, true);
    CHECK(out >= last);
    if (out - now > 5ms) {
      CHECK(out - now == 15ms);  // one round trip later: others follow
      ++late;
    }
    last = out;
  }
  CHECK(late == line.lost());
  CHECK(late > kCount * 45 / 100);
  CHECK(late < kCount * 55 / 100);
}

TEST_CASE("the last of a burst is missed later than one that others follow") {
  const auto delay = [](const char* shape, bool followed) {
    Line line(*parse_shape(shape), 0ms, 1);
    for (auto now = kStart;; now += 1s) {
      const auto out = line.out(now, 1, followed);
      if (line.lost() != 0) return out - now;
    }
  };
  CHECK(delay("rtt=20ms,loss=20%", true) == 20ms);
  CHECK(delay("rtt=20ms,loss=20%", false) == 40ms);
  CHECK(delay("rtt=100us,loss=20%", false) == 10ms);
  CHECK(delay("rtt=20ms,loss=20%,retransmission=3ms", false) == 3ms);
}

TEST_CASE("the same seed loses the same segments") {
  const auto lost = [](std::uint64_t seed) {
    Line line(*parse_shape("rtt=1ms,loss=10%"), 0ms, seed);
    std::vector<bool> late;
    for (unsigned i = 0; i < 200; ++i) {
      const auto now = kStart + i * 1s;
      late.push_back(line.out(now, 1, true) != now);
    }
    return late;
  };
  CHECK(lost(3) == lost(3));
  CHECK(lost(3) != lost(4));
}

TEST_CASE("connections over one link share its rate, and one that is opening takes none of it") {
  const auto shape = *parse_shape("rate=80mbit");  // 10 MB/s
  Bandwidth bandwidth;
  Line one(shape, 0ms, 1, &bandwidth), other(shape, 0ms, 2, &bandwidth);
  auto last = kStart;
  for (int i = 0; i < 50; ++i) last = std::max(one.out(kStart, 10'000, true), other.out(kStart, 10'000, true));
  CHECK(last - kStart == 100ms);
  Line alone(shape, 0ms, 1);
  for (int i = 0; i < 50; ++i) last = alone.out(kStart, 10'000, true);
  CHECK(last - kStart == 50ms);

  Line opening(shape, 0ms, 3, &bandwidth);
  opening.open_at(kStart + 1s);
  CHECK(opening.out(kStart + 200ms, 10'000, true) == kStart + 1s + 1ms);
  CHECK(one.out(kStart + 300ms, 10'000, true) == kStart + 301ms);
}

TEST_CASE("a window holds what the link holds, within limits") {
  CHECK(Line(*parse_shape("rtt=100ms,rate=80mbit"), 0ms, 1).window() == 2'000'000);
  CHECK(Line(*parse_shape("rtt=1us,rate=1mbit"), 0ms, 1).window() == 256u << 10);
  CHECK(Line(*parse_shape("rtt=60s,rate=100gbit"), 0ms, 1).window() == 64u << 20);
  CHECK(Line(*parse_shape("rate=1mbit,window=64k"), 0ms, 1).window() == 64u << 10);
}

}  // namespace
}  // namespace avec::bench
