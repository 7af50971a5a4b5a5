// Functions: formals, performance directives, bodies ("PTX ISA", 7 and 11.3).
#include <algorithm>

#include "devices/cpu/ptx/parser.h"

namespace avec::cpu::ptx {
namespace {

std::uint64_t align_up(std::uint64_t n, std::uint64_t alignment) { return (n + alignment - 1) / alignment * alignment; }

}  // namespace

void Parser::function(bool kernel, Linkage linkage) {
  SyntaxFunction& function = module_.functions.emplace_back();
  function.index = static_cast<std::uint32_t>(module_.functions.size() - 1);
  function.kernel = kernel;
  function.line = peek().line;
  function.scope_parents.push_back(-1);
  function_ = &function;
  Scope scope;
  if (!kernel && peek().is('(')) formals(function, function.results, scope, false);
  const std::string_view name = expect_word();
  function.name = name;
  if (peek().is('(')) formals(function, function.formals, scope, kernel);
  performance_directives(function);

  Symbol* symbol = nullptr;
  const auto known = module_.names.find(name);
  if (known != module_.names.end()) {
    symbol = known->second;
    if (symbol->kind != SymbolKind::kFunction) fail("Duplicate definition of '" + function.name + "'");
  } else {
    symbol = new_symbol(SymbolKind::kFunction, {.name = name});
    symbol->index = function.index;
    module_.names[name] = symbol;
  }
  if (accept(';')) {  // a prototype
    if (symbol->index != function.index) module_.functions.pop_back();
    function_ = nullptr;
    return;
  }
  if (!peek().is('{')) unexpected();
  if (symbol->index != function.index) {
    if (module_.functions[symbol->index].defined) {
      if (!linkage.weak) fail("Duplicate definition of function '" + function.name + "'");
    }
    symbol->index = function.index;
  }
  function.defined = true;
  body(function, std::move(scope));
  function_ = nullptr;
}

void Parser::formals(SyntaxFunction& function, std::vector<Formal>& list, Scope& scope, bool kernel) {
  expect('(');
  if (accept(')')) return;
  do {
    const std::string_view space = expect_directive();
    if (space == "reg") {
      const Type type = type_of(expect_directive());
      if (type == Type::kNone || kernel) unexpected();
      const std::int32_t reg = new_register(type);
      scope.registers[expect_word()] = {reg, 0};
      list.push_back({nullptr, reg, bytes_of(type)});
      continue;
    }
    if (space != "param") {
      --at_;
      unexpected();
    }
    const Declaration declared = declaration();
    Symbol* symbol = new_symbol(kernel ? SymbolKind::kKernelParameter : SymbolKind::kParameter, declared);
    if (kernel) {
      const std::uint64_t offset = align_up(function.kernel_parameter_bytes, declared.alignment);
      if (offset + declared.bytes > 32764) fail("Kernel '" + function.name + "' has more than 32764 bytes of parameters");
      symbol->offset = offset;
      function.parameters.push_back({static_cast<std::uint32_t>(offset), static_cast<std::uint32_t>(declared.bytes)});
      function.kernel_parameter_bytes = static_cast<std::uint32_t>(offset + declared.bytes);
    } else {
      symbol->offset = reserve_parameter(function, declared.bytes, declared.alignment);
    }
    scope.symbols[declared.name] = symbol;
    list.push_back({symbol, -1, static_cast<std::uint32_t>(declared.bytes)});
  } while (accept(','));
  expect(')');
}

std::uint32_t Parser::reserve_parameter(SyntaxFunction& function, std::uint64_t bytes, std::uint32_t alignment) {
  const std::uint64_t offset = align_up(function.parameter_bytes, std::max(alignment, 8u));
  if (bytes > kMaxFrameBytes || offset + bytes > kMaxFrameBytes) fail("Too many bytes of parameters");
  function.parameter_bytes = static_cast<std::uint32_t>(offset + bytes);
  return static_cast<std::uint32_t>(offset);
}

void Parser::performance_directives(SyntaxFunction& function) {
  while (peek().kind == TokenKind::kDirective) {
    const std::string_view name = take().text;
    if (name == "maxntid" || name == "reqntid") {
      std::uint64_t threads = 1;
      do {
        threads *= std::min<std::uint64_t>(expect_integer(), 1 << 16);
        threads = std::min<std::uint64_t>(threads, 1 << 16);
      } while (accept(','));
      function.max_threads = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(threads, 1, 1024));
    } else if (name == "pragma") {
      skip_to_semicolon();
    } else if (name == "noreturn" || name == "unique" || name == "explicitcluster" || name == "blocksareclusters") {
      continue;
    } else if (name == "minnctapersm" || name == "maxnctapersm" || name == "maxnreg" || name == "maxclusterrank" ||
               name == "reqnctapercluster" || name == "abi_preserve" || name == "abi_preserve_control") {
      do expect_integer();
      while (accept(','));
    } else {
      --at_;
      unexpected();
    }
  }
}

