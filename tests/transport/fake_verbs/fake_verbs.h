// A stand-in for libibverbs.so.1 and librdmacm.so.1 in one process: adapters, ports, reliable
// connections, memory regions and windows that behave as the verbs documents say, so that a
// program meets, without hardware and on demand, what an adapter does once in a year.
//
// The library (libavec_fake_verbs.so) exports the ibv_* and rdma_* functions that the RDMA
// transport loads, and fake_verbs_control() below. A test names the library where the real
// ones are expected, and breaks things through the table:
//
//   const FakeVerbs& fake = fake_verbs::control();
//   fake.reset();
//   fake.fail_call("ibv_reg_mr", 3, ENOMEM, 1);     // the third from now on, once
//   fake.fail_work(IBV_WR_RDMA_READ, 0, 1, IBV_WC_RETRY_EXC_ERR);
//   ...
//   CHECK(fake.live().total() == 0);                // nothing leaked
//   CHECK(fake.violations() == 0u);                 // nothing was used against the documents
//
// Where adapters differ the fake takes the side that is harder for its user: fields of a failed
// completion beside wr_id, status and qp_num are nonsense; arming a completion queue says
// nothing of completions that are in it; slots of a send queue are free only once a completion
// behind them has been polled; lkey and rkey of a region differ; completions of a destroyed
// queue pair stay in the completion queue; a queue pair in error tells its peer nothing.
//
// Only reliable connections without shared receive queues and atomics exist. Both ends of a
// connection live in the process that loaded the library.
#pragma once

#include <infiniband/verbs.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// When posted work is done.
enum FakeVerbsMode {
  FAKE_VERBS_IMMEDIATE,  ///< by the thread that posts, before it returns, as far as the peer lets it
  FAKE_VERBS_THREAD,     ///< by a thread of the library, after `delay_us`
  FAKE_VERBS_STEP        ///< by step() only, one work request a step
};

/// An adapter with its ports. Taken over when it is set, at the latest before it is opened.
struct FakeVerbsDevice {
  char name[64];
  unsigned ports;  ///< 1 to FAKE_VERBS_PORTS
  int link_layer;  ///< IBV_LINK_LAYER_ETHERNET or IBV_LINK_LAYER_INFINIBAND
  int active_mtu;  ///< enum ibv_mtu
  /// Of port 1; port N has the last byte N-1 higher. With Ethernet it makes GIDs 2 (RoCEv1) and
  /// 3 (RoCEv2); GIDs 0 and 1 are link-local. InfiniBand has GID 0 only. All zero: no GID at all.
  uint8_t ipv4[4];
  int windows;  ///< 0: ibv_alloc_mw is EOPNOTSUPP; 1: type 1 only; 2: type 2B too
  int max_mr, max_mw, max_qp, max_cq, max_cqe;
  unsigned max_qp_wr, max_sge, max_inline_data, max_rd_atomic;
  uint64_t max_mr_size;
  uint32_t max_msg_sz;
};
enum { FAKE_VERBS_PORTS = 4 };

/// Objects that exist now.
struct FakeVerbsLive {
  unsigned contexts, domains, regions, windows, channels, completion_queues, queue_pairs;
  unsigned cm_channels, cm_ids;
  unsigned locked_bytes_kib;  ///< pages under registrations
  unsigned remote_keys;       ///< keys that would let a peer in: regions with remote rights, bound windows
#ifdef __cplusplus
  unsigned total() const {
    return contexts + domains + regions + windows + channels + completion_queues + queue_pairs + cm_channels +
           cm_ids;
  }
#endif
};

/// Everything here may be called from any thread; nothing blocks but on the library's lock.
struct FakeVerbs {
  // ---- life

  /// Back to two Ethernet devices that can reach each other and themselves, "fake0" (10.9.0.1; a
  /// second port that is down) and "fake1" (10.9.0.2), to immediate mode, no faults, counts of
  /// zero. Returns how many objects were still alive (they stay).
  unsigned (*reset)(void);
  struct FakeVerbsLive (*live)(void);
  /// How many times the verbs were used against their documents since reset(), and the first of
  /// those in words ("" for none). A real library would block, crash or corrupt.
  unsigned (*violations)(void);
  const char* (*first_violation)(void);

  // ---- adapters

  /// Fills in "fake0".
  void (*default_device)(struct FakeVerbsDevice* device);
  /// Replaces the list of devices. 0: a machine without adapters. Ports come up active.
  void (*set_devices)(const struct FakeVerbsDevice* devices, unsigned count);
  /// ibv_get_device_list() fails with this errno: no kernel module. 0: it works.
  void (*set_no_driver)(int error);
  /// A port's state; a change raises IBV_EVENT_PORT_ERR or IBV_EVENT_PORT_ACTIVE. While it is
  /// not active, what is sent through it is lost.
  void (*set_port)(const char* device, unsigned port, int state);
  void (*remove_gids)(const char* device, unsigned port);
  /// Pages that may be registered at the same time in the process (RLIMIT_MEMLOCK); beyond it
  /// ibv_reg_mr is ENOMEM. UINT64_MAX: no limit.
  void (*set_memlock)(uint64_t bytes);

