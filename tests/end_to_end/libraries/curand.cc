// cuRAND: the fillers of networks, generators of host memory, quasi-random numbers, tables, errors.
// With "basic", without the tables, which only NVIDIA's library has.
#include <curand.h>

#include <cstring>

#include "library.h"

namespace {

constexpr std::size_t kCount = 1 << 16;

template <class T>
void expect_mean(const std::vector<T>& values, double mean, double tolerance) {
  double sum = 0;
  for (const T value : values) sum += static_cast<double>(value);
  EXPECT(std::fabs(sum / static_cast<double>(values.size()) - mean) < tolerance);
}

std::vector<float> uniform(curandGenerator_t generator, unsigned long long seed) {
  Device<float> out(kCount);
  CHECK(curandSetPseudoRandomGeneratorSeed(generator, seed));
  CHECK(curandSetGeneratorOffset(generator, 0));
  CHECK(curandGenerateUniform(generator, out, kCount));
  return out.host();
}

void fillers() {
  curandGenerator_t generator;
  CHECK(curandCreateGenerator(&generator, CURAND_RNG_PSEUDO_DEFAULT));
  const auto first = uniform(generator, 1701), again = uniform(generator, 1701),
             other = uniform(generator, 1702);
  EXPECT(first == again);
  EXPECT(first != other);
  for (const float value : first) EXPECT(value > 0 && value <= 1);
  expect_mean(first, 0.5, 0.01);
  show("uniform", first);

  cudaStream_t stream;
  CHECK(cudaStreamCreate(&stream));
  CHECK(curandSetStream(generator, stream));
  Device<float> normal(kCount);
  Device<double> wide(kCount);
  Device<unsigned> bits(kCount);
  CHECK(curandSetPseudoRandomGeneratorSeed(generator, 7));
  CHECK(curandGenerateNormal(generator, normal, kCount, 3.0f, 0.5f));
  CHECK(curandGenerateUniformDouble(generator, wide, kCount));
  CHECK(curandGenerate(generator, bits, kCount));
  CHECK(cudaStreamSynchronize(stream));
  expect_mean(normal.host(), 3.0, 0.02);
  expect_mean(wide.host(), 0.5, 0.01);
  show("normal", normal.host());
  show("uniform double", wide.host());
  show("bits", bits.host());
  CHECK(curandDestroyGenerator(generator));
  CHECK(cudaStreamDestroy(stream));
}

void host_generators() {
  curandGenerator_t generator;
  CHECK(curandCreateGeneratorHost(&generator, CURAND_RNG_PSEUDO_XORWOW));
  CHECK(curandSetPseudoRandomGeneratorSeed(generator, 99));
  std::vector<float> values(3 << 20);  // more than one piece
  CHECK(curandGenerateUniform(generator, values.data(), values.size()));
  for (const float value : values) EXPECT(value > 0 && value <= 1);
  expect_mean(values, 0.5, 0.01);
  show("host uniform", values);
  std::vector<double> normal(1000);
  CHECK(curandGenerateNormalDouble(generator, normal.data(), normal.size(), -1, 2));
  expect_mean(normal, -1, 0.3);
  show("host normal", normal);
  CHECK(curandDestroyGenerator(generator));
}

void quasi() {
  curandGenerator_t generator;
  CHECK(curandCreateGenerator(&generator, CURAND_RNG_QUASI_SOBOL32));
  CHECK(curandSetQuasiRandomGeneratorDimensions(generator, 3));
  Device<float> points(3 * 1024);
  CHECK(curandGenerateUniform(generator, points, 3 * 1024));
  expect_mean(points.host(), 0.5, 0.01);
  show("sobol", points.host());
  std::printf("a count that 3 does not divide: %d\n", curandGenerateUniform(generator, points, 1000));
  CHECK(curandDestroyGenerator(generator));
  CHECK(curandCreateGenerator(&generator, CURAND_RNG_PSEUDO_XORWOW));
  std::printf("an odd count of normal numbers: %d\n", curandGenerateNormal(generator, points, 33, 0, 1));
  std::printf("dimensions of a pseudo-random generator: %d\n",
              curandSetQuasiRandomGeneratorDimensions(generator, 2));
  Device<unsigned> counts(1000);
  CHECK(curandGeneratePoisson(generator, counts, 1000, 4.0));
  expect_mean(counts.host(), 4.0, 0.5);
  show("poisson", counts.host());
  CHECK(curandDestroyGenerator(generator));
}

void tables() {
  curandDirectionVectors32_t* vectors;
  CHECK(curandGetDirectionVectors32(&vectors, CURAND_DIRECTION_VECTORS_32_JOEKUO6));
  std::printf("direction vectors            %016llx\n",
              static_cast<unsigned long long>(hash(vectors, 20000 * sizeof vectors[0])));
  curandDirectionVectors64_t* wide;
  CHECK(curandGetDirectionVectors64(&wide, CURAND_SCRAMBLED_DIRECTION_VECTORS_64_JOEKUO6));
  std::printf("direction vectors, 64 bits   %016llx\n",
              static_cast<unsigned long long>(hash(wide, 20000 * sizeof wide[0])));
  unsigned* constants;
  CHECK(curandGetScrambleConstants32(&constants));
  std::printf("scramble constants           %016llx\n",
              static_cast<unsigned long long>(hash(constants, 20000 * 4)));
}

}  // namespace

int main(int argc, char** argv) {
  const bool basic = argc > 1 && std::strcmp(argv[1], "basic") == 0;
  curandGenerator_t none;
  std::printf("a type that does not exist: %d\n",
              curandCreateGenerator(&none, static_cast<curandRngType_t>(77)));
  fillers();
  host_generators();
  quasi();
  if (!basic) tables();
  std::puts("curand: ok");
  return 0;
}
