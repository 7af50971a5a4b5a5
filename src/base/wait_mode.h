// WaitMode as the setting "wait" spells it.
#pragma once

#include <array>
#include <string_view>
#include <utility>

#include "avec/transport.h"

namespace avec {

inline constexpr std::array<std::pair<std::string_view, WaitMode>, 3> kWaitModes{
    {{"spin", WaitMode::kSpin}, {"adaptive", WaitMode::kAdaptive}, {"block", WaitMode::kBlock}}};

/// kAdaptive for any other text: the settings table has refused it.
constexpr WaitMode wait_mode_of(std::string_view text) {
  for (const auto& [name, mode] : kWaitModes)
    if (name == text) return mode;
  return WaitMode::kAdaptive;
}

constexpr std::string_view name_of(WaitMode mode) {
  for (const auto& [name, value] : kWaitModes)
    if (value == mode) return name;
  return "adaptive";
}

}  // namespace avec
