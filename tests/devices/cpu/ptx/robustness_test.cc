// Damaged PTX gives an error with its line, never a crash.
#include <random>

#include "device.h"
#include "support/catch.h"

namespace avec::cpu::ptx {
namespace {

/// Compiles; an error must come with a log that names a line.
void compile_damaged(const std::string& text) {
  std::string log;
  const auto module = Module::compile(text, log);
  if (module == nullptr) {
    INFO(log);
    REQUIRE(log.starts_with("ptxas application ptx input, line "));
  }
}

}  // namespace

TEST_CASE("an error names its line as ptxas does") {
  std::string log;
  REQUIRE(Module::compile(kernel_around("add.s32 %r1, %r2;"), log) == nullptr);
  REQUIRE(log.starts_with("ptxas application ptx input, line 7; error"));
  REQUIRE(Module::compile(kernel_around("frobnicate.s32 %r1, %r2;"), log) == nullptr);
  REQUIRE(log.find("'frobnicate'") != std::string::npos);
  REQUIRE(Module::compile(kernel_around("add.s32 %r1, %r2, %nothing;"), log) == nullptr);
  REQUIRE(Module::compile(kernel_around("bra nowhere;"), log) == nullptr);
  REQUIRE(Module::compile(kernel_around("add.s64 %rd1, %r2, %r3;"), log) == nullptr);
  REQUIRE(Module::compile("", log) == nullptr);
  REQUIRE(Module::compile("not PTX at all", log) == nullptr);
}

TEST_CASE("PTX cut off anywhere is an error or a module, never a crash") {
  const std::string text = ptx_of("basic", "sm75");
  std::mt19937 random(11);
  for (int i = 0; i < 300; ++i) compile_damaged(text.substr(0, random() % text.size()));
}

TEST_CASE("mutated PTX is an error or a module, never a crash") {
  const std::string handwritten = kernel_around(
      ".local .align 8 .b8 depot[16]; .shared .align 4 .b8 tile[64];\nmov.u64 %rd1, depot; mov.u32 %r1, %tid.x;\n"
      "setp.lt.s32 %p1|%p2, %r1, 4;\n@%p1 bra L1;\nmad.lo.s32 %r2, %r1, %r1, 7;\nbra L2;\nL1: sub.s32 %r2, %r1, 1;\n"
      "L2: st.shared.u32 [tile+4], %r2;\nbar.sync 0;\nld.shared.v2.u32 {%r3, %r4}, [tile];\ncvt.rn.f32.s32 %f1, %r3;\n"
      "fma.rn.ftz.f32 %f2, %f1, 0f3F800000, %f1;\nshfl.sync.bfly.b32 %r5|%p3, %r4, 1, 31, -1;\nst.global.u32 [%out], %r5;\n"
      "ts: .branchtargets L1, L2;\nsetp.gt.s32 %p4, %r5, 100000;\n@%p4 brx.idx %r5, ts;\natom.global.add.u32 %r6, [%out], 1;");
  const std::string real = ptx_of("parallel", "sm75");
  static constexpr std::string_view kPieces[] = {"{", "}", ";", ",", "[", "]", "%r1", ".u64", ".f16x2", "0", "4294967296", "-",
                                                 "bra", "call", ".reg", "(", ")", "@", ".v4", "<", ">", "ret;", "\"", "/*"};
  std::mt19937 random(12);
  for (int i = 0; i < 3000; ++i) {
    std::string text = i % 10 == 0 ? real.substr(0, 20000) : handwritten;
    for (unsigned k = 0; k <= random() % 4; ++k) {
      const std::size_t at = random() % text.size();
      switch (random() % 4) {
        case 0: text[at] = static_cast<char>(random()); break;
        case 1: text.erase(at, random() % 20); break;
        case 2: text.insert(at, kPieces[random() % std::size(kPieces)]); break;
        default: text.insert(at, text.substr(random() % text.size(), random() % 40)); break;
      }
    }
    compile_damaged(text);
  }
}

}  // namespace avec::cpu::ptx
