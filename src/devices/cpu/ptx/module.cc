// compile(), bind() and run().
#include <algorithm>
#include <cstring>

#include "devices/cpu/ptx/block.h"
#include "devices/cpu/ptx/decoder.h"

namespace avec::cpu::ptx {
namespace {

class CompiledModule final : public Module {
 public:
  explicit CompiledModule(std::string_view text) : text_(text) {}

  void compile() {
    SyntaxModule syntax;
    parse(text_, syntax);
    lay_out_shared(syntax);
    program_.functions.resize(syntax.functions.size());
    Decoder decoder(syntax, program_);
    for (SyntaxFunction& function : syntax.functions) {
      if (function.defined) decoder.decode(function);
    }
    variables_ = std::move(syntax.variables);
    resolve_functions(syntax);
    describe_kernels(syntax);
  }

  std::span<const Variable> variables() const override { return variables_; }
  std::span<const KernelFacts> kernels() const override { return kernels_; }

  void bind(std::span<const std::uint64_t> addresses) override {
    program_.addresses.assign(addresses.begin(), addresses.end());
    program_.addresses.resize(variables_.size(), 0);
    auto* constants = reinterpret_cast<std::byte*>(program_.constants.words.data());
    for (const ConstantFix& fix : program_.fixes) {
      for (unsigned lane = 0; lane < kLanes; ++lane) {
        std::uint64_t value = 0;
        std::memcpy(&value, constants + fix.offset + 8 * lane, 8);
        value += program_.addresses[fix.variable];
        std::memcpy(constants + fix.offset + 8 * lane, &value, 8);
      }
    }
    program_.fixes.clear();
    for (std::size_t i = 0; i < variables_.size(); ++i) {
      if (!variables_[i].constant || variables_[i].bytes == 0) continue;
      constants_.push_back({program_.addresses[i], program_.addresses[i] + variables_[i].bytes, false});
    }
  }

  Fault run(std::size_t index, const Launch& launch) const override {
    const Function& kernel = program_.functions[kernel_functions_[index]];
    return Run(program_, kernel, launch, constants_).execute();
  }

 private:
  /// Addresses of functions are known now: they move from relocations into initial values.
  void resolve_functions(SyntaxModule& syntax) {
    for (Variable& variable : variables_) {
      std::erase_if(variable.relocations, [&](const Variable::Relocation& relocation) {
        const Symbol& symbol = *syntax.names.at(relocation.symbol);
        if (symbol.kind == SymbolKind::kGlobal || symbol.kind == SymbolKind::kConst) return false;
        std::uint64_t address = 0;
        if (symbol.kind == SymbolKind::kFunction) {
          const SyntaxFunction* function = definition_of(syntax, symbol);
          if (function == nullptr) throw SyntaxError{1, "Unresolved extern function '" + relocation.symbol + "'"};
          address = kCodeWindow + function->index * kCodeStride;
        } else if (symbol.kind == SymbolKind::kShared) {
          address = kSharedWindow + symbol.offset;
        } else {
          throw SyntaxError{1, "Initial value of '" + variable.name + "' is not an address of a variable or function"};
        }
        if (variable.initial.size() < relocation.offset + 8) variable.initial.resize(relocation.offset + 8);
        std::uint64_t value = 0;
        std::memcpy(&value, variable.initial.data() + relocation.offset, 8);
        value += address;
        std::memcpy(variable.initial.data() + relocation.offset, &value, 8);
        return true;
      });
    }
  }

  void describe_kernels(const SyntaxModule& syntax) {
    std::uint64_t constant_bytes = 0;
    for (const Variable& variable : variables_) constant_bytes += variable.constant ? variable.bytes : 0;
    for (const SyntaxFunction& function : syntax.functions) {
      if (!function.kernel || !function.defined) continue;
      KernelFacts& facts = kernels_.emplace_back();
      facts.name = function.name;
      facts.parameters = function.parameters;
      facts.parameter_bytes = function.kernel_parameter_bytes;
      facts.static_shared_bytes = function.static_shared_bytes;
      facts.constant_bytes = static_cast<std::uint32_t>(constant_bytes);
      facts.local_bytes = program_.functions[function.index].local_bytes;
      facts.max_threads = function.max_threads;
      facts.ptx_version = syntax.ptx_version;
      facts.binary_version = syntax.target;
      std::uint32_t registers = 0;
      for (const Type type : function.registers) registers += type == Type::kPred ? 0 : (bytes_of(type) + 3) / 4;
      // Virtual registers are many; what a compiler would need is at most this.
      facts.registers = std::clamp(registers, 8u, function.max_threads > 256 ? 64u : 255u);
      kernel_functions_.push_back(function.index);
    }
  }

  std::string text_;  // names point into it while compiling
  Program program_;
  std::vector<Variable> variables_;
  std::vector<KernelFacts> kernels_;
  std::vector<std::uint32_t> kernel_functions_;
  std::vector<AddressSpace::Range> constants_;
};

}  // namespace

std::unique_ptr<Module> Module::compile(std::string_view text, std::string& log) {
  log.clear();
  while (text.ends_with('\0')) text.remove_suffix(1);  // fatbins pad with zeros
  auto module = std::make_unique<CompiledModule>(text);
  try {
    module->compile();
  } catch (const SyntaxError& error) {
    log = "ptxas application ptx input, line " + std::to_string(error.line) + "; error : " + error.message +
          "\nptxas fatal   : Ptx assembly aborted due to errors\n";
    return nullptr;
  }
  return module;
}

}  // namespace avec::cpu::ptx
