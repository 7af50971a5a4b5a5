#include "statistics.h"

#include <cmath>

#include "support/catch.h"

namespace avec::bench {
namespace {

TEST_CASE("a quantile is the value below which its share of the samples lies") {
  std::vector<double> sorted;
  for (int i = 1; i <= 1000; ++i) sorted.push_back(i);
  CHECK(quantile(sorted, 0) == 1);
  CHECK(quantile(sorted, 0.5) == 501);
  CHECK(quantile(sorted, 0.99) == 991);
  CHECK(quantile(sorted, 0.999) == 1000);
  CHECK(quantile(sorted, 1) == 1000);
  CHECK(quantile(std::vector<double>{7}, 0.999) == 7);
}

TEST_CASE("a median does not mind the order") {
  CHECK(median({5, 1, 9, 3, 7}) == 5);
  CHECK(median({4}) == 4);
}

TEST_CASE("one wild value does not make noise") {
  const std::vector<double> calm{100, 101, 99, 100, 102, 98, 100}, wild{100, 101, 99, 100, 102, 98, 5000};
  CHECK(relative_spread(calm) == Approx(1.4826 * 1 / 100));
  CHECK(relative_spread(wild) == Approx(relative_spread(calm)).epsilon(0.05));
}

TEST_CASE("noise is relative to the median, and unknown for fewer than three values") {
  CHECK(relative_spread(std::vector<double>{1, 2, 3}) ==
        Approx(relative_spread(std::vector<double>{10, 20, 30})));
  CHECK(relative_spread(std::vector<double>{3}) == 0);
  CHECK(std::isinf(relative_error(std::vector<double>{1, 1})));
  CHECK(relative_error(std::vector<double>{1, 1, 1}) == 0);
}

TEST_CASE("more repetitions make a median surer") {
  std::vector<double> few, many;
  for (int i = 0; i < 100; ++i) (i < 10 ? few : many).push_back(100 + i % 5);
  CHECK(relative_error(many) < relative_error(few));
}

TEST_CASE("blocks are consecutive parts of the samples, and take each sample once") {
  std::vector<double> samples;
  for (int i = 0; i < 100; ++i) samples.push_back(i / 10);
  CHECK(block_medians(samples, 10) == std::vector<double>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  CHECK(block_medians(std::vector<double>{1, 2}, 10) == std::vector<double>{1, 2});
  CHECK(block_medians(std::vector<double>{1, 1, 5, 5, 9}, 3).size() == 3);
}

}  // namespace
}  // namespace avec::bench
