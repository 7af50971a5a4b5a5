// A network of OpenPose's shape with seeded weights: one forward pass over one picture.
//   openpose [options] FILE.net          on the GPU
//   openpose_cpu [options] FILE.net      on this machine's processor, with OpenBLAS
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>

#include "engine.h"

namespace {

const char kHelp[] =
    "usage: %s [options] FILE.net\n"
    "  --input HxW          the picture's size (368x656)\n"
    "  --weights KIND       host: made on the host, equal for both programs; else each makes its own\n"
    "  --seed N             of weights and picture (1)\n"
    "  --threads N          of the host's engine (1)\n"
    "  --repeat N           times N forward passes after three others\n"
    "  --json               one line of JSON\n"
    "  --write FILE         the output, floats\n"
    "  --compare FILE       the output of another run: ends with status 3 when it is not the same to 0.1 %% "
    "of the\n"
    "                       largest value\n";

struct Wishes {
  std::string network, write, compare;
  int height = 368, width = 656, repeat = 0;
  bool json = false;
  Options engine;
};

[[noreturn]] void usage(const char* program) {
  std::fprintf(stderr, kHelp, program);
  std::exit(2);
}

int number(const char* program, const char* text, int most) {
  char* end;
  const long value = std::strtol(text, &end, 10);
  if (end == text || *end != 0 || value < 1 || value > most) usage(program);
  return int(value);
}

Wishes parse(int count, char** words) {
  Wishes wishes;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    const auto next = [&] { return ++i < count ? words[i] : (usage(words[0]), words[0]); };
    if (word == "--input") {
      if (std::sscanf(next(), "%dx%d", &wishes.height, &wishes.width) != 2) usage(words[0]);
    } else if (word == "--weights") {
      if (std::strcmp(next(), "host") != 0) usage(words[0]);
      wishes.engine.host_weights = true;
    } else if (word == "--seed") {
      wishes.engine.seed = std::uint64_t(number(words[0], next(), 1 << 30));
    } else if (word == "--threads") {
      wishes.engine.threads = number(words[0], next(), 1024);
    } else if (word == "--repeat") {
      wishes.repeat = number(words[0], next(), 1000000);
    } else if (word == "--json") {
      wishes.json = true;
    } else if (word == "--write") {
      wishes.write = next();
    } else if (word == "--compare") {
      wishes.compare = next();
    } else if (word[0] != '-' && wishes.network.empty()) {
      wishes.network = word;
    } else {
      usage(words[0]);
    }
  }
  const bool size = wishes.height >= 1 && wishes.width >= 1 && wishes.height <= 4096 && wishes.width <= 4096;
  if (wishes.network.empty() || !size) usage(words[0]);
  return wishes;
}

struct Summary {
  long long sum = 0;  // of the values in thousandths
  float largest = 0;
  std::uint64_t hash = 0xcbf29ce484222325ull;  // FNV-1a of the bytes
  bool finite = true;
};

Summary summarise(const float* values, std::size_t count) {
  Summary summary;
  for (std::size_t i = 0; i < count; ++i) {
    summary.finite = summary.finite && std::isfinite(values[i]);
    summary.largest = std::max(summary.largest, std::fabs(values[i]));
    if (summary.finite) summary.sum += std::llround(double(values[i]) * 1000);
    unsigned char bytes[sizeof(float)];
    std::memcpy(bytes, &values[i], sizeof bytes);
    for (const unsigned char byte : bytes) summary.hash = (summary.hash ^ byte) * 0x100000001b3ull;
  }
  return summary;
}

struct Times {
  double median = 0, p99 = 0, least = 0, handed_over = 0;
};

double at(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, std::size_t(share * double(values.size())))];
}

Times measure(Engine& engine, int repeat) {
  std::vector<double> all, handed_over;
  for (int i = 0; i < repeat; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    handed_over.push_back(engine.forward());
    all.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
  }
  return {at(all, 0.5), at(all, 0.99), at(all, 0), at(handed_over, 0.5)};
}