std::int32_t Parser::new_register(Type type) {
  if (function_->registers.size() >= kMaxRegisters) fail("Too many registers");
  function_->registers.push_back(type);
  return static_cast<std::int32_t>(function_->registers.size() - 1);
}

void Parser::push_scope() {
  if (scopes_.size() >= kMaxNesting) fail("Blocks nested too deeply");
  Scope scope;
  scope.id = static_cast<std::int32_t>(function_->scope_parents.size());
  function_->scope_parents.push_back(scopes_.back().id);
  scopes_.push_back(std::move(scope));
}

void Parser::pop_scope() { scopes_.pop_back(); }

void Parser::body(SyntaxFunction& function, Scope scope) {
  expect('{');
  scopes_.clear();
  scopes_.push_back(std::move(scope));
  while (!scopes_.empty()) {
    if (peek().kind == TokenKind::kEnd) unexpected();
    if (accept('{')) {
      push_scope();
    } else if (accept('}')) {
      pop_scope();
    } else {
      body_item();
    }
  }
  (void)function;
}

void Parser::body_item() {
  if (accept(';')) return;
  if (peek().kind == TokenKind::kDirective) {
    const std::string_view name = take().text;
    if (name == "reg") return registers();
    if (name == "local" || name == "shared" || name == "param" || name == "const" || name == "global") {
      return body_variable(name);
    }
    if (name == "pragma") return skip_to_semicolon();
    if (name == "loc") {  // .loc file line column [, function_name label [+ n], inlined_at file line column]
      for (int i = 0; i < 3; ++i) expect_integer();
      while (accept(',')) {
        if (expect_word() == "function_name") {
          expect_word();
          if (accept('+')) expect_integer();
        } else {
          for (int i = 0; i < 3; ++i) expect_integer();
        }
      }
      return;
    }
    if (name == "section") return section();
    if (name == "branchtargets" || name == "calltargets" || name == "callprototype") unexpected();
    --at_;
    unexpected();
  }
  if (peek().kind == TokenKind::kWord && peek(1).is(':')) {
    const std::string_view label = take().text;
    take();
    const Token& next = peek();
    if (next.kind == TokenKind::kDirective && (next.text == "branchtargets" || next.text == "calltargets" ||
                                               next.text == "callprototype")) {
      return prototype_or_table(label);
    }
    const auto where = static_cast<std::uint32_t>(function_->statements.size());
    if (!function_->labels.emplace(std::pair(scopes_.back().id, label), where).second) {
      fail("Duplicate definition of label '" + std::string(label) + "'");
    }
    return;
  }
  statement();
}

void Parser::prototype_or_table(std::string_view label) {
  const std::string_view what = take().text;
  Symbol* symbol = new_symbol(what == "callprototype" ? SymbolKind::kPrototype : SymbolKind::kTable, {.name = label});
  symbol->scope = scopes_.back().id;
  scopes_.back().symbols[label] = symbol;
  if (what == "callprototype") return skip_to_semicolon();
  do symbol->targets.push_back(expect_word());
  while (accept(','));
  expect(';');
}

