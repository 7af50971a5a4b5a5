// avec bench: a program of its own, so that measuring does not load what measuring does not need.
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "cli/cli.h"

namespace avec::cli {

int bench(char** arguments) {
  const std::string program = std::filesystem::path(own_path()).parent_path() / "avec_bench";
  ::execv(program.c_str(), arguments);
  const int error = errno;
  say("cannot run " + program + ": " + std::strerror(error) + "; it is built and installed with AVEC_BENCH=ON");
  return error == ENOENT ? kNotFound : kNotRunnable;
}

}  // namespace avec::cli
