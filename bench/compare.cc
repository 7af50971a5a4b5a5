#include "compare.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "statistics.h"

namespace avec::bench {
namespace {

// What is compared of one figure: its repetitions, all runs of the file together.
struct Pooled {
  Row row;
  std::vector<double> blocks;
  bool verified = true;
};

bool more_is_better(const Row& row, bool by_ratio) {
  if (row.unit == "mbit/s") return true;
  return by_ratio && row.bytes != 0 && row.yardstick != "raw.ping" &&
         (row.message != 0 || row.yardstick == "raw.stream");
}

std::vector<Pooled> pool(const std::vector<Row>& rows, const CompareOptions& options) {
  std::vector<Pooled> pooled;
  for (const auto& row : rows) {
    if (!options.only.empty() && row.label().find(options.only) == std::string::npos) continue;
    if (options.by_ratio && row.yardstick.empty()) continue;
    auto found = std::find_if(pooled.begin(), pooled.end(),
                              [&](const Pooled& one) { return one.row.same_figure(row); });
    if (found == pooled.end()) found = pooled.insert(pooled.end(), Pooled{row, {}, true});
    found->verified = found->verified && row.verified;
    if (options.by_ratio) {
      // Of the ratio, its middle and its spread are known, not each block's.
      const double spread = row.ratio * row.ratio_noise / 1.4826;
      if (row.blocks.size() < 3)
        found->blocks.push_back(row.ratio);
      else
        found->blocks.insert(found->blocks.end(), {row.ratio - spread, row.ratio, row.ratio + spread});
    } else if (row.blocks.empty()) {
      found->blocks.push_back(row.median);
    } else {
      found->blocks.insert(found->blocks.end(), row.blocks.begin(), row.blocks.end());
    }
  }
  return pooled;
}

Comparison judged(const Pooled& before, const Pooled& after, const CompareOptions& options) {
  Comparison result;
  result.label = after.row.label();
  result.unit = options.by_ratio ? "x" : after.row.unit;
  result.before = median(before.blocks);
  result.after = median(after.blocks);
  result.noise = std::hypot(relative_spread(before.blocks), relative_spread(after.blocks));
  if (!after.verified) {
    result.verdict = Verdict::kWrong;
    return result;
  }
  if (result.before == 0 || result.after == 0) {
    result.verdict = result.before == result.after ? Verdict::kSame : Verdict::kUnknown;
    return result;
  }
  result.change = more_is_better(after.row, options.by_ratio) ? result.before / result.after - 1
                                                              : result.after / result.before - 1;
  // What is counted, not timed, has no noise.
  const bool counted = after.row.unit == "trips";
  if (!counted && std::min(before.blocks.size(), after.blocks.size()) < 3) {
    result.verdict = Verdict::kUnknown;
    return result;
  }
  const double allowed = std::max(options.least_change, options.noise_factor * result.noise);
  // Symmetric: twice as slow and twice as fast are equally far.
  const double distance = std::abs(std::log1p(result.change));
  if (distance > std::log1p(allowed)) result.verdict = result.change > 0 ? Verdict::kWorse : Verdict::kBetter;
  return result;
}

}  // namespace

std::string_view to_string(Verdict verdict) {
  constexpr std::string_view kNames[] = {"same", "better", "worse", "unknown", "missing", "new", "WRONG"};
  return kNames[static_cast<std::size_t>(verdict)];
}

std::vector<Comparison> compare(const std::vector<Row>& before, const std::vector<Row>& after,
                                const CompareOptions& options) {
  const auto olds = pool(before, options), news = pool(after, options);
  const auto find = [](const std::vector<Pooled>& all, const Row& row) {
    return std::find_if(all.begin(), all.end(), [&](const Pooled& one) { return one.row.same_figure(row); });
  };
  std::vector<Comparison> result;
  for (const auto& old : olds) {
    const auto now = find(news, old.row);
    if (now != news.end()) {
      result.push_back(judged(old, *now, options));
    } else {
      result.push_back({old.row.label(), median(old.blocks), 0, 0, 0, old.row.unit, Verdict::kMissing});
    }
  }
  for (const auto& now : news) {
    if (find(olds, now.row) != olds.end()) continue;
    result.push_back({now.row.label(), 0, median(now.blocks), 0, 0, now.row.unit,
                      now.verified ? Verdict::kNew : Verdict::kWrong});
  }
  return result;
}

bool passes(const std::vector<Comparison>& comparisons) {
  return std::none_of(comparisons.begin(), comparisons.end(), [](const Comparison& one) {
    const bool ours = one.label.find(" avec") != std::string::npos;
    return one.verdict == Verdict::kWrong ||
           (ours && (one.verdict == Verdict::kWorse || one.verdict == Verdict::kMissing));
  });
}

int run_compare(const std::string& old_file, const std::string& new_file, const CompareOptions& options,
                bool gate) {
  Results before, after;
  std::string problem;
  if (!read_results(old_file, before, problem) || !read_results(new_file, after, problem)) {
    std::fprintf(stderr, "avec bench: %s\n", problem.c_str());
    return 2;
  }
  for (const char* key : {"cpu", "cores", "gpu", "wait", "shape"}) {
    const auto one = before.machine.value(key, nlohmann::json()),
               other = after.machine.value(key, nlohmann::json());
    if (one == other || options.by_ratio) continue;
    std::printf("The runs differ in %s (%s, %s): ratios tell more (--by ratio).\n", key, one.dump().c_str(),
                other.dump().c_str());
  }
  const auto comparisons = compare(before.rows, after.rows, options);
  std::printf("%-60s %12s %12s %5s %9s %8s  %s\n", "# figure", "old", "new", "unit", "change %", "noise %",
              "verdict");
  std::size_t counts[7] = {};
  for (const auto& one : comparisons) {
    ++counts[static_cast<std::size_t>(one.verdict)];
    std::printf("%-60s %12.3f %12.3f %5s %+9.1f %8.1f  %s\n", one.label.c_str(), one.before, one.after,
                one.unit.c_str(), 100 * one.change, 100 * one.noise,
                std::string(to_string(one.verdict)).c_str());
  }
  for (std::size_t i = 0; i < std::size(counts); ++i)
    std::printf("%s%zu %s", i == 0 ? "" : ", ", counts[i],
                std::string(to_string(static_cast<Verdict>(i))).c_str());
  std::printf("\n");
  if (!gate) return 0;
  const bool passed = passes(comparisons);
  std::printf("gate: %s\n", passed ? "passed" : "NOT passed");
  return passed ? 0 : 1;
}

}  // namespace avec::bench
