#include <unistd.h>

#include <array>
#include <filesystem>

#include "cli/cli.h"

namespace avec::cli {

std::string own_path() {
  std::error_code error;
  const auto path = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? "avec" : path.string();
}

std::string library_folder() {
  const auto bin = std::filesystem::path(own_path()).parent_path();
  return (bin.parent_path() / "lib" / "avec").lexically_normal().string();
}

std::string cpu_device_path(const Settings& settings) {
  const std::string_view wished = settings.text("cpu-device");
  return wished.empty() ? library_folder() + "/libavec_cpu_device.so" : std::string(wished);
}

std::string variable_of(std::string_view key) {
  std::string name = "AVEC_";
  for (char c : key) name += c == '-' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  return name;
}

}  // namespace avec::cli
