#include "executor/worker/tracer.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "executor/worker/completions.h"
#include "executor/worker/link.h"

namespace avec::worker {
namespace {

/// Records of one push, and how many wait for company.
constexpr std::size_t kBatch = 1024;
/// What is not sent, when the client reads too slowly: 64 MiB.
constexpr std::size_t kMaxRecords = (64u << 20) / sizeof(wire::TraceRecord);
/// The driver's elapsed time is a float of milliseconds: within this much it is good to 0.1 us.
constexpr double kBaseLastsNs = 0.5e9;
/// An event in an idle stream of a device that works: longer than that it waits for something else.
constexpr std::int64_t kBasePatienceNs = 5'000'000;
constexpr std::uint64_t kMaxNames = 1u << 16;

static_assert(kBatch * sizeof(wire::TraceRecord) <= limits::kMaxTextBytes);

}  // namespace

std::int64_t Tracer::now_ns() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void Tracer::begin(const wire::FrameHeader& call) { current_ = Current{call, now_ns(), 0, false}; }

void Tracer::end(bool again) {
  if (!current_) return;
  if (!current_->worked && !again) {
    keep(wire::TraceRecord(current_->call.sequence(), 0, received_ns_, current_->begin_ns, now_ns(), 0, 0,
                           current_->call.opcode(), 0, 0));
  }
  current_.reset();
}

void Tracer::kernel(const std::string& name) {
  if (!current_) return;
  auto it = names_.find(name);
  if (it == names_.end()) {
    if (names_.size() >= kMaxNames) return;
    it = names_.emplace(name, static_cast<std::uint32_t>(names_.size() + 1)).first;
    const wire::TraceName body(it->second, 0);
    link_.push(wire::Opcode::TraceName, 0, std::as_bytes(std::span(&body, 1)),
               std::as_bytes(std::span(name.data(), std::min(name.size(), limits::kMaxTextBytes))));
  }
  current_->name = it->second;
}

// ---- the device's time ------------------------------------------------------------------

bool Tracer::capturing(Stream& stream) {
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  return driver_.cuStreamIsCapturing(stream.handle, &status) != CUDA_SUCCESS ||
         status != CU_STREAM_CAPTURE_STATUS_NONE;
}

CUevent Tracer::event_in(Stream& stream) {
  std::vector<CUevent>& spare = spare_[stream.context];
  CUevent event = nullptr;
  if (!spare.empty()) {
    event = spare.back();
    spare.pop_back();
  } else if (driver_.cuEventCreate(&event, CU_EVENT_DEFAULT) != CUDA_SUCCESS) {
    return nullptr;
  }
  if (driver_.cuEventRecord(event, stream.handle) == CUDA_SUCCESS) return event;
  spare.push_back(event);
  return nullptr;
}

void Tracer::give_back(Stream& stream, CUevent event) { spare_[stream.context].push_back(event); }

Tracer::Base* Tracer::base_of(Stream& stream) {
  Base& base = bases_[stream.context];
  const auto begin = now_ns();
  if (base.event != nullptr && static_cast<double>(begin) - base.at_ns < kBaseLastsNs) return &base;
  // What was measured against the old one is resolved first.
  if (base.event != nullptr) {
    for (auto& [other, queue] : spans_) {
      if (other->context == stream.context && !queue.empty()) return &base;
    }
  }
  // In a stream of its own, so that the event happens now and not behind the work of another.
  CUstream own = nullptr;
  if (base.event == nullptr && driver_.cuEventCreate(&base.event, CU_EVENT_DEFAULT) != CUDA_SUCCESS) return nullptr;
  if (driver_.cuStreamCreateWithPriority(&own, CU_STREAM_NON_BLOCKING, 0) != CUDA_SUCCESS) return nullptr;
  CUresult status = driver_.cuEventRecord(base.event, own);
  while (status == CUDA_SUCCESS && driver_.cuEventQuery(base.event) == CUDA_ERROR_NOT_READY) {
    if (now_ns() - begin > kBasePatienceNs) break;
  }
  base.at_ns = static_cast<double>(now_ns());
  driver_.cuStreamDestroy(own);
  return status == CUDA_SUCCESS ? &base : nullptr;
}

void Tracer::before_work(Stream& stream) {
  if (open_.event != nullptr) give_back(*open_.stream, open_.event);  // nothing was issued behind it
  open_ = {};
  if (capturing(stream) || base_of(stream) == nullptr) return;
  if (CUevent event = event_in(stream)) open_ = {&stream, event};
}

void Tracer::after_work(Stream& stream) {
  const std::int64_t now = now_ns();
  wire::TraceRecord record(0, stream.name, now, now, now, 0, 0, 0, 0, 0);
  if (current_) {
    record = wire::TraceRecord(current_->call.sequence(), stream.name, received_ns_, current_->begin_ns, now, 0, 0,
                               current_->call.opcode(), 0, current_->name);
    current_->worked = true;
  }
  const Open open = open_.stream == &stream ? std::exchange(open_, {}) : Open{};
  CUevent behind = open.event != nullptr ? event_in(stream) : nullptr;
  if (behind == nullptr) {
    if (open.event != nullptr) give_back(stream, open.event);
    return keep(record);
  }
  spans_[&stream].push_back({record, &stream, open.event, behind});
}

/// False: the device is not done with it.
bool Tracer::resolve(Span& span) {
  const CUresult done = driver_.cuEventQuery(span.end);
  if (done == CUDA_ERROR_NOT_READY) return false;
  float begin_ms = 0, end_ms = 0;
  const Base& base = bases_[span.stream->context];
  if (done == CUDA_SUCCESS && driver_.cuEventElapsedTime(&begin_ms, base.event, span.begin) == CUDA_SUCCESS &&
      driver_.cuEventElapsedTime(&end_ms, base.event, span.end) == CUDA_SUCCESS) {
    const auto at = [&](float ms) { return static_cast<std::int64_t>(base.at_ns + 1e6 * static_cast<double>(ms)); };
    const wire::TraceRecord& r = span.record;
    span.record = wire::TraceRecord(r.call(), r.stream(), r.received_ns(), r.begin_ns(), r.end_ns(), at(begin_ms),
                                    at(end_ms), r.opcode(), 0, r.name());
  }
  keep(span.record);
  give_back(*span.stream, span.begin);
  give_back(*span.stream, span.end);
  return true;
}

void Tracer::forget(Stream& stream) {
  if (!on_) return;
  if (open_.stream == &stream) open_ = {};
  auto queue = spans_.find(&stream);
  if (queue == spans_.end()) return;
  completions_.make_current(*stream.context);
  for (Span& span : queue->second)
    if (!resolve(span)) keep(span.record);
  spans_.erase(queue);
}

void Tracer::forget(Context& context) {
  if (!on_) return;
  for (CUevent event : spare_[&context]) driver_.cuEventDestroy(event);
  spare_.erase(&context);
  if (CUevent event = bases_[&context].event) driver_.cuEventDestroy(event);
  bases_.erase(&context);
}

// ---- records ----------------------------------------------------------------------------

void Tracer::keep(const wire::TraceRecord& record) {
  if (records_.size() < kMaxRecords) {
    records_.push_back(record);
  } else {
    ++lost_;
  }
}

bool Tracer::poll(bool all) {
  bool progress = false;
  for (auto& [stream, queue] : spans_) {
    if (!queue.empty()) completions_.make_current(*stream->context);
    while (!queue.empty() && resolve(queue.front())) {
      queue.pop_front();
      progress = true;
    }
  }
  if (records_.size() >= kBatch || (all && !records_.empty())) send();
  return progress;
}

void Tracer::send() {
  for (std::size_t at = 0; at < records_.size(); at += kBatch) {
    const wire::TraceRecords body(std::exchange(lost_, 0));
    const auto part = std::span(records_).subspan(at, std::min(kBatch, records_.size() - at));
    link_.push(wire::Opcode::TraceRecords, 0, std::as_bytes(std::span(&body, 1)), std::as_bytes(part));
  }
  records_.clear();
}

}  // namespace avec::worker
