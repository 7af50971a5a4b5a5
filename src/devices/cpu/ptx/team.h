// Host threads that help with kernels, shared by all launches: a launch takes those that come
// before it is done, and waits for none that did not.
#pragma once

#include <functional>

namespace avec::cpu::ptx {

/// Calls work(0) on this thread and, as far as helpers are free, work(1) to work(workers - 1) on
/// them; returns when every call that began has returned. One call alone must be able to do all.
void run_with_team(unsigned workers, const std::function<void(unsigned)>& work);

}  // namespace avec::cpu::ptx
