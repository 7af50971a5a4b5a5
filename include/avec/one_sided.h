// One-sided access: payload that one end of a connection reads from, or writes into, memory of
// the other without its help and without the stream.
//
// A connection that can (Connection::one_sided()) moves large payload this way: the client's
// memory is read (copies to the device) and written (copies from it) by the executor. Both
// ends use the same class; "owner" is the end whose memory is reached.
//
//   owner                                        peer
//   add(memory) or allocate()     once
//   allow(range, what) -> key     per call
//   key in a frame on the stream  ------------>  read(key, ...) or write(key, ...)
//                                                completed() gives the token back
//   revoke(key)                   <------------  an answer on the stream
//   remove(memory)                once
//
// Threads: every function may be called from any thread, except completed(), which belongs to
// the thread that drives the connection. Nothing throws. Nothing waits for the peer, except
// that revoke() and remove() may wait, bounded, for accesses under way to end.
//
// An end of the connection (close(), a reset, a destructor) ends all access before it returns:
// afterwards no key reaches memory of the owner. After a reset the tokens of accesses under way
// still come from completed(), with its error. Allocated memory stays mapped until free(), which
// works after the end too, or munmap().
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "avec/transport_error.h"

namespace avec {

/// Names bytes that the peer may reach. Made by allow(); opaque; worth something on its own
/// connection only. All zero: names nothing.
struct RemoteKey {
  std::array<std::uint64_t, 4> words{};
  friend bool operator==(const RemoteKey&, const RemoteKey&) = default;
  explicit operator bool() const noexcept { return *this != RemoteKey{}; }
};

/// What the peer may do with a range.
enum class RemoteAccess : std::uint8_t { kRead, kWrite };

/// How a transport's one-sided access is used best. Constant for a connection's life.
struct OneSidedTraits {
  /// The peer has the owner's memory mapped: mapped() gives it, read() and write() are not needed.
  bool maps = false;
  /// A write is visible at the owner before bytes that the writer sends on the stream after
  /// write() has returned. Otherwise: after its completion only.
  bool ordered = false;
  /// Payload up to so many bytes that does not lie in added memory is best copied into memory
  /// that has been added for good ("slots"), and written to the peer at once. 0: never.
  std::size_t slots_up_to = 0;
  /// Payload of at least so many bytes that does not lie in added memory is worth adding for one
  /// copy. SIZE_MAX: never.
  std::size_t add_from = SIZE_MAX;
};

/// An access has ended. The token is the one that read() or write() was given.
struct OneSidedCompletion {
  std::uint64_t token = 0;
  TransportError error;
};

struct MemoryResult {
  MutableBytes memory;  ///< empty on error
  TransportError error;
};

/// Memory of the peer in this process.
struct MappedMemory {
  MutableBytes bytes;  ///< empty: the key names nothing
  /// While it is held the bytes stay mapped, whatever the owner says and after the connection's
  /// end. Null over the simulated link, where they are the owner's own.
  std::shared_ptr<const void> keeps;
};

class OneSided {
 public:
  virtual ~OneSided() = default;
  virtual OneSidedTraits traits() const noexcept = 0;

  // ---- memory of this end

  /// Memory that can be reached, zeroed: `bytes` (a multiple of the page size) at `wish`, where
  /// it replaces what is mapped, or anywhere (null). It is added already.
  virtual MemoryResult allocate(std::size_t bytes, void* wish) noexcept = 0;
  /// Gives it back; allow()ed keys in it become worthless. With `keep_reserved` the addresses
  /// stay mapped without access (PROT_NONE).
  virtual void free(MutableBytes memory, bool keep_reserved) noexcept = 0;
  /// Makes the caller's memory reachable, as a pinned buffer is: it may take milliseconds. Must
  /// stay mapped until remove(). Memory may be added more than once, by several threads for one
  /// copy each, and overlap: each add() is undone by a remove() of the same bytes. kNotViable: only allocate()d memory can be reached here.
  /// kResources: the system does not let so much be locked.
  virtual TransportError add(MutableBytes memory) noexcept = 0;
  /// Makes memory of a device reachable for this end's own read() and write(), never for the peer:
  /// their spans may then lie in [address, address + bytes), addresses of the device that nothing
  /// here dereferences. `dma_buf`, which the device's driver gave for them, holds the bytes from
  /// `offset` on; it stays the caller's and may be closed at once. Undone by remove() of the same bytes, which must
  /// come before the memory goes. kNotViable: this transport, its library or its adapter cannot.
  virtual TransportError add_device(std::uint64_t /*address*/, std::size_t /*bytes*/, int /*dma_buf*/,
                                    std::uint64_t /*offset*/) noexcept {
    return {TransportErrc::kNotViable, 0};
  }
  /// Keys that no other add() covers become worthless.
  virtual void remove(MutableBytes memory) noexcept = 0;

  /// Lets the peer reach `range`, inside of memory that was added. Posted: cheap, but the first may
  /// wait shortly for the way. kNotViable: there is none (yet), and the bytes belong in the stream.
  virtual TransportError allow(MutableBytes range, RemoteAccess access, RemoteKey& key) noexcept = 0;
  /// `taken` is called once the peer has all bytes of a kRead range, or they have left this end for it: the
  /// range may be written again though the key is still good. At most once per key, by a thread of the
  /// transport, which may not call functions of this class there; never, where the transport does not
  /// know. Set before the first allow().
  virtual void on_taken(std::function<void(const RemoteKey& key)> /*taken*/) {}
  /// When it returns, no access through the key is under way and none can begin.
  virtual void revoke(const RemoteKey& key) noexcept = 0;

  // ---- memory of the peer

  /// traits().maps: the bytes that the key names, in this process; empty when it names none. The
  /// owner asks by a frame of its own before it takes memory back; who cannot trust it to do so
  /// holds `keeps`.
  virtual MappedMemory mapped(const RemoteKey& key) noexcept = 0;
  /// Starts to read from `offset` of the key's range into memory of this end that was added, all
  /// of it: result.bytes == into.size(), or 0: would block (try again after completions). `into`
  /// is borrowed until completed() gives the token.
  virtual IoResult read(const RemoteKey& key, std::uint64_t offset, MutableBytes into,
                        std::uint64_t token) noexcept = 0;
  /// The same in the other direction. Zero-sized accesses are not made.
  virtual IoResult write(const RemoteKey& key, std::uint64_t offset, ConstBytes from,
                         std::uint64_t token) noexcept = 0;
  /// Accesses that have ended since, in the order of their ends; how many. Connection::wait()
  /// ends, and its poll descriptor is readable, when there are any. A key or range that the
  /// owner does not allow is an error of the access; whether the connection survives that is
  /// the transport's business.
  virtual std::size_t completed(std::span<OneSidedCompletion> ended) noexcept = 0;
};

}  // namespace avec
