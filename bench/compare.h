// Two results of the same figures: which are better, worse or the same, judged by how much each
// figure wavers within its own run.
#pragma once

#include <string>
#include <vector>

#include "row.h"

namespace avec::bench {

enum class Verdict : std::uint8_t {
  kSame,  ///< the difference is within the noise, or too small to matter
  kBetter,
  kWorse,
  kUnknown,  ///< the noise of one of them was not measured (fewer than three repetitions)
  kMissing,  ///< only in the old result
  kNew,      ///< only in the new result
  kWrong     ///< the new one's result was wrong
};
std::string_view to_string(Verdict verdict);

struct CompareOptions {
  /// Smaller changes are the same, whatever the noise.
  double least_change = 0.03;
  /// Changes within so many times the noise of both are the same.
  double noise_factor = 3;
  /// Compare ratios to the yardsticks instead of times: results of two machines, or of a busy one.
  bool by_ratio = false;
  /// Only figures whose label contains this.
  std::string only;
};

struct Comparison {
  std::string label;
  double before = 0, after = 0;
  double change = 0;  ///< relative; positive: the new one is worse
  double noise = 0;   ///< of both, relative
  std::string unit;
  Verdict verdict = Verdict::kSame;
};

/// In the order of the old result, new figures last. Raw rows are compared too, as a sign of what
/// the machine did. Rows of the same figure (a file of several runs) are pooled.
std::vector<Comparison> compare(const std::vector<Row>& before, const std::vector<Row>& after,
                                const CompareOptions& options);

/// Does a gate let this pass? Figures of AVEC alone count, and none may be worse, wrong or missing.
bool passes(const std::vector<Comparison>& comparisons);

/// `avec bench compare`: prints a table; the exit status: 1 when `gate` and it does not pass.
int run_compare(const std::string& old_file, const std::string& new_file, const CompareOptions& options,
                bool gate);

}  // namespace avec::bench
