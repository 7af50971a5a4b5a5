#include "session/fake_executor.h"

#include <array>
#include <cstring>
#include <stdexcept>

namespace avec::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr auto kReply = static_cast<std::uint16_t>(wire::FrameFlag::Reply);
constexpr auto kWantsReply = static_cast<std::uint16_t>(wire::FrameFlag::WantsReply);

bool read(Connection& connection, MutableBytes bytes) {
  const Deadline deadline = steady_clock::now() + milliseconds(2000);
  while (!bytes.empty()) {
    const IoResult result = connection.receive(std::span(&bytes, 1));
    bytes = bytes.subspan(result.bytes);
    if (result.error && !bytes.empty()) return false;
    if (result.bytes == 0 && !bytes.empty() && connection.wait(false, deadline)) return false;
  }
  return true;
}

bool write(Connection& connection, ConstBytes bytes) {
  const Deadline deadline = steady_clock::now() + milliseconds(2000);
  while (!bytes.empty()) {
    const IoResult result = connection.send(std::span(&bytes, 1));
    if (result.error) return false;
    bytes = bytes.subspan(result.bytes);
    if (result.bytes == 0 && connection.wait(true, deadline)) return false;
  }
  return true;
}

std::size_t frame_bytes(const wire::FrameHeader& header) {
  return wire::kHeaderBytes + header.body_bytes() + wire::padded(header.payload_bytes());
}

}  // namespace

FakeExecutor::FakeExecutor(Options options) : options_(std::move(options)) {
  auto listening = find_transport(options_.listen)->listen(options_.listen);
  if (!listening.listener) throw std::runtime_error("the fake executor cannot listen: " + listening.detail);
  listener_ = std::move(listening.listener);
  address_ = listener_->address();
  thread_ = std::thread([this] { run(); });
}

FakeExecutor::~FakeExecutor() {
  stop_ = true;
  listener_->wake();
  thread_.join();
}

std::vector<Record> FakeExecutor::records() const {
  const std::scoped_lock lock(mutex_);
  return records_;
}

bool FakeExecutor::wait_for(std::size_t count, milliseconds limit) const {
  std::unique_lock lock(mutex_);
  return arrived_.wait_for(lock, limit, [&] { return records_.size() >= count; });
}

Bytes FakeExecutor::device_bytes(std::uint64_t source, std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(source * 31 + i * 7 + (i >> 8));
  return bytes;
}

void FakeExecutor::run() {
  while (!stop_) {
    auto accepted = listener_->accept(steady_clock::now() + milliseconds(100));
    if (accepted.connection) serve(std::move(accepted.connection));
  }
}

void FakeExecutor::serve(std::unique_ptr<Connection> connection) {
  std::array<std::byte, wire::kPreambleBytes> bytes;
  if (!read(*connection, bytes)) return;
  const auto preamble = wire::parse_preamble(bytes);
  if (!preamble) return;
  if (preamble->kind() == wire::ConnectionKind::Control) {
    serve_control(std::move(connection));
  } else {
    serve_data(std::move(connection), bytes);
  }
}

void FakeExecutor::serve_control(std::unique_ptr<Connection> connection) {
  broker_ = std::make_unique<wire::BrokerHandshake>(options_.token);
  if (!write(*connection, *broker_->challenge("test"))) return;
  wire::MessageReceiver receiver;
  while (!receiver.complete()) {
    const MutableBytes space = receiver.space();
    if (!read(*connection, space) || !receiver.advance(space.size())) return;
  }
  const auto introduced = broker_->check(receiver.message());
  if (!introduced) {
    write(*connection, wire::refusal(introduced.error().code, introduced.error().message));
    connection->close();
    return;
  }
  if (introduced->device == "none") {
    write(*connection,
          wire::refusal(wire::RefusalCode::NoDevice, "no device of kind 'none': choose auto, cuda or cpu"));
    connection->close();
    return;
  }
  if (!write(*connection, *broker_->ticket("cpu", "asked for"))) return;
  control_ = std::move(connection);
  received_ = sent_sequence_ = acknowledged_ = unacknowledged_ = 0;
  kept_.clear();
  finished_ = false;
}

void FakeExecutor::serve_data(std::unique_ptr<Connection> connection, ConstBytes preamble) {
  std::array<std::byte, wire::kDataOpeningBytes> opening;
  std::memcpy(opening.data(), preamble.data(), preamble.size());
  if (!read(*connection, MutableBytes(opening).subspan(preamble.size()))) return;
  if (!broker_) return;
  const auto checked = wire::check_data_opening(opening, broker_->ticket_id(), broker_->session_key());
  if (!checked) return;
  const bool first = ++data_connections_ == 1;
  const wire::DataAccept accept(received_, first ? 0 : options_.refuse_resume, 0);
  out_.clear();
  out_from_ = 0;
  queue(std::as_bytes(std::span(&accept, 1)));
  while (!kept_.empty() && kept_.front().sequence <= checked->resume_from()) kept_.pop_front();
  for (const auto& kept : kept_) queue(kept.bytes);
  drop_ = false;
  frames(*connection);
  if (drop_ && !options_.farewell.empty()) write(*control_, wire::farewell(options_.farewell));
  connection->close();
  if (finished_) control_.reset();
}

