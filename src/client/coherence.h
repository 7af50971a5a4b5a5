// Memory that the program and its kernels both use, at the same address: managed memory, mapped
// pinned memory, managed variables of modules. Both sides have the bytes. What the host changed is
// sent before work that could see it is posted; what the device changed is fetched when a
// synchronisation has succeeded. Changes are found by comparing with a shadow, what both sides had
// when they last agreed, so the program's memory is ordinary memory: system calls into it succeed.
//
// A range that no kernel can name costs nothing: without any, a launch and a synchronisation look
// at one flag of the client each.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include "client/stream.h"
#include "session/session.h"

namespace avec::client {

class Client;
struct Context;
struct HostBlock;

/// The setting "coherence".
enum class CoherenceMode : std::uint8_t {
  kOff,   ///< no memory takes part
  kAuto,  ///< managed and mapped memory; other pinned memory that a kernel gets as parameter
  kAll    ///< every pinned buffer
};

class Coherence {
 public:
  /// `possible`: there is a common host range that this process keeps free.
  Coherence(Client& client, CoherenceMode mode, bool possible);
  ~Coherence();
  Coherence(const Coherence&) = delete;
  Coherence& operator=(const Coherence&) = delete;

  bool possible() const { return mode_ != CoherenceMode::kOff; }

  /// What both sides have from now on.
  struct Range {
    std::uint64_t address = 0;  ///< the device's
    std::uint64_t bytes = 0;
    std::byte* data = nullptr;  ///< the program's: mostly the same address
    /// Multiple of the granularity that is mapped on the device at `address`; 0: it lies there already.
    std::uint64_t mapped = 0;
    std::uint64_t used = 0;  ///< bytes from the beginning that are compared
    /// The program touches it only between a synchronisation and the next launch (CUDA's rule for
    /// managed memory without concurrent access); otherwise at any time.
    bool managed = false;
  };
  /// CUDA_ERROR_OUT_OF_MEMORY when either side has none.
  CUresult open(const Range& range, Context& context);
  void close(std::uint64_t address);
  /// The first `used` bytes of the range that begins there are in use.
  void use(std::uint64_t address, std::uint64_t used);

  /// Launches must be looked at: a pinned buffer exists whose address they may carry.
  void watch();
  /// A pinned buffer exists; `mapped`: kernels are meant to use it.
  void allocated(std::uint64_t base, bool mapped) {
    if (mapped || mode_ == CoherenceMode::kAll) join_later(base);
  }
  /// A buffer that joins before the next work, by its base.
  void join_later(std::uint64_t base);

  /// A kernel with this parameter buffer concerns such memory: some takes part, or is named.
  bool concerned(ConstBytes parameters) const;

  // Around work that is posted. The first two are called before it and may wait; the last after it.
  /// A kernel with this parameter buffer: buffers that it names join.
  CUresult before_kernel(Stream& stream, ConstBytes parameters);
  /// A node of a graph with this parameter buffer: buffers that it names join now, so that a launch of
  /// the graph need not look.
  CUresult node_names(Context& context, ConstBytes parameters);
  /// Anything else that could read or write such memory.
  CUresult before_work(Stream& stream);
  void work_posted() { work_.fetch_add(1, std::memory_order_release); }

  /// A synchronisation has succeeded: the host sees what the device wrote before it.
  CUresult synchronized(Context& context);
  // Around a host function inside a launch of a graph: it sees what the work before it wrote, and the
  // work behind it sees what it writes. On the thread of host nodes; both wait for the executor.
  void before_host_node();
  void after_host_node();
  /// Work has been posted whose results the host has not fetched.
  bool behind() const { return work_.load(std::memory_order_acquire) != seen_.load(std::memory_order_acquire); }
  /// The host is about to change managed memory, or may: any of its threads.
  void host_changes();

  /// A range takes part there. `data`: where the program has the byte at `address`.
  bool find(std::uint64_t address, std::byte** data = nullptr) const;
  /// The stream is this class's own.
  bool owns(const Stream& stream) const { return &stream == &stream_; }
  /// Its streams end.
  void forget(const Context& context);

 private:
  struct Entry : Range {
    std::byte* shadow = nullptr;
  };
  class Writer;

  CUresult stream_in(Context& context);
  CUresult open_locked(const Range& range, Context& context);
  CUresult join(const HostBlock& block, Context& context);
  CUresult join_waiting(Context& context);
  CUresult join_named(Context& context, ConstBytes parameters);
  /// This thread may have changed managed memory since it launched last.
  bool may_have_changed() const;
  /// It leaves managed memory alone until host_changes() is next called.
  void changes_no_more() const;
  CUresult flush(Context& context, bool changed);
  /// Gives the writer what changed; `managed`: in managed memory too, `gap`: find_changes().
  void collect(Writer& writer, bool managed, std::size_t gap);
  CUresult pull(Context& context);
  CUresult take(const wire::CoherentPullReply& reply, std::vector<wire::CoherentRun>& longer);
  CUresult fetch(const wire::CoherentRun& run);
  Entry* entry_of(const wire::CoherentRun& run);
  static void merge(Entry& entry, std::uint64_t offset, ConstBytes bytes);

  Client& client_;
  const CoherenceMode mode_;
  // Held while changes are compared and posted, so that whoever posts work behind them finds all of
  // them posted; and over the round trips of a pull.
  mutable std::mutex mutex_;
  std::map<std::uint64_t, Entry> ranges_;  // by address
  std::vector<std::uint64_t> waiting_;     // bases of buffers that join
  std::atomic<bool> any_waiting_{false};
  Context* context_ = nullptr;             // of the stream below
  Stream stream_;                          // for bytes of this class; never in a table of handles
  std::atomic<std::uint64_t> host_changed_;  // the moment of the last host_changes()
  std::atomic<std::uint64_t> work_{0};  // posted
  std::atomic<std::uint64_t> seen_{0};  // all work up to here was done when a pull began
};

/// What a synchronisation with the result `own` returns: when it has succeeded, the host sees what
/// the device wrote.
CUresult host_sees(CUresult own, Context& context);

}  // namespace avec::client
