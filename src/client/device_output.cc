// What kernels print.
#include <cstdio>
#include <string_view>

#include "client/client.h"

namespace avec::client {

void write_device_output(int descriptor, std::string_view text) {
  // Through stdio, so that it stands where the program's own buffered output before it stands.
  std::FILE* stream = descriptor == 2 ? stderr : stdout;
  std::fwrite(text.data(), 1, text.size(), stream);
  std::fflush(stream);
}

}  // namespace avec::client
