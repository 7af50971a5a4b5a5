// Modules made of kernels.cu in the forms that nvcc has.
#pragma once

#include <fstream>
#include <iterator>

#include "support.h"

namespace test {

inline std::vector<char> image(const std::string& name) {
  std::ifstream file(std::string(AVEC_TEST_IMAGES) + "/" + name, std::ios::binary);
  REQUIRE(file);
  std::vector<char> bytes((std::istreambuf_iterator<char>(file)), {});
  bytes.push_back('\0');
  return bytes;
}

class Kernels {
 public:
  explicit Kernels(const char* name = "kernels.ptx") { OK(cuModuleLoadData(&module, image(name).data())); }

  CUfunction function(const char* name) const {
    CUfunction found = nullptr;
    OK(cuModuleGetFunction(&found, module, name));
    return found;
  }
  CUmodule module = nullptr;
};

template <class... Arguments>
CUresult launch(CUfunction function, unsigned blocks, unsigned threads, CUstream stream,
                Arguments... arguments) {
  void* pointers[] = {static_cast<void*>(&arguments)..., nullptr};
  return cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, 0, stream, pointers, nullptr);
}

}  // namespace test
