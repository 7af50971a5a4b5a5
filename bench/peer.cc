#include "peer.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <functional>
#include <optional>
#include <thread>

#include "one_sided.h"
#include "perftest.h"
#include "shape.h"
#include "spawn.h"
#include "transport/sim/factory.h"

namespace avec::bench {
namespace {

constexpr std::size_t kSinkBytes = 256u << 10;

Deadline soon() { return std::chrono::steady_clock::now() + std::chrono::seconds(20); }

// Messages to send, and messages and a buffer to receive with, kept with the channel.
Messages& messages_to_send(Channel& channel, std::size_t bytes, std::size_t batch) {
  auto* kept = static_cast<Messages*>(channel.to_send.get());
  if (kept == nullptr || !kept->are(bytes, batch)) channel.to_send = std::make_shared<Messages>(bytes, batch);
  return *static_cast<Messages*>(channel.to_send.get());
}
struct Received {
  explicit Received(std::size_t bytes)
      : messages(bytes), buffer(bytes * std::max<std::size_t>(1, kSinkBytes / bytes)) {}
  Messages messages;
  std::vector<std::byte> buffer;
};
Received& received(Channel& channel, std::size_t bytes) {
  auto* kept = static_cast<Received*>(channel.to_receive.get());
  if (kept == nullptr || !kept->messages.are(bytes, 1))
    channel.to_receive = std::make_shared<Received>(bytes);
  return *static_cast<Received*>(channel.to_receive.get());
}

// Takes what there is of a number of messages and judges each.
class Sink {
 public:
  Sink(Channel& channel, const Command& command)
      : command_(command),
        messages_(received(channel, command.message).messages),
        buffer_(received(channel, command.message).buffer) {}
  MutableBytes room() {
    const auto left = (command_.messages - number_) * command_.message - (filled_ - judged_);
    return MutableBytes(buffer_).subspan(filled_, std::min<std::size_t>(buffer_.size() - filled_, left));
  }
  void arrived(std::size_t bytes) {
    filled_ += bytes;
    for (; filled_ - judged_ >= command_.message; judged_ += command_.message) {
      const auto one = ConstBytes(buffer_).subspan(judged_, command_.message);
      if (!messages_.right(one, number_++, command_.check != 0)) ++wrong_;
    }
    if (filled_ == buffer_.size()) filled_ = judged_ = 0;
  }
  bool done() const { return number_ == command_.messages; }
  std::int64_t wrong() const { return wrong_; }

 private:
  const Command command_;
  const Messages& messages_;
  std::vector<std::byte>& buffer_;
  std::size_t filled_ = 0, judged_ = 0;
  std::uint64_t number_ = 0;
  std::int64_t wrong_ = 0;
};

bool echo(Channel& channel, const Command& command) {
  std::vector<std::byte> message(command.message);
  for (std::uint64_t i = 0; i < command.messages; ++i) {
    if (!channel.receive(message) || !channel.send(ConstBytes(message))) return false;
  }
  return true;
}

bool answer(Channel& channel, std::int64_t wrong) {
  return wrong >= 0 && channel.send(std::as_bytes(std::span(&wrong, 1)));
}

// Accepts in another process, or in a thread of this one.
class Accepting {
 public:
  virtual ~Accepting() = default;
  virtual std::unique_ptr<Channel> accept() = 0;
};

[[noreturn]] void accept_for_ever(Accepting& accepting) {
  while (true) {
    auto channel = accepting.accept();
    if (!channel) continue;
    std::thread([one = std::move(channel)] { serve(*one); }).detach();
  }
}

sockaddr_in ipv4(const std::string& host, int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  if (::inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1)
    fail("the yardstick needs an IPv4 address, not " + host);
  return address;
}

class AcceptingSockets final : public Accepting {
 public:
  AcceptingSockets(WaitMode mode, const std::string& host)
      : mode_(mode), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    auto address = ipv4(host, 0);
    socklen_t bytes = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener_.get(), generic, bytes) != 0 || ::listen(listener_.get(), 16) != 0 ||
        ::getsockname(listener_.get(), generic, &bytes) != 0) {
      fail("no socket can listen at " + host);
    }
    address_ = "tcp://" + host + ":" + std::to_string(ntohs(address.sin_port));
  }
  const std::string& address() const { return address_; }
  std::unique_ptr<Channel> accept() override {
    Descriptor socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    return socket ? channel_over(std::move(socket), mode_) : nullptr;
  }

 private:
  const WaitMode mode_;
  Descriptor listener_;
  std::string address_;
};

