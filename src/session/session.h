// The client engine: one session of this process with one executor. It posts, batches, waits,
// receives replies, and resumes; it knows frames, not CUDA. What CUDA means on the client
// (contexts, memory, streams, modules) is src/client on top of it.
//
// Threads: every public function may be called from any thread. Sending and receiving is one
// role ("driver"), taken by whoever must wait and handed on when it returns; the others park.
// A progress thread takes the role when nobody waits, and sleeps when nothing is under way.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "avec/transport.h"
#include "base/result.h"
#include "calls.h"  // generated
#include "transport/tls/context.h"
#include "wire/frame.h"

namespace avec::session {

/// Sees what a traced session sends and receives. Called often, by the threads named; must be short
/// and may not use the session.
class Observer {
 public:
  using Time = std::chrono::steady_clock::time_point;
  virtual ~Observer() = default;
  /// A call got its number. The thread that posts or calls; the session's lock is held.
  virtual void posted(wire::Opcode opcode, std::uint64_t sequence) = 0;
  /// Bytes of frames went to the connection, or came from it. The driver thread.
  virtual void sent(std::size_t bytes, Time begin, Time end) = 0;
  virtual void received(std::size_t bytes, Time begin, Time end) = 0;
  /// A push of schemas/trace.fbs.
  virtual void records(std::uint64_t lost, ConstBytes records) = 0;
  virtual void kernel_name(std::uint32_t name, std::string_view text) = 0;
};

using tls::Encryption;

struct Options {
  std::string executor;  ///< URL: "tcp://edge:7700"
  std::string device = "auto";
  std::string token;  ///< secret shared with the executor, may be empty
  tls::Credentials credentials;  ///< files; the secret is made from the token
  std::string server_name;       ///< whom the executor's certificate must name; empty: the URL's host
  Encryption encryption = Encryption::kAuto;
  std::string program;
  WaitMode wait_mode = WaitMode::kAdaptive;
  std::chrono::microseconds spin{50};  ///< of kAdaptive
  std::chrono::milliseconds connect_deadline{5000};
  std::vector<std::pair<std::string, std::string>> environment;
  /// Ranges the caller has reserved, best first (Hello).
  std::vector<wire::AddressRange> device_ranges, host_ranges;
  /// Connections for large payload beside that of the frames, where that is one of TCP; 1: none,
  /// it travels with them; 0: as many as help, none on a link whose round trip is long. Opened
  /// with the first such payload; not where the session can be resumed.
  unsigned tcp_streams = 1;
  Observer* observer = nullptr;  ///< outlives the session; null: nobody watches
  /// How long a lost link may be away; 0: a lost link ends the session.
  std::chrono::milliseconds resume_window{0};
};

/// A reply's body. Struct replies are copied out; table replies own their bytes.
template <class T>
class TableReply {
 public:
  explicit TableReply(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {}
  const T* operator->() const { return flatbuffers::GetRoot<T>(bytes_.data()); }
  const T& operator*() const { return *operator->(); }

 private:
  std::vector<std::byte> bytes_;  // verified before this is made
};

template <class Body, class R = typename wire::CallTraits<Body>::Reply>
struct ReplyOf {
  using type = R;
};
template <class Body, class R>
requires(!std::is_void_v<R> && wire::kIsTable<R>) struct ReplyOf<Body, R> {
  using type = TableReply<R>;
};

/// Cumulative, relaxed counters.
struct Counters {
  std::uint64_t posted = 0, waited = 0;
  /// Waits for a reply: one per call, and one per wait_deferred of a reply that no later
  /// call's reply has overtaken.
  std::uint64_t round_trips = 0;
  std::uint64_t bytes_sent = 0, bytes_received = 0;
  /// Bytes of payload that a processor copied on this side: into the send buffer, out of the
  /// receive buffer, into and out of slots. Not those of the system's sockets.
  std::uint64_t payload_copied = 0;
  /// Waits until the source of a copy to the device could be overwritten: had left, or had been
  /// read by the executor. No round trips.
  std::uint64_t source_waits = 0;
  std::uint64_t one_sided_bytes = 0;  ///< payload that moved by one-sided access, both directions
};

/// Called by the driver thread, with the role held, for what the executor pushes. Must be
/// short and must not call back into the session.
struct Callbacks {
  /// A posted call failed: its opcode, sequence, CUresult.
  std::function<void(wire::Opcode, std::uint64_t sequence, int status)> deferred_error;
  /// Anything else that the executor pushes: its body, as the schema says.
  std::function<void(wire::Opcode, ConstBytes body)> pushed;
  /// Device printf.
  std::function<void(int descriptor, std::string_view text)> device_output;
  /// A host node of a graph asks for its function.
  std::function<void(std::uint64_t call, std::uint64_t function)> host_call;
  /// The session is over: reason for people. Every later call fails with Origin::kTransport.
  std::function<void(const std::string& reason)> closed;
  /// Something for people to know, once; the session goes on. Any thread; may not use the session.
  std::function<void(const std::string& what)> notice;
};

/// Names a deferred call (CopyFromDevice posted) until its reply has come: the number of its frame.
using Pending = std::uint64_t;

/// Who learns that a deferred call failed.
enum class Attend : std::uint8_t {
  kWaiter,  ///< wait_deferred returns it
  kNobody   ///< nobody will call wait_deferred: Callbacks::deferred_error, as of a posted call
};

/// What a wait for a deferred reply is counted as (Counters).
enum class Counted : std::uint8_t {
  kRoundTrip,
  kSource,  ///< source_waits
  kNot      ///< one of several replies that come behind each other: the first was counted
};

/// Memory of this process that the executor reads or writes because of a deferred call.
struct Reference {
  MutableBytes memory;
  RemoteAccess access = RemoteAccess::kRead;
  /// Revoked when the reply has come, before anybody is told, and when the call could not be
  /// posted. All zero: none.
  RemoteKey key{};
  /// The write_ahead() that the call depends on: its end too comes before anybody is told. 0: none.
  std::uint64_t write = 0;
  std::uint64_t copied = 0;  ///< bytes that the caller copies, or has copied (Counters)
};

class Session {
 public:
  /// Connects, authenticates, opens the data connection and exchanges Hello. On failure the
  /// message says what to do, and cuda_code_for() which CUDA error fits: `error` is of
  /// Origin::kCuda with that code where the executor decided it (version, token, busy, its
  /// driver), of another origin where there is no executor to speak of (100).
  struct Failure {
    Error error;
    std::string message;
  };
  static std::expected<std::shared_ptr<Session>, Failure> open(Options options, Callbacks callbacks);
  virtual ~Session() = default;

