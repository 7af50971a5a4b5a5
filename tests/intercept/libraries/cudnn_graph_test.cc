#include "intercept/libraries/cudnn_graph.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "support/catch.h"

namespace avec::libraries::cudnn {
namespace {

constexpr int kConvolutionOperation = 10, kGraph = 15, kEngineConfig = 3;
constexpr int kGraphOps = 801, kHeuristicsGraph = 201, kHeuristicsResults = 202, kPlanConfig = 401,
              kPlanWorkspace = 402;
constexpr int kFloat = 0, kDouble = 1;

/// Keeps what it was asked; answers what the test says.
class FakeRemote : public GraphRemote {
 public:
  int build(const Recipe& recipe, bool wait, void*& object) override {
    ++(wait ? waits : posts);
    recipes.push_back(recipe);
    if (build_status != kSuccess) return build_status;
    object = make();
    return kSuccess;
  }
  int get(void*, int, int type, std::int64_t requested, std::int64_t& count,
          std::span<std::byte> elements) override {
    ++waits;
    count = answer_count;
    std::fill(elements.begin(), elements.end(), std::byte{0});
    CHECK(elements.size() == static_cast<std::uint64_t>(requested) * attribute_bytes(type));
    if (!elements.empty()) elements[0] = std::byte{42};
    return get_status;
  }
  int get_descriptors(void*, int, int element_type, std::int64_t& count, std::span<void*> elements) override {
    ++waits;
    last_element_type = element_type;
    count = answer_count;
    for (void*& one : elements) one = make();
    return kSuccess;
  }
  int execute(void* handle, void* plan, void* pack, bool wait) override {
    ++(wait ? waits : posts);
    executed.push_back({handle, plan, pack});
    return execute_status;
  }
  void release(void* object) override { CHECK(live.erase(object) == 1u); }
  std::uint64_t place() override { return current_place; }
  bool host_only(const void*) override { return host; }

  struct Execution {
    void *handle, *plan, *pack;
  };
  int waits = 0, posts = 0;
  int build_status = kSuccess, get_status = kSuccess, execute_status = kSuccess, last_element_type = -1;
  std::int64_t answer_count = 1;
  std::uint64_t current_place = 1;
  bool host = true;
  std::vector<Recipe> recipes;
  std::vector<Execution> executed;
  std::set<void*> live;

 private:
  void* make() {
    void* object = reinterpret_cast<void*>(next_ += 16);
    live.insert(object);
    return object;
  }
  std::uintptr_t next_ = 0x1000;
};

class CudnnGraph {
 public:
  void* create(int type) {
    void* made = nullptr;
    CHECK(api.create(type, &made) == kSuccess);
    return made;
  }
  template <class T>
  void set(void* descriptor, int name, int type, std::vector<T> values) {
    REQUIRE(api.set(descriptor, name, type, static_cast<std::int64_t>(values.size()), values.data()) ==
            kSuccess);
  }
  void* tensor(std::int64_t uid, std::int64_t size, bool by_value = false, int type = kFloat) {
    void* made = create(kTensor);
    set<int>(made, kTensorDataType, 1, {type});
    set<std::int64_t>(made, kTensorDimensions, kTypeInt64, {1, size, 1, 1});
    set<std::int64_t>(made, kTensorUniqueId, kTypeInt64, {uid});
    set<char>(made, kTensorByValue, 2, {static_cast<char>(by_value)});
    CHECK(api.finalize(made) == kSuccess);
    return made;
  }
  void* owner(int type, int name, std::vector<void*> parts) {
    void* made = create(type);
    set<void*>(made, name, kTypeDescriptor, parts);
    CHECK(api.finalize(made) == kSuccess);
    return made;
  }
  /// Everything of a plan over one tensor, as frontends make it.
  void* plan(std::int64_t size, bool by_value = false, int type = kFloat) {
    void* graph = owner(kGraph, kGraphOps,
                        {owner(kConvolutionOperation, 704, {tensor(1, size), tensor(2, 1, by_value, type)})});
    void* heuristics = owner(kEngineHeuristics, kHeuristicsGraph, {graph});
    void* config = create(kEngineConfig);
    std::int64_t count = 0;
    CHECK(api.get(heuristics, kHeuristicsResults, kTypeDescriptor, 1, &count, &config) == kSuccess);
    return owner(kExecutionPlan, kPlanConfig, {config});
  }
  void* pack(std::vector<const void*> pointers) {
    void* made = create(kVariantPack);
    set<const void*>(made, kPackDataPointers, kTypeVoidPtr, pointers);
    set<std::int64_t>(made, kPackUniqueIds, kTypeInt64, {1, 2});
    CHECK(api.finalize(made) == kSuccess);
    return made;
  }
  std::uint64_t packed_double(const GraphRemote::Recipe& recipe) {
    RecipeReader reader(recipe.bytes);
    while (!reader.done()) {
      const auto attribute = reader.next();
      CHECK(reader.good());
      if (!reader.good() || attribute.header.name != kPackDataPointers) continue;
      std::uint64_t bits = 0;
      std::memcpy(&bits, attribute.values.data(), std::min<std::size_t>(8, attribute.values.size()));
      return attribute.values.empty() ? 0 : bits;
    }
    return 0;
  }