// Accepts as a session's two ends meet: some transports begin as a connection of another.
class AcceptingConnections final : public Accepting {
 public:
  AcceptingConnections(const Options& options, const std::string& url)
      : mode_(options.wait_mode()), transport_(find_transport(url)) {
    if (transport_ == nullptr) fail("no transport is called " + options.transport);
    const auto stream = transport_->begins_at(url);
    const auto& at = stream.empty() ? url : stream;
    upgrades_ = !stream.empty();
    auto listening = find_transport(at)->listen(at);
    if (!listening.listener) fail(at + ": " + listening.detail);
    listener_ = std::move(listening.listener);
  }
  /// To connect to, of the transport itself.
  std::string address() const {
    const auto at = listener_->address();
    return upgrades_ ? std::string(transport_->scheme()) + at.substr(at.find("://")) : at;
  }
  std::unique_ptr<Channel> accept() override {
    auto accepted = listener_->accept(soon());
    if (accepted.connection && upgrades_)
      accepted = transport_->upgrade(accepted.connection, End::kExecutor, soon());
    if (accepted.error.code == TransportErrc::kTimeout) return nullptr;
    if (accepted.error) fail(std::string(transport_->scheme()) + ": " + accepted.detail);
    return accepted.connection ? channel_over(std::move(accepted.connection), mode_) : nullptr;
  }

 private:
  const WaitMode mode_;
  Transport* const transport_;
  bool upgrades_ = false;
  std::unique_ptr<Listener> listener_;
};

std::unique_ptr<Connection> connect_to(const std::string& url) {
  auto* transport = find_transport(url);
  const auto stream = transport->begins_at(url);
  const auto& at = stream.empty() ? url : stream;
  auto connected = find_transport(at)->connect(at, soon());
  if (connected.connection && !stream.empty())
    connected = transport->upgrade(connected.connection, End::kClient, soon());
  if (!connected.connection) fail(url + ": " + connected.detail);
  return std::move(connected.connection);
}

// Forks; the child calls `start`, says the address that it returns and accepts.
class Child {
 public:
  template <class Made>
  explicit Child(const std::function<std::unique_ptr<Made>()>& start) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) fail("no pipe");
    Descriptor reader(ends[0]), writer(ends[1]);
    pid_ = ::fork();
    if (pid_ < 0) fail("fork");
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const auto accepting = start();
      const auto address = accepting->address();
      (void)!::write(writer.get(), address.data(), address.size());
      writer.reset();
      accept_for_ever(*accepting);
    }
    writer.reset();
    char part[256];
    for (ssize_t got = 0; (got = ::read(reader.get(), part, sizeof part)) > 0;) address_.append(part, got);
    if (address_.empty()) fail("the peer of a measurement did not start");
  }
  ~Child() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  const std::string& address() const { return address_; }

 private:
  pid_t pid_ = -1;
  std::string address_;
};

// The address to connect to, behind a proxy where there is a shape.
class Way {
 public:
  Way(const Options& options, const std::string& to) : to_(to) {
    if (options.shape.empty()) return;
    proxy_ = std::make_unique<ProxyProcess>(to, options.shape);
    if (proxy_->url().empty()) fail("the proxy did not start");
    to_ = proxy_->url();
  }
  const std::string& to() const { return to_; }

 private:
  std::string to_;
  std::unique_ptr<ProxyProcess> proxy_;
};

class SocketPeers final : public Peers {
 public:
  explicit SocketPeers(const Options& options)
      : mode_(options.wait_mode()),
        child_(std::function([&] { return std::make_unique<AcceptingSockets>(mode_, options.address); })),
        way_(options, child_.address()) {}
  std::unique_ptr<Channel> connect() override {
    const auto colon = way_.to().rfind(':');
    const auto address = ipv4(way_.to().substr(6, colon - 6), std::stoi(way_.to().substr(colon + 1)));
    Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      fail("connecting to " + way_.to());
    }
    return channel_over(std::move(socket), mode_);
  }

 private:
  const WaitMode mode_;
  Child child_;
  Way way_;
};

