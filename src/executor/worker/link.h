// One session's frames over its current connection: parsing, sequence numbers, acknowledge-
// ments, what is kept for resending. Knows frames, not CUDA. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "avec/transport.h"
#include "base/result.h"
#include "calls.h"
#include "wire/frame.h"

namespace avec::worker {

/// A complete call, or (payload_follows) one whose payload is still to be received.
struct InFrame {
  wire::FrameHeader header;
  ConstBytes body;     ///< 8-byte aligned; valid until the next call of next()
  ConstBytes payload;  ///< whole, unless payload_follows
  bool payload_follows = false;
};

/// Takes a large payload while it arrives.
class PayloadSink {
 public:
  virtual ~PayloadSink() = default;
  /// Where the next bytes go; empty: no room now, ask again later. Never more than `left`.
  virtual MutableBytes room(std::uint64_t left) = 0;
  /// So many of the next bytes had been received elsewhere and were copied there.
  virtual void copied(std::size_t bytes) { static_cast<void>(bytes); }
  /// `bytes` have been written there.
  virtual void advance(std::size_t bytes) = 0;
  /// The last byte has come.
  virtual void finish() = 0;
  /// The link broke first; the frame will be sent again, or not.
  virtual void abort() = 0;
};

class Link {
 public:
  Link();
  ~Link();

  /// Starts, or goes on, with this connection. `peer_has`: the highest of our frames that the
  /// peer received; what follows is sent again.
  Result<> attach(std::unique_ptr<Connection> connection, std::uint64_t peer_has);
  /// Forgets the connection, and returns it; the session's state stays.
  std::unique_ptr<Connection> detach();
  Connection* connection() { return connection_.get(); }
  /// Keep frames until they are acknowledged. Before the first frame is sent.
  void make_resumable() { resumable_ = true; }
  bool resumable() const { return resumable_; }
  /// Highest sequence received complete.
  std::uint64_t received() const { return received_; }

  // ---- in
  enum class Input { kNothing, kFrame, kLost };
  /// Reads what is there. True when bytes came. After an error: lost() says which.
  bool read();
  const TransportError& lost() const { return lost_; }
  /// The next frame, when one is complete, or has a payload too large to wait for. While the
  /// payload of the last frame is being received there is none. Fails on malformed frames.
  Result<bool> next(InFrame& frame);
  /// Must be called before next() for a frame with payload_follows. The sink is borrowed until
  /// it is told finish() or abort().
  void payload_to(PayloadSink& sink);
  bool receiving_payload() const { return sink_ != nullptr; }
  /// True when the payload waits for room in its sink.
  bool waits_for_room() const { return sink_blocked_; }

  // ---- out
  void reply(const wire::FrameHeader& call, int status, ConstBytes body = {}, ConstBytes payload = {});
  void push(wire::Opcode opcode, int status, ConstBytes body, ConstBytes payload = {});
  /// A reply whose payload comes in parts. Until the last part was given, other frames queue
  /// behind it. Parts must stay valid until `sent` is called.
  void begin_reply(const wire::FrameHeader& call, std::uint64_t payload_bytes);
  void part(ConstBytes bytes, std::function<void()> sent);
  bool part_open() const { return part_left_ != 0; }
  /// Sends an Ack when frames came in and nothing went out since.
  void acknowledge();
  /// Sends what is queued. True when bytes left.
  bool flush();
  bool idle() const { return out_.empty(); }
  /// Bytes kept because the peer has not acknowledged them.
  std::size_t kept_bytes() const { return kept_bytes_; }

  std::uint64_t bytes_in() const { return bytes_in_; }
  std::uint64_t bytes_out() const { return bytes_out_; }

 private:
  struct Segment {
    std::vector<std::byte> owned;
    ConstBytes borrowed;
    std::function<void()> sent;
    ConstBytes bytes() const { return borrowed.data() != nullptr ? borrowed : ConstBytes(owned); }
  };
  struct Kept {
    std::uint64_t sequence;
    std::vector<std::byte> bytes;
  };

  void send_frame(wire::Opcode opcode, std::uint16_t flags, int status, std::uint64_t call, ConstBytes body,
                  ConstBytes payload);
  void append_header(std::vector<std::byte>& to, wire::Opcode opcode, std::uint16_t flags, int status,
                     std::uint64_t call, std::size_t body_bytes, std::uint64_t payload_bytes);
  std::vector<std::byte>& tail();
  void end_parts();
  void consume_sent(std::size_t bytes);
  void acknowledged(std::uint64_t sequence);
  Result<bool> parse_header();
  bool feed_sink();
  void end_frame();
  void make_room(std::size_t bytes);
  std::size_t buffered() const { return end_ - begin_; }

  std::unique_ptr<Connection> connection_;
  TransportError lost_;
  bool resumable_ = false;

  // In: bytes [begin_, end_) of in_ are not parsed yet. begin_ stays a multiple of 8.
  std::vector<std::byte> in_;
  std::size_t begin_ = 0, end_ = 0;
  wire::FrameHeader header_;      // of the frame being parsed
  bool have_header_ = false;
  bool duplicate_ = false;        // it has been received before: skip it
  std::size_t consume_ = 0;       // bytes of the frame given out by next(), dropped at the next call
  PayloadSink* sink_ = nullptr;
  bool sink_blocked_ = false;
  std::uint64_t sink_left_ = 0;   // payload bytes that have not come
  std::uint64_t skip_ = 0;        // padding, or the payload of a duplicate
  std::uint64_t received_ = 0;

  // Out.
  std::deque<Segment> out_;
  std::size_t out_offset_ = 0;    // bytes of out_.front() that have left
  std::vector<std::byte> spare_;  // capacity to reuse
  std::uint64_t sent_sequence_ = 0;
  std::uint64_t acked_to_peer_ = 0;
  bool owes_ack_ = false;         // a frame other than Ack came since we last sent one
  std::uint64_t part_left_ = 0;
  std::uint64_t part_padding_ = 0;
  std::vector<std::byte> part_kept_;  // a resumable reply is gathered here and sent whole
  wire::FrameHeader part_call_;
  struct Waiting {
    wire::Opcode opcode;
    std::uint16_t flags;
    int status;
    std::uint64_t call;
    std::vector<std::byte> body, payload;
  };
  std::deque<Waiting> waiting_;   // frames behind an open reply
  std::deque<Kept> kept_;
  std::size_t kept_bytes_ = 0;

  std::uint64_t bytes_in_ = 0, bytes_out_ = 0;
};

}  // namespace avec::worker
