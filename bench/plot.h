// Curves of a result as an SVG picture: every transport beside its yardstick. Colours are those of
// Okabe and Ito, which stay apart for colour-blind readers; markers and dashes say the same again.
#pragma once

#include <string>

#include "row.h"

namespace avec::bench {

/// The picture; empty when the results have no curve (no figure at two sizes).
std::string plot(const Results& results);

/// Writes it to a file; "" or what is wrong.
std::string write_plot(const Results& results, const std::string& file);

}  // namespace avec::bench
