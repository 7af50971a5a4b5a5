#include "intercept/libraries/cudnn_graph.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace avec::libraries::cudnn {
namespace {

/// Types of descriptors that a cuDNN 9 may have: 9.19 has 44.
constexpr int kLastDescriptorType = 255;
/// The most that a tensor passed by value may hold, bytes: it is one number.
constexpr std::uint64_t kMaxValueBytes = 64;
/// Descriptors that one question may ask for: cuDNN's heuristics have some dozens of results.
constexpr std::int64_t kMaxRequested = 4096;

template <class T>
void append(std::string& text, const T& value) {
  text.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <class T>
T element(std::span<const std::byte> bytes, std::size_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof value, sizeof value);
  return value;
}

/// Bytes of a value of unknown type at an address: as many as its alignment shows to be readable.
std::uint64_t aligned_bytes(const void* address) {
  const auto low = reinterpret_cast<std::uintptr_t>(address) & 7;
  return low == 0 ? 8 : low & (~low + 1);
}

}  // namespace

GraphApi::SharedPtr GraphApi::Store::find(const std::string& content) {
  const auto at = by_content_.find(content);
  if (at == by_content_.end()) return nullptr;
  order_.splice(order_.begin(), order_, at->second);
  return at->second->second;
}

std::vector<GraphApi::SharedPtr> GraphApi::Store::keep(const std::string& content, SharedPtr shared,
                                                       std::size_t limit) {
  std::vector<SharedPtr> gone;
  order_.emplace_front(content, std::move(shared));
  by_content_.insert_or_assign(content, order_.begin());
  while (order_.size() > limit) {
    gone.push_back(std::move(order_.back().second));
    if (const auto at = by_content_.find(order_.back().first);
        at != by_content_.end() && at->second == std::prev(order_.end()))
      by_content_.erase(at);
    order_.pop_back();
  }
  return gone;
}

GraphApi::DescriptorPtr GraphApi::find(const void* descriptor) {
  const auto at = descriptors_.find(descriptor);
  return at == descriptors_.end() ? nullptr : at->second;
}

const GraphApi::Attribute* GraphApi::attribute(const Descriptor& descriptor, int name) {
  const auto at = std::ranges::find(descriptor.attributes, name, &Attribute::name);
  return at == descriptor.attributes.end() ? nullptr : &*at;
}

int GraphApi::create(int type, void** descriptor) {
  if (descriptor == nullptr) return kNullPointer;
  if (type < 0 || type > kLastDescriptorType) return kAllocFailed;
  auto made = std::make_shared<Descriptor>();
  made->type = type;
  std::scoped_lock lock(mutex_);
  *descriptor = made.get();
  descriptors_.emplace(made.get(), std::move(made));
  return kSuccess;
}

int GraphApi::destroy(void* descriptor) {
  DescriptorPtr gone;  // released outside of the lock
  std::scoped_lock lock(mutex_);
  const auto at = descriptors_.find(descriptor);
  if (at == descriptors_.end()) return kBadParam;
  gone = std::move(at->second);
  descriptors_.erase(at);
  return kSuccess;
}

int GraphApi::set(void* descriptor, int name, int type, std::int64_t count, const void* elements) {
  const std::uint64_t each = attribute_bytes(type);
  if (each == 0) return kWrongAttributeType;
  if (elements == nullptr || count <= 0 || static_cast<std::uint64_t>(count) > kMaxAttributeBytes / each)
    return kBadParam;
  // Arrays of the program's C++ library lie behind these pointers: not part of a C interface.
  if (name == kPackOverrideShapes || name == kPackOverrideStrides) return kNotSupported;
  std::scoped_lock lock(mutex_);
  const DescriptorPtr found = find(descriptor);
  if (found == nullptr || found->finalized) return kBadParam;
  const auto* from = static_cast<const std::byte*>(elements);
  Attribute attribute{name, type, count, {from, from + static_cast<std::uint64_t>(count) * each}, {}};
  if (type == kTypeDescriptor) {
    for (std::int64_t i = 0; i < count; ++i) {
      const DescriptorPtr part = find(element<void*>(attribute.elements, static_cast<std::size_t>(i)));
      if (part == nullptr) return kBadParam;
      if (part->shared == nullptr) return kBadParam;
      attribute.descriptors.push_back(part->shared);
    }
  }
  std::erase_if(found->attributes, [&](const Attribute& old) {
    if (old.name == name) found->bytes -= old.elements.size();
    return old.name == name;
  });
  if (found->bytes + attribute.elements.size() > kMaxAttributeBytes) return kAllocFailed;
  found->bytes += attribute.elements.size();
  found->attributes.push_back(std::move(attribute));
  return kSuccess;
}

