// Streams and events.
#pragma once

#include <memory>

namespace avec {

class Event;

/// Work in one stream is done in order. Ends with the last handle; work under way is finished.
class Stream {
 public:
  /// Waits for all work of the stream and throws its error.
  void synchronize() const;
  /// True when all work is done.
  bool idle() const;
  /// Later work of this stream waits for the event's last record.
  void wait(const Event& event) const;

  struct State;
  explicit Stream(std::shared_ptr<State> state) : state_(std::move(state)) {}
  const std::shared_ptr<State>& state() const noexcept { return state_; }

 private:
  std::shared_ptr<State> state_;
};

class Event {
 public:
  void record(const Stream& stream) const;
  /// Waits until the work before the last record is done; at once if there was none.
  void synchronize() const;
  bool done() const;
  /// Milliseconds between the records of `start` and this one, as the device measured them.
  float elapsed_ms_since(const Event& start) const;

  struct State;
  explicit Event(std::shared_ptr<State> state) : state_(std::move(state)) {}
  const std::shared_ptr<State>& state() const noexcept { return state_; }

 private:
  std::shared_ptr<State> state_;
};

}  // namespace avec
