#include "executor/broker/spawn.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "base/wait_mode.h"
#include "executor/worker_channel.h"

extern char** environ;

namespace avec::broker {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

// The first start of a GPU's driver after boot takes seconds.
constexpr auto kProbeDeadline = 20s;
// The worker's end of the channel, in the worker.
constexpr int kWorkerChannel = 3;

// Variables that decide how CUDA and its libraries behave. Nothing that names files, libraries
// or programs of the executor's machine.
constexpr std::string_view kAllowed[] = {
    "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER",       "CUDA_LAUNCH_BLOCKING",          "CUDA_MODULE_LOADING",
    "CUDA_FORCE_PTX_JIT",   "CUDA_DISABLE_PTX_JIT",    "CUDA_DEVICE_MAX_CONNECTIONS",   "CUDA_SCALE_LAUNCH_QUEUES",
    "NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG", "CUDA_DEVICE_DEFAULT_PERSISTING_L2_CACHE_PERCENTAGE_LIMIT"};
constexpr std::size_t kMaxVariable = 4096;

bool allowed(const std::string& name) {
  for (std::string_view candidate : kAllowed)
    if (name == candidate) return true;
  return false;
}

class FileActions {
 public:
  FileActions() { ::posix_spawn_file_actions_init(&actions_); }
  ~FileActions() { ::posix_spawn_file_actions_destroy(&actions_); }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;
  posix_spawn_file_actions_t* get() { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

std::expected<pid_t, std::string> spawn(const std::vector<std::string>& arguments,
                                        const std::vector<std::string>& environment, FileActions& actions) {
  std::vector<char*> argv, envp;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  for (const std::string& variable : environment) envp.push_back(const_cast<char*>(variable.c_str()));
  envp.push_back(nullptr);
  // Signals that this process blocks or ignores are the worker's again.
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none, all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, arguments.front().c_str(), actions.get(), &attributes, argv.data(), envp.data());
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) return std::unexpected("cannot start " + arguments.front() + ": " + std::strerror(error));
  return pid;
}

std::vector<std::string> own_environment() {
  std::vector<std::string> variables;
  for (char** at = environ; *at != nullptr; ++at) variables.emplace_back(*at);
  return variables;
}

}  // namespace

std::string probe_driver(const Options& options, const std::string& library) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return "no pipe";
  Descriptor from(ends[0]), to(ends[1]);
  FileActions actions;
  ::posix_spawn_file_actions_addopen(actions.get(), STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(actions.get(), to.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_addclosefrom_np(actions.get(), STDERR_FILENO + 1);
  auto child = spawn({options.program, options.subcommand, "--probe", library}, own_environment(), actions);
  to.reset();
  if (!child) return child.error();
  std::string text;
  const auto deadline = Clock::now() + kProbeDeadline;
  bool ended = false;
  while (!ended && Clock::now() < deadline) {
    pollfd poller{from.get(), POLLIN, 0};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    if (::poll(&poller, 1, static_cast<int>(left.count()) + 1) <= 0) continue;
    std::array<char, 512> buffer;
    const ssize_t got = ::read(from.get(), buffer.data(), buffer.size());
    if (got > 0 && text.size() < 4096) text.append(buffer.data(), static_cast<std::size_t>(got));
    ended = got == 0 || (got < 0 && errno != EINTR);
  }
  if (!ended) ::kill(*child, SIGKILL);
  int status = 0;
  while (::waitpid(*child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!ended) return library + " did not answer in time";
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  if (const auto line = text.find('\n'); line != std::string::npos) text.resize(line);
  return text.empty() ? "asking " + library + " for its devices failed" : text;
}

std::expected<DeviceChoice, std::string> choose_device(const Options& options, const std::string& wish,
                                                       const std::string& cuda_problem) {
  const bool pinned = options.device != "auto";
  if (wish != "auto" && wish != "cuda" && wish != "cpu") return std::unexpected("no device kind is called '" + wish + "'");
  if (pinned && wish != "auto" && wish != options.device) {
    return std::unexpected("this executor serves the device '" + options.device + "' only; ask for it, or for 'auto'");
  }
  const std::string kind = pinned ? options.device : wish;
  const std::string who = pinned ? "the executor's --device" : "the client's wish";
  if (kind == "cpu") return DeviceChoice{"cpu", options.cpu_device, who};
  if (kind == "cuda") {
    if (cuda_problem.empty()) return DeviceChoice{"cuda", options.cuda_driver, who};
    return std::unexpected("this executor has no GPU to offer (" + cuda_problem + "); ask for the device 'cpu' to use its CPU device");
  }
  if (cuda_problem.empty()) return DeviceChoice{"cuda", options.cuda_driver, "a GPU is there"};
  return DeviceChoice{"cpu", options.cpu_device, "no GPU: " + cuda_problem};
}

Variables deciding_variables(const Variables& of_client) {
  Variables deciding;
  for (const auto& [key, value] : of_client) {
    if (!allowed(key) || value.size() > kMaxVariable || value.find('\0') != std::string::npos) continue;
    const char* own = std::getenv(key.c_str());
    if (own == nullptr || value != own) deciding.emplace_back(key, value);
  }
  return deciding;
}

std::string wait_until_ready(const WorkerProcess& worker, const std::string& library) {
  const auto deadline = Clock::now() + kProbeDeadline;
  while (Clock::now() < deadline) {
    pollfd poller{worker.channel.get(), POLLIN, 0};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    if (::poll(&poller, 1, static_cast<int>(left.count()) + 1) <= 0) continue;
    executor::ChannelMessage message;
    switch (executor::receive_message(worker.channel.get(), message, false)) {
      case executor::Received::kMessage:
        return message.text;
      case executor::Received::kEnd:
        return "a worker that opened " + library + " ended at once";
      case executor::Received::kNothing:
        break;
    }
  }
  return library + " did not answer in time";
}

std::expected<WorkerProcess, std::string> spawn_worker(const Options& options, const DeviceChoice& device,
                                                       const Variables& environment, bool ahead) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return std::unexpected(std::string("no socket pair: ") + std::strerror(errno));
  WorkerProcess worker;
  worker.channel.reset(ends[0]);
  const Descriptor other(ends[1]);
  ::fcntl(worker.channel.get(), F_SETFL, O_NONBLOCK);

  std::vector<std::string> variables = own_environment();
  for (const auto& [key, value] : environment) {
    std::erase_if(variables, [&](const std::string& v) { return v.starts_with(key + "="); });
    variables.push_back(key + "=" + value);
  }
  FileActions actions;
  ::posix_spawn_file_actions_addopen(actions.get(), STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  // Nothing but the log may appear; the worker captures what kernels print.
  ::posix_spawn_file_actions_adddup2(actions.get(), STDERR_FILENO, STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(actions.get(), other.get(), kWorkerChannel);
  ::posix_spawn_file_actions_addclosefrom_np(actions.get(), kWorkerChannel + 1);
  auto pid = spawn({options.program, options.subcommand, "--fd", std::to_string(kWorkerChannel), "--driver",
                    device.driver, "--kind", device.kind, "--wait", std::string(name_of(options.wait_mode)), "--spin",
                    std::to_string(options.spin.count()), "--cache-dir", options.cache_dir.string(), "--release",
                    options.release, "--ahead", ahead ? "true" : "false", "--library-path", options.library_path, "--gpudirect", options.gpudirect ? "true" : "false",
                    "--log-level", options.log_level, "--user", options.user, "--confine", options.confine ? "true" : "false"},
                   variables, actions);
  if (!pid) return std::unexpected(pid.error());
  worker.pid = *pid;
  return worker;
}

}  // namespace avec::broker
