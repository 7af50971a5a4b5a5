#include "executor/broker/broker.h"

#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <asio.hpp>
#include <cerrno>
#include <cstring>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/limits.h"
#include "executor/broker/spawn.h"
#include "executor/worker_channel.h"
#include "transport/tcp/factory.h"
#include "wire/handshake.h"

namespace avec::broker {
namespace {

using asio::ip::tcp;
using executor::ChannelMessage;
using executor::MessageKind;
using executor::Received;
using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

// How often the beginning of a connection is looked at until it is whole.
constexpr auto kPeekAgain = 5ms;
// A client that closed its control connection has this long for its worker to notice by itself.
constexpr auto kControlGrace = 300ms;
// Workers that were asked to end and did not are killed.
constexpr auto kStopDeadline = 800ms;
constexpr auto kReapAgain = 5ms;
// A session that has just begun has the machine for itself this long.
constexpr auto kRefillAfter = 500ms;

// Connections of TCP and of the Unix domain alike.
using Stream = asio::generic::stream_protocol;

/// The address of a TCP socket; none for one of the Unix domain.
std::optional<tcp::endpoint> as_tcp(const Stream::endpoint& endpoint) {
  if (endpoint.data()->sa_family != AF_INET && endpoint.data()->sa_family != AF_INET6) return std::nullopt;
  tcp::endpoint address;
  std::memcpy(address.data(), endpoint.data(), std::min(endpoint.size(), address.capacity()));
  address.resize(endpoint.size());
  return address;
}

/// Who has connected, for people.
std::string name_of_peer(const Stream::socket& socket) {
  asio::error_code error;
  const auto remote = socket.remote_endpoint(error);
  if (error) return "somebody";
  if (const auto endpoint = as_tcp(remote)) {
    std::string text = endpoint->address().to_string();
    if (endpoint->address().is_v6()) text = "[" + text + "]";
    return text + ":" + std::to_string(endpoint->port());
  }
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(const_cast<Stream::socket&>(socket).native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    return "a local process";
  return "process " + std::to_string(peer.pid) + " of user " + std::to_string(peer.uid);
}

/// Only processes of this machine can connect.
bool is_local(const Stream::endpoint& endpoint) {
  const auto address = as_tcp(endpoint);
  return !address || address->address().is_loopback();
}

/// The URLs of a list with commas.
std::vector<std::string> split(std::string_view list) {
  std::vector<std::string> urls;
  while (true) {
    const auto comma = list.find(',');
    urls.emplace_back(list.substr(0, comma));
    if (comma == std::string_view::npos) return urls;
    list.remove_prefix(comma + 1);
  }
}

class Server;

/// A connection from its first byte until it is a session's control connection or is passed on.
class Client : public std::enable_shared_from_this<Client> {
 public:
  Client(Server& server, Stream::socket socket);
  void begin();
  void drop();
  void refuse(wire::RefusalCode code, const std::string& message);
  void send(wire::Bytes bytes, bool then_close);
  /// Reads until the peer closes; then tells.
  void watch(std::function<void()> closed);
  const std::string& from() const { return from_; }

 private:
  friend class Server;
  void peek();
  void start_control();
  void read_message();
  void admitted();
  void settled();

  Server& server_;
  Stream::socket socket_;
  asio::steady_timer deadline_, again_;
  wire::BrokerHandshake handshake_;
  wire::MessageReceiver message_;
  std::array<std::byte, wire::kPreambleBytes> preamble_{};
  std::list<wire::Bytes> sending_;
  bool close_after_ = false;
  std::string from_;
  bool pending_ = true;
  std::list<std::weak_ptr<Client>>::iterator place_;
};

/// A session: its worker process and its control connection.
struct SessionEntry {
  std::string name;
  std::string key;  ///< ticket as bytes
  std::shared_ptr<Client> control;
  pid_t pid = -1;
  std::unique_ptr<asio::posix::stream_descriptor> channel;
  Clock::time_point began = Clock::now();
  std::optional<ChannelMessage> ended;
  std::unique_ptr<asio::steady_timer> timer;
};

/// A worker that has been started and waits for a session.
struct Spare {
  std::string kind;  ///< of its device
  pid_t pid = -1;
  std::unique_ptr<asio::posix::stream_descriptor> channel;
};

class Server {
 public:
  Server(const Options& options, Stopper& stopper) : options_(options), stopper_(stopper), stop_(io_), drain_timer_(io_), spare_timer_(io_) {}

  std::expected<void, std::string> serve();

 private:
  friend class Client;
  /// One address that is listened on.
  struct Door {
    std::unique_ptr<Listener> listener;  // takes a socket's file away at its end
    asio::basic_socket_acceptor<Stream> acceptor;
  };
  std::expected<void, std::string> listen(const std::string& url);
  void accept(Door& door);
  void add_pending(const std::shared_ptr<Client>& client);
  void pass_data(Client& client, const wire::Preamble& preamble);
  void begin_session(const std::shared_ptr<Client>& client, const wire::Introduction& introduction);
  void read_channel(const std::shared_ptr<SessionEntry>& session);
  void reap(const std::shared_ptr<SessionEntry>& session);
  void session_over(const std::shared_ptr<SessionEntry>& session, int status);
  void stop_session(SessionEntry& session, const std::string& reason);
  void drain();
  /// Whether there is a GPU, and a first spare worker if there shall be any.
  std::string first_worker();
  std::expected<Spare, std::string> take_worker(const DeviceChoice& device, const Variables& variables);
  std::shared_ptr<Spare> add_spare(const DeviceChoice& device, WorkerProcess worker);
  void watch_spare(const std::shared_ptr<Spare>& spare);
  void refill_spares();

  const Options& options_;
  Stopper& stopper_;
  asio::io_context io_{1};
  std::list<Door> doors_;
  asio::posix::stream_descriptor stop_;
  asio::steady_timer drain_timer_;
  std::string addresses_;  // of all doors, with commas
  std::string cuda_problem_;
  bool draining_ = false;
  unsigned counter_ = 0;
  std::list<std::weak_ptr<Client>> pending_;  // oldest first
  std::map<std::string, std::shared_ptr<SessionEntry>> sessions_;
  std::list<std::shared_ptr<Spare>> spares_;
  asio::steady_timer spare_timer_;
};

// ---- connections -----------------------------------------------------------------------

Client::Client(Server& server, Stream::socket socket)
    : server_(server),
      socket_(std::move(socket)),
      deadline_(server.io_),
      again_(server.io_),
      handshake_(server.options_.token) {
  asio::error_code ignored;
  from_ = name_of_peer(socket_);
  socket_.non_blocking(true, ignored);
  socket_.set_option(tcp::no_delay(true), ignored);  // means nothing in the Unix domain
}

void Client::begin() {
  deadline_.expires_after(limits::kAuthenticationDeadline);
  deadline_.async_wait([self = shared_from_this()](asio::error_code error) {
    if (error || !self->pending_) return;
    spdlog::info("{} did not introduce itself in time", self->from_);
    self->drop();
  });
  peek();
}

/// No longer one of the connections that nobody knows.
void Client::settled() {
  if (!pending_) return;
  pending_ = false;
  deadline_.cancel();
  server_.pending_.erase(place_);
}

void Client::drop() {
  settled();
  asio::error_code ignored;
  again_.cancel();
  socket_.close(ignored);
}

void Client::peek() {
  const ssize_t got = ::recv(socket_.native_handle(), preamble_.data(), preamble_.size(), MSG_PEEK | MSG_DONTWAIT);
  if (got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) return drop();
  static constexpr std::uint32_t kMagic = 0x43455641;  // "AVEC"
  if (got > 0 && std::memcmp(preamble_.data(), &kMagic, std::min<std::size_t>(static_cast<std::size_t>(got), 4)) != 0) {
    spdlog::info("{} does not speak this protocol", from_);
    return drop();
  }
  if (got < static_cast<ssize_t>(preamble_.size())) {
    again_.expires_after(kPeekAgain);
    again_.async_wait([self = shared_from_this()](asio::error_code error) {
      if (!error && self->pending_) self->peek();
    });
    return;
  }
  auto parsed = wire::parse_preamble(preamble_);
  if (!parsed) {
    spdlog::info("{}: {}", from_, parsed.error().what);
    return drop();
  }
  if (parsed->kind() != wire::ConnectionKind::Control) return server_.pass_data(*this, *parsed);
  start_control();
}

void Client::start_control() {
  asio::async_read(socket_, asio::buffer(preamble_), [self = shared_from_this()](asio::error_code error, std::size_t) {
    if (error) return self->drop();
    auto challenge = self->handshake_.challenge(self->server_.options_.release);
    if (!challenge) return self->drop();
    self->send(std::move(*challenge), false);
    self->read_message();
  });
}

void Client::read_message() {
  const MutableBytes space = message_.space();
  asio::async_read(socket_, asio::buffer(space.data(), space.size()),
                   [self = shared_from_this(), wanted = space.size()](asio::error_code error, std::size_t) {
                     if (error) return self->drop();
                     if (!self->message_.advance(wanted)) {
                       return self->refuse(wire::RefusalCode::Malformed, "a handshake message of an impossible length");
                     }
                     if (!self->message_.complete()) return self->read_message();
                     self->admitted();
                   });
}

void Client::admitted() {
  auto introduction = handshake_.check(message_.message());
  if (!introduction) return refuse(introduction.error().code, introduction.error().message);
  server_.begin_session(shared_from_this(), *introduction);
}

void Client::refuse(wire::RefusalCode code, const std::string& message) {
  spdlog::info("{} refused: {}", from_, message);
  send(wire::refusal(code, message), true);
  // What the client still sends is read, so that closing does not take the refusal back.
  watch([] {});
}

void Client::send(wire::Bytes bytes, bool then_close) {
  close_after_ |= then_close;
  sending_.push_back(std::move(bytes));
  if (sending_.size() > 1) return;
  asio::async_write(socket_, asio::buffer(sending_.front()), [self = shared_from_this()](asio::error_code error, std::size_t) {
    if (self->sending_.empty()) return;
    self->sending_.pop_front();
    asio::error_code ignored;
    if (error) return self->drop();
    if (!self->sending_.empty()) {
      wire::Bytes next = std::move(self->sending_.front());
      self->sending_.pop_front();
      return self->send(std::move(next), false);
    }
    if (self->close_after_) {
      self->socket_.shutdown(Stream::socket::shutdown_send, ignored);
      self->settled();
      // The peer's close ends it (watch); one that does not close is cut off.
      self->deadline_.expires_after(kControlGrace);
      self->deadline_.async_wait([self](asio::error_code) { self->drop(); });
    }
  });
}

void Client::watch(std::function<void()> closed) {
  socket_.async_read_some(asio::buffer(preamble_), [self = shared_from_this(), closed](asio::error_code error, std::size_t) {
    if (!error) return self->watch(closed);
    closed();
    self->drop();
  });
}

// ---- server ----------------------------------------------------------------------------

std::expected<void, std::string> Server::listen(const std::string& url) {
  Transport* transport = find_transport(url);
  if (transport == nullptr || (transport->scheme() != "tcp" && transport->scheme() != "unix")) {
    return std::unexpected("cannot listen on " + url +
                           ": give an address like tcp://127.0.0.1:7700 or unix:///run/avec/avec.sock, or several "
                           "with commas; clients reach them by shm:// and rdma:// as well");
  }
  ListenResult listening = transport->listen(url);
  if (listening.listener == nullptr) {
    const std::string why = listening.detail.empty() ? std::string(to_string(listening.error.code)) : listening.detail;
    return std::unexpected("cannot listen on " + url + ": " + why);
  }
  const std::string address = listening.listener->address();
  const int fd = ::fcntl(listening.listener->poll_descriptor(), F_DUPFD_CLOEXEC, 3);
  if (fd < 0) return std::unexpected(std::string("cannot listen: ") + std::strerror(errno));
  int family = AF_UNSPEC;
  socklen_t size = sizeof family;
  ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size);
  Door& door = doors_.emplace_back(std::move(listening.listener), asio::basic_socket_acceptor<Stream>(io_));
  door.acceptor.assign(Stream(family, 0), fd);
  asio::error_code error;
  const auto own = door.acceptor.local_endpoint(error);
  if (!error && !is_local(own) && options_.token.empty() && !options_.insecure) {
    return std::unexpected("listening on " + address +
                           " needs a secret: give --token-file, or --insecure to let everybody in");
  }
  addresses_ += (addresses_.empty() ? "" : ",") + address;
  return {};
}

std::expected<void, std::string> Server::serve() {
  const auto urls = split(options_.listen);
  if (urls.size() > limits::kMaxListeners)
    return std::unexpected("cannot listen on more than " + std::to_string(limits::kMaxListeners) + " addresses");
  for (const std::string& url : urls)
    if (auto listening = listen(url); !listening) return listening;
  cuda_problem_ = first_worker();
  auto choice = choose_device(options_, "auto", cuda_problem_);
  if (!choice) return std::unexpected("the device 'cuda' was asked for, but: " + cuda_problem_);
  if (options_.device == "auto" && choice->kind == "cpu") spdlog::warn("serving the CPU device; {}", choice->reason);
  stop_.assign(::fcntl(stopper_.descriptor(), F_DUPFD_CLOEXEC, 3));
  stop_.async_wait(asio::posix::stream_descriptor::wait_read, [this](asio::error_code error) {
    if (!error) drain();
  });
  for (Door& door : doors_) accept(door);
  refill_spares();
  if (options_.listening) options_.listening(addresses_);
  spdlog::info("serving {} on {}", choice->kind, addresses_);
  io_.run();
  return {};
}

void Server::accept(Door& door) {
  door.acceptor.async_accept([this, &door](asio::error_code error, Stream::socket socket) {
    if (draining_) return;
    if (error) {
      if (error == asio::error::operation_aborted) return;
      // Out of descriptors, mostly: room comes when connections end.
      auto pause = std::make_shared<asio::steady_timer>(io_, 20ms);
      pause->async_wait([this, &door, pause](asio::error_code) {
        if (!draining_) accept(door);
      });
      return;
    }
    auto client = std::make_shared<Client>(*this, std::move(socket));
    add_pending(client);
    client->begin();
    accept(door);
  });
}

void Server::add_pending(const std::shared_ptr<Client>& client) {
  client->place_ = pending_.insert(pending_.end(), client);
  if (pending_.size() <= limits::kMaxPendingConnections) return;
  if (auto oldest = pending_.front().lock()) oldest->drop();
}

void Server::pass_data(Client& client, const wire::Preamble& preamble) {
  const std::string key(reinterpret_cast<const char*>(preamble.ticket()->Data()), sizeof(wire::TicketId));
  auto found = sessions_.find(key);
  if (found == sessions_.end()) {
    const wire::DataAccept refusal(0, static_cast<std::uint32_t>(wire::RefusalCode::Authentication), 0);
    const auto* bytes = reinterpret_cast<const std::byte*>(&refusal);
    spdlog::info("{}: a data connection of no session", client.from_);
    client.send({bytes, bytes + sizeof refusal}, true);
    client.watch([] {});
    return;
  }
  ChannelMessage message;
  message.kind = MessageKind::kData;
  message.descriptor.reset(::fcntl(client.socket_.native_handle(), F_DUPFD_CLOEXEC, 3));
  if (!message.descriptor || !executor::send_message(found->second->channel->native_handle(), message))
    spdlog::warn("{}: its data connection could not be passed on", found->second->name);
  client.drop();
}

void Server::begin_session(const std::shared_ptr<Client>& client, const wire::Introduction& introduction) {
  if (draining_) return client->refuse(wire::RefusalCode::Draining, "the executor is being stopped; try again later");
  if (sessions_.size() >= limits::kMaxSessions)
    return client->refuse(wire::RefusalCode::Busy, "the executor has all the sessions that it can; try again later");
  auto choice = choose_device(options_, introduction.device, cuda_problem_);
  if (!choice) return client->refuse(wire::RefusalCode::NoDevice, choice.error());
  auto session = std::make_shared<SessionEntry>();
  session->name = "session " + std::to_string(++counter_);
  auto worker = take_worker(*choice, deciding_variables(introduction.environment));
  if (!worker) return client->refuse(wire::RefusalCode::Busy, "no worker could be started: " + worker.error());
  session->pid = worker->pid;
  session->channel = std::move(worker->channel);
  session->control = client;
  auto ticket = client->handshake_.ticket(choice->kind, choice->reason);
  ChannelMessage start;
  start.kind = MessageKind::kStart;
  start.text = session->name;
  start.ticket = client->handshake_.ticket_id();
  start.key = client->handshake_.session_key();
  session->key.assign(reinterpret_cast<const char*>(start.ticket.data()), start.ticket.size());
  sessions_.emplace(session->key, session);
  read_channel(session);
  client->settled();
  spdlog::info("{}: {} (process {} on {}, from {}) uses the device '{}'; worker {}", session->name, introduction.program,
               introduction.pid, introduction.host, client->from_, choice->kind, session->pid);
  if (!ticket || !executor::send_message(session->channel->native_handle(), start)) {
    ::kill(session->pid, SIGKILL);
    return;
  }
  client->send(std::move(*ticket), false);
  client->watch([this, session] {
    session->timer = std::make_unique<asio::steady_timer>(io_, kControlGrace);
    session->timer->async_wait([this, session](asio::error_code error) {
      if (!error) stop_session(*session, "the client closed its control connection");
    });
  });
}

// ---- workers started ahead -------------------------------------------------------------

std::string Server::first_worker() {
  if (options_.device == "cpu") return {};
  if (options_.spare_workers == 0) return probe_driver(options_, options_.cuda_driver);
  const DeviceChoice cuda{"cuda", options_.cuda_driver, ""};
  auto worker = spawn_worker(options_, cuda, {}, true);
  if (!worker) return worker.error();
  std::string problem = wait_until_ready(*worker, cuda.driver);
  if (problem.empty()) {
    add_spare(cuda, std::move(*worker));
  } else {
    ::kill(worker->pid, SIGKILL);
    ::waitpid(worker->pid, nullptr, 0);
  }
  return problem;
}

std::shared_ptr<Spare> Server::add_spare(const DeviceChoice& device, WorkerProcess worker) {
  auto spare = std::make_shared<Spare>();
  spare->kind = device.kind;
  spare->pid = worker.pid;
  spare->channel = std::make_unique<asio::posix::stream_descriptor>(io_, worker.channel.release());
  spares_.push_back(spare);
  watch_spare(spare);
  return spare;
}

/// One that dies, or cannot open its devices, is not given to a session.
void Server::watch_spare(const std::shared_ptr<Spare>& spare) {
  spare->channel->async_wait(asio::posix::stream_descriptor::wait_read, [this, spare](asio::error_code error) {
    if (error || std::ranges::find(spares_, spare) == spares_.end()) return;  // it has a session
    ChannelMessage message;
    const Received received = executor::receive_message(spare->channel->native_handle(), message, false);
    if (received == Received::kNothing || (received == Received::kMessage && message.text.empty()))
      return watch_spare(spare);
    spdlog::warn("a worker that was started ahead ended: {}", message.text.empty() ? "no reason given" : message.text);
    std::erase(spares_, spare);
    ::kill(spare->pid, SIGKILL);
    ::waitpid(spare->pid, nullptr, 0);
  });
}

std::expected<Spare, std::string> Server::take_worker(const DeviceChoice& device, const Variables& variables) {
  const auto fits = [&](const auto& spare) { return spare->kind == device.kind; };
  const auto found = variables.empty() ? std::ranges::find_if(spares_, fits) : spares_.end();
  if (found == spares_.end()) {
    auto worker = spawn_worker(options_, device, variables, false);
    if (!worker) return std::unexpected(worker.error());
    return Spare{device.kind, worker->pid,
                 std::make_unique<asio::posix::stream_descriptor>(io_, worker->channel.release())};
  }
  const std::shared_ptr<Spare> spare = *found;
  spares_.erase(found);
  asio::error_code ignored;
  spare->channel->cancel(ignored);
  if (options_.refill_spare_workers) {
    spare_timer_.expires_after(kRefillAfter);
    spare_timer_.async_wait([this](asio::error_code error) {
      if (!error) refill_spares();
    });
  }
  return Spare{spare->kind, spare->pid, std::move(spare->channel)};
}

void Server::refill_spares() {
  const auto device = choose_device(options_, "auto", cuda_problem_);
  while (device && !draining_ && spares_.size() < options_.spare_workers) {
    auto worker = spawn_worker(options_, *device, {}, true);
    if (!worker) return spdlog::warn("no worker could be started ahead: {}", worker.error());
    add_spare(*device, std::move(*worker));
  }
}

void Server::stop_session(SessionEntry& session, const std::string& reason) {
  if (!session.channel || !session.channel->is_open()) return;
  ChannelMessage stop;
  stop.kind = MessageKind::kStop;
  stop.text = reason;
  executor::send_message(session.channel->native_handle(), stop);
}

void Server::read_channel(const std::shared_ptr<SessionEntry>& session) {
  session->channel->async_wait(asio::posix::stream_descriptor::wait_read, [this, session](asio::error_code error) {
    if (error) return;
    ChannelMessage message;
    const Received received = executor::receive_message(session->channel->native_handle(), message, false);
    if (received == Received::kMessage && message.kind == MessageKind::kEnded) session->ended = std::move(message);
    if (received != Received::kEnd) return read_channel(session);
    asio::error_code ignored;
    session->channel->close(ignored);
    reap(session);
  });
}

/// The worker has closed its channel: it is ending, and is waited for without waiting.
void Server::reap(const std::shared_ptr<SessionEntry>& session) {
  int status = 0;
  const pid_t got = ::waitpid(session->pid, &status, WNOHANG);
  if (got != 0) return session_over(session, got > 0 ? status : 0);
  session->timer = std::make_unique<asio::steady_timer>(io_, kReapAgain);
  session->timer->async_wait([this, session](asio::error_code) { reap(session); });
}

void Server::session_over(const std::shared_ptr<SessionEntry>& session, int status) {
  std::string reason;
  if (session->ended) {
    reason = session->ended->text;
  } else if (WIFSIGNALED(status)) {
    reason = "the worker was killed by signal " + std::to_string(WTERMSIG(status));
  } else {
    reason = "the worker ended with status " + std::to_string(WEXITSTATUS(status));
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - session->began).count();
  spdlog::info("{}: ended after {:.1f} s: {}; {} calls, {} bytes in, {} bytes out, {} bytes of payload copied by the CPU",
               session->name, seconds, reason, session->ended ? session->ended->calls : 0,
               session->ended ? session->ended->bytes_in : 0, session->ended ? session->ended->bytes_out : 0,
               session->ended ? session->ended->bytes_copied : 0);
  session->timer.reset();
  if (session->control->socket_.is_open()) session->control->send(wire::farewell(reason), true);
  session->control.reset();
  sessions_.erase(session->key);
  if (draining_ && sessions_.empty()) drain_timer_.cancel();
}

void Server::drain() {
  draining_ = true;
  doors_.clear();
  spare_timer_.cancel();
  for (const auto& spare : std::exchange(spares_, {})) {
    ::kill(spare->pid, SIGKILL);
    ::waitpid(spare->pid, nullptr, 0);
  }
  spdlog::info("stopping; {} sessions", sessions_.size());
  for (auto& weak : std::list<std::weak_ptr<Client>>(pending_))
    if (auto client = weak.lock()) client->drop();
  for (auto& [key, session] : sessions_) stop_session(*session, "the executor is being stopped");
  const auto finish = [this](asio::error_code) {
    for (auto& [key, session] : sessions_) {
      ::kill(session->pid, SIGKILL);
      ::waitpid(session->pid, nullptr, 0);
    }
    // A moment for the farewells to leave.
    drain_timer_.expires_after(kControlGrace / 4);
    drain_timer_.async_wait([this](asio::error_code) { io_.stop(); });
  };
  if (sessions_.empty()) return finish({});
  drain_timer_.expires_after(kStopDeadline);
  drain_timer_.async_wait(finish);
}

}  // namespace

Stopper::Stopper() : event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

void Stopper::stop() noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(event_.get(), &one, sizeof one);
}

std::expected<void, std::string> run(const Options& options, Stopper& stopper) {
  try {
    return Server(options, stopper).serve();
  } catch (const std::exception& error) {
    return std::unexpected(std::string("the broker failed: ") + error.what());
  }
}

}  // namespace avec::broker
