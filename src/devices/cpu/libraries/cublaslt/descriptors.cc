#include "devices/cpu/libraries/cublaslt/descriptors.h"

namespace avec::cpu::blas {
namespace {

constexpr std::size_t kMostBytes = 64;  // of an attribute

int create(Descriptor** out) {
  if (out == nullptr) return kInvalidValue;
  *out = new (std::nothrow) Descriptor;
  return *out == nullptr ? kAllocFailed : kOk;
}
int destroy(Descriptor* descriptor) {
  delete descriptor;
  return kOk;
}

}  // namespace

int Descriptor::write(int attribute, const void* from, std::size_t bytes) {
  if (from == nullptr || bytes == 0 || bytes > kMostBytes) return kInvalidValue;
  const auto* first = static_cast<const char*>(from);
  values_[attribute].assign(first, first + bytes);
  return kOk;
}

int Descriptor::read(int attribute, void* to, std::size_t bytes, std::size_t* written) const {
  const auto found = values_.find(attribute);
  if (found == values_.end()) return kInvalidValue;
  if (written != nullptr) *written = found->second.size();
  if (bytes == 0 && written != nullptr) return kOk;  // only asks for the size
  if (to == nullptr || bytes < found->second.size()) return kInvalidValue;
  std::memcpy(to, found->second.data(), found->second.size());
  return kOk;
}

AVEC_EXPORT int cublasLtMatrixLayoutCreate(Descriptor** out, int type, std::uint64_t rows, std::uint64_t columns,
                                           std::int64_t ld) {
  if (const int bad = create(out)) return bad;
  (*out)->set(kType, type);
  (*out)->set(kOrder, 0);
  (*out)->set(kRows, rows);
  (*out)->set(kColumns, columns);
  (*out)->set(kLd, ld);
  (*out)->set(kBatches, 1);
  (*out)->set(kStride, std::int64_t{0});
  return kOk;
}
AVEC_EXPORT int cublasLtMatmulDescCreate(Descriptor** out, int compute, int scale) {
  if (const int bad = create(out)) return bad;
  (*out)->set(kComputeType, compute);
  (*out)->set(kScaleType, scale);
  for (const int attribute : {kPointerMode, kTransA, kTransB, kTransC}) (*out)->set(attribute, 0);
  (*out)->set(kEpilogue, 1);
  return kOk;
}
AVEC_EXPORT int cublasLtMatmulPreferenceCreate(Descriptor** out) { return create(out); }

#define AVEC_DESCRIPTOR(name)                                                                                         \
  AVEC_EXPORT int cublasLt##name##Destroy(Descriptor* descriptor) { return destroy(descriptor); }                     \
  AVEC_EXPORT int cublasLt##name##SetAttribute(Descriptor* descriptor, int attribute, const void* from,               \
                                               std::size_t bytes) {                                                   \
    return descriptor == nullptr ? kInvalidValue : descriptor->write(attribute, from, bytes);                         \
  }                                                                                                                   \
  AVEC_EXPORT int cublasLt##name##GetAttribute(const Descriptor* descriptor, int attribute, void* to,                 \
                                               std::size_t bytes, std::size_t* written) {                             \
    return descriptor == nullptr ? kInvalidValue : descriptor->read(attribute, to, bytes, written);                   \
  }
AVEC_DESCRIPTOR(MatrixLayout)
AVEC_DESCRIPTOR(MatmulDesc)
AVEC_DESCRIPTOR(MatmulPreference)

}  // namespace avec::cpu::blas
