#include "executor/worker/completions.h"

#include <algorithm>
#include <memory>

namespace avec::worker {

void Completions::list(Stream& stream) {
  if (stream.listed) return;
  stream.listed = true;
  busy_.push_back(&stream);
}

void Completions::forget(Stream& stream) {
  std::erase(busy_, &stream);
  stream.listed = false;
}

void Completions::then(Stream& stream, std::function<void(CUresult)> action) {
  stream.completions.push_back({stream.issued, std::move(action)});
  list(stream);
}

void Completions::then_all(const std::vector<Stream*>& streams, std::function<void(CUresult)> action) {
  struct Join {
    std::size_t left;
    CUresult status = CUDA_SUCCESS;
    std::function<void(CUresult)> action;
  };
  auto join = std::make_shared<Join>(Join{streams.size(), CUDA_SUCCESS, std::move(action)});
  if (streams.empty()) return join->action(CUDA_SUCCESS);
  // Held by the completions of the streams alone; the last one runs it.
  for (Stream* stream : streams) {
    then(*stream, [join](CUresult status) {
      if (join->status == CUDA_SUCCESS) join->status = status;
      if (--join->left == 0) join->action(join->status);
    });
  }
}

CUevent Completions::take_event(Context& context, CUresult& status) {
  if (!context.spare_events.empty()) {
    CUevent event = context.spare_events.back();
    context.spare_events.pop_back();
    status = CUDA_SUCCESS;
    return event;
  }
  CUevent event = nullptr;
  make_current(context);
  status = driver_.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING);
  return status == CUDA_SUCCESS ? event : nullptr;
}

CUevent Completions::record(Stream& stream, CUresult& status) {
  CUevent event = take_event(*stream.context, status);
  if (event == nullptr) return nullptr;
  make_current(*stream.context);
  status = driver_.cuEventRecord(event, stream.handle);
  if (status == CUDA_SUCCESS) return event;
  give_event(*stream.context, event);
  return nullptr;
}

bool Completions::excluded(const Stream& stream) {
  return stream.capturing || (stream.context->blocking_captures != 0 && &stream == stream.context->legacy);
}

void Completions::mark(Stream& stream) {
  if (excluded(stream)) return;
  CUresult status = CUDA_SUCCESS;
  CUevent event = record(stream, status);
  if (event == nullptr) {
    fail(stream, status);
    return;
  }
  stream.marks.push_back({event, stream.issued});
  stream.marked = stream.issued;
}

void Completions::place_marks(bool before_sleeping) {
  // Marking can fail, and then completions run and may issue work: by index.
  for (std::size_t i = 0; i < busy_.size(); ++i) {
    Stream& stream = *busy_[i];
    // A completion without unfinished work still asks the stream, for the error of a fault.
    const bool awaited = !stream.completions.empty() &&
                         (stream.completions.back().count > stream.marked || stream.marks.empty());
    const std::uint64_t unmarked = stream.issued - stream.marked;
    if (awaited || unmarked >= kMarkEvery || (unmarked != 0 && (stream.dying || before_sleeping))) {
      mark(stream);
    }
  }
}

void Completions::run_completions(Stream& stream, CUresult status) {
  while (!stream.completions.empty() && stream.completions.front().count <= stream.completed) {
    auto action = std::move(stream.completions.front().action);
    stream.completions.pop_front();
    action(status);
  }
}

/// The context is broken: nothing more will finish in order, everything ends with its error.
void Completions::fail(Stream& stream, CUresult status) {
  for (const Stream::Mark& mark : stream.marks) give_event(*stream.context, mark.event);
  stream.marks.clear();
  stream.completed = stream.marked = stream.issued;
  run_completions(stream, status);
}

bool Completions::poll() {
  bool progress = false;
  for (std::size_t i = 0; i < busy_.size();) {
    Stream& stream = *busy_[i];
    while (!stream.marks.empty()) {
      const Stream::Mark mark = stream.marks.front();
      const CUresult status = driver_.cuEventQuery(mark.event);
      if (status == CUDA_ERROR_NOT_READY) break;
      progress = true;
      if (stream.context->may_print && (!stream.completions.empty() || status != CUDA_SUCCESS)) {
        // What kernels printed comes out at synchronising calls only; this one does not wait. Behind
        // a fault no other call may come, and it is the fault's own message.
        make_current(*stream.context);
        driver_.cuEventSynchronize(mark.event);
        if (printed) printed();
      }
      if (status != CUDA_SUCCESS) {
        fail(stream, status);
        break;
      }
      stream.marks.pop_front();
      give_event(*stream.context, mark.event);
      stream.completed = mark.count;
      run_completions(stream, CUDA_SUCCESS);
    }
    if (stream.completions.empty() && stream.marks.empty() && stream.issued == stream.completed) {
      busy_[i] = busy_.back();
      busy_.pop_back();
      stream.listed = false;
      if (turned_idle) turned_idle(stream);
      continue;
    }
    ++i;
  }
  if (progress && polled) polled();
  return progress;
}

}  // namespace avec::worker
