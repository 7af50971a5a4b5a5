// sim: links inside this process, for tests. "sim://NAME" reaches the listener of that name in
// the same SimNetwork. A network has a clock, shapes its links, and breaks them on request.
//
// In virtual time nothing takes time but what the links say: the clock jumps to the next
// arrival or deadline as soon as every party waits. A party is the thread that last drove a
// connection's end; the two ends may be driven by one thread or by two. A party that spins
// on receive() without ever waiting therefore stops the clock (use wait modes that sleep). An
// end belongs to the thread that connected or accepted it until another one drives it; who
// gives it to another thread says so with hand_over().
// The same seed and the same program give the same trace, provided that round_trip > 0
// where two threads drive the ends.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "avec/transport.h"

namespace avec::sim {

class Context;

enum class Clock : std::uint8_t { kReal, kVirtual };

/// The two directions of a link, named by who sends.
enum class Direction : std::uint8_t { kFromClient, kFromServer };

/// How a link carries bytes. Each direction on its own.
struct Shape {
  std::chrono::nanoseconds round_trip{0};
  std::uint64_t bytes_per_second = 0;  ///< 0: no limit
  /// Chance that a segment is lost and comes `retransmission` later; those behind it wait.
  double loss = 0;
  std::chrono::nanoseconds retransmission = std::chrono::milliseconds(200);
  /// Bytes of one segment: the grain of arrival and of loss.
  std::size_t segment_bytes = 64 << 10;
  /// Bytes that send() accepts and the peer has not received; beyond, it would block.
  std::size_t window_bytes = 4 << 20;
};

/// One-sided access (avec/one_sided.h), as different transports have it.
enum class OneSidedKind : std::uint8_t {
  kNone,          ///< payload travels in the stream
  kAsynchronous,  ///< read() and write(): they take the link's time, and are visible when that has passed
  kMapped         ///< mapped(): allocated memory itself; add() is kNotViable, read() and write() too
};

struct OneSidedOptions {
  OneSidedKind kind = OneSidedKind::kNone;
  /// Writes take the stream's way, and so come before what is sent after them. Otherwise they
  /// take a way of their own and become visible as late as they may: with their completion.
  bool ordered = false;
  std::size_t slots_up_to = 0;
  std::size_t add_from = SIZE_MAX;
  /// Accesses of one end under way; one more would block.
  std::size_t max_under_way = 64;
  /// add_device(): what a dma-buf stands for is any descriptor that can be mapped, as a memfd.
  bool device_memory = false;
};

/// What goes wrong on a link, decided when it is connected.
struct Faults {
  /// The link breaks once exactly so many bytes of that direction have been received; both
  /// ends see kReset from then on, and what is in flight is lost.
  std::optional<std::uint64_t> reset_from_client_at, reset_from_server_at;
  /// send() and receive() move 1 to so many bytes, by the seed; 0: all that fits.
  std::size_t short_io_bytes = 0;
  /// One-sided accesses of the link are counted from 0, those of both ends together: this one
  /// fails, having moved nothing; in the middle of this one the link breaks.
  std::optional<std::uint64_t> fail_access, reset_in_access;
};

struct NetworkOptions {
  Clock clock = Clock::kReal;
  std::uint64_t seed = 1;
  Shape shape;
  Faults faults;
  /// Off: a session over sim can be resumed, which no one-sided access can.
  OneSidedOptions one_sided;
  /// Virtual time: a party that neither waits nor does anything for so long is passed over,
  /// so that a test fails instead of hanging. Real time.
  std::chrono::milliseconds stuck_after{2000};
};

/// One line of the trace.
struct TraceEvent {
  enum class Kind : std::uint8_t { kConnect, kAccept, kSend, kReceive, kLoss, kReset, kClose, kPassedOver };
  std::chrono::nanoseconds time{0};        ///< since the network was made
  std::uint32_t link = 0;                  ///< number of the link, from 0
  Direction end = Direction::kFromClient;  ///< whose doing it is
  std::uint32_t step = 0;                  ///< counts the events of this end
  Kind kind = Kind::kConnect;
  std::uint64_t bytes = 0;

  auto operator<=>(const TraceEvent&) const = default;
};
std::string to_string(const TraceEvent& event);

/// A network of its own. Cheap to copy: copies are the same network, and its connections and
/// listeners keep it alive. Every function may be called from any thread.
class SimNetwork {
 public:
  explicit SimNetwork(NetworkOptions options = {});

  /// As Transport::connect and Transport::listen. Connecting takes a round trip.
  ConnectResult connect(std::string_view url, Deadline deadline) noexcept;
  ListenResult listen(std::string_view url) noexcept;

  /// Now, for deadlines. With a virtual clock: before time_point{}, so that it cannot be
  /// taken for a time of the real clock. A deadline of the real clock is understood too: what
  /// is left of it, in virtual time.
  Deadline now() const noexcept;
  /// Virtual time since the network was made (or real time).
  std::chrono::nanoseconds elapsed() const noexcept;

  /// For the links connected from now on.
  void set_shape(const Shape& shape);
  void set_faults(const Faults& faults);
  void set_one_sided(const OneSidedOptions& one_sided);
  /// For the next link alone, in preference to set_faults.
  void set_next_faults(const Faults& faults);
  /// The next `count` connects are refused.
  void refuse_connects(unsigned count);

  /// How many links have been connected so far; the next one gets this number.
  std::uint32_t links() const;
  /// Breaks a link now.
  void reset(std::uint32_t link);
  /// Breaks every open link now.
  void reset_all();
  /// Holds back what `direction` carries, orderly ends too, until it is let go again. To the
  /// sender: a peer that does not read.
  void stall(std::uint32_t link, Direction direction, bool held);
  /// The next thread that drives this end is its party; until then the virtual clock stands.
  void hand_over(std::uint32_t link, Direction end);
  /// Both directions, for ever: a peer that vanished without a word.
  void vanish(std::uint32_t link);

  /// What happened so far, sorted by time, link and end.
  std::vector<TraceEvent> trace() const;

 private:
  std::shared_ptr<Context> context_;
};

/// A Transport over `network`, to be registered under `scheme` (other than "sim", which is
/// taken by the default network).
std::unique_ptr<Transport> make_transport(SimNetwork network, std::string scheme);

/// The network behind "sim://" of the registry: real clock, no shaping until set_shape.
SimNetwork default_network();
std::unique_ptr<Transport> make_default_transport();

}  // namespace avec::sim
