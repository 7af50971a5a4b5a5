#include "executor/in_process.h"

#include <array>
#include <atomic>
#include <cstring>
#include <list>
#include <map>
#include <mutex>
#include <thread>

#include "executor/worker/door.h"
#include "executor/worker/opening.h"
#include "wire/handshake.h"

namespace avec {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

/// One session: the thread that runs it and what data connections need to reach it.
struct Served {
  explicit Served(const wire::BrokerHandshake& handshake)
      : ticket(handshake.ticket_id(), handshake.session_key(), false) {}
  worker::Ticket ticket;
  std::unique_ptr<worker::Session> session;
  std::unique_ptr<worker::Door> door;
  std::shared_ptr<Connection> control;
  std::thread thread;
  std::atomic<bool> over{false};
};

class Executor final : public InProcessExecutor {
 public:
  Executor(Options options, std::unique_ptr<Listener> listener)
      : options_(std::move(options)), listener_(std::move(listener)), acceptor_([this] { accept(); }) {}
  ~Executor() override { stop(); }

  std::string address() const override { return listener_->address(); }
  std::size_t sessions() const override {
    std::lock_guard lock(mutex_);
    std::size_t running = 0;
    for (const auto& served : served_) running += !served->over;
    return running;
  }
  void stop() override;

 private:
  void accept();
  void greet(std::unique_ptr<Connection> connection);
  void control(std::shared_ptr<Connection> connection, Deadline deadline);
  void data(std::unique_ptr<Connection> connection, ConstBytes preamble, const wire::Preamble& parsed, Deadline deadline);
  void begin(const wire::BrokerHandshake& handshake, std::shared_ptr<Connection> control, const wire::Bytes& ticket,
             Deadline deadline);
  void reap(bool all);

