// One-sided access by sharing: memory that one end allocates is memory of a file without a name,
// and the other end maps it too.
//
// A key is an entry of the owner's key table, which lies in the memory of the rings. The peer
// honours it; the kernel does not enforce it: who has been given memory by descriptor can reach
// all of it until it unmaps it. What was allocated here holds nothing else.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "avec/one_sided.h"
#include "transport/shm/context.h"
#include "transport/shm/ring.h"

namespace avec::shm {

class SharedMemory final : public OneSided {
 public:
  /// `own` and `peers`: the key tables. `sender`: counts our messages. `wake`: an eventfd that ends
  /// the connection's wait(). All outlive this.
  SharedMemory(Control& control, RingSender& sender, KeyTable& own, const KeyTable& peers, int wake);
  ~SharedMemory() override;

  OneSidedTraits traits() const noexcept override;
  MemoryResult allocate(std::size_t bytes, void* wish) noexcept override;
  void free(MutableBytes memory, bool keep_reserved) noexcept override;
  TransportError add(MutableBytes memory) noexcept override;
  void remove(MutableBytes memory) noexcept override;
  TransportError allow(MutableBytes range, RemoteAccess access, RemoteKey& key) noexcept override;
  void revoke(const RemoteKey& key) noexcept override;
  MappedMemory mapped(const RemoteKey& key) noexcept override;
  IoResult read(const RemoteKey& key, std::uint64_t offset, MutableBytes into,
                std::uint64_t token) noexcept override;
  IoResult write(const RemoteKey& key, std::uint64_t offset, ConstBytes from,
                 std::uint64_t token) noexcept override;
  std::size_t completed(std::span<OneSidedCompletion> ended) noexcept override;

  enum class Peer : std::uint8_t { kThere, kGone, kMalicious };
  /// Takes what the peer sent on the socket: bells, and news of its memory. Any thread.
  Peer attend() noexcept;
  /// True when messages wait for room in the socket; attend() sends them.
  bool has_unsent() const noexcept { return unsent_waiting_.load(std::memory_order_relaxed); }
  bool has_completions() const noexcept { return completions_waiting_.load(std::memory_order_acquire) != 0; }
  /// Another thread has taken messages from the socket, the bell perhaps: attend() tells what
  /// follows from them. That thread has used `wake`.
  bool was_heard() const noexcept { return heard_.load(std::memory_order_acquire); }
  /// Ends all access: keys of this end become worthless, the peer's name nothing.
  void end() noexcept;

 private:
  // Memory of this end.
  struct Own {
    std::uint64_t id = 0;
    std::size_t bytes = 0;
    bool announced = false;  // the message is in the socket
    Descriptor fd;           // until it is announced
  };
  // What is mapped of the peer's memory, given back by the peer or not.
  struct Usage {
    std::atomic<std::size_t> memories{0}, bytes{0};
  };
  // Memory of the peer. mapped() hands out shares of it, which may outlive the connection.
  struct Theirs {
    Theirs(Mapping all, bool pages_exist, std::shared_ptr<Usage> counted);
    Theirs(const Theirs&) = delete;
    Theirs& operator=(const Theirs&) = delete;
    ~Theirs();

    Mapping mapping;
    bool to_touch;  // its pages exist and are not yet in this process's tables; under the mutex
    const std::shared_ptr<Usage> usage;
  };
  struct Slot {
    std::uint64_t word = 0;    // what stands in the table; zero: free
    std::uint64_t region = 0;  // of the key
  };

  MemoryResult make_own(std::size_t bytes, void* wish);
  // With mutex_ held.
  void announce(Own& own);
  void flush_locked();
  Peer attend_locked() noexcept;
  bool take(const Message& message, Descriptor attached);
  std::map<std::byte*, Own>::iterator find(MutableBytes range);
  void clear_slot(std::size_t index);
  // Whose memory `key` is of; `range`: what it names. Null: nothing.
  std::shared_ptr<Theirs> find_theirs(const RemoteKey& key, MutableBytes& range);
  MutableBytes part_of(const RemoteKey& key, RemoteAccess access, std::uint64_t offset, std::size_t bytes);
  IoResult complete(std::uint64_t token, TransportError error, std::size_t bytes);

  Control& control_;
  RingSender& sender_;
  KeyTable& own_keys_;
  const KeyTable& peers_keys_;
  const int wake_;

  std::mutex mutex_;  // of everything below
  bool ended_ = false;
  Peer peer_ = Peer::kThere;
  std::map<std::byte*, Own> own_;
  std::uint64_t last_id_ = 0;
  std::size_t own_count_ = 0, own_bytes_ = 0;  // with what is being made
  // What the socket did not take, in order. At most two messages for each memory.
  std::deque<Message> unsent_;
  std::atomic<bool> unsent_waiting_{false};
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::uint64_t last_serial_;

  std::map<std::uint64_t, std::shared_ptr<Theirs>> theirs_;
  std::uint64_t last_theirs_ = 0;
  const std::shared_ptr<Usage> their_usage_ = std::make_shared<Usage>();
  std::atomic<bool> heard_{false};

  std::deque<OneSidedCompletion> completions_;
  std::atomic<std::size_t> completions_waiting_{0};
};

}  // namespace avec::shm
