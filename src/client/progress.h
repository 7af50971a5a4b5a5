// What this side knows of work on the device without asking: by frame numbers (Session::last_posted),
// from answers that said "done", and from what the executor pushes (schemas/completion.fbs).
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstdint>
#include <limits>
#include <mutex>
#include <unordered_map>

#include "avec/transport.h"

namespace avec::wire {
enum class Opcode : std::uint16_t;
}

namespace avec::client {

struct Context;
struct Event;
struct Stream;

/// A number that grows, written by any thread.
class Highest {
 public:
  std::uint64_t get() const { return value_.load(std::memory_order_acquire); }
  void raise(std::uint64_t to) {
    std::uint64_t seen = value_.load(std::memory_order_relaxed);
    while (seen < to && !value_.compare_exchange_weak(seen, to, std::memory_order_acq_rel)) {
    }
  }

 private:
  std::atomic<std::uint64_t> value_{0};
};

/// The last frame that can have added work to a stream.
class LastWork {
 public:
  static constexpr std::uint64_t kUnknown = std::numeric_limits<std::uint64_t>::max();

  std::uint64_t get() const { return value_.load(std::memory_order_acquire); }
  /// A call that may add work has begun.
  void begin() { value_.store(kUnknown, std::memory_order_relaxed); }
  /// It has ended; its frames have numbers up to `last`. Others may have begun or ended since.
  void end(std::uint64_t last) {
    std::uint64_t seen = value_.load(std::memory_order_relaxed);
    while ((seen == kUnknown || seen < last) &&
           !value_.compare_exchange_weak(seen, last, std::memory_order_acq_rel)) {
    }
  }

 private:
  std::atomic<std::uint64_t> value_{0};
};

/// A question whose answer the executor will push. Until then the answer is "not ready"; it is asked
/// again now and then, so that nothing that is lost can keep a program polling for ever.
class Asked {
 public:
  void now();
  /// True until it should be asked again. The time of a question that was posted begins here.
  bool lately();
  void forget() { at_.store(0, std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> at_{0};  // steady clock, nanoseconds
};

/// Part of a Stream.
struct StreamProgress {
  LastWork last;
  Highest done;                              ///< all its work in frames up to here has finished
  std::atomic<std::int64_t> pushes{0};       ///< StreamDones that will come, if it turns idle so often
  std::atomic<std::uint64_t> doubted{0};     ///< `last` that the latest push did not cover
  std::atomic<std::uint64_t> asked_upto{0};  ///< the executor said "not ready", and will push, for work up to here
  Asked asked;
};

/// Part of an Event. Records are counted from 1.
struct EventProgress {
  std::atomic<std::uint64_t> record{0};
  Highest done;     ///< this record, or a later one, has finished
  Highest watched;  ///< up to this record the executor was asked to push
  /// Where the last record is: frames up to `frame` contain it, in `stream` (named: it may be gone).
  std::atomic<std::uint64_t> frame{LastWork::kUnknown};
  std::atomic<Stream*> stream{nullptr};
  std::atomic<std::uint64_t> stream_name{0};
  std::atomic<Context*> context{nullptr};  ///< the stream's
  std::atomic<int> queried{0};  ///< records to come that are watched at once
  /// Recorded by what this side does not see (a graph, another process): always asked.
  std::atomic<bool> elsewhere{false};
  Asked asked;
  struct {
    std::uint64_t start = 0, start_record = 0, record = 0;
    float milliseconds = 0;
  } elapsed;  ///< the last answer of event_elapsed_time; guarded by the context's mutex
};

/// Objects by the names that pushes carry.
class Watched {
 public:
  void add(Event& event);
  void add(Stream& stream);
  /// The object is about to be destroyed: no push touches it any more.
  void forget(std::uint64_t name);
  /// A push (session::Callbacks::pushed). False: it is none of ours.
  bool take(wire::Opcode opcode, ConstBytes body);

 private:
  std::mutex mutex_;
  std::unordered_map<std::uint64_t, Event*> events_;
  std::unordered_map<std::uint64_t, Stream*> streams_;
};

/// This thread's call adds work to the stream (stream_for_work).
void begin_work(Stream& stream) noexcept;
/// The stream of this thread's call, until the call ends. Initial-exec: on the launch path.
extern thread_local constinit Stream* working_stream __attribute__((tls_model("initial-exec")));
void end_work_slow() noexcept;
/// At the end of every call of the API: what it posted has numbers now.
inline void end_work() noexcept {
  if (working_stream != nullptr) end_work_slow();
}

/// All work added to the stream by calls that have returned has finished.
bool finished(Stream& stream);
/// The event's last record has finished.
bool finished(Event& event);
/// An answer said that work of the stream in frames up to `frame` is done.
void learn(Stream& stream, std::uint64_t frame);
/// CUDA_SUCCESS, CUDA_ERROR_NOT_READY or the stream's or event's error; asks the executor at most.
CUresult query(Stream& stream);
CUresult query(Event& event);
/// The event is recorded in the stream: before the frame is posted.
void begin_record(Event& event, Stream& stream);
/// After it: only now may an answer be about this record. Returns its number.
std::uint64_t count_record(Event& event);
/// count_record() for a record in the frame that was posted last.
void end_record(Event& event);

}  // namespace avec::client