void FakeExecutor::frames(Connection& connection) {
  Bytes in;
  Bytes chunk(256 << 10);
  while (!stop_ && !drop_) {
    std::vector<std::function<void()>> later;
    {
      const std::scoped_lock lock(mutex_);
      later.swap(later_);
    }
    for (auto& action : later) action();
    while (!out_.empty()) {
      const ConstBytes bytes = ConstBytes(out_.front()).subspan(out_from_);
      const IoResult sent = connection.send(std::span(&bytes, 1));
      if (sent.error) return;
      if (sent.bytes == 0) break;
      out_from_ += sent.bytes;
      if (out_from_ != out_.front().size()) continue;
      out_.pop_front();
      out_from_ = 0;
    }
    if (finished_ && out_.empty()) return;
    const MutableBytes space(chunk);
    const IoResult received = connection.receive(std::span(&space, 1));
    if (received.error) return;
    if (received.bytes == 0) {
      // Short, so that push_later() need not wake.
      const auto waited = connection.wait(!out_.empty(), steady_clock::now() + milliseconds(20));
      if (waited && waited.code != TransportErrc::kTimeout) return;
      continue;
    }
    ++receives_;
    in.insert(in.end(), chunk.begin(), chunk.begin() + static_cast<std::ptrdiff_t>(received.bytes));
    if (!take_frames(in)) return;
  }
}

bool FakeExecutor::take_frames(Bytes& in) {
  std::size_t from = 0;
  while (in.size() - from >= wire::kHeaderBytes) {
    Record record;
    std::memcpy(&record.header, in.data() + from, wire::kHeaderBytes);
    const auto& header = record.header;
    if (const auto checked = wire::check_header(header, wire::Sender::kClient); !checked) return false;
    if (in.size() - from < frame_bytes(header)) break;
    const std::byte* body = in.data() + from + wire::kHeaderBytes;
    record.body.assign(body, body + header.body_bytes());
    const std::byte* payload = body + header.body_bytes();
    record.payload.assign(payload, payload + header.payload_bytes());
    from += frame_bytes(header);
    take(std::move(record));
  }
  in.erase(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(from));
  return true;
}

void FakeExecutor::take(Record record) {
  const auto& header = record.header;
  while (!kept_.empty() && kept_.front().sequence <= header.ack()) kept_.pop_front();
  if (header.sequence() <= received_) return;  // seen before the link was lost
  received_ = header.sequence();
  unacknowledged_ += frame_bytes(header);
  if (record.opcode() == wire::Opcode::Ack) return;
  if (record.opcode() == wire::Opcode::Hello) {
    keep_ = flatbuffers::GetRoot<wire::Hello>(record.body.data())->replay_bytes() != 0;
  } else {
    const std::scoped_lock lock(mutex_);
    records_.push_back(record);
    arrived_.notify_all();
  }
  if (!options_.script || !options_.script(*this, record)) answer(record);
  const bool large = header.payload_bytes() > limits::kInlinePayloadBytes;
  if (keep_ && (large || unacknowledged_ > (256 << 10))) {
    const wire::Ack ack(0);
    send_frame(wire::Opcode::Ack, 0, 0, 0, std::as_bytes(std::span(&ack, 1)), {});
  }
}

void FakeExecutor::answer(const Record& record) {
  if ((record.header.flags() & kWantsReply) == 0) return;
  if (record.opcode() == wire::Opcode::Hello) {
    flatbuffers::FlatBufferBuilder builder;
    const auto kind = builder.CreateString("cpu");
    wire::HelloReplyBuilder hello(builder);
    hello.add_driver_version(13000);
    hello.add_device_kind(kind);
    hello.add_granularity(2 << 20);
    builder.Finish(hello.Finish());
    reply(record, 0, std::as_bytes(std::span(builder.GetBufferPointer(), builder.GetSize())));
  } else if (record.opcode() == wire::Opcode::CopyFromDevice) {
    const auto copy = record.as<wire::CopyFromDevice>();
    reply(record, 0, {}, device_bytes(copy.source(), copy.width() * copy.height()));
  } else {
    finished_ = record.opcode() == wire::Opcode::Goodbye;
    reply(record);
  }
}

void FakeExecutor::reply(const Record& call, int status, ConstBytes body, ConstBytes payload) {
  send_frame(call.opcode(), kReply, status, call.header.sequence(), body, payload);
}

void FakeExecutor::push(wire::Opcode opcode, int status, ConstBytes body, ConstBytes payload) {
  send_frame(opcode, 0, status, 0, body, payload);
}

void FakeExecutor::push_later(wire::Opcode opcode, int status, Bytes body, Bytes payload) {
  const std::scoped_lock lock(mutex_);
  later_.push_back([this, opcode, status, body = std::move(body), payload = std::move(payload)] {
    push(opcode, status, body, payload);
  });
}

void FakeExecutor::send_frame(wire::Opcode opcode, std::uint16_t flags, int status, std::uint64_t call,
                              ConstBytes body, ConstBytes payload) {
  const auto body_bytes = static_cast<std::uint32_t>(wire::padded(body.size()));
  const wire::FrameHeader header(static_cast<std::uint16_t>(opcode), flags, status, body_bytes, 0,
                                 ++sent_sequence_, received_, call, payload.size());
  Bytes frame(frame_bytes(header));
  std::memcpy(frame.data(), &header, sizeof header);
  if (!body.empty()) std::memcpy(frame.data() + wire::kHeaderBytes, body.data(), body.size());
  if (!payload.empty())
    std::memcpy(frame.data() + wire::kHeaderBytes + body_bytes, payload.data(), payload.size());
  unacknowledged_ = 0;
  if (keep_) kept_.push_back({sent_sequence_, frame});
  queue(frame);
}

void FakeExecutor::queue(ConstBytes bytes) { out_.emplace_back(bytes.begin(), bytes.end()); }

}  // namespace avec::test