std::string GraphApi::content_of(const Descriptor& descriptor) {
  std::string text;
  text.reserve(32 + descriptor.attributes.size() * 16 + descriptor.bytes);
  append(text, descriptor.type);
  append(text, remote_.place());
  // What plans add to a cache of kernels changes it: each is one of its own.
  if (descriptor.type == kKernelCache) append(text, next_++);
  for (const Attribute& attribute : descriptor.attributes) {
    append(text, attribute.name);
    append(text, attribute.type);
    append(text, attribute.count);
    if (attribute.type == kTypeDescriptor) {
      for (const SharedPtr& part : attribute.descriptors) append(text, part->id);
    } else if (attribute.type == kTypeHandle) {
      for (std::int64_t i = 0; i < attribute.count; ++i) {
        const auto handle = element<const void*>(attribute.elements, static_cast<std::size_t>(i));
        const auto [at, fresh] = handles_.try_emplace(handle, next_);
        if (fresh) ++next_;
        append(text, at->second);
      }
    } else {
      text.append(reinterpret_cast<const char*>(attribute.elements.data()), attribute.elements.size());
    }
  }
  return text;
}

/// The tensors passed by value: itself, or those of its parts.
void GraphApi::note_values(const Descriptor& descriptor, Shared& shared) {
  for (const Attribute& attribute : descriptor.attributes) {
    if (attribute.name == kPlanJson && descriptor.type == kExecutionPlan) shared.unknown_values = true;
    for (const SharedPtr& part : attribute.descriptors) {
      shared.parts.push_back(part);
      shared.unknown_values = shared.unknown_values || part->unknown_values;
      for (const Value& value : part->values)
        if (std::ranges::find(shared.values, value.uid, &Value::uid) == shared.values.end())
          shared.values.push_back(value);
    }
  }
  if (descriptor.type != kTensor) return;
  const Attribute* by_value = attribute(descriptor, kTensorByValue);
  const Attribute* uid = attribute(descriptor, kTensorUniqueId);
  const Attribute* type = attribute(descriptor, kTensorDataType);
  if (by_value == nullptr || uid == nullptr || type == nullptr || uid->elements.size() < 8 ||
      type->elements.size() < 4 || by_value->elements.empty() || by_value->elements[0] == std::byte{0})
    return;
  std::uint64_t bytes = std::max<std::uint64_t>(cudnn_type_bytes(element<int>(type->elements, 0)), 1);
  if (const Attribute* dims = attribute(descriptor, kTensorDimensions);
      dims != nullptr && dims->type == kTypeInt64) {
    for (std::int64_t i = 0; i < dims->count; ++i) {
      const auto size = element<std::int64_t>(dims->elements, static_cast<std::size_t>(i));
      bytes =
          std::min(bytes * static_cast<std::uint64_t>(std::clamp<std::int64_t>(size, 1, 64)), kMaxValueBytes);
    }
  }
  shared.values.push_back({element<std::int64_t>(uid->elements, 0), bytes});
}

GraphRemote::Recipe GraphApi::recipe_of(const Descriptor& descriptor, std::span<const std::uint64_t> sizes) {
  GraphRemote::Recipe recipe{descriptor.type, {}, {}, {}};
  RecipeWriter writer;
  for (const Attribute& attribute : descriptor.attributes) {
    writer.attribute(attribute.name, attribute.type, attribute.count, attribute.elements);
    const auto count = static_cast<std::size_t>(attribute.count);
    for (const SharedPtr& part : attribute.descriptors) recipe.descriptors.push_back(part->object);
    for (std::size_t i = 0; attribute.type == kTypeHandle && i < count; ++i)
      recipe.handles.push_back(element<void*>(attribute.elements, i));
    if (attribute.type != kTypeVoidPtr) continue;
    std::vector<const void*> pointers(count);
    std::memcpy(pointers.data(), attribute.elements.data(), attribute.elements.size());
    if (attribute.name == kPackDataPointers && sizes.size() == count) {
      writer.values(sizes, pointers);
    } else {
      writer.values(std::vector<std::uint64_t>(count, 0), pointers);
    }
  }
  recipe.bytes = writer.bytes();
  return recipe;
}