class ConnectionPeers final : public Peers {
 public:
  explicit ConnectionPeers(const Options& options)
      : mode_(options.wait_mode()),
        child_(std::function([&options] {
          return std::make_unique<AcceptingConnections>(options,
                                                        options.transport + "://" + options.address + ":0");
        })),
        way_(options, child_.address()) {}
  std::unique_ptr<Channel> connect() override { return channel_over(connect_to(way_.to()), mode_); }

 private:
  const WaitMode mode_;
  Child child_;
  Way way_;
};

// sim: both ends in this process. The accepting thread lives as long as the process.
class SimPeers final : public Peers {
 public:
  explicit SimPeers(const Options& options)
      : mode_(options.wait_mode()), url_("sim://bench-" + std::to_string(::getpid())) {
    if (auto shape = parse_shape(options.shape); shape && shapes(*shape)) {
      if (shape->retransmission.count() == 0)
        shape->retransmission = std::max(shape->round_trip, std::chrono::nanoseconds(1'000'000));
      if (shape->window_bytes == 0) shape->window_bytes = Line(*shape, {}, 0).window();
      sim::default_network().set_shape(*shape);
    }
    sim::default_network().set_one_sided({.kind = sim::OneSidedKind::kAsynchronous});
    auto accepting = std::make_shared<AcceptingConnections>(options, url_);
    std::thread([accepting] { accept_for_ever(*accepting); }).detach();
  }
  std::unique_ptr<Channel> connect() override { return channel_over(connect_to(url_), mode_); }

 private:
  const WaitMode mode_;
  const std::string url_;
};

class QueuePeers final : public Peers {
 public:
  explicit QueuePeers(const Options& options) : mode_(options.wait_mode()) {}
  std::unique_ptr<Channel> connect() override {
    auto [here, there] = queue_channels(mode_);
    std::thread([one = std::move(there)] { serve(*one); }).detach();
    return std::move(here);
  }

 private:
  const WaitMode mode_;
};

class RingPeers final : public Peers {
 public:
  explicit RingPeers(const Options& options) : mode_(options.wait_mode()), rings_(make_shared_rings()) {
    pid_ = ::fork();
    if (pid_ < 0) fail("fork");
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    // A peer that spins would take a core from what is measured beside it; it does so only while asked.
    serve(*channel_over(*rings_, false, mode_));
    ::_exit(0);
  }
  ~RingPeers() override {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  std::unique_ptr<Channel> connect() override { return channel_over(*rings_, true, mode_); }

 private:
  const WaitMode mode_;
  SharedRings* const rings_;  // until the process ends
  pid_t pid_ = -1;
};

}  // namespace

Messages::Messages(std::size_t bytes, std::size_t batch)
    : bytes_(bytes), pattern_(bytes), data_(bytes * batch) {
  for (std::size_t i = 0; i < bytes; ++i)
    pattern_[i] = static_cast<std::byte>(i * 167 + (i >> 8) * 31 + (i >> 16));
  for (std::size_t i = 0; i < batch; ++i) {
    std::memcpy(data_.data() + i * bytes, pattern_.data(), bytes);
    spans_.push_back(ConstBytes(data_).subspan(i * bytes, bytes));
  }
}

std::span<const ConstBytes> Messages::numbered(std::uint64_t number) {
  for (std::size_t i = 0; i < spans_.size(); ++i, ++number) {
    std::memcpy(data_.data() + i * bytes_, &number, std::min(bytes_, sizeof number));
  }
  return spans_;
}

bool Messages::right(ConstBytes bytes, std::uint64_t number, bool check) const {
  const auto head = std::min(bytes_, sizeof number);
  if (std::memcmp(bytes.data(), &number, head) != 0) return false;
  if (check) return std::memcmp(bytes.data() + head, pattern_.data() + head, bytes_ - head) == 0;
  return bytes_ <= sizeof number || bytes.back() == pattern_.back();
}

bool send_messages(Channel& channel, const Command& command, std::size_t batch) {
  auto& messages = messages_to_send(channel, command.message, batch);
  for (std::uint64_t i = 0; i < command.messages; i += batch) {
    const auto spans = messages.numbered(i).first(std::min<std::uint64_t>(batch, command.messages - i));
    if (!(spans.size() == 1 ? channel.send(spans.front()) : channel.send(spans))) return false;
  }
  return true;
}

