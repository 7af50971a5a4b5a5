#include "fake_session.h"

#include <cuda.h>

#include <algorithm>

namespace avec::test {
namespace {

// Not among the addresses that the client offers by itself: a program's own ranges stay free.
constexpr std::uint64_t kDeviceBase = 0x2a00'0000'0000, kHostBase = 0x2b00'0000'0000;
constexpr std::uint64_t kRangeBytes = std::uint64_t{1} << 36;
constexpr std::uint64_t kGranularity = 2u << 20;

std::vector<std::byte> finished(const flatbuffers::FlatBufferBuilder& builder) {
  const auto* bytes = reinterpret_cast<const std::byte*>(builder.GetBufferPointer());
  return {bytes, bytes + builder.GetSize()};
}

std::vector<std::byte> make_hello() {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<std::int32_t> attributes(CU_DEVICE_ATTRIBUTE_MAX, 1);
  attributes[CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK] = 1024;
  attributes[CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X] = 1024;
  attributes[CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y] = 1024;
  attributes[CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z] = 64;
  attributes[CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X] = 2147483647;
  attributes[CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y] = 65535;
  attributes[CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z] = 65535;
  attributes[CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR] = 9;
  attributes[CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR] = 0;
  attributes[CU_DEVICE_ATTRIBUTE_WARP_SIZE] = 32;
  attributes[CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT] = 4;
  attributes[CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR] = 2048;
  attributes[CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN] = 232448;
  const auto name = builder.CreateString("Fake device");
  const auto bus = builder.CreateString("0000:3b:00.0");
  const auto uuid = builder.CreateVector(std::vector<std::uint8_t>(16, 7));
  const auto wire_attributes = builder.CreateVector(attributes);
  const auto limits = builder.CreateVector(std::vector<std::uint64_t>(CU_LIMIT_MAX, 1024));
  const auto device = wire::CreateDeviceFacts(builder, name, uuid, std::uint64_t{1} << 30, wire_attributes,
                                              bus, 0, -5, limits);
  const auto devices = builder.CreateVector(std::vector{device});
  const auto kind = builder.CreateString("fake");
  const wire::AddressRange device_range(kDeviceBase, kRangeBytes), host_range(kHostBase, kRangeBytes);
  builder.Finish(wire::CreateHelloReply(builder, 13000, kind, devices, &device_range, &host_range,
                                        kGranularity, 4u << 20));
  return finished(builder);
}

}  // namespace

FakeSession::FakeSession(std::optional<OneSidedTraits> traits) : hello_(make_hello()) {
  if (traits) access = std::make_unique<FakeOneSided>(*traits);
}

std::vector<wire::Opcode> FakeSession::order() {
  std::scoped_lock lock(mutex_);
  std::vector<wire::Opcode> opcodes;
  for (const Frame& frame : frames_) opcodes.push_back(frame.opcode);
  return opcodes;
}

void FakeSession::keep(Frame frame) {
  std::scoped_lock lock(mutex_);
  act(frame);
  ++sent;
  frames_.push_back(std::move(frame));
}

std::optional<int> FakeSession::failure(wire::Opcode opcode) {
  std::scoped_lock lock(mutex_);
  const auto found = failures_.find(opcode);
  if (found == failures_.end()) return std::nullopt;
  const int status = found->second;
  failures_.erase(found);
  return status;
}

void FakeSession::act(const Frame& frame) {
  if (frame.opcode == wire::CallTraits<wire::CopyToDevice>::opcode) {
    const auto copy = frame.as<wire::CopyToDevice>();
    for (std::uint64_t row = 0; row < copy.height(); ++row) {
      for (std::uint64_t i = 0; i < copy.width(); ++i) {
        memory[copy.destination() + row * copy.pitch() + i] = frame.payload[row * copy.width() + i];
      }
    }
  } else if (frame.opcode == wire::CallTraits<wire::MemUnmap>::opcode) {
    const auto unmap = frame.as<wire::MemUnmap>();
    memory_left += mapped_[unmap.address()];
    mapped_.erase(unmap.address());
  } else if (frame.opcode == wire::CallTraits<wire::MemMapAt>::opcode) {
    const auto map = frame.as<wire::MemMapAt>();
    mapped_[map.address()] = map.bytes();
    created_.erase(map.memory());
  } else if (frame.opcode == wire::CallTraits<wire::MemRelease>::opcode) {
    const auto memory = created_.extract(frame.as<wire::MemRelease>().memory());
    if (!memory.empty()) memory_left += memory.mapped();
  } else if (frame.opcode == wire::CallTraits<wire::ModuleImage>::opcode) {
    std::array<std::uint8_t, 32> hash;
    std::memcpy(hash.data(), frame.body.data(), hash.size());
    images_.push_back(hash);
  }
}

Result<session::Session::Slot> FakeSession::begin_post(wire::Opcode opcode, std::size_t body_bytes,
                                                       std::size_t payload_bytes) {
  open_ = {opcode, std::vector<std::byte>(body_bytes), std::vector<std::byte>(payload_bytes)};
  return Slot{open_.body.data(), open_.payload.data()};
}

void FakeSession::end_post() {
  ++posted_;
  keep(std::move(open_));
}

Result<> FakeSession::post_frame(wire::Opcode opcode, ConstBytes body, ConstBytes payload) {
  ++posted_;
  keep({opcode, {body.begin(), body.end()}, {payload.begin(), payload.end()}});
  return {};
}

Result<session::Pending> FakeSession::post_deferred_frame(wire::Opcode opcode, ConstBytes body,
                                                          MutableBytes destination, session::Attend) {
  Frame frame{opcode, {body.begin(), body.end()}, {}};
  if (opcode == wire::CallTraits<wire::MemCreate>::opcode) {
    const auto create = frame.as<wire::MemCreate>();
    keep(std::move(frame));
    const std::scoped_lock lock(mutex_);
    const session::Pending pending = sent;
    if (create.bytes() > memory_left) {
      failed_[pending] = CUDA_ERROR_OUT_OF_MEMORY;
    } else {
      memory_left -= create.bytes();
      created_[create.memory()] = create.bytes();
    }
    return pending;
  }
  const auto copy = frame.as<wire::CopyFromDevice>();
  for (std::uint64_t row = 0; row < copy.height(); ++row) {
    for (std::uint64_t i = 0; i < copy.width(); ++i)
      destination[row * copy.width() + i] = memory[copy.source() + row * copy.pitch() + i];
  }
  keep(std::move(frame));
  return session::Pending{sent};
}

// ---- copies by reference -------------------------------------------------------------

RemoteKey key_of(const wire::RemoteKeyWords& words) { return {{words.a(), words.b(), words.c(), words.d()}}; }

template <class Body>
std::byte* FakeSession::reached(const Body& copy, RemoteAccess wanted, bool mirrored) {
  const RemoteKey key = key_of(copy.key());
  const std::uint64_t bytes = copy.width() * copy.height();
  MutableBytes range = access->reach(key ? key : slots_, wanted);
  if (!key && mirrored) {
    const ConstBytes mirror = access->mirror();
    range = {const_cast<std::byte*>(mirror.data()), mirror.size()};
  }
  if (copy.offset() + bytes <= range.size()) return range.data() + copy.offset();
  ++worthless_references;
  return nullptr;
}

void FakeSession::answer(const Held& held) {
  if (held.frame.opcode == wire::Opcode::CopyToDeviceFrom) {
    const auto copy = held.frame.as<wire::CopyToDeviceFrom>();
    if (const std::byte* from = reached(copy, RemoteAccess::kRead, !access->traits().maps)) {
      for (std::uint64_t i = 0; i < copy.width() * copy.height(); ++i)
        memory[copy.destination() + i / copy.width() * copy.pitch() + i % copy.width()] = from[i];
    }
  } else {
    const auto copy = held.frame.as<wire::CopyFromDeviceTo>();
    if (std::byte* to = reached(copy, RemoteAccess::kWrite, false)) {
      for (std::uint64_t i = 0; i < copy.width() * copy.height(); ++i)
        to[i] = memory[copy.source() + i / copy.width() * copy.pitch() + i % copy.width()];
    }
  }
  if (held.reference.key) access->revoke(held.reference.key);
  const auto failed = failures_.find(held.frame.opcode);
  if (failed != failures_.end()) {
    failed_[held.pending] = failed->second;
    failures_.erase(failed);
  }
}

void FakeSession::answer_held() {
  std::scoped_lock lock(mutex_);
  for (const Held& held : held_) answer(held);
  held_.clear();
  woken_.notify_all();
}

std::size_t FakeSession::held_count() {
  std::scoped_lock lock(mutex_);
  return held_.size();
}

Result<session::Pending> FakeSession::post_reference_frame(wire::Opcode opcode, ConstBytes body,
                                                           const session::Reference& reference,
                                                           session::Attend) {
  Frame frame{opcode, {body.begin(), body.end()}, {}};
  std::scoped_lock lock(mutex_);
  ++references;
  one_sided_bytes += reference.memory.size();
  copied += reference.copied;
  const Held held{++sent, frame, reference};
  frames_.push_back(std::move(frame));
  if (references_linger) {
    held_.push_back(held);
  } else {
    answer(held);
  }
  return held.pending;
}

Result<std::uint64_t> FakeSession::write_ahead(const RemoteKey& key, std::uint64_t offset, ConstBytes from) {
  const IoResult written = access->write(key, offset, from, 1);
  if (written.error) return std::unexpected(Error{Origin::kTransport, static_cast<int>(written.error.code)});
  return 1;
}

Result<> FakeSession::wait_for_one(std::span<const session::Pending> pendings,
                                   const std::atomic<std::uint64_t>& changes, std::uint64_t seen,
                                   session::Counted counted) {
  std::unique_lock lock(mutex_);
  if (counted == session::Counted::kSource) ++source_waits;
  const auto same = [](session::Pending pending) {
    return [pending](const Held& held) { return held.pending == pending; };
  };
  ++waiting_for_one;
  while (changes == seen) {
    // Held by nobody: answered before.
    const auto answered = [&](session::Pending pending) {
      return std::ranges::none_of(held_, same(pending));
    };
    if (std::ranges::any_of(pendings, answered)) break;
    const auto first = std::ranges::find_if(held_, [&](const Held& held) {
      return std::ranges::find(pendings, held.pending) != pendings.end() &&
             !stalled_streams.contains(held.frame.as<wire::CopyToDeviceFrom>().stream());
    });
    if (first != held_.end()) {
      answer(*first);
      held_.erase(first);
      break;
    }
    woken_.wait(lock);
  }
  --waiting_for_one;
  return {};
}

void FakeSession::changed() {
  const std::scoped_lock lock(mutex_);
  woken_.notify_all();
}

bool FakeSession::deferred_done(session::Pending pending) {
  std::scoped_lock lock(mutex_);
  const auto same = [&](const Held& held) { return held.pending == pending; };
  return !downloads_linger && std::ranges::none_of(held_, same);
}

Result<> FakeSession::wait_deferred(session::Pending pending, session::Counted counted) {
  if (counted == session::Counted::kSource) ++source_waits;
  if (pending > 1) {
    std::scoped_lock lock(mutex_);
    if (counted == session::Counted::kRoundTrip) ++round_trips;
    // In order, as the executor answers.
    while (!held_.empty() && held_.front().pending <= pending) {
      answer(held_.front());
      held_.pop_front();
    }
    const auto failed = failed_.find(pending);
    if (failed == failed_.end()) return {};
    const int status = failed->second;
    failed_.erase(failed);
    return cuda_error(status);
  }
  ++round_trips;
  if (const auto status = failure(wire::CallTraits<wire::CopyFromDevice>::opcode)) return cuda_error(*status);
  return {};
}

Result<std::vector<std::byte>> FakeSession::call_table(wire::Opcode opcode, ConstBytes body) {
  ++round_trips;
  keep({opcode, {body.begin(), body.end()}, {}});
  if (const auto status = failure(opcode)) return cuda_error(*status);
  flatbuffers::FlatBufferBuilder builder;
  std::array<std::uint8_t, 32> hash;
  const auto* request = flatbuffers::GetRoot<wire::ModuleLoad>(body.data());
  std::copy_n(request->hash()->bytes()->begin(), hash.size(), hash.begin());
  if (std::ranges::find(images_, hash) == images_.end()) {
    builder.Finish(wire::CreateModuleLoadReply(builder, true));
    return finished(builder);
  }
  std::vector<flatbuffers::Offset<wire::FunctionFacts>> functions;
  for (const std::string& kernel : kernels) {
    // fill(char, double, int): a hole behind the first parameter.
    const bool has = kernel == "fill";
    const auto name = builder.CreateString(kernel);
    const auto offsets =
        builder.CreateVector(has ? std::vector<std::uint32_t>{0, 8, 16} : std::vector<std::uint32_t>{});
    const auto sizes =
        builder.CreateVector(has ? std::vector<std::uint32_t>{1, 8, 4} : std::vector<std::uint32_t>{});
    const auto attributes =
        builder.CreateVector(std::vector<std::int32_t>{512, 1024, 0, 0, 32, 90, 90, 0, 48128});
    functions.push_back(wire::CreateFunctionFacts(builder, name, offsets, sizes, attributes));
  }
  const auto wire_functions = builder.CreateVector(functions);
  const auto wire_log = builder.CreateString(log);
  builder.Finish(wire::CreateModuleLoadReply(builder, false, wire_functions, wire_log, load_status));
  return finished(builder);
}

Result<> FakeSession::call_struct(wire::Opcode opcode, ConstBytes body, MutableBytes reply) {
  ++round_trips;
  Frame frame{opcode, {body.begin(), body.end()}, {}};
  keep(frame);
  if (const auto status = failure(opcode)) return cuda_error(*status);
  if (opcode == wire::CallTraits<wire::MemMap>::opcode) {
    const auto map = frame.as<wire::MemMap>();
    if (map.bytes() > memory_left) return cuda_error(CUDA_ERROR_OUT_OF_MEMORY);
    memory_left -= map.bytes();
    mapped_[map.address()] = map.bytes();
  } else if (opcode == wire::CallTraits<wire::DeviceCanAccessPeer>::opcode) {
    const wire::DeviceCanAccessPeerReply can(0, 0);
    std::memcpy(reply.data(), &can, sizeof can);
  } else if (opcode == wire::CallTraits<wire::MemGetInfo>::opcode) {
    const wire::MemGetInfoReply info(memory_left, std::uint64_t{1} << 30);
    std::memcpy(reply.data(), &info, sizeof info);
  } else if (opcode == wire::Opcode::SlotsOpen) {
    const auto slots = frame.as<wire::SlotsOpen>();
    slots_ = key_of(slots.key());
    wire::SlotsOpenReply opened;
    if (!access->traits().maps) {
      const RemoteKey mirror = access->make_mirror(slots.bytes());
      opened = wire::SlotsOpenReply({mirror.words[0], mirror.words[1], mirror.words[2], mirror.words[3]});
    }
    std::memcpy(reply.data(), &opened, sizeof opened);
  } else if (opcode == wire::CallTraits<wire::OccupancyBlocks>::opcode) {
    const wire::OccupancyBlocksReply blocks(2048 / frame.as<wire::OccupancyBlocks>().block_size(), 0);
    std::memcpy(reply.data(), &blocks, sizeof blocks);
  }
  return {};
}

session::Counters FakeSession::counters() const {
  session::Counters counters;
  counters.posted = posted_;
  counters.round_trips = counters.waited = round_trips;
  counters.source_waits = source_waits;
  counters.one_sided_bytes = one_sided_bytes;
  counters.payload_copied = copied;
  return counters;
}

Fixture::Fixture(std::optional<OneSidedTraits> traits) : session(std::make_shared<FakeSession>(traits)) {
  client::primary_retain(client, &context, 0);
  client::context_set_current(context);
}

Fixture::~Fixture() { client::context_set_current(nullptr); }

}  // namespace avec::test
