// Matrices of a warp, whose fragments are checked against the figures of the PTX ISA.
#include <bit>
#include <cmath>

#include "device.h"
#include "support/catch.h"

namespace avec::cpu::ptx {
namespace {

/// Each lane's %r1 ... %r<n> after `body`, %r0 being the lane.
std::vector<std::uint32_t> lanes_after(const std::string& body, unsigned n, const std::vector<std::uint32_t>& input = {}) {
  std::string text = ".shared .align 128 .b8 tile[4096]; .reg .b32 %q<8>; mov.u32 %r20, %laneid;" + body +
                     "mov.u32 %r20, %laneid; mad.wide.u32 %rd9, %r20, " + std::to_string(4 * n) + ", %out;";
  for (unsigned i = 0; i < n; ++i) {
    text += "st.global.u32 [%rd9+" + std::to_string(4 * i) + "], %r" + std::to_string(i + 1) + ";";
  }
  TestDevice device(kernel_around(text));
  auto* out = device.allocate<std::uint32_t>(std::max<std::size_t>(32 * n, input.size()));
  std::copy(input.begin(), input.end(), out);
  REQUIRE(device.run("k", {1, 1, 1}, {32, 1, 1}, 0, out) == Fault::kNone);
  return {out, out + 32 * n};
}

float single(std::uint32_t bits) { return std::bit_cast<float>(bits); }

}  // namespace

TEST_CASE("mma multiplies an m16n8k8 of tf32 whose a is the identity in its left half") {
  // a[row][col] is at lane (row % 8) * 4 + col % 4, register row / 8 + 2 * (col / 4).
  const std::string body =
      "shr.u32 %r21, %r20, 2; and.b32 %r22, %r20, 3;"  // group, thread
      "setp.eq.u32 %p1, %r21, %r22; selp.f32 %f1, 0f3F800000, 0f00000000, %p1; mov.b32 %q0, %f1;"
      "add.u32 %r23, %r22, 4; setp.eq.u32 %p1, %r21, %r23; selp.f32 %f1, 0f3F800000, 0f00000000, %p1; mov.b32 %q2, %f1;"
      "mov.b32 %q1, 0; mov.b32 %q3, 0;"
      // b[row][col] = 10 * row + col: rows thread and thread + 4, column group
      "mad.lo.u32 %r24, %r22, 10, %r21; cvt.rn.f32.u32 %f1, %r24; mov.b32 %q4, %f1;"
      "mad.lo.u32 %r24, %r23, 10, %r21; cvt.rn.f32.u32 %f1, %r24; mov.b32 %q5, %f1;"
      "mov.f32 %f2, 0f3F000000;"
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f3, %f4, %f5, %f6}, {%q0, %q1, %q2, %q3}, {%q4, %q5},"
      "{%f2, %f2, %f2, %f2};"
      "mov.b32 %r1, %f3; mov.b32 %r2, %f4; mov.b32 %r3, %f5; mov.b32 %r4, %f6;";
  const auto out = lanes_after(body, 4);
  for (unsigned lane = 0; lane < 32; ++lane) {
    const unsigned row = lane / 4, column = lane % 4 * 2;
    CHECK(single(out[4 * lane]) == static_cast<float>(10 * row + column) + 0.5f);
    CHECK(single(out[4 * lane + 1]) == static_cast<float>(10 * row + column + 1) + 0.5f);
    CHECK(single(out[4 * lane + 2]) == 0.5f);
  }
}

TEST_CASE("mma of bytes and of bits counts in whole numbers") {
  const auto bytes = lanes_after(
      "mov.b32 %q0, 0x01FF0203; mov.b32 %q1, 0x04040404;"
      "mma.sync.aligned.m8n8k16.row.col.s32.s8.u8.s32 {%r1, %r2}, {%q0}, {%q1}, {%r20, %r20};", 2);
  CHECK(bytes[0] == 4 * 4 * (1 - 1 + 2 + 3));
  CHECK(bytes[2 * 31 + 1] == 31 + 80);
  const auto bits = lanes_after(
      "mov.b32 %q0, 0xFF; mov.b32 %q1, 0x0F;"
      "mma.sync.aligned.m8n8k128.row.col.s32.b1.b1.s32.xor.popc {%r1, %r2}, {%q0}, {%q1}, {%r20, %r20};", 2);
  CHECK(bits[0] == 16);
}

TEST_CASE("a sum that leaves 32 bits wraps, or stays at the limit with satfinite") {
  const std::string start = "mov.b32 %q0, 0x7F7F7F7F; mov.b32 %r21, 0x7FFFFFFF; mma.sync.aligned.m8n8k16.row.col";
  const std::string end = ".s32.s8.s8.s32 {%r1, %r2}, {%q0}, {%q0}, {%r21, %r21};";
  CHECK(lanes_after(start + end, 2)[0] == 0x7FFFFFFFu + 16 * 127 * 127);
  CHECK(lanes_after(start + ".satfinite" + end, 2)[0] == 0x7FFFFFFF);
}

