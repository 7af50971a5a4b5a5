// What samples say: quantiles, and how far repetitions within one run lie apart.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace avec::bench {

/// The value below which `share` (0 to 1) of `sorted` lies. Not of an empty list.
double quantile(std::span<const double> sorted, double share);

/// The middle of `values`, any order; of an even number, the upper one.
double median(std::vector<double> values);

/// Half the distance within which the middle of the values lies, as the standard deviation of a
/// normal distribution that spreads as much (1.4826 times the median absolute deviation), over
/// the median. A few wild values do not move it. 0 for fewer than two values.
double relative_spread(std::span<const double> values);

/// How uncertain the median of `values` is, relative to it: the spread over the square root of
/// their number, times 1.25. Infinite for fewer than three: nothing is known then.
double relative_error(std::span<const double> values);

/// Medians of consecutive parts of `samples`, in the order in which they were taken: at most
/// `parts` of them. Samples next to each other see the same moods of a machine; these medians
/// see different ones, so their spread is the noise that another run must be expected to have.
std::vector<double> block_medians(std::span<const double> samples, std::size_t parts);

inline constexpr std::size_t kBlocks = 10;

}  // namespace avec::bench
