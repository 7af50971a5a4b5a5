#include "devices/cpu/output.h"

#include <cstdio>
#include <mutex>

namespace {

using Receiver = void (*)(int descriptor, const char* text, std::size_t bytes, void* user);

std::mutex mutex;
Receiver receiver = nullptr;
void* receiver_user = nullptr;

}  // namespace

namespace avec::cpu {

void write_output(int descriptor, std::string_view text) {
  Receiver to;
  void* user;
  {
    const std::lock_guard lock(mutex);
    to = receiver;
    user = receiver_user;
  }
  if (to != nullptr) {
    to(descriptor, text.data(), text.size(), user);
    return;
  }
  // Through stdio, so that it keeps its place among what the program prints.
  std::FILE* file = descriptor == 2 ? stderr : stdout;
  std::fwrite(text.data(), 1, text.size(), file);
}

}  // namespace avec::cpu

/// Text of device printf (descriptor 1) and asserts (2) goes to `to` at synchronising calls, on the
/// thread of that call, and right after a fault, on any thread; null: to stdout and stderr again.
extern "C" void avec_cpu_device_set_output(Receiver to, void* user) {
  const std::lock_guard lock(mutex);
  receiver = to;
  receiver_user = user;
}