void Parser::registers() {
  std::string_view word = expect_directive();
  if (word == "v2" || word == "v4") fail("Vector registers are not supported");
  const Type type = type_of(word);
  if (type == Type::kNone) unexpected();
  do {
    const std::string_view name = expect_word();
    RegisterRange range{static_cast<std::int32_t>(function_->registers.size()), 0};
    std::uint64_t count = 1;
    if (accept('<')) {
      count = expect_integer();
      expect('>');
      range.count = static_cast<std::uint32_t>(std::min<std::uint64_t>(count, kMaxRegisters));
    }
    if (count > kMaxRegisters) fail("Too many registers");
    for (std::uint64_t i = 0; i < count; ++i) new_register(type);
    scopes_.back().registers[name] = range;
  } while (accept(','));
  expect(';');
}

void Parser::body_variable(std::string_view space) {
  if (space == "global" || space == "const") return module_variable(space, {});
  do {
    const Declaration declared = declaration();
    Symbol* symbol = nullptr;
    if (space == "local") {
      symbol = new_symbol(SymbolKind::kLocal, declared);
      const std::uint64_t offset = align_up(function_->local_bytes, declared.alignment);
      if (declared.bytes > kMaxFrameBytes || offset + declared.bytes > kMaxFrameBytes) fail("Too much local data");
      symbol->offset = offset;
      function_->local_bytes = static_cast<std::uint32_t>(offset + declared.bytes);
    } else if (space == "shared") {
      symbol = new_symbol(declared.unsized ? SymbolKind::kDynamicShared : SymbolKind::kShared, declared);
      symbol->owner = function_;
    } else {
      symbol = new_symbol(SymbolKind::kParameter, declared);
      symbol->offset = reserve_parameter(*function_, declared.bytes, declared.alignment);
    }
    scopes_.back().symbols[declared.name] = symbol;
    if (symbol->kind == SymbolKind::kShared) function_->shared_used.push_back(symbol);
  } while (accept(','));
  expect(';');
}

std::int32_t Parser::find_register(std::string_view name) const {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    const auto exact = scope->registers.find(name);
    if (exact != scope->registers.end() && exact->second.count == 0) return exact->second.first;
    std::uint64_t number = 0, place = 1;
    for (std::size_t split = name.size(); split-- > 1 && name[split] >= '0' && name[split] <= '9';) {
      number += static_cast<std::uint64_t>(name[split] - '0') * place;
      place *= 10;
      if (number > kMaxRegisters) break;
      const auto range = scope->registers.find(name.substr(0, split));
      const bool canonical = name[split] != '0' || split + 1 == name.size();
      if (range != scope->registers.end() && canonical && number < range->second.count) {
        return range->second.first + static_cast<std::int32_t>(number);
      }
    }
  }
  return -1;
}

Symbol* Parser::find_symbol(std::string_view name) const {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    const auto found = scope->symbols.find(name);
    if (found != scope->symbols.end()) return found->second;
  }
  const auto found = module_.names.find(name);
  if (found != module_.names.end()) return found->second;
  const auto alias = module_.aliases.find(name);
  const auto target = alias == module_.aliases.end() ? module_.names.end() : module_.names.find(alias->second);
  return target == module_.names.end() ? nullptr : target->second;
}

void Parser::statement() {
  Statement& statement = function_->statements.emplace_back();
  statement.line = peek().line;
  statement.scope = scopes_.back().id;
  if (accept('@')) {
    statement.guard_negated = accept('!');
    const std::string_view name = expect_word();
    statement.guard = find_register(name);
    if (statement.guard < 0) fail("Unknown symbol '" + std::string(name) + "'");
    if (function_->registers[static_cast<std::size_t>(statement.guard)] != Type::kPred) {
      fail("Guard '" + std::string(name) + "' is not a predicate");
    }
  }
  statement.opcode = expect_word();
  while (peek().kind == TokenKind::kDirective) statement.modifiers.push_back(take().text);
  if (!peek().is(';')) {
    do statement.operands.push_back(operand());
    while (accept(','));
  }
  expect(';');
}

