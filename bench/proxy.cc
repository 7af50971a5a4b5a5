#include "proxy.h"

#include <poll.h>
#include <sys/prctl.h>

#include <algorithm>
#include <array>
#include <asio.hpp>
#include <deque>
#include <list>
#include <thread>
#include <vector>

#include "shape.h"
#include "statistics.h"

namespace avec::bench {
namespace {

using asio::ip::tcp;
using Clock = std::chrono::steady_clock;
using std::chrono::nanoseconds;
using namespace std::chrono_literals;

// The thread polls so long before something is due: a timer of the kernel comes late by as much.
constexpr nanoseconds kPollBefore = 80us;
// Beyond this nobody keeps connections open through one proxy.
constexpr std::size_t kMostConnections = 1024;

std::expected<tcp::endpoint, std::string> resolve(asio::io_context& context, const std::string& url) {
  constexpr std::string_view kScheme = "tcp://";
  const auto colon = url.rfind(':');
  if (!url.starts_with(kScheme) || colon < kScheme.size()) {
    return std::unexpected(url + " is no address of a proxy; write tcp://HOST:PORT");
  }
  auto host = url.substr(kScheme.size(), colon - kScheme.size());
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  asio::error_code error;
  const auto found = tcp::resolver(context).resolve(host, url.substr(colon + 1), error);
  if (error || found.empty()) return std::unexpected(url + ": " + error.message());
  return found.begin()->endpoint();
}

// One direction of one connection. Everything happens on the thread of the io_context; whatever
// completes later holds the connection (`owner`) alive.
class Flow {
 public:
  Flow(tcp::socket& from, tcp::socket& to, const Proxy::Options& options, std::uint64_t seed, Bandwidth& bandwidth)
      : from_(from), to_(to), line_(options.shape, added(options), seed, &bandwidth), grain_(line_.grain()) {}

  void open_at(Clock::time_point time) { line_.open_at(time); }

  void start(const std::shared_ptr<void>& owner) { read(owner); }

  // When the next bytes are due; max: nothing is, or they are being written.
  Clock::time_point due() const {
    return writing_ || queue_.empty() ? Clock::time_point::max() : queue_.front().due;
  }
  void release(const std::shared_ptr<void>& owner, Clock::time_point now) {
    if (due() <= now) write(owner);
  }
  bool over() const { return over_; }

 private:
  struct Segment {
    std::vector<std::byte> bytes;  // none: the orderly end
    Clock::time_point due;
  };

  static nanoseconds added(const Proxy::Options& options) {
    return std::max(nanoseconds(0), (options.shape.round_trip - options.own_round_trip) / 2);
  }

  void read(const std::shared_ptr<void>& owner) {
    if (over_ || reading_ || ended_ || queued_ >= line_.window()) return;
    reading_ = true;
    incoming_.resize(grain_);
    from_.async_read_some(asio::buffer(incoming_), [this, owner](asio::error_code error, std::size_t bytes) {
      reading_ = false;
      const auto now = Clock::now();
      if (error) {
        ended_ = true;
        if (error == asio::error::eof)
          queue_.push_back({{}, line_.out(now, 0, true)});
        else
          close();
        return;
      }
      // More than one grain within a grain's time, or more already there: others are close behind.
      const bool followed = bytes == grain_ || !queue_.empty();
      incoming_.resize(bytes);
      queued_ += bytes;
      queue_.push_back({std::move(incoming_), line_.out(now, bytes, followed)});
      incoming_ = {};
      read(owner);
    });
  }

  void write(const std::shared_ptr<void>& owner) {
    if (queue_.front().bytes.empty()) {
      asio::error_code ignored;
      to_.shutdown(tcp::socket::shutdown_send, ignored);
      queue_.clear();
      over_ = true;
      return;
    }
    writing_ = true;
    asio::async_write(to_, asio::buffer(queue_.front().bytes),
                      [this, owner](asio::error_code error, std::size_t bytes) {
                        writing_ = false;
                        if (error) {
                          close();
                          return;
                        }
                        queued_ -= bytes;
                        queue_.pop_front();
                        read(owner);
                      });
  }

  void close() {
    over_ = true;
    queue_.clear();
    asio::error_code ignored;
    from_.close(ignored);
    to_.close(ignored);
  }

