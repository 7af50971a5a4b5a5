#include "executor/worker/link.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>


namespace avec::worker {
namespace {

using wire::FrameFlag;
using wire::FrameHeader;
using wire::Opcode;

// Holds the largest frame that is received whole, and then some: one read takes many frames.
constexpr std::size_t kReadBytes = 2 * limits::kInlinePayloadBytes;
// Segments offered to one send.
constexpr std::size_t kMaxGather = 16;
// A segment grows to this before the next begins: bounds what is copied when it is resized.
constexpr std::size_t kSegmentBytes = 256u << 10;

constexpr std::uint16_t bits(FrameFlag flag) { return static_cast<std::uint16_t>(flag); }

void append(std::vector<std::byte>& to, ConstBytes bytes) { to.insert(to.end(), bytes.begin(), bytes.end()); }
void pad(std::vector<std::byte>& to, std::uint64_t bytes) {
  to.resize(to.size() + (wire::padded(bytes) - bytes), std::byte{0});
}

}  // namespace

Link::Link() : in_(kReadBytes) {}
Link::~Link() = default;

Result<> Link::attach(std::unique_ptr<Connection> connection, std::uint64_t peer_has) {
  if (peer_has > sent_sequence_) return protocol_error("a resumption that acknowledges frames never sent");
  detach();
  acknowledged(peer_has);
  const std::uint64_t first_kept = kept_.empty() ? sent_sequence_ + 1 : kept_.front().sequence;
  if (first_kept > peer_has + 1) return protocol_error("a resumption from before what was kept");
  connection_ = std::move(connection);
  for (const Kept& kept : kept_) append(tail(), kept.bytes);
  return {};
}

std::unique_ptr<Connection> Link::detach() {
  if (sink_ != nullptr) std::exchange(sink_, nullptr)->abort();
  for (Segment& segment : out_)
    if (segment.sent) segment.sent();
  out_.clear();
  out_offset_ = 0;
  begin_ = end_ = consume_ = 0;
  have_header_ = false;
  skip_ = sink_left_ = 0;
  sink_blocked_ = false;
  lost_ = {};
  return std::move(connection_);
}

// ---- in --------------------------------------------------------------------------------

void Link::make_room(std::size_t bytes) {
  if (begin_ != 0) {
    std::memmove(in_.data(), in_.data() + begin_, buffered());
    end_ -= begin_;
    begin_ = 0;
  }
  if (in_.size() < bytes) in_.resize(bytes);
}

bool Link::read() {
  if (connection_ == nullptr || lost_) return false;
  if (consume_ != 0) {
    begin_ += std::exchange(consume_, 0);
  }
  if (begin_ == end_) {
    begin_ = end_ = 0;
    if (in_.size() > kReadBytes && !have_header_) in_.resize(kReadBytes);
  } else if (in_.size() - end_ < in_.size() / 4) {
    make_room(0);
  }
  std::array<MutableBytes, 2> room;
  std::size_t count = 0;
  std::size_t sink_room = 0;
  if (sink_ != nullptr && sink_left_ != 0) {
    if (buffered() != 0) return feed_sink();
    const MutableBytes direct = sink_->room(sink_left_);
    sink_blocked_ = direct.empty();
    if (sink_blocked_) return false;  // what follows the payload cannot be told from it yet
    sink_room = std::min<std::uint64_t>(direct.size(), sink_left_);
    room[count++] = direct.first(sink_room);
    // Bytes behind the payload go to the buffer only when this read can end the payload.
    if (sink_room == sink_left_) room[count++] = MutableBytes(in_).subspan(end_);
  } else {
    room[count++] = MutableBytes(in_).subspan(end_);
  }
  if (room[count - 1].empty()) return false;  // the buffer is full of frames that wait
  const IoResult got = connection_->receive(std::span<const MutableBytes>(room.data(), count));
  if (got.error) {
    lost_ = got.error;
    return false;
  }
  bytes_in_ += got.bytes;
  const std::size_t to_sink = std::min(got.bytes, sink_room);
  end_ += got.bytes - to_sink;
  if (to_sink != 0) {
    sink_left_ -= to_sink;
    sink_->advance(to_sink);
    if (sink_left_ == 0) end_frame();
  }
  return got.bytes != 0;
}

bool Link::feed_sink() {
  bool moved = false;
  while (sink_ != nullptr && sink_left_ != 0 && buffered() != 0) {
    const MutableBytes room = sink_->room(sink_left_);
    sink_blocked_ = room.empty();
    if (sink_blocked_) return moved;
    const std::size_t bytes = std::min<std::uint64_t>({room.size(), sink_left_, buffered()});
    std::memcpy(room.data(), in_.data() + begin_, bytes);
    begin_ += bytes;
    sink_left_ -= bytes;
    sink_->copied(bytes);
    sink_->advance(bytes);
    moved = true;
    if (sink_left_ == 0) end_frame();
  }
  return moved;
}

void Link::payload_to(PayloadSink& sink) {
  sink_ = &sink;
  sink_left_ = header_.payload_bytes();
  begin_ += std::exchange(consume_, 0);
}

/// The frame in header_ has come whole.
void Link::end_frame() {
  if (!duplicate_) {
    received_ = header_.sequence();
    if (header_.opcode() != static_cast<std::uint16_t>(Opcode::Ack)) owes_ack_ = true;
  }
  have_header_ = false;
  if (sink_ != nullptr) {
    skip_ = wire::padded(header_.payload_bytes()) - header_.payload_bytes();
    std::exchange(sink_, nullptr)->finish();
  }
}

Result<bool> Link::parse_header() {
  if (buffered() < wire::kHeaderBytes) return false;
  std::memcpy(static_cast<void*>(&header_), in_.data() + begin_, wire::kHeaderBytes);
  if (auto checked = wire::check_header(header_, wire::Sender::kClient); !checked)
    return std::unexpected(checked.error());
  if ((header_.flags() & bits(FrameFlag::Reply)) != 0) return protocol_error("a reply from a client");
  if (header_.sequence() > received_ + 1 || header_.sequence() == 0)
    return protocol_error("a gap in the sequence numbers");
  if (header_.ack() > sent_sequence_) return protocol_error("an acknowledgement of frames never sent");
  duplicate_ = header_.sequence() <= received_;
  acknowledged(header_.ack());
  have_header_ = true;
  return true;
}

Result<bool> Link::next(InFrame& frame) {
  begin_ += std::exchange(consume_, 0);
  for (;;) {
    if (sink_ != nullptr) {
      feed_sink();
      if (sink_ != nullptr) return false;
    }
    if (skip_ != 0) {
      const std::size_t bytes = std::min<std::uint64_t>(skip_, buffered());
      begin_ += bytes;
      skip_ -= bytes;
      if (skip_ != 0) return false;
    }
    if (!have_header_) {
      auto parsed = parse_header();
      if (!parsed || !*parsed) return parsed;
    }
    if (duplicate_) {
      skip_ = wire::kHeaderBytes + header_.body_bytes() + wire::padded(header_.payload_bytes());
      have_header_ = false;
      continue;
    }
    const std::size_t fixed = wire::kHeaderBytes + header_.body_bytes();
    const bool whole = header_.payload_bytes() <= limits::kInlinePayloadBytes;
    const std::size_t needed = fixed + (whole ? wire::padded(header_.payload_bytes()) : 0);
    if (buffered() < needed) {
      if (in_.size() - begin_ < needed) make_room(needed);
      return false;
    }
    frame.header = header_;
    frame.body = ConstBytes(in_).subspan(begin_ + wire::kHeaderBytes, header_.body_bytes());
    frame.payload = whole ? ConstBytes(in_).subspan(begin_ + fixed, header_.payload_bytes()) : ConstBytes{};
    frame.payload_follows = !whole;
    consume_ = needed;
    if (whole) end_frame();
    return true;
  }
}

// ---- out -------------------------------------------------------------------------------

std::vector<std::byte>& Link::tail() {
  if (out_.empty() || out_.back().borrowed.data() != nullptr || out_.back().owned.size() >= kSegmentBytes) {
    out_.emplace_back();
    out_.back().owned = std::move(spare_);
    out_.back().owned.clear();
    spare_ = {};
  }
  return out_.back().owned;
}

void Link::append_header(std::vector<std::byte>& to, Opcode opcode, std::uint16_t flags, int status,
                         std::uint64_t call, std::size_t body_bytes, std::uint64_t payload_bytes) {
  const FrameHeader header(static_cast<std::uint16_t>(opcode), flags, status,
                           static_cast<std::uint32_t>(body_bytes), 0, ++sent_sequence_, received_, call,
                           payload_bytes);
  append(to, {reinterpret_cast<const std::byte*>(&header), sizeof header});
  acked_to_peer_ = received_;
  owes_ack_ = false;
}

void Link::send_frame(Opcode opcode, std::uint16_t flags, int status, std::uint64_t call, ConstBytes body,
                      ConstBytes payload) {
  if (part_left_ != 0) {
    waiting_.push_back({opcode, flags, status, call, {body.begin(), body.end()}, {payload.begin(), payload.end()}});
    return;
  }
  const auto write = [&](std::vector<std::byte>& to) {
    append_header(to, opcode, flags, status, call, wire::padded(body.size()), payload.size());
    append(to, body);
    pad(to, body.size());
    append(to, payload);
    pad(to, payload.size());
  };
  if (!resumable_) {
    if (connection_ != nullptr) write(tail());
    return;
  }
  Kept kept;
  write(kept.bytes);
  kept.sequence = sent_sequence_;
  kept_bytes_ += kept.bytes.size();
  if (connection_ != nullptr) append(tail(), kept.bytes);
  kept_.push_back(std::move(kept));
}

void Link::reply(const FrameHeader& call, int status, ConstBytes body, ConstBytes payload) {
  send_frame(static_cast<Opcode>(call.opcode()), bits(FrameFlag::Reply), status, call.sequence(), body, payload);
}

void Link::push(Opcode opcode, int status, ConstBytes body, ConstBytes payload) {
  send_frame(opcode, 0, status, 0, body, payload);
}

void Link::begin_reply(const FrameHeader& call, std::uint64_t payload_bytes) {
  part_left_ = payload_bytes;
  part_padding_ = wire::padded(payload_bytes) - payload_bytes;
  part_call_ = call;
  if (resumable_) {
    part_kept_.clear();
    part_kept_.reserve(payload_bytes);
  } else if (connection_ != nullptr) {
    append_header(tail(), static_cast<Opcode>(call.opcode()), bits(FrameFlag::Reply), 0, call.sequence(), 0,
                  payload_bytes);
  }
}

void Link::part(ConstBytes bytes, std::function<void()> sent) {
  part_left_ -= bytes.size();
  if (resumable_ || connection_ == nullptr) {
    if (resumable_) append(part_kept_, bytes);
    sent();
  } else {
    out_.push_back({{}, bytes, std::move(sent)});
  }
  if (part_left_ == 0) end_parts();
}

void Link::end_parts() {
  if (resumable_) {
    std::vector<std::byte> payload = std::move(part_kept_);
    part_kept_ = {};
    reply(part_call_, 0, {}, payload);
  } else if (part_padding_ != 0 && connection_ != nullptr) {
    tail().resize(tail().size() + part_padding_, std::byte{0});
  }
  while (!waiting_.empty() && part_left_ == 0) {
    const Waiting frame = std::move(waiting_.front());
    waiting_.pop_front();
    send_frame(frame.opcode, frame.flags, frame.status, frame.call, frame.body, frame.payload);
  }
}

void Link::acknowledge() {
  if (!resumable_ || !owes_ack_ || connection_ == nullptr || part_left_ != 0) return;
  const wire::Ack body(0);
  push(Opcode::Ack, 0, {reinterpret_cast<const std::byte*>(&body), sizeof body});
}

void Link::acknowledged(std::uint64_t sequence) {
  while (!kept_.empty() && kept_.front().sequence <= sequence) {
    kept_bytes_ -= kept_.front().bytes.size();
    kept_.pop_front();
  }
}

bool Link::flush() {
  if (connection_ == nullptr || lost_) return false;
  bool moved = false;
  while (!out_.empty()) {
    std::array<ConstBytes, kMaxGather> gather;
    std::size_t count = 0, offered = 0;
    for (auto it = out_.begin(); it != out_.end() && count < kMaxGather; ++it) {
      ConstBytes bytes = it->bytes();
      if (count == 0) bytes = bytes.subspan(out_offset_);
      offered += bytes.size();
      gather[count++] = bytes;
    }
    const IoResult sent = connection_->send(std::span<const ConstBytes>(gather.data(), count));
    if (sent.error) {
      lost_ = sent.error;
      return moved;
    }
    if (sent.bytes == 0) return moved;
    moved = true;
    bytes_out_ += sent.bytes;
    consume_sent(sent.bytes);
    if (sent.bytes < offered) return moved;
  }
  return moved;
}

void Link::consume_sent(std::size_t bytes) {
  while (bytes != 0 || (!out_.empty() && out_.front().bytes().size() == out_offset_)) {
    Segment& front = out_.front();
    const std::size_t left = front.bytes().size() - out_offset_;
    if (bytes < left) {
      out_offset_ += bytes;
      return;
    }
    bytes -= left;
    out_offset_ = 0;
    Segment done = std::move(front);
    out_.pop_front();
    if (done.sent) done.sent();
    if (done.borrowed.data() == nullptr && spare_.capacity() < done.owned.capacity() &&
        done.owned.capacity() <= 2 * kSegmentBytes) {
      spare_ = std::move(done.owned);
    }
  }
}

}  // namespace avec::worker
