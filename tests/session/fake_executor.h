// An executor for the tests of the session engine: the handshake, sequence numbers,
// acknowledgements and resuming of a real one, no CUDA behind it. One thread serves one
// session at a time. What it answers can be replaced by a script.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "avec/transport.h"
#include "calls.h"
#include "wire/handshake.h"

namespace avec::test {

using Bytes = std::vector<std::byte>;

/// A frame that arrived, once: repetitions after a reconnect are dropped before this.
struct Record {
  wire::FrameHeader header;
  Bytes body, payload;

  wire::Opcode opcode() const { return static_cast<wire::Opcode>(header.opcode()); }
  template <class Body>
  Body as() const {
    return wire::read_struct<Body>(body);
  }
};

class FakeExecutor {
 public:
  struct Options {
    std::string token;
    std::string listen = "tcp://127.0.0.1:0";
    /// Called for each frame before the default answer; true: that was the answer. Runs on the
    /// executor's thread and may call reply(), push(), send_raw(), drop_link().
    std::function<bool(FakeExecutor&, const Record&)> script;
    /// A DataAccept.status for data connections from the second on.
    std::uint32_t refuse_resume = 0;
    /// Said on the control connection when a script calls drop_link().
    std::string farewell;
  };

  explicit FakeExecutor(Options options);
  ~FakeExecutor();

  std::string address() const { return address_; }
  /// What arrived after Hello, in order; Ack frames left out.
  std::vector<Record> records() const;
  /// Waits until records() has `count`; false at the deadline.
  bool wait_for(std::size_t count, std::chrono::milliseconds limit = std::chrono::seconds(20)) const;
  std::size_t receives() const { return receives_; }
  std::size_t data_connections() const { return data_connections_; }

  // From the script.
  void reply(const Record& call, int status = 0, ConstBytes body = {}, ConstBytes payload = {});
  void push(wire::Opcode opcode, int status, ConstBytes body, ConstBytes payload = {});
  void send_raw(ConstBytes bytes) { queue(bytes); }
  void drop_link() { drop_ = true; }
  /// Sequence number for a frame made by hand.
  std::uint64_t take_sequence() { return ++sent_sequence_; }

  /// From any thread: a frame goes out soon.
  void push_later(wire::Opcode opcode, int status, Bytes body, Bytes payload = {});

  /// The payload that CopyFromDevice of `source` is answered with.
  static Bytes device_bytes(std::uint64_t source, std::size_t size);

 private:
  void run();
  void serve(std::unique_ptr<Connection> connection);
  void serve_control(std::unique_ptr<Connection> connection);
  void serve_data(std::unique_ptr<Connection> connection, ConstBytes preamble);
  void frames(Connection& connection);
  bool take_frames(Bytes& in);
  void take(Record record);
  void answer(const Record& record);
  void send_frame(wire::Opcode opcode, std::uint16_t flags, int status, std::uint64_t call, ConstBytes body,
                  ConstBytes payload);
  void queue(ConstBytes bytes);

  const Options options_;
  std::string address_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Connection> control_;
  std::unique_ptr<wire::BrokerHandshake> broker_;
  std::atomic<std::size_t> receives_{0}, data_connections_{0};

  // One session; the thread's own.
  bool keep_ = false;
  std::uint64_t received_ = 0, sent_sequence_ = 0, acknowledged_ = 0;
  struct Sent {
    std::uint64_t sequence;
    Bytes bytes;
  };
  std::deque<Sent> kept_;
  std::deque<Bytes> out_;
  std::size_t out_from_ = 0;
  std::uint64_t unacknowledged_ = 0;
  bool drop_ = false, finished_ = false;

  mutable std::mutex mutex_;
  mutable std::condition_variable arrived_;
  std::vector<Record> records_;
  std::vector<std::function<void()>> later_;

  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace avec::test
