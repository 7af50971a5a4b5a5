// Device printf: the format's conversions one by one through the host's, arguments from the
// buffer that the compiler lays out (each aligned to its size, promoted as in C).
#include <cstdio>
#include <cstring>

#include "devices/cpu/ptx/block.h"

namespace avec::cpu::ptx {
namespace {

constexpr std::size_t kMaxString = 1u << 20;

class Formatter {
 public:
  Formatter(const PrintfArguments& in, std::string& out) : in_(in), out_(out) {}

  int run() {
    std::string format;
    if (!read_string(in_.warp, in_.lane, in_.format, format)) return -1;
    int conversions = 0;
    for (std::size_t i = 0; i < format.size();) {
      if (format[i] != '%') {
        out_ += format[i++];
      } else if (i + 1 < format.size() && format[i + 1] == '%') {
        out_ += '%';
        i += 2;
      } else {
        i = conversion(format, i);
        ++conversions;
      }
      if (in_.warp.faulted()) return -1;
    }
    return conversions;
  }

 private:
  template <class T>
  T next() {
    offset_ = (offset_ + sizeof(T) - 1) / sizeof(T) * sizeof(T);
    T value{};
    const std::byte* p = in_.warp.resolve_generic(in_.arguments + offset_, in_.lane, sizeof(T), false);
    if (p != nullptr) std::memcpy(&value, p, sizeof(T));
    offset_ += sizeof(T);
    return value;
  }

  template <class... A>
  void print(const std::string& spec, A... arguments) {
    const int size = std::snprintf(nullptr, 0, spec.c_str(), arguments...);
    if (size <= 0 || static_cast<std::size_t>(size) > kMaxString) return;
    std::string text(static_cast<std::size_t>(size) + 1, '\0');
    std::snprintf(text.data(), text.size(), spec.c_str(), arguments...);
    text.pop_back();
    out_ += text;
  }

  std::size_t conversion(const std::string& format, std::size_t at) {
    std::string spec = "%";
    std::size_t i = at + 1;
    for (; i < format.size() && std::strchr("-+ #0123456789.*", format[i]) != nullptr; ++i) {
      if (format[i] == '*') spec += std::to_string(next<std::int32_t>());
      else spec += format[i];
    }
    bool wide = false;
    for (; i < format.size() && std::strchr("hljztL", format[i]) != nullptr; ++i) {
      wide = wide || std::strchr("ljzt", format[i]) != nullptr;
      if (format[i] == 'h') spec += 'h';
    }
    if (i >= format.size()) {
      out_ += format.substr(at);
      return i;
    }
    const char letter = format[i];
    switch (letter) {
      case 'd':
      case 'i':
        if (wide) print(spec + "lld", static_cast<long long>(next<std::int64_t>()));
        else print(spec + "d", next<std::int32_t>());
        break;
      case 'u':
      case 'o':
      case 'x':
      case 'X':
        if (wide) print(spec + "ll" + letter, static_cast<unsigned long long>(next<std::uint64_t>()));
        else print(spec + letter, next<std::uint32_t>());
        break;
      case 'c': print(spec + "c", next<std::int32_t>()); break;
      case 'p': print(spec + "p", reinterpret_cast<void*>(next<std::uint64_t>())); break;
      case 's': {
        std::string text;
        const auto address = next<std::uint64_t>();
        if (address == 0) text = "(null)";
        else if (!in_.warp.faulted()) read_string(in_.warp, in_.lane, address, text);
        print(spec + "s", text.c_str());
        break;
      }
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
      case 'a':
      case 'A': print(spec + letter, next<double>()); break;
      default: out_ += format.substr(at, i + 1 - at);
    }
    return i + 1;
  }

  const PrintfArguments& in_;
  std::string& out_;
  std::uint64_t offset_ = 0;
};

}  // namespace

bool read_string(Warp& warp, unsigned lane, std::uint64_t address, std::string& text) {
  for (text.clear(); text.size() < kMaxString; ++address) {
    const std::byte* p = warp.resolve_generic(address, lane, 1, false);
    if (p == nullptr) return false;
    if (*p == std::byte{0}) return true;
    text += static_cast<char>(*p);
  }
  return true;
}

int format_printf(const PrintfArguments& in, std::string& text) { return Formatter(in, text).run(); }

}  // namespace avec::cpu::ptx
