// PTX text into tokens ("PTX ISA", 4).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace avec::cpu::ptx {

/// An error at a line of the PTX text. Thrown inside the compiler only; compile() catches it.
struct SyntaxError {
  std::uint32_t line;
  std::string message;
};

enum class TokenKind : std::uint8_t {
  kEnd, kWord,      ///< an identifier: label, register, opcode (without its modifiers)
  kDirective,       ///< ".name", the dot left out; ".b32" and ".lo" too
  kInteger, kFloat, kDouble, kString, kPunctuation
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::uint32_t line = 0;
  std::string_view text;
  std::uint64_t bits = 0;  ///< value of a number; of kFloat the f32's bits, of kDouble the f64's
  bool is(char c) const { return kind == TokenKind::kPunctuation && text[0] == c; }
};

/// All tokens, the last a kEnd. The views point into `text`.
std::vector<Token> tokenize(std::string_view text);

}  // namespace avec::cpu::ptx
