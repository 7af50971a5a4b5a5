#include "executor/broker/service.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace avec::broker {
namespace {

std::string take(const char* variable) {
  const char* value = std::getenv(variable);
  std::string text = value != nullptr ? value : "";
  ::unsetenv(variable);
  return text;
}

std::uint64_t number(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() ? value : 0;
}

}  // namespace

ServiceManager ServiceManager::take_from_environment() {
  ServiceManager manager;
  manager.socket = take("NOTIFY_SOCKET");
  const std::uint64_t period = number(take("WATCHDOG_USEC"));
  const std::string of_process = take("WATCHDOG_PID");
  // A parent's watchdog is not ours.
  const bool ours = of_process.empty() || number(of_process) == static_cast<std::uint64_t>(::getpid());
  constexpr std::uint64_t kLongest = std::uint64_t{86'400} * 1'000'000;
  if (ours && period <= kLongest) manager.watchdog = std::chrono::microseconds(period);
  return manager;
}

Notifier::Notifier(const ServiceManager& manager) {
  const bool sensible = manager.socket.size() > 1 && manager.socket.size() < sizeof(sockaddr_un::sun_path) &&
                        (manager.socket[0] == '/' || manager.socket[0] == '@');
  if (!sensible) return;
  socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket_) return;
  name_ = manager.socket;
  if (name_[0] == '@') name_[0] = '\0';
}

void Notifier::tell(std::string_view lines) const {
  if (name_.empty()) return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, name_.data(), name_.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name_.size());
  [[maybe_unused]] const ssize_t sent = ::sendto(socket_.get(), lines.data(), lines.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                                                 reinterpret_cast<const sockaddr*>(&address), size);
}

}  // namespace avec::broker