// True when the outputs are the same but for rounding; says how far they are apart.
bool same(const std::string& path, const float* values, std::size_t count, float largest) {
  std::ifstream file(path, std::ios::binary);
  std::vector<float> other(count);
  file.read(reinterpret_cast<char*>(other.data()), std::streamsize(count * sizeof(float)));
  if (!file || file.peek() != EOF) {
    std::fprintf(stderr, "%s is no output of this network\n", path.c_str());
    return false;
  }
  float apart = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const float difference = std::fabs(values[i] - other[i]);
    if (!(difference <= apart)) apart = difference;
  }
  const bool equal = apart <= largest * 1e-3f;
  std::fprintf(stderr, "largest difference %g, of %g: %s\n", double(apart), double(largest),
               equal ? "the same" : "NOT the same");
  return equal;
}

void print(const Network& network, const Shape& in, const Shape& out, const Summary& summary) {
  int convolutions = 0;
  for (const Layer& layer : network.layers) convolutions += layer.kind == Kind::kConvolution;
  std::printf("%s: %d convolutions, %.1f M parameters, %.1f G multiplications\n", network.name.c_str(),
              convolutions, double(network.parameters) / 1e6, network.multiplications / 1e9);
  std::printf("%d x %d x %d -> %d x %d x %d\n", in.channels, in.height, in.width, out.channels, out.height,
              out.width);
  std::printf("sum of thousandths %lld, largest %g, hash %016llx\n", summary.sum, double(summary.largest),
              static_cast<unsigned long long>(summary.hash));
}

void print_json(const Wishes& wishes, const Network& network, const Shape& in, const Shape& out,
                const Summary& summary, const Times& times, double start, double device) {
  std::printf(
      "{\"network\": \"%s\", \"engine\": \"%s\", \"input\": [%d, %d, %d], \"output\": [%d, %d, %d], "
      "\"input_bytes\": %zu, \"output_bytes\": %zu, \"parameters\": %zu, \"multiplications\": %.0f, ",
      network.name.c_str(), kEngineName, in.channels, in.height, in.width, out.channels, out.height,
      out.width, in.size() * sizeof(float), out.size() * sizeof(float), network.parameters,
      network.multiplications);
  std::printf(
      "\"threads\": %d, \"repeat\": %d, \"median_ms\": %.4f, \"p99_ms\": %.4f, \"min_ms\": %.4f, "
      "\"handed_over_ms\": %.4f, \"device_ms\": %.4f, \"start_ms\": %.2f, \"sum\": %lld, \"largest\": %g, "
      "\"hash\": \"%016llx\"}\n",
      wishes.engine.threads, wishes.repeat, times.median, times.p99, times.least, times.handed_over, device,
      start, summary.sum, double(summary.largest), static_cast<unsigned long long>(summary.hash));
}

int run(const Wishes& wishes) {
  const auto begin = std::chrono::steady_clock::now();
  const Network network = read_network(wishes.network, wishes.height, wishes.width);
  const Shape &in = network.blobs[std::size_t(network.input)].shape,
              &out = network.blobs[std::size_t(network.output)].shape;
  const std::unique_ptr<Engine> engine = make_engine(network, wishes.engine);
  const std::vector<float> seen = picture(in, wishes.engine.seed);
  std::copy(seen.begin(), seen.end(), engine->input());
  engine->forward();
  const double start =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  Times times;
  double device = 0;
  if (wishes.repeat > 0) {
    for (int i = 0; i < 2; ++i) engine->forward();
    times = measure(*engine, wishes.repeat);
    for (int i = 0; i < 3; ++i) {
      const double once = engine->device_milliseconds();
      device = i == 0 ? once : std::min(device, once);
    }
  }
  const Summary summary = summarise(engine->output(), out.size());
  if (wishes.json) {
    print_json(wishes, network, in, out, summary, times, start, device);
  } else {
    print(network, in, out, summary);
    if (wishes.repeat > 0)
      std::printf("%d forward passes: median %.3f ms, p99 %.3f ms, least %.3f ms\n", wishes.repeat,
                  times.median, times.p99, times.least);
  }
  if (!wishes.write.empty()) {
    std::ofstream file(wishes.write, std::ios::binary);
    file.write(reinterpret_cast<const char*>(engine->output()), std::streamsize(out.size() * sizeof(float)));
    if (!file.flush()) throw std::runtime_error("cannot write " + wishes.write);
  }
  if (!summary.finite) throw std::runtime_error("the output has values that are no numbers");
  return wishes.compare.empty() || same(wishes.compare, engine->output(), out.size(), summary.largest) ? 0
                                                                                                       : 3;
}

}  // namespace

int main(int count, char** words) {
  try {
    return run(parse(count, words));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", words[0], error.what());
    return 1;
  }
}
