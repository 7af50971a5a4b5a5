// The parser's class; parser.cc has modules and variables, parser_body.cc function bodies.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "devices/cpu/ptx/syntax.h"

namespace avec::cpu::ptx {

/// Bounds on what a text may ask for: beyond is an error, not an allocation.
inline constexpr std::uint64_t kMaxVariableBytes = std::uint64_t{1} << 32;
inline constexpr std::uint32_t kMaxRegisters = 1u << 17;
inline constexpr std::uint32_t kMaxFrameBytes = 1u << 22;
inline constexpr int kMaxNesting = 64;

class Parser {
 public:
  Parser(std::vector<Token> tokens, SyntaxModule& module) : tokens_(std::move(tokens)), module_(module) {}
  void run();

 private:
  struct Linkage {
    bool visible = false, external = false, weak = false;
  };
  struct RegisterRange {
    std::int32_t first = 0;
    std::uint32_t count = 0;  ///< 0: one register of just this name
  };
  struct Scope {
    std::int32_t id = 0;
    std::uint32_t parameter_mark = 0;
    std::unordered_map<std::string_view, RegisterRange> registers;
    std::unordered_map<std::string_view, Symbol*> symbols;
  };
  struct Declaration {
    std::string_view name;
    Type type = Type::kNone;
    std::uint64_t bytes = 0;
    std::uint32_t alignment = 1;
    bool unsized = false;
    bool managed = false;  ///< .attribute(.managed)
  };

  // Tokens.
  const Token& peek(std::size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  Token take();
  bool accept(char c);
  bool accept_directive(std::string_view name);
  void expect(char c);
  std::string_view expect_word();
  std::string_view expect_directive();
  std::uint64_t expect_integer();
  std::int64_t expect_signed();
  [[noreturn]] void fail(const std::string& message) const;
  [[noreturn]] void unexpected() const;
  void skip_to_semicolon();

  // Modules.
  void module_item();
  void version();
  void target();
  void section();
  void alias();
  void module_variable(std::string_view space, Linkage linkage);
  Declaration declaration();
  void initializer(Variable& variable, const Declaration& declared);
  void initial_list(Variable& variable, unsigned element, std::uint64_t& offset, int depth);
  void initial_value(Variable& variable, unsigned element, std::uint64_t offset);
  void initial_address(Variable& variable, unsigned element, std::uint64_t offset);
  Symbol* new_symbol(SymbolKind kind, const Declaration& declared);

  // Functions.
  void function(bool kernel, Linkage linkage);
  void formals(SyntaxFunction& function, std::vector<Formal>& list, Scope& scope, bool kernel);
  void performance_directives(SyntaxFunction& function);
  void adopt(SyntaxFunction& function, SyntaxFunction& declared, Linkage linkage);
  void body(SyntaxFunction& function, Scope scope);
  void body_item();
  void registers();
  void body_variable(std::string_view space);
  void prototype_or_table(std::string_view label);
  void push_scope();
  void pop_scope();
  std::uint32_t reserve_parameter(SyntaxFunction& function, std::uint64_t bytes, std::uint32_t alignment);
  std::int32_t new_register(Type type);

  // Statements.
  void statement();
  SyntaxOperand operand(int depth = 0);
  SyntaxOperand word_operand();
  SyntaxOperand address();
  SyntaxOperand list(char close, OperandKind kind, int depth);
  std::int32_t find_register(std::string_view name) const;
  Symbol* find_symbol(std::string_view name) const;
  void note_use(const Symbol* symbol);

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  SyntaxModule& module_;
  SyntaxFunction* function_ = nullptr;  // whose body is being read
  std::vector<Scope> scopes_;
};

}  // namespace avec::cpu::ptx
