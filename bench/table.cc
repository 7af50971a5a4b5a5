#include "table.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace avec::bench {
namespace {

std::string text(const char* format, double value) {
  char buffer[48];
  std::snprintf(buffer, sizeof buffer, format, value);
  return buffer;
}

std::string ratio(const Row& row) { return row.yardstick.empty() ? "" : text("%.3f", row.ratio); }
std::string native(std::optional<double> value) { return value ? text("%.2f", *value) : ""; }

// Bytes over time; bytes over the longest and the shortest time are the worst and the best.
std::string speed(const Row& row, double time) {
  return time > 0 ? text("%.3f", static_cast<double>(row.bytes) / time / 1e3) : "";
}

std::string bandwidth_heads() {
  char line[160];
  std::snprintf(line, sizeof line, "%-18s %-7s %-5s %10s %7s %6s %12s %12s %12s %8s", "# figure", "target",
                "via", "bytes", "streams", "n", "GB/s p50", "GB/s p99", "GB/s peak", "ratio");
  return line;
}
void print_bandwidth(const Row& row) {
  std::printf("%-18s %-7s %-5s %10llu %7llu %6llu %12s %12s %12s %8s", row.name.c_str(), row.target.c_str(),
              row.transport.c_str(), static_cast<unsigned long long>(row.message),
              static_cast<unsigned long long>(row.streams), static_cast<unsigned long long>(row.n),
              speed(row, row.median).c_str(), speed(row, row.p99).c_str(), speed(row, row.min).c_str(),
              ratio(row).c_str());
}

std::string rate_heads() {
  char line[160];
  std::snprintf(line, sizeof line, "%-18s %-7s %-5s %10s %6s %14s %12s %12s %8s %8s", "# figure", "target",
                "via", "batch", "n", "per second", "ns p50", "ns p99", "ratio", "/native");
  return line;
}
void print_rate(const Row& row, std::optional<double> native_ratio) {
  std::printf("%-18s %-7s %-5s %10llu %6llu %14.0f %12.1f %12.1f %8s %8s", row.name.c_str(),
              row.target.c_str(), row.transport.c_str(), static_cast<unsigned long long>(row.batch),
              static_cast<unsigned long long>(row.n), row.median > 0 ? 1e9 / row.median : 0, row.median,
              row.p99, ratio(row).c_str(), native(native_ratio).c_str());
}

std::string time_heads() {
  char line[200];
  std::snprintf(line, sizeof line, "%-24s %-7s %-5s %10s %6s %6s %10s %10s %10s %10s %10s %9s %8s %8s",
                "# figure", "target", "via", "bytes", "n", "unit", "min", "p50", "p99", "p99.9", "max",
                "GB/s", "ratio", "/native");
  return line;
}
void print_times(const Row& row, std::optional<double> native_ratio) {
  std::printf("%-24s %-7s %-5s %10llu %6llu %6s %10.2f %10.2f %10.2f %10.2f %10.2f %9s %8s %8s",
              row.name.c_str(), row.target.c_str(), row.transport.c_str(),
              static_cast<unsigned long long>(row.bytes), static_cast<unsigned long long>(row.n),
              row.unit.c_str(), row.min, row.median, row.p99, row.p999, row.max,
              row.bytes != 0 ? speed(row, row.median).c_str() : "", ratio(row).c_str(),
              native(native_ratio).c_str());
}

std::string shape_heads() {
  char line[160];
  std::snprintf(line, sizeof line, "%-18s %6s %6s %12s %12s %12s %12s %9s", "# figure", "n", "unit", "asked",
                "p50", "min", "max", "off by %");
  return line;
}
void print_shape(const Row& row) {
  std::printf("%-18s %6llu %6s %12.1f %12.1f %12.1f %12.1f %9.2f", row.name.c_str(),
              static_cast<unsigned long long>(row.n), row.unit.c_str(), row.asked, row.median, row.min,
              row.max, 100 * (row.median / row.asked - 1));
}

}  // namespace

void Table::print(const Row& row, std::optional<double> native_ratio) {
  const bool shape = row.asked != 0, bandwidth = row.message != 0;
  const bool rate = row.batch != 0 && row.unit == "ns";
  const auto heads = shape       ? shape_heads()
                     : bandwidth ? bandwidth_heads()
                     : rate      ? rate_heads()
                                 : time_heads();
  if (heads != heads_) std::printf("%s%s\n", heads_.empty() ? "" : "\n", heads.c_str());
  heads_ = heads;
  if (shape)
    print_shape(row);
  else if (bandwidth)
    print_bandwidth(row);
  else if (rate)
    print_rate(row, native_ratio);
  else
    print_times(row, native_ratio);
  std::printf("%s\n", row.verified ? "" : "  WRONG RESULT");
  std::fflush(stdout);
}

Progress::Progress(std::size_t steps)
    : terminal_(::isatty(STDERR_FILENO) == 1), steps_(std::max<std::size_t>(1, steps)) {}

void Progress::step(const std::string& what) {
  if (!terminal_) return;
  constexpr std::size_t kWidth = 24;
  const auto full = std::min(kWidth, kWidth * done_ / steps_);
  const std::string bar = std::string(full, '#') + std::string(kWidth - full, '.');
  std::fprintf(stderr, "\r\033[K[%s] %zu/%zu %s", bar.c_str(), done_, steps_, what.c_str());
  std::fflush(stderr);
  ++done_;
}

void Progress::clear() {
  if (terminal_) std::fprintf(stderr, "\r\033[K");
}

}  // namespace avec::bench
