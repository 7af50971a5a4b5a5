// What a confined worker can no longer do. Each case runs in a child, which is confined for good.
#include "executor/worker/confinement.h"

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <string>
#include <thread>

#include "support/catch.h"

namespace avec::test {
namespace {

/// Runs the body in a child. Empty, or what it returned.
std::string in_child(const std::function<std::string()>& body) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const std::string said = body();
    [[maybe_unused]] const auto written = ::write(ends[1], said.data(), said.size());
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string said;
  std::array<char, 4096> buffer;
  for (ssize_t n; (n = ::read(ends[0], buffer.data(), buffer.size())) > 0;) said.append(buffer.data(), static_cast<std::size_t>(n));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? said : said + " killed by signal " + std::to_string(WTERMSIG(status));
}

std::string confined(const std::function<std::string()>& body) {
  return in_child([&] {
    if (const std::string problem = worker::confine({}); !problem.empty()) return "not confined: " + problem;
    return body();
  });
}

TEST_CASE("every call on the list fails with EPERM in a confined worker, and most of them not for that reason before") {
  const auto tried = [] {
    std::string not_refused;
    for (const worker::Refused& call : worker::refused_calls()) {
      errno = 0;
      // Arguments that name nothing: an unconfined process gets another error.
      const long got = ::syscall(call.number, -1, -1, -1, -1, -1, -1);
      if (got != -1 || errno != EPERM) not_refused += std::string(" ") + call.name;
    }
    return not_refused;
  };
  CHECK(confined(tried) == "");
  // execve and ptrace without confinement: EFAULT, ESRCH or the like, so the test can fail.
  const std::string before = in_child([] {
    std::string said;
    ::syscall(SYS_execve, -1, -1, -1);
    said += errno == EPERM ? " execve" : "";
    ::syscall(SYS_ptrace, -1, -1, -1, -1);
    said += errno == EPERM ? " ptrace" : "";
    return said;
  });
  CHECK(before == "");
}

TEST_CASE("a confined worker starts no program") {
  CHECK(confined([]() -> std::string {
          char path[] = "/bin/true";
          char* argv[] = {path, nullptr};
          ::execv(path, argv);
          return std::strerror(errno);
        }) == std::strerror(EPERM));
}

TEST_CASE("a confined worker opens sockets of the families that transports use, and no others") {
  CHECK(confined([]() -> std::string {
          for (const int family : {AF_UNIX, AF_INET, AF_INET6}) {
            const int fd = ::socket(family, SOCK_STREAM, 0);
            if (fd < 0 && errno != EAFNOSUPPORT) return "family " + std::to_string(family) + ": " + std::strerror(errno);
            if (fd < 0 && family == AF_UNIX) return "no sockets of the Unix domain";
            ::close(fd);
          }
          for (const int family : {AF_PACKET, AF_BLUETOOTH, AF_VSOCK, AF_ALG, AF_KEY}) {
            if (::socket(family, SOCK_RAW, 0) >= 0 || errno != EAFNOSUPPORT) return "family " + std::to_string(family) + " can be opened";
          }
          return {};
        }) == "");
}

TEST_CASE("a confined worker makes threads and processes, and no namespaces") {
  CHECK(confined([]() -> std::string {
          bool ran = false;
          std::thread([&] { ran = true; }).join();
          if (!ran) return "no thread";
          if (::syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0) >= 0) return "a user namespace";
          return errno == EPERM ? "" : std::strerror(errno);
        }) == "");
}

TEST_CASE("a confined worker gains no privileges, dumps no core and is not read by others") {
  CHECK(confined([]() -> std::string {
          if (::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return "new privileges";
          if (::prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != 2) return "no filter";
          if (::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0) return "dumpable";
          rlimit limit{};
          ::getrlimit(RLIMIT_CORE, &limit);
          if (limit.rlim_max != 0) return "core dumps";
          ::getrlimit(RLIMIT_NOFILE, &limit);
          return limit.rlim_max <= 65'536 && limit.rlim_cur == limit.rlim_max ? "" : "descriptors";
        }) == "");
}

TEST_CASE("a worker of root's takes another user's rights for good") {
  if (::getuid() != 0) return;
  CHECK(in_child([]() -> std::string {
          if (const auto problem = worker::confine({"nobody", true}); !problem.empty()) return problem;
          if (::getuid() == 0 || ::geteuid() == 0 || ::getgid() == 0) return "still root";
          return ::setuid(0) == 0 ? "root again" : "";
        }) == "");
}

TEST_CASE("a user that there is not, or that only root can become, is said") {
  CHECK(in_child([] { return worker::confine({"no-such-user", false}); }) == "there is no user 'no-such-user'");
  CHECK(in_child([]() -> std::string {
          if (::getuid() == 0 && ::setuid(65534) != 0) return "cannot leave root";
          return worker::confine({"root", false});
        }) == "only root can run workers as 'root'");
}

}  // namespace
}  // namespace avec::test
