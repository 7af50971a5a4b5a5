// The executor's side of libcudnn.so.9's hand-written calls (schemas/libraries/cudnn.api): builds
// descriptors of the graph API from recipes, asks them, executes plans.
#include "libraries/cudnn.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

extern "C" void* avec_library_symbol(std::uint16_t library, const char* name);

namespace {

using namespace avec::libraries;
using namespace avec::libraries::cudnn;

constexpr std::uint16_t kCudnn = 3;
/// What a plan may find in a pack, bytes: values are single numbers.
constexpr std::uint64_t kMaxValues = 1u << 16;

/// A function of NVIDIA's library, or null.
template <class... Arguments>
auto library_function(const char* name) {
  return reinterpret_cast<int (*)(Arguments...)>(avec_library_symbol(kCudnn, name));
}

struct Library {
  int (*create)(int, void**) = library_function<int, void**>("cudnnBackendCreateDescriptor");
  int (*destroy)(void*) = library_function<void*>("cudnnBackendDestroyDescriptor");
  int (*finalize)(void*) = library_function<void*>("cudnnBackendFinalize");
  int (*set)(void*, int, int, std::int64_t, const void*) =
      library_function<void*, int, int, std::int64_t, const void*>("cudnnBackendSetAttribute");
  int (*get)(const void*, int, int, std::int64_t, std::int64_t*, void*) =
      library_function<const void*, int, int, std::int64_t, std::int64_t*, void*>("cudnnBackendGetAttribute");
  int (*execute)(const void*, const void*, const void*) =
      library_function<const void*, const void*, const void*>("cudnnBackendExecute");
  bool good() const { return create && destroy && finalize && set && get && execute; }
};

const Library* library() {
  static const Library instance;
  return instance.good() ? &instance : nullptr;
}

/// Values that packs point to, by pack: they live as long as it.
struct Values {
  std::mutex mutex;  // plans are built on helper threads
  std::unordered_map<const void*, std::unique_ptr<std::byte[]>> by_pack;
};
Values& values() {
  static Values instance;
  return instance;
}

/// The addresses of an attribute, with those of values turned to where the values lie here.
int point(const RecipeReader::Attribute& attribute, std::vector<void*>& pointers, const void* pack) {
  pointers.resize(static_cast<std::size_t>(attribute.header.count));
  std::memcpy(pointers.data(), attribute.elements.data(), attribute.elements.size());
  if (attribute.values.empty()) return kSuccess;
  if (attribute.values.size() > kMaxValues) return kBadParam;
  auto kept = std::make_unique<std::byte[]>(attribute.values.size() + 16);
  std::byte* to = kept.get() + (-reinterpret_cast<std::uintptr_t>(kept.get()) & 15);
  std::memcpy(to, attribute.values.data(), attribute.values.size());
  for (std::size_t i = 0; i < pointers.size(); ++i) {
    std::uint64_t size;
    std::memcpy(&size, attribute.sizes.data() + i * sizeof size, sizeof size);
    if (size == 0) continue;
    pointers[i] = to;
    to += padded(size, 16);
  }
  std::scoped_lock lock(values().mutex);
  values().by_pack[pack] = std::move(kept);
  return kSuccess;
}

/// Objects of a recipe, taken in its order.
class Objects {
 public:
  Objects(const void* array, std::uint64_t count)
      : left_(static_cast<void* const*>(array), array == nullptr ? 0 : count) {}
  /// Null: there are not so many.
  void* const* take(std::int64_t count) {
    if (count < 0 || static_cast<std::uint64_t>(count) > left_.size()) return nullptr;
    void* const* taken = left_.data();
    left_ = left_.subspan(static_cast<std::size_t>(count));
    return taken;
  }

