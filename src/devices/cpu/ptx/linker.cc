#include "devices/cpu/ptx/linker.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <unordered_map>

#include "devices/cpu/ptx/lexer.h"

namespace avec::cpu::ptx {
namespace {

enum class Linkage : std::uint8_t { kOwn, kVisible, kWeak, kExtern };
enum class Kind : std::uint8_t { kFunction, kVariable, kShared, kOther };

/// One declaration or definition of a module: tokens [begin, end).
struct Item {
  Kind kind = Kind::kOther;
  Linkage linkage = Linkage::kOwn;
  bool entry = false;
  bool body = false;
  std::string_view name;
  std::size_t begin = 0, end = 0;

  bool defines() const { return kind == Kind::kFunction ? body : linkage != Linkage::kExtern; }
};

/// What device code may call although nobody defines it: the driver's own.
constexpr std::array<std::string_view, 6> kBuiltIn{"vprintf", "malloc",  "free",
                                                   "__assertfail", "cudaGetParameterBufferV2", "cudaLaunchDeviceV2"};

}  // namespace

struct Linker::Unit {
  std::string name, text;
  std::vector<Token> tokens;
  std::vector<Item> items;
  unsigned version = 0;
  std::string_view version_text, target_text;
  unsigned target = 0;

  void parse();
  /// Text of an item, names replaced.
  std::string written(const Item& item, const std::unordered_map<std::string_view, std::string>& renamed,
                      bool without_extern = false) const;

