#include "driver.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace avec::bench {
namespace {

const char kKernels[] = R"(
.version 6.3
.target sm_75
.address_size 64

.visible .entry count(.param .u64 counter)
{
  .reg .b64 %a<3>;
  ld.param.u64 %a1, [counter];
  cvta.to.global.u64 %a2, %a1;
  red.global.add.u32 [%a2], 1;
  ret;
}

.visible .entry increment(.param .u64 data, .param .u32 n)
{
  .reg .pred %p1;
  .reg .b32 %r<8>;
  .reg .b64 %a<5>;
  ld.param.u64 %a1, [data];
  ld.param.u32 %r1, [n];
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %ntid.x;
  mov.u32 %r4, %tid.x;
  mad.lo.s32 %r5, %r2, %r3, %r4;
  setp.ge.u32 %p1, %r5, %r1;
  @%p1 bra DONE;
  cvta.to.global.u64 %a2, %a1;
  mul.wide.u32 %a3, %r5, 4;
  add.s64 %a4, %a2, %a3;
  ld.global.u32 %r6, [%a4];
  add.s32 %r7, %r6, 1;
  st.global.u32 [%a4], %r7;
DONE:
  ret;
}
)";

}  // namespace

void check(CUresult result, const char* what) {
  if (result != CUDA_SUCCESS)
    fail(std::string(what) + ": CUDA error " + std::to_string(static_cast<int>(result)));
}

Driver::Driver(const Options& options) {
  if (options.target == "avec") {
    ::setenv("AVEC_EXECUTOR", options.executor.c_str(), 1);
    ::setenv("AVEC_WAIT", options.wait.c_str(), 1);
  }
  void* library = ::dlopen(options.library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) fail(::dlerror());
#define AVEC_BENCH_LOAD(member, name)                                   \
  member = reinterpret_cast<decltype(member)>(::dlsym(library, #name)); \
  if (!member) fail("the driver library has no " #name);
  AVEC_BENCH_DRIVER(AVEC_BENCH_LOAD)
#undef AVEC_BENCH_LOAD
  Dl_info where{};
  const bool ours = ::dladdr(reinterpret_cast<void*>(init), &where) != 0 && where.dli_fname &&
                    std::strstr(where.dli_fname, "/lib/avec/libcuda.so");
  if (options.target == "native" && ours) fail("the native driver is AVEC's shim");
}

void Driver::open() {
  AVEC_CHECK(init(0));
  CUdevice device{};
  AVEC_CHECK(device_get(&device, 0));
  CUcontext context{};
  AVEC_CHECK(retain(&context, device));
  AVEC_CHECK(set_current(context));
}

void Driver::load() {
  CUmodule module{};
  AVEC_CHECK(module_load(&module, kKernels));
  AVEC_CHECK(get_function(&count, module, "count"));
  AVEC_CHECK(get_function(&increment, module, "increment"));
}

void measure_probe(const Options& options) {
  Driver driver(options);
  int devices = 0;
  AVEC_CHECK(driver.init(0));
  AVEC_CHECK(driver.device_get_count(&devices));
  if (devices == 0) fail("no device");
  char name[256] = "";
  AVEC_CHECK(driver.device_get_name(name, sizeof name, 0));
  std::printf("%s\n", name);
  std::fflush(stdout);
}

}  // namespace avec::bench
