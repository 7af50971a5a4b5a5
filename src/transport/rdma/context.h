// What the parts of the RDMA transport share: limits, errors, and what a fork must not inherit.
#pragma once

#include <infiniband/verbs.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "avec/transport.h"
#include "transport/rdma/verbs.h"

namespace avec::rdma {

using namespace std::chrono_literals;

/// Receive slots of one end, and the bytes of each: 512 KiB, what a 40 GB/s link carries in a round
/// trip of 12 us. Pinned, as the send slots are; well below the usual 8 MiB of RLIMIT_MEMLOCK.
inline constexpr std::uint32_t kSlots = 64;
inline constexpr std::uint32_t kSlotBytes = 8u << 10;
inline constexpr std::uint32_t kSendSlots = 32;
/// Receive slots beside those, for messages that need no credit: two credit updates, a probe and a
/// close can be under way, and as many again are spare.
inline constexpr std::uint32_t kControlSlots = 8;
/// Work requests in the send queue: a window of slots, and accesses in pieces. A device that offers
/// fewer is used as long as it offers kLeastSendDepth.
inline constexpr std::uint32_t kSendDepth = 512;
inline constexpr std::uint32_t kLeastSendDepth = 128;
/// Of those, kept free for credit updates and the close, and for invalidations and binds.
inline constexpr std::uint32_t kControlReserve = 8;
inline constexpr std::uint32_t kMemoryReserve = 24;
/// Bytes that are put into the work request itself, where the device can.
inline constexpr std::uint32_t kInlineBytes = 220;
/// RDMA READs under way at once, each way.
inline constexpr std::uint32_t kReadDepth = 16;
/// One RDMA READ or WRITE, bytes: the stream's messages wait behind at most the posted ones, and
/// a larger piece is no faster.
inline constexpr std::size_t kPieceBytes = std::size_t{1} << 20;
/// Accesses under way or ended and not yet taken by completed(); more would block.
inline constexpr std::uint32_t kAccesses = 256;
/// Memory windows of one connection: keys that live at the same time.
inline constexpr std::uint32_t kMaxWindows = 4096;

/// close() waits at most this long until the peer's adapter has taken what send() accepted.
inline constexpr auto kCloseLinger = 1000ms;
/// What the peer has closed with must be here so long after its stream told of the end.
inline constexpr auto kFarewellGrace = 1000ms;
/// A revocation waits so long behind what is under way; then the queue pair is put out of service.
inline constexpr auto kRevokeDeadline = 5000ms;
/// The first exchange over the adapters, before the connection is relied on.
inline constexpr auto kProbeDeadline = 2500ms;

/// A lost packet is sent again after 4.096 us * 2^14 (adapters take up to four times that), six times:
/// a peer that is gone is known after 0.5 to 2 s. Not seven times, which soft-RoCE takes for "always".
inline constexpr std::uint8_t kAckTimeout = 14;
inline constexpr std::uint8_t kRetries = 6;
/// Credits make RNR impossible between honest peers: one that lets it happen is given up soon.
inline constexpr std::uint8_t kRnrRetries = 3;
inline constexpr std::uint8_t kRnrTimer = 12;  // 0.64 ms

/// An error with its sentence, on the way to ConnectResult or ListenResult.
struct Failure {
  TransportError error;
  std::string detail;
};

/// The contract's error for a work request that completed with `status`:
///
///   status                          code        os_error
///   RETRY_EXC_ERR                   kReset      ETIMEDOUT      the peer's adapter does not answer
///   RNR_RETRY_EXC_ERR               kReset      ENOBUFS        the peer had no receive buffer
///   REM_ACCESS_ERR, MW_BIND_ERR     kReset      EACCES         a key that allows no such access
///   REM_INV_REQ_ERR, REM_OP_ERR,    kReset      EREMOTEIO      the peer's adapter refused
///   REM_INV_RD_REQ_ERR, REM_ABORT
///   WR_FLUSH_ERR                    kReset      ECANCELED      after another error
///   LOC_*                           kInternal   EFAULT, EMSGSIZE, EINVAL
///   FATAL_ERR and all others        kReset      EIO
TransportError completion_error(ibv_wc_status status) noexcept;

/// The contract's error for an asynchronous event; none: it does no harm.
///
///   DEVICE_FATAL                    kReset      ENODEV
///   PORT_ERR                        kReset      ENETDOWN
///   PATH_MIG_ERR                    kReset      EHOSTUNREACH
///   QP_ACCESS_ERR                   kReset      EACCES         the peer used a key it did not have
///   QP_FATAL, QP_REQ_ERR, CQ_ERR    kReset      EIO
TransportError event_error(ibv_event_type type) noexcept;

/// The contract's error for an errno of making verbs objects.
TransportError resource_error(int os_error) noexcept;
/// "creating a queue pair: Cannot allocate memory; ..." with what to do about locked memory.
Failure resource_failure(std::string_view what, int os_error);

/// Uniform 24 bits, from the system: a packet sequence number that nobody can guess.
std::uint32_t random_psn() noexcept;
/// The same in every process of this machine until it boots again; 0: unknown.
std::uint64_t machine_identity() noexcept;

struct ForkCell;

/// Closes descriptors in a forked child, so that the end of this process is the end of its queue
/// pairs and streams, whatever its children do. One per connection. Nothing is locked over fork():
/// other fork handlers wait for locks, whose holders open and close connections.
class ForkGuard {
 public:
  explicit ForkGuard(std::initializer_list<int> descriptors);
  ~ForkGuard();
  ForkGuard(const ForkGuard&) = delete;
  ForkGuard& operator=(const ForkGuard&) = delete;
  /// To be called before a descriptor is closed while the guard lives: then its number may become
  /// that of any file of the program. One thread at a time.
  void forget(int descriptor) noexcept;
  /// True in a forked child: there is nothing left to close in order.
  bool forked() const noexcept;

 private:
  ForkGuard();

  std::vector<ForkCell*> cells_;
  const int process_;
};

}  // namespace avec::rdma
