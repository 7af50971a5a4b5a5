// What the measuring processes share: their options, clocks, and the race, which takes samples
// of a figure and of its yardstick side by side.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "avec/transport.h"
#include "base/handle.h"
#include "row.h"

namespace avec::bench {

/// Of one measuring process; travels to it as JSON.
struct Options {
  std::string target = "avec";        ///< "raw", "avec" or "native"
  std::string transport = "tcp";      ///< scheme
  std::string address = "127.0.0.1";  ///< where the peers of transport measurements listen
  std::string library;                ///< driver library to open (avec, native)
  std::string executor;               ///< URL (avec)
  int executor_pid = 0;               ///< `avec serve`, 0 when it runs elsewhere
  std::string wait = "adaptive";
  std::string shape;                   ///< of the link, as parse_shape reads it; "": as it is
  std::string sequence;                ///< file of the call sequence of `inference`; "": the built-in one
  std::vector<std::uint64_t> sizes;    ///< bytes; none: what suits the measurement
  std::vector<std::uint64_t> streams;  ///< connections at once; none: what suits the machine
  std::vector<std::uint64_t> batches;
  std::uint64_t count = 0;  ///< samples wished with -n; 0: until the medians are stable
  double seconds = 0.5;     ///< of one figure, about, without -n
  bool check = false;       ///< compare every byte, not only the last of each message

  WaitMode wait_mode() const;
  /// The number of samples: `usual`, or at most -n.
  std::uint64_t samples(std::uint64_t usual) const { return count == 0 || count > usual ? usual : count; }
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Options, target, transport, address, library, executor,
                                                executor_pid, wait, shape, sequence, sizes, streams, batches,
                                                count, seconds, check)

inline constexpr auto kSpin = std::chrono::microseconds(50);  // of adaptive waiting, as AVEC's default

/// Writes a row to stdout for the main process; its target and transport are those of the options
/// where the row has none.
void emit(const Options& options, Row row);

/// One of those that run side by side: `sample` takes so many samples and appends them.
struct Contestant {
  Row row;  ///< names what is measured: name, target, unit, bytes ...
  std::function<void(std::uint64_t count, std::vector<double>& samples)> sample;
  /// Yardsticks of other programs: one call is one sample, and costs a second.
  bool costly = false;
};

/// Samples all of them in turns, until their medians are stable (or -n samples), emits their rows;
/// the first is the yardstick of the others, its `row.name` the name of it. `verified` is asked once, at the
/// end.
void race(const Options& options, std::vector<Contestant> contestants, const std::function<bool()>& verified);

std::uint64_t now_ns();
/// CPU time of this process, all threads, ns.
std::uint64_t process_cpu_ns();
/// CPU time of a process and its descendants, ns.
std::uint64_t tree_cpu_ns(int pid);

/// Ends the measuring process: what failed, in words, on stderr.
[[noreturn]] void fail(std::string_view what);

// The measurements. Each runs in a process of its own.
void measure_yardstick(const Options& options);
void measure_latency(const Options& options);
void measure_bandwidth(const Options& options);
void measure_rate(const Options& options);
void measure_call_rate(const Options& options);
void measure_shape(const Options& options);
void measure_launch(const Options& options);
void measure_launch_synchronise(const Options& options);
void measure_round(const Options& options);
void measure_inference(const Options& options);
void measure_copies(const Options& options);
void measure_open(const Options& options);
void measure_idle(const Options& options);
void measure_graph(const Options& options);
void measure_queries(const Options& options);
void measure_allocation(const Options& options);
void measure_departure(const Options& options);
/// Prints the device's name, or fails: is there a driver with a device?
void measure_probe(const Options& options);

}  // namespace avec::bench
