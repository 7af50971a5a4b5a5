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

#include <openssl/ssl.h>

#include "base/limits.h"
#include "executor/broker/audit.h"
#include "executor/broker/client.h"
#include "executor/broker/service.h"
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

// A client that closed its control connection has this long for its worker to notice by itself.
constexpr auto kControlGrace = 300ms;
// Workers that were asked to end and did not are killed.
constexpr auto kStopDeadline = 800ms;
constexpr auto kReapAgain = 5ms;
// What a Stopper counts: an order to drain is one, an order to end at once is as good as two.
constexpr std::uint64_t kAtOnce = 2;
// A session that has just begun has the machine for itself this long.
constexpr auto kRefillAfter = 500ms;

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

/// A session: its worker process and its control connection.
struct SessionEntry {
  std::string name;
  std::string key;  ///< ticket as bytes
  std::shared_ptr<Client> control;
  pid_t pid = -1;
  std::unique_ptr<asio::posix::stream_descriptor> channel;
  Clock::time_point began = Clock::now();
  AuditRecord record;  ///< what is known from the beginning
  std::optional<ChannelMessage> ended;
  std::unique_ptr<asio::steady_timer> timer;
};

/// A worker that has been started and waits for a session.
struct Spare {
  std::string kind;  ///< of its device
  pid_t pid = -1;
  std::unique_ptr<asio::posix::stream_descriptor> channel;
};

class Server final : public Reception {
 public:
  Server(const Options& options, Stopper& stopper)
      : Reception(options), options_(options), stopper_(stopper), io_(io), stop_(io_), drain_timer_(io_), watchdog_(io_), manager_(options.service_manager), spare_timer_(io_) {}

  std::expected<void, std::string> serve();

 private:
  /// One address that is listened on.
  struct Door {
    std::unique_ptr<Listener> listener;  // takes a socket's file away at its end
    asio::basic_socket_acceptor<Stream> acceptor;
  };
  std::expected<void, std::string> listen(const std::string& url);
  void accept(Door& door);
  std::expected<void, std::string> prepare_tls();
  void pass_data(Client& client, const wire::Preamble& preamble) override;
  void begin_session(const std::shared_ptr<Client>& client, const wire::Introduction& introduction) override;
  void read_channel(const std::shared_ptr<SessionEntry>& session);
  void reap(const std::shared_ptr<SessionEntry>& session);
  void session_over(const std::shared_ptr<SessionEntry>& session, int status);
  void stop_session(SessionEntry& session, const std::string& reason);
  void audit(SessionEntry& session, const std::string& how);
  void wait_for_stop();
  void drain();
  void end_sessions();
  void tell_status();
  void feed_watchdog();
  /// Whether there is a GPU, and a first spare worker if there shall be any.
  std::string first_worker();
  std::expected<Spare, std::string> take_worker(const DeviceChoice& device, const Variables& variables);
  std::shared_ptr<Spare> add_spare(const DeviceChoice& device, WorkerProcess worker);
  void watch_spare(const std::shared_ptr<Spare>& spare);
  void refill_spares();

  const Options& options_;
  Stopper& stopper_;
  asio::io_context& io_;
  std::list<Door> doors_;
  asio::posix::stream_descriptor stop_;
  asio::steady_timer drain_timer_, watchdog_;
  const Notifier manager_;
  std::string addresses_;  // of all doors, with commas
  std::string cuda_problem_;
  bool draining_ = false;  // no new sessions
  bool ending_ = false;    // no sessions
  unsigned counter_ = 0;
  std::map<std::string, std::shared_ptr<SessionEntry>> sessions_;
  std::list<std::shared_ptr<Spare>> spares_;
  asio::steady_timer spare_timer_;
};

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
  if (!error && !is_local(own) && tls == nullptr && !options_.insecure) {
    return std::unexpected("listening on " + address +
                           " needs authentication: give --token-file, or certificates (--tls-certificate, --tls-key, "
                           "--tls-ca; avec keygen makes them), or --insecure to let everybody in");
  }
  addresses_ += (addresses_.empty() ? "" : ",") + address;
  return {};
}

