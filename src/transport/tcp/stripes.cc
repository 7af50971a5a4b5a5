#include "transport/tcp/stripes.h"

#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "transport/tcp/connection.h"
#include "transport/tcp/factory.h"

namespace avec::tcp {

Stripes::Stripes() : news_(make_wake_descriptor()) {}

OneSidedTraits Stripes::traits() const noexcept {
  return {.maps = false, .ordered = false, .slots_up_to = 0, .add_from = SIZE_MAX};
}

bool Stripes::is_added(MutableBytes range) const {
  return std::any_of(added_.begin(), added_.end(), [&](MutableBytes added) {
    return range.data() >= added.data() && range.data() + range.size() <= added.data() + added.size();
  });
}

MemoryResult Stripes::allocate(std::size_t bytes, void* wish) noexcept {
  const std::unique_lock lock(mutex_);
  if (const auto error = over()) return {{}, error};
  void* const at = ::mmap(wish, bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | (wish != nullptr ? MAP_FIXED : 0), -1, 0);
  if (at == MAP_FAILED) return {{}, {TransportErrc::kResources, errno}};
  const MutableBytes memory(static_cast<std::byte*>(at), bytes);
  try {
    added_.push_back(memory);
    return {memory, {}};
  } catch (const std::bad_alloc&) {
    ::munmap(at, bytes);
    return {{}, {TransportErrc::kResources, ENOMEM}};
  }
}

void Stripes::free(MutableBytes memory, bool keep_reserved) noexcept {
  remove(memory);
  if (keep_reserved) {
    ::mmap(memory.data(), memory.size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
           -1, 0);
  } else {
    ::munmap(memory.data(), memory.size());
  }
}

TransportError Stripes::add(MutableBytes memory) noexcept {
  const std::unique_lock lock(mutex_);
  if (const auto error = over()) return error;
  if (memory.empty()) return {TransportErrc::kInternal, EINVAL};
  try {
    added_.push_back(memory);
    return {};
  } catch (const std::bad_alloc&) {
    return {TransportErrc::kResources, ENOMEM};
  }
}

void Stripes::remove(MutableBytes memory) noexcept {
  std::unique_lock lock(mutex_);
  const auto found = std::find_if(added_.begin(), added_.end(), [&](MutableBytes one) {
    return one.data() == memory.data() && one.size() == memory.size();
  });
  if (found == added_.end()) return;
  added_.erase(found);
  memory_gone(lock);
}

TransportError Stripes::broken() const noexcept {
  const std::unique_lock lock(mutex_);
  return broken_;
}

void Stripes::break_with(TransportError error) {
  if (over()) return;
  broken_ = error;
  is_broken_.store(true, std::memory_order_release);
  shut_down();
  signal_wake(news_.get());
}

void Stripes::fail(TransportError error) noexcept {
  const std::unique_lock lock(mutex_);
  break_with(error);
}

// ---- what a connection does with them ------------------------------------------------

namespace {

TcpConnection* tcp_of(Connection& connection) { return dynamic_cast<TcpConnection*>(&connection); }

}  // namespace

bool offer_stripes(Connection& connection, StripeOptions options) {
  auto* const tcp = tcp_of(connection);
  if (tcp == nullptr || options.count == 0) return false;
  options.count = std::min(options.count, kMaxStripes);
  return tcp->use(std::make_shared<OwnerStripes>(std::move(options)), End::kClient);
}

void forget_stripes_after_fork(Connection& connection) noexcept {
  if (auto* const owner = dynamic_cast<OwnerStripes*>(connection.one_sided())) owner->forget_after_fork();
}

std::shared_ptr<PeerStripes> accept_stripes(Connection& connection) {
  auto* const tcp = tcp_of(connection);
  auto stripes = std::make_shared<PeerStripes>();
  return tcp != nullptr && tcp->use(stripes, End::kExecutor) ? stripes : nullptr;
}

}  // namespace avec::tcp
