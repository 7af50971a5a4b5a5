// A simulated network: the clock, who waits for what, the trace. Everything of one network is
// guarded by Context::mutex; sleeping threads hold a semaphore each, because wake() must be
// possible in a signal handler.
#pragma once

#include <semaphore.h>

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "transport/sim/factory.h"

namespace avec::sim {

/// A point of the network's own time, ns since it was made.
using SimTime = std::chrono::nanoseconds;
inline constexpr SimTime kNever = SimTime::max();

/// Connections that wait to be accepted at one listener.
inline constexpr std::size_t kBacklog = 128;
/// Events of a trace; later ones are not kept. 40 MB.
inline constexpr std::size_t kMaxTraceEvents = 1'000'000;

/// Something a thread can sleep on. wake() is async-signal-safe.
class Sleeper {
 public:
  Sleeper() { ::sem_init(&semaphore_, 0, 0); }
  ~Sleeper() { ::sem_destroy(&semaphore_); }
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;

  /// Contract's wake(): remembered until consumed.
  void wake() noexcept {
    if (!woken_.exchange(true)) ::sem_post(&semaphore_);
  }
  bool woken() const noexcept { return woken_.load(); }
  bool consume_wake() noexcept { return woken_.exchange(false); }

  /// Look again: something changed. Not remembered as a wake.
  void nudge() noexcept { ::sem_post(&semaphore_); }
  void sleep_until(std::chrono::steady_clock::time_point until) noexcept;

 private:
  sem_t semaphore_;
  std::atomic<bool> woken_{false};
};

/// One direction of a link.
struct Pipe {
  struct Segment {
    std::vector<std::byte> bytes;
    std::size_t taken = 0;
    SimTime arrival{0};
  };
  std::deque<Segment> segments;
  std::size_t queued_bytes = 0;  // sent, not received
  std::uint64_t received = 0;
  SimTime line_free{0};  // when the last bit sent so far has left
  SimTime last_arrival{0};
  SimTime end_arrival = kNever;  // of the orderly end
  std::optional<std::uint64_t> reset_at;
  bool held = false;
  std::minstd_rand random;  // losses

  /// When there will be something to receive, the orderly end included.
  SimTime next_arrival() const;
};

/// Memory of one end that the other may reach.
struct Memory {
  struct Grant {
    MutableBytes range;
    RemoteAccess access = RemoteAccess::kRead;
    RemoteKey key;
  };
  struct Device {
    MutableBytes range;                 // the device's addresses
    std::shared_ptr<std::byte> mapped;  // the first of its bytes
  };
  std::vector<MutableBytes> added;        // one entry per add(), and per allocate()
  std::vector<Device> devices;            // one entry per add_device()
  std::map<std::uint64_t, Grant> grants;  // by the key's first word
};

/// A one-sided access under way.
struct Access {
  std::uint64_t number = 0;  // of the link
  std::uint64_t token = 0;
  RemoteKey key;
  RemoteAccess what = RemoteAccess::kRead;
  std::uint64_t offset = 0;
  MutableBytes here;  // a write only reads it
  std::shared_ptr<std::byte> keeps;  // the device memory that `here` lies in, if any
  SimTime effect{0};  // when it reaches the owner's memory
  SimTime end{0};     // when its end is known
  bool done = false;
  TransportError error;
};

/// A link: two pipes. Shared by its two ends and, until accepted, by the listener.
struct Link {
  std::uint32_t number = 0;
  Shape shape;
  Faults faults;
  Pipe pipes[2];  // by Direction of the sender
  bool reset = false;
  bool closed[2] = {false, false};
  std::thread::id driver[2];             // the party of each end; none: nobody has driven it yet
  bool handed_over[2] = {false, false};  // its next driver has not come yet
  std::uint32_t steps[2] = {0, 0};

  OneSidedOptions one_sided;
  Memory memory[2];                         // of each end
  std::deque<Access> accesses[2];           // that each end has begun, in order
  std::deque<OneSidedCompletion> ended[2];  // not yet told
  std::uint64_t access_count = 0;
  std::uint64_t key_count = 0;
};

/// A thread that waits, as the clock sees it.
struct Waiter {
  std::thread::id thread;
  Sleeper* sleeper = nullptr;
  SimTime deadline = kNever;
  /// True when the wait is over (deadline apart). Called with the mutex held.
  std::function<bool()> ready;
  /// When time alone will make it ready; kNever: only somebody's doing can.
  std::function<SimTime()> next;
};

struct Pending {
  std::shared_ptr<Link> link;
  SimTime arrival{0};
};
struct ListenQueue {
  std::deque<Pending> pending;
  Sleeper sleeper;
};

class Context {
 public:
  explicit Context(NetworkOptions options);

  SimTime now() const;  // mutex held, or racy by design
  SimTime to_sim_time(Deadline deadline) const;
  Deadline to_deadline(SimTime time) const;

  /// Sleeps until waiter.ready() or its deadline (false). Lets the virtual clock run.
  bool wait(std::unique_lock<std::mutex>& lock, Waiter& waiter);
  /// Something changed that others may wait for.
  void changed();
  void log(Link& link, Direction end, TraceEvent::Kind kind, std::uint64_t bytes = 0);
  void reset(Link& link, Direction blamed);
  /// Does the accesses of both ends whose time has come (one_sided.cc).
  void run_accesses(Link& link);
  /// When the first access of this end will be over; kNever: none is under way, or it is held.
  SimTime next_completion(const Link& link, Direction end) const;
  /// Every access of this end ends with `error`, now.
  void end_accesses(Link& link, Direction end, TransportError error);

  mutable std::mutex mutex;
  NetworkOptions options;
  std::optional<Faults> next_faults;
  unsigned refusals = 0;
  std::map<std::string, std::shared_ptr<ListenQueue>, std::less<>> listeners;
  std::vector<std::weak_ptr<Link>> links;
  std::vector<TraceEvent> trace;

 private:
  void perform(Link& link, Direction end, Access& access);
  void record(const TraceEvent& event);
  bool everybody_waits() const;
  bool advance();

  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  SimTime virtual_now_{0};
  std::uint64_t events_ = 0;  // of the trace, those beyond its limit too
  std::vector<Waiter*> waiters_;
};

}  // namespace avec::sim