  tcp::socket& from_;
  tcp::socket& to_;
  Line line_;
  const std::size_t grain_;
  std::deque<Segment> queue_;
  std::size_t queued_ = 0;
  std::vector<std::byte> incoming_;
  bool reading_ = false, writing_ = false, ended_ = false, over_ = false;
};

struct Relayed : std::enable_shared_from_this<Relayed> {
  Relayed(asio::io_context& context, const Proxy::Options& options, std::uint64_t seed, Bandwidth& up_rate,
          Bandwidth& down_rate)
      : client(context),
        server(context),
        up(client, server, options, seed, up_rate),
        down(server, client, options, seed + 1, down_rate) {}
  tcp::socket client, server;
  Flow up, down;
};

class ProxyOverAsio final : public Proxy {
 public:
  explicit ProxyOverAsio(const Options& options) : options_(options), acceptor_(context_), timer_(context_) {}

  std::string open() {
    const auto here = resolve(context_, options_.listen);
    if (!here) return here.error();
    const auto there = resolve(context_, options_.to);
    if (!there) return there.error();
    to_ = *there;
    asio::error_code error;
    acceptor_.open(here->protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(*here, error);
    if (!error) acceptor_.listen(128, error);
    return error ? options_.listen + ": " + error.message() : "";
  }

  std::string address() const override {
    const auto here = acceptor_.local_endpoint();
    const auto host = here.address().to_string();
    return "tcp://" + (here.address().is_v6() ? "[" + host + "]" : host) + ":" + std::to_string(here.port());
  }

  void run() override {
    ::prctl(PR_SET_TIMERSLACK, 1UL);
    accept();
    while (!context_.stopped()) {
      const auto now = Clock::now();
      auto next = Clock::time_point::max();
      for (auto one = relayed_.begin(); one != relayed_.end();) {
        auto& relayed = **one;
        relayed.up.release(*one, now);
        relayed.down.release(*one, now);
        next = std::min({next, relayed.up.due(), relayed.down.due()});
        one = relayed.up.over() && relayed.down.over() ? relayed_.erase(one) : std::next(one);
      }
      if (next - now < kPollBefore) {
        context_.poll();
        continue;
      }
      if (next != Clock::time_point::max()) {
        timer_.expires_at(next - kPollBefore);
        timer_.async_wait([](asio::error_code) {});
      }
      context_.run_one();
      context_.poll();
    }
  }

  void stop() override { context_.stop(); }

 private:
  void accept() {
    auto relayed = std::make_shared<Relayed>(context_, options_, options_.seed + 2 * ++accepted_, up_, down_);
    acceptor_.async_accept(relayed->client, [this, relayed](asio::error_code error) {
      if (!error && relayed_.size() < kMostConnections) onward(relayed);
      if (error != asio::error::operation_aborted) accept();
    });
  }

  void onward(const std::shared_ptr<Relayed>& relayed) {
    // What the kernel holds for the proxy is not on the link: the less, the sooner the sender feels the
    // window.
    asio::error_code ignored;
    relayed->client.set_option(tcp::no_delay(true), ignored);
    // The client has connected at once; its handshake over the link would have taken a round trip.
    relayed->up.open_at(Clock::now() + options_.shape.round_trip);
    relayed->server.async_connect(to_, [this, relayed](asio::error_code error) {
      if (error) return;  // both sockets close with the last reference
      asio::error_code unimportant;
      relayed->server.set_option(tcp::no_delay(true), unimportant);
      relayed->up.start(relayed);
      relayed->down.start(relayed);
      relayed_.push_back(relayed);
    });
  }

  const Options options_;
  Bandwidth up_, down_;  // of all connections together
  asio::io_context context_{1};
  tcp::acceptor acceptor_;
  asio::steady_timer timer_;
  tcp::endpoint to_;
  std::list<std::shared_ptr<Relayed>> relayed_;
  std::uint64_t accepted_ = 0;
};

constexpr std::size_t kPingBytes = 64;
using Ping = std::array<std::byte, kPingBytes>;

// As AVEC's adaptive waiting: looks for a while, then sleeps.
void read_adaptively(tcp::socket& socket, Ping& message, asio::error_code& error) {
  auto since = Clock::now();
  for (std::size_t got = 0; got < message.size() && !error;) {
    got += socket.read_some(asio::buffer(message) + got, error);
    if (error != asio::error::would_block) continue;
    error.clear();
    if (Clock::now() - since < 50us) continue;
    pollfd entry{socket.native_handle(), POLLIN, 0};
    ::poll(&entry, 1, 1000);
    since = Clock::now();
  }
}

// Answers pings on one connection until the peer closes.
class EchoThread {
 public:
  EchoThread() : acceptor_(context_, tcp::endpoint(asio::ip::address_v4::loopback(), 0)) {}
  ~EchoThread() {
    if (!thread_.joinable()) return;
    asio::error_code ignored;
    tcp::socket last(context_);
    last.connect(acceptor_.local_endpoint(), ignored);  // in case nobody else has come
    last.close(ignored);
    thread_.join();
  }
  std::string address() const {
    return "tcp://127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port());
  }
  void start() {
    thread_ = std::thread([this] {
      asio::error_code error;
      tcp::socket socket(context_);
      acceptor_.accept(socket, error);
      if (!error) socket.set_option(tcp::no_delay(true), error);
      if (!error) socket.non_blocking(true, error);
      Ping message{};
      while (!error) {
        read_adaptively(socket, message, error);
        if (!error) asio::write(socket, asio::buffer(message), error);
      }
    });
  }

