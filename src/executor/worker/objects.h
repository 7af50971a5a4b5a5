// What a session's names stand for: contexts, streams, events, modules, functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/array_format.h"
#include "executor/worker/arena.h"
#include "executor/worker/driver.h"
#include "executor/worker/memory.h"
#include "wire/frame.h"

namespace avec::worker {

/// The objects behind the names of one kind.
template <class T>
class Names {
 public:
  /// Null when there is no such name.
  T* find(std::uint64_t name) {
    if (name == last_name_) return last_;
    auto it = objects_.find(name);
    if (it == objects_.end()) return nullptr;
    last_name_ = name;
    return last_ = it->second.get();
  }
  /// Null when the name is 0, is taken, or there are too many.
  T* add(std::uint64_t name) {
    if (name == 0 || objects_.size() >= limits::kMaxHandles) return nullptr;
    auto [it, fresh] = objects_.try_emplace(name);
    if (!fresh) return nullptr;
    it->second = std::make_unique<T>();
    it->second->name = name;
    return it->second.get();
  }
  std::unique_ptr<T> remove(std::uint64_t name) {
    last_name_ = 0;
    last_ = nullptr;
    auto node = objects_.extract(name);
    return node.empty() ? nullptr : std::move(node.mapped());
  }
  auto begin() { return objects_.begin(); }
  auto end() { return objects_.end(); }
  std::size_t size() const { return objects_.size(); }

 private:
  std::unordered_map<std::uint64_t, std::unique_ptr<T>> objects_;
  std::uint64_t last_name_ = 0;  // the name that was asked for last: launches repeat it
  T* last_ = nullptr;
};

struct Stream;
struct Download;
struct Fetch;
struct DirectCopy;
struct HostTurn;
struct HostRegion;

struct Context {
  std::uint64_t name = 0;
  CUresult poison = CUDA_SUCCESS;  ///< what creating it failed with: each use returns it
  CUcontext handle = nullptr;
  CUgreenCtx green = nullptr;  ///< `handle` is that of a part of the device
  CUdevice device = 0;
  bool primary = false;
  Stream* legacy = nullptr;
  std::vector<Stream*> streams;  ///< all of this context, dying ones included
  std::vector<CUevent> spare_events;  ///< for marks
  int blocking_captures = 0;     ///< streams that capture and exclude the legacy stream
  std::size_t library_calls = 0;  ///< on helpers, in this context
  std::function<void()> when_left;  ///< once there are none
  bool may_print = false;        ///< a module was loaded whose kernels may print
  std::unordered_set<std::uint64_t> textures, surfaces;  ///< objects made in it
};

/// Modules and events of one are usable in the other: a device's green contexts share its primary
/// context's.
inline bool share_objects(const Context& a, const Context& b) {
  const auto root = [](const Context& c) { return c.primary || c.green != nullptr; };
  return &a == &b || (a.device == b.device && root(a) && root(b));
}

/// A point in a stream's order of held frames: issued once the stream's held frames up to
/// `sequence` have been.
struct HeldPoint {
  Stream* stream = nullptr;
  std::uint64_t sequence = 0;
};

/// A frame that waits: for room in its stream's window, or for other held frames.
struct Held {
  wire::FrameHeader header;
  std::vector<std::byte> body, payload;
  std::uint64_t sequence = 0;     ///< order of holding
  std::vector<HeldPoint> after;   ///< must have been issued first
  std::uint64_t payload_base = 0; ///< offset of payload[0] in the call's payload
  std::uint64_t done_bytes = 0;   ///< of a copy to the device that is issued piece by piece
  std::shared_ptr<Download> download;  ///< of a copy from the device that has begun
  std::shared_ptr<Fetch> fetch;        ///< of a copy by one-sided access to the device that has begun
  std::shared_ptr<DirectCopy> direct;  ///< of a copy that the adapter makes that has begun
  std::shared_ptr<HostTurn> turn;      ///< of a host function whose turn the client has, or had
  std::shared_ptr<HostRegion> region;  ///< of the client's memory that the call names, if that is mapped
  std::uint64_t cost() const { return sizeof(Held) + body.size() + payload.size(); }
};

/// Something to do once the work issued to a stream before it has finished.
struct Completion {
  std::uint64_t count = 0;  ///< the stream's `issued` when it was added
  std::function<void(CUresult)> action;
};

struct Stream {
  std::uint64_t name = 0;
  CUresult poison = CUDA_SUCCESS;
  CUstream handle = nullptr;
  Context* context = nullptr;
  bool created = false;      ///< by StreamCreate: destroyed by us
  bool synchronizing = true; ///< orders itself with the legacy default stream
  /// Carries bytes that host functions see and write: never behind barriers and fences of others, which may
  /// themselves wait for a host function.
  bool beside = false;
  bool capturing = false;    ///< what is issued to it is recorded, not done
  bool dying = false;        ///< destroyed by the client; freed once it is idle

