// What the measurements share: options, samples, rows. A row is one line of the table and one
// JSON object; a measuring process writes its rows to stdout, the main process reads them, adds
// ratios and prints.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "avec/transport.h"
#include "base/handle.h"

namespace avec::bench {

/// Of one measuring process.
struct Options {
  std::string target;    ///< "raw", "avec" or "native"
  std::string library;   ///< driver library to open (avec, native)
  std::string executor;  ///< URL (avec)
  int executor_pid = 0;  ///< `avec serve`, 0 when it runs elsewhere
  std::string wait = "adaptive";
  std::uint64_t count = 0;  ///< samples wished with -n; 0: what suits the measurement

  WaitMode wait_mode() const;
  /// The number of samples: `usual`, or at most -n.
  std::uint64_t samples(std::uint64_t usual) const { return count == 0 || count > usual ? usual : count; }
};

inline constexpr auto kSpin = std::chrono::microseconds(50);  // of adaptive waiting, as AVEC's default

struct Row {
  std::string name;  ///< "launch.posted"
  std::string target;
  std::string unit;         ///< "ns", "us", "%", "trips"
  std::uint64_t bytes = 0;  ///< moved by one sample; 0: none
  std::uint64_t n = 0;
  double median = 0, p99 = 0, min = 0;
  bool verified = true;  ///< the result of what was timed was right
};
void to_json(nlohmann::json& json, const Row& row);
void from_json(const nlohmann::json& json, Row& row);

/// Median, 99th percentile and least of `values`, which must not be empty.
Row summarise(std::string_view name, std::string_view unit, std::vector<double> values);
/// Writes a row to stdout for the main process.
void emit(const Options& options, Row row);

std::uint64_t now_ns();
/// CPU time of this process, all threads, ns.
std::uint64_t process_cpu_ns();
/// CPU time of a process and its descendants, ns.
std::uint64_t tree_cpu_ns(int pid);

/// Ends the measuring process: what failed, in words, on stderr.
[[noreturn]] void fail(std::string_view what);

/// The yardstick of copies: bytes one way over loopback TCP from ordinary memory here into
/// ordinary memory of another process, until that one has said that all are there.
class RawStream {
 public:
  static constexpr std::size_t kBytes = 256u << 20;
  /// Starts the other process. Before any thread is started.
  RawStream();
  ~RawStream();
  RawStream(const RawStream&) = delete;
  RawStream& operator=(const RawStream&) = delete;
  /// Sends the first kBytes of `from`; microseconds.
  double sample(std::vector<std::byte>& from);

 private:
  int child_ = -1;
  Descriptor connection_;
};

// The measurements. Each runs in a process of its own.
void measure_raw_ping(const Options& options);
void measure_ping(const Options& options);
void measure_launch(const Options& options);
void measure_launch_synchronise(const Options& options);
void measure_round(const Options& options);
void measure_copies(const Options& options);
void measure_open(const Options& options);
void measure_idle(const Options& options);
void measure_departure(const Options& options);
/// Prints the device's name, or fails: is there a driver with a device?
void measure_probe(const Options& options);

}  // namespace avec::bench
