#include "base/descriptor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>

#include "support/catch.h"

namespace {

bool readable(int fd) {
  pollfd entry{fd, POLLIN, 0};
  return ::poll(&entry, 1, 0) == 1;
}

}  // namespace

TEST_CASE("an event is readable from its signal until it is consumed") {
  const auto event = avec::make_event();
  REQUIRE(event);
  CHECK_FALSE(readable(event.get()));
  errno = 7;
  avec::signal_event(event.get());
  avec::signal_event(event.get());
  CHECK(errno == 7);
  CHECK(readable(event.get()));
  avec::consume_event(event.get());
  CHECK_FALSE(readable(event.get()));
}

TEST_CASE("a descriptor that is out of the way has a high number and is closed in children") {
  const auto event = avec::make_event();
  CHECK(event.get() >= 900);
  CHECK(::fcntl(event.get(), F_GETFD) == FD_CLOEXEC);
  const auto moved = avec::out_of_the_way(avec::Descriptor(::dup(event.get())));
  CHECK(moved.get() >= 900);
  CHECK_FALSE(avec::out_of_the_way(avec::Descriptor()));
}

TEST_CASE("a file or socket that took an event's number is neither written nor read") {
  const auto event = avec::make_event();
  REQUIRE(event);
  std::FILE* file = std::tmpfile();
  REQUIRE(file != nullptr);
  REQUIRE(::dup2(::fileno(file), event.get()) == event.get());
  avec::signal_event(event.get());
  CHECK(::lseek(event.get(), 0, SEEK_END) == 0);
  REQUIRE(::write(event.get(), "contents", 8) == 8);
  REQUIRE(::lseek(event.get(), 0, SEEK_SET) == 0);
  avec::consume_event(event.get());
  CHECK(::lseek(event.get(), 0, SEEK_CUR) == 0);
  std::fclose(file);

  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  REQUIRE(::dup2(ends[0], event.get()) == event.get());
  avec::signal_event(event.get());
  CHECK_FALSE(readable(ends[1]));
  ::close(ends[0]);
  ::close(ends[1]);
}
