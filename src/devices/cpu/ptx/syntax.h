// What the parser makes of a module: functions with their statements, names resolved.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "devices/cpu/ptx/lexer.h"
#include "devices/cpu/ptx/ptx.h"
#include "devices/cpu/ptx/types.h"

namespace avec::cpu::ptx {

enum class SymbolKind : std::uint8_t {
  kGlobal, kConst, kShared, kDynamicShared, kLocal,
  kParameter,      ///< of a device function, or a .param variable for a call
  kKernelParameter, kFunction, kLabel, kPrototype, kTable
};

struct SyntaxFunction;

/// A named thing other than a register.
struct Symbol {
  SymbolKind kind = SymbolKind::kGlobal;
  std::string_view name;
  Type type = Type::kNone;
  std::uint64_t bytes = 0;
  std::uint32_t alignment = 1;
  std::uint64_t offset = 0;      ///< in its space: local frame, parameter area, shared memory
  std::uint32_t index = 0;       ///< variable or function; statement of a label
  SyntaxFunction* owner = nullptr;  ///< kShared declared in a function's body
  std::vector<std::string_view> targets;  ///< kTable
  std::int32_t scope = 0;                 ///< kTable: where its labels are looked up
};

enum class OperandKind : std::uint8_t {
  kRegister, kInteger, kFloat, kDouble, kSymbol, kLabel, kAddress, kVector, kList, kSpecial, kSink, kPair
};

struct SyntaxOperand {
  OperandKind kind = OperandKind::kSink;
  bool negated = false;        ///< !p
  std::int32_t reg = -1;
  std::uint64_t bits = 0;      ///< value of a number
  std::int64_t offset = 0;     ///< symbol+offset, [base+offset]
  std::string_view name;       ///< label or special register, as written
  const Symbol* symbol = nullptr;
  std::vector<SyntaxOperand> items;  ///< kVector, kList, kPair (p|q), kAddress: base, then the rest
};

struct Statement {
  std::uint32_t line = 0;
  std::int32_t scope = 0;
  std::int32_t guard = -1;  ///< register of @p
  bool guard_negated = false;
  std::string_view opcode;
  std::vector<std::string_view> modifiers;
  std::vector<SyntaxOperand> operands;
};

/// A formal parameter or result.
struct Formal {
  Symbol* symbol = nullptr;   ///< null when it is a register
  std::int32_t reg = -1;
  std::uint32_t bytes = 0;
};

struct SyntaxFunction {
  std::string name;
  std::uint32_t index = 0;
  std::uint32_t line = 0;
  bool kernel = false;
  bool defined = false;
  std::vector<Formal> formals, results;
  std::vector<Type> registers;
  std::vector<Statement> statements;
  std::vector<std::int32_t> scope_parents;
  std::map<std::pair<std::int32_t, std::string_view>, std::uint32_t> labels;  ///< scope, name: statement
  std::vector<const Symbol*> shared_used;
  std::vector<const Symbol*> callees;  ///< functions named in the body
  std::uint32_t parameter_bytes = 0;  ///< formals, results and .param variables of calls
  std::uint32_t local_bytes = 0;
  std::uint32_t max_threads = 1024;
  std::vector<Parameter> parameters;  ///< of a kernel
  std::uint32_t kernel_parameter_bytes = 0;
  std::uint32_t static_shared_bytes = 0;
};

/// A relocation as parsed; functions are resolved by the compiler, variables by bind().
struct SyntaxModule {
  std::uint32_t ptx_version = 0;
  std::uint32_t target = 0;
  std::deque<SyntaxFunction> functions;
  std::deque<Symbol> symbols;
  std::vector<Variable> variables;
  std::vector<const Symbol*> variable_symbols;
  std::vector<bool> variable_external;  ///< .extern: no definition seen
  std::unordered_map<std::string_view, Symbol*> names;  ///< module scope
  std::unordered_map<std::string_view, std::string_view> aliases;
};

/// The function that `symbol` stands for at the end: its definition, or an alias's; null when
/// there is only a prototype.
SyntaxFunction* definition_of(SyntaxModule& module, const Symbol& symbol);

/// Throws SyntaxError. `text` must outlive the result.
void parse(std::string_view text, SyntaxModule& module);

/// Gives each shared variable its offset, each kernel its static shared size.
void lay_out_shared(SyntaxModule& module);

}  // namespace avec::cpu::ptx
