// cuRAND on the CPU device: its sequences are cuRAND's, its distributions have their moments, its
// work has its place in a stream.
#include <dlfcn.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "../support.h"

using namespace test;

namespace {

constexpr int kXorwow = 101, kMrg = 121, kMtgp = 141, kMt = 142, kPhilox = 161, kSobol = 201, kSobol64 = 203;

/// A function of the library, or of another with the same interface.
template <class... Args>
int rand_in(void* library, const std::string& name, Args... args) {
  void* symbol = ::dlsym(library, ("curand" + name).c_str());
  INFO(name);
  REQUIRE(symbol != nullptr);
  return reinterpret_cast<int (*)(Args...)>(symbol)(args...);
}
void* ours() {
  static void* library = ::dlopen(AVEC_CPU_CURAND, RTLD_NOW | RTLD_LOCAL);
  REQUIRE(library != nullptr);
  return library;
}
template <class... Args>
int rand(const std::string& name, Args... args) {
  return rand_in(ours(), name, args...);
}

class Generator {
 public:
  explicit Generator(int type, bool host = true) {
    REQUIRE(rand(host ? "CreateGeneratorHost" : "CreateGenerator", &handle, type) == 0);
  }
  ~Generator() { (void)rand("DestroyGenerator", handle); }
  Generator(const Generator&) = delete;
  Generator& operator=(const Generator&) = delete;
  void seed(unsigned long long value) { REQUIRE(rand("SetPseudoRandomGeneratorSeed", handle, value) == 0); }
  std::vector<std::uint32_t> bits(std::size_t n) {
    std::vector<std::uint32_t> words(n);
    REQUIRE(rand("Generate", handle, words.data(), n) == 0);
    return words;
  }
  void* handle = nullptr;
};

struct Moments {
  double mean = 0, variance = 0, least = INFINITY, most = -INFINITY;
};
template <class T>
Moments moments_of(const std::vector<T>& values) {
  Moments m;
  for (const T value : values) {
    m.mean += static_cast<double>(value);
    m.least = std::min(m.least, static_cast<double>(value));
    m.most = std::max(m.most, static_cast<double>(value));
  }
  m.mean /= static_cast<double>(values.size());
  for (const T value : values) m.variance += (static_cast<double>(value) - m.mean) * (static_cast<double>(value) - m.mean);
  m.variance /= static_cast<double>(values.size());
  return m;
}

}  // namespace

TEST_CASE("The sequences begin as cuRAND's do, and offsets continue them", "[curand]") {
  struct Known {
    int type;
    std::vector<std::uint32_t> bits;  // seed 42
  };
  const auto known = GENERATE(
      Known{kXorwow, {0x11ece47f, 0x28ff4cc2, 0x6ba5a19e, 0x938d0a4a, 0x285f317e, 0x66e4a310, 0x81f79dc8, 0x1bd7417c}},
      Known{kMrg, {0x3b3f724d, 0x1c3bfde7, 0xf789b814, 0x894c2884, 0x0ebfbedf, 0x58037e89, 0x4ea9c142, 0x9b03f788}},
      Known{kPhilox, {0x9ceaf053, 0x77f5493b, 0x12bf50ad, 0x5742b3d7, 0x02933769, 0x2051e913, 0x3b68b038, 0xb62c409c}});
  Generator generator(known.type);
  generator.seed(42);
  CHECK(generator.bits(8) == known.bits);
  REQUIRE(rand("SetGeneratorOffset", generator.handle, 4ULL) == 0);
  CHECK(generator.bits(4) == std::vector<std::uint32_t>(known.bits.begin() + 4, known.bits.end()));
  REQUIRE(rand("SetGeneratorOffset", generator.handle, 0ULL) == 0);
  generator.seed(42);
  CHECK(generator.bits(3).at(2) == known.bits[2]);
  // A seed changes the sequence, not the position in it.
  generator.seed(42);
  CHECK(generator.bits(1).at(0) == known.bits[3]);
}

