// What came with sm_75 to sm_90: bulk copies, clusters, 128 bits, floats of 8 bits.
#include <bit>

#include "device.h"
#include "support/catch.h"

namespace avec::cpu::ptx {
namespace {

/// %r1 of thread 0 after `body`.
std::uint32_t one(const std::string& body, unsigned threads = 1) {
  TestDevice device(kernel_around(body + "\nst.global.u32 [%out], %r1;"));
  auto* out = device.allocate<std::uint32_t>(64);
  REQUIRE(device.run("k", {1, 1, 1}, {threads, 1, 1}, 0, out) == Fault::kNone);
  return *out;
}

}  // namespace

TEST_CASE("a bulk copy brings its bytes and tells its barrier") {
  const std::string start =
      ".shared .align 16 .b8 to[64]; .shared .align 8 .b64 bar; mbarrier.init.shared.b64 [bar], 1;"
      "st.global.u32 [%out+28], 99; mov.u32 %r5, to; mov.u32 %r6, bar; mov.u32 %r7, 32;"
      "mbarrier.arrive.expect_tx.shared.b64 _, [bar], 32;";
  const std::string copy = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r5], [%out], %r7, [%r6];";
  const std::string wait = "mbarrier.try_wait.parity.shared.b64 %p1, [bar], 0; selp.u32 %r1, 1, 0, %p1;";
  CHECK(one(start + wait) == 0);
  CHECK(one(start + copy + wait) == 1);
  CHECK(one(start + copy + "ld.shared.u32 %r1, [to+28];") == 99);
  CHECK(one(start + copy + "st.shared.u32 [to+16], 5; cp.async.bulk.global.shared::cta.bulk_group [%out+32], [%r5], 32;"
            "cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 0; ld.global.u32 %r1, [%out+48];") == 5);
  CHECK(one(start + copy + "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%out], [%r5], 32;"
            "ld.global.u32 %r1, [%out+28];") == 198);
}

TEST_CASE("a bulk copy of the wrong size or alignment faults") {
  for (const char* bad : {"cp.async.bulk.global.shared::cta.bulk_group [%out], [%r5], 24;",
                          "cp.async.bulk.global.shared::cta.bulk_group [%out+8], [%r5], 16;"}) {
    TestDevice device(kernel_around(std::string(".shared .align 16 .b8 to[64]; mov.u32 %r5, to;") + bad));
    CHECK(device.run("k", {1, 1, 1}, {1, 1, 1}, 0, device.allocate<std::uint32_t>(64)) == Fault::kMisalignedAddress);
  }
}

TEST_CASE("a cluster of one block has rank 0, maps addresses to themselves and synchronises") {
  CHECK(one(".shared .align 8 .b32 s; mov.u32 %r2, s; mapa.shared::cluster.u32 %r3, %r2, 0; st.shared.u32 [s], 7;"
            "ld.shared::cluster.u32 %r1, [%r3];") == 7);
  CHECK(one(".shared .b32 s; cvta.shared.u64 %rd1, s; getctarank.u64 %r1, %rd1; add.u32 %r1, %r1, 3;") == 3);
  // Thread 0 waits after the others have stored; they store before they arrive.
  const std::string store = ".shared .align 4 .b32 s[128]; mov.u32 %r2, %tid.x; shl.b32 %r3, %r2, 2; mov.u32 %r4, s;"
                            "add.u32 %r3, %r3, %r4; st.shared.u32 [%r3], %r2;";
  CHECK(one(store + "barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;"
            "setp.ne.u32 %p1, %r2, 0; @%p1 ret; ld.shared.u32 %r1, [s+508];", 128) == 127);
  CHECK(one(store + "setp.gt.u32 %p1, %r2, 99; @%p1 ret; barrier.cluster.arrive; bar.sync 0; barrier.cluster.wait;"
            "barrier.cluster.arrive; barrier.cluster.wait; setp.ne.u32 %p1, %r2, 0; @%p1 ret; ld.shared.u32 %r1, [s+396];", 128) == 99);
  CHECK(one("griddepcontrol.launch_dependents; griddepcontrol.wait; mov.u32 %r1, 4;") == 4);
}

TEST_CASE("128 bits are moved, loaded, stored, exchanged and compared") {
  const std::string start = ".reg .b128 %q<4>; mov.u64 %rd1, 5; mov.u64 %rd2, 6; mov.b128 %q0, {%rd1, %rd2};"
                            "st.global.b128 [%out+16], %q0;";
  const std::string low = "mov.b128 {%rd3, %rd4}, %q1; cvt.u32.u64 %r1, %rd4;";
  CHECK(one(start + "ld.global.u32 %r1, [%out+24];") == 6);
  CHECK(one(start + "ld.relaxed.gpu.global.b128 %q1, [%out+16];" + low) == 6);
  CHECK(one(start + "mov.b128 %q2, {%rd2, %rd1}; atom.exch.b128 %q1, [%out+16], %q2; ld.global.u32 %r1, [%out+24];") == 5);
  CHECK(one(start + "mov.b128 %q2, {%rd2, %rd1}; atom.cas.b128 %q1, [%out+16], %q0, %q2; ld.global.u32 %r1, [%out+16];") == 6);
  CHECK(one(start + "mov.b128 %q2, {%rd2, %rd1}; atom.cas.b128 %q1, [%out+16], %q2, %q2;" + low) == 6);
}