 private:
  std::size_t at_ = 0;
  const Token& peek() const { return tokens[at_]; }
  bool is_directive(std::string_view word) const {
    return peek().kind == TokenKind::kDirective && peek().text == word;
  }
  void skip_line();
  void skip_block();
  void item();
  void header();
};

namespace {

unsigned number_in(std::string_view text) {
  unsigned number = 0;
  for (const char c : text)
    if (c >= '0' && c <= '9' && number < 100000) number = number * 10 + static_cast<unsigned>(c - '0');
  return number;
}

[[noreturn]] void fail(const Token& at) {
  throw SyntaxError{at.line, "Parsing error near '" + std::string(at.text) + "': syntax error"};
}

}  // namespace

/// Directives that end with their line.
void Linker::Unit::skip_line() {
  const std::uint32_t line = peek().line;
  while (peek().kind != TokenKind::kEnd && peek().line == line) ++at_;
}

/// From '{' to behind its '}'.
void Linker::Unit::skip_block() {
  int depth = 0;
  do {
    if (peek().kind == TokenKind::kEnd) fail(peek());
    if (peek().is('{')) ++depth;
    if (peek().is('}')) --depth;
    ++at_;
  } while (depth > 0);
}

void Linker::Unit::header() {
  if (is_directive("version")) {
    ++at_;
    version_text = peek().text;
    version = number_in(version_text);
  } else {
    ++at_;
    target_text = peek().text;
    target = number_in(target_text);
  }
  skip_line();
}

void Linker::Unit::item() {
  Item found;
  found.begin = at_;
  int parentheses = 0;
  for (;; ++at_) {
    const Token& token = peek();
    if (token.kind == TokenKind::kEnd) fail(token);
    if (token.is('(')) ++parentheses;
    if (token.is(')')) --parentheses;
    if (parentheses > 0 || token.is(')')) continue;
    if (token.is(';')) break;
    if (token.is('{')) {
      const bool body = found.kind == Kind::kFunction;
      skip_block();
      --at_;
      if (!body) continue;  // of an initial value
      found.body = true;
      break;
    }
    if (token.kind == TokenKind::kDirective) {
      if (token.text == "visible" || token.text == "common") found.linkage = Linkage::kVisible;
      if (token.text == "weak") found.linkage = Linkage::kWeak;
      if (token.text == "extern") found.linkage = Linkage::kExtern;
      if (token.text == "func" || token.text == "entry") found.kind = Kind::kFunction;
      if (token.text == "entry") found.entry = true;
      if (token.text == "global" || token.text == "const") found.kind = Kind::kVariable;
      if (token.text == "shared") found.kind = Kind::kShared;
    }
    if (token.kind == TokenKind::kWord && found.name.empty()) found.name = token.text;
  }
  found.end = ++at_;
  // Kernels are seen from outside, whatever the text says.
  if (found.entry && found.linkage == Linkage::kOwn) found.linkage = Linkage::kVisible;
  items.push_back(found);
}

void Linker::Unit::parse() {
  tokens = tokenize(text);
  if (!is_directive("version")) throw SyntaxError{1, "Missing .version directive at start of file"};
  while (peek().kind != TokenKind::kEnd) {
    if (is_directive("version") || is_directive("target")) {
      header();
    } else if (is_directive("address_size") || is_directive("file")) {
      skip_line();
    } else if (is_directive("section")) {
      while (!peek().is('{') && peek().kind != TokenKind::kEnd) ++at_;
      skip_block();
    } else if (peek().is(';')) {
      ++at_;
    } else {
      item();
    }
  }
  if (target == 0) throw SyntaxError{1, "Missing .target directive"};
}

std::string Linker::Unit::written(const Item& item, const std::unordered_map<std::string_view, std::string>& renamed,
                                  bool without_extern) const {
  std::string out;
  const char* from = tokens[item.begin].text.data() - (tokens[item.begin].kind == TokenKind::kDirective ? 1 : 0);
  const char* const end = tokens[item.end - 1].text.data() + tokens[item.end - 1].text.size();
  for (std::size_t i = item.begin; i < item.end; ++i) {
    const Token& token = tokens[i];
    if (without_extern && token.kind == TokenKind::kDirective && token.text == "extern") {
      out.append(from, token.text.data() - 1);
      out += ".visible";
      from = token.text.data() + token.text.size();
    }
    if (token.kind != TokenKind::kWord) continue;
    const auto other = renamed.find(token.text);
    if (other == renamed.end()) continue;
    out.append(from, token.text.data());
    out += other->second;
    from = token.text.data() + token.text.size();
  }
  out.append(from, end);
  out += '\n';
  return out;
}

Linker::Linker() = default;
Linker::~Linker() = default;

bool Linker::add(std::string_view text, std::string_view name, std::string& log) {
  auto unit = std::make_unique<Unit>();
  unit->name = name;
  unit->text = text.substr(0, text.find('\0'));
  try {
    unit->parse();
  } catch (const SyntaxError& error) {
    log += "ptxas " + unit->name + ", line " + std::to_string(error.line) + "; fatal   : " + error.message + "\n";
    return false;
  }
  units_.push_back(std::move(unit));
  return true;
}

bool Linker::link(std::string& text, std::string& log) const {
  struct Definition {
    const Unit* unit;
    const Item* item;
  };
  std::map<std::string_view, Definition> shared;    // seen by all units
  std::map<std::string_view, const Unit*> taken;    // by the first unit that has it of its own
  bool good = true;
  const Unit* newest = nullptr;
  const Unit* highest = nullptr;
  for (const auto& unit : units_) {
    if (newest == nullptr || unit->version > newest->version) newest = unit.get();
    if (highest == nullptr || unit->target > highest->target) highest = unit.get();
    for (const Item& item : unit->items) {
      if (!item.defines() || item.linkage == Linkage::kOwn || item.name.empty()) continue;
      auto [known, fresh] = shared.try_emplace(item.name, Definition{unit.get(), &item});
      if (fresh) continue;
      if (known->second.item->linkage == Linkage::kWeak) {
        if (item.linkage != Linkage::kWeak) known->second = {unit.get(), &item};
      } else if (item.linkage != Linkage::kWeak) {
        log += "error   : Multiple definition of '" + std::string(item.name) + "' in '" + unit->name +
               "', first defined in '" + known->second.unit->name + "'\n";
        good = false;
      }
    }
  }
  if (newest == nullptr) {
    log += "error   : no input\n";
    return false;
  }

  std::string variables, functions;
  std::set<std::string_view> declared;  // of the driver's functions, and of shared memory: once
  std::size_t number = 0;
  for (const auto& unit : units_) {
    ++number;
    // What is the unit's own and has another's name gets a name of its own.
    std::unordered_map<std::string_view, std::string> renamed;
    for (const Item& item : unit->items) {
      if (item.linkage != Linkage::kOwn || item.kind == Kind::kOther || item.name.empty()) continue;
      const auto [owner, fresh] = taken.try_emplace(item.name, unit.get());
      if ((!fresh && owner->second != unit.get()) || shared.contains(item.name))
        renamed.try_emplace(item.name, std::string(item.name) + "__unit" + std::to_string(number));
    }
    for (const Item& item : unit->items) {
      const bool function = item.kind == Kind::kFunction;
      std::string& out = function ? functions : variables;
      if (item.kind == Kind::kOther || item.linkage == Linkage::kOwn) {
        out += unit->written(item, renamed);
      } else if (item.defines()) {
        if (const auto& chosen = shared.at(item.name); chosen.item == &item || (item.kind == Kind::kShared && declared.insert(item.name).second))
          out += unit->written(item, renamed);
      } else if (shared.contains(item.name)) {
        if (function) functions += unit->written(item, renamed, true);  // a prototype stays
      } else if (item.kind == Kind::kShared || std::ranges::find(kBuiltIn, item.name) != kBuiltIn.end()) {
        if (declared.insert(item.name).second) out += unit->written(item, renamed);
      } else {
        log += "error   : Undefined reference to '" + std::string(item.name) + "' in '" + unit->name + "'\n";
        good = false;
      }
    }
  }
  text = ".version " + std::string(newest->version_text) + "\n.target " + std::string(highest->target_text) +
         "\n.address_size 64\n" + variables + functions;
  return good;
}

}  // namespace avec::cpu::ptx
