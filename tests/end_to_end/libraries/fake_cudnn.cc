// A cuDNN for the executor that keeps what it is told and checks it: the graph API with one operation,
// y = value * x over eight floats. Tensors have the names 1 (x), 2 (the value, passed by host pointer) and 3
// (y).
#include <cstdint>
#include <cstring>
#include <map>
#include <set>
#include <vector>

namespace {

struct Descriptor {
  int type = 0;
  bool finalized = false;
  std::map<int, std::vector<char>> attributes;
};

constexpr int kBadParam = 2000, kNotSupported = 3000;
constexpr int kTensor = 17, kPack = 16, kPlan = 5, kHeuristics = 4, kConfig = 3;
constexpr int kDescriptorType = 15;

std::set<Descriptor*> live;

int element_bytes(int type) {
  if (type == 2 || type == 24) return 1;
  return type == 0 || type == 3 || type == 5 || type == 6 || type == kDescriptorType ? 8 : 4;
}

Descriptor* known(const void* descriptor) {
  auto* found = static_cast<Descriptor*>(const_cast<void*>(descriptor));
  return live.count(found) == 0 ? nullptr : found;
}

template <class T>
T value(const Descriptor& descriptor, int name, std::size_t index = 0) {
  T result{};
  const auto at = descriptor.attributes.find(name);
  if (at != descriptor.attributes.end() && at->second.size() >= (index + 1) * sizeof result)
    std::memcpy(&result, at->second.data() + index * sizeof result, sizeof result);
  return result;
}

int handle_storage, stream_storage;

}  // namespace

