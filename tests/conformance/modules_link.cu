// Modules, the JIT and its logs, the linker, libraries and kernels; all from PTX in the program.
#include "case.h"

namespace {

#define HEAD ".version 8.0\n.target sm_90\n.address_size 64\n"

const char* const kOne = HEAD
    ".visible .global .align 4 .u32 answer = 42;\n"
    ".visible .entry store(.param .u64 out) {\n"
    "  .reg .b64 %a; .reg .b32 %v;\n"
    "  ld.param.u64 %a, [out]; cvta.to.global.u64 %a, %a;\n"
    "  ld.global.u32 %v, [answer]; st.global.u32 [%a], %v; ret;\n}\n"
    ".visible .entry nothing() { ret; }\n";

const char* const kCaller = HEAD
    ".extern .func (.param .b32 r) twice(.param .b32 x);\n"
    ".extern .global .align 4 .u32 shared_value;\n"
    ".global .align 4 .u32 own = 1;\n"
    ".visible .entry call(.param .u64 out) {\n"
    "  .reg .b64 %a; .reg .b32 %v, %w;\n"
    "  ld.param.u64 %a, [out]; cvta.to.global.u64 %a, %a;\n"
    "  ld.global.u32 %v, [shared_value]; ld.global.u32 %w, [own]; add.u32 %v, %v, %w;\n"
    "  { .param .b32 p; .param .b32 q; st.param.b32 [p], %v; call (q), twice, (p); ld.param.b32 %v, [q]; }\n"
    "  st.global.u32 [%a], %v; ret;\n}\n";

const char* const kCallee = HEAD
    ".visible .global .align 4 .u32 shared_value = 10;\n"
    ".global .align 4 .u32 own = 100;\n"
    ".visible .func (.param .b32 r) twice(.param .b32 x) {\n"
    "  .reg .b32 %v, %w; ld.param.b32 %v, [x]; add.u32 %v, %v, %v;\n"
    "  ld.global.u32 %w, [own]; add.u32 %v, %v, %w; st.param.b32 [r], %v; ret;\n}\n";

const char* const kBroken = HEAD ".visible .entry broken() { nonsense.u32 %r1; ret; }\n";

void context() { NEED(cudaFree(nullptr)); }

CUmodule load(const char* text) {
  CUmodule module = nullptr;
  NEED(cuModuleLoadData(&module, text));
  return module;
}

int run(CUfunction function) {
  int* out = nullptr;
  int value = -1;
  NEED(cudaMalloc(&out, sizeof value));
  void* parameters[]{&out};
  NEED(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr));
  NEED(cudaMemcpy(&value, out, sizeof value, cudaMemcpyDeviceToHost));
  return value;
}

CUresult add(CUlinkState link, const char* text, const char* name) {
  return cuLinkAddData(link, CU_JIT_INPUT_PTX, const_cast<char*>(text), std::strlen(text) + 1, name, 0, nullptr, nullptr);
}

}  // namespace

CASE(load_run_unload) {
  context();
  CUmodule module = nullptr;
  CUfunction function = nullptr;
  SHOW(cuModuleLoadData(&module, kOne));
  SHOW(cuModuleGetFunction(&function, module, "store"));
  say("%d", run(function));
  SHOW(cuModuleUnload(module));
  SHOW(cuModuleLoadData(nullptr, kOne));
  SHOW(cuModuleLoadData(&module, nullptr));
}

CASE(names_that_a_module_lacks) {
  context();
  CUmodule module = load(kOne);
  CUfunction function = nullptr;
  CUdeviceptr address = 0;
  std::size_t bytes = 0;
  SHOW(cuModuleGetFunction(&function, module, "absent"));
  SHOW(cuModuleGetFunction(nullptr, module, "store"));
  SHOW(cuModuleGetFunction(&function, module, nullptr));
  SHOW(cuModuleGetGlobal(&address, &bytes, module, "absent"));
  SHOW(cuModuleGetGlobal(&address, &bytes, module, "answer"));
  say("%zu", bytes);
  SHOW(cuModuleGetGlobal(nullptr, &bytes, module, "answer"));
  SHOW(cuModuleGetGlobal(&address, nullptr, module, "answer"));
}

