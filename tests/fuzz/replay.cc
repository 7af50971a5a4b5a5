// Runs a fuzz target without libFuzzer: its seeds, mutants of them by a fixed generator, and the
// files named on the command line. With --write-seeds FOLDER: writes the seeds for libFuzzer.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "fuzz/target.h"

namespace {

constexpr int kMutantsPerSeed = 300;

void run(const std::vector<std::uint8_t>& input) { LLVMFuzzerTestOneInput(input.data(), input.size()); }

std::vector<std::uint8_t> mutant(std::vector<std::uint8_t> input, std::mt19937_64& random) {
  if (input.empty()) return input;
  for (int change = 0, changes = 1 + static_cast<int>(random() % 4); change < changes; ++change) {
    const std::size_t at = random() % input.size();
    switch (random() % 4) {
      case 0:
        input[at] ^= static_cast<std::uint8_t>(1u << (random() % 8));
        break;
      case 1:
        input[at] = static_cast<std::uint8_t>(random());
        break;
      case 2:
        input.resize(at + 1);
        break;
      default:
        input.insert(input.begin() + static_cast<std::ptrdiff_t>(at), random() % 9, static_cast<std::uint8_t>(random()));
        break;
    }
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  const auto seeds = fuzz_seeds();
  if (argc == 3 && std::string(argv[1]) == "--write-seeds") {
    for (std::size_t i = 0; i < seeds.size(); ++i)
      std::ofstream(std::string(argv[2]) + "/seed-" + std::to_string(i), std::ios::binary)
          .write(reinterpret_cast<const char*>(seeds[i].data()), static_cast<std::streamsize>(seeds[i].size()));
    return 0;
  }
  std::size_t executions = 0;
  std::mt19937_64 random(20261123);
  for (const auto& seed : seeds) {
    run(seed);
    for (int i = 0; i < kMutantsPerSeed; ++i) run(mutant(seed, random));
    executions += kMutantsPerSeed + 1;
  }
  for (int i = 1; i < argc; ++i) {
    if (!std::filesystem::is_directory(argv[i])) continue;
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      std::ifstream file(entry.path(), std::ios::binary);
      run({std::istreambuf_iterator<char>(file), {}});
      ++executions;
    }
  }
  std::printf("%zu executions\n", executions);
  return seeds.empty() ? 1 : 0;
}
