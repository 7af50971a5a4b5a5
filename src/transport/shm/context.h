// What the connections and listeners of shared memory have in common: sealed memory, the socket
// beside it, and the layout of what both ends map.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "avec/transport.h"
#include "base/handle.h"

namespace avec::shm {

/// A broken rule: what came from the peer cannot be true.
inline constexpr TransportError kViolation{TransportErrc::kReset, 71};  // EPROTO

// ---- memory ----------------------------------------------------------------------------

/// Shared memory in this process; unmapped at its end. Children of fork do not have it.
class Mapping {
 public:
  Mapping() = default;
  /// Maps all of a file anywhere. Empty on failure, with errno.
  static Mapping of(int fd, std::size_t bytes) noexcept;
  Mapping(Mapping&& other) noexcept : bytes_(other.release()) {}
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping() { reset(); }

  MutableBytes bytes() const noexcept { return bytes_; }
  explicit operator bool() const noexcept { return !bytes_.empty(); }
  void reset() noexcept;

 private:
  MutableBytes release() noexcept { return std::exchange(bytes_, {}); }
  MutableBytes bytes_;
};

/// Memory of `bytes`, zeroed, whose size nobody can change any more. Empty on failure, with errno.
Descriptor make_sealed_memory(const char* name, std::size_t bytes) noexcept;

/// True when `fd` is memory of exactly `bytes` that can neither shrink nor grow nor lie on pages
/// that a touch may find missing: reading and writing a mapping of it cannot fail.
bool is_sealed_memory(int fd, std::size_t bytes) noexcept;

// ---- the socket ------------------------------------------------------------------------

/// What the ends tell each other beside the rings. As bytes on a Unix-domain stream socket.
enum class Note : std::uint32_t {
  kBell = 1,   ///< look at the rings: you said that you sleep
  kMemory,     ///< memory of this end, its descriptor comes along
  kMemoryGone  ///< it is given back
};

struct Message {
  Note note = Note::kBell;
  std::uint32_t reserved = 0;
  std::uint64_t id = 0;     ///< kMemory, kMemoryGone: of the memory; rising, from 1
  std::uint64_t bytes = 0;  ///< kMemory
};
static_assert(sizeof(Message) == 24);

/// A Unix-domain stream socket that carries messages, descriptors, and the news of the peer's death.
/// send() may be called from any thread, receive() from one at a time.
class Control {
 public:
  explicit Control(Descriptor fd) noexcept : fd_(std::move(fd)) {}

  enum class Sent : std::uint8_t { kDone, kFull, kBroken };
  /// Never blocks, never sends a part. `attached`: a descriptor that the peer gets a copy of, or -1.
  Sent send(const Message& message, int attached = -1) noexcept;

  enum class Received : std::uint8_t { kMessage, kNothing, kEnd, kMalformed };
  /// Never blocks. `attached` is the peer's descriptor, if one came.
  Received receive(Message& message, Descriptor& attached) noexcept;

  /// Valid until the destructor, closed or not.
  int descriptor() const noexcept { return fd_.get(); }
  /// Says the end to the peer; what was sent still arrives.
  void close() noexcept;

 private:
  Descriptor fd_;
  bool closed_ = false;
  // A message of which only a part has come, as only a malicious peer sends it.
  std::array<std::byte, sizeof(Message)> partial_{};
  std::size_t partial_bytes_ = 0;
  Descriptor partial_attached_;
};

/// One sendmsg() of all the bytes with a descriptor (or -1); false with errno.
bool send_with_descriptor(int socket, ConstBytes bytes, int attached) noexcept;
/// One recvmsg(); bytes received, 0 at the end, -1 with errno. EPROTO: more descriptors than one.
ssize_t receive_with_descriptor(int socket, MutableBytes bytes, Descriptor& attached) noexcept;

}  // namespace avec::shm
