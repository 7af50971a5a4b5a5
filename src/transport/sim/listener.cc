#include "transport/sim/listener.h"

#include "transport/sim/connection.h"

namespace avec::sim {

SimListener::SimListener(std::shared_ptr<Context> context, std::shared_ptr<ListenQueue> queue,
                         std::string name)
    : context_(std::move(context)), queue_(std::move(queue)), name_(std::move(name)) {}

SimListener::~SimListener() {
  const std::scoped_lock lock(context_->mutex);
  const auto found = context_->listeners.find(name_);
  if (found != context_->listeners.end() && found->second == queue_) context_->listeners.erase(found);
  for (auto& pending : queue_->pending) context_->reset(*pending.link, Direction::kFromServer);
}

ConnectResult SimListener::accept(Deadline deadline) noexcept {
  try {
    std::unique_lock lock(context_->mutex);
    const auto arrived = [&] {
      return !queue_->pending.empty() && queue_->pending.front().arrival <= context_->now();
    };
    Waiter waiter{.sleeper = &queue_->sleeper,
                  .deadline = context_->to_sim_time(deadline),
                  .ready = [&] { return queue_->sleeper.woken() || arrived(); },
                  .next =
                      [&] {
                        if (queue_->pending.empty()) return kNever;
                        const auto arrival = queue_->pending.front().arrival;
                        return arrival > context_->now() ? arrival : kNever;
                      }};
    context_->wait(lock, waiter);
    if (!arrived()) {
      if (queue_->sleeper.consume_wake()) return {};
      return {nullptr, {TransportErrc::kTimeout, 0}, "accepting a connection: deadline passed"};
    }
    auto link = std::move(queue_->pending.front().link);
    queue_->pending.pop_front();
    link->driver[static_cast<int>(Direction::kFromServer)] = std::this_thread::get_id();
    context_->log(*link, Direction::kFromServer, TraceEvent::Kind::kAccept);
    lock.unlock();
    auto peer = "sim://client-" + std::to_string(link->number);
    return {
        std::make_unique<SimConnection>(context_, std::move(link), Direction::kFromServer, std::move(peer)),
        {},
        {}};
  } catch (...) {
    return {nullptr, {TransportErrc::kResources, 0}, {}};
  }
}

}  // namespace avec::sim
