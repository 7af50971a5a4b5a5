#include "session/inbox.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace avec::session {

Inbox::Inbox(FrameHandler& handler) : handler_(handler), staging_(kStagingBytes) {}

void Inbox::reset() {
  begin_ = end_ = 0;
  part_ = Part::kHeader;
  sink_ = {};
  filled_ = 0;
  skipping_ = 0;
}

void Inbox::make_space() {
  if (begin_ == end_) {
    begin_ = end_ = end_ % 8;
  } else if (kStagingBytes - end_ < kStagingBytes / 4) {
    const std::size_t to = begin_ % 8;
    std::memmove(staging_.data() + to, staging_.data() + begin_, staged());
    end_ = to + staged();
    begin_ = to;
  }
}

Inbox::Outcome Inbox::receive(Connection& connection) {
  MutableBytes direct;
  if (part_ == Part::kBody && sink_.body != nullptr && !sink_.skip) {
    direct = MutableBytes(*sink_.body).subspan(filled_);
  } else if (part_ == Part::kPayload && !sink_.skip) {
    direct = sink_.payload.subspan(filled_);
  }
  std::array<MutableBytes, 2> spans;
  std::size_t count = 0;
  if (!direct.empty()) {
    // What follows the direct bytes keeps its place modulo 8: padding first, then a header.
    spans[count++] = direct;
    const std::size_t size = part_ == Part::kBody ? sink_.body->size() : sink_.payload.size();
    begin_ = end_ = size % 8;
  } else {
    make_space();
  }
  const std::size_t before = end_;
  spans[count++] = MutableBytes(staging_).subspan(end_);
  const IoResult received = connection.receive(std::span(spans).first(count));
  Outcome outcome{received.bytes, received.error, {}};
  if (received.bytes == 0) return outcome;
  const std::size_t straight = std::min(received.bytes, direct.size());
  filled_ += straight;
  end_ = before + (received.bytes - straight);
  outcome.frames = parse();
  return outcome;
}

void Inbox::skip_staged(std::uint64_t& bytes) {
  const auto now = static_cast<std::size_t>(std::min<std::uint64_t>(bytes, staged()));
  begin_ += now;
  bytes -= now;
}

Result<> Inbox::parse() {
  while (true) {
    if (skipping_ != 0) {
      skip_staged(skipping_);
      if (skipping_ != 0) return {};
    }
    Result<bool> more = true;
    if (part_ == Part::kHeader) {
      more = parse_header();
    } else if (part_ == Part::kBody) {
      more = parse_body();
    } else {
      more = take_payload();
      if (*more) {
        if (auto finished = finish(); !finished) return finished;
      }
    }
    if (!more) return std::unexpected(more.error());
    if (!*more) return {};
  }
}

Result<bool> Inbox::parse_header() {
  if (staged() < wire::kHeaderBytes) return false;
  std::memcpy(&header_, staging_.data() + begin_, sizeof header_);
  if (auto checked = wire::check_header(header_, wire::Sender::kExecutor); !checked) {
    return std::unexpected(checked.error());
  }
  auto sink = handler_.begin_frame(header_);
  if (!sink) return std::unexpected(sink.error());
  begin_ += wire::kHeaderBytes;
  sink_ = *sink;
  filled_ = 0;
  if (sink_.skip) {
    skipping_ = header_.body_bytes() + wire::padded(header_.payload_bytes());
    return true;
  }
  if (sink_.body != nullptr) {
    sink_.body->resize(header_.body_bytes());
  } else if (header_.body_bytes() > kMaxStagedBody) {
    return protocol_error("a body larger than its call has");
  }
  part_ = Part::kBody;
  return true;
}

Result<bool> Inbox::parse_body() {
  if (sink_.body != nullptr) {
    const std::size_t part = std::min(staged(), sink_.body->size() - filled_);
    if (part != 0) std::memcpy(sink_.body->data() + filled_, staging_.data() + begin_, part);
    begin_ += part;
    filled_ += part;
    if (filled_ != sink_.body->size()) return false;
  } else if (staged() < header_.body_bytes()) {
    return false;
  } else if (header_.payload_bytes() != 0) {
    // The staging buffer moves on while the payload comes; the body waits here.
    const std::byte* body = staging_.data() + begin_;
    scratch_.assign(body, body + header_.body_bytes());
    begin_ += header_.body_bytes();
  }
  part_ = Part::kPayload;
  filled_ = 0;
  return true;
}

bool Inbox::take_payload() {
  const std::size_t part = std::min(staged(), sink_.payload.size() - filled_);
  if (part != 0) {
    std::memcpy(sink_.payload.data() + filled_, staging_.data() + begin_, part);
    begin_ += part;
    filled_ += part;
    copied_ += part;
  }
  return filled_ == sink_.payload.size();
}

Result<> Inbox::finish() {
  ConstBytes body;
  std::size_t in_staging = 0;
  if (sink_.body != nullptr) {
    body = *sink_.body;
  } else if (header_.payload_bytes() != 0) {
    body = scratch_;
  } else {
    body = {staging_.data() + begin_, header_.body_bytes()};
    in_staging = header_.body_bytes();
  }
  skipping_ = wire::padded(header_.payload_bytes()) - header_.payload_bytes();
  part_ = Part::kHeader;
  sink_ = {};
  auto handled = handler_.end_frame(header_, body);
  begin_ += in_staging;
  return handled;
}

}  // namespace avec::session
