// What the CPU device is known by, on both sides of the wire.
#pragma once

#include <string_view>

namespace avec {

/// Its name (cuDeviceGetName). It runs PTX and nothing else.
inline constexpr std::string_view kCpuDeviceName = "AVEC CPU device";

}  // namespace avec