  /// The executor's answer to Hello; valid as long as the session.
  virtual const wire::HelloReply& hello() const = 0;
  virtual std::string peer() const = 0;
  /// Why the executor chose its device kind (Ticket.reason); may be empty.
  virtual std::string device_reason() const { return {}; }

  /// Posts a struct-bodied call. Error only when the session is over. `payload` is copied when
  /// at most limits::kInlinePayloadBytes; otherwise the call returns once it has left.
  template <class Body>
  Result<> post(const Body& body, ConstBytes payload = {}) {
    static_assert(!wire::kIsTable<Body>);
    return post_frame(wire::CallTraits<Body>::opcode,
                      {reinterpret_cast<const std::byte*>(&body), sizeof body}, payload);
  }
  /// As post, but the bytes behind the body are written by `fill(MutableBytes)` straight
  /// into the send buffer. At most kInlinePayloadBytes.
  template <class Body, class Fill>
  Result<> post_filled(const Body& body, std::size_t payload_bytes, Fill&& fill) {
    static_assert(!wire::kIsTable<Body>);
    auto slot = begin_post(wire::CallTraits<Body>::opcode, sizeof body, payload_bytes);
    if (!slot) return std::unexpected(slot.error());
    std::memcpy(slot->body, &body, sizeof body);
    fill(MutableBytes{slot->payload, payload_bytes});
    end_post();
    return {};
  }

  /// Sends and waits. The Error of a call that failed on the executor has Origin::kCuda.
  template <class Body>
  Result<typename ReplyOf<Body>::type> call(const Body& body) {
    static_assert(!wire::kIsTable<Body>);
    return call_bytes<Body>({reinterpret_cast<const std::byte*>(&body), sizeof body});
  }
  /// The same for a table body: `builder` holds the finished table of type Body.
  template <class Body>
  Result<typename ReplyOf<Body>::type> call(const flatbuffers::FlatBufferBuilder& builder) {
    static_assert(wire::kIsTable<Body>);
    return call_bytes<Body>(
        {reinterpret_cast<const std::byte*>(builder.GetBufferPointer()), builder.GetSize()});
  }