TEST_CASE("vectors of floats are added element by element") {
  CHECK(one("mov.f32 %f1, 0f3F800000; mov.f32 %f2, 0f40000000; st.global.v2.f32 [%out+8], {%f1, %f2};"
            "atom.global.add.v2.f32 {%f3, %f4}, [%out+8], {%f2, %f2}; mov.b32 %r1, %f4;") == 0x40000000);
  CHECK(one("mov.f32 %f1, 0f3F800000; mov.f32 %f2, 0f40000000; st.global.v2.f32 [%out+8], {%f1, %f2};"
            "red.global.add.v2.f32 [%out+8], {%f2, %f2}; ld.global.u32 %r1, [%out+12];") == 0x40800000);
}

TEST_CASE("pairs of 8-bit floats round to nearest even and stay finite") {
  const auto narrow = [](const char* type, const char* a, const char* b) {
    return one(std::string("mov.f32 %f1, ") + a + "; mov.f32 %f2, " + b + "; cvt.rn.satfinite." + type +
               ".f32 %rs1, %f1, %f2; cvt.u32.u16 %r1, %rs1;");
  };
  CHECK(narrow("e4m3x2", "1.0", "-2.0") == 0x38C0);
  CHECK(narrow("e4m3x2", "1000.0", "-1000.0") == 0x7EFE);
  CHECK(narrow("e4m3x2", "1.0625", "1.1875") == 0x383A);           // ties to even
  CHECK(narrow("e4m3x2", "0.001953125", "0.0009765625") == 0x0100);  // the least subnormal, and half of it
  CHECK(narrow("e4m3x2", "0f7FC00000", "0f7F800000") == 0x7F7E);
  CHECK(narrow("e5m2x2", "1.0", "65504.0") == 0x3C7B);
  CHECK(narrow("e5m2x2.relu", "-1.0", "1.5") == 0x003E);
  CHECK(one("mov.b16 %rs1, 0x7FC0; cvt.rn.f16x2.e4m3x2 %r1, %rs1;") == 0x7FFFC000);
  CHECK(one("mov.b16 %rs1, 0x3E7C; cvt.rn.f16x2.e5m2x2 %r1, %rs1;") == 0x3E007C00);
  CHECK(one("mov.b32 %r2, 0x40003C00; cvt.rn.satfinite.e4m3x2.f16x2 %rs1, %r2; cvt.u32.u16 %r1, %rs1;") == 0x4038);
}

TEST_CASE("tf32 has ten bits of mantissa and integers are packed with saturation") {
  CHECK(one("mov.f32 %f1, 0f3F801000; cvt.rna.tf32.f32 %r1, %f1;") == 0x3F802000);
  CHECK(one("mov.f32 %f1, 0f3F801000; cvt.rn.tf32.f32 %r1, %f1;") == 0x3F800000);
  CHECK(one("mov.f32 %f1, 0f3F803FFF; cvt.rz.tf32.f32 %r1, %f1;") == 0x3F802000);
  CHECK(one("cvt.pack.sat.u8.s32.b32 %r1, 300, -5, 0x1234;") == 0x1234FF00);
  CHECK(one("cvt.pack.sat.s16.s32 %r1, 40000, -5;") == 0x7FFFFFFB);
}

TEST_CASE("stack memory that a kernel asks for is its own until it returns") {
  CHECK(one("mov.u64 %rd1, 100; alloca.u64 %rd2, %rd1, 16; st.local.u32 [%rd2+96], 5; alloca.u64 %rd3, %rd1;"
            "st.local.u32 [%rd3], 6; ld.local.u32 %r1, [%rd2+96];") == 5);
  TestDevice device(kernel_around("mov.u64 %rd1, 100000000; alloca.u64 %rd2, %rd1, 16; st.local.u32 [%rd2], 5;"));
  CHECK(device.run("k", {1, 1, 1}, {1, 1, 1}, 0, device.allocate<std::uint32_t>(1)) == Fault::kIllegalAddress);
}

TEST_CASE("single newer instructions give what the PTX ISA says") {
  CHECK(one("mov.u32 %r2, 0xFF; szext.clamp.s32 %r1, %r2, 8;") == 0xFFFFFFFF);
  CHECK(one("mov.u32 %r2, 0xFFFF; szext.wrap.u32 %r1, %r2, 36;") == 0xF);
  CHECK(one("setmaxnreg.inc.sync.aligned.u32 240; pmevent 0; mov.u32 %r1, 2;") == 2);
}

TEST_CASE("what is not supported counts only where it is executed") {
  const std::string body = "ld.global.u32 %r2, [%out+4]; setp.ne.u32 %p1, %r2, 0; @%p1 bra $use; mov.u32 %r1, 3; bra $end;"
                           "$use: wgmma.fence.sync.aligned; $end: st.global.u32 [%out], %r1;";
  TestDevice device(kernel_around(body));
  auto* out = device.allocate<std::uint32_t>(2);
  REQUIRE(device.run("k", {1, 1, 1}, {32, 1, 1}, 0, out) == Fault::kNone);
  CHECK(*out == 3);
  out[1] = 1;
  CHECK(device.run("k", {1, 1, 1}, {32, 1, 1}, 0, out) == Fault::kIllegalInstruction);
  CHECK(device.err.find("instruction 'wgmma.fence.sync.aligned' is not supported") != std::string::npos);
}

}  // namespace avec::cpu::ptx
