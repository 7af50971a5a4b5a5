// Where device printf and assert text goes.
#pragma once

#include <string_view>

namespace avec::cpu {

/// To the receiver that avec_cpu_device_set_output() set, else to stdout or stderr.
void write_output(int descriptor, std::string_view text);

}  // namespace avec::cpu
