#include "transport/sim/factory.h"

#include <algorithm>
#include <array>

#include "transport/sim/connection.h"
#include "transport/sim/context.h"
#include "transport/sim/listener.h"

namespace avec::sim {
namespace {

// The NAME of "SCHEME://NAME", empty when there is none.
std::string_view name_of(std::string_view url) {
  const auto at = url.find("://");
  if (at == std::string_view::npos || at == 0) return {};
  const auto name = url.substr(at + 3);
  return name.size() > 255 || name.find_first_of("/ \t\n") != std::string_view::npos ? std::string_view()
                                                                                     : name;
}

const char* const kBadUrl = "the address does not parse; write sim://NAME";

class SimTransport final : public Transport {
 public:
  SimTransport(SimNetwork network, std::string scheme)
      : network_(std::move(network)), scheme_(std::move(scheme)) {}

  std::string_view scheme() const noexcept override { return scheme_; }
  TransportError viable(std::string& detail) const override {
    detail.clear();
    return {};
  }
  ConnectResult connect(std::string_view url, Deadline deadline) noexcept override {
    return network_.connect(url, deadline);
  }
  ListenResult listen(std::string_view url) noexcept override { return network_.listen(url); }

 private:
  SimNetwork network_;
  const std::string scheme_;
};

}  // namespace

std::string to_string(const TraceEvent& event) {
  static constexpr std::array kNames = {"connect", "accept", "send",  "receive",
                                        "loss",    "reset",  "close", "passed over"};
  return std::to_string(event.time.count()) + " ns link " + std::to_string(event.link) +
         (event.end == Direction::kFromClient ? " client " : " server ") +
         kNames[static_cast<std::size_t>(event.kind)] + " " + std::to_string(event.bytes);
}

SimNetwork::SimNetwork(NetworkOptions options) : context_(std::make_shared<Context>(options)) {}

ConnectResult SimNetwork::connect(std::string_view url, Deadline deadline) noexcept {
  try {
    const auto name = name_of(url);
    if (name.empty()) return {nullptr, {TransportErrc::kBadAddress, 0}, kBadUrl};
    auto& context = *context_;
    std::unique_lock lock(context.mutex);
    const auto found = context.listeners.find(name);
    // What the client will learn after a round trip is decided now.
    const bool refused =
        context.refusals > 0 || found == context.listeners.end() || found->second->pending.size() >= kBacklog;
    if (context.refusals > 0) --context.refusals;
    std::shared_ptr<Link> link;
    if (!refused) {
      link = std::make_shared<Link>();
      link->number = static_cast<std::uint32_t>(context.links.size());
      link->shape = context.options.shape;
      link->one_sided = context.options.one_sided;
      link->faults = context.next_faults ? *context.next_faults : context.options.faults;
      context.next_faults.reset();
      link->pipes[0].reset_at = link->faults.reset_from_client_at;
      link->pipes[1].reset_at = link->faults.reset_from_server_at;
      for (std::uint64_t side = 0; side < 2; ++side) {
        std::seed_seq seed{context.options.seed, std::uint64_t{link->number}, side};
        link->pipes[side].random.seed(seed);
      }
      context.links.push_back(link);
      context.log(*link, Direction::kFromClient, TraceEvent::Kind::kConnect);
      found->second->pending.push_back({link, context.now() + link->shape.round_trip / 2});
      context.changed();
    }
    const auto answer = context.now() + context.options.shape.round_trip;
    Sleeper sleeper;
    Waiter waiter{.sleeper = &sleeper,
                  .deadline = context.to_sim_time(deadline),
                  .ready = [&] { return context.now() >= answer; },
                  .next = [&] { return answer; }};
    if (!context.wait(lock, waiter)) {
      if (link) context.reset(*link, Direction::kFromClient);
      return {
          nullptr, {TransportErrc::kTimeout, 0}, "connecting to " + std::string(url) + ": deadline passed"};
    }
    if (refused) {
      return {nullptr,
              {TransportErrc::kRefused, 0},
              "connecting to " + std::string(url) + ": nobody listens there"};
    }
    link->driver[static_cast<int>(Direction::kFromClient)] = std::this_thread::get_id();
    for (auto& pipe : link->pipes) {
      if (pipe.reset_at == std::uint64_t{0}) context.reset(*link, Direction::kFromClient);
    }
    lock.unlock();
    return {
        std::make_unique<SimConnection>(context_, std::move(link), Direction::kFromClient, std::string(url)),
        {},
        {}};
  } catch (...) {
    return {nullptr, {TransportErrc::kResources, 0}, {}};
  }
}

ListenResult SimNetwork::listen(std::string_view url) noexcept {
  try {
    std::string name(name_of(url));
    if (name.empty()) return {nullptr, {TransportErrc::kBadAddress, 0}, kBadUrl};
    const std::scoped_lock lock(context_->mutex);
    auto queue = std::make_shared<ListenQueue>();
    if (!context_->listeners.emplace(name, queue).second) {
      return {nullptr, {TransportErrc::kInternal, 0}, "another listener has the name " + name};
    }
    return {std::make_unique<SimListener>(context_, std::move(queue), std::move(name)), {}, {}};
  } catch (...) {
    return {nullptr, {TransportErrc::kResources, 0}, {}};
  }
}

Deadline SimNetwork::now() const noexcept {
  const std::scoped_lock lock(context_->mutex);
  return context_->to_deadline(context_->now());
}

std::chrono::nanoseconds SimNetwork::elapsed() const noexcept {
  const std::scoped_lock lock(context_->mutex);
  return context_->now();
}

void SimNetwork::set_shape(const Shape& shape) {
  const std::scoped_lock lock(context_->mutex);
  context_->options.shape = shape;
}

void SimNetwork::set_faults(const Faults& faults) {
  const std::scoped_lock lock(context_->mutex);
  context_->options.faults = faults;
}

void SimNetwork::set_one_sided(const OneSidedOptions& one_sided) {
  const std::scoped_lock lock(context_->mutex);
  context_->options.one_sided = one_sided;
}

void SimNetwork::set_next_faults(const Faults& faults) {
  const std::scoped_lock lock(context_->mutex);
  context_->next_faults = faults;
}

void SimNetwork::refuse_connects(unsigned count) {
  const std::scoped_lock lock(context_->mutex);
  context_->refusals = count;
}

std::uint32_t SimNetwork::links() const {
  const std::scoped_lock lock(context_->mutex);
  return static_cast<std::uint32_t>(context_->links.size());
}

void SimNetwork::reset(std::uint32_t number) {
  const std::scoped_lock lock(context_->mutex);
  if (number >= context_->links.size()) return;
  if (const auto link = context_->links[number].lock()) context_->reset(*link, Direction::kFromClient);
}

void SimNetwork::reset_all() {
  const std::scoped_lock lock(context_->mutex);
  for (const auto& weak : context_->links) {
    if (const auto link = weak.lock()) context_->reset(*link, Direction::kFromClient);
  }
}

void SimNetwork::stall(std::uint32_t number, Direction direction, bool held) {
  const std::scoped_lock lock(context_->mutex);
  if (number >= context_->links.size()) return;
  if (const auto link = context_->links[number].lock()) {
    link->pipes[static_cast<int>(direction)].held = held;
    context_->changed();
  }
}

void SimNetwork::hand_over(std::uint32_t number, Direction end) {
  const std::scoped_lock lock(context_->mutex);
  if (number >= context_->links.size()) return;
  if (const auto link = context_->links[number].lock()) link->handed_over[static_cast<int>(end)] = true;
}

void SimNetwork::vanish(std::uint32_t number) {
  stall(number, Direction::kFromClient, true);
  stall(number, Direction::kFromServer, true);
}

std::vector<TraceEvent> SimNetwork::trace() const {
  const std::scoped_lock lock(context_->mutex);
  auto sorted = context_->trace;
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

std::unique_ptr<Transport> make_transport(SimNetwork network, std::string scheme) {
  return std::make_unique<SimTransport>(std::move(network), std::move(scheme));
}

SimNetwork default_network() {
  static auto* const network = new SimNetwork;
  return *network;
}

std::unique_ptr<Transport> make_default_transport() { return make_transport(default_network(), "sim"); }

}  // namespace avec::sim
