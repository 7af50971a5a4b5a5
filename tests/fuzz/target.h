// A fuzz target: LLVMFuzzerTestOneInput of each *_fuzz.cc, and what the replay feeds it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

/// Valid inputs to start from; the replay also runs seeded mutants of each.
std::vector<std::vector<std::uint8_t>> fuzz_seeds();
