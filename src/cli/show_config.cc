#include <fmt/format.h>

#include <cstdio>

#include "cli/cli.h"

namespace avec::cli {

int show_config(const Settings& settings) {
  for (const Setting& setting : setting_table()) {
    const std::string_view value = settings.text(setting.key);
    fmt::print("{:<20} {:<28} {:<13} {}\n", setting.key, value.empty() ? "(empty)" : value,
               settings.origin(setting.key), setting.help);
  }
  return 0;
}

}  // namespace avec::cli
