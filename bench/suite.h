// The suite: starts the measuring processes, one for each measurement, target and transport, puts
// each figure beside its yardstick, prints and keeps the rows. Itself it measures nothing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "harness.h"

namespace avec::bench {

struct Wishes {
  std::vector<std::string> parts;  ///< of kParts
  /// Schemes; none: every transport that is usable here, but sim.
  std::vector<std::string> transports;
  Options options;  ///< what every measuring process is told
  std::string json_file, plot_file;
  std::string executor;  ///< URL of a running one; "": one is started here
  std::string device = "auto", native = "libcuda.so.1";
};

struct Part {
  const char* name;
  const char* help;
};
inline constexpr Part kParts[] = {
    {"latency", "Round trips by message size, and of a synchronous call"},
    {"bandwidth", "One way and both ways at once, by message size and streams"},
    {"rate", "Messages and posted calls per second, by batch size"},
    {"copy", "Host to device and back, pageable and pinned, by size"},
    {"launch", "Kernel launches: posted, sustained, synchronised, time to departure"},
    {"query", "Questions that programs repeat: is it done, whose pointer is it"},
    {"memory", "Allocating and freeing device memory, also in stream order"},
    {"session", "Opening a session, its first kernel, its cost while idle"},
    {"inference", "A recorded call sequence of a network, and copy in, 100 launches, copy out"},
    {"shape", "What a shaped link really has, beside what was asked"},
};

/// The exit status.
int run_suite(const Wishes& wishes);
/// One measurement in this process; the exit status.
int run_measurement(const std::string& name, const Options& options);

}  // namespace avec::bench