CASE(functions_of_a_module) {
  context();
  CUmodule module = load(kOne);
  unsigned count = 0;
  CUfunction functions[2]{};
  SHOW(cuModuleGetFunctionCount(&count, module));
  say("%u", count);
  SHOW(cuModuleEnumerateFunctions(functions, 2, module));
  SHOW(cuModuleGetFunctionCount(nullptr, module));
  CUfunction function = nullptr;
  NEED(cuModuleGetFunction(&function, module, "nothing"));
  const char* name = nullptr;
  SHOW(cuFuncGetName(&name, function));
  say("%s", name);
  CUmodule owner = nullptr;
  SHOW(cuFuncGetModule(&owner, function));
  say("%s", owner == module ? "its module" : "another module");
  CUfunctionLoadingState state = CU_FUNCTION_LOADING_STATE_UNLOADED;
  SHOW(cuFuncLoad(function));
  SHOW(cuFuncIsLoaded(&state, function));
  say("%d", static_cast<int>(state));
}

CASE(images_that_are_none) {
  context();
  CUmodule module = nullptr;
  SHOW(cuModuleLoadData(&module, "this is no PTX"));
  SHOW(cuModuleLoadData(&module, ".version 99.0\n.target sm_90\n.address_size 64\n"));
  SHOW(cuModuleLoad(&module, "/no/such/file"));
  SHOW(cuModuleLoad(&module, nullptr));
}

CASE(errors_of_the_jit) {
  context();
  char errors[4096] = "untouched";
  CUjit_option options[]{CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void* values[]{errors, reinterpret_cast<void*>(sizeof errors)};
  CUmodule module = nullptr;
  SHOW(cuModuleLoadDataEx(&module, kBroken, 2, options, values));
  say("%s", std::strlen(errors) > 10 ? "it says why" : "it says nothing");
  SHOW(cuModuleLoadDataEx(&module, kOne, 1, nullptr, nullptr));
}

CASE(options_of_the_jit) {
  context();
  CUjit_option options[]{CU_JIT_MAX_REGISTERS, CU_JIT_OPTIMIZATION_LEVEL, CU_JIT_GENERATE_LINE_INFO};
  void* values[]{reinterpret_cast<void*>(32), reinterpret_cast<void*>(1), reinterpret_cast<void*>(1)};
  CUmodule module = nullptr;
  CUfunction function = nullptr;
  SHOW(cuModuleLoadDataEx(&module, kOne, 3, options, values));
  NEED(cuModuleGetFunction(&function, module, "store"));
  say("%d", run(function));
}

CASE(link_two_units) {
  context();
  CUlinkState link = nullptr;
  SHOW(cuLinkCreate(0, nullptr, nullptr, &link));
  SHOW(add(link, kCaller, "caller"));
  SHOW(add(link, kCallee, "callee"));
  void* cubin = nullptr;
  std::size_t bytes = 0;
  SHOW(cuLinkComplete(link, &cubin, &bytes));
  say("%s", cubin != nullptr && bytes > 0 ? "something" : "nothing");
  CUmodule module = nullptr;
  CUfunction function = nullptr;
  SHOW(cuModuleLoadData(&module, cubin));
  SHOW(cuLinkDestroy(link));
  SHOW(cuModuleGetFunction(&function, module, "call"));
  say("%d", run(function));
}

CASE(link_without_a_definition) {
  context();
  char errors[4096] = "";
  CUjit_option options[]{CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void* values[]{errors, reinterpret_cast<void*>(sizeof errors)};
  CUlinkState link = nullptr;
  NEED(cuLinkCreate(2, options, values, &link));
  SHOW(add(link, kCaller, "caller"));
  void* cubin = nullptr;
  std::size_t bytes = 0;
  say("%s", cuLinkComplete(link, &cubin, &bytes) == CUDA_SUCCESS ? "it succeeds" : "it fails");
  say("%s", std::strstr(errors, "twice") != nullptr ? "it names what is missing" : "it does not say what");
  SHOW(cuLinkDestroy(link));
}

CASE(link_a_broken_unit) {
  context();
  CUlinkState link = nullptr;
  NEED(cuLinkCreate(0, nullptr, nullptr, &link));
  void* cubin = nullptr;
  std::size_t bytes = 0;
  const CUresult added = add(link, kBroken, "broken");
  const CUresult completed = cuLinkComplete(link, &cubin, &bytes);
  say("%s", added != CUDA_SUCCESS || completed != CUDA_SUCCESS ? "it fails" : "it succeeds");
  SHOW(cuLinkDestroy(link));
}

CASE(arguments_of_the_linker) {
  context();
  CUlinkState link = nullptr;
  SHOW(cuLinkCreate(0, nullptr, nullptr, nullptr));
  NEED(cuLinkCreate(0, nullptr, nullptr, &link));
  SHOW(cuLinkAddFile(link, CU_JIT_INPUT_PTX, "/no/such/file", 0, nullptr, nullptr));
  SHOW(cuLinkDestroy(link));
}

CASE(library_and_kernels) {
  context();
  CUlibrary library = nullptr;
  CUkernel kernel = nullptr;
  unsigned count = 0;
  SHOW(cuLibraryLoadData(&library, kOne, nullptr, nullptr, 0, nullptr, nullptr, 0));
  SHOW(cuLibraryGetKernelCount(&count, library));
  say("%u", count);
  SHOW(cuLibraryGetKernel(&kernel, library, "store"));
  SHOW(cuLibraryGetKernel(&kernel, library, "absent"));
  NEED(cuLibraryGetKernel(&kernel, library, "store"));
  say("%d", run(reinterpret_cast<CUfunction>(kernel)));
  CUfunction function = nullptr;
  SHOW(cuKernelGetFunction(&function, kernel));
  say("%d", run(function));
  const char* name = nullptr;
  SHOW(cuKernelGetName(&name, kernel));
  say("%s", name);
  CUlibrary owner = nullptr;
  SHOW(cuKernelGetLibrary(&owner, kernel));
  say("%s", owner == library ? "its library" : "another library");
  SHOW(cuLibraryUnload(library));
}

CASE(attributes_of_kernels) {
  context();
  CUlibrary library = nullptr;
  CUkernel kernel = nullptr;
  NEED(cuLibraryLoadData(&library, kOne, nullptr, nullptr, 0, nullptr, nullptr, 0));
  NEED(cuLibraryGetKernel(&kernel, library, "store"));
  int value = 0;
  SHOW(cuKernelGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, kernel, 0));
  say("%d", value);
  SHOW(cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 65536, kernel, 0));
  SHOW(cuKernelGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, kernel, 0));
  say("%d", value);
  SHOW(cuKernelGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, kernel, 1000));
  SHOW(cuKernelSetCacheConfig(kernel, CU_FUNC_CACHE_PREFER_SHARED, 0));
  std::size_t offset = 9, bytes = 9;
  SHOW(cuKernelGetParamInfo(kernel, 0, &offset, &bytes));
  say("%zu %zu", offset, bytes);
}

