// What each CUDA function cost: calls, posted or waited, round trips, bytes, time. Off: one
// relaxed load per call. Setting "stats" turns it on at the first call.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

extern "C" {
/// Begins a call of the function `name` (static storage). Null when it is not counted: counting
/// is off, or the call was made inside another one, to which its cost belongs. For the shims.
void* avec_call_begin(const char* name);
/// Ends it; accepts null. The same thread as the beginning.
void avec_call_end(void* call);
}

namespace avec::client {

enum class Counting : std::uint8_t { kUndecided, kOff, kOn };
/// Undecided until the first call has read the setting. Defined in libavec.so alone: the shims
/// must see the same one.
extern std::atomic<Counting> counting;

/// Counts the enclosing scope as one call of `name`.
class CallScope {
 public:
  explicit CallScope(const char* name)
      : call_(counting.load(std::memory_order_relaxed) != Counting::kOff ? avec_call_begin(name) : nullptr) {}
  ~CallScope() {
    if (call_ != nullptr) avec_call_end(call_);
  }
  CallScope(const CallScope&) = delete;
  CallScope& operator=(const CallScope&) = delete;

 private:
  void* call_;
};

/// Everything counted so far.
std::string stats_text();
std::string stats_json();
/// Turns counting on as the setting "stats" says; write_stats() then writes where it says.
void start_stats(const std::string& setting);
void write_stats();

}  // namespace avec::client
