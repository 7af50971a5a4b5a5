// Knowing what the device has finished: events recorded in streams and polled by the loop.
// An event covers everything issued to its stream before, so one mark serves a whole batch.
#pragma once

#include <functional>
#include <vector>

#include "executor/worker/objects.h"

namespace avec::worker {

class Completions {
 public:
  /// A mark for launches that nobody waits for, only to keep the window's account: often enough
  /// that the window (512) never closes on work that is done.
  static constexpr std::uint64_t kMarkEvery = 64;

  explicit Completions(const DriverTable& driver) : driver_(driver) {}

  /// Must make a context current before the driver is called for it.
  std::function<void(Context&)> make_current;

  /// Counts a piece of work that was issued to the stream. What a stream captures is no work.
  void issued(Stream& stream) {
    if (stream.capturing) return;
    ++stream.issued;
    list(stream);
    if (worked) [[unlikely]] worked(stream);
  }
  /// Of a traced session: told of each piece of work.
  std::function<void(Stream&)> worked;
  /// Runs `action` with the work's result once all work issued to the stream so far is done.
  void then(Stream& stream, std::function<void(CUresult)> action);
  /// The same for several streams; the first error is given. Runs at once when all are idle.
  void then_all(const std::vector<Stream*>& streams, std::function<void(CUresult)> action);

  /// A capture is under way that an event recorded in the stream would become part of, or break.
  static bool excluded(const Stream& stream);
  /// Marks the stream here, before anything else is issued to it: whoever the device tells that
  /// later work is done finds the actions before it ready to run. A failed stream runs them now.
  void mark_now(Stream& stream) { mark(stream); }
  /// Records marks where something waits for them; before the loop sleeps, wherever work is
  /// not covered, so that a later look finds the stream idle. Actions given to then() must not
  /// free streams: they run while streams are walked.
  void place_marks(bool before_sleeping);
  /// Looks at the marks. True when anything finished.
  bool poll();
  /// Work is under way on some stream.
  bool busy() const { return !busy_.empty(); }
  /// Records an event that covers what was issued so far; null: nothing is unfinished.
  CUevent record(Stream& stream, CUresult& status);
  CUevent take_event(Context& context, CUresult& status);
  void give_event(Context& context, CUevent event) { context.spare_events.push_back(event); }
  /// Called when what kernels of the context printed has come out, before actions run.
  std::function<void()> printed;
  /// Called when marks have been found finished, before anybody acts on what they cover.
  std::function<void()> polled;
  /// Called with streams that turned idle.
  std::function<void(Stream&)> turned_idle;
  /// Forgets the stream (it is about to be freed).
  void forget(Stream& stream);

 private:
  void list(Stream& stream);
  void mark(Stream& stream);
  void fail(Stream& stream, CUresult status);
  void run_completions(Stream& stream, CUresult status);

  const DriverTable& driver_;
  std::vector<Stream*> busy_;
};

}  // namespace avec::worker
