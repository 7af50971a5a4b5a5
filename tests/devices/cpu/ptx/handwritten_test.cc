// Instructions that compilers rarely write, and corners.
#include "device.h"
#include "support/catch.h"

namespace avec::cpu::ptx {
namespace {

std::uint32_t one(const std::string& body) {
  TestDevice device(kernel_around(body + "\nst.global.u32 [%out], %r1;"));
  auto* out = device.allocate<std::uint32_t>(1);
  REQUIRE(device.run("k", {1, 1, 1}, {1, 1, 1}, 0, out) == Fault::kNone);
  return *out;
}

struct Example {
  const char* body;
  std::uint32_t result;
};

}  // namespace

TEST_CASE("an asynchronous copy brings its bytes to shared memory") {
  const std::string copy = ".shared .align 16 .b32 to[4]; st.global.u32 [%out], 77; st.shared.u32 [to+4], 5;";
  CHECK(one(copy + "cp.async.ca.shared.global [to], [%out], 4; cp.async.wait_all; ld.shared.u32 %r1, [to];") == 77);
  CHECK(one(copy + "cp.async.ca.shared::cta.global.L2::128B [to], [%out], 4, 4; cp.async.commit_group;"
            "cp.async.wait_group 0; ld.shared.u32 %r1, [to];") == 77);
  CHECK(one(copy + "cp.async.ca.shared.global [to+4], [%out], 4, 0; ld.shared.u32 %r1, [to+4];") == 0);
}

TEST_CASE("a barrier object changes its phase with the last arrival and the last byte") {
  const std::string barrier = ".shared .align 8 .b64 bar; mbarrier.init.shared.b64 [bar], 2;";
  const std::string tell = "selp.u32 %r1, 1, 0, %p1;";
  const std::string arrive = "mbarrier.arrive.shared.b64 %rd1, [bar];";
  const std::string wait = "mbarrier.test_wait.parity.shared.b64 %p1, [bar], 0;";
  CHECK(one(barrier + arrive + wait + tell) == 0);
  CHECK(one(barrier + arrive + arrive + wait + tell) == 1);
  CHECK(one(barrier + arrive + "mbarrier.arrive.shared.b64 _, [bar]; mbarrier.try_wait.shared::cta.b64 %p1, [bar], "
            "%rd1;" + tell) == 1);
  CHECK(one(barrier + "mbarrier.arrive.noComplete.shared.b64 %rd1, [bar], 1; mbarrier.test_wait.shared.b64 %p1, [bar], "
            "%rd1;" + tell) == 0);
  CHECK(one(barrier + arrive + "mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [bar], 16;" + wait + tell) == 0);
  CHECK(one(barrier + arrive + "mbarrier.arrive.expect_tx.shared.b64 _, [bar], 16;"
            "mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [bar], 16;" + wait + tell) == 1);
  CHECK(one(barrier + "mbarrier.arrive_drop.shared.b64 _, [bar];" + arrive + arrive +
            "mbarrier.test_wait.parity.shared.b64 %p1, [bar], 1;" + tell) == 1);
  CHECK(one(barrier + "cp.async.mbarrier.arrive.shared.b64 [bar];" + arrive + wait + tell) == 0);
  CHECK(one(barrier + "cp.async.mbarrier.arrive.noinc.shared.b64 [bar];" + arrive + wait + tell) == 1);
  CHECK(one(barrier + arrive + "mbarrier.arrive.shared.b64 %rd1, [bar]; mbarrier.pending_count.b64 %r1, %rd1;") == 1);
}

TEST_CASE("single instructions give what the PTX ISA says") {
  const Example examples[] = {
      {"mov.u32 %r2, 1; shl.b32 %r1, %r2, 32;", 0},
      {"mov.s32 %r2, -8; shr.s32 %r1, %r2, 40;", 0xFFFFFFFF},
      {"mov.u32 %r2, 0xF0; shr.u32 %r1, %r2, 33;", 0},
      {"mov.u32 %r2, 0x80000001; mov.u32 %r3, 3; shf.l.wrap.b32 %r1, %r2, %r3, 33;", 7},
      {"mov.u32 %r2, 0x80000001; mov.u32 %r3, 3; shf.l.clamp.b32 %r1, %r2, %r3, 33;", 0x80000001},
      {"mov.u32 %r2, 0x12345678; bfe.u32 %r1, %r2, 8, 8;", 0x56},
      {"mov.u32 %r2, 0x12348678; bfe.s32 %r1, %r2, 8, 8;", 0xFFFFFF86},
      {"mov.u32 %r2, 0x80000000; bfe.s32 %r1, %r2, 28, 16;", 0xFFFFFFF8},
      {"mov.u32 %r2, 0xAB; mov.u32 %r3, 0; bfi.b32 %r1, %r2, %r3, 4, 8;", 0xAB0},
      {"mov.s32 %r2, -2; bfind.s32 %r1, %r2;", 0},
      {"mov.u32 %r2, 0; bfind.u32 %r1, %r2;", 0xFFFFFFFF},
      {"mov.u32 %r2, 0x100; bfind.shiftamt.u32 %r1, %r2;", 23},
      {"mov.u32 %r2, 0xA8; fns.b32 %r1, %r2, 0, 2;", 5},
      {"mov.u32 %r2, 0x01020384; mov.u32 %r3, 0; prmt.b32 %r1, %r2, %r3, 0x8888;", 0xFFFFFFFF},
      {"mov.u32 %r2, 0x44332211; mov.u32 %r3, 0x88776655; prmt.b32.f4e %r1, %r2, %r3, 1;", 0x55443322},
      {"mov.u32 %r2, 0xF0; mov.u32 %r3, 0xCC; mov.u32 %r4, 0xAA; lop3.b32 %r1, %r2, %r3, %r4, 0x96;", 0x96},
      {"mov.u32 %r2, 0xFFFFFFFF; add.cc.u32 %r3, %r2, 1; addc.u32 %r1, 5, 5;", 11},
      {"mov.u32 %r2, 0; sub.cc.u32 %r3, %r2, 1; subc.u32 %r1, 5, 2;", 2},
      {"mov.u32 %r2, 7; sub.cc.u32 %r3, %r2, 1; subc.u32 %r1, 5, 2;", 3},
      {"mov.u32 %r2, 7; sub.cc.u32 %r3, %r2, 1; addc.u32 %r1, 0, 0;", 1},
      {"mov.u32 %r2, 0; sub.cc.u32 %r3, %r2, 1; addc.u32 %r1, 0, 0;", 0},
      {"mov.u32 %r2, 0x80000000; mad.lo.cc.u32 %r3, %r2, 2, 0; madc.hi.u32 %r1, %r2, 2, 3;", 4},
      {"mov.u32 %r2, 0x80000000; mad.lo.cc.u32 %r3, %r2, 1, %r2; madc.hi.u32 %r1, %r2, 2, 3;", 5},
      {"mov.s32 %r2, 0x7FFFFFFF; add.sat.s32 %r1, %r2, 1;", 0x7FFFFFFF},
      {"mov.u32 %r2, 0; cnot.b32 %r1, %r2;", 1},
      {"mov.u32 %r2, 3; mov.u32 %r3, 10; vabsdiff.u32.u32.u32 %r1, %r2, %r3;", 7},
      {"mov.u32 %r2, 0x7FFFFFFF; vadd.s32.s32.s32.sat %r1, %r2, %r2;", 0x7FFFFFFF},
      {"mov.u32 %r2, 5; vsub.s32.u32.u32.max %r1, %r2, 9, 2;", 2},
      {"mov.u32 %r2, 0x12345678; vabsdiff4.u32.u32.u32 %r1, %r2, 0x10101010, 0;", 0x02244668},
      {"mov.u32 %r2, 0x12345678; vabsdiff4.u32.u32.u32.add %r1, %r2, 0x10101010, 1;", 0xD5},
      {"mov.u32 %r2, 0xFF80017F; vadd4.s32.s32.s32.sat %r1, %r2, 0xFF80017F, 0;", 0xFE80027F},
      {"mov.u32 %r2, 0xFFFF0003; vmin2.s32.s32.s32 %r1, %r2, 0x00000002, 0;", 0xFFFF0002},
      {"mov.u32 %r2, 0x00010002; vavrg2.u32.u32.u32 %r1, %r2, 0x00020004, 0;", 0x00020003},
      {"mov.u32 %r2, 7; mov.u32 %r3, 3; sad.u32 %r1, %r3, %r2, 10;", 14},
      {"mov.f32 %f1, 0f7FC00000; cvt.rzi.s32.f32 %r1, %f1;", 0},
      {"mov.f32 %f1, 0f4F800000; cvt.rzi.u32.f32 %r1, %f1;", 0xFFFFFFFF},
      {"mov.f32 %f1, 0fBF800000; cvt.rzi.u32.f32 %r1, %f1;", 0},
      {"mov.f32 %f1, 0f40200000; cvt.rni.s32.f32 %r1, %f1;", 2},
      {"mov.f32 %f1, 0f40200000; cvt.rpi.s32.f32 %r1, %f1;", 3},
      {"mov.u32 %r2, 300; cvt.sat.u8.u32 %r1, %r2;", 255},
      {"mov.u32 %r2, 0x180; cvt.s8.s32 %rs1, %r2; cvt.s32.s16 %r1, %rs1;", 0xFFFFFF80},
      {"mov.f32 %f1, 0f00000001; add.ftz.f32 %f2, %f1, %f1; mov.b32 %r1, %f2;", 0},
      {"mov.f32 %f1, 0f00000001; add.f32 %f2, %f1, %f1; mov.b32 %r1, %f2;", 2},
      {"mov.f32 %f1, 0f7F800000; sub.f32 %f2, %f1, %f1; mov.b32 %r1, %f2;", 0x7FFFFFFF},
      {"mov.f32 %f1, 0fBF800000; min.f32 %f2, %f1, 0f7FC00000; mov.b32 %r1, %f2;", 0xBF800000},
      {"mov.f32 %f1, 0fBF800000; min.NaN.f32 %f2, %f1, 0f7FC00000; mov.b32 %r1, %f2;", 0x7FFFFFFF},
      {"mov.f32 %f1, 0f40000000; mul.sat.f32 %f2, %f1, %f1; mov.b32 %r1, %f2;", 0x3F800000},
      {"mov.f32 %f1, 0f3F800000; mov.f32 %f2, 0fC0000000; copysign.f32 %f3, %f2, %f1; mov.b32 %r1, %f3;", 0xBF800000},
      {"mov.f32 %f1, 0f7F800000; testp.infinite.f32 %p1, %f1; selp.u32 %r1, 1, 0, %p1;", 1},
      {"mov.f32 %f1, 0f7FC00000; setp.ltu.f32 %p1, %f1, %f1; selp.u32 %r1, 1, 0, %p1;", 1},
      {"mov.f32 %f1, 0f7FC00000; setp.ne.f32 %p1, %f1, %f1; selp.u32 %r1, 1, 0, %p1;", 0},
      {"setp.eq.s32 %p1|%p2, 3, 4; selp.u32 %r2, 1, 0, %p1; selp.u32 %r3, 2, 0, %p2; add.u32 %r1, %r2, %r3;", 2},
      {"setp.eq.s32 %p1, 3, 3; setp.eq.and.s32 %p2, 4, 4, !%p1; selp.u32 %r1, 1, 0, %p2;", 0},
      {"set.lt.u32.s32 %r1, -1, 1;", 0xFFFFFFFF},
      {"set.lt.f32.s32 %f1, -1, 1; mov.b32 %r1, %f1;", 0x3F800000},
      {"mov.s32 %r2, -1; slct.u32.s32 %r1, 10, 20, %r2;", 20},
      {"mov.f32 %f1, 0f3F800000; mov.f32 %f2, 0f40000000; cvt.rn.f16x2.f32 %r1, %f1, %f2;", 0x3C004000},
      {"mov.f32 %f1, 0f3F800000; mov.f32 %f2, 0f40000000; cvt.rn.bf16x2.f32 %r1, %f1, %f2;", 0x3F804000},
      {"mov.u32 %r2, 0x3C003C00; add.f16x2 %r1, %r2, %r2;", 0x40004000},
      {"mov.u64 %rd1, 0x1122334455667788; mov.b64 {%r2, %r1}, %rd1;", 0x11223344},
      {"mov.b32 %r1, {1, 2};", 0x00020001},
      {"mov.u32 %r1, %lanemask_ge;", 0xFFFFFFFF},
      {"{ .reg .b32 t; mov.b32 t, 5; { .reg .b32 t; mov.b32 t, 6; } mov.b32 %r1, t; }", 5},
      {"mov.u32 %r2, 0xFF; dp4a.u32.u32 %r1, %r2, %r2, 1;", 65026},
      {"mov.u32 %r2, 0x00020003; mov.u32 %r3, 0x0504; dp2a.lo.u32.u32 %r1, %r2, %r3, 1;", 23},
      {"mul24.lo.s32 %r1, -2, 3;", 0xFFFFFFFA},
      {"mov.u32 %r2, 6; mul.hi.u32 %r1, %r2, 0x80000000;", 3},
      {"mov.u64 %rd1, 1; isspacep.shared %p1, %rd1; selp.u32 %r1, 1, 0, %p1;", 0},
      {".shared .b32 cell; mov.u64 %rd1, cell; cvta.shared.u64 %rd2, %rd1; isspacep.shared %p1, %rd2; selp.u32 %r1, 1, 0, %p1;", 1},
      {".shared .b32 cell; st.shared.u32 [cell], 9; mov.u64 %rd1, cell; cvta.shared.u64 %rd2, %rd1; ld.u32 %r1, [%rd2];", 9},
      {".local .b32 cell; st.local.u32 [cell], 8; mov.u64 %rd1, cell; cvta.local.u64 %rd2, %rd1; ld.u32 %r1, [%rd2];", 8},
      {"mov.u32 %r2, 7; bar.warp.sync 1; redux.sync.add.u32 %r1, %r2, 1;", 7},
      {"elect.sync %r2|%p1, 1; selp.u32 %r1, 3, 4, %p1;", 3},
      {"mov.u32 %r1, 4; mov.u32 %r2, 0; loop: add.u32 %r2, %r2, %r1; sub.u32 %r1, %r1, 1; setp.ne.u32 %p1, %r1, 0; @%p1 bra loop; mov.u32 %r1, %r2;", 10},
  };
  for (const Example& example : examples) {
    INFO(example.body);
    REQUIRE(one(example.body) == example.result);
  }
}

TEST_CASE("a kernel with instructions that are not supported fails alone and says which line") {
  TestDevice device(
      ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry good(.param .u64 p) { .reg .b64 %rd1;\n"
      "ld.param.u64 %rd1, [p]; st.global.u32 [%rd1], 1; ret; }\n.visible .entry bad() { .reg .b32 %r<4>; .reg .b64 %a;\n"
      "wgmma.wait_group.sync.aligned 0;\nret; }\n");
  auto* out = device.allocate<std::uint32_t>(1);
  REQUIRE(device.run("good", {1, 1, 1}, {32, 1, 1}, 0, out) == Fault::kNone);
  REQUIRE(*out == 1);
  REQUIRE(device.run("bad", {1, 1, 1}, {32, 1, 1}, 0) == Fault::kIllegalInstruction);
  REQUIRE(device.err.find("line 7: instruction 'wgmma.wait_group.sync.aligned' is not supported on the CPU device") != std::string::npos);
}

TEST_CASE("named barriers count the threads that they are told") {
  TestDevice device(kernel_around(
      ".shared .b32 cell;\nmov.u32 %r1, %tid.x;\nsetp.ge.u32 %p1, %r1, 32;\n@%p1 bra consumer;\n"
      "st.shared.u32 [cell], 77;\nbar.arrive 3, 64;\nret;\nconsumer:\nbar.sync 3, 64;\nld.shared.u32 %r2, [cell];\nst.global.u32 [%out], %r2;"));
  auto* out = device.allocate<std::uint32_t>(1);
  REQUIRE(device.run("k", {1, 1, 1}, {64, 1, 1}, 0, out) == Fault::kNone);
  REQUIRE(*out == 77);
}

TEST_CASE("shared memory ends where its window ends") {
  TestDevice device(kernel_around(".shared .b32 cells[4];\nmov.u64 %rd1, cells;\nst.shared.u32 [%rd1+16], 1;"));
  REQUIRE(device.run("k", {1, 1, 1}, {1, 1, 1}, 0, device.allocate<int>(1)) == Fault::kIllegalAddress);
  REQUIRE(device.run("k", {1, 1, 1}, {1, 1, 1}, 16, device.allocate<int>(1)) == Fault::kNone);
}

}  // namespace avec::cpu::ptx
