// Setting "trace": a file that Perfetto (ui.perfetto.dev) and chrome://tracing open. It shows the
// client's calls by thread, what the wire carried, when the executor issued each call, and when the
// device worked at it, with arrows from the call to the work. Written at exit.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "session/session.h"

namespace avec::client {

/// Collects one process's trace. Any thread.
class Trace final : public session::Observer {
 public:
  explicit Trace(std::string path);

  /// A call of the program took from `begin` to `end` on this thread. `name` is static.
  void call(const char* name, Time begin, Time end);
  /// Asks the executor to record, and learns how its clock runs beside ours. Once, when the session
  /// has been opened; `session` is then the one that is observed.
  void start(session::Session& session);

  void posted(wire::Opcode opcode, std::uint64_t sequence) override;
  void sent(std::size_t bytes, Time begin, Time end) override;
  void received(std::size_t bytes, Time begin, Time end) override;
  void records(std::uint64_t lost, ConstBytes records) override;
  void kernel_name(std::uint32_t name, std::string_view text) override;

  /// The whole file's text.
  std::string json();
  /// Writes it to the path; an error is said on stderr.
  void write();

 private:
  struct Span {
    const char* name;
    int thread;
    std::int64_t begin_ns, end_ns;
  };
  struct Posted {
    std::uint64_t sequence;
    int thread;
    std::int64_t at_ns;
  };
  struct Moved {
    bool out;
    std::size_t bytes;
    std::int64_t begin_ns, end_ns;
  };

  bool room();
  std::string label(const wire::TraceRecord& record) const;
  void append_device(std::string& text, const wire::TraceRecord& record, int stream);

  const std::string path_;
  const Time zero_ = std::chrono::steady_clock::now();
  std::mutex mutex_;  // guards what follows
  std::int64_t executor_ahead_ns_ = 0;  ///< what the executor's clock shows when ours is at zero_
  std::deque<Span> spans_;
  std::deque<Posted> posted_;
  std::deque<Moved> moved_;
  std::deque<wire::TraceRecord> records_;
  std::unordered_map<std::uint32_t, std::string> names_;
  std::uint64_t lost_ = 0;
};

/// The process's trace; null when the setting is empty. It lives as long as the process.
Trace* process_trace();
/// Writes it, once. In the child of a fork forget_trace() comes instead.
void write_trace();
void forget_trace() noexcept;

}  // namespace avec::client
