// Runs a kernel on an executor through the installed C++ library.
#include <avec/avec.h>

#include <cstdio>
#include <exception>
#include <numeric>
#include <span>
#include <vector>

namespace {

constexpr const char* kPtx = R"(
.version 7.0
.target sm_75
.address_size 64
.visible .entry scale(.param .u64 values, .param .f32 factor, .param .u32 count)
{
  .reg .pred %p<2>;
  .reg .f32 %f<4>;
  .reg .b32 %r<6>;
  .reg .b64 %rd<5>;
  ld.param.u64 %rd1, [values];
  ld.param.f32 %f1, [factor];
  ld.param.u32 %r1, [count];
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %ntid.x;
  mov.u32 %r4, %tid.x;
  mad.lo.s32 %r5, %r2, %r3, %r4;
  setp.ge.u32 %p1, %r5, %r1;
  @%p1 bra done;
  cvta.to.global.u64 %rd2, %rd1;
  mul.wide.u32 %rd3, %r5, 4;
  add.s64 %rd4, %rd2, %rd3;
  ld.global.f32 %f2, [%rd4];
  mul.f32 %f3, %f2, %f1;
  st.global.f32 [%rd4], %f3;
done:
  ret;
}
)";

int fail(const char* what) {
  std::printf("WRONG: %s\n", what);
  return 1;
}

int run() {
  avec::Executor executor = avec::Executor::connect();
  std::printf("%s, %zu device(s)\n", executor.device_kind().c_str(), executor.devices().size());

  std::vector<float> values(1000), result(1000);
  std::iota(values.begin(), values.end(), 0.0f);
  avec::Buffer buffer = executor.allocate(values.size() * sizeof(float));
  buffer.copy_from(std::as_bytes(std::span(values)));

  const avec::Kernel scale = executor.load_module(kPtx).kernel("scale");
  const avec::Stream stream = executor.create_stream();
  const avec::Event begin = executor.create_event(), end = executor.create_event();
  executor.synchronize();
  const avec::Statistics before = executor.statistics();
  begin.record(stream);
  for (int i = 0; i < 100; ++i)
    scale.launch({.grid = {8}, .block = {128}, .stream = &stream}, buffer, i % 2 == 0 ? 2.0f : 0.5f, 1000u);
  scale.launch({.grid = {8}, .block = {128}, .stream = &stream}, buffer, 3.0f, 1000u);
  end.record(stream);
  buffer.copy_to(std::as_writable_bytes(std::span(result)), stream);
  const avec::Statistics after = executor.statistics();
  if (after.round_trips - before.round_trips != 1) return fail("101 launches and a copy took more than one round trip");
  for (std::size_t i = 0; i < result.size(); ++i)
    if (result[i] != 3.0f * static_cast<float>(i)) return fail("a value");
  end.synchronize();
  if (!(end.elapsed_ms_since(begin) >= 0)) return fail("elapsed time");

  try {
    scale.launch({.block = {128}}, buffer, 2.0f);
    return fail("a launch with an argument too few");
  } catch (const avec::CudaError& error) {
    std::printf("%s\n", error.what());
  }
  try {
    executor.load_module("this is not PTX");
    return fail("a module that is none");
  } catch (const avec::CudaError& error) {
    if (error.cuda_code() == 0) return fail("an error without a code");
  }
  try {
    executor.allocate(std::size_t{1} << 60);
    return fail("an allocation of 2^60 bytes");
  } catch (const avec::CudaError& error) {
    if (error.cuda_code() != 2) return fail("out of memory has another code");
  }
  try {
    avec::Executor::connect({.url = "nosuch://edge"});
    return fail("a scheme that nobody registered");
  } catch (const avec::ConnectError& error) {
    std::printf("%s\n", error.what());
  }
  executor.close();
  std::printf("the kernel ran\n");
  return 0;
}

}  // namespace

int main() {
  try {
    return run();
  } catch (const std::exception& error) {
    std::printf("WRONG: %s\n", error.what());
    return 1;
  }
}
