// What a traced session records (schemas/trace.fbs): when each call was read and issued, and when the
// device worked at it. An event before and one behind the work of a call give the device's time; no
// event goes into a stream that is being captured. Off, it costs one comparison per call.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "executor/worker/objects.h"

namespace avec::worker {

class Completions;
class Link;

class Tracer {
 public:
  Tracer(const DriverTable& driver, Completions& completions, Link& link)
      : driver_(driver), completions_(completions), link_(link) {}

  bool on() const { return on_; }
  void start() { on_ = true; }
  /// Of the steady clock, as records have it.
  static std::int64_t now_ns();

  /// Bytes of frames were read.
  void read() { received_ns_ = now_ns(); }
  /// A call begins to be handled, and ends; `again`: it is held, and will be handled again.
  void begin(const wire::FrameHeader& call);
  void end(bool again);
  /// The call launches this kernel.
  void kernel(const std::string& name);
  /// Work is about to be issued to the stream, and has been. The stream's context is current.
  void before_work(Stream& stream);
  void after_work(Stream& stream);
  /// The stream is about to be freed; the context, current, is about to be destroyed.
  void forget(Stream& stream);
  void forget(Context& context);

  /// Looks at what the device has finished; sends records when there are many, or `all` of them.
  bool poll(bool all);

 private:
  struct Open {  // an event before work that has not been followed by one behind it
    Stream* stream = nullptr;
    CUevent event = nullptr;
  };
  struct Span {
    wire::TraceRecord record;
    Stream* stream;
    CUevent begin, end;
  };
  /// The device's clock beside ours: an event and when it happened.
  struct Base {
    CUevent event = nullptr;
    double at_ns = 0;
  };

  bool capturing(Stream& stream);
  CUevent event_in(Stream& stream);
  void give_back(Stream& stream, CUevent event);
  Base* base_of(Stream& stream);
  bool resolve(Span& span);
  void keep(const wire::TraceRecord& record);
  void send();

  const DriverTable& driver_;
  Completions& completions_;
  Link& link_;
  bool on_ = false;
  std::int64_t received_ns_ = 0;
  struct Current {
    wire::FrameHeader call;
    std::int64_t begin_ns = 0;
    std::uint32_t name = 0;
    bool worked = false;  // a record of it exists
  };
  std::optional<Current> current_;
  Open open_;
  std::map<Stream*, std::deque<Span>> spans_;  ///< the device has not been seen to finish them
  std::map<Context*, Base> bases_;
  std::map<Context*, std::vector<CUevent>> spare_;
  std::map<std::string, std::uint32_t> names_;
  std::vector<wire::TraceRecord> records_;
  std::uint64_t lost_ = 0;
};

}  // namespace avec::worker