TEST_CASE("Everything is as from the generators of NVIDIA's library, where that can be loaded", "[curand]") {
  void* theirs = ::dlopen(AVEC_NVIDIA_CURAND, RTLD_NOW | RTLD_LOCAL);
  if (theirs == nullptr) {
    WARN("no libcurand.so of NVIDIA's: not compared");
    return;
  }
  const int type = GENERATE(as<int>{}, kXorwow, kMrg, kPhilox, kSobol, kSobol64), order = GENERATE(0, 103);
  const unsigned long long offset = GENERATE(0, 4096 * 4 * 5);
  const bool slow = type == kMrg && order == 0;  // theirs begins for seconds
  if (slow && offset != 0) return;
  const std::size_t n = 21 * 20000;
  std::vector<std::uint32_t> bits[2] = {std::vector<std::uint32_t>(n), std::vector<std::uint32_t>(n)};
  std::vector<std::uint64_t> wide[2] = {std::vector<std::uint64_t>(n), std::vector<std::uint64_t>(n)};
  std::vector<float> uniform[2] = {std::vector<float>(n), std::vector<float>(n)}, normal[2] = {uniform[0], uniform[0]};
  std::vector<double> doubles[2] = {std::vector<double>(n), std::vector<double>(n)}, normals[2] = {doubles[0], doubles[0]};
  for (const int which : {0, 1}) {
    void* library = which == 0 ? ours() : theirs;
    const auto fill = [&](auto generate) {
      void* generator = nullptr;
      REQUIRE(rand_in(library, "CreateGeneratorHost", &generator, type) == 0);
      if (type >= kSobol) REQUIRE(rand_in(library, "SetQuasiRandomGeneratorDimensions", generator, 21U) == 0);
      if (type < kSobol) REQUIRE(rand_in(library, "SetPseudoRandomGeneratorSeed", generator, 0x123456789abcULL) == 0);
      if (order != 0 && type < kSobol) REQUIRE(rand_in(library, "SetGeneratorOrdering", generator, order) == 0);
      REQUIRE(rand_in(library, "SetGeneratorOffset", generator, offset) == 0);
      REQUIRE(generate(generator) == 0);
      REQUIRE(rand_in(library, "DestroyGenerator", generator) == 0);
    };
    fill([&](void* g) {
      return type == kSobol64 ? rand_in(library, "GenerateLongLong", g, wide[which].data(), n)
                              : rand_in(library, "Generate", g, bits[which].data(), n);
    });
    if (slow) continue;
    fill([&](void* g) { return rand_in(library, "GenerateUniform", g, uniform[which].data(), n); });
    fill([&](void* g) { return rand_in(library, "GenerateNormal", g, normal[which].data(), n, 1.0F, 2.0F); });
    if (offset == 0) {
      fill([&](void* g) { return rand_in(library, "GenerateUniformDouble", g, doubles[which].data(), n); });
      fill([&](void* g) { return rand_in(library, "GenerateNormalDouble", g, normals[which].data(), n, 1.0, 2.0); });
    }
  }
  INFO("type " << type << ", order " << order << ", offset " << offset);
  CHECK(bits[0] == bits[1]);
  CHECK(wide[0] == wide[1]);
  CHECK(uniform[0] == uniform[1]);
  CHECK(doubles[0] == doubles[1]);
  std::size_t far = 0, double_far = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (!(std::abs(normal[0][i] - normal[1][i]) < 1e-4F)) ++far;
    if (!(std::abs(normals[0][i] - normals[1][i]) < 1e-9)) ++double_far;
  }
  if (type >= kSobol) return;  // another approximation of the inverse: near, but not in the farthest tail
  CHECK(far == 0);
  CHECK(double_far == 0);
}

