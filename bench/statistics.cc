#include "statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace avec::bench {

double quantile(std::span<const double> sorted, double share) {
  const auto place = static_cast<std::size_t>(share * static_cast<double>(sorted.size()));
  return sorted[std::min(sorted.size() - 1, place)];
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double relative_spread(std::span<const double> values) {
  if (values.size() < 2) return 0;
  const double middle = median({values.begin(), values.end()});
  if (middle == 0) return 0;
  std::vector<double> distances;
  distances.reserve(values.size());
  for (const double value : values) distances.push_back(std::abs(value - middle));
  return 1.4826 * median(std::move(distances)) / std::abs(middle);
}

double relative_error(std::span<const double> values) {
  if (values.size() < 3) return std::numeric_limits<double>::infinity();
  return 1.25 * relative_spread(values) / std::sqrt(static_cast<double>(values.size()));
}

std::vector<double> block_medians(std::span<const double> samples, std::size_t parts) {
  parts = std::min(parts, samples.size());
  std::vector<double> medians;
  for (std::size_t part = 0; part < parts; ++part) {
    const auto begin = samples.size() * part / parts, end = samples.size() * (part + 1) / parts;
    const auto block = samples.subspan(begin, end - begin);
    medians.push_back(median({block.begin(), block.end()}));
  }
  return medians;
}

}  // namespace avec::bench
