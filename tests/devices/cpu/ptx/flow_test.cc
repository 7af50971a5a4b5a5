// Control flow, calls, memory, faults and output.
#include <chrono>
#include <cmath>
#include <thread>

#include "device.h"
#include "support/catch.h"

namespace avec::cpu::ptx {
namespace {

const char* const kVariants[] = {"sm75", "sm90", "debug", "sm120"};

int expected_switch(int i, int n, const int* out) {
  int r = i;
  for (int k = 0; k < n; ++k) {
    switch ((r + k) % 9) {
      case 0: r += 3; break;
      case 1: r *= 2; break;
      case 2: r -= 7; break;
      case 3: r ^= 0x55; break;
      case 4:
        if (r & 1) continue;
        r /= 2;
        break;
      case 5: r += out[i]; break;
      case 6:
        if (r > 1000) return r;
        r += 11;
        break;
      case 7: r = -r; break;
      default: r++;
    }
    r &= 0xFFFF;
  }
  return r;
}

}  // namespace

TEST_CASE("a vector addition leaves alone what lies past its end") {
  TestDevice device(ptx_of("basic", "sm90"));
  std::vector<float> a(1000), b(1000);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i), b[i] = 0.5f;
  float* c = device.allocate<float>(1024);
  REQUIRE(device.run("vector_add", {8, 1, 1}, {128, 1, 1}, 0, device.upload(a), device.upload(b), c, 1000) == Fault::kNone);
  for (std::size_t i = 0; i < 1024; ++i) REQUIRE(c[i] == (i < 1000 ? static_cast<float>(i) + 0.5f : 0.0f));
}

TEST_CASE("functions, pointers, recursion, local arrays, switches and templates run as on the host") {
  for (const char* variant : kVariants) {
    INFO(variant);
    TestDevice device(ptx_of("basic", variant));
    int* out = device.allocate<int>(128);
    REQUIRE(device.run("recursion", {1, 1, 1}, {64, 1, 1}, 0, out) == Fault::kNone);
    const int fibonacci[] = {0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144};
    for (int i = 0; i < 64; ++i) REQUIRE(out[i] == fibonacci[i % 13]);

    REQUIRE(device.run("pointers", {1, 1, 1}, {64, 1, 1}, 0, out, 1) == Fault::kNone);
    for (int i = 0; i < 64; ++i) {
      const int which = (1 + i) % 3;
      REQUIRE(out[i] == (which == 0 ? i + 1 : which == 1 ? 2 * i : i * i) + 10 * (3 + i % 5) + (i & 3) + 1);
    }

    REQUIRE(device.run("local_arrays", {1, 1, 1}, {64, 1, 1}, 0, out, 5) == Fault::kNone);
    for (int t = 0; t < 64; ++t) {
      int values[32], at = t % 32, sum = 0;
      for (int i = 0; i < 32; ++i) values[i] = (i * 7 + t) % 32;
      for (int i = 0; i < 5; ++i) at = values[at];
      for (int i = 0; i < 32; ++i) values[(i + 5) & 31] += at;
      for (int i = 0; i < 32; ++i) sum += values[i] * i;
      REQUIRE(out[t] == sum);
    }

    std::vector<int> expected(64);
    for (int i = 0; i < 64; ++i) out[i] = i * 3;
    for (int i = 0; i < 64; ++i) expected[static_cast<std::size_t>(i)] = expected_switch(i, 50, out);
    REQUIRE(device.run("switches", {1, 1, 1}, {64, 1, 1}, 0, out, 50) == Fault::kNone);
    for (int i = 0; i < 64; ++i) REQUIRE(out[i] == expected[static_cast<std::size_t>(i)]);

    double* d = device.allocate<double>(64);
    REQUIRE(device.run("templates", {1, 1, 1}, {64, 1, 1}, 0, d) == Fault::kNone);
    for (int i = 0; i < 64; ++i) REQUIRE(d[i] == std::pow(i, 5) + std::pow(i, 3) + i * i);

    struct Pair {
      float scale;
      double offset;
      char tag[5];
    } pair{2.5f, 0.25, {1, 2, 3, 4, 5}};
    REQUIRE(device.run("structure", {1, 1, 1}, {64, 1, 1}, 0, d, pair) == Fault::kNone);
    for (int i = 0; i < 64; ++i) REQUIRE(d[i] == 2.5 * i + 0.25 + 3);

    long long* sums = device.allocate<long long>(64);
    REQUIRE(device.run("heap", {1, 1, 1}, {64, 1, 1}, 0, sums) == Fault::kNone);
    for (int i = 0; i < 64; ++i) REQUIRE(sums[i] == 2016ll * i);
  }
}

