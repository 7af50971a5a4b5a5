// Linking: several PTX texts made into one, by the rules of "PTX ISA", 5.4 and 11.6.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace avec::cpu::ptx {

/// Collects texts; what they declare and do not define is looked for in the others.
class Linker {
 public:
  Linker();
  ~Linker();
  Linker(const Linker&) = delete;
  Linker& operator=(const Linker&) = delete;

  /// Takes a copy of the text. False: `log` says what is wrong with it, and it is not added.
  bool add(std::string_view text, std::string_view name, std::string& log);
  /// The whole, as PTX. False: `log` names what is missing or defined twice.
  bool link(std::string& text, std::string& log) const;

 private:
  struct Unit;
  std::vector<std::unique_ptr<Unit>> units_;
};

}  // namespace avec::cpu::ptx
