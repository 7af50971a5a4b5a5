// Regions of the client's memory: how many, how large, and when they are given up.
#include <chrono>
#include <thread>
#include <vector>

#include "base/limits.h"
#include "executor/recording_driver.h"
#include "executor/worker/host_regions.h"
#include "support/catch.h"

namespace avec::test {
namespace {

using worker::HostRegions;

RemoteKey key(std::uint64_t number) { return {{number, 0, 0, 1}}; }

/// The loop's part: helpers, and a table whose memory is wherever the test says.
struct Table {
  worker::DriverTable driver = recording_driver();
  worker::Helpers helpers{[] {}};
  HostRegions regions{driver, helpers};
  std::byte* base = reinterpret_cast<std::byte*>(0x100000);  // never touched
  std::uint64_t mapped_bytes = std::uint64_t{1} << 40;
  std::weak_ptr<int> mapping;  // of the last region; nobody but that region holds it

  Table() {
    reset_recording();
    regions.context = [] { return nullptr; };
    regions.mapped = [this](const RemoteKey&) {
      auto keeps = std::make_shared<int>();
      mapping = keeps;
      return MappedMemory{{base, mapped_bytes}, std::move(keeps)};
    };
  }
  void settle() {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    regions.settle();
    while (helpers.pending() != 0 && std::chrono::steady_clock::now() < deadline) {
      helpers.collect();
      regions.settle();
    }
  }
  int open(std::uint64_t number, std::uint64_t bytes) {
    int told = -1;
    regions.open(key(number), bytes, [&](CUresult status) { told = status; });
    settle();
    return told;
  }
};

}  // namespace

TEST_CASE("A session opens at most so many regions, and one more when one has been closed") {
  Table table;
  std::size_t opened = 0;
  for (std::uint64_t i = 1; i < limits::kMaxSharedMemories; ++i)
    table.regions.open(key(i), 4096, [&](CUresult status) { opened += status == CUDA_SUCCESS; });
  table.settle();
  CHECK(opened == limits::kMaxSharedMemories - 1);
  CHECK(table.open(limits::kMaxSharedMemories, 4096) == CUDA_SUCCESS);
  CHECK(table.open(limits::kMaxSharedMemories + 1, 4096) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK_FALSE(table.regions.known(key(limits::kMaxSharedMemories + 1)));
  int closed = -1;
  CHECK(table.regions.close(key(7), [&](CUresult status) { closed = status; }));
  table.settle();
  CHECK(closed == CUDA_SUCCESS);
  CHECK(table.open(limits::kMaxSharedMemories + 1, 4096) == CUDA_SUCCESS);
  CHECK(recorded("cuMemHostRegister") == limits::kMaxSharedMemories + 1);
  table.regions.clear();
  CHECK(recorded("cuMemHostUnregister") == limits::kMaxSharedMemories + 1);
}

TEST_CASE("A session's regions have at most so many bytes together") {
  Table table;
  CHECK(table.open(1, limits::kMaxSharedBytes + 1) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(table.open(1, limits::kMaxSharedBytes - 4096) == CUDA_SUCCESS);
  CHECK(table.open(2, 4097) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(table.open(2, 4096) == CUDA_SUCCESS);
  CHECK(table.open(3, 1) == CUDA_ERROR_OUT_OF_MEMORY);
}

TEST_CASE("Memory that is not mapped whole is not opened, and leaves no trace") {
  Table table;
  table.mapped_bytes = 8191;
  CHECK(table.open(1, 8192) == CUDA_ERROR_INVALID_VALUE);
  CHECK_FALSE(table.regions.known(key(1)));
  CHECK(recorded("cuMemHostRegister") == 0);
  table.mapped_bytes = 8192;
  CHECK(table.open(1, 8192) == CUDA_SUCCESS);
  CHECK(table.regions.find(key(1))->direct());
}

TEST_CASE("A region that is closed is found no more, and is unregistered when its last user has let go") {
  Table table;
  REQUIRE(table.open(1, 4096) == CUDA_SUCCESS);
  auto user = table.regions.find(key(1));
  bool closed = false;
  CHECK(table.regions.close(key(1), [&](CUresult) { closed = true; }));
  CHECK(table.regions.find(key(1)) == nullptr);
  CHECK_FALSE(table.regions.close(key(1), [](CUresult) {}));
  table.settle();
  CHECK_FALSE(closed);
  CHECK_FALSE(table.regions.idle());
  user.reset();
  table.settle();
  CHECK(closed);
  CHECK(table.regions.idle());
  CHECK(recorded("cuMemHostUnregister") == 1);
  table.regions.clear();
  CHECK(recorded("cuMemHostUnregister") == 1);
}

TEST_CASE("Memory of the client stays mapped from before it is registered until its region is no more") {
  Table table;
  REQUIRE(table.open(1, 4096) == CUDA_SUCCESS);
  CHECK_FALSE(table.mapping.expired());
  auto user = table.regions.find(key(1));
  table.regions.close(key(1), [&](CUresult) {
    CHECK(recorded("cuMemHostUnregister") == 1);
    CHECK(table.mapping.expired());  // as the client is told, which may give the memory back then
  });
  table.settle();
  CHECK_FALSE(table.mapping.expired());
  user.reset();
  table.settle();
  CHECK(table.regions.idle());
  CHECK(table.mapping.expired());
  fail_registration(CUDA_ERROR_NOT_SUPPORTED);  // the CPU copies
  REQUIRE(table.open(2, 4096) == CUDA_SUCCESS);
  CHECK_FALSE(table.mapping.expired());
  CHECK(table.open(3, table.mapped_bytes + 1) != CUDA_SUCCESS);
  table.regions.clear();
  CHECK(table.mapping.expired());
}

TEST_CASE("What helpers had not finished at the end is given up as well") {
  Table table;
  table.regions.offer = [](MutableBytes, RemoteKey& offered) { return offered = key(9), TransportError{}; };
  std::size_t withdrawn = 0;
  table.regions.withdraw = [&](MutableBytes memory) { withdrawn += memory.size(); };
  table.regions.open(key(1), 4096, [](CUresult) { FAIL("nobody collected it"); });
  table.regions.allocate(8192, [](CUresult, auto, const RemoteKey&) { FAIL("nobody collected it"); });
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while ((recorded("cuMemHostRegister") == 0 || recorded("cuMemHostAlloc") == 0) &&
         std::chrono::steady_clock::now() < deadline)
    std::this_thread::yield();
  table.helpers.stop();
  table.regions.clear();
  CHECK(recorded("cuMemHostUnregister") == 1);
  CHECK(recorded("cuMemFreeHost") == 1);
  CHECK(withdrawn == 8192);
}

TEST_CASE("Slots that cannot be offered to the client are freed at once") {
  Table table;
  table.regions.offer = [](MutableBytes, RemoteKey&) { return TransportError{TransportErrc::kResources, 0}; };
  int told = -1;
  table.regions.allocate(8192, [&](CUresult status, auto, const RemoteKey&) { told = status; });
  table.settle();
  CHECK(told == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(recorded("cuMemFreeHost") == 1);
}

}  // namespace avec::test