TEST_CASE("a barrier does not wait for threads that have returned") {
  for (const char* variant : kVariants) {
    TestDevice device(ptx_of("basic", variant));
    int* out = device.allocate<int>(128);
    REQUIRE(device.run("early_exit", {1, 1, 1}, {96, 1, 1}, 0, out, 40) == Fault::kNone);
    int total = 0;
    for (int i = 40; i < 96; ++i) total += i % 3 != 1;
    for (int i = 0; i < 96; ++i) REQUIRE(out[i] == (i >= 40 && i % 3 != 1 ? total : 0));
  }
}

TEST_CASE("printf writes what C's printf writes") {
  for (const char* variant : kVariants) {
    TestDevice device(ptx_of("basic", variant));
    REQUIRE(device.run("speak", {1, 1, 1}, {32, 1, 1}, 0, 2, 1.5f) == Fault::kNone);
    REQUIRE(device.out == "0:  0.00 text A ff 1099511627776 %\n1:  1.50 text B ff 1099511627776 %\n");
  }
}

TEST_CASE("a failed assertion names its place and thread") {
  for (const char* variant : kVariants) {
    TestDevice device(ptx_of("basic", variant));
    REQUIRE(device.run("insist", {1, 1, 1}, {32, 1, 1}, 0, 32) == Fault::kNone);
    REQUIRE(device.run("insist", {1, 1, 1}, {32, 1, 1}, 0, 31) == Fault::kAssert);
    REQUIRE(device.err.find("basic.cu:") != std::string::npos);
    REQUIRE(device.err.find(": block: [0,0,0], thread: [31,0,0] Assertion `threadIdx.x < n` failed.\n") != std::string::npos);
  }
}

TEST_CASE("wild, misaligned and read-only addresses fault as on a GPU") {
  for (const char* variant : kVariants) {
    INFO(variant);
    TestDevice device(ptx_of("basic", variant));
    int* p = device.allocate<int>(4);
    const auto at = reinterpret_cast<std::uint64_t>(p);
    REQUIRE(device.run("write_at", {1, 1, 1}, {1, 1, 1}, 0, at + 12, 5) == Fault::kNone);
    REQUIRE(p[3] == 5);
    REQUIRE(device.run("write_at", {1, 1, 1}, {1, 1, 1}, 0, at + 16, 5) == Fault::kIllegalAddress);
    REQUIRE(device.run("write_at", {1, 1, 1}, {1, 1, 1}, 0, at + 2, 5) == Fault::kMisalignedAddress);
    REQUIRE(device.run("write_at", {1, 1, 1}, {1, 1, 1}, 0, std::uint64_t{0}, 5) == Fault::kIllegalAddress);
    REQUIRE(device.run("write_at", {1, 1, 1}, {1, 1, 1}, 0, std::uint64_t{0x123456789AB0}, 5) == Fault::kIllegalAddress);
    REQUIRE(device.run("write_at", {1, 1, 1}, {1, 1, 1}, 0, device.allocate<int>(1, false), 5) == Fault::kIllegalAddress);
    REQUIRE(device.run("trap_it", {1, 1, 1}, {32, 1, 1}, 0) == Fault::kTrap);
  }
}

TEST_CASE("an endless loop ends when it is told to stop") {
  TestDevice device(ptx_of("basic", "sm90"));
  int* p = device.allocate<int>(1);
  std::jthread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    device.stop = true;
  });
  REQUIRE(device.run("endless", {4, 1, 1}, {64, 1, 1}, 0, p) == Fault::kStopped);
}

TEST_CASE("a kernel's facts are those of its directives and parameters") {
  TestDevice device(ptx_of("basic", "sm90"));
  const KernelFacts& facts = device.module().kernels()[device.index_of("structure")];
  REQUIRE(facts.parameters.size() == 2);
  REQUIRE(facts.parameters[1].offset == 8);
  REQUIRE(facts.parameters[1].bytes == 24);
  REQUIRE(facts.parameter_bytes == 32);
  REQUIRE(facts.ptx_version == 90);
  REQUIRE(facts.binary_version == 90);
  REQUIRE(device.module().kernels()[device.index_of("early_exit")].static_shared_bytes == 4);
}

}  // namespace avec::cpu::ptx
