#include "intercept/libraries/cudnn_values.h"

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <unordered_map>
#include <utility>

#include "intercept/libraries/cudnn.h"
#include "intercept/libraries/cudnn_shim.h"

namespace avec::libraries::cudnn {
namespace {

using client::find_library_object;
using client::LibraryObject;
using client::ObjectKind;

/// Descriptors kept on the executor while no descriptor of the program has their content.
constexpr std::size_t kKept = 8192;

class Values {
 public:
  using Create = int (*)(void*);
  using Destroy = int (*)(const void*);
  Values(ObjectKind kind, Create create, Destroy destroy) : kind_(kind), create_(create), destroy_(destroy) {}

  int create(void** out) {
    if (out == nullptr) return kBadParam;
    LibraryObject* made = client::make_library_object(kind_);
    if (made == nullptr) return kAllocFailed;
    *out = made;
    return kSuccess;
  }

  int destroy(const void* descriptor) {
    LibraryObject* object = find_library_object(descriptor, kind_);
    if (object == nullptr) return kBadParam;
    std::scoped_lock lock(mutex_);
    used_.erase(descriptor);
    client::end_library_object(object);
    return kSuccess;
  }

  /// `apply` sets a new descriptor of the executor's to this content.
  template <class Apply>
  int set(const void* descriptor, const std::string& content, std::int32_t type, std::int64_t second,
          Apply&& apply) {
    LibraryObject* object = find_library_object(descriptor, kind_);
    if (object == nullptr) return kBadParam;
    std::unique_lock lock(mutex_);
    if (const auto at = by_content_.find(content); at != by_content_.end()) {
      order_.splice(order_.begin(), order_, at->second);
      use(*object, descriptor, at->second->second);
      return cudnn_note_type(object, type, second);
    }
    lock.unlock();
    auto made = make();
    if (made == nullptr) return kNotInitialized;
    if (const int status = apply(made->remote); status != kSuccess) return status;
    lock.lock();
    use(*object, descriptor, made);
    order_.emplace_front(content, std::move(made));
    if (!by_content_.try_emplace(content, order_.begin()).second)
      order_.pop_front();  // another thread's was first
    if (order_.size() > kKept) {
      by_content_.erase(order_.back().first);
      order_.pop_back();
    }
    return cudnn_note_type(object, type, second);
  }

  int own(const void* descriptor) {
    LibraryObject* object = find_library_object(descriptor, kind_);
    if (object == nullptr) return kBadParam;
    auto made = make();
    if (made == nullptr) return kNotInitialized;
    std::scoped_lock lock(mutex_);
    use(*object, descriptor, made);
    return kSuccess;
  }

 private:
  /// One on the executor; ends with the last that names it.
  struct Shared {
    explicit Shared(Destroy end) : destroy(end) {}
    Shared(const Shared&) = delete;
    Shared& operator=(const Shared&) = delete;
    ~Shared() {
      if (remote != nullptr) destroy(remote);
    }
    Destroy destroy;
    void* remote = nullptr;
  };
  using SharedPtr = std::shared_ptr<Shared>;

  SharedPtr make() {
    auto made = std::make_shared<Shared>(destroy_);
    return create_(&made->remote) == kSuccess ? made : nullptr;
  }

  /// With mutex_ held.
  void use(LibraryObject& object, const void* descriptor, const SharedPtr& shared) {
    const LibraryObject* remote = find_library_object(shared->remote, kind_);
    if (remote == nullptr) return;
    object.name = remote->name;
    object.parts = remote->parts;
    object.content.store(remote->content.load(std::memory_order_relaxed), std::memory_order_relaxed);
    used_[descriptor] = shared;
  }

