// Lists of texts as they travel in one argument of a library's call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace avec::libraries {

/// Texts one behind the other: a length of 8 bytes, the bytes.
inline void append_text(std::string& to, std::string_view text) {
  const std::uint64_t length = text.size();
  to.append(reinterpret_cast<const char*>(&length), sizeof length);
  to.append(text);
}

/// A list: its count, then its texts.
inline void append_texts(std::string& to, const std::vector<std::string>& texts) {
  const std::uint64_t count = texts.size();
  to.append(reinterpret_cast<const char*>(&count), sizeof count);
  for (const std::string& text : texts) append_text(to, text);
}

/// Reads what append_text() and append_texts() wrote; nothing once something did not fit.
class TextReader {
 public:
  explicit TextReader(std::string_view bytes) : rest_(bytes) {}
  std::optional<std::string> text() {
    const auto length = number();
    if (!length || *length > rest_.size()) return std::nullopt;
    std::string result(rest_.substr(0, static_cast<std::size_t>(*length)));
    rest_.remove_prefix(static_cast<std::size_t>(*length));
    return result;
  }
  std::optional<std::vector<std::string>> texts() {
    const auto count = number();
    if (!count || *count > rest_.size() / sizeof(std::uint64_t)) return std::nullopt;
    std::vector<std::string> result;
    for (std::uint64_t i = 0; i < *count; ++i) {
      auto one = text();
      if (!one) return std::nullopt;
      result.push_back(std::move(*one));
    }
    return result;
  }
  [[nodiscard]] bool at_end() const { return rest_.empty(); }

 private:
  std::optional<std::uint64_t> number() {
    std::uint64_t value;
    if (rest_.size() < sizeof value) return std::nullopt;
    std::memcpy(&value, rest_.data(), sizeof value);
    rest_.remove_prefix(sizeof value);
    return value;
  }
  std::string_view rest_;
};

}  // namespace avec::libraries
