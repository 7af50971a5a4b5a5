// What the fake library knows: devices, the objects that programs made, and what is to go wrong.
// One lock (Fabric::mutex) guards all of it; every exported function holds it through a Call.
//
// The structs begin with the verbs struct that programs see, so that a pointer to one is a pointer
// to the other. Nothing is allocated by posting, delivering or polling: tests count allocations.
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "transport/fake_verbs/fake_verbs.h"

namespace fake_verbs {

using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;
constexpr Time kNever = Time::max();

// Every function whose calls are counted and can be made to fail.
#define FAKE_VERBS_FUNCTIONS(X)                                                                             \
  X(ibv_get_device_list)                                                                                    \
  X(ibv_open_device)                                                                                        \
  X(ibv_close_device)                                                                                       \
  X(ibv_query_device) X(ibv_query_port) X(ibv_query_gid) X(_ibv_query_gid_ex) X(ibv_alloc_pd)               \
      X(ibv_dealloc_pd) X(ibv_reg_mr) X(ibv_reg_dmabuf_mr) X(ibv_dereg_mr) X(ibv_alloc_mw) X(ibv_dealloc_mw) \
          X(ibv_create_comp_channel) X(ibv_destroy_comp_channel) X(ibv_create_cq) X(ibv_destroy_cq)         \
              X(ibv_get_cq_event) X(ibv_ack_cq_events) X(ibv_poll_cq) X(ibv_req_notify_cq) X(ibv_create_qp) \
                  X(ibv_modify_qp) X(ibv_query_qp) X(ibv_destroy_qp) X(ibv_post_send) X(ibv_post_recv)      \
                      X(ibv_get_async_event) X(ibv_ack_async_event) X(ibv_fork_init)                        \
                          X(rdma_create_event_channel) X(rdma_create_id) X(rdma_resolve_addr)               \
                              X(rdma_resolve_route) X(rdma_get_cm_event) X(rdma_cm_event)

enum class Function : unsigned {
#define FAKE_VERBS_ENUMERATOR(name) name,
  FAKE_VERBS_FUNCTIONS(FAKE_VERBS_ENUMERATOR)
#undef FAKE_VERBS_ENUMERATOR
      kCount
};

/// A queue that allocates only when it outgrows what it was made for.
template <class T>
class Ring {
 public:
  explicit Ring(std::size_t room = 16) : slots_(room) {}
  std::size_t size() const { return count_; }
  bool empty() const { return count_ == 0; }
  T& operator[](std::size_t i) { return slots_[(first_ + i) % slots_.size()]; }
  T& front() { return slots_[first_]; }
  void pop() {
    first_ = (first_ + 1) % slots_.size();
    --count_;
  }
  void push(const T& value) {
    if (count_ == slots_.size()) grow();
    (*this)[count_++] = value;
  }
  /// Drops what `unwanted` says; how many.
  template <class Predicate>
  std::size_t drop(Predicate unwanted) {
    std::size_t kept = 0;
    const auto before = count_;
    for (std::size_t i = 0; i < before; ++i) {
      if (!unwanted((*this)[i])) (*this)[kept++] = (*this)[i];
    }
    count_ = kept;
    return before - kept;
  }

 private:
  void grow() {
    std::vector<T> larger(slots_.size() * 2);
    for (std::size_t i = 0; i < count_; ++i) larger[i] = (*this)[i];
    slots_.swap(larger);
    first_ = 0;
  }
  std::vector<T> slots_;
  std::size_t first_ = 0, count_ = 0;
};

/// A descriptor whose reads give one token per post(), as those of verbs channels do; blocking or
/// not as the program has set it.
class Doorbell {
 public:
  Doorbell();
  ~Doorbell();
  Doorbell(const Doorbell&) = delete;
  Doorbell& operator=(const Doorbell&) = delete;
  int descriptor() const { return descriptor_; }
  void post() const;
  /// 0, or errno. Call without the lock.
  int take() const;
  /// Takes a token back that nobody shall see.
  void withdraw() const;

 private:
  int descriptor_;
};

struct Port {
  ibv_port_state state = IBV_PORT_ACTIVE;
  std::uint16_t lid = 0;
  bool has_gids = true;
};

struct Device {
  ibv_device base{};  // first: programs hold pointers to it
  FakeVerbsDevice settings{};
  std::array<Port, FAKE_VERBS_PORTS + 1> ports{};  // by number, 1 is the first
  unsigned number = 0;
  bool fatal = false;

