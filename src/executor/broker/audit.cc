#include "executor/broker/audit.h"

#include <array>
#include <cstdio>

namespace avec::broker {
namespace {

// Of one value: a client's words do not fill the log.
constexpr std::size_t kMostBytes = 256;

bool plain(char letter) {
  return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || (letter >= '0' && letter <= '9') ||
         std::string_view("._:/@+-[]*,").find(letter) != std::string_view::npos;
}

std::string number(const std::optional<std::uint64_t>& value) { return value ? std::to_string(*value) : "-"; }

}  // namespace

std::string audit_value(std::string_view text) {
  bool one_word = !text.empty() && text != "-";  // which stands for what is unknown
  for (const char letter : text) one_word = one_word && plain(letter);
  if (one_word && text.size() <= kMostBytes) return std::string(text);
  std::string value = "\"";
  for (const char letter : text.substr(0, kMostBytes)) {
    if (letter == '"' || letter == '\\') value += '\\';
    value += static_cast<unsigned char>(letter) < 0x20 || letter == 0x7f ? '?' : letter;
  }
  return value + (text.size() > kMostBytes ? "...\"" : "\"");
}

std::string audit_line(const AuditRecord& r) {
  std::array<char, 32> seconds;
  std::snprintf(seconds.data(), seconds.size(), "%.3f", r.seconds);
  return "audit session=" + audit_value(r.session) + " identity=" + audit_value(r.identity) +
         " from=" + audit_value(r.from) + " program=" + audit_value(r.program) + " host=" + audit_value(r.host) +
         " pid=" + std::to_string(r.program_pid) + " encrypted=" + (r.encrypted ? "yes" : "no") +
         " device=" + audit_value(r.device) + " worker=" + std::to_string(r.worker_pid) + " seconds=" + seconds.data() +
         " calls=" + number(r.calls) + " bytes_in=" + number(r.bytes_in) + " bytes_out=" + number(r.bytes_out) +
         " bytes_copied=" + number(r.bytes_copied) + " ended=" + audit_value(r.ended);
}

}  // namespace avec::broker