SyntaxOperand Parser::list(char close, OperandKind kind, int depth) {
  SyntaxOperand result;
  result.kind = kind;
  if (accept(close)) return result;
  do result.items.push_back(operand(depth + 1));
  while (accept(','));
  expect(close);
  return result;
}

SyntaxOperand Parser::address() {
  SyntaxOperand result;
  result.kind = OperandKind::kAddress;
  result.items.push_back(operand(1));
  if (accept('+')) result.offset += expect_signed();
  else if (accept('-')) result.offset -= expect_signed();
  while (accept(',')) result.items.push_back(operand(1));
  expect(']');
  return result;
}

SyntaxOperand Parser::operand(int depth) {
  if (depth > 8) unexpected();
  if (accept('{')) {
    SyntaxOperand vector = list('}', OperandKind::kVector, depth);
    if (!accept('|')) return vector;
    SyntaxOperand pair;  // a texture's values and whether all had memory
    pair.kind = OperandKind::kPair;
    pair.items.push_back(std::move(vector));
    pair.items.push_back(word_operand());
    return pair;
  }
  if (accept('(')) return list(')', OperandKind::kList, depth);
  if (accept('[')) return address();
  if (accept('!')) {
    SyntaxOperand result = word_operand();
    result.negated = true;
    return result;
  }
  SyntaxOperand result;
  const bool negative = accept('-');
  switch (peek().kind) {
    case TokenKind::kInteger:
      result.kind = OperandKind::kInteger;
      result.bits = take().bits;
      if (negative) result.bits = 0 - result.bits;
      return result;
    case TokenKind::kFloat:
      result.kind = OperandKind::kFloat;
      result.bits = take().bits ^ (negative ? 0x80000000u : 0u);
      return result;
    case TokenKind::kDouble:
      result.kind = OperandKind::kDouble;
      result.bits = take().bits ^ (negative ? std::uint64_t{1} << 63 : 0);
      return result;
    default: break;
  }
  if (negative) unexpected();
  result = word_operand();
  if (accept('|')) {
    SyntaxOperand pair;
    pair.kind = OperandKind::kPair;
    pair.items.push_back(std::move(result));
    pair.items.push_back(word_operand());
    return pair;
  }
  return result;
}

SyntaxOperand Parser::word_operand() {
  SyntaxOperand result;
  std::string_view name = expect_word();
  if (name == "_") return result;
  result.name = name;
  if (name == "WARP_SZ") {
    result.kind = OperandKind::kInteger;
    result.bits = kLanes;
    return result;
  }
  result.reg = find_register(name);
  if (result.reg >= 0) {
    result.kind = OperandKind::kRegister;
    return result;
  }
  if (const Symbol* symbol = find_symbol(name)) {
    result.kind = OperandKind::kSymbol;
    result.symbol = symbol;
    note_use(symbol);
    if (peek().is('+') && peek(1).kind == TokenKind::kInteger) {
      take();
      result.offset = expect_signed();
    }
    return result;
  }
  if (name.starts_with('%')) {
    result.kind = OperandKind::kSpecial;
    if (peek().kind == TokenKind::kDirective) {
      const std::string_view component = take().text;  // "%tid" ".x": one view over both
      result.name = {name.data(), static_cast<std::size_t>(component.data() + component.size() - name.data())};
    }
    return result;
  }
  result.kind = OperandKind::kLabel;
  return result;
}

void Parser::note_use(const Symbol* symbol) {
  if (symbol->kind == SymbolKind::kShared) function_->shared_used.push_back(symbol);
  if (symbol->kind == SymbolKind::kFunction) function_->callees.push_back(symbol);
}

}  // namespace avec::cpu::ptx