  // Completion, by counting what was issued (completions.h).
  std::uint64_t issued = 0, marked = 0, completed = 0;
  struct Mark {
    CUevent event;
    std::uint64_t count;
  };
  std::deque<Mark> marks;
  std::deque<Completion> completions;
  bool listed = false;         ///< in Completions::busy_
  std::uint64_t fence_seen = 0, beside_fence_seen = 0;

  // Backlog (backlog.h).
  std::deque<Held> held;

  // What the client wants to be told (watches.cc).
  std::uint64_t watch_credit = 0;  ///< StreamDones that it still expects
  bool touched = false;            ///< a frame has named the stream since the last one

  std::size_t library_calls = 0;   ///< on helpers, which give it work

  bool idle() const { return issued == completed && held.empty() && library_calls == 0; }
};

struct Event {
  std::uint64_t name = 0;
  CUresult poison = CUDA_SUCCESS;
  CUevent handle = nullptr;
  Context* context = nullptr;
  HeldPoint held_record;               ///< a record that has not been issued
  std::vector<HeldPoint> held_waits;   ///< waits that have not been issued
  std::uint64_t recorded_in = 0;       ///< name of the stream of the last record that was issued
  std::uint64_t watch = 0;             ///< highest record whose end the client wants to know; 0: none
};

/// Physical memory that the client named.
struct Physical {
  std::uint64_t name = 0;
  CUmemGenericAllocationHandle handle = 0;
  std::uint64_t bytes = 0;
  int device = 0;
  bool making = false;  ///< a helper is at it: no call may use it yet
};

struct Function {
  CUfunction handle = nullptr;
  std::string name;
  std::vector<std::uint32_t> offsets, sizes;
  std::vector<std::int32_t> attributes;
  std::uint32_t parameter_bytes = 0;
};

struct LinkState;

/// A linker that has not been destroyed.
struct Linker {
  std::uint64_t name = 0;
  Context* context = nullptr;
  std::shared_ptr<LinkState> state;
  bool busy = false;  ///< a helper is at it
};

/// Part of a device (CUdevResource), and what cuDevResourceGenerateDesc makes of parts.
struct Resource {
  std::uint64_t name = 0;
  CUdevResource value{};
};
struct Description {
  std::uint64_t name = 0;
  CUdevResourceDesc value = nullptr;
};

struct Module {
  std::uint64_t name = 0;
  CUresult poison = CUDA_SUCCESS;
  CUmodule handle = nullptr;
  Context* context = nullptr;
  std::vector<Function> functions;
  bool in_graphs = false;  ///< a graph may hold a kernel of it
  bool loading = false;  ///< a helper is at it: no call may use it yet
};

/// An array or a mipmapped array, or (whole != 0) a level or a plane of one.
struct Array {
  std::uint64_t name = 0;
  Context* context = nullptr;
  CUarray handle = nullptr;              ///< null: mipmapped
  CUmipmappedArray mipmapped = nullptr;
  std::uint32_t levels = 0;              ///< of a mipmapped one
  ArrayShape shape;                      ///< all 0: its elements cannot be copied as a whole
  std::uint64_t whole = 0;
  std::vector<std::uint64_t> parts;
  bool making = true;                    ///< a helper is at it: no call may use it yet
};

}  // namespace avec::worker