  const ObjectKind kind_;
  const Create create_;
  const Destroy destroy_;
  std::mutex mutex_;  ///< guards what follows
  using Order = std::list<std::pair<std::string, SharedPtr>>;
  Order order_;  ///< latest first
  std::unordered_map<std::string, Order::iterator> by_content_;
  std::unordered_map<const void*, SharedPtr> used_;  ///< by the program's descriptors
};

Values& tensors() {
  static Values& instance = *new Values(kCudnnTensor, &avecCudnnCreateTensor, &avecCudnnDestroyTensor);
  return instance;
}
Values& filters() {
  static Values& instance = *new Values(kCudnnFilter, &avecCudnnCreateFilter, &avecCudnnDestroyFilter);
  return instance;
}

/// The arguments of a function as text.
class Content {
 public:
  explicit Content(char function) : text_(1, function) {}
  template <class... Numbers>
  Content& add(Numbers... numbers) {
    (text_.append(reinterpret_cast<const char*>(&numbers), sizeof numbers), ...);
    return *this;
  }
  Content& add_array(const std::int32_t* numbers, std::int32_t count) {
    if (numbers != nullptr)
      text_.append(reinterpret_cast<const char*>(numbers),
                   static_cast<std::size_t>(cudnn_dims(count)) * sizeof *numbers);
    return *this;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

template <class Body>
int guarded(Body&& body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return kAllocFailed;
  } catch (...) {
    return kInternalError;
  }
}

std::int64_t second_of(const std::int32_t* dims, std::int32_t count) { return count > 1 ? dims[1] : 0; }

}  // namespace

int own_tensor(const void* tensor) noexcept {
  return guarded([&] { return tensors().own(tensor); });
}
int own_filter(const void* filter) noexcept {
  return guarded([&] { return filters().own(filter); });
}

}  // namespace avec::libraries::cudnn

using namespace avec::libraries;
using namespace avec::libraries::cudnn;

extern "C" {

int cudnnCreateTensorDescriptor(void** tensor) {
  return guarded([&] { return tensors().create(tensor); });
}
int cudnnDestroyTensorDescriptor(const void* tensor) {
  return guarded([&] { return tensors().destroy(tensor); });
}
int cudnnSetTensor4dDescriptor(const void* tensor, std::int32_t format, std::int32_t type, std::int32_t n,
                               std::int32_t c, std::int32_t h, std::int32_t w) {
  return guarded([&] {
    return tensors().set(tensor, Content('a').add(format, type, n, c, h, w).text(), type, c,
                         [&](const void* to) { return avecCudnnSetTensor4d(to, format, type, n, c, h, w); });
  });
}
int cudnnSetTensor4dDescriptorEx(const void* tensor, std::int32_t type, std::int32_t n, std::int32_t c,
                                 std::int32_t h, std::int32_t w, std::int32_t n_stride, std::int32_t c_stride,
                                 std::int32_t h_stride, std::int32_t w_stride) {
  return guarded([&] {
    const Content content = Content('b').add(type, n, c, h, w, n_stride, c_stride, h_stride, w_stride);
    return tensors().set(tensor, content.text(), type, c, [&](const void* to) {
      return avecCudnnSetTensor4dStrides(to, type, n, c, h, w, n_stride, c_stride, h_stride, w_stride);
    });
  });
}
int cudnnSetTensorNdDescriptor(const void* tensor, std::int32_t type, std::int32_t count,
                               const std::int32_t* dims, const std::int32_t* strides) {
  if (dims == nullptr || strides == nullptr) return kBadParam;
  return guarded([&] {
    const Content content = Content('c').add(type, count).add_array(dims, count).add_array(strides, count);
    return tensors().set(tensor, content.text(), type, second_of(dims, count), [&](const void* to) {
      return avecCudnnSetTensorNd(to, type, count, dims, strides);
    });
  });
}
int cudnnSetTensorNdDescriptorEx(const void* tensor, std::int32_t format, std::int32_t type,
                                 std::int32_t count, const std::int32_t* dims) {
  if (dims == nullptr) return kBadParam;
  return guarded([&] {
    const Content content = Content('d').add(format, type, count).add_array(dims, count);
    return tensors().set(tensor, content.text(), type, second_of(dims, count), [&](const void* to) {
      return avecCudnnSetTensorNdFormat(to, format, type, count, dims);
    });
  });
}

int cudnnCreateFilterDescriptor(void** filter) {
  return guarded([&] { return filters().create(filter); });
}
int cudnnDestroyFilterDescriptor(const void* filter) {
  return guarded([&] { return filters().destroy(filter); });
}
int cudnnSetFilter4dDescriptor(const void* filter, std::int32_t type, std::int32_t format, std::int32_t k,
                               std::int32_t c, std::int32_t h, std::int32_t w) {
  return guarded([&] {
    return filters().set(filter, Content('a').add(type, format, k, c, h, w).text(), type, 0,
                         [&](const void* to) { return avecCudnnSetFilter4d(to, type, format, k, c, h, w); });
  });
}
int cudnnSetFilterNdDescriptor(const void* filter, std::int32_t type, std::int32_t format, std::int32_t count,
                               const std::int32_t* dims) {
  if (dims == nullptr) return kBadParam;
  return guarded([&] {
    const Content content = Content('b').add(type, format, count).add_array(dims, count);
    return filters().set(filter, content.text(), type, 0,
                         [&](const void* to) { return avecCudnnSetFilterNd(to, type, format, count, dims); });
  });
}

}  // extern "C"
