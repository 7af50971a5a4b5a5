// What runs a network: on the GPU (gpu_engine.cu) or on the host (host_engine.cc). Each program has one.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "network.h"

struct Options {
  bool host_weights = false;  // generated on the host, equal for all engines; else as the engine likes
  std::uint64_t seed = 1;
  int threads = 1;  // of the host
};

class Engine {
 public:
  virtual ~Engine() = default;

  /// The picture, network.input's shape; filled before the first forward pass.
  virtual float* input() = 0;
  /// network.output's values after a forward pass.
  virtual const float* output() const = 0;
  /// From input() to output(), all of the way. Returns the milliseconds after which everything had
  /// been handed over and the result was waited for; on the host all of the time.
  virtual double forward() = 0;
  /// How long the device itself works at one forward pass, copies left out; 0 where there is none.
  virtual double device_milliseconds() { return 0; }
};

/// "gpu" or "host".
extern const char* const kEngineName;
std::unique_ptr<Engine> make_engine(const Network& network, const Options& options);
