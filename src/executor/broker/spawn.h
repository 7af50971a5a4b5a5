// Worker processes: how they are started, and what they are asked beforehand.
#pragma once

#include <sys/types.h>

#include <expected>
#include <string>
#include <utility>
#include <vector>

#include "base/handle.h"
#include "executor/broker/broker.h"

namespace avec::broker {

/// What sessions run on, and why.
struct DeviceChoice {
  std::string kind;    ///< "cuda" or "cpu"
  std::string driver;  ///< library
  std::string reason;  ///< for people
};

/// Asks a short-lived process whether the library has a device. Empty: it has; otherwise why not.
std::string probe_driver(const Options& options, const std::string& library);

/// The device for a session, from the operator's setting, the client's wish and what is there
/// (`cuda_problem`: what probe_driver said of the GPU). The error is for the client.
std::expected<DeviceChoice, std::string> choose_device(const Options& options, const std::string& wish,
                                                       const std::string& cuda_problem);

struct WorkerProcess {
  pid_t pid = -1;
  Descriptor channel;  ///< non-blocking SOCK_SEQPACKET
};

using Variables = std::vector<std::pair<std::string, std::string>>;

/// Those of the client's variables that decide how a worker behaves: on the allow-list, and not what
/// this process's environment says anyway. A worker started ahead serves who has none.
Variables deciding_variables(const Variables& of_client);

/// Starts a worker for one session. `variables`: from deciding_variables(). `ahead`: it opens its
/// devices at once and says so (MessageKind::kReady); otherwise with its session.
std::expected<WorkerProcess, std::string> spawn_worker(const Options& options, const DeviceChoice& device,
                                                       const Variables& variables, bool ahead);

/// What a worker started ahead says of its devices: empty, or why they cannot be opened. Waits for it.
std::string wait_until_ready(const WorkerProcess& worker, const std::string& library);

}  // namespace avec::broker
