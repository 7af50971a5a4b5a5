// The one-sided accesses of a session that are under way: what each has to do when it ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "avec/one_sided.h"
#include "executor/worker/host_regions.h"

namespace avec::worker {

/// The host's side of a copy that does not pass through the stream.
struct PeerMemory {
  std::shared_ptr<HostRegion> region;  ///< reached by a pointer; null: by read() and write() with `key`
  RemoteKey key;
  std::uint64_t offset = 0;
  /// Where the copy engine reaches it; null: the payload passes through the arena.
  std::byte* direct() const {
    return region != nullptr && region->direct() ? region->memory.data() + offset : nullptr;
  }
};

/// Loop only.
class Accesses {
 public:
  using Done = std::function<void(TransportError)>;

  /// What the connection offers. Borrowed until abandon().
  void use(OneSided* one_sided) { one_sided_ = one_sided; }
  bool ordered() const { return one_sided_ != nullptr && one_sided_->traits().ordered; }

  /// Starts to read from `at` of the peer's memory into `into`, memory that was added, borrowed
  /// until `done` runs: in poll(), or at once. False: not now, try again.
  bool read(const PeerMemory& from, std::uint64_t at, MutableBytes into, Done done);
  bool write(const PeerMemory& to, std::uint64_t at, ConstBytes from, Done done);
  /// Tells of accesses that have ended. True when there was any.
  bool poll();
  bool idle() const { return under_way_ == 0; }
  /// Forgets what is under way, after the connection was closed: no `done` runs.
  void abandon();

  /// Payload that the CPU moved, because the driver does not know the peer's memory.
  std::uint64_t copied_bytes() const { return copied_bytes_; }

 private:
  std::uint64_t token_for(Done done);
  Done take(std::uint64_t token);
  bool begun(const IoResult& result, std::uint64_t token);

  OneSided* one_sided_ = nullptr;
  std::vector<Done> actions_;         // by token; empty: the token is free
  std::vector<std::uint64_t> spare_;  // free tokens
  std::size_t under_way_ = 0;
  std::uint64_t copied_bytes_ = 0;
};

}  // namespace avec::worker
