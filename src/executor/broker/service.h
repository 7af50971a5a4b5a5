// What a broker tells the service manager that started it, in systemd's protocol (sd_notify(3)): datagrams to the socket
// that it names in the environment.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "base/handle.h"

namespace avec::broker {

struct ServiceManager {
  /// A path, or a name of the abstract space with an @ before it. Empty: nobody wants to know.
  std::string socket;
  /// The manager counts a service that has said nothing for so long as stuck; 0: it does not.
  std::chrono::microseconds watchdog{0};

  /// Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment, so that no worker has them. Only while
  /// the process has one thread.
  static ServiceManager take_from_environment();
};

/// Owner: the broker. Its thread only.
class Notifier {
 public:
  explicit Notifier(const ServiceManager& manager);
  /// Lines "VARIABLE=value". Waits for nothing; what the manager does not take is lost.
  void tell(std::string_view lines) const;

 private:
  std::string name_;  // as in sun_path; empty: there is nobody
  Descriptor socket_;
};

}  // namespace avec::broker
