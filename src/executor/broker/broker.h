// The broker: listens, authenticates, starts a worker process for each session and passes it
// its connections. It never touches CUDA: a driver that hangs or crashes is a session's loss.
#pragma once

#include <chrono>
#include <expected>
#include <filesystem>
#include <functional>
#include <string>

#include "avec/transport.h"
#include "base/handle.h"
#include "executor/broker/service.h"
#include "transport/tls/context.h"

namespace avec::broker {

using tls::Encryption;

/// What connections came to, for who watches them.
enum class Event : std::uint8_t {
  kRefused,   ///< and why
  kDecoding,  ///< from where: a message of somebody who has authenticated, or need not, is about to be decoded
};

struct Options {
  /// "tcp://HOST:PORT" (port 0 chooses one) or "unix:///PATH", or several with commas between them.
  std::string listen = "tcp://127.0.0.1:7700";
  /// Secret shared with the clients; empty only with `insecure`, or on addresses that
  /// only this machine's processes reach: loopback, sockets of the Unix domain.
  std::string token;
  /// Certificate, key, authorities. The secret is made from the token.
  tls::Credentials credentials;
  Encryption encryption = Encryption::kAuto;
  /// Nobody has to authenticate, on any address.
  bool insecure = false;
  /// "auto", "cuda" or "cpu".
  std::string device = "auto";
  std::string cuda_driver = "libcuda.so.1";
  /// Path of libavec_cpu_device.so.
  std::string cpu_device;
  /// The program whose `worker` subcommand (worker::main) is started, and the arguments before
  /// that subcommand's own.
  std::string program;
  std::string subcommand = "worker";
  WaitMode wait_mode = WaitMode::kAdaptive;
  std::chrono::microseconds spin{50};
  std::filesystem::path cache_dir;
  /// Workers started ahead of their sessions, with their devices open and a context on the first. A
  /// session whose client sets variables that matter to CUDA gets a worker of its own.
  unsigned spare_workers = 0;
  /// One is started for each that was taken.
  bool refill_spare_workers = true;
  /// Workers use GPUDirect RDMA where they can.
  bool gpudirect = false;
  /// Folders with NVIDIA's libraries, colons between them.
  std::string library_path;
  std::string log_level = "info";
  /// Whose rights workers have, where this process is root's; empty: those of this process.
  std::string user;
  /// Workers give up what they do not need (worker/confinement.h).
  bool confine = true;
  std::string release;
  /// How long sessions may go on once the broker has been told to stop.
  std::chrono::seconds drain{0};
  ServiceManager service_manager;
  /// Told the bound addresses, with commas between them, before the first client is accepted.
  std::function<void(const std::string& address)> listening;
  /// May be empty. On the broker's thread.
  std::function<void(Event event, const std::string& what)> told;
  /// Gets a line for each session that has ended (audit.h). May be empty. On the broker's thread.
  std::function<void(const std::string& line)> audit;
};

/// Asks a running broker to end: sessions may go on for Options::drain, unless it is asked again. Any thread;
/// async-signal-safe.
class Stopper {
 public:
  Stopper();
  void stop() noexcept;
  /// Sessions are ended at once.
  void stop_now() noexcept;
  int descriptor() const noexcept { return event_.get(); }

 private:
  Descriptor event_;
};

/// Serves until `stopper` is told; ends within about a second of the last session, or of the end of Options::drain. The error is a sentence
/// that says what to do. Prints nothing; logs through spdlog's default logger.
std::expected<void, std::string> run(const Options& options, Stopper& stopper);

}  // namespace avec::broker