  /// Posts a deferred call whose reply's payload goes to `destination`, which must stay valid
  /// until wait_deferred returns or the session is over and released it.
  template <class Body>
  Result<Pending> post_deferred(const Body& body, MutableBytes destination, Attend attend = Attend::kWaiter) {
    return post_deferred_frame(wire::CallTraits<Body>::opcode,
                               {reinterpret_cast<const std::byte*>(&body), sizeof body}, destination, attend);
  }
  /// Posts a deferred call whose payload moves by one-sided access: the reply has none.
  template <class Body>
  Result<Pending> post_by_reference(const Body& body, const Reference& reference,
                                    Attend attend = Attend::kWaiter) {
    return post_reference_frame(wire::CallTraits<Body>::opcode,
                                {reinterpret_cast<const std::byte*>(&body), sizeof body}, reference, attend);
  }
  /// Waits for that reply; its status is returned. A failure is returned once; the last 64
  /// that nobody has asked for are remembered.
  virtual Result<> wait_deferred(Pending pending, Counted counted = Counted::kRoundTrip) = 0;
  /// Waits until one of these has been answered, or `changes` is not `seen` any more: who adds to
  /// it calls changed() then.
  virtual Result<> wait_for_one(std::span<const Pending> pendings, const std::atomic<std::uint64_t>& changes,
                                std::uint64_t seen, Counted counted = Counted::kSource) = 0;
  virtual void changed() = 0;
  /// True when its reply has come.
  virtual bool deferred_done(Pending pending) = 0;
  /// Waits until no deferred call is under way whose destination overlaps [begin, end)
  /// (hazards: a host buffer about to be read).
  virtual Result<> wait_for_destination(const void* begin, const void* end) = 0;
  /// The same for every deferred call that reads or writes there (a buffer about to be freed).
  virtual Result<> wait_until_unused(const void* begin, const void* end) = 0;

  /// Access to memory of the executor and for the executor, or null: payload travels in the
  /// stream, as always where the session can be resumed. Valid as long as the session object;
  /// once the session is over no key is worth anything, and that before any call says so.
  virtual OneSided* one_sided() { return nullptr; }
  /// Writes into memory of the executor: frames that are posted afterwards find the bytes there.
  /// Waits for room. `from` is free when the call has been answered that has this as its
  /// Reference::write.
  virtual Result<std::uint64_t> write_ahead(const RemoteKey& key, std::uint64_t offset, ConstBytes from) = 0;

  /// For threads that poll: sends and receives without waiting when nobody else is about it, at
  /// most every few microseconds. What the executor has pushed is known then.
  virtual void look() {}
  /// Says that `more` (less, when negative) pushes are expected for which nobody polls.
  virtual void expect_pushes(int more) { static_cast<void>(more); }

  /// Sequence of the last frame posted by anybody.
  virtual std::uint64_t last_posted() const = 0;
  virtual Counters counters() const = 0;
  /// Orderly end: Goodbye, then close. Idempotent; also done by the destructor.
  virtual void close() = 0;
  /// In the child after fork: forgets the session without touching the parent's sockets.
  virtual void abandon_after_fork() noexcept = 0;

 protected:
  struct Slot {
    std::byte* body;
    std::byte* payload;
  };
  virtual Result<Slot> begin_post(wire::Opcode, std::size_t body_bytes, std::size_t payload_bytes) = 0;
  virtual void end_post() = 0;
  virtual Result<> post_frame(wire::Opcode, ConstBytes body, ConstBytes payload) = 0;
  virtual Result<Pending> post_deferred_frame(wire::Opcode, ConstBytes body, MutableBytes destination,
                                              Attend attend) = 0;
  virtual Result<Pending> post_reference_frame(wire::Opcode, ConstBytes body, const Reference& reference,
                                               Attend attend) = 0;
  /// The reply's body (verified), for table replies; struct replies are written to `reply`.
  virtual Result<std::vector<std::byte>> call_table(wire::Opcode, ConstBytes body) = 0;
  virtual Result<> call_struct(wire::Opcode, ConstBytes body, MutableBytes reply) = 0;

 private:
  template <class Body>
  Result<typename ReplyOf<Body>::type> call_bytes(ConstBytes body) {
    using R = typename wire::CallTraits<Body>::Reply;
    constexpr auto opcode = wire::CallTraits<Body>::opcode;
    if constexpr (std::is_void_v<R>) {
      return call_struct(opcode, body, {});
    } else if constexpr (wire::kIsTable<R>) {
      auto bytes = call_table(opcode, body);
      if (!bytes) return std::unexpected(bytes.error());
      return TableReply<R>(std::move(*bytes));
    } else {
      R reply;
      auto done = call_struct(opcode, body, {reinterpret_cast<std::byte*>(&reply), sizeof reply});
      if (!done) return std::unexpected(done.error());
      return reply;
    }
  }
};

/// The CUresult for an error of a running session, and for one that could not be opened
/// (docs/architecture.md, "What a failure becomes").
int cuda_code_for(const Error& error) noexcept;
int cuda_code_for(const Session::Failure& failure) noexcept;

}  // namespace avec::session
