#include "compare.h"

#include "support/catch.h"

namespace avec::bench {
namespace {

// Ten blocks around `middle` that waver by so much.
Row row(const char* name, double middle, double wavering, const char* target = "avec") {
  std::vector<double> samples;
  for (int i = 0; i < 10; ++i) samples.push_back(middle * (1 + wavering * (i % 5 - 2) / 2.0));
  auto made = summarise(name, "us", samples);
  made.target = target;
  made.transport = "tcp";
  return made;
}

Verdict verdict(const Row& before, const Row& after, const CompareOptions& options = {}) {
  const auto all = compare({before}, {after}, options);
  REQUIRE(all.size() == 1);
  return all.front().verdict;
}

TEST_CASE("a change beyond the noise is better or worse") {
  CHECK(verdict(row("a", 100, 0.01), row("a", 120, 0.01)) == Verdict::kWorse);
  CHECK(verdict(row("a", 100, 0.01), row("a", 80, 0.01)) == Verdict::kBetter);
}

TEST_CASE("the same change within the noise is none") {
  CHECK(verdict(row("a", 100, 0.2), row("a", 120, 0.2)) == Verdict::kSame);
  // The noise of either is enough.
  CHECK(verdict(row("a", 100, 0.01), row("a", 120, 0.2)) == Verdict::kSame);
}

TEST_CASE("a change too small to matter is none, however quiet the machine") {
  CHECK(verdict(row("a", 100, 0), row("a", 102.9, 0)) == Verdict::kSame);
  CHECK(verdict(row("a", 100, 0), row("a", 103.1, 0)) == Verdict::kWorse);
  CHECK(verdict(row("a", 100, 0), row("a", 103.1, 0), {.least_change = 0.05}) == Verdict::kSame);
}

TEST_CASE("a wider factor forgives more") {
  const auto before = row("a", 100, 0.02), after = row("a", 110, 0.02);
  CHECK(verdict(before, after, {.noise_factor = 1}) == Verdict::kWorse);
  CHECK(verdict(before, after, {.noise_factor = 20}) == Verdict::kSame);
}

TEST_CASE("swapping the results swaps better and worse") {
  const auto one = row("a", 100, 0.03), other = row("a", 150, 0.03);
  CHECK(verdict(one, other) == Verdict::kWorse);
  CHECK(verdict(other, one) == Verdict::kBetter);
}

TEST_CASE("a rate that grows is better") {
  auto before = row("shape.rate", 100, 0.01), after = row("shape.rate", 120, 0.01);
  before.unit = after.unit = "mbit/s";
  CHECK(verdict(before, after) == Verdict::kBetter);
}

TEST_CASE("without repetitions nothing is claimed, but for what is counted") {
  auto before = summarise("a", "us", {100}), after = summarise("a", "us", {200});
  CHECK(verdict(before, after) == Verdict::kUnknown);
  before.unit = after.unit = "trips";
  CHECK(verdict(before, after) == Verdict::kWorse);
}

TEST_CASE("a wrong result is wrong whatever its time") {
  auto after = row("a", 50, 0.01);
  after.verified = false;
  CHECK(verdict(row("a", 100, 0.01), after) == Verdict::kWrong);
}

TEST_CASE("figures of one result alone are missing or new") {
  const auto all =
      compare({row("gone", 1, 0), row("both", 1, 0)}, {row("both", 1, 0), row("fresh", 1, 0)}, {});
  REQUIRE(all.size() == 3);
  CHECK(all[0].verdict == Verdict::kMissing);
  CHECK(all[1].verdict == Verdict::kSame);
  CHECK(all[2].verdict == Verdict::kNew);
}

TEST_CASE("several runs in one file are pooled, so that what differs between runs is noise") {
  const std::vector<Row> before{row("a", 100, 0.01), row("a", 130, 0.01)};
  const auto all = compare(before, {row("a", 140, 0.01), row("a", 110, 0.01)}, {});
  REQUIRE(all.size() == 1);
  CHECK(all.front().verdict == Verdict::kSame);
}

TEST_CASE("ratios are compared instead of times, where both have one") {
  auto before = row("bandwidth.there", 100, 0.01), after = row("bandwidth.there", 200, 0.01);
  for (auto* one : {&before, &after}) {
    one->bytes = one->message = 64;
    one->yardstick = "bandwidth.there/raw";
    one->ratio_noise = 0.01;
  }
  before.ratio = 0.9;
  after.ratio = 0.9;
  CHECK(verdict(before, after, {.by_ratio = true}) == Verdict::kSame);
  after.ratio = 0.5;  // of bandwidths: less is worse
  CHECK(verdict(before, after, {.by_ratio = true}) == Verdict::kWorse);
  CHECK(compare({row("a", 1, 0)}, {row("a", 1, 0)}, {.by_ratio = true}).empty());
}

TEST_CASE("a ratio of times is worse when it grows") {
  auto before = row("latency", 100, 0.01), after = row("latency", 100, 0.01);
  for (auto* one : {&before, &after}) {
    one->bytes = 64;
    one->yardstick = "latency/raw";
    one->ratio_noise = 0.01;
  }
  before.ratio = 1.1;
  after.ratio = 1.5;
  CHECK(verdict(before, after, {.by_ratio = true}) == Verdict::kWorse);
}

TEST_CASE("a gate stops what of AVEC is worse, wrong or missing, and nothing else") {
  const auto pass = [](const Row& before, const Row& after) {
    return passes(compare({before}, {after}, {}));
  };
  CHECK(pass(row("a", 100, 0.01), row("a", 100, 0.01)));
  CHECK(pass(row("a", 100, 0.01), row("a", 50, 0.01)));
  CHECK_FALSE(pass(row("a", 100, 0.01), row("a", 150, 0.01)));
  CHECK(pass(row("a", 100, 0.01, "raw"), row("a", 150, 0.01, "raw")));
  CHECK_FALSE(passes(compare({row("a", 1, 0)}, {}, {})));
  auto wrong = row("a", 100, 0.01, "raw");
  wrong.verified = false;
  CHECK_FALSE(pass(row("a", 100, 0.01, "raw"), wrong));
}

TEST_CASE("only the figures that were asked for are compared") {
  const auto all = compare({row("latency", 1, 0), row("copy", 1, 0)},
                           {row("latency", 1, 0), row("copy", 1, 0)}, {.only = "copy"});
  REQUIRE(all.size() == 1);
  CHECK(all.front().label.starts_with("copy"));
}

}  // namespace
}  // namespace avec::bench
