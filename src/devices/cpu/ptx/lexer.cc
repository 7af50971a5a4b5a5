#include "devices/cpu/ptx/lexer.h"

#include <bit>
#include <charconv>

namespace avec::cpu::ptx {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool starts_word(char c) { return is_letter(c) || c == '_' || c == '$' || c == '%'; }
bool in_word(char c) { return is_letter(c) || is_digit(c) || c == '_' || c == '$' || c == '@'; }

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  std::vector<Token> run() {
    std::vector<Token> tokens;
    tokens.reserve(text_.size() / 4);
    for (;;) {
      skip_blank();
      Token token = next();
      tokens.push_back(token);
      if (token.kind == TokenKind::kEnd) return tokens;
    }
  }

 private:
  char peek(std::size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }

  void skip_blank() {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '\n') {
        ++line_;
        ++at_;
      } else if (c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v' || c == '\0') {
        ++at_;
      } else if (c == '/' && peek(1) == '/') {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
      } else if (c == '/' && peek(1) == '*') {
        const std::size_t end = text_.find("*/", at_ + 2);
        if (end == std::string_view::npos) throw SyntaxError{line_, "Unterminated comment"};
        for (; at_ < end + 2; ++at_) line_ += text_[at_] == '\n';
      } else {
        return;
      }
    }
  }

  Token make(TokenKind kind, std::size_t from) const { return {kind, line_, text_.substr(from, at_ - from), 0}; }

  Token next() {
    const std::size_t from = at_;
    if (at_ >= text_.size()) return {TokenKind::kEnd, line_, "end of file", 0};
    const char c = text_[at_];
    if (starts_word(c)) {
      ++at_;
      while (in_word(peek())) ++at_;
      return make(TokenKind::kWord, from);
    }
    if (is_digit(c)) return number();
    if (c == '.' && (starts_word(peek(1)) || is_digit(peek(1)))) {
      ++at_;
      while (in_word(peek()) || (peek() == ':' && peek(1) == ':')) at_ += peek() == ':' ? 2 : 1;
      return make(TokenKind::kDirective, from + 1);
    }
    if (c == '"') return string();
    ++at_;
    return make(TokenKind::kPunctuation, from);
  }

  Token string() {
    const std::size_t from = ++at_;
    while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\n') at_ += text_[at_] == '\\' ? 2 : 1;
    if (peek() != '"') throw SyntaxError{line_, "Unterminated string"};
    Token token = make(TokenKind::kString, from);
    ++at_;
    return token;
  }

  Token number() {
    const std::size_t from = at_;
    if (peek() == '0' && (peek(1) == 'f' || peek(1) == 'F')) return exact(TokenKind::kFloat, 8);
    if (peek() == '0' && (peek(1) == 'd' || peek(1) == 'D')) return exact(TokenKind::kDouble, 16);
    while (in_word(peek()) || peek() == '.' ||
           ((peek() == '+' || peek() == '-') && (text_[at_ - 1] == 'e' || text_[at_ - 1] == 'E') && !hex(from))) {
      ++at_;
    }
    std::string_view digits = text_.substr(from, at_ - from);
    if (!hex(from) && digits.find_first_of(".eE") != std::string_view::npos) return decimal(from, digits);
    if (digits.ends_with('U')) digits.remove_suffix(1);
    int base = 10;
    if (hex(from)) {
      base = 16;
      digits.remove_prefix(2);
    } else if (digits.size() > 1 && digits[0] == '0' && (digits[1] == 'b' || digits[1] == 'B')) {
      base = 2;
      digits.remove_prefix(2);
    } else if (digits.size() > 1 && digits[0] == '0') {
      base = 8;
    }
    Token token = make(TokenKind::kInteger, from);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), token.bits, base);
    if (error != std::errc{} || end != digits.data() + digits.size() || digits.empty()) bad_number(token);
    return token;
  }

  bool hex(std::size_t from) const {
    return text_[from] == '0' && from + 1 < text_.size() && (text_[from + 1] == 'x' || text_[from + 1] == 'X');
  }

  Token exact(TokenKind kind, std::size_t digits) {
    const std::size_t from = at_;
    at_ += 2;
    while (in_word(peek())) ++at_;
    Token token = make(kind, from);
    const char* begin = token.text.data() + 2;
    const char* end = token.text.data() + token.text.size();
    const auto [stop, error] = std::from_chars(begin, end, token.bits, 16);
    if (error != std::errc{} || stop != end || token.text.size() != digits + 2) bad_number(token);
    return token;
  }

  Token decimal(std::size_t from, std::string_view digits) {
    Token token = make(TokenKind::kDouble, from);
    double value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc{} || end != digits.data() + digits.size()) bad_number(token);
    token.bits = std::bit_cast<std::uint64_t>(value);
    return token;
  }

  [[noreturn]] void bad_number(const Token& token) const {
    throw SyntaxError{line_, "Parsing error near '" + std::string(token.text) + "': bad number"};
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::uint32_t line_ = 1;
};

}  // namespace

std::vector<Token> tokenize(std::string_view text) { return Lexer(text).run(); }

}  // namespace avec::cpu::ptx
