// Finding what names stand for, and the lives of contexts, streams and events.
#include <algorithm>

#include "executor/worker/session.h"

namespace avec::worker {
namespace {

template <class T>
T* found(T* object, CUresult unknown, CUresult& status) {
  status = object == nullptr ? unknown : object->poison;
  return status == CUDA_SUCCESS ? object : nullptr;
}

}  // namespace

Context* Session::find_context(std::uint64_t name, CUresult& status) {
  return found(contexts_.find(name), CUDA_ERROR_INVALID_CONTEXT, status);
}
Stream* Session::find_stream(std::uint64_t name, CUresult& status) {
  Stream* stream = found(streams_.find(name), CUDA_ERROR_INVALID_HANDLE, status);
  if (stream == nullptr) return nullptr;
  stream->touched = true;
  if (stream->synchronizing && stream->context->legacy != nullptr) stream->context->legacy->touched = true;
  return stream;
}
Event* Session::find_event(std::uint64_t name, CUresult& status) {
  return found(events_.find(name), CUDA_ERROR_INVALID_HANDLE, status);
}
Module* Session::find_module(std::uint64_t name, CUresult& status) {
  Module* module = found(modules_.find(name), CUDA_ERROR_INVALID_HANDLE, status);
  if (module == nullptr || !module->loading) return module;
  status = CUDA_ERROR_INVALID_HANDLE;
  return nullptr;
}
Function* Session::find_function(std::uint64_t name, std::uint32_t index, Module*& owner, CUresult& status) {
  owner = find_module(name, status);
  if (owner == nullptr) return nullptr;
  if (index < owner->functions.size()) return &owner->functions[index];
  status = CUDA_ERROR_INVALID_HANDLE;
  return nullptr;
}

void Session::make_current(Context& context) {
  if (current_ == &context) return;
  driver_.cuCtxSetCurrent(context.handle);
  current_ = &context;
}

CUcontext Session::primary(int device) {
  CUcontext& context = primary_[static_cast<std::size_t>(device)];
  if (context == nullptr) driver_.cuDevicePrimaryCtxRetain(&context, device);
  return context;
}

std::vector<Stream*> Session::all_streams() {
  std::vector<Stream*> all;
  for (auto& [name, stream] : streams_)
    if (stream->poison == CUDA_SUCCESS) all.push_back(stream.get());
  for (auto& stream : dying_streams_) all.push_back(stream.get());
  return all;
}

void Session::before_issue(Stream& stream) {
  make_current(*stream.context);
  if (stream.capturing) return;
  const auto wait_for = [&](const Fence& fence, std::uint64_t& seen) {
    if (std::exchange(seen, fence.count) == fence.count) return;
    if (fence.event != nullptr) driver_.cuStreamWaitEvent(stream.handle, fence.event, 0);
  };
  if (!stream.beside) wait_for(fence_, stream.fence_seen);
  wait_for(beside_fence_, stream.beside_fence_seen);
  if (tracer_.on()) [[unlikely]] tracer_.before_work(stream);
}

// ---- contexts ---------------------------------------------------------------------------

Stream* Session::add_stream(std::uint64_t name, Context& context) {
  Stream* stream = streams_.add(name);
  if (stream == nullptr) return nullptr;
  stream->context = &context;
  stream->poison = context.poison;
  if (stream->poison == CUDA_SUCCESS) context.streams.push_back(stream);
  return stream;
}

Result<> Session::operator()(const Header& header, const wire::ContextCreate& call) {
  if (call.legacy_stream() == call.per_thread_stream()) return protocol_error("one name for two streams");
  if (streams_.find(call.legacy_stream()) != nullptr || streams_.find(call.per_thread_stream()) != nullptr)
    return protocol_error("a stream's name that is taken");
  Context* context = contexts_.add(call.context());
  if (context == nullptr) return protocol_error("a context's name that cannot be given");
  if (call.device() < 0 || call.device() >= device_count_) {
    context->poison = CUDA_ERROR_INVALID_DEVICE;
  } else {
    context->device = call.device();
    context->primary = call.primary() != 0;
    if (context->primary) {
      // Refused while the context is active with other flags, which is no reason not to use it.
      driver_.cuDevicePrimaryCtxSetFlags(context->device, call.flags());
      context->poison = driver_.cuDevicePrimaryCtxRetain(&context->handle, context->device);
    } else {
      context->poison = driver_.cuCtxCreate(&context->handle, nullptr, call.flags(), context->device);
      current_ = nullptr;
    }
    if (contexts_.size() == 1) arena_device_ = context->device;
  }
  context->may_print = driver_.set_output != nullptr;
  Stream* legacy = add_stream(call.legacy_stream(), *context);
  Stream* per_thread = add_stream(call.per_thread_stream(), *context);
  if (legacy == nullptr || per_thread == nullptr) return protocol_error("a stream's name that cannot be given");
  legacy->handle = CU_STREAM_LEGACY;
  per_thread->handle = CU_STREAM_PER_THREAD;
  context->legacy = legacy;
  return finish(header, context->poison);
}

void Session::retire_stream(std::uint64_t name) {
  std::unique_ptr<Stream> stream = streams_.remove(name);
  if (stream == nullptr || stream->poison != CUDA_SUCCESS) return;
  stream->dying = true;
  dying_streams_.push_back(std::move(stream));
}

void Session::forget_held_points(const Stream& stream) {
  for (auto& [name, event] : events_) {
    if (event->held_record.stream == &stream) event->held_record = {};
    std::erase_if(event->held_waits, [&](const HeldPoint& point) { return point.stream == &stream; });
  }
}

void Session::stream_turned_idle(Stream& stream) {
  if (!stream.dying || !stream.idle()) return;
  auto it = std::ranges::find(dying_streams_, &stream, [](const auto& owner) { return owner.get(); });
  if (it == dying_streams_.end()) return;
  completions_.forget(stream);
  tracer_.forget(stream);
  if (stream.created) {
    make_current(*stream.context);
    driver_.cuStreamDestroy(stream.handle);
  }
  std::erase(stream.context->streams, &stream);
  forget_held_points(stream);
  freed_streams_.push_back(std::move(*it));
  dying_streams_.erase(it);
  if (lanes_.empty() && floating_.empty()) later_.push_back([this] { freed_streams_.clear(); });
}

Result<> Session::operator()(const Header& header, const wire::ContextDestroy& call) {
  CUresult status;
  Context* context = find_context(call.context(), status);
  if (context == nullptr) {
    contexts_.remove(call.context());
    return finish(header, status);
  }
  if (hold_behind(context->streams, false)) return {};
  abandon_captures(context);
  dying_contexts_.push_back(contexts_.remove(call.context()));
  // Its objects lose their names now; they go when what was issued to them is done.
  std::vector<std::uint64_t> names;
  for (auto& [name, stream] : streams_)
    if (stream->context == context) names.push_back(name);
  const std::vector<Stream*> streams = context->streams;
  completions_.then_all(streams, [this, context](CUresult) {
    later_.push_back([this, context] {
      when_left(*context, [this, context] { when_not_comparing([this, context] { destroy_context(context); }); });
    });
  });
  for (std::uint64_t name : names) {
    streams_.find(name)->created = false;  // goes with the context
    retire_stream(name);
  }
  return finish(header, CUDA_SUCCESS);
}

void Session::free_events_of(Context& context) {
  std::vector<std::uint64_t> names;
  for (auto& [name, event] : events_)
    if (event->context == &context) names.push_back(name);
  for (std::uint64_t name : names) {
    auto event = events_.remove(name);
    if (event->handle != nullptr) driver_.cuEventDestroy(event->handle);
  }
  std::erase_if(event_waits_, [&](const EventWait& wait) {
    if (wait.context != &context) return false;
    finish(wait.call, CUDA_ERROR_CONTEXT_IS_DESTROYED);
    return true;
  });
  for (CUevent event : context.spare_events) driver_.cuEventDestroy(event);
  context.spare_events.clear();
  for (Fence* fence : {&fence_, &beside_fence_}) {
    if (fence->context != &context || fence->event == nullptr) continue;
    driver_.cuEventDestroy(std::exchange(fence->event, nullptr));
    fence->context = nullptr;
  }
}

void Session::free_modules_of(Context& context) {
  free_links_of(context);
  std::vector<std::uint64_t> names;
  for (auto& [name, module] : modules_)
    if (module->context == &context) names.push_back(name);
  for (std::uint64_t name : names) {
    auto module = modules_.remove(name);
    forget_globals(name);
    if (module->handle != nullptr) driver_.cuModuleUnload(module->handle);
  }
  std::erase_if(retired_modules_, [&](const auto& module) {
    if (module->context != &context) return false;
    driver_.cuModuleUnload(module->handle);
    return true;
  });
}

void Session::destroy_context(Context* context) {
  make_current(*context);
  destroy_graphs_of(*context);
  free_arrays_of(*context);
  free_events_of(*context);
  free_modules_of(*context);
  while (!context->streams.empty()) {
    Stream* stream = context->streams.back();
    context->streams.pop_back();
    completions_.forget(*stream);
    tracer_.forget(*stream);
    // Frames that came after the destruction and were held have nothing to act on.
    for (const Held& held : stream->held) {
      held_bytes_ -= held.cost();
      fail_held(held, CUDA_ERROR_CONTEXT_IS_DESTROYED);
    }
    stream->held.clear();
    forget_held_points(*stream);
    std::erase(lanes_, stream);
    auto owner = std::ranges::find(dying_streams_, stream, [](const auto& dying) { return dying.get(); });
    if (owner == dying_streams_.end()) continue;
    freed_streams_.push_back(std::move(*owner));
    dying_streams_.erase(owner);
  }
  tracer_.forget(*context);
  if (context->primary) {
    driver_.cuDevicePrimaryCtxRelease(context->device);
  } else if (context->green != nullptr) {
    driver_.cuGreenCtxDestroy(context->green);
  } else {
    driver_.cuCtxDestroy(context->handle);
  }
  current_ = nullptr;
  std::erase_if(dying_contexts_, [&](auto& owner) { return owner.get() == context; });
}

Result<> Session::operator()(const Header& header, const wire::ContextSynchronize& call) {
  CUresult status;
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return finish(header, status);
  if (hold_behind(context->streams, false)) return {};
  std::vector<Stream*> busy;
  for (Stream* stream : context->streams)
    if (stream->issued != stream->completed) busy.push_back(stream);
  // Nothing under way: a mark in the default stream still tells of an earlier fault.
  if (busy.empty()) busy.push_back(context->legacy);
  completions_.then_all(busy, [this, header](CUresult done) { finish_after_downloads(header, done); });
  return {};
}

Result<> Session::operator()(const Header& header, const wire::ContextSetLimit& call) {
  CUresult status;
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return finish(header, status);
  if (call.limit() < 0 || call.limit() >= CU_LIMIT_MAX) return finish(header, CUDA_ERROR_UNSUPPORTED_LIMIT);
  // Launches that were posted before have the limit that they were posted with.
  if (hold_behind(context->streams, true)) return {};
  make_current(*context);
  return finish(header, driver_.cuCtxSetLimit(static_cast<CUlimit>(call.limit()), call.value()));
}

Result<> Session::operator()(const Header& header, const wire::ContextGetLimit& call) {
  CUresult status;
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return finish(header, status);
  if (call.limit() < 0 || call.limit() >= CU_LIMIT_MAX) return finish(header, CUDA_ERROR_UNSUPPORTED_LIMIT);
  make_current(*context);
  std::size_t value = 0;
  status = driver_.cuCtxGetLimit(&value, static_cast<CUlimit>(call.limit()));
  if (status != CUDA_SUCCESS) return finish(header, status);
  return answer(header, wire::ContextGetLimitReply(value));
}

Result<> Session::operator()(const Header& header, const wire::ContextSetCacheConfig& call) {
  CUresult status;
  Context* context = find_context(call.context(), status);
  if (context == nullptr) return finish(header, status);
  if (call.config() < CU_FUNC_CACHE_PREFER_NONE || call.config() > CU_FUNC_CACHE_PREFER_EQUAL)
    return finish(header, CUDA_ERROR_INVALID_VALUE);
  make_current(*context);
  return finish(header, driver_.cuCtxSetCacheConfig(static_cast<CUfunc_cache>(call.config())));
}

}  // namespace avec::worker
