// Dropout, with a generator of our own: which elements are dropped differs from a GPU's.
#include <cstring>
#include <vector>

#include "devices/cpu/libraries/cudnn/descriptors.h"
#include "devices/cpu/libraries/cudnn/values.h"

namespace avec::cpu_libraries::cudnn {

namespace {

/// What lies in the program's `states`.
struct Generator {
  std::uint64_t seed, drawn;
};

/// SplitMix64 by Steele, Lea and Flood: a number for each place of a sequence.
std::uint64_t number_at(const Generator& generator, std::uint64_t place) {
  std::uint64_t z = generator.seed + (generator.drawn + place + 1) * 0x9E3779B97F4A7C15;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
  z = (z ^ z >> 27) * 0x94D049BB133111EB;
  return z ^ z >> 31;
}

/// One bit for each element, in words of 32 bits.
std::size_t mask_bytes(const Tensor& x) { return static_cast<std::size_t>(x.elements() + 31) / 32 * 4; }

Status check(const Handle* handle, const Dropout* dropout, const Tensor* a, const Tensor* b,
             const void* reserve, std::size_t bytes) {
  if (any_null(handle, dropout, a, b, reserve)) return bad_param("a pointer is NULL");
  if (!a->same_shape(*b) || a->type != b->type) return bad_param("the tensors differ in shape or type");
  if (bytes < mask_bytes(*a)) return bad_param("the reserve space is too small");
  return Status::kSuccess;
}

Status set(Dropout* dropout, const Handle* handle, float rate, void* states, std::size_t bytes,
           unsigned long long seed) {
  if (any_null(dropout, handle)) return bad_param("a pointer is NULL");
  if (!(rate >= 0 && rate <= 1)) return bad_param("dropout is not from 0 to 1");
  if (states != nullptr && bytes < sizeof(Generator))
    return refuse(Status::kInvalidValue, "the states are too small");
  *dropout = {rate, states, seed};
  return Status::kSuccess;
}

/// y = x where the mask has a bit, scaled so that the expectation stays, else 0.
void apply(float rate, const Tensor& x_desc, const void* x, const std::uint32_t* mask, const Tensor& y_desc,
           void* y) {
  computed_in(x_desc.type, [&]<class C>(C) {
    std::vector<C> result = Values<C>::copy(x_desc, x);
    const C scale = rate < 1 ? static_cast<C>(1 / (1 - static_cast<double>(rate))) : C{0};
    for (std::size_t i = 0; i < result.size(); ++i)
      result[i] = (mask[i / 32] >> i % 32 & 1) != 0 ? result[i] * scale : C{0};
    blend(y_desc, y, result.data(), 1, 0);
  });
}

}  // namespace

extern "C" {

Status cudnnCreateDropoutDescriptor(Dropout** made) { return create(made); }
Status cudnnDestroyDropoutDescriptor(Dropout* dropout) { return destroy(dropout); }

Status cudnnDropoutGetStatesSize(Handle* handle, std::size_t* bytes) {
  if (any_null(handle, bytes)) return bad_param("a pointer is NULL");
  *bytes = sizeof(Generator);
  return Status::kSuccess;
}

Status cudnnDropoutGetReserveSpaceSize(const Tensor* x, std::size_t* bytes) {
  if (any_null(x, bytes)) return bad_param("a pointer is NULL");
  *bytes = mask_bytes(*x);
  return Status::kSuccess;
}

Status cudnnSetDropoutDescriptor(Dropout* dropout, Handle* handle, float rate, void* states,
                                 std::size_t bytes, unsigned long long seed) {
  if (const Status status = set(dropout, handle, rate, states, bytes, seed); status != Status::kSuccess)
    return status;
  if (states == nullptr) return Status::kSuccess;
  return submit(handle, [=] {
    const Generator generator{seed, 0};
    std::memcpy(states, &generator, sizeof generator);
  });
}

Status cudnnRestoreDropoutDescriptor(Dropout* dropout, Handle* handle, float rate, void* states,
                                     std::size_t bytes, unsigned long long seed) {
  return set(dropout, handle, rate, states, bytes, seed);
}

Status cudnnGetDropoutDescriptor(const Dropout* dropout, Handle* handle, float* rate, void** states,
                                 unsigned long long* seed) {
  if (any_null(dropout, handle)) return bad_param("a pointer is NULL");
  if (rate != nullptr) *rate = dropout->rate;
  if (states != nullptr) *states = dropout->states;
  if (seed != nullptr) *seed = dropout->seed;
  return Status::kSuccess;
}

Status cudnnDropoutForward(Handle* handle, const Dropout* dropout, const Tensor* x_desc, const void* x,
                           const Tensor* y_desc, void* y, void* reserve, std::size_t reserve_bytes) {
  if (const Status status = check(handle, dropout, x_desc, y_desc, reserve, reserve_bytes);
      status != Status::kSuccess)
    return status;
  if (any_null(x, y, dropout->states)) return bad_param("a tensor or the states are NULL");
  return submit(handle, [=, dropout = *dropout, x_desc = *x_desc, y_desc = *y_desc] {
    Generator generator;
    std::memcpy(&generator, dropout.states, sizeof generator);
    auto* const mask = static_cast<std::uint32_t*>(reserve);
    std::memset(mask, 0, mask_bytes(x_desc));
    const auto n = static_cast<std::uint64_t>(x_desc.elements());
    for (std::uint64_t i = 0; i < n; ++i) {
      const double drawn = static_cast<double>(number_at(generator, i) >> 11) * 0x1p-53;  // [0, 1)
      if (drawn >= static_cast<double>(dropout.rate)) mask[i / 32] |= 1u << i % 32;
    }
    generator.drawn += n;
    std::memcpy(dropout.states, &generator, sizeof generator);
    apply(dropout.rate, x_desc, x, mask, y_desc, y);
  });
}

Status cudnnDropoutBackward(Handle* handle, const Dropout* dropout, const Tensor* dy_desc, const void* dy,
                            const Tensor* dx_desc, void* dx, void* reserve, std::size_t reserve_bytes) {
  if (const Status status = check(handle, dropout, dy_desc, dx_desc, reserve, reserve_bytes);
      status != Status::kSuccess)
    return status;
  if (any_null(dy, dx)) return bad_param("a tensor is NULL");
  return submit(handle, [=, rate = dropout->rate, dy_desc = *dy_desc, dx_desc = *dx_desc] {
    apply(rate, dy_desc, dy, static_cast<const std::uint32_t*>(reserve), dx_desc, dx);
  });
}

}  // extern "C"

}  // namespace avec::cpu_libraries::cudnn