  const Options options_;
  std::unique_ptr<Listener> listener_;
  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;
  std::list<std::shared_ptr<Served>> served_;  // guarded by mutex_
  std::list<std::thread> greeters_;            // guarded by mutex_
  std::vector<std::thread::id> greeted_;       // finished greeters; guarded by mutex_
  unsigned counter_ = 0;                       // guarded by mutex_
  std::thread acceptor_;
};

void Executor::accept() {
  while (!stopping_) {
    ConnectResult accepted = listener_->accept(Clock::now() + 200ms);
    if (accepted.connection != nullptr && !stopping_) {
      std::lock_guard lock(mutex_);
      greeters_.emplace_back([this, connection = std::move(accepted.connection)]() mutable {
        greet(std::move(connection));
        std::lock_guard done(mutex_);
        greeted_.push_back(std::this_thread::get_id());
      });
    } else if (accepted.error && accepted.error.code != TransportErrc::kTimeout) {
      std::this_thread::sleep_for(10ms);
    }
    reap(false);
  }
}

void Executor::reap(bool all) {
  std::list<std::thread> threads;
  std::list<std::shared_ptr<Served>> ended;
  {
    std::lock_guard lock(mutex_);
    for (auto it = greeters_.begin(); it != greeters_.end();) {
      auto next = std::next(it);
      const bool done = std::erase(greeted_, it->get_id()) != 0;
      if (done || all) threads.splice(threads.end(), greeters_, it);
      it = next;
    }
    for (auto it = served_.begin(); it != served_.end();) {
      auto next = std::next(it);
      if ((*it)->over || all) ended.splice(ended.end(), served_, it);
      it = next;
    }
  }
  for (std::thread& thread : threads) thread.join();
  for (auto& served : ended)
    if (served->thread.joinable()) served->thread.join();
}

void Executor::greet(std::unique_ptr<Connection> connection) {
  const auto deadline = Clock::now() + limits::kAuthenticationDeadline;
  std::array<std::byte, wire::kPreambleBytes> bytes;
  if (!worker::receive_all(*connection, bytes, deadline)) return;
  auto preamble = wire::parse_preamble(bytes);
  if (!preamble) return;
  if (preamble->kind() == wire::ConnectionKind::Control) {
    control(std::move(connection), deadline);
  } else {
    data(std::move(connection), bytes, *preamble, deadline);
  }
}

void Executor::control(std::shared_ptr<Connection> connection, Deadline deadline) {
  wire::BrokerHandshake handshake(options_.token);
  auto challenge = handshake.challenge(options_.session.release);
  if (!challenge || !worker::send_all(*connection, *challenge, deadline)) return;
  wire::MessageReceiver message;
  while (!message.complete()) {
    const MutableBytes space = message.space();
    if (!worker::receive_all(*connection, space, deadline) || !message.advance(space.size())) return;
  }
  auto introduction = handshake.check(message.message());
  if (!introduction) {
    const auto refusal = wire::refusal(introduction.error().code, introduction.error().message);
    worker::send_all(*connection, refusal, deadline);
    connection->close();
    return;
  }
  auto ticket = handshake.ticket(options_.session.device_kind, "an executor inside of a process");
  if (ticket) begin(handshake, std::move(connection), *ticket, deadline);
}

void Executor::begin(const wire::BrokerHandshake& handshake, std::shared_ptr<Connection> control,
                     const wire::Bytes& ticket, Deadline deadline) {
  auto served = std::make_shared<Served>(handshake);
  served->control = control;
  {
    std::lock_guard lock(mutex_);
    worker::SessionOptions session = options_.session;
    session.name = "session " + std::to_string(++counter_);
    served->session = std::make_unique<worker::Session>(std::move(session));
    served->door = std::make_unique<worker::Door>(*served->session);
    served_.push_back(served);
  }
  // The ticket goes out when the session can be found by it.
  if (!worker::send_all(*control, ticket, deadline)) served->session->stop("the control connection broke");
  std::lock_guard lock(mutex_);
  served->thread = std::thread([this, served = served.get(), control] {
    const worker::SessionReport report = served->session->run(false);
    const auto goodbye = wire::farewell(report.reason);
    worker::send_all(*control, goodbye, Clock::now() + 200ms);
    control->close();
    if (options_.ended) options_.ended(report);
    served->over = true;
  });
}

void Executor::data(std::unique_ptr<Connection> connection, ConstBytes preamble, const wire::Preamble& parsed,
                    Deadline deadline) {
  std::shared_ptr<Served> served;
  {
    std::lock_guard lock(mutex_);
    for (const auto& candidate : served_) {
      if (!candidate->over &&
          std::memcmp(parsed.ticket()->Data(), candidate->ticket.id().data(), sizeof(wire::TicketId)) == 0)
        served = candidate;
    }
  }
  if (served == nullptr) {
    const wire::DataAccept refusal(0, static_cast<std::uint32_t>(wire::RefusalCode::Authentication), 0);
    worker::send_all(*connection, {reinterpret_cast<const std::byte*>(&refusal), sizeof refusal}, deadline);
    connection->close();
    return;
  }
  const auto checked = worker::check_proof(connection, preamble, served->ticket, deadline);
  if (checked) static_cast<void>(served->door->enter(std::move(connection), *checked));
}

void Executor::stop() {
  if (stopping_.exchange(true)) return;
  listener_->wake();
  acceptor_.join();
  {
    std::lock_guard lock(mutex_);
    for (const auto& served : served_) served->session->stop("the executor is being stopped");
  }
  reap(true);
}

}  // namespace

std::unique_ptr<InProcessExecutor> InProcessExecutor::start(Options options, std::string& problem) {
  ListenResult listening;
  if (options.listener) {
    listening = options.listener(options.listen);
  } else if (Transport* transport = find_transport(options.listen)) {
    listening = transport->listen(options.listen);
  } else {
    problem = "no transport for " + options.listen;
    return nullptr;
  }
  if (listening.listener == nullptr) {
    problem = "cannot listen on " + options.listen + ": " +
              (listening.detail.empty() ? std::string(to_string(listening.error.code)) : listening.detail);
    return nullptr;
  }
  return std::make_unique<Executor>(std::move(options), std::move(listening.listener));
}

}  // namespace avec