TEST_CASE("ldmatrix spreads rows over lanes, and columns when transposed") {
  const std::string fill =  // row r: halves 16 * r ... 16 * r + 7; lane l writes two of them
      "mov.u32 %r21, tile; shr.u32 %r22, %r20, 2; and.b32 %r23, %r20, 3; shl.b32 %r24, %r22, 4; shl.b32 %r25, %r23, 1;"
      "add.u32 %r24, %r24, %r25; mad.lo.u32 %r24, %r24, 0x10001, 0x10000;"
      "shl.b32 %r26, %r20, 2; add.u32 %r26, %r26, %r21; st.shared.u32 [%r26], %r24; bar.warp.sync 0xFFFFFFFF;"
      "and.b32 %r22, %r20, 7; shl.b32 %r22, %r22, 4; add.u32 %r22, %r22, %r21;";
  const auto rows = lanes_after(fill + "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r1}, [%r22];", 1);
  const auto columns = lanes_after(fill + "ldmatrix.sync.aligned.m8n8.x1.trans.shared::cta.b16 {%r1}, [%r22];", 1);
  const auto moved = lanes_after(fill + "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r2}, [%r22];"
                                 "movmatrix.sync.aligned.m8n8.trans.b16 %r1, %r2;", 1);
  const auto back = lanes_after(fill + "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r2}, [%r22];"
                                "stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%r22], {%r2}; ld.shared.u32 %r1, [%r26];", 1);
  for (unsigned lane = 0; lane < 32; ++lane) {
    const unsigned y = lane / 4, x = lane % 4 * 2;
    CHECK(rows[lane] == (16 * y + x | (16 * y + x + 1) << 16));
    CHECK(columns[lane] == (16 * x + y | (16 * (x + 1) + y) << 16));
    CHECK(moved[lane] == columns[lane]);
    CHECK(back[lane] == columns[lane]);
  }
}

TEST_CASE("wmma loads with a stride, multiplies and stores by column") {
  // a = b = 2 * identity of f16, c = 1: 16 x 16, the stride of a is 24.
  const std::string zero = "mov.b32 %r22, 0; mov.u32 %r21, tile; shl.b32 %r23, %r20, 2; add.u32 %r23, %r23, %r21;";
  std::string fill;
  for (int i = 0; i < 8; ++i) fill += "st.shared.u32 [%r23+" + std::to_string(128 * i) + "], %r22;";
  fill += "bar.warp.sync 0xFFFFFFFF; setp.lt.u32 %p1, %r20, 16; mad.lo.u32 %r24, %r20, 50, %r21;"
          "mov.b16 %rs1, 0x4000; @%p1 st.shared.b16 [%r24], %rs1; bar.warp.sync 0xFFFFFFFF;";
  const std::string a = "{%q0, %q1, %q2, %q3, %q4, %q5, %q6, %q7}";
  const std::string f = "{%f1, %f2, %f3, %f4, %f5, %f6, %f7, %f8}";
  const auto out = lanes_after(zero + fill +
      "mov.u32 %r25, 24; wmma.load.a.sync.aligned.row.m16n16k16.shared.f16 " + a + ", [%r21], %r25;" 
      "mov.f32 %f9, 0f3F800000;"
      "wmma.mma.sync.aligned.row.col.m16n16k16.f32.f32 " + f + ", " + a + ", " + a + ", {%f9, %f9, %f9, %f9, %f9, %f9, %f9, %f9};"
      "wmma.store.d.sync.aligned.col.m16n16k16.shared.f32 [%r21], " + f + ", 16; bar.warp.sync 0xFFFFFFFF;"
      "mad.lo.u32 %r24, %r20, 32, %r21; ld.shared.u32 %r1, [%r24]; ld.shared.u32 %r2, [%r24+4];", 2);
  // Lane l reads elements 8 l and 8 l + 1; those with 17 as a divisor are on the diagonal.
  for (unsigned lane = 0; lane < 32; ++lane) {
    CHECK(single(out[2 * lane]) == (8 * lane % 17 == 0 ? 5.0f : 1.0f));
    CHECK(single(out[2 * lane + 1]) == ((8 * lane + 1) % 17 == 0 ? 5.0f : 1.0f));
  }
}

TEST_CASE("fragments that do not fit their shape are refused when the module is loaded") {
  const char* const bad[] = {
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f3, %f4, %f5}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f1, %f1, %f1, %f1};",
      "mma.sync.aligned.m16n8k4.row.col.f32.f16.f16.f32 {%f3, %f4, %f5, %f6}, {%r1}, {%r1}, {%f1, %f1, %f1, %f1};",
      "mma.sync.aligned.m0n8k8.row.col.f32.tf32.tf32.f32 {%f3, %f4, %f5, %f6}, {%r1}, {%r1}, {%f1, %f1, %f1, %f1};",
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.s8.f32 {%f3, %f4, %f5, %f6}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f1, %f1, %f1, %f1};",
      "wmma.load.a.sync.aligned.row.m1n1k1.f16 {%r1, %r1, %r1, %r1, %r1, %r1, %r1, %r1}, [%out];",
      "wmma.load.c.sync.aligned.row.m16n16k16.f16 {%r1, %r1, %r1, %r1, %r1, %r1, %r1, %r1}, [%out];",
      "stmatrix.sync.aligned.m8n8.x1.shared.b16 [%r1], {5};",
      "ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r1}, [%r1];"};
  for (const char* body : bad) {
    std::string log;
    CAPTURE(body);
    CHECK(Module::compile(kernel_around(body), log) == nullptr);
    CHECK(log.find("error") != std::string::npos);
  }
}

}  // namespace avec::cpu::ptx
