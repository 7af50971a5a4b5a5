// Kernel launches, checked and ready to run: for streams and for kernel nodes of graphs.
#pragma once

#include <cuda.h>

#include <array>
#include <functional>
#include <memory>
#include <vector>

#include "devices/cpu/modules.h"

namespace avec::cpu {

struct Shape {
  std::array<unsigned, 3> grid{}, block{};
  unsigned shared = 0;
  bool cooperative = false;
};

/// Would the device take a launch of this shape?
CUresult check_shape(const Function& function, const Shape& shape);

/// The parameter buffer, from an array of pointers or from the application's own buffer.
CUresult read_parameters(const ptx::KernelFacts& facts, void** pointers, void** extra,
                         std::vector<std::byte>& buffer);

/// Runs the kernel on the calling thread. The work owns the module and the parameters.
std::function<CUresult()> kernel_work(const std::shared_ptr<Module>& module, std::size_t index,
                                      const Shape& shape, std::vector<std::byte> parameters);

/// What a launch attribute asks for; `event` is recorded when the kernel has ended.
CUresult read_attribute(const CUlaunchAttribute& attribute, Shape& shape, CUevent& event);

}  // namespace avec::cpu
