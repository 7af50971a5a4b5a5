// What a transport costs by itself, beside its yardstick: round trips, bandwidth, messages per
// second. Connections to a peer, no frames, no CUDA.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <thread>

#include "one_sided.h"
#include "peer.h"
#include "perftest.h"
#include "session/session.h"
#include "shape.h"

namespace avec::bench {
namespace {

constexpr std::size_t kPingBytes = 64;

struct Sides {
  std::unique_ptr<Peers> raw, avec;  // raw: null where the yardstick is another program
  const std::uint64_t most_raw;      // channels of raw
  explicit Sides(const Options& options)
      : raw(Peers::raw(options)),
        avec(Peers::of_transport(options)),
        most_raw(options.transport == "shm" ? 1 : UINT64_MAX) {}
};

std::vector<std::uint64_t> or_else(const std::vector<std::uint64_t>& wished,
                                   std::vector<std::uint64_t> usual) {
  return wished.empty() ? usual : wished;
}

Row named(std::string_view name, std::string_view target, const Options& options, std::uint64_t bytes) {
  auto row = named_row(name, target, options.transport, "us");
  row.bytes = bytes;
  return row;
}

void command(Channel& channel, const Command& what) {
  if (!channel.send(std::as_bytes(std::span(&what, 1)))) fail("the peer of a measurement is gone");
}

// Round trips of a message of this size; `right` is cleared when a message comes back wrong.
auto pings(Channel& channel, std::size_t bytes, bool check, bool& right) {
  return [&channel, bytes, check, &right, messages = std::make_shared<Messages>(bytes),
          back = std::vector<std::byte>(bytes),
          number = std::uint64_t{0}](std::uint64_t count, std::vector<double>& samples) mutable {
    command(channel, {Command::kEcho, check, bytes, count});
    for (std::uint64_t i = 0; i < count; ++i, ++number) {
      const auto message = messages->numbered(number).front();
      const auto start = now_ns();
      const bool alive = channel.send(message) && channel.receive(back);
      const auto end = now_ns();
      if (!alive) fail("the peer of a measurement is gone");
      right = right && messages->right(back, number, check);
      samples.push_back(static_cast<double>(end - start) / 1e3);
    }
  };
}

// The engine's round trip: a call that does nothing on the executor.
class SessionPings {
 public:
  explicit SessionPings(const Options& options) {
    session::Options wished;
    wished.executor = options.executor;
    wished.program = "avec bench";
    wished.wait_mode = options.wait_mode();
    wished.spin = kSpin;
    auto opened = session::Session::open(std::move(wished), {});
    if (!opened) fail(opened.error().message);
    session_ = std::move(*opened);
    before_ = session_->counters().round_trips;
  }
  ~SessionPings() { session_->close(); }
  void sample(std::uint64_t count, std::vector<double>& samples) {
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto start = now_ns();
      const bool answered = session_->call(wire::Ping(0)).has_value();
      const auto end = now_ns();
      answered_ = answered_ && answered;
      samples.push_back(static_cast<double>(end - start) / 1e3);
    }
    made_ += count;
  }
  bool right() const { return answered_ && session_->counters().round_trips - before_ == made_; }