 private:
  std::span<void* const> left_;
};

int set_attributes(const Library& cudnn, void* descriptor, RecipeReader reader, Objects descriptors,
                   Objects handles) {
  while (!reader.done()) {
    const RecipeReader::Attribute attribute = reader.next();
    if (!reader.good()) return kBadParam;
    const auto [name, type, count] = attribute.header;
    std::vector<void*> pointers;
    const void* elements = attribute.elements.data();
    if (type == kTypeDescriptor || type == kTypeHandle) {
      elements = (type == kTypeHandle ? handles : descriptors).take(count);
      if (elements == nullptr) return kBadParam;
    } else if (type == kTypeVoidPtr) {
      if (const int status = point(attribute, pointers, descriptor); status != kSuccess) return status;
      elements = pointers.data();
    }
    if (const int status = cudnn.set(descriptor, name, type, count, elements); status != kSuccess)
      return status;
  }
  return kSuccess;
}

int release(const Library& cudnn, void* descriptor) {
  const int status = cudnn.destroy(descriptor);
  std::scoped_lock lock(values().mutex);
  values().by_pack.erase(descriptor);
  return status;
}

int build(const void* made, int type, const void* recipe, std::uint64_t bytes, Objects descriptors,
          Objects handles) {
  const Library* cudnn = library();
  if (cudnn == nullptr) return kNotInitialized;
  void* descriptor = nullptr;
  int status = cudnn->create(type, &descriptor);
  if (status != kSuccess) return status;
  const RecipeReader reader({static_cast<const std::byte*>(recipe), recipe == nullptr ? 0 : bytes});
  status = set_attributes(*cudnn, descriptor, reader, descriptors, handles);
  if (status == kSuccess) status = cudnn->finalize(descriptor);
  if (status != kSuccess) {
    release(*cudnn, descriptor);
    return status;
  }
  std::memcpy(const_cast<void*>(made), &descriptor, sizeof descriptor);
  return kSuccess;
}

struct ShapeFunctions {
  int (*create)(void**) = library_function<void**>("cudnnCreateTensorDescriptor");
  int (*destroy)(void*) = library_function<void*>("cudnnDestroyTensorDescriptor");
  int (*get)(void*, int, int*, int*, int*,
             int*) = library_function<void*, int, int*, int*, int*, int*>("cudnnGetTensorNdDescriptor");
  int (*weights)(const void*, const void*, std::int32_t, std::size_t, const void*, std::int32_t, void*,
                 void**, void*, void**) =
      library_function<const void*, const void*, std::int32_t, std::size_t, const void*, std::int32_t, void*,
                       void**, void*, void**>("cudnnGetRNNWeightParams");
  bool good() const { return create && destroy && get && weights; }
};

}  // namespace

extern "C" {

int avecCudnnVersions(const void* out) {
  auto* const versions = static_cast<std::uint64_t*>(const_cast<void*>(out));
  constexpr std::array kNames{"cudnnGetVersion", "cudnnGetCudartVersion", "cudnnGetMaxDeviceVersion"};
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    const auto function = reinterpret_cast<std::size_t (*)()>(avec_library_symbol(kCudnn, kNames[i]));
    versions[i] = function == nullptr ? 0 : function();
  }
  return versions[0] == 0 ? kNotInitialized : kSuccess;
}

int avecCudnnLastError(const void* message, std::uint64_t length) {
  const auto function =
      reinterpret_cast<void (*)(char*, std::size_t)>(avec_library_symbol(kCudnn, "cudnnGetLastErrorString"));
  if (function == nullptr || message == nullptr || length == 0) return kNotSupported;
  function(static_cast<char*>(const_cast<void*>(message)), length);
  return kSuccess;
}

int avecCudnnBuild(const void* made, std::int32_t type, const void* recipe, std::uint64_t bytes,
                   const void* descriptors, std::uint64_t descriptor_count, const void* handles,
                   std::uint64_t handle_count) {
  return build(made, type, recipe, bytes, {descriptors, descriptor_count}, {handles, handle_count});
}
int avecCudnnBuildLong(const void* made, std::int32_t type, const void* recipe, std::uint64_t bytes,
                       const void* descriptors, std::uint64_t descriptor_count, const void* handles,
                       std::uint64_t handle_count) {
  return build(made, type, recipe, bytes, {descriptors, descriptor_count}, {handles, handle_count});
}
int avecCudnnPack(const void* made, std::int32_t type, const void* recipe, std::uint64_t bytes,
                  const void* descriptors, std::uint64_t descriptor_count, const void* handles,
                  std::uint64_t handle_count) {
  return build(made, type, recipe, bytes, {descriptors, descriptor_count}, {handles, handle_count});
}

