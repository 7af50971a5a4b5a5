// A session without a wire: records what is posted and called, keeps device memory in a map, and
// answers like an executor with one small device.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <vector>

#include "client/client.h"
#include "client/context.h"
#include "session/session.h"
#include "support/fake_one_sided.h"

namespace avec::test {

/// Bytes of device memory, zero until written.
class DeviceBytes {
 public:
  std::byte& operator[](std::uint64_t address) {
    auto& page = pages_[address / kPage];
    if (page.empty()) page.resize(kPage);
    return page[address % kPage];
  }

 private:
  static constexpr std::uint64_t kPage = 64u << 10;
  std::unordered_map<std::uint64_t, std::vector<std::byte>> pages_;
};

struct Frame {
  wire::Opcode opcode;
  std::vector<std::byte> body, payload;
  template <class Body>
  Body as() const {
    Body body_value;
    std::memcpy(&body_value, body.data(), sizeof body_value);
    return body_value;
  }
};

class FakeSession : public session::Session {
 public:
  /// With traits: payload can move by one-sided access.
  explicit FakeSession(std::optional<OneSidedTraits> traits = std::nullopt);

  /// Frames of one call, in order.
  template <class Body>
  std::vector<Frame> frames() {
    std::scoped_lock lock(mutex_);
    std::vector<Frame> found;
    for (const Frame& frame : frames_) {
      if (frame.opcode == wire::CallTraits<Body>::opcode) found.push_back(frame);
    }
    return found;
  }
  template <class Body>
  std::size_t count() {
    return frames<Body>().size();
  }
  /// Every frame's opcode, in order.
  std::vector<wire::Opcode> order();

  /// The next call of this kind fails with the CUresult.
  template <class Body>
  void fail_next(int status) {
    failures_[wire::CallTraits<Body>::opcode] = status;
  }

  std::uint64_t memory_left = std::uint64_t{1} << 30;  ///< physical, for MemMap and MemCreate
  std::vector<std::string> kernels{"fill", "empty"};   ///< of every module
  std::string log;                                     ///< of ModuleLoad
  int load_status = 0;
  std::size_t round_trips = 0;
  DeviceBytes memory;  ///< what copies to the device wrote

  const wire::HelloReply& hello() const override {
    return *flatbuffers::GetRoot<wire::HelloReply>(hello_.data());
  }
  std::string peer() const override { return "fake://"; }
  Result<> wait_deferred(session::Pending, session::Counted) override;
  Result<> wait_for_one(std::span<const session::Pending> pendings, const std::atomic<std::uint64_t>& changes,
                        std::uint64_t seen, session::Counted counted) override;
  void changed() override;
  bool deferred_done(session::Pending pending) override;
  Result<> wait_for_destination(const void* begin, const void*) override {
    destinations_waited.push_back(begin);
    return {};
  }
  Result<> wait_until_unused(const void* begin, const void* end) override {
    if (held_count() != 0) answer_held();
    return wait_for_destination(begin, end);
  }
  OneSided* one_sided() override { return access.get(); }
  Result<std::uint64_t> write_ahead(const RemoteKey& key, std::uint64_t offset, ConstBytes from) override;
  std::uint64_t last_posted() const override { return sent; }
  std::atomic<std::uint64_t> sent{0};  ///< frames
  session::Counters counters() const override;
  void close() override { closed = true; }
  void abandon_after_fork() noexcept override {}

  bool closed = false;
  bool downloads_linger = false;  ///< replies of deferred calls do not come by themselves
  std::vector<const void*> destinations_waited;

  std::unique_ptr<FakeOneSided> access;  ///< null: payload travels in the stream
  /// Copies by reference are answered, and done, when somebody waits for them.
  bool references_linger = false;
  std::set<std::uint64_t> stalled_streams;      ///< whose copies are not answered even then
  std::atomic<std::size_t> waiting_for_one{0};  ///< threads that wait for calls which nobody answers
  std::size_t held_count();
  void answer_held();
  std::size_t references = 0, source_waits = 0, worthless_references = 0;
  std::uint64_t one_sided_bytes = 0, copied = 0;

 protected:
  Result<Slot> begin_post(wire::Opcode, std::size_t body_bytes, std::size_t payload_bytes) override;
  void end_post() override;
  Result<> post_frame(wire::Opcode, ConstBytes body, ConstBytes payload) override;
  Result<session::Pending> post_deferred_frame(wire::Opcode, ConstBytes body, MutableBytes destination,
                                               session::Attend) override;
  Result<session::Pending> post_reference_frame(wire::Opcode, ConstBytes body, const session::Reference&,
                                                session::Attend) override;
  Result<std::vector<std::byte>> call_table(wire::Opcode, ConstBytes body) override;
  Result<> call_struct(wire::Opcode, ConstBytes body, MutableBytes reply) override;

 private:
  void keep(Frame frame);
  std::optional<int> failure(wire::Opcode opcode);
  void act(const Frame& frame);
  struct Held {
    session::Pending pending;
    Frame frame;
    session::Reference reference;
  };
  void answer(const Held& held);
  template <class Body>
  std::byte* reached(const Body& copy, RemoteAccess access_wanted, bool mirrored);

  std::mutex mutex_;
  std::condition_variable woken_;
  std::vector<std::byte> hello_;
  std::vector<Frame> frames_;
  Frame open_;
  std::map<wire::Opcode, int> failures_;
  std::map<std::uint64_t, std::uint64_t> mapped_;
  std::map<std::uint64_t, std::uint64_t> created_;  // bytes of physical memory that is mapped nowhere, by name
  std::vector<std::array<std::uint8_t, 32>> images_;
  std::uint64_t posted_ = 0;
  std::deque<Held> held_;
  std::map<session::Pending, int> failed_;
  RemoteKey slots_;
};

/// A client over a fake session, with its device's primary context current on this thread.
struct Fixture {
  explicit Fixture(std::optional<OneSidedTraits> traits = std::nullopt);
  ~Fixture();
  std::shared_ptr<FakeSession> session;
  client::Client client{session};
  CUcontext context = nullptr;
};

}  // namespace avec::test
