// What fork() meets of RDMA connections: descriptors that are theirs still, numbers that are not, and
// fork handlers of others.
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <mutex>

#include "base/handle.h"
#include "transport/rdma/context.h"
#include "transport/rdma_fault_support.h"

namespace avec::contract {
namespace {

/// Runs `body` in a forked child; whether it said yes.
template <class Body>
bool in_child(Body body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body() ? 0 : 1);
  int status = 0;
  return child > 0 && ::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool is_open(int descriptor) { return ::fcntl(descriptor, F_GETFD) >= 0; }

/// A file of the program's own under this number, which must be free.
Descriptor own_file(int number) {
  Descriptor file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (file.get() != number) file = Descriptor(::fcntl(file.get(), F_DUPFD_CLOEXEC, number));
  return file;
}

int stream_number(Connection& connection) { return tcp::native_descriptor(*rdma::stream_of(connection)); }

TEST_CASE(
    "rdma fork: a child has no stream of an open connection, and keeps the files that it opens itself") {
  const Balance balance;
  Victim victim;
  const int number = stream_number(victim.client());
  CHECK(in_child([&] {
    if (is_open(number)) return false;
    const Descriptor file = own_file(number);
    return file.get() == number && in_child([&] { return is_open(number); });
  }));
  tell(victim.ends.client, victim.ends.server);
}

TEST_CASE("rdma fork: a file of the program's that has the number of a closed connection stays open") {
  const Balance balance;
  Victim victim;
  const int number = stream_number(victim.client());
  if (GENERATE(true, false)) victim.ends.pair.server.reset();  // or it is this end that begins
  victim.client().close();
  const Descriptor file = own_file(number);
  REQUIRE(file.get() == number);
  CHECK(in_child([&] { return is_open(number); }));
}

TEST_CASE("rdma fork: what a guard held is closed by no child once the guard is gone") {
  const Descriptor file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  {
    const rdma::ForkGuard guard({file.get(), -1});
    CHECK(in_child([&] { return !is_open(file.get()); }));
  }
  CHECK(in_child([&] { return is_open(file.get()); }));
}

/// A lock that is held over fork(), as the client holds the one of its opening. Its handlers are
/// there before any of the transport's.
struct HeldOverFork {
  std::timed_mutex mutex;
  std::atomic<bool> wanted{false}, asked{false}, given_up{false};
  bool held = false;  // the forking thread's
} over_fork;

const int over_fork_registered = ::pthread_atfork(
    [] {
      if (!over_fork.wanted) return;
      over_fork.asked = true;
      over_fork.held = over_fork.mutex.try_lock_for(5s);
      over_fork.given_up = !over_fork.held;
    },
    [] {
      if (std::exchange(over_fork.held, false)) over_fork.mutex.unlock();
    },
    nullptr);

TEST_CASE("rdma fork: connections begin and end while a fork waits for who opens them") {
  REQUIRE(over_fork_registered == 0);
  const Descriptor file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const rdma::ForkGuard open({file.get()});
  over_fork.wanted = true;
  std::thread forking;
  bool child_was_good = false;
  {
    const std::scoped_lock lock(over_fork.mutex);
    forking = std::thread([&] { child_was_good = in_child([&] { return !is_open(file.get()); }); });
    while (!over_fork.asked) std::this_thread::yield();
    rdma::ForkGuard begun({file.get()});
    begun.forget(file.get());
  }
  forking.join();
  over_fork.wanted = false;
  CHECK_FALSE(over_fork.given_up);
  CHECK(child_was_good);
}

}  // namespace
}  // namespace avec::contract
