// From an image to a loaded module.
#pragma once

#include <cuda.h>

#include <memory>
#include <string>
#include <vector>

#include "devices/cpu/device.h"

namespace avec::cpu {

/// What an image gives this device to run: compiled PTX, or the error that CUDA has for it.
/// `log` says why, for CU_JIT_ERROR_LOG_BUFFER.
CUresult compile_image(const void* image, std::unique_ptr<ptx::Module>& code, std::vector<char>& text,
                       std::string& log);
/// The PTX that an image of any kind gives this device, NUL at the end.
CUresult ptx_of_image(const void* image, std::vector<char>& text, std::string& log);
/// `allowed`: a target newer than the device that is taken all the same, in any version of PTX.
CUresult compile_text(const char* text, std::unique_ptr<ptx::Module>& code, std::string& log, unsigned allowed = 0);

/// Gives variables their memory, makes the functions and the handles.
CUresult instantiate(const ContextRef& context, std::unique_ptr<ptx::Module> code,
                     std::shared_ptr<Module>& module);

/// Ends a module's handles; its memory goes when its last kernel has ended.
void forget(const std::shared_ptr<Module>& module);

/// The numbers and buffers of a JIT option list.
class JitLog {
 public:
  CUresult read(unsigned count, const CUjit_option* options, void** values);
  /// Fills the buffers and the sizes that were written.
  void write(const std::string& errors);

 private:
  struct Buffer {
    char* text = nullptr;
    void** bytes = nullptr;  // the option's value: capacity in, length out
    std::uint32_t capacity = 0;
  };
  static void put(const Buffer& buffer, const std::string& text);
  Buffer info_, error_;
};

/// A function by its handle, or by a kernel's handle in the current context.
CUresult function_of(CUfunction handle, std::shared_ptr<Function>& function, std::shared_ptr<Module>& module);
CUresult function_of_kernel(CUkernel handle, const ContextRef& context, std::shared_ptr<Function>& function);
CUresult module_of_library(Library& library, const ContextRef& context, std::shared_ptr<Module>& module);
CUresult global_of(const Module& module, const char* name, CUdeviceptr* address, size_t* bytes);

CUresult get_attribute(const Function& function, CUfunction_attribute attribute, int& value);
CUresult set_attribute(Function& function, CUfunction_attribute attribute, int value);

/// Blocks of this shape that one multiprocessor holds; 0: not even one.
int blocks_per_processor(const Function& function, int block_threads, std::uint64_t dynamic_shared);

}  // namespace avec::cpu
