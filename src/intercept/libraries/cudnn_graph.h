// cuDNN's graph API on the client. Attributes of a descriptor are kept here until it is finalised;
// then one call builds it on the executor. A finalised descriptor never changes, so one of the same
// content is built once and shared: a plan built a second time costs no round trip, and variant
// packs with the same addresses cost no bytes but their names in the execution.
//
// What the executor answers about a finalised descriptor is remembered with it. Descriptors that
// cuDNN fills (results of heuristics) are remembered as answers too.
//
// Values that a variant pack passes by host pointer (CUDNN_ATTR_TENSOR_IS_BY_VALUE) are read when
// the plan is executed, as cuDNN does, and travel with the pack; which these are is known from the
// tensors of the plan.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "libraries/cudnn.h"

namespace avec::libraries::cudnn {

/// What is asked of the executor. Objects are handles of the client's. Each returns cuDNN's status.
class GraphRemote {
 public:
  struct Recipe {
    int type;
    std::vector<std::byte> bytes;
    std::vector<void*> descriptors, handles;
  };
  virtual ~GraphRemote() = default;
  /// Builds and finalises a descriptor; `wait`: its status is answered.
  virtual int build(const Recipe& recipe, bool wait, void*& object) = 0;
  virtual int get(void* object, int name, int type, std::int64_t requested, std::int64_t& count,
                  std::span<std::byte> elements) = 0;
  /// Descriptors of a type, filled by the library; all of `elements` are made.
  virtual int get_descriptors(void* object, int name, int element_type, std::int64_t& count,
                              std::span<void*> elements) = 0;
  virtual int execute(void* handle, void* plan, void* pack, bool wait) = 0;
  virtual void release(void* object) = 0;
  /// Where descriptors are built: those of two contexts are never shared.
  virtual std::uint64_t place() = 0;
  /// Whether an address lies in memory of this process that the device cannot reach.
  virtual bool host_only(const void* address) = 0;
};

class GraphApi {
 public:
  /// Descriptors and variant packs kept on the executor after the program destroyed them.
  static constexpr std::size_t kKeptDescriptors = 16384, kKeptPacks = 4096;
  /// Bytes of the attributes of one descriptor (serialised plans are the longest).
  static constexpr std::size_t kMaxAttributeBytes = 8u << 20;

  explicit GraphApi(GraphRemote& remote, std::size_t kept_packs = kKeptPacks)
      : remote_(remote), kept_packs_(kept_packs) {}

  int create(int type, void** descriptor);
  int destroy(void* descriptor);
  int set(void* descriptor, int name, int type, std::int64_t count, const void* elements);
  int finalize(void* descriptor);
  int get(void* descriptor, int name, int type, std::int64_t requested, std::int64_t* count, void* elements);
  int execute(void* handle, void* plan, void* pack);
  /// A handle of the library ended: what was built with it is not used for another one at its address.
  void forget_handle(const void* handle);

 private:
  struct Shared;
  using SharedPtr = std::shared_ptr<Shared>;
  struct Attribute {
    int name, type;
    std::int64_t count;
    std::vector<std::byte> elements;
    std::vector<SharedPtr> descriptors;
  };
  struct Descriptor {
    int type;
    std::vector<Attribute> attributes;
    std::size_t bytes = 0;
    bool finalized = false;
    SharedPtr shared;     ///< of a finalised one that is no variant pack
    std::string content;  ///< of a finalised variant pack
  };
  using DescriptorPtr = std::shared_ptr<Descriptor>;
  struct Value {
    std::int64_t uid;
    std::uint64_t bytes;
  };
  struct Answer {
    int status;
    std::int64_t count;
    std::vector<std::byte> elements;
    std::vector<SharedPtr> descriptors;
  };
  using Question =
      std::tuple<int, int, std::int64_t, int>;  ///< name, type, requested, type of the descriptors given
  /// What lies on the executor, under one content. `executed` and `answers` are guarded by the API's mutex;
  /// the rest does not change.
  struct Shared {
    Shared(GraphRemote& owner, int type_) : remote(owner), type(type_) {}
    Shared(const Shared&) = delete;
    Shared& operator=(const Shared&) = delete;
    ~Shared() {
      if (object != nullptr) remote.release(object);
    }
    GraphRemote& remote;
    int type;
    void* object = nullptr;
    std::uint64_t id = 0;
    int status = kSuccess;
    bool executed = false;        ///< a plan: an execution has succeeded
    bool unknown_values = false;  ///< made from text: its tensors are not known here
    std::vector<Value> values;    ///< tensors passed by value, also those of what it is made of
    std::vector<SharedPtr> parts;
    std::map<Question, Answer> answers;
  };
  /// By content; the least recently used goes first.
  class Store {
   public:
    SharedPtr find(const std::string& content);
    /// Hands back what no longer fits: released when the last reference goes, outside of the lock.
    std::vector<SharedPtr> keep(const std::string& content, SharedPtr shared, std::size_t limit);

   private:
    using Order = std::list<std::pair<std::string, SharedPtr>>;
    Order order_;
    std::unordered_map<std::string, Order::iterator> by_content_;
  };

  // With mutex_ held:
  DescriptorPtr find(const void* descriptor);
  std::string content_of(const Descriptor& descriptor);
  int pack_for(const Descriptor& pack, const Shared& plan, SharedPtr& built);
  std::vector<std::uint64_t> value_sizes(const Descriptor& pack, const Shared& plan);
  int give(const Answer& answer, const Question& question, std::int64_t* count, void* elements);
  // Of what is given:
  static void note_values(const Descriptor& descriptor, Shared& shared);
  static GraphRemote::Recipe recipe_of(const Descriptor& descriptor, std::span<const std::uint64_t> sizes);
  static const Attribute* attribute(const Descriptor& descriptor, int name);
  static int set_attribute_of(const Descriptor& descriptor, int name, int type, std::int64_t requested,
                              std::int64_t* count, void* elements);
  int ask(Shared& shared, const Question& question, Answer& answer);

  GraphRemote& remote_;
  const std::size_t kept_packs_;
  std::mutex mutex_;  ///< guards what follows; never held while an answer is awaited
  std::unordered_map<const void*, DescriptorPtr> descriptors_;
  Store built_, packs_;
  std::unordered_map<const void*, std::uint64_t> handles_;
  std::uint64_t next_ = 1;
};

}  // namespace avec::libraries::cudnn