 private:
  std::shared_ptr<session::Session> session_;
  std::uint64_t before_ = 0, made_ = 0;
  bool answered_ = true;
};

// How many messages make one sample: some megabytes, but no more than the link moves in a moment.
std::uint64_t messages_of(const Options& options, std::uint64_t message) {
  double bytes = 64u << 20;
  if (const auto shape = parse_shape(options.shape); shape && shape->bytes_per_second != 0)
    bytes = std::min(bytes, 0.4 * static_cast<double>(shape->bytes_per_second));
  return std::clamp<std::uint64_t>(static_cast<std::uint64_t>(bytes) / message, 1, 4096);
}

enum class Way { kThere, kBack, kBoth };

// Moves messages over every channel at once, each driven by a thread of its own but the first.
bool move(std::vector<std::unique_ptr<Channel>>& channels, Way way, const Options& options,
          std::uint64_t message, std::uint64_t messages, std::size_t batch) {
  const auto one = [&](Channel& channel) {
    const auto op = way == Way::kThere  ? Command::kSink
                    : way == Way::kBack ? Command::kSource
                                        : Command::kBoth;
    const Command what{op, options.check, message, messages};
    command(channel, what);
    std::int64_t here = 0, there = 0;
    if (way == Way::kThere && !send_messages(channel, what, batch)) return false;
    if (way == Way::kBack) here = receive_messages(channel, what);
    if (way == Way::kBoth) here = exchange_messages(channel, what);
    if (way != Way::kBack && !channel.receive(std::as_writable_bytes(std::span(&there, 1)))) return false;
    return here == 0 && there == 0;
  };
  std::vector<std::thread> threads;
  std::atomic<bool> right{true};
  for (std::size_t i = 1; i < channels.size(); ++i) {
    threads.emplace_back([&, i] {
      if (!one(*channels[i])) right = false;
    });
  }
  if (!one(*channels.front())) right = false;
  for (auto& thread : threads) thread.join();
  return right;
}

auto movements(std::vector<std::unique_ptr<Channel>>& channels, Way way, const Options& options,
               std::uint64_t message, std::uint64_t messages, std::size_t batch, double per, bool& right) {
  return [&channels, way, &options, message, messages, batch, per, &right](std::uint64_t count,
                                                                           std::vector<double>& samples) {
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto start = now_ns();
      const bool all_right = move(channels, way, options, message, messages, batch);
      samples.push_back(static_cast<double>(now_ns() - start) / per);
      right = right && all_right;
    }
  };
}

// What the memory gives: as many bytes copied by as many threads.
auto copies(std::uint64_t streams, std::uint64_t message, std::uint64_t messages) {
  using Memory = std::vector<std::vector<std::byte>>;
  return [streams, message, messages, from = Memory(streams, std::vector<std::byte>(message, std::byte{1})),
          into = Memory(streams, std::vector<std::byte>(message))](std::uint64_t count,
                                                                   std::vector<double>& samples) mutable {
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto start = now_ns();
      std::vector<std::thread> threads;
      const auto one = [&](std::uint64_t stream) {
        for (std::uint64_t k = 0; k < messages; ++k) {
          std::memcpy(into[stream].data(), from[stream].data(), message);
          asm volatile("" ::: "memory");  // every copy is made
        }
      };
      for (std::uint64_t stream = 1; stream < streams; ++stream) threads.emplace_back(one, stream);
      one(0);
      for (auto& thread : threads) thread.join();
      samples.push_back(static_cast<double>(now_ns() - start) / 1e3);
    }
  };
}

struct Channels {
  std::vector<std::unique_ptr<Channel>> raw, avec;
  void grow(Sides& sides, std::uint64_t streams) {
    while (sides.raw && raw.size() < std::min(streams, sides.most_raw)) raw.push_back(sides.raw->connect());
    if (raw.size() < streams) raw.clear();
    while (avec.size() < streams) avec.push_back(sides.avec->connect());
  }
};

// One figure of bandwidth: the yardstick and the connections, each moving the same.
void race_bandwidth(const Options& options, Channels& channels, const char* name, Way way,
                    std::uint64_t message, std::uint64_t streams) {
  const auto messages = messages_of(options, message);
  const std::uint64_t bytes = message * messages * streams * (way == Way::kBoth ? 2 : 1);
  bool right = true;
  auto row = named(name, "raw", options, bytes);
  row.message = message;
  row.streams = streams;
  std::vector<Contestant> contestants;
  if (options.transport == "rdma") {
    if (streams > 1) return;  // ib_write_bw -q has other defaults; one queue pair is the yardstick
    row.bytes = message * kVerbsMessages;
    row.name = "verbs." + std::string(name);
    contestants.push_back(
        {row, verbs_bandwidth(options, way == Way::kBack, way == Way::kBoth, message), true});
    if (way == Way::kBoth) contestants.back().row.bytes *= 2;
  } else if (options.transport == "shm") {
    // A ring in shared memory, where there is one stream; what the memory itself gives beside it.
    if (!channels.raw.empty())
      contestants.push_back({row, movements(channels.raw, way, options, message, messages, 1, 1e3, right)});
    row.name = "memcpy." + std::string(name);
    contestants.push_back({row, copies(streams * (way == Way::kBoth ? 2 : 1), message, messages)});
  } else if (!channels.raw.empty()) {
    contestants.push_back({row, movements(channels.raw, way, options, message, messages, 1, 1e3, right)});
  }
  row.name = name;
  row.target = "avec";
  row.bytes = bytes;
  contestants.push_back({row, movements(channels.avec, way, options, message, messages, 1, 1e3, right)});
  race(options, std::move(contestants), [&] { return right; });
}

