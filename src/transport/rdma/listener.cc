#include "transport/rdma/listener.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

#include <cerrno>

#include "transport/tcp/context.h"

namespace avec::rdma {
namespace {

/// A peer that connects and then says nothing delays the others by this.
constexpr auto kOpeningDeadline = 5000ms;
/// Connections that nobody has accepted yet; more wait in the socket's own queue.
constexpr std::size_t kMostAccepted = 256;

}  // namespace

ListenResult RdmaListener::make(std::unique_ptr<Listener> streams, std::string address,
                                Transport& transport) {
  auto wake = tcp::make_wake_descriptor();
  Descriptor ready(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE));
  if (!wake || !ready) return {nullptr, {TransportErrc::kResources, errno}, "listening on " + address};
  std::unique_ptr<RdmaListener> made(
      new RdmaListener(std::move(streams), std::move(address), transport, std::move(wake), std::move(ready)));
  // The application's signals are not for this thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    made->thread_ = std::thread([listener = made.get()] { listener->run(); });
  } catch (const std::system_error& error) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return {nullptr, {TransportErrc::kResources, error.code().value()}, "listening on " + made->address_};
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return {std::move(made), {}, {}};
}

RdmaListener::RdmaListener(std::unique_ptr<Listener> streams, std::string address, Transport& transport,
                           Descriptor wake, Descriptor ready)
    : streams_(std::move(streams)),
      address_(std::move(address)),
      transport_(transport),
      wake_(std::move(wake)),
      ready_(std::move(ready)) {}

RdmaListener::~RdmaListener() {
  ending_ = true;
  streams_->wake();
  if (thread_.joinable()) thread_.join();
}

void RdmaListener::run() noexcept {
  while (!ending_) {
    ConnectResult result = streams_->accept(Deadline::max());
    if (ending_) return;
    if (result.connection) {
      std::unique_ptr<Connection> stream = std::move(result.connection);
      result =
          transport_.upgrade(stream, End::kExecutor, std::chrono::steady_clock::now() + kOpeningDeadline);
      // Only that peer: it has been told why, or is gone.
      if (!result.connection) continue;
    } else if (!result.error) {
      continue;
    } else {
      std::this_thread::sleep_for(10ms);  // out of descriptors, say: it may pass
    }
    try {
      std::unique_lock lock(mutex_);
      if (accepted_.size() >= kMostAccepted) continue;
      accepted_.push_back(std::move(result));
    } catch (...) {
      continue;
    }
    tcp::signal_wake(ready_.get());
  }
}

ConnectResult RdmaListener::accept(Deadline deadline) noexcept {
  while (true) {
    pollfd entries[2] = {{ready_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    const int count = tcp::poll_until(entries, 2, deadline);
    if (count < 0) return {nullptr, {TransportErrc::kInternal, errno}, "accepting a connection"};
    if (count == 0) return {nullptr, {TransportErrc::kTimeout, 0}, "accepting a connection: deadline passed"};
    if (entries[0].revents == 0) {
      tcp::consume_wake(wake_.get());
      return {};
    }
    tcp::consume_wake(ready_.get());
    const std::scoped_lock lock(mutex_);
    if (accepted_.empty()) continue;
    ConnectResult result = std::move(accepted_.front());
    accepted_.pop_front();
    return result;
  }
}

void RdmaListener::wake() noexcept { tcp::signal_wake(wake_.get()); }

}  // namespace avec::rdma
