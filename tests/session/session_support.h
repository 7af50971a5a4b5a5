// What the tests of the session engine share.
#pragma once

#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "session/fake_executor.h"
#include "session/session.h"
#include "support/catch.h"

namespace avec::test {

/// What the engine called back.
struct Heard {
  mutable std::mutex mutex;
  struct Failed {
    wire::Opcode opcode;
    std::uint64_t sequence;
    int status;
  };
  std::vector<Failed> failed;
  std::vector<std::pair<int, std::string>> output;
  std::vector<std::string> closed, notices;

  session::Callbacks callbacks() {
    session::Callbacks callbacks;
    callbacks.deferred_error = [this](wire::Opcode opcode, std::uint64_t sequence, int status) {
      const std::scoped_lock lock(mutex);
      failed.push_back({opcode, sequence, status});
    };
    callbacks.device_output = [this](int descriptor, std::string_view text) {
      const std::scoped_lock lock(mutex);
      output.emplace_back(descriptor, text);
    };
    callbacks.closed = [this](const std::string& reason) {
      const std::scoped_lock lock(mutex);
      closed.push_back(reason);
    };
    callbacks.notice = [this](const std::string& what) {
      const std::scoped_lock lock(mutex);
      notices.push_back(what);
    };
    return callbacks;
  }
  template <class Get>
  auto with(Get&& get) const {
    const std::scoped_lock lock(mutex);
    return get(*this);
  }
};

/// True as soon as `condition` holds, false at a generous deadline.
template <class Condition>
bool eventually(Condition&& condition, std::chrono::milliseconds limit = std::chrono::seconds(20)) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

inline session::Options options_for(const FakeExecutor& executor) {
  session::Options options;
  options.executor = executor.address();
  options.program = "session_test";
  return options;
}

inline std::shared_ptr<session::Session> open(const session::Options& options,
                                              session::Callbacks callbacks = {}) {
  auto opened = session::Session::open(options, std::move(callbacks));
  if (!opened) FAIL(opened.error().message);
  return *opened;
}

inline std::string unique_sim_url() {
  static std::atomic<int> next{0};
  return "sim://session-test-" + std::to_string(++next);
}

/// True when `text` contains `part`; otherwise the test's output shows the text.
inline bool says(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return true;
  UNSCOPED_INFO("what was said: " << text);
  return false;
}

/// One listening address per built-in transport.
inline std::vector<std::string> listen_urls() { return {"tcp://127.0.0.1:0", unique_sim_url()}; }

template <class Body>
Bytes bytes_of(const Body& body) {
  const auto bytes = std::as_bytes(std::span(&body, 1));
  return {bytes.begin(), bytes.end()};
}

inline Bytes text_bytes(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

/// A launch that carries `tag`, to be told from others.
inline wire::LaunchKernel launch(std::uint64_t tag) {
  return wire::LaunchKernel(tag, 1, 0, 1, 1, 1, 32, 1, 1, 7, 0, 0);
}

inline wire::CopyFromDevice copy_from(std::uint64_t source, std::uint64_t bytes) {
  return wire::CopyFromDevice(source, bytes, bytes, 1, 7);
}
inline wire::CopyToDevice copy_to(std::uint64_t destination, std::uint64_t bytes) {
  return wire::CopyToDevice(destination, bytes, bytes, 1, 7);
}

}  // namespace avec::test
