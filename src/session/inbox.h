// What comes in: cuts the stream into frames. Headers are checked before anything else is read;
// large bodies and payloads are received straight to where they belong.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "avec/transport.h"
#include "base/result.h"
#include "wire/frame.h"

namespace avec::session {

/// Where the parts of one frame go.
struct Sink {
  /// Null: a body that fits the staging buffer is shown there.
  std::vector<std::byte>* body = nullptr;
  /// header.payload_bytes bytes, or empty when there are none or they are skipped.
  MutableBytes payload;
  /// The frame has been seen before: its bytes are dropped and it is not completed.
  bool skip = false;
};

class FrameHandler {
 public:
  virtual ~FrameHandler() = default;
  /// A checked header has come.
  virtual Result<Sink> begin_frame(const wire::FrameHeader& header) = 0;
  /// The whole frame has come; `body` is 8-byte aligned.
  virtual Result<> end_frame(const wire::FrameHeader& header, ConstBytes body) = 0;
};

class Inbox {
 public:
  explicit Inbox(FrameHandler& handler);

  struct Outcome {
    std::size_t bytes = 0;  ///< received
    TransportError link;    ///< the connection failed
    Result<> frames{};      ///< the peer sent what it must not
  };
  /// One non-blocking receive, and every frame that it completed.
  Outcome receive(Connection& connection);

  /// Forgets a frame that came in part (the connection was replaced).
  void reset();
  /// Bytes of payload that went through the staging buffer.
  std::uint64_t copied() const { return copied_; }

 private:
  enum class Part : std::uint8_t { kHeader, kBody, kPayload };

  /// Small: what arrives in it of a large payload is copied once more.
  static constexpr std::size_t kStagingBytes = 16u << 10;
  /// A struct's or a push's body at most; larger ones need Sink::body.
  static constexpr std::size_t kMaxStagedBody = 4u << 10;

  std::size_t staged() const { return end_ - begin_; }
  Result<> parse();
  Result<bool> parse_header();
  Result<bool> parse_body();
  bool take_payload();
  Result<> finish();
  void skip_staged(std::uint64_t& bytes);
  void make_space();

  FrameHandler& handler_;
  std::vector<std::byte> staging_;
  std::size_t begin_ = 0, end_ = 0;  ///< unread bytes; index and place in the stream agree modulo 8
  Part part_ = Part::kHeader;
  wire::FrameHeader header_{};
  Sink sink_;
  std::size_t filled_ = 0;      ///< bytes of the vector or payload that have come
  std::uint64_t skipping_ = 0;  ///< bytes left to drop before the next header
  std::vector<std::byte> scratch_;
  std::uint64_t copied_ = 0;
};

}  // namespace avec::session
