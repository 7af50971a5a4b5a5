// A library that is loaded only when something is written to, or nobody has open for writing any more, the pipe that
// AVEC_TEST_SLOW_LOAD names.
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>

namespace {

__attribute__((constructor)) void wait_at_gate() {
  const char* path = std::getenv("AVEC_TEST_SLOW_LOAD");
  const int gate = path == nullptr ? -1 : ::open(path, O_RDONLY | O_CLOEXEC);
  char byte;
  if (gate >= 0 && ::read(gate, &byte, 1) >= 0) ::close(gate);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int slow_value();
int slow_value() { return 1; }
