#include "transport/shm/listener.h"

#include <cerrno>
#include <new>

#include "transport/shm/upgrade.h"

namespace avec::shm {

ConnectResult ShmListener::accept(Deadline deadline) noexcept {
  try {
    while (true) {
      auto accepted = streams_->accept(deadline);
      if (!accepted.connection) return accepted;
      auto taken = take_offer(std::move(accepted.connection), deadline);
      if (taken.connection || taken.error.code == TransportErrc::kResources) return taken;
      // Not one of ours, or gone again: the next.
    }
  } catch (const std::bad_alloc&) {
    return {nullptr, {TransportErrc::kResources, ENOMEM}, {}};
  }
}

std::string ShmListener::address() const {
  const auto address = streams_->address();
  return "shm" + address.substr(address.find("://"));
}

}  // namespace avec::shm
