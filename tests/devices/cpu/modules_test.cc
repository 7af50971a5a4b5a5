#include <set>

#include "kernels_support.h"

using test::image;
using test::Kernels;

TEST_CASE("PTX loads from text and from fatbins of every compression") {
  test::Context context;
  for (const char* name : {"kernels.ptx", "none.fatbin", "speed.fatbin", "size.fatbin", "all.fatbin"}) {
    INFO(name);
    Kernels kernels(name);
    test::Buffer buffer(12);
    OK(cuMemsetD32(buffer.address, 20, 2));
    OK(test::launch(kernels.function("add"), 1, 32, nullptr, buffer.address + 8, buffer.address,
                    buffer.address + 4, 1));
    CHECK(test::read(buffer.address + 8, 1)[0] == 40);
    OK(cuModuleUnload(kernels.module));
    CUfunction function = nullptr;
    GIVES(CUDA_ERROR_INVALID_HANDLE, cuModuleGetFunction(&function, kernels.module, "add"));
  }
}

TEST_CASE("Images that cannot run here have the errors of a driver") {
  test::Context context;
  CUmodule module = nullptr;
  GIVES(CUDA_ERROR_NO_BINARY_FOR_GPU, cuModuleLoadData(&module, image("kernels.cubin").data()));
  GIVES(CUDA_ERROR_NO_BINARY_FOR_GPU, cuModuleLoadData(&module, image("cubin_only.fatbin").data()));
  GIVES(CUDA_ERROR_INVALID_IMAGE, cuModuleLoadData(&module, "no code at all"));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuModuleLoadData(&module, nullptr));
  GIVES(CUDA_ERROR_INVALID_VALUE, cuModuleLoadData(nullptr, ""));
  GIVES(CUDA_ERROR_FILE_NOT_FOUND, cuModuleLoad(&module, "/nonexistent/kernels.ptx"));
  GIVES(CUDA_ERROR_INVALID_PTX,
        cuModuleLoadData(&module, ".version 8.0\n.target sm_100\n.address_size 64\n"));
  GIVES(CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
        cuModuleLoadData(&module, ".version 99.0\n.target sm_90\n.address_size 64\n"));
  auto truncated = image("all.fatbin");
  truncated[16 + 4] = 1;  // the first entry's header has one byte
  GIVES(CUDA_ERROR_INVALID_IMAGE, cuModuleLoadData(&module, truncated.data()));
}

TEST_CASE("What the compiler says arrives in the JIT's error log") {
  test::Context context;
  char log[200] = "";
  CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void* values[] = {log, reinterpret_cast<void*>(sizeof log)};
  CUmodule module = nullptr;
  GIVES(CUDA_ERROR_INVALID_PTX,
        cuModuleLoadDataEx(
            &module, ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k() { nonsense; }\n", 2,
            options, values));
  CHECK(std::string(log).size() > 0);
  CHECK(reinterpret_cast<std::uintptr_t>(values[1]) == std::string(log).size());
  char small[4] = "abc";
  void* few[] = {small, reinterpret_cast<void*>(sizeof small)};
  (void)cuModuleLoadDataEx(&module, ".version 8.0\n.target sm_90\nnonsense\n", 2, options, few);
  CHECK(small[3] == '\0');
}

TEST_CASE("Globals have initial values, addresses and sizes") {
  test::Context context;
  Kernels kernels;
  CUdeviceptr address = 0;
  size_t bytes = 0;
  OK(cuModuleGetGlobal(&address, &bytes, kernels.module, "counter"));
  CHECK(bytes == 4);
  CHECK(test::read(address, 1)[0] == 41);
  test::Buffer out(12);
  OK(test::launch(kernels.function("globals"), 1, 1, nullptr, out.address));
  CHECK(test::read(out.address, 3) == std::vector<std::uint32_t>{42, 30, 42});
  OK(cuModuleGetGlobal(&address, nullptr, kernels.module, "table"));
  OK(cuMemsetD32(address + 8, 99, 1));
  OK(test::launch(kernels.function("globals"), 1, 1, nullptr, out.address));
  CHECK(test::read(out.address, 2) == std::vector<std::uint32_t>{43, 99});
  GIVES(CUDA_ERROR_NOT_FOUND, cuModuleGetGlobal(&address, &bytes, kernels.module, "nothing"));
}

TEST_CASE("Functions are enumerated and describe their parameters") {
  test::Context context;
  Kernels kernels;
  unsigned count = 0;
  OK(cuModuleGetFunctionCount(&count, kernels.module));
  std::vector<CUfunction> functions(count);
  OK(cuModuleEnumerateFunctions(functions.data(), count, kernels.module));
  std::set<std::string> names;
  for (const CUfunction function : functions) {
    const char* name = nullptr;
    OK(cuFuncGetName(&name, function));
    names.insert(name);
  }
  CHECK(names.count("mixed") == 1);
  CHECK(names.size() == count);
  const CUfunction mixed = kernels.function("mixed");
  const std::pair<size_t, size_t> expected[] = {{0, 1}, {8, 24}, {32, 2}, {40, 8}};
  size_t offset = 0, bytes = 0;
  for (size_t i = 0; i < 4; ++i) {
    OK(cuFuncGetParamInfo(mixed, i, &offset, &bytes));
    CHECK(offset == expected[i].first);
    CHECK(bytes == expected[i].second);
  }
  GIVES(CUDA_ERROR_INVALID_VALUE, cuFuncGetParamInfo(mixed, 4, &offset, &bytes));
  CUfunction function = nullptr;
  GIVES(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&function, kernels.module, "nothing"));
  CUmodule module = nullptr;
  OK(cuFuncGetModule(&module, mixed));
  CHECK(module == kernels.module);
  int value = 0;
  OK(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, kernels.function("bounded")));
  CHECK(value == 128);
  OK(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, kernels.function("shared_sum")));
  CHECK(value == 128);
  OK(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_BINARY_VERSION, mixed));
  CHECK(value == 90);
  GIVES(CUDA_ERROR_INVALID_VALUE, cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX, mixed));
}

TEST_CASE("Libraries hold kernels that run in any context") {
  OK(cuInit(0));
  CUlibrary library = nullptr;
  const auto code = image("all.fatbin");
  OK(cuLibraryLoadData(&library, code.data(), nullptr, nullptr, 0, nullptr, nullptr, 0));
  CUkernel kernel = nullptr;
  OK(cuLibraryGetKernel(&kernel, library, "bounded"));
  GIVES(CUDA_ERROR_NOT_FOUND, cuLibraryGetKernel(&kernel, library, "nothing"));
  for (const CUdevice device : {0, 1}) {
    test::Context context(device);
    test::Buffer out(512);
    OK(test::launch(reinterpret_cast<CUfunction>(kernel), 1, 128, nullptr, out.address));
    CHECK(test::read(out.address, 128)[127] == 127);
    CUfunction function = nullptr;
    OK(cuKernelGetFunction(&function, kernel));
    CUdeviceptr address = 0;
    size_t bytes = 0;
    OK(cuLibraryGetGlobal(&address, &bytes, library, "counter"));
    CHECK(bytes == 4);
  }
  OK(cuLibraryUnload(library));
  GIVES(CUDA_ERROR_INVALID_HANDLE, cuLibraryUnload(library));
  const char* name = nullptr;
  GIVES(CUDA_ERROR_INVALID_HANDLE, cuKernelGetName(&name, kernel));
}