CASE(globals_of_libraries) {
  context();
  CUlibrary library = nullptr;
  CUdeviceptr address = 0;
  std::size_t bytes = 0;
  NEED(cuLibraryLoadData(&library, kOne, nullptr, nullptr, 0, nullptr, nullptr, 0));
  SHOW(cuLibraryGetGlobal(&address, &bytes, library, "answer"));
  int value = 0;
  SHOW(cuMemcpyDtoH(&value, address, sizeof value));
  say("%zu %d", bytes, value);
  SHOW(cuLibraryGetGlobal(&address, &bytes, library, "absent"));
  SHOW(cuLibraryGetManaged(&address, &bytes, library, "answer"));
  void* function = nullptr;
  SHOW(cuLibraryGetUnifiedFunction(&function, library, "store"));
}

CASE(runtime_library) {
  context();
  cudaLibrary_t library = nullptr;
  cudaKernel_t kernel = nullptr;
  unsigned count = 0;
  SHOW(cudaLibraryLoadData(&library, kOne, nullptr, nullptr, 0, nullptr, nullptr, 0));
  SHOW(cudaLibraryGetKernelCount(&count, library));
  say("%u", count);
  SHOW(cudaLibraryGetKernel(&kernel, library, "store"));
  int* out = nullptr;
  int value = 0;
  NEED(cudaMalloc(&out, sizeof value));
  void* parameters[]{&out};
  SHOW(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(1), dim3(1), parameters, 0, nullptr));
  NEED(cudaMemcpy(&value, out, sizeof value, cudaMemcpyDeviceToHost));
  say("%d", value);
  SHOW(cudaLibraryUnload(library));
}
