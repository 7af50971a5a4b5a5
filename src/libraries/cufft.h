// Sizes that cuFFT functions read in host memory: the same on both sides.
#pragma once

namespace avec::libraries {

/// Dimensions of a plan, elements of its arrays; none of a rank that cuFFT refuses.
constexpr int fft_rank(int rank) { return rank >= 1 && rank <= 3 ? rank : 0; }

}  // namespace avec::libraries