  // ---- delivery

  /// `seed`: 0 works requests of different queue pairs off in the order of their posting; any
  /// other value in an order drawn from it (a queue pair's own order always stays).
  void (*set_mode)(int mode, unsigned delay_us, unsigned seed);
  /// FAKE_VERBS_STEP: up to `count` steps, of the queue pair `qpn` (0: of any). How many were made.
  unsigned (*step)(uint32_t qpn, unsigned count);
  /// Timeouts (of retries, of receivers that are not ready) are `percent` of what the queue
  /// pair's attributes say. 0: they pass at once.
  void (*set_timeouts)(unsigned percent);
  /// Work of the queue pair waits until it is let go.
  void (*stall)(uint32_t qpn, int on);
  /// Nothing that the queue pair sends arrives any more, nor anything sent to it.
  void (*cut)(uint32_t qpn);
  /// Completions of a destroyed queue pair: 1 leaves them in the completion queue (default).
  void (*set_stale_completions)(int keep);

  /// Calls of ibv_reg_mr have registered, but do not return before this is off again.
  void (*hold_registrations)(int on);

  // ---- faults

  /// Calls of `function` ("ibv_reg_mr", also "ibv_post_send", "ibv_poll_cq", "rdma_resolve_addr"
  /// ...) fail with `error`, from the nth from now (1 = the next), `times` of them (0: all). The
  /// pseudo-function "rdma_cm_event" turns the event of a resolution into its error event, or with
  /// error 0 swallows it. False: there is no such function here.
  int (*fail_call)(const char* function, unsigned nth, int error, unsigned times);
  /// The nth work request from now with this opcode (-1: any send opcode; -2: receives) of this
  /// queue pair (0: any) completes with `status`; nothing of it is done.
  void (*fail_work)(int opcode, uint32_t qpn, unsigned nth, int status);
  /// Raises an asynchronous event. `number` is the port for port events, the queue pair's number
  /// for those of queue pairs (which go to error with the fatal ones) and of their send queue's
  /// completion queue, else nothing. After
  /// IBV_EVENT_DEVICE_FATAL every queue pair of the device is in error, and nothing new can be made.
  void (*raise_event)(const char* device, int type, uint32_t number);

  // ---- watching

  /// Calls of a function since reset(), failed ones included.
  unsigned (*calls)(const char* function);
  /// Work requests posted since reset() with this opcode (-1: any, -2: receives).
  unsigned (*posted)(int opcode);
  /// Requests posted to the send queue of one queue pair, since it was made.
  unsigned (*posted_of)(uint32_t qpn);
  /// Numbers of the living queue pairs, oldest first; how many there are.
  unsigned (*queue_pairs)(uint32_t* numbers, unsigned room);
  /// Most requests that were ever outstanding in any send queue, and most entries in any
  /// completion queue, since reset().
  unsigned (*deepest_send_queue)(void);
  unsigned (*deepest_completion_queue)(void);

  // ---- attacks

  /// A peer's READ (or WRITE) of `bytes` at `address` through `rkey`, tried on every queue pair
  /// that lives, whatever its connection: the most that a malicious peer could do with the key.
  /// IBV_WC_SUCCESS if any let it in, and the bytes were moved; else IBV_WC_REM_ACCESS_ERR.
  int (*attack)(uint32_t rkey, uint64_t address, void* data, uint32_t bytes, int write);
  /// Tries, one byte each, every key that has ever been valid for remote access since reset():
  /// both directions. How many let it in. `ever` (may be null): how many keys there were.
  unsigned (*attack_all)(unsigned* ever);
};

const struct FakeVerbs* fake_verbs_control(void);

#ifdef __cplusplus
}  // extern "C"

#include <dlfcn.h>

#include <cstdlib>

/// What tests use to get at the library: they do not link it, as the transport does not.
namespace fake_verbs {

/// The library's path, put there by CMake (link avec_fake_verbs_path).
#ifdef AVEC_FAKE_VERBS_PATH
inline const char* path() { return AVEC_FAKE_VERBS_PATH; }

/// Loads the library (once) and gives its control. Aborts when it is not there: a broken build.
inline const FakeVerbs& control() {
  static const FakeVerbs& table = [] -> const FakeVerbs& {
    void* library = ::dlopen(path(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    void* function = library != nullptr ? ::dlsym(library, "fake_verbs_control") : nullptr;
    if (function == nullptr) std::abort();
    return *reinterpret_cast<decltype(&fake_verbs_control)>(function)();
  }();
  return table;
}
#endif

}  // namespace fake_verbs
#endif