std::int64_t receive_messages(Channel& channel, const Command& command) {
  Sink sink(channel, command);
  Channel::Patience patience(channel);
  while (!sink.done()) {
    const auto [moved, error] = channel.try_receive(sink.room());
    if (error) return -1;
    if (moved == 0) {
      patience.pause(false);
      continue;
    }
    patience.moved();
    sink.arrived(moved);
  }
  return sink.wrong();
}

std::int64_t exchange_messages(Channel& channel, const Command& command) {
  Sink sink(channel, command);
  auto& messages = messages_to_send(channel, command.message, 1);
  Channel::Patience patience(channel);
  std::uint64_t number = 0;
  ConstBytes rest;
  while (!sink.done() || number < command.messages || !rest.empty()) {
    if (rest.empty() && number < command.messages) rest = messages.numbered(number++).front();
    std::size_t moved = 0;
    if (!rest.empty()) {
      const auto sent = channel.try_send({&rest, 1});
      if (sent.error) return -1;
      rest = rest.subspan(sent.bytes);
      moved += sent.bytes;
    }
    if (!sink.done()) {
      const auto got = channel.try_receive(sink.room());
      if (got.error) return -1;
      sink.arrived(got.bytes);
      moved += got.bytes;
    }
    if (moved == 0)
      patience.pause(!rest.empty());
    else
      patience.moved();
  }
  return sink.wrong();
}

void serve(Channel& channel) {
  Command command;
  while (channel.receive_idle(std::as_writable_bytes(std::span(&command, 1)))) {
    bool alive = false;
    if (command.op == Command::kEcho) alive = echo(channel, command);
    if (command.op == Command::kSink) alive = answer(channel, receive_messages(channel, command));
    if (command.op == Command::kSource) alive = send_messages(channel, command);
    if (command.op == Command::kBoth) alive = answer(channel, exchange_messages(channel, command));
    if (command.op >= Command::kRead) alive = serve_one_sided(channel, command);
    if (!alive) return;
  }
}

std::unique_ptr<Peers> Peers::of_transport(const Options& options) {
  if (options.transport == "sim") return std::make_unique<SimPeers>(options);
  return std::make_unique<ConnectionPeers>(options);
}

std::unique_ptr<Peers> Peers::raw(const Options& options) {
  if (options.transport == "rdma") return nullptr;
  if (options.transport == "sim" && !options.shape.empty()) return nullptr;  // no queue is so far away
  if (options.transport == "shm") return std::make_unique<RingPeers>(options);
  if (options.transport == "sim") return std::make_unique<QueuePeers>(options);
  return std::make_unique<SocketPeers>(options);
}

RawStream::RawStream(const Options& options, std::size_t bytes) : options_(options), bytes_(bytes) {
  if (options_.transport == "rdma") return;
  if (options_.transport == "shm") {
    from_.assign(bytes, std::byte{1});
    into_.assign(bytes, std::byte{2});
    return;
  }
  peers_ = Peers::raw(options_);
  channel_ = peers_->connect();
}

double RawStream::sample() {
  if (options_.transport == "rdma") {
    // Registered memory of this size is more than perftest may lock everywhere.
    constexpr std::uint64_t kMost = 64u << 20;
    const auto size = std::min<std::uint64_t>(bytes_, kMost);
    std::vector<double> samples;
    verbs_bandwidth(options_, false, false, size)(1, samples);
    return samples.front() * static_cast<double>(bytes_) / static_cast<double>(size * kVerbsMessages);
  }
  const auto start = now_ns();
  if (!channel_) {
    std::memcpy(into_.data(), from_.data(), bytes_);
    asm volatile("" ::: "memory");
    return static_cast<double>(now_ns() - start) / 1e3;
  }
  const Command command{Command::kSink, 0, bytes_, 1};
  std::int64_t wrong = 0;
  if (!channel_->send(std::as_bytes(std::span(&command, 1))) || !send_messages(*channel_, command) ||
      !channel_->receive(std::as_writable_bytes(std::span(&wrong, 1)))) {
    fail("the peer of the yardstick is gone");
  }
  if (wrong != 0) fail("the yardstick's bytes arrived wrong");
  return static_cast<double>(now_ns() - start) / 1e3;
}

}  // namespace avec::bench
