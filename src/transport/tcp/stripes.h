// Stripes: more TCP connections beside one, over which the executor reads and writes memory of the
// client (avec/one_sided.h). Large payload then travels on several streams at a time, from where
// it lies to where it belongs, and no frame waits behind it.
//
// On a stripe the executor says that it has taken it, and sends requests; the client answers them
// one after the other:
//
//   StripeRequest{ready}            --->
//   StripeRequest{read}             --->
//                                   <---  StripeReply, then the bytes
//   StripeRequest{write}, the bytes --->
//                                   <---  StripeReply
//
// An access of the executor is cut into parts, which all stripes share. A key names a range in the
// client's table; nothing is registered, a range is checked at each request. Nothing is allowed
// before one stripe is ready, so that what cannot be opened costs no session. A stripe that breaks
// while it is used breaks the connection; one that is not used may end.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/limits.h"
#include "transport/tcp/context.h"

namespace avec::tcp {

/// How many stripes one connection has at most.
inline constexpr unsigned kMaxStripes = limits::kMaxTcpStreams;
/// Bytes of one part at most, and of the largest that is answered. Small enough that four stripes work
/// at one chunk of the executor's, large enough that a system call and a wake-up do not show.
inline constexpr std::size_t kStripePartBytes = 512 << 10;
/// Parts are of equal size, a multiple of this, so that all stripes end at about the same time.
inline constexpr std::size_t kStripePartUnit = 64 << 10;
inline constexpr std::uint64_t kMaxStripePart = 16 << 20;
/// Accesses of the executor under way; one more would block.
inline constexpr std::size_t kMaxStripeAccesses = 64;
/// How long revoke() and close() let a part that is under way go on before they break it off.
inline constexpr auto kStripeGrace = 1000ms;
/// How long a stripe that has been opened may take until the executor says that it is ready.
inline constexpr auto kStripeReadyDeadline = 10s;

/// What is sent on a stripe: little endian, as both machines are. docs/wire.md.
struct StripeRequest {
  /// kReady: everything else is zero, and nobody answers.
  static constexpr std::uint32_t kRead = 1, kWrite = 2, kReady = 3;
  std::uint32_t kind = 0;
  std::uint32_t reserved = 0;
  RemoteKey key;
  std::uint64_t offset = 0;  ///< in the key's range
  std::uint64_t bytes = 0;
};
struct StripeReply {
  static constexpr std::uint32_t kDone = 0, kNotAllowed = 1;
  std::uint32_t status = 0;
  std::uint32_t reserved = 0;
  std::uint64_t bytes = 0;  ///< of payload behind it
};
static_assert(sizeof(StripeRequest) == 56 && sizeof(StripeReply) == 16);

/// What both ends have: memory that was added, and an end.
class Stripes : public OneSided {
 public:
  Stripes();

  OneSidedTraits traits() const noexcept override;
  MemoryResult allocate(std::size_t bytes, void* wish) noexcept override;
  void free(MutableBytes memory, bool keep_reserved) noexcept override;
  TransportError add(MutableBytes memory) noexcept override;
  void remove(MutableBytes memory) noexcept override;
  MappedMemory mapped(const RemoteKey&) noexcept override { return {}; }

  /// Readable when completed() or broken() has something to say.
  int descriptor() const noexcept { return news_.get(); }
  /// Why the connection is over though its own socket may not know it yet; none: it is not.
  TransportError broken() const noexcept;
  bool is_broken() const noexcept { return is_broken_.load(std::memory_order_acquire); }
  /// The connection is over: every access ends with `error`. Waits for nothing.
  void fail(TransportError error) noexcept;
  /// The same in order, of this end's own will. When it returns no thread touches memory of
  /// anybody's. Not while another thread is in one of the functions above.
  virtual void end() noexcept = 0;

 protected:
  // With the mutex held.
  bool is_added(MutableBytes range) const;
  TransportError over() const { return ended_ ? TransportError{TransportErrc::kClosed, 0} : broken_; }
  void break_with(TransportError error);
  /// Ends what is under way, after broken_ or ended_ was set.
  virtual void shut_down() = 0;
  /// Makes keys that are left without memory worthless.
  virtual void memory_gone(std::unique_lock<std::mutex>& lock) = 0;

  mutable std::mutex mutex_;
  bool ended_ = false;
  TransportError broken_;
  std::atomic<bool> is_broken_{false};
  const Descriptor news_;

 private:
  std::vector<MutableBytes> added_;  // one entry per add() and allocate()
};

struct StripeOptions {
  unsigned count = 4;
  /// Ranges smaller than this are not allowed: their bytes are better off in the stream.
  std::size_t least_bytes = 0;
  /// traits().add_from
  std::size_t add_from = 1 << 20;
  /// Opens one more connection that the executor will take for a stripe of this one. Called by a
  /// thread of its own for each stripe, when the first range is allowed; may outlive the session
  /// by its own deadline.
  std::function<std::unique_ptr<Connection>()> open;
  /// The first range waits so long for a stripe; until there is one the stream does.
  std::chrono::milliseconds first_wait{500};
  /// Told once, where no stripe could be opened. By a thread of its own, before the connection has
  /// been closed; may not use the connection.
  std::function<void()> none_opened;
};

/// The client's end: owns memory. Its threads hold it too: one that still connects when the
/// connection ends is not waited for.
class OwnerStripes final : public Stripes, public std::enable_shared_from_this<OwnerStripes> {
 public:
  explicit OwnerStripes(StripeOptions options);