int GraphApi::finalize(void* descriptor) {
  std::unique_lock lock(mutex_);
  const DescriptorPtr found = find(descriptor);
  if (found == nullptr || found->finalized) return kBadParam;
  std::string content = content_of(*found);
  if (found->type == kVariantPack) {
    found->content = std::move(content);
    found->finalized = true;
    return kSuccess;
  }
  if (const SharedPtr known = built_.find(content); known != nullptr) {
    if (known->status != kSuccess) return known->status;
    found->shared = known;
    found->finalized = true;
    return kSuccess;
  }
  const GraphRemote::Recipe recipe = recipe_of(*found, {});
  auto shared = std::make_shared<Shared>(remote_, found->type);
  note_values(*found, *shared);
  lock.unlock();
  shared->status = remote_.build(recipe, true, shared->object);
  std::vector<SharedPtr> gone;  // released after the lock
  lock.lock();
  shared->id = next_++;
  const bool done = shared->status == kSuccess;
  // Memory may come back, and what failed inside may work again: only a clear no is remembered.
  if (done || (shared->status >= kNotSupported && shared->status < kNotSupportedEnd))
    gone = built_.keep(content, shared, kKeptDescriptors);
  const int status = shared->status;
  if (done) {
    found->shared = std::move(shared);
    found->finalized = true;
  }
  lock.unlock();
  return status;
}

int GraphApi::set_attribute_of(const Descriptor& descriptor, int name, int type, std::int64_t requested,
                               std::int64_t* count, void* elements) {
  const Attribute* found = attribute(descriptor, name);
  if (found == nullptr) return kBadParam;
  if (found->type != type) return kWrongAttributeType;
  if (count != nullptr) *count = found->count;
  const std::int64_t given = std::min(found->count, requested);
  if (elements != nullptr && given > 0)
    std::memcpy(elements, found->elements.data(), static_cast<std::size_t>(given) * attribute_bytes(type));
  return kSuccess;
}

int GraphApi::give(const Answer& answer, const Question& question, std::int64_t* count, void* elements) {
  if (answer.status != kSuccess) return answer.status;
  const auto [name, type, requested, element_type] = question;
  if (count != nullptr) *count = answer.count;
  const std::int64_t given = std::min(answer.count, requested);
  if (elements == nullptr || given <= 0) return kSuccess;
  if (element_type < 0) {
    std::memcpy(elements, answer.elements.data(), static_cast<std::size_t>(given) * attribute_bytes(type));
    return kSuccess;
  }
  for (std::int64_t i = 0; i < given; ++i) {
    const DescriptorPtr target = find(static_cast<void**>(elements)[i]);
    if (target == nullptr) return kBadParam;
    target->attributes.clear();
    target->bytes = 0;
    target->shared = answer.descriptors[static_cast<std::size_t>(i)];
    target->finalized = true;
  }
  return kSuccess;
}

/// Without the lock.
int GraphApi::ask(Shared& shared, const Question& question, Answer& answer) {
  const auto [name, type, requested, element_type] = question;
  if (element_type < 0) {
    answer.elements.resize(static_cast<std::size_t>(requested) * attribute_bytes(type));
    return answer.status = remote_.get(shared.object, name, type, requested, answer.count, answer.elements);
  }
  std::vector<void*> objects(static_cast<std::size_t>(requested));
  answer.status = remote_.get_descriptors(shared.object, name, element_type, answer.count, objects);
  if (answer.status != kSuccess) return answer.status;
  for (std::size_t i = 0; i < objects.size(); ++i) {
    if (static_cast<std::int64_t>(i) >= answer.count) {
      remote_.release(objects[i]);
      continue;
    }
    auto part = std::make_shared<Shared>(remote_, element_type);
    part->object = objects[i];
    part->values = shared.values;
    part->unknown_values = shared.unknown_values;
    answer.descriptors.push_back(std::move(part));
  }
  return answer.status;
}

