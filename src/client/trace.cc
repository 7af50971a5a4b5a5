#include "client/trace.h"

#include <cxxabi.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/settings.h"

namespace avec::client {
namespace {

/// Of all kinds together: about half a gibibyte in memory. What comes later is counted.
constexpr std::size_t kMaxEvents = 8u << 20;
/// The clocks are read side by side this often; the fastest round trip counts.
constexpr int kClockSamples = 16;

/// "Processes" of the file, in the order in which they are shown.
enum Part : int { kProgram = 1, kWire, kExecutor, kDevice };

std::int64_t nanoseconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::nanoseconds(duration).count();
}

std::string json_string(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

double us(std::int64_t ns) { return static_cast<double>(ns) * 1e-3; }

std::string demangled(const std::string& name) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(
      abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), std::free);
  return status == 0 && text != nullptr ? text.get() : name;
}

void append_name(std::string& out, const char* what, int part, int thread, std::string_view name) {
  fmt::format_to(std::back_inserter(out),
                 R"({{"ph":"M","name":"{}","pid":{},"tid":{},"args":{{"name":{}}}}},)"
                 "\n",
                 what, part, thread, json_string(name));
}

void append_slice(std::string& out, int part, int thread, std::int64_t begin_ns, std::int64_t end_ns,
                  std::string_view name, std::string_view arguments = {}) {
  fmt::format_to(std::back_inserter(out),
                 R"({{"ph":"X","pid":{},"tid":{},"ts":{:.3f},"dur":{:.3f},"name":{},"args":{{{}}}}},)"
                 "\n",
                 part, thread, us(begin_ns), us(std::max<std::int64_t>(end_ns - begin_ns, 0)), json_string(name),
                 arguments);
}

/// An arrow's beginning ("s"), way point ("t") or end ("f") in the slice that is there at this time.
void append_arrow(std::string& out, const char* phase, int part, int thread, std::int64_t at_ns,
                  std::uint64_t sequence) {
  fmt::format_to(std::back_inserter(out),
                 R"({{"ph":"{}","cat":"call","name":"call","id":{},"pid":{},"tid":{},"ts":{:.3f},"bp":"e"}},)"
                 "\n",
                 phase, sequence, part, thread, us(at_ns));
}

}  // namespace

Trace::Trace(std::string path) : path_(std::move(path)) {}

bool Trace::room() {
  if (spans_.size() + posted_.size() + moved_.size() + records_.size() < kMaxEvents) return true;
  ++lost_;
  return false;
}

void Trace::call(const char* name, Time begin, Time end) {
  const std::scoped_lock lock(mutex_);
  if (room()) spans_.push_back({name, ::gettid(), nanoseconds(begin - zero_), nanoseconds(end - zero_)});
}

void Trace::posted(wire::Opcode, std::uint64_t sequence) {
  const std::scoped_lock lock(mutex_);
  if (room()) posted_.push_back({sequence, ::gettid(), nanoseconds(std::chrono::steady_clock::now() - zero_)});
}

void Trace::sent(std::size_t bytes, Time begin, Time end) {
  const std::scoped_lock lock(mutex_);
  if (room()) moved_.push_back({true, bytes, nanoseconds(begin - zero_), nanoseconds(end - zero_)});
}

void Trace::received(std::size_t bytes, Time begin, Time end) {
  const std::scoped_lock lock(mutex_);
  if (room()) moved_.push_back({false, bytes, nanoseconds(begin - zero_), nanoseconds(end - zero_)});
}

void Trace::records(std::uint64_t lost, ConstBytes records) {
  const std::scoped_lock lock(mutex_);
  lost_ += lost;
  for (; records.size() >= sizeof(wire::TraceRecord); records = records.subspan(sizeof(wire::TraceRecord))) {
    if (room()) records_.push_back(wire::read_struct<wire::TraceRecord>(records.first(sizeof(wire::TraceRecord))));
  }
}

void Trace::kernel_name(std::uint32_t name, std::string_view text) {
  const std::scoped_lock lock(mutex_);
  names_[name] = demangled(std::string(text));
}

void Trace::start(session::Session& session) {
  auto fastest = std::chrono::steady_clock::duration::max();
  for (int i = 0; i < kClockSamples; ++i) {
    const Time before = std::chrono::steady_clock::now();
    const auto reply = session.call(wire::TraceStart(0));
    const Time after = std::chrono::steady_clock::now();
    if (!reply) return;
    if (after - before >= fastest) continue;
    fastest = after - before;
    const std::scoped_lock lock(mutex_);
    executor_ahead_ns_ = reply->now_ns() - nanoseconds(before + (after - before) / 2 - zero_);
  }
}

// ---- the file ---------------------------------------------------------------------------

