// Calls of CUDA libraries (schemas/libraries.fbs).
//
// They have an order of their own beside that of streams: a descriptor that is changed or destroyed is
// used by calls that may be held, so while a library call is held every later one is.
#include <functional>
#include <memory>
#include <utility>

#include "executor/worker/session.h"

namespace avec::worker {

bool Session::hold_library_call(Stream* stream) {
  if (replaying_ != nullptr) return false;
  Stream& lane = stream != nullptr ? *stream : library_lane_;
  const bool behind = held_library_.stream != nullptr && !held_library_.stream->held.empty() &&
                      held_library_.stream->held.front().sequence <= held_library_.sequence;
  if (!hold(lane, {behind ? held_library_ : HeldPoint{}})) return false;
  held_library_ = {&lane, lane.held.back().sequence};
  return true;
}

Result<> Session::operator()(const Header& header, const wire::LibraryOpen& call) {
  if (call.library() > 0xffff) return protocol_error("a library that cannot be");
  std::string problem;
  if (primary(arena_device_) != nullptr && current_ == nullptr) driver_.cuCtxSetCurrent(primary(arena_device_));
  const std::string path = libraries_.open(static_cast<std::uint16_t>(call.library()), problem);
  flatbuffers::FlatBufferBuilder builder;
  const auto found = builder.CreateString(path);
  const auto why = builder.CreateString(problem);
  builder.Finish(wire::CreateLibraryOpenReply(builder, found, why));
  return answer_table(header, builder);
}

template <class Call>
Result<> Session::prepare_library_call(const Header& header, const Call& call, Stream*& stream, Context*& context,
                                       bool& held) {
  held = false;
  CUresult status = CUDA_SUCCESS;
  stream = nullptr;
  context = find_context(call.context(), status);
  if (context == nullptr) return finish(header, status);
  if (call.stream() != 0) {
    stream = find_stream(call.stream(), status);
    if (stream == nullptr) {
      context = nullptr;
      return finish(header, status);
    }
  }
  held = hold_library_call(stream);
  return {};
}

std::shared_ptr<LibraryArguments> Session::library_arguments(const LibraryDescription& library,
                                                             std::vector<std::uint64_t> words) {
  return std::make_shared<LibraryArguments>(
      libraries_, library, std::move(words),
      [this](std::uint64_t name) -> void* {
        CUresult status;
        Stream* found = find_stream(name, status);
        return found == nullptr ? nullptr : found->handle;
      },
      [this](std::uint64_t name) -> void* {
        CUresult status;
        Event* found = find_event(name, status);
        return found == nullptr ? nullptr : found->handle;
      });
}

void Session::before_library_call(Context& context, Stream* stream) {
  if (stream == nullptr) return make_current(context);
  before_issue(*stream);
  make_current(context);
}

void Session::after_library_call(Stream* stream) {
  // The library may have made another context current.
  if (stream == nullptr) return;
  look_at_capture(*stream);
  completions_.issued(*stream);
}

Result<> Session::operator()(const Header& header, const wire::LibraryCall& call) {
  if (frame_->payload_follows || frame_->payload.size() % 8 != 0) return protocol_error("a library call of a wrong size");
  Stream* stream;
  Context* context;
  bool held;
  if (auto prepared = prepare_library_call(header, call, stream, context, held); !prepared || context == nullptr || held)
    return prepared;
  const auto failed = [&](int status) -> Result<> {
    const wire::LibraryFailed body(call.library(), call.function(), status);
    link_.push(wire::Opcode::LibraryFailed, 0, {reinterpret_cast<const std::byte*>(&body), sizeof body});
    return {};
  };
  void* address = nullptr;
  int status = 0;
  const LibraryEntry* entry = libraries_.find(call.library(), call.function(), address, status);
  if (entry == nullptr) return failed(status);
  std::vector<std::uint64_t> words(frame_->payload.size() / 8);
  if (!words.empty()) std::memcpy(words.data(), frame_->payload.data(), frame_->payload.size());
  const LibraryDescription& library = *libraries_.description(call.library());
  const auto arguments = library_arguments(library, std::move(words));
  before_library_call(*context, stream);
  status = entry->call(*arguments, address);
  if (arguments->malformed() != nullptr) return protocol_error(arguments->malformed());
  after_library_call(stream);
  arguments->settle();
  return status == library.ok ? Result<>{} : failed(status);
}

Result<> Session::answer_library(const Header& header, int status, const std::vector<std::uint64_t>& results) {
  flatbuffers::FlatBufferBuilder builder(results.size() * 8 + 128);
  const auto words = builder.CreateVector(results);
  builder.Finish(wire::CreateLibraryReply(builder, status, words));
  return answer_table(header, builder);
}

Result<> Session::operator()(const Header& header, const wire::LibraryAsk& call) {
  Stream* stream;
  Context* context;
  bool held;
  if (auto prepared = prepare_library_call(header, call, stream, context, held); !prepared || context == nullptr || held)
    return prepared;
  void* address = nullptr;
  int status = 0;
  const LibraryEntry* entry = libraries_.find(call.library(), call.function(), address, status);
  if (entry == nullptr) return answer_library(header, status, {});
  std::vector<std::uint64_t> words;
  if (call.arguments() != nullptr) words.assign(call.arguments()->begin(), call.arguments()->end());
  const LibraryDescription& library = *libraries_.description(call.library());
  const auto arguments = library_arguments(library, std::move(words));
  before_library_call(*context, stream);
  if (call.wait() != 0) arguments->defer();
  status = entry->call(*arguments, address);
  if (arguments->malformed() != nullptr) return protocol_error(arguments->malformed());
  if (!arguments->deferred()) {
    after_library_call(stream);
    arguments->settle();
    return answer_library(header, status, arguments->results());
  }
  // It waits, perhaps for the device: on a helper. The client's thread waits for the answer, so nothing
  // that the program orders after it is issued before it.
  // Its context and stream are there until then, also when they lose their names.
  ++context->library_calls;
  if (stream != nullptr) ++stream->library_calls;
  helpers_.run([this, header, arguments, context, stream, native = context->handle] {
    driver_.cuCtxSetCurrent(native);
    arguments->run_deferred();
    return std::function<void()>([this, header, arguments, context, stream] {
      if (stream != nullptr) --stream->library_calls;
      if (!context->when_left) after_library_call(stream);
      arguments->settle();
      answer_library(header, arguments->failure(), arguments->results());
      if (--context->library_calls == 0 && context->when_left) later_.push_back(std::exchange(context->when_left, nullptr));
    });
  });
  return {};
}

void Session::when_left(Context& context, std::function<void()> action) {
  if (context.library_calls == 0) return action();
  context.when_left = std::move(action);
}

}  // namespace avec::worker