/// What there is to authenticate with, before the first address is listened on.
std::expected<void, std::string> Server::prepare_tls() {
  tls::Credentials credentials = options_.credentials;
  if (!options_.token.empty()) {
    const auto key = wire::token_key(options_.token);
    if (!key) return std::unexpected(std::string(key.error().what) + " failed");
    credentials.secret = tls::PreShared{std::string(tls::kControlName), *key};
  }
  if (!credentials.any()) {
    if (options_.encryption != Encryption::kOn) return {};
    return std::unexpected(
        "transport-encryption is on, but there is nothing to authenticate with: give --token-file, or certificates "
        "(--tls-certificate, --tls-key, --tls-ca; avec keygen makes them)");
  }
  auto context = tls::Context::make(End::kExecutor, credentials);
  if (!context) return std::unexpected(context.error());
  tls = std::move(*context);
  ::SSL_CTX_up_ref(tls->native());
  asio_tls = std::make_unique<asio::ssl::context>(tls->native());
  return {};
}

std::expected<void, std::string> Server::serve() {
  if (auto prepared = prepare_tls(); !prepared) return prepared;
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
  wait_for_stop();
  for (Door& door : doors_) accept(door);
  refill_spares();
  if (options_.listening) options_.listening(addresses_);
  spdlog::info("serving {} on {}", choice->kind, addresses_);
  manager_.tell("READY=1");
  tell_status();
  feed_watchdog();
  io_.run();
  return {};
}

void Server::accept(Door& door) {
  door.acceptor.async_accept([this, &door](asio::error_code error, Stream::socket socket) {
    if (ending_) return;
    if (error) {
      if (error == asio::error::operation_aborted) return;
      // Out of descriptors, mostly: room comes when connections end.
      auto pause = std::make_shared<asio::steady_timer>(io_, 20ms);
      pause->async_wait([this, &door, pause](asio::error_code) {
        if (!ending_) accept(door);
      });
      return;
    }
    std::make_shared<Client>(*this, std::move(socket))->begin();
    accept(door);
  });
}

void Server::pass_data(Client& client, const wire::Preamble& preamble) {
  const std::string key(reinterpret_cast<const char*>(preamble.ticket()->Data()), sizeof(wire::TicketId));
  auto found = sessions_.find(key);
  if (found == sessions_.end()) {
    const wire::DataAccept refusal(0, static_cast<std::uint32_t>(wire::RefusalCode::Authentication), 0);
    const auto* bytes = reinterpret_cast<const std::byte*>(&refusal);
    spdlog::info("{} refused: a data connection of no session", client.from());
    if (options_.told) options_.told(Event::kRefused, "a data connection of no session");
    client.send({bytes, bytes + sizeof refusal}, true);
    client.watch([] {});
    return;
  }
  ChannelMessage message;
  message.kind = MessageKind::kData;
  message.descriptor.reset(::fcntl(client.descriptor(), F_DUPFD_CLOEXEC, 3));
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
  const bool encrypted = client->encrypts(introduction);
  auto ticket = client->handshake().ticket(choice->kind, choice->reason, encrypted);
  ChannelMessage start;
  start.kind = MessageKind::kStart;
  start.text = session->name;
  start.ticket = client->handshake().ticket_id();
  start.key = client->handshake().session_key();
  start.encrypted = encrypted;
  session->key.assign(reinterpret_cast<const char*>(start.ticket.data()), start.ticket.size());
  session->record = {.session = std::to_string(counter_), .identity = client->identity(), .from = client->from(),
                     .program = introduction.program, .host = introduction.host, .device = choice->kind,
                     .program_pid = static_cast<std::uint64_t>(introduction.pid), .worker_pid = session->pid,
                     .encrypted = encrypted};
  sessions_.emplace(session->key, session);
  tell_status();
  read_channel(session);
  client->settled();
  spdlog::info("{}: {} (process {} on {}, from {}, authenticated: {}, {}) uses the device '{}'; worker {}", session->name,
               introduction.program, introduction.pid, introduction.host, client->from(), client->identity(),
               encrypted ? "encrypted" : "in clear", choice->kind, session->pid);
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
  audit(*session, reason);
  session->timer.reset();
  if (session->control->is_open()) session->control->send(wire::farewell(reason), true);
  session->control.reset();
  sessions_.erase(session->key);
  tell_status();
  if (draining_ && sessions_.empty()) drain_timer_.cancel();
}

