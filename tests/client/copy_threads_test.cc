#include "client/copy_threads.h"

#include <atomic>
#include <latch>

#include "base/limits.h"
#include "support/catch.h"

using namespace avec::client;

TEST_CASE("one thread does the work itself") {
  CopyThreads threads(1);
  const auto here = std::this_thread::get_id();
  int times = 0;
  threads.run(8, [&] { times += std::this_thread::get_id() == here; });
  CHECK(times == 1);
}

TEST_CASE("helpers join in, and run() returns when all are back") {
  CopyThreads threads(4);
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> inside{0}, most{0};
    std::latch all(4);
    threads.run(4, [&] {
      ++inside;
      all.arrive_and_wait();  // all four are there at once
      most = 4;
      --inside;
    });
    REQUIRE(inside == 0);
    REQUIRE(most == 4);
  }
}

TEST_CASE("who finds all helpers at work does its work alone") {
  CopyThreads threads(2);
  std::latch begun(2), end(1);
  std::thread other([&] {
    threads.run(2, [&] {
      begun.count_down();
      end.wait();
    });
  });
  begun.wait();
  int times = 0;
  threads.run(2, [&] { ++times; });
  CHECK(times == 1);
  end.count_down();
  other.join();
}

TEST_CASE("the number of threads has a limit, and is chosen where none is asked for") {
  constexpr unsigned kMost = avec::limits::kMaxCopyThreads;
  CHECK(CopyThreads(kMost - 1).count() == kMost - 1);
  CHECK(CopyThreads(kMost).count() == kMost);
  CHECK(CopyThreads(kMost + 1).count() == kMost);
  CHECK(CopyThreads(0).count() >= 1);
}
