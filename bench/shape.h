// The shape of a link: what "rtt=5ms,rate=100mbit,loss=0.1%" means, and when bytes that enter
// such a link come out of it. The terms are those of the sim transport.
#pragma once

#include <chrono>
#include <cstddef>
#include <random>
#include <string>
#include <string_view>

#include "base/result.h"
#include "transport/sim/factory.h"

namespace avec::bench {

/// A preset ("wifi6"), or keys after it or alone: rtt=TIME, rate=BITS per second (kbit, mbit,
/// gbit), loss=PERCENT%, retransmission=TIME, window=BYTES (k, m). "none" or "": no shaping.
/// The error is a sentence that says what to write.
/// `retransmission` of the result is 0 where it was not given: Line then decides.
std::expected<sim::Shape, std::string> parse_shape(std::string_view text);

/// The presets' names and what they stand for, as text for --help.
std::string shape_presets();

/// "rtt=5ms,rate=100mbit,loss=0.1%"; "none" when nothing is shaped.
std::string to_string(const sim::Shape& shape);

/// True when the shape does something.
bool shapes(const sim::Shape& shape);

/// Bytes per TCP segment, the grain of loss.
inline constexpr std::size_t kSegmentBytes = 1448;

/// What the connections over a link share in one direction: its rate.
struct Bandwidth {
  std::chrono::steady_clock::time_point free{};  ///< when the last byte so far has left
};

/// One direction of a connection over a shaped link: a token bucket that lets bytes out at the link's rate, half a
/// round trip of delay, and loss as TCP shows it to a program, which is never as missing bytes:
/// the lost segment, and all that is behind it, come one round trip later when others follow
/// closely (fast retransmit), two round trips and at least 10 ms later when nothing does (tail
/// loss probe). That a sender slows down after a loss is not modelled.
class Line {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// `added` is the delay of half a round trip that the line must add. `shared`, which outlives the
  /// line: the rate is that of all lines over it together; null: this one has the link to itself.
  Line(const sim::Shape& shape, std::chrono::nanoseconds added, std::uint64_t seed, Bandwidth* shared = nullptr)
      : shape_(shape), added_(added), shared_(shared), random_(static_cast<unsigned>(seed * 2 + 1)) {}

  /// When `bytes` that enter at `now` have come out, all of them. `followed`: others are close behind.
  Time out(Time now, std::size_t bytes, bool followed);
  /// Nothing enters before: the round trip of the connection's handshake.
  void open_at(Time time) { open_ = time; }
  /// Segments lost so far.
  std::uint64_t lost() const { return lost_; }

  /// How many bytes to schedule at once, so that a slow line lets them out evenly.
  std::size_t grain() const;
  /// How many bytes a sender may have under way: what the link itself holds, and a router's buffer.
  std::size_t window() const;

 private:
  std::chrono::nanoseconds retransmission(bool followed) const;

  const sim::Shape shape_;
  const std::chrono::nanoseconds added_;
  Bandwidth own_;
  Bandwidth* const shared_;
  Time open_{};
  Time last_{};  // when it has arrived
  std::uint64_t lost_ = 0;
  std::minstd_rand random_;
};

}  // namespace avec::bench
