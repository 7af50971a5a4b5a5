// Held frames: what waits for room in a stream's window or for frames before it, and in which
// order it is issued.
#include <algorithm>

#include "executor/worker/session.h"

namespace avec::worker {

HeldPoint Session::held_end(Stream& stream) {
  return stream.held.empty() ? HeldPoint{} : HeldPoint{&stream, stream.held.back().sequence};
}

bool Session::room_in(const Stream& stream) const {
  return stream.issued - stream.completed < limits::kLaunchWindow;
}

bool Session::must_hold(Stream& stream, std::vector<HeldPoint>& after) {
  if (lanes_.empty()) return !room_in(stream) || !after.empty();
  if (!stream.beside)
    if (auto point = held_end(barriers_); point.stream != nullptr) after.push_back(point);
  if (stream.context != nullptr && stream.synchronizing) {
    // The legacy default stream comes after, and before, all others that synchronise with it.
    if (&stream != stream.context->legacy) {
      if (auto point = held_end(*stream.context->legacy); point.stream != nullptr) after.push_back(point);
    } else {
      for (Stream* other : stream.context->streams) {
        if (other == &stream || !other->synchronizing) continue;
        if (auto point = held_end(*other); point.stream != nullptr) after.push_back(point);
      }
    }
  }
  return !stream.held.empty() || !after.empty() || !room_in(stream);
}

bool Session::hold(Stream& stream, const std::vector<HeldPoint>& points) {
  if (replaying_ != nullptr) return false;
  std::vector<HeldPoint> after;
  for (const HeldPoint& point : points)
    if (point.stream != nullptr) after.push_back(point);
  if (!must_hold(stream, after)) return false;
  Held held = copy_of_frame();
  held.after = std::move(after);
  keep(stream, std::move(held));
  return true;
}

bool Session::hold_behind(const std::vector<Stream*>& streams, bool barrier) {
  if (replaying_ != nullptr || lanes_.empty()) return false;
  std::vector<HeldPoint> after;
  for (Stream* stream : streams)
    if (auto point = held_end(*stream); point.stream != nullptr) after.push_back(point);
  if (auto point = held_end(barriers_); point.stream != nullptr) after.push_back(point);
  if (after.empty()) return false;
  Held held = copy_of_frame();
  held.after = std::move(after);
  if (barrier) {
    keep(barriers_, std::move(held));
  } else {
    held.sequence = ++held_sequence_;
    held_bytes_ += held.cost();
    floating_.push_back(std::move(held));
  }
  return true;
}

bool Session::hold_setting(const Module& module, std::uint32_t index) {
  if (replaying_ != nullptr || lanes_.empty()) return false;
  std::vector<HeldPoint> after;
  for (Stream* stream : module.context->streams) {
    const auto launches_it = [&](const Held& held) {
      const auto is = [&](const auto& launch) { return launch.module_() == module.name && launch.index() == index; };
      switch (static_cast<wire::Opcode>(held.header.opcode())) {
        case wire::Opcode::LaunchKernel:
          return is(wire::read_struct<wire::LaunchKernel>(held.body));
        case wire::Opcode::LaunchKernelEx:
          return is(wire::read_struct<wire::LaunchKernelEx>(held.body));
        default:
          return false;
      }
    };
    const auto last = std::ranges::find_if(stream->held.rbegin(), stream->held.rend(), launches_it);
    if (last != stream->held.rend()) after.push_back({stream, last->sequence});
  }
  if (auto point = held_setting(module.name, index); point.stream != nullptr) after.push_back(point);
  if (after.empty()) return false;
  Held held = copy_of_frame();
  held.after = std::move(after);
  keep(settings_[{module.name, index}], std::move(held));
  return true;
}

HeldPoint Session::held_setting(std::uint64_t module, std::uint32_t index) {
  if (settings_.empty()) return {};
  const auto lane = settings_.find({module, index});
  return lane == settings_.end() ? HeldPoint{} : held_end(lane->second);
}

Held Session::copy_of_frame() {
  Held held;
  held.header = frame_->header;
  held.body.assign(frame_->body.begin(), frame_->body.end());
  held.payload.assign(frame_->payload.begin(), frame_->payload.end());
  return held;
}

void Session::keep(Stream& lane, Held held) {
  held.sequence = ++held_sequence_;
  held_bytes_ += held.cost();
  if (lane.held.empty()) lanes_.push_back(&lane);
  lane.held.push_back(std::move(held));
}

bool Session::ready(const Held& held) const {
  return std::ranges::all_of(held.after, [](const HeldPoint& point) {
    return point.stream->held.empty() || point.stream->held.front().sequence > point.sequence;
  });
}

bool Session::replay(Held& held) {
  InFrame frame{held.header, held.body, held.payload, false};
  frame_ = &frame;
  replaying_ = &held;
  incomplete_ = false;
  if (tracer_.on()) tracer_.begin(frame.header);
  auto handled = wire::dispatch(frame.header, frame.body, *this);
  if (tracer_.on()) tracer_.end(incomplete_);
  frame_ = nullptr;
  replaying_ = nullptr;
  if (!handled) close_with(std::string("protocol error: ") + handled.error().what);
  return !std::exchange(incomplete_, false);
}

bool Session::pump_lane(Stream& lane) {
  bool progress = false;
  while (!lane.held.empty() && !closing_) {
    Held& front = lane.held.front();
    if (!room_in(lane) || !ready(front)) break;
    const std::uint64_t cost = front.cost();
    const std::uint64_t issued_before = lane.issued;
    const bool done = replay(front);
    progress |= done || lane.issued != issued_before;
    if (!done) break;
    held_bytes_ -= cost;
    lane.held.pop_front();
  }
  return progress;
}

bool Session::pump_held() {
  bool any = false;
  for (bool progress = true; progress && !closing_;) {
    progress = false;
    for (std::size_t i = 0; i < lanes_.size(); ++i) progress |= pump_lane(*lanes_[i]);
    std::erase_if(lanes_, [](const Stream* lane) { return lane->held.empty(); });
    for (auto it = floating_.begin(); it != floating_.end() && !closing_;) {
      if (!ready(*it)) {
        ++it;
        continue;
      }
      held_bytes_ -= it->cost();
      replay(*it);
      it = floating_.erase(it);
      progress = true;
    }
    any |= progress;
  }
  // Streams that were idle but for held frames.
  for (std::ptrdiff_t i = 0; i < std::ssize(dying_streams_); ++i) {
    if (dying_streams_[i]->idle()) stream_turned_idle(*dying_streams_[i--]);
  }
  if (lanes_.empty() && floating_.empty()) {
    freed_streams_.clear();
    settings_.clear();
    held_library_ = {};
  }
  return any;
}

}  // namespace avec::worker
