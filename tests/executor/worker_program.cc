// What the broker's tests start as worker: `avec worker` without the rest of avec.
#include <string_view>

#include "executor/worker/main.h"

int main(int argc, char** argv) {
  if (argc < 2 || std::string_view(argv[1]) != "worker") return 2;
  return avec::worker::main(argc - 2, argv + 2);
}
