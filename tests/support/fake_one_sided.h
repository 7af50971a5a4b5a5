// One-sided access without a peer: what a session asks of it is recorded, and whoever plays the
// executor reaches memory through the keys, as long as they are worth something.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "avec/one_sided.h"

namespace avec::test {

class FakeOneSided final : public OneSided {
 public:
  struct Allowed {
    std::byte* begin = nullptr;
    std::size_t bytes = 0;
    RemoteAccess access = RemoteAccess::kRead;
  };

  explicit FakeOneSided(OneSidedTraits traits) : traits_(traits) {}
  ~FakeOneSided() override {
    for (const auto& [base, bytes] : allocated_) ::munmap(base, bytes);
  }

  // Set before they matter.
  TransportError allocate_fails, add_fails, allow_fails, write_fails;
  bool writes_linger = false;       ///< completed() gives nothing until finish_writes()
  std::size_t writes_at_once = 64;  ///< beyond: write() would block

  // Counts so far.
  std::atomic<std::size_t> adds = 0, removes = 0, allows = 0, revokes = 0, worthless_revokes = 0, writes = 0;

  std::size_t added_now() const {
    return with([&] { return added_.size(); });
  }
  std::size_t allocated_now() const {
    return with([&] { return allocated_.size(); });
  }
  std::size_t keys_now() const {
    return with([&] { return keys_.size(); });
  }

  /// As the executor: what the key names; nothing when it is worthless.
  MutableBytes reach(const RemoteKey& key, RemoteAccess access) {
    const std::scoped_lock lock(mutex_);
    const auto found = keys_.find(key.words[0]);
    if (found == keys_.end() || closed_) return {};
    // Writing includes reading, where memory is mapped.
    const bool may = found->second.access == access || traits_.maps;
    return may ? MutableBytes(found->second.begin, found->second.bytes) : MutableBytes{};
  }
  /// As the executor: pinned memory that the client may write.
  RemoteKey make_mirror(std::size_t bytes) {
    const std::scoped_lock lock(mutex_);
    mirror_.resize(bytes);
    return {{~std::uint64_t{0}, 0, 0, 0}};
  }
  ConstBytes mirror() const { return mirror_; }
  void finish_writes() {
    const std::scoped_lock lock(mutex_);
    writes_linger = false;
  }
  void close() {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
  }

  OneSidedTraits traits() const noexcept override { return traits_; }

  MemoryResult allocate(std::size_t bytes, void* wish) noexcept override {
    const std::scoped_lock lock(mutex_);
    if (allocate_fails) return {{}, allocate_fails};
    void* memory = ::mmap(wish, bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | (wish != nullptr ? MAP_FIXED : 0), -1, 0);
    if (memory == MAP_FAILED) return {{}, {TransportErrc::kResources, 0}};
    allocated_[memory] = bytes;
    return {{static_cast<std::byte*>(memory), bytes}, {}};
  }
  void free(MutableBytes memory, bool keep_reserved) noexcept override {
    const std::scoped_lock lock(mutex_);
    allocated_.erase(memory.data());
    forget_keys(memory);
    if (keep_reserved) {
      ::mmap(memory.data(), memory.size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
             -1, 0);
    } else {
      ::munmap(memory.data(), memory.size());
    }
  }
  TransportError add(MutableBytes memory) noexcept override {
    const std::scoped_lock lock(mutex_);
    if (add_fails) return add_fails;
    ++adds;
    added_.insert(memory.data());
    return {};
  }
  void remove(MutableBytes memory) noexcept override {
    const std::scoped_lock lock(mutex_);
    ++removes;
    added_.erase(memory.data());
    forget_keys(memory);
  }
  TransportError allow(MutableBytes range, RemoteAccess access, RemoteKey& key) noexcept override {
    const std::scoped_lock lock(mutex_);
    if (closed_) return {TransportErrc::kClosed, 0};
    if (allow_fails) return allow_fails;
    ++allows;
    key = {{++last_key_, range.size(), 7, 9}};
    keys_[last_key_] = {range.data(), range.size(), access};
    return {};
  }
  void revoke(const RemoteKey& key) noexcept override {
    const std::scoped_lock lock(mutex_);
    ++revokes;
    if (keys_.erase(key.words[0]) == 0) ++worthless_revokes;
  }
  MappedMemory mapped(const RemoteKey&) noexcept override { return {}; }
  IoResult read(const RemoteKey&, std::uint64_t, MutableBytes, std::uint64_t) noexcept override {
    return {0, {TransportErrc::kInternal, 0}};
  }
  IoResult write(const RemoteKey& key, std::uint64_t offset, ConstBytes from,
                 std::uint64_t token) noexcept override {
    const std::scoped_lock lock(mutex_);
    if (closed_) return {0, {TransportErrc::kClosed, 0}};
    if (ended_.size() >= writes_at_once) return {};
    ++writes;
    const bool right = key.words[0] == ~std::uint64_t{0} && offset + from.size() <= mirror_.size();
    if (right && !write_fails) std::memcpy(mirror_.data() + offset, from.data(), from.size());
    ended_.push_back({token, right ? write_fails : TransportError{TransportErrc::kInternal, 0}});
    return {from.size(), {}};
  }
  std::size_t completed(std::span<OneSidedCompletion> ended) noexcept override {
    const std::scoped_lock lock(mutex_);
    if (writes_linger) return 0;
    const std::size_t count = std::min(ended.size(), ended_.size());
    std::copy_n(ended_.begin(), count, ended.begin());
    ended_.erase(ended_.begin(), ended_.begin() + static_cast<std::ptrdiff_t>(count));
    return count;
  }

 private:
  template <class Get>
  std::size_t with(Get&& get) const {
    const std::scoped_lock lock(mutex_);
    return get();
  }
  void forget_keys(MutableBytes memory) {
    std::erase_if(keys_, [&](const auto& key) {
      return key.second.begin >= memory.data() && key.second.begin < memory.data() + memory.size();
    });
  }

  const OneSidedTraits traits_;
  mutable std::mutex mutex_;
  std::map<void*, std::size_t> allocated_;
  std::set<std::byte*> added_;
  std::map<std::uint64_t, Allowed> keys_;
  std::uint64_t last_key_ = 0;
  std::vector<std::byte> mirror_;
  std::deque<OneSidedCompletion> ended_;
  bool closed_ = false;
};

}  // namespace avec::test