int avecCudnnGet(const void* descriptor, std::int32_t name, std::int32_t type, std::int64_t requested,
                 const void* count, const void* elements, std::uint64_t bytes) {
  const Library* cudnn = library();
  const std::uint64_t each = attribute_bytes(type);
  if (cudnn == nullptr) return kNotInitialized;
  if (each == 0 || requested < 0 || static_cast<std::uint64_t>(requested) > bytes / each) return kBadParam;
  return cudnn->get(descriptor, name, type, requested, static_cast<std::int64_t*>(const_cast<void*>(count)),
                    requested == 0 ? nullptr : const_cast<void*>(elements));
}

int avecCudnnGetDescriptors(const void* descriptor, std::int32_t name, std::int32_t element_type,
                            std::int64_t requested, const void* count, const void* elements) {
  const Library* cudnn = library();
  if (cudnn == nullptr) return kNotInitialized;
  auto* const made = static_cast<void**>(const_cast<void*>(elements));
  int status = kSuccess;
  std::int64_t ready = 0;
  for (; ready < requested && status == kSuccess; ++ready) status = cudnn->create(element_type, made + ready);
  if (status != kSuccess) --ready;
  if (status == kSuccess)
    status = cudnn->get(descriptor, name, kTypeDescriptor, requested,
                        static_cast<std::int64_t*>(const_cast<void*>(count)), made);
  for (std::int64_t i = 0; status != kSuccess && i < ready; ++i) cudnn->destroy(made[i]);
  return status;
}

int avecCudnnRelease(const void* descriptor) {
  const Library* cudnn = library();
  return cudnn == nullptr ? kNotInitialized : release(*cudnn, const_cast<void*>(descriptor));
}

int avecCudnnTry(const void* handle, const void* plan, const void* pack) {
  const Library* cudnn = library();
  return cudnn == nullptr ? kNotInitialized : cudnn->execute(handle, plan, pack);
}
int avecCudnnExecute(const void* handle, const void* plan, const void* pack) {
  return avecCudnnTry(handle, plan, pack);
}

int avecCudnnWeightParams(const void* handle, const void* rnn, std::int32_t layer, std::uint64_t bytes,
                          std::int32_t linear, const void* offsets, const void* shapes) {
  const ShapeFunctions cudnn;
  if (!cudnn.good()) return kNotInitialized;
  // Only differences count: the library computes addresses and touches none.
  char* const base = reinterpret_cast<char*>(std::uintptr_t{1} << 40);
  std::array<void*, 2> tensors{}, addresses{};
  int status = cudnn.create(&tensors[0]);
  if (status == kSuccess) status = cudnn.create(&tensors[1]);
  if (status == kSuccess)
    status = cudnn.weights(handle, rnn, layer, bytes, base, linear, tensors[0], &addresses[0], tensors[1],
                           &addresses[1]);
  for (std::size_t i = 0; i < tensors.size() && status == kSuccess; ++i) {
    const std::int64_t offset = addresses[i] == nullptr ? -1 : static_cast<char*>(addresses[i]) - base;
    std::array<std::int32_t, kCudnnShapeWords> shape{};
    if (offset >= 0)
      status = cudnn.get(tensors[i], kCudnnShapeDims, &shape[0], &shape[1], &shape[2],
                         &shape[2 + kCudnnShapeDims]);
    std::memcpy(static_cast<std::byte*>(const_cast<void*>(offsets)) + i * sizeof offset, &offset,
                sizeof offset);
    std::memcpy(static_cast<std::byte*>(const_cast<void*>(shapes)) + i * sizeof shape, shape.data(),
                sizeof shape);
  }
  for (void* tensor : tensors)
    if (tensor != nullptr) cudnn.destroy(tensor);
  return status;
}

}  // extern "C"
