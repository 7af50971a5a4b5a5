// Modules, variables and their initial values ("PTX ISA", 5 and 11).
#include "devices/cpu/ptx/parser.h"

#include <algorithm>
#include <cstring>

namespace avec::cpu::ptx {

Token Parser::take() {
  Token token = peek();
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}

bool Parser::accept(char c) {
  if (!peek().is(c)) return false;
  take();
  return true;
}

bool Parser::accept_directive(std::string_view name) {
  if (peek().kind != TokenKind::kDirective || peek().text != name) return false;
  take();
  return true;
}

void Parser::fail(const std::string& message) const { throw SyntaxError{peek().line, message}; }
void Parser::unexpected() const { fail("Parsing error near '" + std::string(peek().text) + "': syntax error"); }

void Parser::expect(char c) {
  if (!accept(c)) unexpected();
}

std::string_view Parser::expect_word() {
  if (peek().kind != TokenKind::kWord) unexpected();
  return take().text;
}

std::string_view Parser::expect_directive() {
  if (peek().kind != TokenKind::kDirective) unexpected();
  return take().text;
}

std::uint64_t Parser::expect_integer() {
  if (peek().kind != TokenKind::kInteger) unexpected();
  return take().bits;
}

std::int64_t Parser::expect_signed() {
  const bool negative = accept('-');
  const std::uint64_t value = expect_integer();
  return static_cast<std::int64_t>(negative ? 0 - value : value);
}

void Parser::skip_to_semicolon() {
  while (!peek().is(';')) {
    if (peek().kind == TokenKind::kEnd) unexpected();
    take();
  }
  take();
}

void Parser::run() {
  if (!accept_directive("version")) fail("Missing .version directive at start of file");
  version();
  while (peek().kind != TokenKind::kEnd) module_item();
  if (module_.target == 0) fail("Missing .target directive");
  for (std::size_t i = 0; i < module_.variables.size(); ++i) {
    if (module_.variable_external[i] && module_.variable_symbols[i]->index == i) {
      fail("Unresolved extern variable '" + module_.variables[i].name + "' in whole program compilation");
    }
  }
}

void Parser::version() {
  const Token token = take();  // "9.0" reads as a decimal number
  const std::size_t dot = token.text.find('.');
  if (token.kind != TokenKind::kDouble || dot == std::string_view::npos) fail("Bad .version directive");
  std::uint32_t number[2] = {0, 0};
  for (std::size_t i = 0; i < token.text.size(); ++i) {
    const char c = token.text[i];
    if (c >= '0' && c <= '9') number[i > dot] = number[i > dot] * 10 + static_cast<std::uint32_t>(c - '0');
    if (number[i > dot] > 99) fail("Unsupported .version");
  }
  if (number[0] > 9 || (number[0] == 9 && number[1] > 9)) {
    fail("Unsupported .version " + std::string(token.text) + "; current version is '9.0'");
  }
  module_.ptx_version = number[0] * 10 + number[1];
}

void Parser::target() {
  do {
    const std::string_view name = expect_word();
    if (!name.starts_with("sm_")) continue;  // debug, texmode_unified, map_f64_to_f32
    std::uint32_t number = 0;
    for (const char c : name.substr(3)) {
      if (c >= '0' && c <= '9' && number < 1000) number = number * 10 + static_cast<std::uint32_t>(c - '0');
    }
    if (number < 10) fail("Unknown target '" + std::string(name) + "'");
    module_.target = number;
  } while (accept(','));
  if (module_.target == 0) fail("Missing target architecture");
}

void Parser::module_item() {
  if (accept(';')) return;
  const std::string_view name = expect_directive();
  if (name == "version") return version();  // of a further text: linked ones are one behind the other
  if (name == "target") return target();
  if (name == "address_size") {
    if (expect_integer() != 64) fail("Only .address_size 64 is supported");
    return;
  }
  if (name == "file") {
    take();
    take();
    while (accept(',')) take();
    return;
  }
  if (name == "section") return section();
  if (name == "alias") return alias();
  if (name == "pragma") return skip_to_semicolon();
  Linkage linkage;
  std::string_view item = name;
  for (;; item = expect_directive()) {
    if (item == "visible") linkage.visible = true;
    else if (item == "extern") linkage.external = true;
    else if (item == "weak" || item == "common") linkage.weak = true;
    else break;
  }
  if (item == "entry" || item == "func") return function(item == "entry", linkage);
  if (item == "global" || item == "const" || item == "shared" || item == "tex") return module_variable(item, linkage);
  --at_;
  unexpected();
}

void Parser::section() {
  take();  // its name, a directive or a word
  expect('{');
  for (int depth = 1; depth > 0;) {
    const Token token = take();
    if (token.kind == TokenKind::kEnd) fail("Parsing error near 'end of file': unterminated .section");
    if (token.is('{')) ++depth;
    if (token.is('}')) --depth;
  }
}

void Parser::alias() {
  const std::string_view name = expect_word();
  expect(',');
  module_.aliases[name] = expect_word();
  expect(';');
}

Symbol* Parser::new_symbol(SymbolKind kind, const Declaration& declared) {
  Symbol& symbol = module_.symbols.emplace_back();
  symbol.kind = kind;
  symbol.name = declared.name;
  symbol.type = declared.type;
  symbol.bytes = declared.bytes;
  symbol.alignment = declared.alignment;
  return &symbol;
}

/// [.align n] [.v2|.v4] .type name [dimensions]
Parser::Declaration Parser::declaration() {
  Declaration result;
  std::uint32_t lanes = 1;
  for (;;) {
    const std::string_view word = expect_directive();
    if (word == "align") {
      const std::uint64_t n = expect_integer();
      if (n == 0 || n > 65536 || (n & (n - 1)) != 0) fail("Alignment must be a power of two");
      result.alignment = static_cast<std::uint32_t>(n);
    } else if (word == "attribute" || word == "ptr") {
      if (accept('(')) {
        while (!accept(')')) {
          if (peek().kind == TokenKind::kEnd) unexpected();
          if (take().text == "managed") result.managed = true;
        }
      }
    } else if (word == "v2" || word == "v4") {
      lanes = word == "v2" ? 2 : 4;
    } else if (word == "samplerref") {
      result.type = Type::kB64;
      break;
    } else {
      result.type = type_of(word);
      if (result.type == Type::kNone || result.type == Type::kPred) {
        fail("Parsing error near '." + std::string(word) + "': not a type of a variable");
      }
      break;
    }
  }
  const std::uint32_t element = bytes_of(result.type) * lanes;
  result.alignment = std::max(result.alignment, element);
  while (peek().kind == TokenKind::kDirective) {  // kernel parameters: .ptr [.space] [.align n]
    const std::string_view word = take().text;
    if (word == "align") {
      expect_integer();
    } else if (word != "ptr" && word != "global" && word != "shared" && word != "const" && word != "local") {
      --at_;
      unexpected();
    }
  }
  result.name = expect_word();
  result.bytes = element;
  while (accept('[')) {
    if (accept(']')) {
      result.unsized = true;
      continue;
    }
    const std::uint64_t n = expect_integer();
    expect(']');
    if (n != 0 && result.bytes > kMaxVariableBytes / n) fail("Variable '" + std::string(result.name) + "' is too large");
    result.bytes *= n;
  }
  return result;
}

void Parser::module_variable(std::string_view space, Linkage linkage) {
  if (space == "tex") return skip_to_semicolon();
  do {
    const Declaration declared = declaration();
    const auto known = module_.names.find(declared.name);
    if (space == "shared") {
      const bool dynamic = linkage.external && declared.unsized;
      if (known != module_.names.end()) continue;
      module_.names[declared.name] = new_symbol(dynamic ? SymbolKind::kDynamicShared : SymbolKind::kShared, declared);
      continue;
    }
    const SymbolKind kind = space == "const" ? SymbolKind::kConst : SymbolKind::kGlobal;
    if (known != module_.names.end()) {
      if (known->second->kind != kind) fail("Duplicate definition of '" + std::string(declared.name) + "'");
      if (linkage.external) continue;
      if (!module_.variable_external[known->second->index]) {
        fail("Duplicate definition of variable '" + std::string(declared.name) + "'");
      }
    }
    Symbol* symbol = known != module_.names.end() ? known->second : new_symbol(kind, declared);
    symbol->index = static_cast<std::uint32_t>(module_.variables.size());
    symbol->bytes = declared.bytes;
    module_.names[declared.name] = symbol;
    Variable& variable = module_.variables.emplace_back();
    variable.name = declared.name;
    variable.bytes = declared.unsized ? 0 : declared.bytes;
    variable.alignment = declared.alignment;
    variable.constant = kind == SymbolKind::kConst;
    variable.visible = linkage.visible || linkage.weak || linkage.external;
    variable.managed = declared.managed;
    module_.variable_symbols.push_back(symbol);
    module_.variable_external.push_back(linkage.external);
    if (accept('=')) initializer(variable, declared);
  } while (accept(','));
  expect(';');
}

void Parser::initializer(Variable& variable, const Declaration& declared) {
  const unsigned element = bytes_of(declared.type);
  std::uint64_t offset = 0;
  if (peek().is('{')) {
    initial_list(variable, element, offset, 0);
  } else {
    initial_value(variable, element, offset);
    offset += element;
  }
  if (declared.unsized) variable.bytes = offset;
  if (variable.initial.size() > variable.bytes) fail("Too many initial values for '" + variable.name + "'");
}

void Parser::initial_list(Variable& variable, unsigned element, std::uint64_t& offset, int depth) {
  if (depth > kMaxNesting) unexpected();
  expect('{');
  if (accept('}')) return;
  do {
    if (peek().is('{')) {
      initial_list(variable, element, offset, depth + 1);
    } else {
      initial_value(variable, element, offset);
      offset += element;
    }
  } while (accept(','));
  expect('}');
}

void Parser::initial_value(Variable& variable, unsigned element, std::uint64_t offset) {
  // A byte of an address: 0xFF00(name). Eight of them in a row make one address.
  const bool mask = peek().kind == TokenKind::kInteger && peek(1).is('(');
  if (peek().kind == TokenKind::kWord || mask) return initial_address(variable, element, offset);
  const bool negative = accept('-');
  const Token token = take();
  std::uint64_t bits = token.bits;
  if (token.kind == TokenKind::kInteger) {
    if (negative) bits = 0 - bits;
  } else if (token.kind == TokenKind::kFloat) {
    if (negative) bits ^= 0x80000000u;
    if (element == 8) bits = std::bit_cast<std::uint64_t>(double{std::bit_cast<float>(static_cast<std::uint32_t>(bits))});
  } else if (token.kind == TokenKind::kDouble) {
    const double value = negative ? -std::bit_cast<double>(bits) : std::bit_cast<double>(bits);
    bits = element == 4 ? std::bit_cast<std::uint32_t>(static_cast<float>(value)) : std::bit_cast<std::uint64_t>(value);
  } else {
    --at_;
    unexpected();
  }
  if (offset + element > kMaxVariableBytes) fail("Too many initial values");
  if (variable.initial.size() < offset + element) variable.initial.resize(offset + element);
  std::memcpy(variable.initial.data() + offset, &bits, std::min(element, 8u));  // little endian, as a GPU
}

void Parser::initial_address(Variable& variable, unsigned element, std::uint64_t offset) {
  std::uint64_t mask = ~std::uint64_t{0};
  bool masked = false;
  if (peek().kind == TokenKind::kInteger) {
    mask = take().bits;
    masked = true;
    expect('(');
  }
  std::string_view name = expect_word();
  const bool generic = name == "generic" && accept('(');
  if (generic) name = expect_word();
  if (generic) expect(')');
  std::int64_t addend = 0;
  if (accept('+')) addend = expect_signed();
  else if (accept('-')) addend = -expect_signed();
  if (masked) expect(')');
  const unsigned byte = masked ? static_cast<unsigned>(std::countr_zero(mask)) / 8 : 0;
  if (masked ? (element != 1 || mask != std::uint64_t{0xFF} << (8 * byte) || byte > offset) : element != 8) {
    fail("Initial value of '" + variable.name + "' is an address that does not fit its type");
  }
  if (variable.initial.size() < offset + element) variable.initial.resize(offset + element);
  if (masked && byte != 0) {
    const bool follows = !variable.relocations.empty() && variable.relocations.back().offset == offset - byte &&
                         variable.relocations.back().symbol == name;
    if (!follows) fail("Initial value of '" + variable.name + "': bytes of an address out of order");
    const auto value = static_cast<std::uint64_t>(addend) >> (8 * byte);
    variable.initial[offset] = static_cast<std::byte>(value);
    return;
  }
  if (masked && offset + 8 > variable.bytes) fail("Initial value of '" + variable.name + "' is a part of an address");
  if (!module_.names.contains(name)) fail("Unknown symbol '" + std::string(name) + "'");
  std::memcpy(variable.initial.data() + offset, &addend, element);
  variable.relocations.push_back({offset, std::string(name)});
}

void parse(std::string_view text, SyntaxModule& module) { Parser(tokenize(text), module).run(); }

}  // namespace avec::cpu::ptx
