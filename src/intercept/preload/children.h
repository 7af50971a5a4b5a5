// Programs that this one starts with another environment (env -i, subprocess with env=) find our libraries too.
#pragma once

namespace avec::preload {

/// Notes what this process was started with, and finds the C library's functions. Once, at the start; before
/// that, and where `avec run` did not start this process, children are started as they would be without us.
void note_environment(char** environment);

}  // namespace avec::preload