TEST_CASE("Numbers have the distribution asked for", "[curand]") {
  const int type = GENERATE(as<int>{}, kXorwow, kMrg, kMtgp, kMt, kPhilox, kSobol, 202, kSobol64, 204);
  INFO("type " << type);
  const std::size_t n = 200000;
  Generator generator(type);
  std::vector<float> floats(n);
  std::vector<double> doubles(n);
  REQUIRE(rand("GenerateUniform", generator.handle, floats.data(), n) == 0);
  auto m = moments_of(floats);
  CHECK(std::abs(m.mean - 0.5) < 0.005);
  CHECK(std::abs(m.variance - 1.0 / 12) < 0.002);
  CHECK(m.least > 0);
  CHECK(m.most <= 1);
  REQUIRE(rand("GenerateUniformDouble", generator.handle, doubles.data(), n) == 0);
  m = moments_of(doubles);
  CHECK(std::abs(m.mean - 0.5) < 0.005);
  CHECK(m.least > 0);
  CHECK(m.most <= 1);
  REQUIRE(rand("GenerateNormal", generator.handle, floats.data(), n, 3.0F, 2.0F) == 0);
  m = moments_of(floats);
  CHECK(std::abs(m.mean - 3) < 0.03);
  CHECK(std::abs(m.variance - 4) < 0.1);
  REQUIRE(rand("GenerateNormalDouble", generator.handle, doubles.data(), n, -1.0, 0.5) == 0);
  m = moments_of(doubles);
  CHECK(std::abs(m.mean + 1) < 0.01);
  CHECK(std::abs(m.variance - 0.25) < 0.01);
  REQUIRE(rand("GenerateLogNormal", generator.handle, floats.data(), n, 0.0F, 0.5F) == 0);
  m = moments_of(floats);
  CHECK(std::abs(m.mean - std::exp(0.125)) < 0.02);
  REQUIRE(rand("GenerateLogNormalDouble", generator.handle, doubles.data(), n, 0.0, 0.5) == 0);
  CHECK(std::abs(moments_of(doubles).mean - std::exp(0.125)) < 0.02);
  for (const double lambda : {0.5, 12.0, 900.0, 20000.0}) {
    std::vector<std::uint32_t> counts(n);
    REQUIRE(rand("GeneratePoisson", generator.handle, counts.data(), n, lambda) == 0);
    m = moments_of(counts);
    INFO("lambda " << lambda);
    CHECK(std::abs(m.mean / lambda - 1) < 0.01);
    CHECK(std::abs(m.variance / lambda - 1) < 0.03);
  }
}

TEST_CASE("Numbers for the device come in the order of the stream", "[curand]") {
  Context context;
  const auto stream = make_stream();
  Gate gate;
  Buffer buffer(16);
  auto* words = reinterpret_cast<std::uint32_t*>(buffer.address);
  words[0] = 0;
  Generator generator(kXorwow, false);
  REQUIRE(rand("SetStream", generator.handle, stream) == 0);
  generator.seed(42);
  gate.close(stream);
  REQUIRE(rand("Generate", generator.handle, words, std::size_t{4}) == 0);
  generator.seed(7);  // what is queued keeps its own
  CHECK(words[0] == 0);
  gate.open();
  OK(cuStreamSynchronize(stream));
  CHECK(words[0] == 0x11ece47f);
  CHECK(words[3] == 0x938d0a4a);
  OK(cuStreamDestroy(stream));
}

TEST_CASE("Two calls continue where one would have been", "[curand]") {
  const int type = GENERATE(as<int>{}, kXorwow, kMrg, kMtgp, kMt, kPhilox);
  Generator one(type), two(type);
  const auto all = one.bits(20000);
  auto parts = two.bits(9001);
  const auto rest = two.bits(10999);
  parts.insert(parts.end(), rest.begin(), rest.end());
  CHECK(parts == all);
}

TEST_CASE("cuRAND refuses what does not fit the generator", "[curand]") {
  Generator pseudo(kXorwow), quasi(kSobol), wide(kSobol64), twister(kMt);
  float out[8];
  std::uint32_t words[8];
  void* none = nullptr;
  CHECK(rand("CreateGenerator", &none, 77) == 103);
  CHECK(rand("GenerateUniform", none, out + 0, std::size_t{1}) == 101);
  CHECK(rand("GenerateNormal", pseudo.handle, out + 0, std::size_t{3}, 0.0F, 1.0F) == 105);
  CHECK(rand("GenerateNormal", quasi.handle, out + 0, std::size_t{3}, 0.0F, 1.0F) == 0);
  CHECK(rand("SetPseudoRandomGeneratorSeed", quasi.handle, 1ULL) == 103);
  CHECK(rand("SetQuasiRandomGeneratorDimensions", pseudo.handle, 2U) == 103);
  CHECK(rand("SetQuasiRandomGeneratorDimensions", quasi.handle, 0U) == 104);
  CHECK(rand("SetQuasiRandomGeneratorDimensions", quasi.handle, 3U) == 0);
  CHECK(rand("GenerateUniform", quasi.handle, out + 0, std::size_t{4}) == 105);
  CHECK(rand("SetGeneratorOrdering", quasi.handle, 101) == 104);
  CHECK(rand("SetGeneratorOrdering", pseudo.handle, 201) == 104);
  CHECK(rand("SetGeneratorOffset", twister.handle, 1ULL) == 103);
  CHECK(rand("Generate", wide.handle, words + 0, std::size_t{1}) == 103);
  CHECK(rand("GeneratePoisson", pseudo.handle, words + 0, std::size_t{1}, 0.0) == 104);
}