  bool has_port(unsigned port) const { return port >= 1 && port <= settings.ports; }
  /// False: the entry is empty.
  bool gid(unsigned port, unsigned index, ibv_gid& value, ibv_gid_type& type) const;
  static constexpr unsigned kGidTable = 16;
  /// The entry that librdmacm uses: the IPv4 address with RoCEv2, or the only one.
  unsigned preferred_gid() const { return settings.link_layer == IBV_LINK_LAYER_INFINIBAND ? 0 : 3; }
  bool has_address(unsigned port, const std::uint8_t (&ipv4)[4]) const;
};

struct AsyncEvent {
  ibv_async_event event{};
  std::uint32_t qpn = 0;  // its queue pair, for events of one
};

struct Context {
  // ibv_context is the last member of verbs_context, which is where providers keep extended functions.
  verbs_context extended{};
  Device* device = nullptr;
  Doorbell async;
  Ring<AsyncEvent> events;
  pid_t owner = 0;       // the process that opened it; a child must not use it
  unsigned objects = 0;  // made through it and alive
  bool of_cm = false;    // opened by the fake librdmacm, which never closes them
  ibv_context* base() { return &extended.context; }
};

struct Domain {
  ibv_pd base{};
  unsigned objects = 0;
};

struct Region {
  ibv_mr base{};
  unsigned access = 0;
  unsigned windows = 0;  // bound to it
  std::uint64_t start = 0;      // the address that work requests give the first byte
  std::byte* memory = nullptr;  // where that byte lies in this process
  bool of_dma_buf = false;      // `memory` is a mapping of the dma-buf, the region's own
  std::uint64_t locked_bytes = 0;
};

struct Window {
  ibv_mw base{};
  std::uint32_t rkey = 0;    // as bound last; the low byte is the program's
  Region* region = nullptr;  // null: not bound
  std::uint32_t qpn = 0;     // type 2B: the only queue pair that it serves
  std::uint64_t address = 0, bytes = 0;
  unsigned access = 0;
};

struct Completion {
  ibv_wc wc{};
  bool receive = false;
  std::uint64_t releases = 0;  // work requests of the queue up to here are the program's again
};

struct CompletionQueue {
  ibv_cq base{};
  std::unique_ptr<Ring<Completion>> entries;
  enum class Armed { kNo, kSolicited, kAny } armed = Armed::kNo;
  bool overrun = false;
  unsigned queue_pairs = 0;
  unsigned unacknowledged = 0;
};

struct Channel {
  ibv_comp_channel base{};
  Doorbell bell;
  Ring<CompletionQueue*> events;
};

struct SendWork {
  std::uint64_t id = 0;
  ibv_wr_opcode opcode = IBV_WR_SEND;
  unsigned flags = 0;
  unsigned sges = 0;
  std::uint32_t inline_bytes = 0;
  std::uint64_t remote_address = 0;
  std::uint32_t rkey = 0;  // of the access, the window's new key, or the one to invalidate
  std::uint32_t immediate = 0;
  Window* window = nullptr;
  ibv_mw_bind_info bind{};
  std::uint64_t order = 0;  // among all of the fabric
  Time due{};
  int forced = -1;  // a status to complete with instead of being done
};

struct ReceiveWork {
  std::uint64_t id = 0;
  unsigned sges = 0;
  int forced = -1;
};

struct QueuePair {
  ibv_qp base{};
  ibv_qp_init_attr init{};
  ibv_qp_attr attributes{};
  ibv_qp_state state = IBV_QPS_RESET;  // the true one; base.state is what the program set last
  Device* device = nullptr;

  // Work requests have numbers; slot = number % size of the queue. posted >= done >= released.
  std::vector<SendWork> sends;
  std::vector<ibv_sge> send_sges;
  std::unique_ptr<std::byte[]> inline_data;
  std::uint64_t sends_posted = 0, sends_done = 0, sends_released = 0;
  std::vector<ReceiveWork> receives;
  std::vector<ibv_sge> receive_sges;
  std::uint64_t receives_posted = 0, receives_done = 0, receives_released = 0;

  bool stalled = false, cut = false, established = false;
  bool ready = false;      // in Fabric::ready_
  bool set_aside = false;  // could not go on in this round of the engine
  enum class Blocked { kNo, kReceiver, kSilence } blocked = Blocked::kNo;
  Time deadline = kNever;  // of being blocked
  unsigned unacknowledged = 0;

  bool has_work() const { return sends_done < sends_posted; }
  SendWork& head() { return sends[sends_done % sends.size()]; }
  ibv_sge* sges_of_head() { return &send_sges[sends_done % sends.size() * init.cap.max_send_sge]; }
  std::byte* inline_of(std::uint64_t number) {
    return &inline_data[number % sends.size() * init.cap.max_inline_data];
  }
};

/// The queue pairs, regions and windows that a key names.
struct KeyEntry {
  Region* region = nullptr;
  Window* window = nullptr;
};

struct CallFault {
  Function function;
  unsigned after;  // calls that still succeed
  unsigned times;  // that then fail; 0: all
  int error;
};

struct WorkFault {
  int opcode;  // -1: any send, -2: receives
  std::uint32_t qpn;
  unsigned after;
  int status;
};

class Fabric {
 public:
  /// The process's one; never destroyed.
  static Fabric& get();

  std::mutex mutex;