extern "C" {

std::size_t cudnnGetVersion() { return 91234; }
std::size_t cudnnGetCudartVersion() { return 13000; }
std::size_t cudnnGetMaxDeviceVersion() { return 1210; }
void cudnnGetLastErrorString(char* message, std::size_t size) {
  std::strncpy(message, "the fake says no", size);
}
int cudnnCreate(void** handle) {
  *handle = &handle_storage;
  return 0;
}
int cudnnDestroy(void*) { return 0; }
int cudnnSetStream(void*, void*) { return 0; }

// Tensors of the legacy API: shapes only.
struct Tensor {
  int type, count, dims[8], strides[8];
};
int cudnnCreateTensorDescriptor(void** made) {
  *made = new Tensor{};
  return 0;
}
int cudnnDestroyTensorDescriptor(void* tensor) {
  delete static_cast<Tensor*>(tensor);
  return 0;
}
int cudnnSetTensorNdDescriptor(void* tensor, int type, int count, const int* dims, const int* strides) {
  auto& to = *static_cast<Tensor*>(tensor);
  to.type = type;
  to.count = count;
  std::memcpy(to.dims, dims, sizeof(int) * static_cast<std::size_t>(count));
  std::memcpy(to.strides, strides, sizeof(int) * static_cast<std::size_t>(count));
  return 0;
}
int cudnnGetTensorNdDescriptor(void* tensor, int requested, int* type, int* count, int* dims, int* strides) {
  const auto& from = *static_cast<Tensor*>(tensor);
  const int given = requested < from.count ? requested : from.count;
  *type = from.type;
  *count = from.count;
  std::memcpy(dims, from.dims, sizeof(int) * static_cast<std::size_t>(given));
  std::memcpy(strides, from.strides, sizeof(int) * static_cast<std::size_t>(given));
  return 0;
}
/// The second dimension stays.
int cudnnDeriveBNTensorDescriptor(void* derived, void* tensor, int) {
  const int dims[] = {1, static_cast<Tensor*>(tensor)->dims[1], 1}, strides[] = {dims[1], 1, 1};
  return cudnnSetTensorNdDescriptor(derived, 0, 3, dims, strides);
}
int cudnnCreateRNNDescriptor(void** made) {
  *made = &stream_storage;
  return 0;
}
int cudnnDestroyRNNDescriptor(void*) { return 0; }
/// Matrices of 3 x 5 floats one behind another; the fourth has no bias.
int cudnnGetRNNWeightParams(void*, void*, int layer, std::size_t, const char* weights, int linear,
                            void* matrix, const void** matrix_address, void* bias,
                            const void** bias_address) {
  if (linear > 3) return kBadParam;
  const int dims[] = {1, 3, 5}, strides[] = {15, 5, 1};
  cudnnSetTensorNdDescriptor(matrix, 0, 3, dims, strides);
  *matrix_address = weights + (layer * 4 + linear) * 60;
  *bias_address = nullptr;
  if (linear == 3) return 0;
  cudnnSetTensorNdDescriptor(bias, 0, 3, dims, strides);
  *bias_address = weights + 4096;
  return 0;
}

int cudnnBackendCreateDescriptor(int type, void** made) {
  auto* descriptor = new Descriptor;
  descriptor->type = type;
  live.insert(descriptor);
  *made = descriptor;
  return 0;
}
int cudnnBackendDestroyDescriptor(void* descriptor) {
  Descriptor* found = known(descriptor);
  if (found == nullptr) return kBadParam;
  live.erase(found);
  delete found;
  return 0;
}
int cudnnBackendSetAttribute(void* descriptor, int name, int type, std::int64_t count, const void* elements) {
  Descriptor* found = known(descriptor);
  if (found == nullptr || found->finalized || elements == nullptr) return kBadParam;
  const auto* bytes = static_cast<const char*>(elements);
  for (std::int64_t i = 0; type == kDescriptorType && i < count; ++i) {
    const Descriptor* part = known(static_cast<void* const*>(elements)[i]);
    if (part == nullptr || !part->finalized) return kBadParam;
  }
  if (type == 0 && *static_cast<void* const*>(elements) != &handle_storage) return kBadParam;
  found->attributes[name].assign(bytes, bytes + count * element_bytes(type));
  return 0;
}
int cudnnBackendFinalize(void* descriptor) {
  Descriptor* found = known(descriptor);
  if (found == nullptr || found->finalized) return kBadParam;
  // Tensors of four dimensions alone are supported.
  if (found->type == kTensor && found->attributes[902].size() != 32) return kNotSupported;
  found->finalized = true;
  return 0;
}
int cudnnBackendGetAttribute(const void* descriptor, int name, int type, std::int64_t requested,
                             std::int64_t* count, void* elements) {
  Descriptor* found = known(descriptor);
  if (found == nullptr || !found->finalized) return kBadParam;
  if (found->type == kHeuristics && name == 202 && type == kDescriptorType) {
    *count = 2;
    for (std::int64_t i = 0; i < requested && i < 2; ++i) {
      Descriptor* config = known(static_cast<void**>(elements)[i]);
      if (config == nullptr || config->finalized || config->type != kConfig) return kBadParam;
      config->attributes[1].assign(1, static_cast<char>(i));
      config->finalized = true;
    }
    return 0;
  }
  if (found->type == kPlan && name == 402) {
    const std::int64_t bytes = 4096;
    *count = 1;
    if (requested > 0) std::memcpy(elements, &bytes, sizeof bytes);
    return 0;
  }
  return kBadParam;
}
int cudnnBackendExecute(const void* handle, const void* plan, const void* pack) {
  const Descriptor *how = known(plan), *what = known(pack);
  if (handle != &handle_storage || how == nullptr || what == nullptr || how->type != kPlan ||
      what->type != kPack)
    return kBadParam;
  const float* from = nullptr;
  const double* factor = nullptr;
  float* to = nullptr;
  for (std::size_t i = 0; i < 3; ++i) {
    void* pointer = value<void*>(*what, 1001, i);
    switch (value<std::int64_t>(*what, 1000, i)) {
      case 1:
        from = static_cast<const float*>(pointer);
        break;
      case 2:
        factor = static_cast<const double*>(pointer);
        break;
      case 3:
        to = static_cast<float*>(pointer);
        break;
      default:
        return kBadParam;
    }
  }
  if (*factor < 0) return kNotSupported;
  for (int i = 0; i < 8; ++i) to[i] = static_cast<float>(*factor) * from[i];
  return 0;
}
}
