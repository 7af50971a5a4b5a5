// A link of any shape between two TCP endpoints, in user space: what comes in on one side goes out
// on the other when a link of that shape would have delivered it.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "base/result.h"
#include "transport/sim/factory.h"

namespace avec::bench {

class Proxy {
 public:
  struct Options {
    std::string listen = "tcp://127.0.0.1:0";
    std::string to;  ///< "tcp://edge:7700"
    sim::Shape shape;
    /// What the way through the proxy costs by itself, there and back: taken off the round trip
    /// that the proxy adds, so that the endpoints see the one that was asked for.
    std::chrono::nanoseconds own_round_trip{0};
    std::uint64_t seed = 1;
  };

  /// Listens; nothing is passed on before run(). The error is a sentence.
  static std::expected<std::unique_ptr<Proxy>, std::string> listen(const Options& options);
  virtual ~Proxy() = default;

  virtual std::string address() const = 0;
  /// Passes on until stop(). One thread; it does not sleep shortly before something is due.
  virtual void run() = 0;
  /// Any thread.
  virtual void stop() = 0;
};

/// Measures what a proxy of this shape costs by itself on this machine: pings through one, once
/// without shape and again with it, and returns the own_round_trip with which the round trip is
/// the one asked for. Takes a tenth of a second, or 25 round trips.
std::expected<std::chrono::nanoseconds, std::string> calibrate(const sim::Shape& shape);

}  // namespace avec::bench