 private:
  asio::io_context context_;
  tcp::acceptor acceptor_;
  std::thread thread_;
};

// The median round trip through a proxy of this shape; directly without `through`.
std::expected<nanoseconds, std::string> ping(const sim::Shape& shape, nanoseconds own, unsigned times,
                                             bool through) {
  EchoThread echo;
  std::unique_ptr<Proxy> proxy;
  std::thread runner;
  std::string address = echo.address();
  if (through) {
    auto listening = Proxy::listen({.to = echo.address(), .shape = shape, .own_round_trip = own});
    if (!listening) return std::unexpected(listening.error());
    proxy = std::move(*listening);
    address = proxy->address();
    runner = std::thread([&] { proxy->run(); });
  }
  echo.start();
  std::vector<double> samples;
  {
    asio::io_context context;
    tcp::socket socket(context);
    asio::error_code error;
    socket.connect(*resolve(context, address), error);
    if (!error) socket.set_option(tcp::no_delay(true), error);
    if (!error) socket.non_blocking(true, error);
    Ping message{};
    const unsigned warm = times / 4;
    for (unsigned i = 0; i < times + warm && !error; ++i) {
      const auto start = Clock::now();
      asio::write(socket, asio::buffer(message), error);
      if (!error) read_adaptively(socket, message, error);
      if (i >= warm) samples.push_back(static_cast<double>(nanoseconds(Clock::now() - start).count()));
    }
  }
  if (proxy) {
    std::this_thread::sleep_for(shape.round_trip);  // the end of the connection reaches the echo
    std::this_thread::sleep_for(1ms);
    proxy->stop();
    runner.join();
    proxy.reset();
  }
  if (samples.empty()) return std::unexpected("a proxy on this machine did not pass a ping on");
  return nanoseconds(static_cast<std::int64_t>(median(std::move(samples))));
}

}  // namespace

std::expected<std::unique_ptr<Proxy>, std::string> Proxy::listen(const Options& options) {
  auto proxy = std::make_unique<ProxyOverAsio>(options);
  if (auto problem = proxy->open(); !problem.empty()) return std::unexpected(std::move(problem));
  return proxy;
}

std::expected<nanoseconds, std::string> calibrate(const sim::Shape& shape) {
  // Loss would only blur it, and a rate has no part in a ping of 64 bytes.
  sim::Shape delay;
  delay.round_trip = shape.round_trip;
  delay.window_bytes = 0;
  if (delay.round_trip.count() == 0) return nanoseconds(0);
  const auto bare = ping({}, nanoseconds(0), 200, true);
  if (!bare) return bare;
  // Half a tenth of a second of pings each time, so that processors are as awake as in use.
  const auto times = std::clamp<std::int64_t>(nanoseconds(50ms) / delay.round_trip, 12, 500);
  // What the proxy costs depends a little on how long it sleeps meanwhile, so twice.
  auto own = std::min(*bare, delay.round_trip);
  for (int i = 0; i < 2; ++i) {
    const auto shaped = ping(delay, own, static_cast<unsigned>(times), true);
    if (!shaped) return shaped;
    own = std::clamp(own + (*shaped - delay.round_trip), nanoseconds(0), delay.round_trip);
  }
  return own;
}

}  // namespace avec::bench