void Server::audit(SessionEntry& session, const std::string& how) {
  AuditRecord& record = session.record;
  if (!record.ended.empty()) return;  // killed, and then seen to be gone
  record.seconds = std::chrono::duration<double>(Clock::now() - session.began).count();
  record.ended = how;
  if (session.ended) {
    record.calls = session.ended->calls;
    record.bytes_in = session.ended->bytes_in;
    record.bytes_out = session.ended->bytes_out;
    record.bytes_copied = session.ended->bytes_copied;
  }
  if (options_.audit) options_.audit(audit_line(record));
}

// ---- the end, and who started this -----------------------------------------------------

void Server::tell_status() {
  manager_.tell("STATUS=" + std::string(draining_ ? "stopping; " : "") + std::to_string(sessions_.size()) +
                (sessions_.size() == 1 ? " session" : " sessions"));
}

/// From this loop and nowhere else: one that is stuck says nothing.
void Server::feed_watchdog() {
  if (options_.service_manager.watchdog.count() == 0) return;
  manager_.tell("WATCHDOG=1");
  watchdog_.expires_after(options_.service_manager.watchdog / 2);
  watchdog_.async_wait([this](asio::error_code error) {
    if (!error) feed_watchdog();
  });
}

void Server::wait_for_stop() {
  stop_.async_wait(asio::posix::stream_descriptor::wait_read, [this](asio::error_code error) {
    if (error) return;
    std::uint64_t count = 0;
    [[maybe_unused]] const auto got = ::read(stop_.native_handle(), &count, sizeof count);
    const bool again = draining_ || count >= kAtOnce;
    if (!draining_) drain();
    if (again && !ending_) end_sessions();
    if (!ending_) wait_for_stop();
  });
}

/// Addresses stay open: a session that has its ticket gets its data connections, and who asks for another hears why not.
void Server::drain() {
  draining_ = true;
  spare_timer_.cancel();
  for (const auto& spare : std::exchange(spares_, {})) {
    ::kill(spare->pid, SIGKILL);
    ::waitpid(spare->pid, nullptr, 0);
  }
  manager_.tell("STOPPING=1");
  tell_status();
  spdlog::info("stopping; {} sessions", sessions_.size());
  if (sessions_.empty() || options_.drain.count() == 0) return end_sessions();
  drain_timer_.expires_after(options_.drain);
  drain_timer_.async_wait([this](asio::error_code) {
    if (!ending_) end_sessions();
  });
}

void Server::end_sessions() {
  ending_ = true;
  doors_.clear();
  for (auto& weak : std::list<std::weak_ptr<Client>>(pending))
    if (auto client = weak.lock()) client->drop();
  for (auto& [key, session] : sessions_) stop_session(*session, "the executor is being stopped");
  const auto finish = [this](asio::error_code) {
    for (auto& [key, session] : sessions_) {
      ::kill(session->pid, SIGKILL);
      ::waitpid(session->pid, nullptr, 0);
      audit(*session, "killed: it did not end when the executor was stopped");
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

void Stopper::stop_now() noexcept { [[maybe_unused]] const auto written = ::write(event_.get(), &kAtOnce, sizeof kAtOnce); }

std::expected<void, std::string> run(const Options& options, Stopper& stopper) {
  try {
    return Server(options, stopper).serve();
  } catch (const std::exception& error) {
    return std::unexpected(std::string("the broker failed: ") + error.what());
  }
}

}  // namespace avec::broker
