// A recorded call sequence of a network, called again: copies in, launches, copies out, in the
// order and of the sizes in which the network made them. The kernels are stand-ins that touch the
// copied data, so that what is timed is the calls and their order, and the result can be checked.
#include <algorithm>
#include <cstring>
#include <fstream>
#include <sstream>

#include "driver.h"

namespace avec::bench {
namespace {

// examples/convnet.cu, recorded with bench/sequences/record.gdb.
constexpr const char* kConvnet = R"(
in 3136
launch 5 1 1 128 1 1
in 24
in 600
launch 36 1 1 16 16 1
launch 27 1 1 128 1 1
launch 7 1 1 128 1 1
launch 1 1 1 128 1 1
in 64
in 9600
launch 4 1 1 16 16 1
launch 8 1 1 128 1 1
launch 2 1 1 128 1 1
in 336
in 86016
launch 1 6 1 16 16 1
launch 1 1 1 128 1 1
in 40
in 3360
launch 1 1 1 16 16 1
launch 1 1 1 32 1 1
out 40
)";

constexpr std::size_t kMostSteps = 1'000'000, kMostBytes = 1u << 30;

struct Step {
  enum Kind { kIn, kLaunch, kOut } kind = kIn;
  std::size_t bytes = 0;
  unsigned grid[3] = {1, 1, 1}, block[3] = {1, 1, 1};
};

// One line of a sequence; false when it is none.
bool parse(const std::string& line, Step& step) {
  std::istringstream words(line);
  std::string kind;
  words >> kind;
  if (kind == "launch") {
    step.kind = Step::kLaunch;
    for (unsigned& value : step.grid) words >> value;
    for (unsigned& value : step.block) words >> value;
  } else if (kind == "in" || kind == "out") {
    step.kind = kind == "in" ? Step::kIn : Step::kOut;
    words >> step.bytes;
    if (step.bytes == 0 || step.bytes > kMostBytes) return false;
  } else {
    return false;
  }
  return !words.fail() && (words >> std::ws).eof();
}

std::vector<Step> read_sequence(const std::string& file) {
  std::ifstream opened;
  std::istringstream built_in(kConvnet);
  if (!file.empty()) {
    opened.open(file);
    if (!opened) fail(file + " cannot be read");
  }
  std::istream& lines = file.empty() ? static_cast<std::istream&>(built_in) : opened;
  std::vector<Step> steps;
  std::string line;
  for (unsigned number = 1; std::getline(lines, line); ++number) {
    if (line.empty() || line.front() == '#') continue;
    Step step;
    if (!parse(line, step) || steps.size() == kMostSteps) {
      fail(file + ":" + std::to_string(number) + ": \"" + line + "\" is no step; steps are: in BYTES, " +
           "launch GRID.X GRID.Y GRID.Z BLOCK.X BLOCK.Y BLOCK.Z, out BYTES");
    }
    steps.push_back(step);
  }
  if (steps.empty() || steps.back().kind != Step::kOut) fail("a sequence ends with what it copies out");
  return steps;
}

// Every launch adds 1 to the first words of one buffer, as many as it has threads in x: what the
// words must be in the end is known. A copy in sets the buffer's first words to its number.
class Replay {
 public:
  Replay(const Options& options, std::vector<Step> steps) : driver_(options), steps_(std::move(steps)) {
    std::size_t most = sizeof(unsigned);
    for (const auto& step : steps_) most = std::max(most, step.bytes);
    words_ = static_cast<unsigned>((most + sizeof(unsigned) - 1) / sizeof(unsigned));
    in_.resize(words_);
    out_.resize(words_);
    expected_.resize(words_);
    driver_.open();
    driver_.load();
    AVEC_CHECK(driver_.mem_alloc(&data_, words_ * sizeof(unsigned)));
    AVEC_CHECK(driver_.memset32(data_, 0, words_));
  }

  void once() {
    unsigned copied = 0;
    for (const auto& step : steps_) {
      if (step.kind == Step::kLaunch) {
        launch(step);
      } else if (step.kind == Step::kIn) {
        // The source of the last copy may be overwritten: it has been copied or sent.
        in_[0] = ++number_ * 1000 + ++copied;
        AVEC_CHECK(driver_.to_device(data_, in_.data(), step.bytes));
      } else {
        AVEC_CHECK(driver_.from_device(out_.data(), data_, step.bytes));
      }
    }
  }

  // After once(), untimed: the same steps on the host.
  bool right() {
    unsigned copied = 0;
    number_ -= inputs();
    const auto last = steps_.back().bytes / sizeof(unsigned);
    for (const auto& step : steps_) {
      if (step.kind == Step::kIn) {
        in_[0] = ++number_ * 1000 + ++copied;
        std::memcpy(expected_.data(), in_.data(), step.bytes);
      } else if (step.kind == Step::kLaunch) {
        for (unsigned k = 0; k < std::min(words_, threads(step)); ++k) ++expected_[k];
      }
    }
    return std::memcmp(expected_.data(), out_.data(), last * sizeof(unsigned)) == 0;
  }

  std::size_t launches() const {
    return static_cast<std::size_t>(std::count_if(
        steps_.begin(), steps_.end(), [](const Step& step) { return step.kind == Step::kLaunch; }));
  }

 private:
  unsigned inputs() const {
    return static_cast<unsigned>(
        std::count_if(steps_.begin(), steps_.end(), [](const Step& step) { return step.kind == Step::kIn; }));
  }
  static unsigned threads(const Step& step) { return step.grid[0] * step.block[0]; }
  void launch(const Step& step) {
    // The kernel knows x only: of y and z, the threads whose x is the same would add as well.
    unsigned n = words_;
    void* arguments[] = {&data_, &n};
    AVEC_CHECK(driver_.launch(driver_.increment, step.grid[0], 1, 1, step.block[0], 1, 1, 0, nullptr,
                              arguments, nullptr));
  }

  Driver driver_;
  const std::vector<Step> steps_;
  CUdeviceptr data_{};
  unsigned words_ = 0, number_ = 0;
  std::vector<unsigned> in_, out_, expected_;
};

}  // namespace

void measure_inference(const Options& options) {
  Replay replay(options, read_sequence(options.sequence));
  bool right = true;
  std::string name = "inference.convnet";
  if (!options.sequence.empty()) {
    const auto slash = options.sequence.rfind('/');
    name = "inference." + options.sequence.substr(slash == std::string::npos ? 0 : slash + 1);
  }
  auto row = named_row(name, "", "", "us");
  row.batch = replay.launches();
  const auto sample = [&](std::uint64_t count, std::vector<double>& samples) {
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto start = now_ns();
      replay.once();
      samples.push_back(static_cast<double>(now_ns() - start) / 1e3);
      right = replay.right() && right;
    }
  };
  race(options, {{row, sample}}, [&] { return right; });
}

}  // namespace avec::bench
