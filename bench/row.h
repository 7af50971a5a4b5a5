// A row: one line of a table and one JSON object of a result file. A measuring process writes its
// rows to stdout, the main process reads them, adds ratios, prints and keeps them.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace avec::bench {

struct Row {
  std::string name;           ///< "launch.posted"
  std::string target;         ///< "raw" (a yardstick), "avec" or "native"
  std::string transport;      ///< scheme, for "raw" too: what it is the yardstick of; "" natively
  std::string unit;           ///< "ns", "us", "%", "trips", "mbit/s": less is better but for the last
  std::uint64_t bytes = 0;    ///< moved by one sample; 0: none
  std::uint64_t message = 0;  ///< bytes of one message, where a sample is several
  std::uint64_t streams = 0;  ///< connections at once; 0: does not apply
  std::uint64_t batch = 0;    ///< calls or messages per sample; 0: does not apply
  std::uint64_t n = 0;
  double min = 0, median = 0, p99 = 0, p999 = 0, max = 0, mean = 0;
  std::vector<double> quantiles;  ///< at kQuantiles
  std::vector<double> blocks;     ///< medians of consecutive parts: their spread is the noise
  double noise = 0;               ///< relative spread of `blocks`
  double ratio = 0;               ///< against `yardstick` of the same run; 0: none
  double ratio_noise = 0;         ///< relative spread of the ratios of blocks taken side by side
  std::string yardstick;
  double asked = 0;      ///< what the shape of the link asked for, in `unit`; 0: does not apply
  bool verified = true;  ///< the result of what was timed was right

  /// True for what cannot be told from another by these: the same figure of another run.
  bool same_figure(const Row& other) const;
  /// "bandwidth.one_way avec tcp 65536 B, 4 streams".
  std::string label() const;
};

inline constexpr double kQuantiles[] = {0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999};

void to_json(nlohmann::json& json, const Row& row);
/// Reads what older versions wrote too: what they lack keeps its default.
void from_json(const nlohmann::json& json, Row& row);

/// A row that says what is measured, yet without figures.
Row named_row(std::string_view name, std::string_view target, std::string_view transport,
              std::string_view unit);

/// Statistics of `samples`, in the order in which they were taken. Not of an empty list.
Row summarise(std::string_view name, std::string_view unit, const std::vector<double>& samples);

/// Bytes per ns of a row whose unit is us: GB/s.
double gigabytes_per_second(const Row& row);

/// One result file: a line for the machine, then rows; several runs may follow each other.
struct Results {
  nlohmann::json machine;  ///< of the first run
  std::vector<Row> rows;
};
/// Reads a file of JSON lines; `problem` says what is wrong with it when false comes back.
bool read_results(const std::string& file, Results& results, std::string& problem);

}  // namespace avec::bench