  OneSidedTraits traits() const noexcept override;
  /// kNotViable: no stripe is ready (yet).
  TransportError allow(MutableBytes range, RemoteAccess access, RemoteKey& key) noexcept override;
  void revoke(const RemoteKey& key) noexcept override;
  void on_taken(std::function<void(const RemoteKey&)> taken) override { taken_ = std::move(taken); }
  IoResult read(const RemoteKey&, std::uint64_t, MutableBytes, std::uint64_t) noexcept override;
  IoResult write(const RemoteKey&, std::uint64_t, ConstBytes, std::uint64_t) noexcept override;
  std::size_t completed(std::span<OneSidedCompletion>) noexcept override { return 0; }
  void end() noexcept override;
  /// In the child of a fork: closes its copies of the sockets. Takes no lock, for a thread that is
  /// gone may have it.
  void forget_after_fork() noexcept;

 private:
  using Place = std::atomic<int>;
  struct Grant {
    MutableBytes range;
    RemoteAccess access = RemoteAccess::kRead;
    RemoteKey key;
    std::uint64_t left = 0;  // bytes that have not been read yet
    unsigned users = 0;      // threads that use the range now
    bool revoked = false;
  };

  // A thread of a stripe.
  void run(Place& place);
  bool enter(Place& place, int socket);
  bool becomes_ready(int socket);
  TransportError serve(int fd);
  TransportError answer_read(int fd, const StripeRequest& request);
  TransportError answer_write(int fd, const StripeRequest& request);
  Grant* claim(const StripeRequest& request);
  void release(Grant& grant, std::uint64_t bytes_read);

  // With the mutex held.
  void start();
  bool await_stripe(std::unique_lock<std::mutex>& lock);
  void thread_ended(bool was_ready);
  void take_back(std::unique_lock<std::mutex>& lock, std::uint64_t name);
  void shut_down() override;
  void memory_gone(std::unique_lock<std::mutex>& lock) override;

  const StripeOptions options_;
  std::function<void(const RemoteKey&)> taken_;
  std::map<std::uint64_t, Grant> grants_;  // by the key's first word
  std::uint64_t last_name_ = 0;
  bool started_ = false;
  Deadline first_until_;  // once started
  unsigned threads_ = 0;  // that have not ended
  unsigned ready_ = 0;    // of them: those whose stripe the executor has taken
  bool any_ready_ = false;
  // Of the threads, which own them; -1: none. Atomic for forget_after_fork() only.
  std::array<Place, kMaxStripes> sockets_;
  std::condition_variable changed_;
};

/// The executor's end: reads and writes.
class PeerStripes final : public Stripes {
 public:
  PeerStripes();
  ~PeerStripes() override;

  /// One more stripe, whose peer has been authenticated. False: it was closed, for the connection is
  /// over or this process has no room for it. Any thread.
  bool join(std::unique_ptr<Connection> connection) noexcept;

  TransportError allow(MutableBytes range, RemoteAccess access, RemoteKey& key) noexcept override;
  void revoke(const RemoteKey&) noexcept override {}
  IoResult read(const RemoteKey& key, std::uint64_t offset, MutableBytes into,
                std::uint64_t token) noexcept override;
  IoResult write(const RemoteKey& key, std::uint64_t offset, ConstBytes from,
                 std::uint64_t token) noexcept override;
  std::size_t completed(std::span<OneSidedCompletion> ended) noexcept override;
  void end() noexcept override;

 private:
  class Stripe;
  struct Access;
  struct Part;
  IoResult begin(std::uint32_t kind, const RemoteKey& key, std::uint64_t offset, MutableBytes here,
                 std::uint64_t token) noexcept;
  void part_ended(Part& part, TransportError error);
  void shut_down() override;
  void memory_gone(std::unique_lock<std::mutex>&) override {}

  std::vector<std::unique_ptr<Stripe>> stripes_;
  std::vector<std::shared_ptr<Access>> under_way_;
  std::deque<OneSidedCompletion> completions_;
};

/// In the child of a fork, before the connection's own descriptors are closed: its copies of the
/// stripes' sockets are. Nothing for other connections.
void forget_stripes_after_fork(Connection& connection) noexcept;
/// Lets large payload take stripes as the client's end of `connection`; false: it is not of TCP.
bool offer_stripes(Connection& connection, StripeOptions options);
/// The executor's end, to which stripes are given as they come; null: the same. The connection
/// holds it too.
std::shared_ptr<PeerStripes> accept_stripes(Connection& connection);

}  // namespace avec::tcp