  // ---- devices and what programs made
  std::vector<std::unique_ptr<Device>> devices;  // all that ever were: programs may hold them
  std::vector<Device*> listed;
  int no_driver = 0;
  std::vector<Context*> contexts;
  std::vector<QueuePair*> queue_pairs;  // in the order of their making
  std::unordered_map<std::uint32_t, QueuePair*> queue_pairs_by_number;
  std::unordered_map<std::uint32_t, KeyEntry> keys;  // by the upper 24 bits
  FakeVerbsLive live{};
  std::uint64_t locked_bytes = 0, memlock = UINT64_MAX;
  std::uint32_t next_key = 0x1000, next_qpn = 0x11, next_handle = 1;

  /// Keys that were ever good for remote access, with an address they named.
  struct KnownKey {
    std::uint32_t rkey;
    std::uint64_t address;
  };
  std::vector<KnownKey> known_keys;
  unsigned known_count = 0;
  void remember_key(std::uint32_t rkey, std::uint64_t address);

  // ---- faults and counts
  std::array<unsigned, static_cast<std::size_t>(Function::kCount)> calls{};
  std::vector<CallFault> call_faults;
  std::vector<WorkFault> work_faults;
  std::array<unsigned, 32> posted{};
  unsigned receives_posted = 0;
  unsigned violation_count = 0;
  std::string first_violation;
  unsigned deepest_send_queue = 0, deepest_completion_queue = 0;
  bool keeps_stale_completions = true;
  bool holds_registrations = false;
  std::condition_variable registrations_go_on;
  /// Counts a call; the errno it shall fail with, or 0.
  int enter(Function function);
  /// As enter, for a failure that may be without errno: true with error 0.
  bool fault(Function function, int& error);
  /// The status that a work request shall complete with, or -1.
  int work_fault(int opcode, std::uint32_t qpn);
  void violation(std::string_view what);

  // ---- delivery
  int mode = FAKE_VERBS_IMMEDIATE;
  std::chrono::microseconds delay{0};
  unsigned seed = 0;
  std::minstd_rand random;
  unsigned timeout_percent = 100;
  std::uint64_t next_order = 1;

  /// The queue pair has something to do, or may go on.
  void ready(QueuePair& queue_pair);
  /// Those that send to it may go on.
  void ready_peer(QueuePair& queue_pair);
  /// Does what the mode lets be done now.
  void settle();
  unsigned step(std::uint32_t qpn, unsigned count);
  /// Forgets a queue pair that is destroyed.
  void forget(QueuePair& queue_pair);
  /// The thread of thread mode and of timeouts; runs while a device is open.
  void start_engine();
  void stop_engine(std::unique_lock<std::mutex>& lock);
  void after_fork_in_child();
  void wake_engine() { engine_wakes_.notify_all(); }

  /// To error: everything outstanding is flushed.
  void to_error(QueuePair& queue_pair);
  void raise(Context& context, ibv_event_type type, int port, QueuePair* queue_pair, CompletionQueue* queue);
  QueuePair* queue_pair(std::uint32_t qpn);

  /// The bytes that a remote access of `queue_pair` may reach, or null.
  std::byte* remote(const QueuePair& queue_pair, std::uint32_t rkey, std::uint64_t address,
                    std::uint64_t bytes, unsigned access);

 private:
  static void* run_engine(void* generation);
  void engine(unsigned generation);
  void end_round();
  QueuePair* next_runnable(Time now, Time& wake_at);

  std::vector<QueuePair*> ready_;
  std::condition_variable engine_wakes_;
  pthread_t engine_{};
  bool engine_runs_ = false;
  unsigned engine_generation_ = 0;  // an engine of an older one ends
};

/// An exported function at work: holds the lock. In a process that the context was not opened in
/// it ends that process: a child that uses its parent's verbs would break the parent's connections.
struct Call {
  explicit Call(Function function, ibv_context* context = nullptr);
  std::unique_lock<std::mutex> lock;
  int error = 0;  // injected
};

/// The exit status of such a process.
constexpr int kChildUsedVerbs = 86;

Context& context_of(ibv_context* context);
/// Whether an event's element is a queue pair.
bool is_of_queue_pair(ibv_event_type event);

// The data path's functions, for ibv_context_ops.
int post_send(ibv_qp* qp, ibv_send_wr* work, ibv_send_wr** bad);
int post_receive(ibv_qp* qp, ibv_recv_wr* work, ibv_recv_wr** bad);
int poll(ibv_cq* cq, int room, ibv_wc* completions);
int request_notification(ibv_cq* cq, int solicited_only);
ibv_mw* allocate_window(ibv_pd* domain, ibv_mw_type type);
int free_window(ibv_mw* window);

// delivery.cc
enum class Outcome { kProgress, kWait };
/// Does the first work request of the queue pair, if it can be done.
Outcome advance(Fabric& fabric, QueuePair& queue_pair, Time now);
/// Flushes all receives of a queue pair in error.
void flush_receives(Fabric& fabric, QueuePair& queue_pair);
void push(Fabric& fabric, CompletionQueue& queue, const Completion& completion, bool solicited);

// device.cc
Context* open_context(Fabric& fabric, Device& device, bool of_cm);
void close_context(Fabric& fabric, Context& context);

}  // namespace fake_verbs
