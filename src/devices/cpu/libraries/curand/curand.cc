// cuRAND's host interface on the CPU device (types and numbers are NVIDIA's curand.h).
#include <algorithm>
#include <cstddef>
#include <memory>
#include <mutex>
#include <new>

#include "devices/cpu/libraries/curand/distributions.h"
#include "devices/cpu/libraries/curand/engines.h"
#include "devices/cpu/libraries/stream_order.h"

#define AVEC_EXPORT extern "C" __attribute__((visibility("default")))

namespace avec::cpu::curand {
namespace {

enum Status : int {
  kOk = 0,
  kNotInitialized = 101,
  kAllocationFailed = 102,
  kTypeError = 103,
  kOutOfRange = 104,
  kLengthNotMultiple = 105,
  kLaunchFailure = 201,
};

/// A sequence and where it stands. Work that is queued holds it; settings changed later begin another.
struct Sequence {
  explicit Sequence(const Settings& from) : settings(from), engine(make_engine(from)), point(from.offset) {}
  Settings settings;
  std::mutex mutex;  // guards the following: two streams may draw from one generator
  std::unique_ptr<Engine> engine;
  std::uint64_t point;  // of quasi-random ones: the next
};

/// What a curandGenerator_t points to.
struct Generator {
  Settings settings;
  bool host = false;  // results lie in host memory, and are there when the call returns
  CUstream stream = nullptr;
  std::shared_ptr<Sequence> sequence;  // null: begins with the next call that needs one
  std::uint64_t taken = 0;             // results since the settings last changed

