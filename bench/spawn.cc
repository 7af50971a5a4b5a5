#include "spawn.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string_view>

namespace avec::bench {
namespace {

using Clock = std::chrono::steady_clock;

// Starts a program with its stdout in a pipe; -1 when that fails.
pid_t start(const std::vector<std::string>& command, const Environment& environment, bool quiet,
            Descriptor& output) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return -1;
  output.reset(ends[0]);
  Descriptor inner(ends[1]);
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::dup2(inner.get(), STDOUT_FILENO);
  if (quiet) {
    const int nothing = ::open("/dev/null", O_WRONLY);
    if (nothing >= 0) ::dup2(nothing, STDERR_FILENO);
  }
  for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> arguments;
  for (const auto& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  ::execv(arguments[0], arguments.data());
  ::_exit(127);
}

// Reads one line; false at the end of the stream or the deadline.
bool read_line(int fd, std::string& pending, std::string& line, Clock::time_point deadline) {
  while (true) {
    const auto end = pending.find('\n');
    if (end != std::string::npos) {
      line = pending.substr(0, end);
      pending.erase(0, end + 1);
      return true;
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return false;
    pollfd entry{fd, POLLIN, 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(left));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return false;
    char part[4096];
    const auto got = ::read(fd, part, sizeof part);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    pending.append(part, static_cast<std::size_t>(got));
  }
}

// Waits for the process, then ends it; its status, or -1.
int reap(pid_t pid, Clock::time_point deadline) {
  int status = 0;
  while (Clock::now() < deadline) {
    const auto done = ::waitpid(pid, &status, WNOHANG);
    if (done == pid) return status;
    if (done < 0 && errno != EINTR) return -1;
    ::usleep(1000);
  }
  ::kill(pid, SIGKILL);
  ::waitpid(pid, &status, 0);
  return -1;
}

}  // namespace

Finished run(const std::vector<std::string>& command, const Environment& environment,
             std::chrono::seconds limit, bool quiet, const std::function<void(const std::string&)>& on_line) {
  Finished finished;
  Descriptor output;
  const auto deadline = Clock::now() + limit;
  const pid_t pid = start(command, environment, quiet, output);
  if (pid < 0) return finished;
  std::string pending, line;
  while (read_line(output.get(), pending, line, deadline)) {
    finished.lines.push_back(line);
    if (on_line) on_line(line);
  }
  finished.ok = reap(pid, std::min(deadline, Clock::now() + std::chrono::seconds(10))) == 0;
  return finished;
}

Server::Server(const std::vector<std::string>& command, const Environment& environment) {
  pid_ = start(command, environment, false, output_);
  if (pid_ < 0) return;
  constexpr std::string_view kPrefix = "listening on ";
  const auto deadline = Clock::now() + std::chrono::seconds(30);
  std::string pending, line;
  while (read_line(output_.get(), pending, line, deadline)) {
    if (line.starts_with(kPrefix)) {
      url_ = line.substr(kPrefix.size());
      return;
    }
  }
}

Server::~Server() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGTERM);
  reap(pid_, Clock::now() + std::chrono::seconds(5));
}

Executor::Executor(const std::string& program, const std::string& address, const std::string& wait,
                   const std::string& device)
    : Server({program, "serve", "--listen", "tcp://" + address + ":0", "--insecure"},
             {{"AVEC_WAIT", wait}, {"AVEC_DEVICE", device}, {"AVEC_LOG_LEVEL", "warn"}}) {}

std::string own_program() { return std::filesystem::read_symlink("/proc/self/exe").string(); }

ProxyProcess::ProxyProcess(const std::string& to, const std::string& shape)
    : Server({own_program(), "proxy", "--listen", "tcp://127.0.0.1:0", "--to", to, "--shape", shape}, {}) {}

}  // namespace avec::bench