  FakeRemote remote;
  GraphApi api{remote, 2};
  void* const handle = reinterpret_cast<void*>(0x77);
};

TEST_CASE_METHOD(CudnnGraph, "cuDNN graph: a descriptor is built in one call") {
  tensor(1, 8);
  CHECK(remote.waits == 1);
  REQUIRE(remote.recipes.size() == 1u);
  RecipeReader reader(remote.recipes[0].bytes);
  std::vector<int> names;
  while (!reader.done() && reader.good()) names.push_back(reader.next().header.name);
  CHECK(reader.good());
  CHECK(names == (std::vector<int>{kTensorDataType, kTensorDimensions, kTensorUniqueId, kTensorByValue}));
}

TEST_CASE_METHOD(CudnnGraph, "cuDNN graph: a plan built again costs nothing") {
  plan(8);
  const int waits = remote.waits;
  plan(8);
  CHECK(remote.waits == waits);
  CHECK(remote.posts == 0);
  plan(9);
  CHECK(remote.waits > waits);
}

TEST_CASE_METHOD(CudnnGraph, "cuDNN graph: descriptors of another context are built again") {
  tensor(1, 8);
  remote.current_place = 2;
  tensor(1, 8);
  CHECK(remote.waits == 2);
}

TEST_CASE_METHOD(CudnnGraph,
                 "cuDNN graph: executions but the first are posted and name a pack that is there") {
  void* const ready = plan(8);
  const int before = remote.waits;
  const std::vector<const void*> pointers{reinterpret_cast<void*>(0x10000), reinterpret_cast<void*>(0x20000)};
  for (int i = 0; i < 5; ++i) {
    void* const one = pack(pointers);
    CHECK(api.execute(handle, ready, one) == kSuccess);
    CHECK(api.destroy(one) == kSuccess);
  }
  CHECK(remote.waits == before + 1);  // the first execution
  CHECK(remote.posts == 1 + 4);       // one pack, four executions
  CHECK(remote.executed[4].pack == remote.executed[0].pack);
}

TEST_CASE_METHOD(CudnnGraph, "cuDNN graph: a failed first execution is told and tried again waiting") {
  void* const ready = plan(8);
  void* const one = pack({reinterpret_cast<void*>(0x10000), nullptr});
  remote.execute_status = 5000;
  const int before = remote.waits;
  CHECK(api.execute(handle, ready, one) == 5000);
  CHECK(api.execute(handle, ready, one) == 5000);
  CHECK(remote.waits == before + 2);
}

TEST_CASE_METHOD(CudnnGraph,
                 "cuDNN graph: values passed by host pointer are read when the plan is executed") {
  void* const ready = plan(8, true, kDouble);
  double value = 1.5;
  void* const one = pack({reinterpret_cast<void*>(0x10000), &value});
  std::uint64_t bits;
  for (const double now : {1.5, 2.5}) {
    value = now;
    CHECK(api.execute(handle, ready, one) == kSuccess);
    std::memcpy(&bits, &value, sizeof bits);
    CHECK(packed_double(remote.recipes.back()) == bits);
  }
  CHECK(remote.executed[0].pack != remote.executed[1].pack);
}

TEST_CASE_METHOD(CudnnGraph, "cuDNN graph: a float passed by host pointer is not read beyond its end") {
  void* const ready = plan(8, true, kFloat);
  const float values[2] = {1.0F, 2.0F};
  void* const one = pack({reinterpret_cast<void*>(0x10000), values});
  CHECK(api.execute(handle, ready, one) == kSuccess);
  std::uint64_t bits = 0;
  std::memcpy(&bits, values, sizeof values[0]);
  CHECK(packed_double(remote.recipes.back()) == bits);
}

TEST_CASE_METHOD(
    CudnnGraph,
    "cuDNN graph: pointers of a plan made from text are values where the device cannot reach them") {
  void* const made = create(kExecutionPlan);
  set<char>(made, kPlanJson, 24, {'{', '}'});
  REQUIRE(api.finalize(made) == kSuccess);
  alignas(8) const float values[3] = {1.0F, 2.0F, 3.0F};
  CHECK(api.execute(handle, made, pack({&values[1], nullptr})) == kSuccess);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &values[1], sizeof(float));
  CHECK(packed_double(remote.recipes.back()) == bits);
  remote.host = false;
  CHECK(api.execute(handle, made, pack({&values[2], nullptr})) == kSuccess);
  CHECK(packed_double(remote.recipes.back()) == 0u);
}

TEST_CASE_METHOD(CudnnGraph, "cuDNN graph: packs not used for long are released") {
  void* const ready = plan(8);
  const std::size_t before = remote.live.size();
  for (std::uintptr_t i = 1; i <= 5; ++i) {
    void* const one = pack({reinterpret_cast<void*>(i << 16), nullptr});
    CHECK(api.execute(handle, ready, one) == kSuccess);
    CHECK(api.destroy(one) == kSuccess);
  }
  CHECK(remote.live.size() == before + 2);
}

TEST_CASE_METHOD(CudnnGraph, "cuDNN graph: answers are remembered by content") {
  void* const first = plan(8);
  std::int64_t count = 0, workspace = 0;
  remote.answer_count = 1;
  CHECK(api.get(first, kPlanWorkspace, kTypeInt64, 1, &count, &workspace) == kSuccess);
  CHECK(workspace == 42);
  const int waits = remote.waits;
  workspace = 0;
  CHECK(api.get(plan(8), kPlanWorkspace, kTypeInt64, 1, &count, &workspace) == kSuccess);
  CHECK(workspace == 42);
  CHECK(count == 1);
  CHECK(remote.waits == waits);
}

TEST_CASE_METHOD(CudnnGraph, "cuDNN graph: descriptors that cudnn fills beyond its count are released") {
  void* const heuristics = owner(kEngineHeuristics, kHeuristicsGraph, {tensor(1, 8)});
  std::vector<void*> configs{create(kEngineConfig), create(kEngineConfig), create(kEngineConfig)};
  remote.answer_count = 2;
  const std::size_t before = remote.live.size();
  std::int64_t count = 0;
  CHECK(api.get(heuristics, kHeuristicsResults, kTypeDescriptor, 3, &count, configs.data()) == kSuccess);
  CHECK(count == 2);
  CHECK(remote.last_element_type == kEngineConfig);
  CHECK(remote.live.size() == before + 2);
  // The third was not filled: it is as the program made it.
  CHECK(api.get(configs[2], 300, kTypeInt64, 0, &count, nullptr) == kNotInitialized);
  CHECK(api.get(configs[0], 300, kTypeInt64, 0, &count, nullptr) == kSuccess);
}

TEST_CASE_METHOD(CudnnGraph, "cuDNN graph: a clear no is remembered and another failure is not") {
  for (const auto& [status, waits] : {std::pair{3002, 1}, std::pair{4003, 2}}) {
    remote.build_status = status;
    remote.waits = 0;
    for (int i = 0; i < 2; ++i) {
      void* const made = create(kTensor);
      set<std::int64_t>(made, kTensorUniqueId, kTypeInt64, {status});
      CHECK(api.finalize(made) == status);
    }
    CHECK(remote.waits == waits);
  }
}

TEST_CASE_METHOD(CudnnGraph, "cuDNN graph: a new handle at an old address is another one") {
  const auto with_handle = [&] {
    void* const made = create(kGraph);
    set<void*>(made, 800, kTypeHandle, {handle});
    CHECK(api.finalize(made) == kSuccess);
  };
  with_handle();
  with_handle();
  CHECK(remote.waits == 1);
  api.forget_handle(handle);
  with_handle();
  CHECK(remote.waits == 2);
}

TEST_CASE_METHOD(CudnnGraph, "cuDNN graph: caches of kernels are never shared") {
  for (int i = 0; i < 2; ++i) CHECK(api.finalize(create(kKernelCache)) == kSuccess);
  CHECK(remote.waits == 2);
}

TEST_CASE_METHOD(CudnnGraph, "cuDNN graph: misuse is told as cudnn tells it") {
  void* const one = create(kTensor);
  std::int64_t value = 1, count = 0;
  CHECK(api.get(one, kTensorUniqueId, kTypeInt64, 1, &count, &value) == kNotInitialized);
  CHECK(api.set(one, kTensorUniqueId, 99, 1, &value) == kWrongAttributeType);
  CHECK(api.set(one, kTensorUniqueId, kTypeInt64, 0, &value) == kBadParam);
  CHECK(api.set(one, kTensorUniqueId, kTypeInt64, 1, nullptr) == kBadParam);
  void* const graph = create(kGraph);
  CHECK(api.set(graph, kGraphOps, kTypeDescriptor, 1, &one) == kBadParam);
  CHECK(api.finalize(one) == kSuccess);
  CHECK(api.finalize(one) == kBadParam);
  CHECK(api.set(one, kTensorUniqueId, kTypeInt64, 1, &value) == kBadParam);
  CHECK(api.execute(handle, one, create(kVariantPack)) == kBadParam);
  CHECK(api.destroy(one) == kSuccess);
  CHECK(api.destroy(one) == kBadParam);
}

TEST_CASE_METHOD(CudnnGraph, "cuDNN graph: damaged recipes are not read beyond their end") {
  void* const ready = plan(8, true, kDouble);
  const double value = 1;
  REQUIRE(api.execute(handle, ready, pack({reinterpret_cast<void*>(0x10000), &value})) == kSuccess);
  const std::vector<std::byte> whole = remote.recipes.back().bytes;
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const std::vector<std::byte> cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
    RecipeReader reader(cut);
    while (reader.good() && !reader.done()) reader.next();
  }
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::vector<std::byte> damaged = whole;
    damaged[at] = std::byte{0xff};
    RecipeReader reader(damaged);
    while (reader.good() && !reader.done()) reader.next();
  }
}

}  // namespace
}  // namespace avec::libraries::cudnn
