#include "device.h"

#include <fstream>
#include <sstream>

#include "support/catch.h"

namespace avec::cpu::ptx {

std::string ptx_of(const std::string& source, const std::string& variant) {
  std::ifstream file(std::string(PTX_FOLDER) + "/" + source + "_" + variant + ".ptx");
  std::stringstream text;
  text << file.rdbuf();
  REQUIRE(!text.str().empty());
  return text.str();
}

std::string kernel_around(const std::string& body) {
  return ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 k_out) {\n"
         ".reg .b64 %out; .reg .b64 %rd<32>; .reg .b32 %r<64>; .reg .b16 %rs<16>; .reg .f32 %f<32>; .reg .f64 %fd<16>; "
         ".reg .pred %p<16>;\nld.param.u64 %out, [k_out];\n" + body + "\nret;\n}\n";
}

TestDevice::TestDevice(const std::string& text) {
  module_ = Module::compile(text, log);
  INFO(log);
  REQUIRE(module_ != nullptr);
  std::vector<std::uint64_t> addresses;
  for (const Variable& variable : module_->variables()) {
    auto* p = allocate<std::byte>(std::max<std::size_t>(variable.bytes, 1), !variable.constant);
    std::copy(variable.initial.begin(), variable.initial.end(), p);
    addresses.push_back(reinterpret_cast<std::uint64_t>(p));
  }
  const auto variables = module_->variables();
  for (std::size_t i = 0; i < variables.size(); ++i) {
    for (const Variable::Relocation& relocation : variables[i].relocations) {
      for (std::size_t k = 0; k < variables.size(); ++k) {
        if (variables[k].name != relocation.symbol) continue;
        std::uint64_t value = 0;
        auto* at = reinterpret_cast<std::byte*>(addresses[i]) + relocation.offset;
        std::memcpy(&value, at, 8);
        value += addresses[k];
        std::memcpy(at, &value, 8);
      }
    }
  }
  module_->bind(addresses);
}

AddressSpace::Range TestDevice::find(std::uint64_t address) const {
  auto next = ranges_.upper_bound(address);
  if (next == ranges_.begin()) return {};
  --next;
  return address < next->second.end ? next->second : Range{};
}

std::size_t TestDevice::index_of(const std::string& kernel) const {
  const auto kernels = module_->kernels();
  for (std::size_t i = 0; i < kernels.size(); ++i) {
    if (kernels[i].name == kernel) return i;
  }
  FAIL("no kernel " << kernel);
  return 0;
}

Fault TestDevice::launch(const std::string& kernel, std::array<std::uint32_t, 3> grid, std::array<std::uint32_t, 3> block,
                         std::uint32_t shared, const std::vector<std::byte>& parameters) {
  Launch launch;
  launch.grid = grid;
  launch.block = block;
  launch.dynamic_shared_bytes = shared;
  launch.parameters = parameters;
  launch.memory = this;
  launch.heap = &heap_;
  launch.cooperative = cooperative;
  launch.stop = &stop;
  launch.output = [this](int descriptor, std::string_view text) { (descriptor == 1 ? out : err) += text; };
  return module_->run(index_of(kernel), launch);
}

}  // namespace avec::cpu::ptx