// Payload that the peer fetches from, or puts into, this end's memory.
void race_one_sided(const Options& options, Channels& channels, const char* name, Command::Op op,
                    std::uint64_t message) {
  const auto messages = std::min<std::uint64_t>(messages_of(options, message), 256);
  bool right = true;
  auto row = named(name, "raw", options, message * messages);
  row.message = message;
  row.streams = 1;
  std::vector<Contestant> contestants;
  if (options.transport == "rdma") {
    row.bytes = message * kVerbsMessages;
    row.name = "verbs." + std::string(name);
    contestants.push_back({row, verbs_bandwidth(options, op == Command::kRead, false, message), true});
  } else {
    row.name = "memcpy." + std::string(name);
    contestants.push_back({row, copies(1, message, messages)});
  }
  row.name = name;
  row.target = "avec";
  row.bytes = message * messages;
  contestants.push_back({row, one_sided_movements(*channels.avec.front(), op, message, messages, right)});
  race(options, std::move(contestants), [&] { return right; });
}

}  // namespace

// 64 bytes there and back between two processes that do nothing else.
void measure_yardstick(const Options& options) {
  std::vector<Contestant> contestants;
  const auto row = named("raw.ping", "raw", options, kPingBytes);
  bool right = true;
  const auto raw = Peers::raw(options);
  std::unique_ptr<Channel> channel;
  if (raw) {
    channel = raw->connect();
    contestants.push_back({row, pings(*channel, kPingBytes, options.check, right)});
  } else if (options.transport == "rdma") {
    contestants.push_back({row, verbs_latency(options, kPingBytes), true});
  }
  if (!contestants.empty()) race(options, std::move(contestants), [&] { return right; });
}

void measure_latency(const Options& options) {
  Sides sides(options);
  const auto raw = sides.raw ? sides.raw->connect() : nullptr;
  const auto avec = sides.avec->connect();
  std::optional<SessionPings> session;
  if (!options.executor.empty()) session.emplace(options);
  for (const auto bytes :
       or_else(options.sizes, {8, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20})) {
    bool right = true;
    std::vector<Contestant> contestants;
    if (raw)
      contestants.push_back(
          {named("latency", "raw", options, bytes), pings(*raw, bytes, options.check, right)});
    else if (options.transport == "rdma")
      contestants.push_back({named("latency", "raw", options, bytes), verbs_latency(options, bytes), true});
    contestants.push_back(
        {named("latency", "avec", options, bytes), pings(*avec, bytes, options.check, right)});
    if (bytes == kPingBytes && session) {
      contestants.push_back(
          {named("ping.session", "avec", options, bytes),
           [&](std::uint64_t count, std::vector<double>& samples) { session->sample(count, samples); }});
    }
    race(options, std::move(contestants), [&] { return right && (!session || session->right()); });
  }
}