int GraphApi::get(void* descriptor, int name, int type, std::int64_t requested, std::int64_t* count,
                  void* elements) {
  const std::uint64_t each = attribute_bytes(type);
  if (each == 0) return kWrongAttributeType;
  if (requested < 0 || static_cast<std::uint64_t>(requested) > kMaxAttributeBytes / each) return kBadParam;
  if (elements == nullptr) requested = 0;
  std::unique_lock lock(mutex_);
  const DescriptorPtr found = find(descriptor);
  if (found == nullptr) return kBadParam;
  if (!found->finalized) return kNotInitialized;
  if (found->shared == nullptr) return set_attribute_of(*found, name, type, requested, count, elements);
  Question question{name, type, requested, -1};
  if (type == kTypeDescriptor && requested > 0) {
    if (requested > kMaxRequested) return kBadParam;
    for (std::int64_t i = 0; i < requested; ++i) {
      const DescriptorPtr target = find(static_cast<void**>(elements)[i]);
      if (target == nullptr || target->finalized) return kBadParam;
      std::get<3>(question) = target->type;
    }
  }
  const SharedPtr shared = found->shared;
  if (const auto known = shared->answers.find(question); known != shared->answers.end())
    return give(known->second, question, count, elements);
  lock.unlock();
  Answer answer{};
  ask(*shared, question, answer);
  lock.lock();
  for (const SharedPtr& part : answer.descriptors) part->id = next_++;
  const int status = give(answer, question, count, elements);
  if (shared->type != kKernelCache && answer.status < kInternalError)
    shared->answers.try_emplace(question, std::move(answer));
  return status;
}

std::vector<std::uint64_t> GraphApi::value_sizes(const Descriptor& pack, const Shared& plan) {
  const Attribute* uids = attribute(pack, kPackUniqueIds);
  const Attribute* pointers = attribute(pack, kPackDataPointers);
  if (uids == nullptr || pointers == nullptr || uids->count != pointers->count || uids->type != kTypeInt64 ||
      pointers->type != kTypeVoidPtr || (plan.values.empty() && !plan.unknown_values))
    return {};
  std::vector<std::uint64_t> sizes(static_cast<std::size_t>(uids->count), 0);
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const auto* pointer = element<const void*>(pointers->elements, i);
    if (pointer == nullptr) continue;
    const auto value = std::ranges::find(plan.values, element<std::int64_t>(uids->elements, i), &Value::uid);
    if (value != plan.values.end()) {
      sizes[i] = value->bytes;
    } else if (plan.unknown_values && remote_.host_only(pointer)) {
      sizes[i] = aligned_bytes(pointer);
    }
  }
  return sizes;
}

int GraphApi::pack_for(const Descriptor& pack, const Shared& plan, SharedPtr& built) {
  const std::vector<std::uint64_t> sizes = value_sizes(pack, plan);
  std::string content = pack.content;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == 0) continue;
    append(content, i);
    content.append(element<const char*>(attribute(pack, kPackDataPointers)->elements, i), sizes[i]);
  }
  built = packs_.find(content);
  if (built != nullptr) return kSuccess;
  built = std::make_shared<Shared>(remote_, kVariantPack);
  if (const int status = remote_.build(recipe_of(pack, sizes), false, built->object); status != kSuccess)
    return status;
  built->id = next_++;
  packs_.keep(content, built, kept_packs_);
  return kSuccess;
}

int GraphApi::execute(void* handle, void* plan, void* pack) {
  SharedPtr built, shared;  // released outside of the lock
  std::unique_lock lock(mutex_);
  const DescriptorPtr plan_found = find(plan);
  const DescriptorPtr pack_found = find(pack);
  if (plan_found == nullptr || pack_found == nullptr || pack_found->type != kVariantPack) return kBadParam;
  if (plan_found->shared == nullptr || !pack_found->finalized) return kBadParam;
  shared = plan_found->shared;
  if (shared->type != kExecutionPlan) return kBadParam;
  if (const int status = pack_for(*pack_found, *shared, built); status != kSuccess) return status;
  const bool wait = !shared->executed;
  lock.unlock();
  const int status = remote_.execute(handle, shared->object, built->object, wait);
  if (!wait || status != kSuccess) return status;
  lock.lock();
  shared->executed = true;
  lock.unlock();
  return status;
}

void GraphApi::forget_handle(const void* handle) {
  std::scoped_lock lock(mutex_);
  handles_.erase(handle);
}

}  // namespace avec::libraries::cudnn