std::string Trace::label(const wire::TraceRecord& record) const {
  if (const auto name = names_.find(record.name()); name != names_.end()) return name->second;
  const wire::CallInfo* info = wire::call_info(record.opcode());
  return info != nullptr ? std::string(info->name) : "copy";
}

void Trace::append_device(std::string& text, const wire::TraceRecord& record, int stream) {
  const std::int64_t begin = record.device_begin_ns() - executor_ahead_ns_;
  const std::int64_t end = record.device_end_ns() - executor_ahead_ns_;
  const std::int64_t received = record.received_ns() - executor_ahead_ns_;
  const std::string name = label(record);
  append_slice(text, kDevice, stream, begin, end, name, fmt::format(R"("call":{})", record.call()));
  if (record.call() == 0) return;  // a piece of a copy, long after its call
  append_arrow(text, "f", kDevice, stream, begin, record.call());
  if (begin <= received) return;
  // Waiting for the stream: such times overlap each other, so they are "asynchronous" events.
  for (const auto& [phase, at] : {std::pair("b", received), std::pair("e", begin)}) {
    fmt::format_to(std::back_inserter(text),
                   R"({{"ph":"{}","cat":"queue","id":{},"pid":{},"tid":2,"ts":{:.3f},"name":{}}},)"
                   "\n",
                   phase, record.call(), static_cast<int>(kExecutor), us(at), json_string(name));
  }
}

std::string Trace::json() {
  const std::scoped_lock lock(mutex_);
  std::string text = R"({"displayTimeUnit":"ns","traceEvents":[)"
                     "\n";
  append_name(text, "process_name", kProgram, 0, "program");
  append_name(text, "process_name", kWire, 0, "wire");
  append_name(text, "process_name", kExecutor, 0, "executor");
  append_name(text, "process_name", kDevice, 0, "device");
  append_name(text, "thread_name", kWire, 1, "sent");
  append_name(text, "thread_name", kWire, 2, "received");
  append_name(text, "thread_name", kExecutor, 1, "issuing");
  append_name(text, "thread_name", kExecutor, 2, "waiting for the device");
  std::set<int> threads;
  for (const Span& span : spans_) {
    threads.insert(span.thread);
    append_slice(text, kProgram, span.thread, span.begin_ns, span.end_ns, span.name);
  }
  for (int thread : threads) append_name(text, "thread_name", kProgram, thread, fmt::format("thread {}", thread));
  for (const Posted& each : posted_) append_arrow(text, "s", kProgram, each.thread, each.at_ns, each.sequence);
  for (const Moved& each : moved_) {
    append_slice(text, kWire, each.out ? 1 : 2, each.begin_ns, each.end_ns, fmt::format("{} bytes", each.bytes),
                 fmt::format(R"("bytes":{})", each.bytes));
  }
  std::map<std::uint64_t, int> streams;
  std::uint64_t issued = 0;
  for (const wire::TraceRecord& record : records_) {
    if (record.call() != issued && record.call() != 0) {  // once for all pieces of a call
      issued = record.call();
      const std::int64_t begin = record.begin_ns() - executor_ahead_ns_;
      append_slice(text, kExecutor, 1, begin, record.end_ns() - executor_ahead_ns_, label(record),
                   fmt::format(R"("call":{})", record.call()));
      append_arrow(text, "t", kExecutor, 1, begin, record.call());
    }
    if (record.device_end_ns() == 0) continue;
    const int stream = streams.try_emplace(record.stream(), static_cast<int>(streams.size()) + 1).first->second;
    append_device(text, record, stream);
  }
  for (const auto& [name, stream] : streams)
    append_name(text, "thread_name", kDevice, stream, fmt::format("stream {}", name));
  fmt::format_to(std::back_inserter(text), R"({{"ph":"M","name":"lost_events","pid":1,"args":{{"count":{}}}}}]}})", lost_);
  return text += '\n';
}

void Trace::write() {
  std::string path = path_;
  if (const std::size_t at = path.find("%p"); at != std::string::npos) path.replace(at, 2, std::to_string(::getpid()));
  std::ofstream file(path);
  file << json();
  if (!file.flush()) return say("cannot write the trace to " + path);
  if (lost_ != 0) say(fmt::format("the trace lacks {} events: more than {} were not kept", lost_, kMaxEvents));
}

namespace {
std::atomic<Trace*> the_trace{nullptr};
}

Trace* process_trace() {
  static const bool made = [] {
    std::string path(client_settings().text("trace"));
    if (!path.empty()) the_trace.store(new Trace(std::move(path)), std::memory_order_release);
    return true;
  }();
  static_cast<void>(made);
  return the_trace.load(std::memory_order_acquire);
}

void write_trace() {
  if (Trace* trace = the_trace.exchange(nullptr)) trace->write();  // and leaked: calls may still come
}

void forget_trace() noexcept { the_trace.store(nullptr); }

}  // namespace avec::client