  [[nodiscard]] bool quasi() const { return settings.type >= kSobol32; }
  [[nodiscard]] bool wide() const { return settings.type >= kSobol64; }
};

template <class Work>
int submit(Generator* generator, std::size_t n, Work work) {
  if (generator->sequence == nullptr) {
    generator->sequence = std::make_shared<Sequence>(generator->settings);
  }
  generator->taken += n;
  auto job = [sequence = generator->sequence, work] {
    const std::lock_guard lock(sequence->mutex);
    work(*sequence);
  };
  if (generator->host) {
    job();
    return kOk;
  }
  return cpu_libraries::in_stream_order(generator->stream, job) == CUDA_SUCCESS ? kOk : kLaunchFailure;
}

/// What all calls that generate `n` results refuse. Results in pairs: normal numbers of pseudo-random generators.
int check(const Generator* generator, std::size_t n, bool pairs) {
  if (generator == nullptr) return kNotInitialized;
  if (generator->quasi() && n % generator->settings.dimensions != 0) return kLengthNotMultiple;
  return pairs && !generator->quasi() && n % 2 != 0 ? kLengthNotMultiple : kOk;
}

/// Fills `out` with points, all of the first dimension first: `convert` makes a result of 64 bits.
template <class T, class Convert>
void fill_quasi(Sequence& sequence, T* out, std::size_t n, Convert convert) {
  const unsigned dimensions = sequence.settings.dimensions;
  const std::size_t points = n / dimensions;
  for (unsigned dimension = 0; dimension < dimensions; ++dimension) {
    for (std::size_t i = 0; i < points; ++i) {
      *out++ = convert(sobol(sequence.settings.type, dimension, sequence.point + i));
    }
  }
  sequence.point += points;
}

/// Of the points of either width: above 0 up to 1.
template <class T>
T uniform_point(bool wide, std::uint64_t bits) {
  if constexpr (std::is_same_v<T, float>) return to_float(static_cast<std::uint32_t>(bits >> 32));
  return wide ? static_cast<double>(bits >> 11) * 0x1p-53 + 0x1p-54 : static_cast<double>(bits >> 32) * 0x1p-32 + 0x1p-32;
}
template <class T>
T uniform(Engine& engine) {
  if constexpr (std::is_same_v<T, float>) {
    return engine.uniform();
  } else {
    return engine.uniform_double();
  }
}

template <class T>
int generate_uniform(Generator* generator, T* out, std::size_t n) {
  if (const int bad = check(generator, n, false)) return bad;
  if (n == 0) return kOk;
  return submit(generator, n, [out, n, wide = generator->wide()](Sequence& sequence) {
    if (!sequence.engine) {
      return fill_quasi(sequence, out, n, [wide](std::uint64_t bits) { return uniform_point<T>(wide, bits); });
    }
    for (std::size_t i = 0; i < n; ++i, sequence.engine->next()) out[i] = uniform<T>(*sequence.engine);
  });
}

/// `shape`: of the normal number with the mean and the deviation asked for.
template <class T, class Shape>
int generate_normal(Generator* generator, T* out, std::size_t n, T mean, T deviation, Shape shape) {
  if (const int bad = check(generator, n, true)) return bad;
  if (n == 0) return kOk;
  return submit(generator, n, [=, wide = generator->wide()](Sequence& sequence) {
    if (!sequence.engine) {
      return fill_quasi(sequence, out, n, [=](std::uint64_t bits) {
        const double below_one = std::min(uniform_point<double>(wide, bits), 1 - 0x1p-33);
        return shape(static_cast<T>(normal_of(below_one)) * deviation + mean);
      });
    }
    for (std::size_t i = 0; i < n; i += 2, sequence.engine->next()) {
      const T u = uniform<T>(*sequence.engine), v = uniform<T>(*sequence.engine);
      const auto [first, second] = normal_pair(u, v);
      out[i] = shape(first * deviation + mean);
      out[i + 1] = shape(second * deviation + mean);
    }
  });
}

int generate_poisson(Generator* generator, std::uint32_t* out, std::size_t n, double lambda) {
  if (const int bad = check(generator, n, false)) return bad;
  if (!(lambda > 0) || lambda > 400000) return kOutOfRange;
  if (n == 0) return kOk;
  return submit(generator, n, [=, wide = generator->wide()](Sequence& sequence) {
    // Many of one distribution: normal where that is as good as exact, as cuRAND does.
    const auto count = [lambda](double p) {
      if (lambda < 4000) return poisson_of(lambda, p);
      const double below_one = std::min(p, 1 - 0x1p-53);
      return static_cast<std::uint32_t>(std::max(0.0, std::round(lambda + std::sqrt(lambda) * normal_of(below_one))));
    };
    if (!sequence.engine) {
      return fill_quasi(sequence, out, n, [&](std::uint64_t bits) { return count(uniform_point<double>(wide, bits)); });
    }
    for (std::size_t i = 0; i < n; ++i, sequence.engine->next()) out[i] = count(sequence.engine->uniform_double());
  });
}

int create(Generator** generator, int type, bool host) {
  if (generator == nullptr) return kOutOfRange;
  if (type == 100) type = kXorwow;
  if (type == 200) type = kSobol32;
  switch (type) {
    case kXorwow:
    case kMrg32k3a:
    case kMtgp32:
    case kMt19937:
    case kPhilox:
    case kSobol32:
    case kScrambledSobol32:
    case kSobol64:
    case kScrambledSobol64:
      break;
    default:
      return kTypeError;
  }
  *generator = new (std::nothrow) Generator;
  if (*generator == nullptr) return kAllocationFailed;
  (*generator)->settings.type = type;
  (*generator)->settings.ordering = type >= kSobol32 ? 201 : 101;
  (*generator)->host = host;
  return kOk;
}

/// Changes a setting, with which the next results are generated, from the position reached.
template <class Change>
int change(Generator* generator, Change how) {
  generator->settings.offset += generator->quasi() ? generator->taken / generator->settings.dimensions : generator->taken;
  generator->taken = 0;
  generator->sequence.reset();
  how(generator->settings);
  return kOk;
}

template <class T>
T as_it_is(T value) {
  return value;
}
template <class T>
T exponential(T value) {
  return std::exp(value);
}

}  // namespace

AVEC_EXPORT int curandCreateGenerator(Generator** generator, int type) { return create(generator, type, false); }
AVEC_EXPORT int curandCreateGeneratorHost(Generator** generator, int type) { return create(generator, type, true); }

AVEC_EXPORT int curandDestroyGenerator(Generator* generator) {
  if (generator == nullptr) return kNotInitialized;
  delete generator;
  return kOk;
}

AVEC_EXPORT int curandGetVersion(int* version) {
  if (version == nullptr) return kOutOfRange;
  *version = 10400;
  return kOk;
}
AVEC_EXPORT int curandGetProperty(int type, int* value) {
  if (value == nullptr || type < 0 || type > 2) return kOutOfRange;
  *value = type == 0 ? 10 : type == 1 ? 4 : 0;
  return kOk;
}

AVEC_EXPORT int curandSetStream(Generator* generator, CUstream stream) {
  if (generator == nullptr) return kNotInitialized;
  generator->stream = stream;
  return kOk;
}

AVEC_EXPORT int curandSetPseudoRandomGeneratorSeed(Generator* generator, unsigned long long seed) {
  if (generator == nullptr) return kNotInitialized;
  if (generator->quasi()) return kTypeError;
  return change(generator, [=](Settings& settings) { settings.seed = seed; });
}

AVEC_EXPORT int curandSetGeneratorOffset(Generator* generator, unsigned long long offset) {
  if (generator == nullptr) return kNotInitialized;
  if (generator->settings.type == kMtgp32 || generator->settings.type == kMt19937) return kTypeError;
  return change(generator, [=](Settings& settings) { settings.offset = offset; });
}

AVEC_EXPORT int curandSetGeneratorOrdering(Generator* generator, int order) {
  if (generator == nullptr) return kNotInitialized;
  const bool seeded = order == 102 && generator->settings.type == kXorwow;
  const bool pseudo = order == 100 || order == 101 || order == kLegacyOrdering || order == 104 || seeded;
  if (generator->quasi() ? order != 201 : !pseudo || (generator->host && order == 104)) return kOutOfRange;
  return change(generator, [=](Settings& settings) { settings.ordering = order; });
}

AVEC_EXPORT int curandSetQuasiRandomGeneratorDimensions(Generator* generator, unsigned dimensions) {
  if (generator == nullptr) return kNotInitialized;
  if (!generator->quasi()) return kTypeError;
  if (dimensions == 0 || dimensions > kMostDimensions) return kOutOfRange;
  return change(generator, [=](Settings& settings) { settings.dimensions = dimensions; });
}

AVEC_EXPORT int curandGenerateSeeds(Generator* generator) { return generator == nullptr ? kNotInitialized : kOk; }

AVEC_EXPORT int curandGenerate(Generator* generator, std::uint32_t* out, std::size_t n) {
  if (const int bad = check(generator, n, false)) return bad;
  if (generator->wide()) return kTypeError;
  if (n == 0) return kOk;
  return submit(generator, n, [=](Sequence& sequence) {
    if (!sequence.engine) {
      return fill_quasi(sequence, out, n, [](std::uint64_t bits) { return static_cast<std::uint32_t>(bits >> 32); });
    }
    for (std::size_t i = 0; i < n; ++i, sequence.engine->next()) out[i] = sequence.engine->draw();
  });
}

AVEC_EXPORT int curandGenerateLongLong(Generator* generator, std::uint64_t* out, std::size_t n) {
  if (const int bad = check(generator, n, false)) return bad;
  if (!generator->wide()) return kTypeError;
  if (n == 0) return kOk;
  return submit(generator, n, [=](Sequence& sequence) { fill_quasi(sequence, out, n, as_it_is<std::uint64_t>); });
}

AVEC_EXPORT int curandGenerateUniform(Generator* generator, float* out, std::size_t n) {
  return generate_uniform(generator, out, n);
}
AVEC_EXPORT int curandGenerateUniformDouble(Generator* generator, double* out, std::size_t n) {
  return generate_uniform(generator, out, n);
}
AVEC_EXPORT int curandGenerateNormal(Generator* generator, float* out, std::size_t n, float mean, float deviation) {
  return generate_normal(generator, out, n, mean, deviation, as_it_is<float>);
}
AVEC_EXPORT int curandGenerateNormalDouble(Generator* generator, double* out, std::size_t n, double mean,
                                           double deviation) {
  return generate_normal(generator, out, n, mean, deviation, as_it_is<double>);
}
AVEC_EXPORT int curandGenerateLogNormal(Generator* generator, float* out, std::size_t n, float mean, float deviation) {
  return generate_normal(generator, out, n, mean, deviation, exponential<float>);
}
AVEC_EXPORT int curandGenerateLogNormalDouble(Generator* generator, double* out, std::size_t n, double mean,
                                              double deviation) {
  return generate_normal(generator, out, n, mean, deviation, exponential<double>);
}
AVEC_EXPORT int curandGeneratePoisson(Generator* generator, std::uint32_t* out, std::size_t n, double lambda) {
  return generate_poisson(generator, out, n, lambda);
}
AVEC_EXPORT int curandGeneratePoissonMethod(Generator* generator, std::uint32_t* out, std::size_t n, double lambda,
                                            int) {
  return generate_poisson(generator, out, n, lambda);
}

}  // namespace avec::cpu::curand