void measure_bandwidth(const Options& options) {
  Sides sides(options);
  Channels channels;
  const auto streams_wished =
      or_else(options.streams, std::thread::hardware_concurrency() >= 8 ? std::vector<std::uint64_t>{1, 2, 4}
                                                                        : std::vector<std::uint64_t>{1, 2});
  const auto sizes = or_else(options.sizes, {64, 1 << 10, 16 << 10, 64 << 10, 1 << 20, 16 << 20, 64 << 20});
  for (const auto streams : streams_wished) {
    channels.avec.clear();
    channels.raw.clear();
    channels.grow(sides, streams);
    for (const auto size : sizes) {
      // More streams are of interest where one is busy moving bytes, not with calls.
      if (streams > 1 && options.sizes.empty() && size != 64 << 10 && size != 16 << 20) continue;
      race_bandwidth(options, channels, "bandwidth.there", Way::kThere, size, streams);
      race_bandwidth(options, channels, "bandwidth.back", Way::kBack, size, streams);
      if (options.sizes.empty() && size != 64 << 10 && size != 16 << 20) continue;
      race_bandwidth(options, channels, "bandwidth.both", Way::kBoth, size, streams);
    }
  }
  if (!moves_one_sided(*channels.avec.front())) return;
  for (const auto size : or_else(options.sizes, {64 << 10, 1 << 20, 16 << 20, 64 << 20})) {
    race_one_sided(options, channels, "bandwidth.read", Command::kRead, size);
    race_one_sided(options, channels, "bandwidth.write", Command::kWrite, size);
  }
}

// Messages of a launch's size, so many handed over in one call.
void measure_rate(const Options& options) {
  constexpr std::uint64_t kMessage = 128, kMost = 512;
  Sides sides(options);
  const auto raw = sides.raw ? sides.raw->connect() : nullptr;
  std::vector<std::unique_ptr<Channel>> raws, avecs;
  raws.push_back(sides.raw ? sides.raw->connect() : nullptr);
  avecs.push_back(sides.avec->connect());
  for (const auto batch : or_else(options.batches, {1, 8, 64, 512})) {
    if (batch == 0 || batch > kMost) fail("a batch has 1 to 512 messages");
    const std::uint64_t messages = std::max<std::uint64_t>(1024, batch * 8);
    bool right = true;
    std::vector<Contestant> contestants;
    auto row = named("rate.messages", "raw", options, 0);
    row.unit = "ns";
    row.batch = batch;
    const auto per = static_cast<double>(messages);
    if (sides.raw)
      contestants.push_back(
          {row, movements(raws, Way::kThere, options, kMessage, messages, batch, per, right)});
    row.target = "avec";
    contestants.push_back(
        {row, movements(avecs, Way::kThere, options, kMessage, messages, batch, per, right)});
    race(options, std::move(contestants), [&] { return right; });
  }
}

// What a link of the asked shape really has: a ping's round trip, and the rate of a stream.
void measure_shape(const Options& options) {
  const auto shape = parse_shape(options.shape);
  if (!shape) fail(shape.error());
  auto lossless = options;
  auto without = *shape;
  without.loss = 0;  // it has no rate or round trip of its own; its delays would be taken for the link's
  lossless.shape = to_string(without);
  const auto raw = Peers::raw(lossless);
  std::vector<std::unique_ptr<Channel>> channels;
  channels.push_back(raw->connect());
  bool right = true;
  if (shape->round_trip.count() > 0) {
    auto row = named("shape.round_trip", "raw", options, kPingBytes);
    race(lossless, {{row, pings(*channels.front(), kPingBytes, false, right)}}, [&] { return right; });
  }
  if (shape->bytes_per_second == 0) return;
  // A quarter of a second of stream; what fits into buffers on the way does not count, since the
  // far end answers only when it has everything. The answer's way is no part of the rate.
  constexpr std::uint64_t kMessage = 16 << 10;
  const auto messages = std::max<std::uint64_t>(4, shape->bytes_per_second / 2 / kMessage);
  auto row = named("shape.rate", "raw", options, 0);
  row.unit = "mbit/s";
  const auto stream = [&](std::uint64_t count, std::vector<double>& samples) {
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto start = now_ns();
      right = move(channels, Way::kThere, lossless, kMessage, messages, 1) && right;
      const auto elapsed =
          static_cast<double>(now_ns() - start) - static_cast<double>(shape->round_trip.count());
      samples.push_back(static_cast<double>(messages * kMessage) * 8e3 / elapsed);
    }
  };
  race(lossless, {{row, stream}}, [&] { return right; });
}

}  // namespace avec::bench
