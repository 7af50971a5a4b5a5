#include "transport/sim/one_sided.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace avec::sim {
namespace {

constexpr TransportError kNotAllowed{TransportErrc::kInternal, EACCES};
constexpr TransportError kBadMemory{TransportErrc::kInternal, EINVAL};

constexpr Direction other(Direction end) {
  return end == Direction::kFromClient ? Direction::kFromServer : Direction::kFromClient;
}

bool contains(MutableBytes outer, MutableBytes inner) {
  return inner.data() >= outer.data() && inner.data() + inner.size() <= outer.data() + outer.size();
}

bool is_added(const Memory& memory, MutableBytes range) {
  return std::any_of(memory.added.begin(), memory.added.end(),
                     [&](MutableBytes added) { return contains(added, range); });
}

const Memory::Grant* find_grant(const Memory& memory, const RemoteKey& key) {
  const auto found = memory.grants.find(key.words[0]);
  return found == memory.grants.end() || found->second.key != key ? nullptr : &found->second;
}

}  // namespace

// ---- accesses ------------------------------------------------------------------------

// Moves the bytes, if the owner allows it now: a key that was revoked since is worthless.
void Context::perform(Link& link, Direction end, Access& access) {
  access.done = true;
  const auto owner = static_cast<int>(other(end));
  const auto* grant = find_grant(link.memory[owner], access.key);
  if (link.closed[owner]) {
    access.error = {TransportErrc::kReset, 0};
  } else if (access.number == link.faults.fail_access) {
    access.error = {TransportErrc::kInternal, EIO};
  } else if (grant == nullptr || grant->access != access.what || access.offset > grant->range.size() ||
             access.here.size() > grant->range.size() - access.offset) {
    access.error = kNotAllowed;
  } else {
    const bool breaks = access.number == link.faults.reset_in_access;
    const auto there = grant->range.subspan(access.offset, access.here.size());
    const auto bytes = breaks ? there.size() / 2 : there.size();
    if (access.what == RemoteAccess::kRead) {
      std::memcpy(access.here.data(), there.data(), bytes);
    } else {
      std::memcpy(there.data(), access.here.data(), bytes);
    }
    if (breaks) reset(link, end);  // ends this access too
  }
}

void Context::run_accesses(Link& link) {
  if (link.pipes[0].held || link.pipes[1].held) return;
  for (const auto end : {Direction::kFromClient, Direction::kFromServer}) {
    auto& accesses = link.accesses[static_cast<int>(end)];
    for (std::size_t i = 0; i < accesses.size(); ++i) {
      if (!accesses[i].done && accesses[i].effect <= now()) perform(link, end, accesses[i]);
    }
    while (!accesses.empty() && accesses.front().done && accesses.front().end <= now()) {
      link.ended[static_cast<int>(end)].push_back({accesses.front().token, accesses.front().error});
      accesses.pop_front();
    }
  }
}

SimTime Context::next_completion(const Link& link, Direction end) const {
  const auto& accesses = link.accesses[static_cast<int>(end)];
  if (accesses.empty() || link.pipes[0].held || link.pipes[1].held) return kNever;
  return accesses.front().end;
}

void Context::end_accesses(Link& link, Direction end, TransportError error) {
  auto& accesses = link.accesses[static_cast<int>(end)];
  for (const auto& access : accesses) link.ended[static_cast<int>(end)].push_back({access.token, error});
  accesses.clear();
}

// ---- memory of this end --------------------------------------------------------------

TransportError SimOneSided::over() const {
  if (link_.closed[static_cast<int>(end_)]) return {TransportErrc::kClosed, 0};
  if (link_.reset) return {TransportErrc::kReset, 0};
  return {};
}

OneSidedTraits SimOneSided::traits() const noexcept {
  const auto& options = link_.one_sided;
  return {.maps = options.kind == OneSidedKind::kMapped,
          .ordered = options.ordered,
          .slots_up_to = options.slots_up_to,
          .add_from = options.add_from};
}

bool SimOneSided::keep(MutableBytes memory) {
  try {
    own().added.push_back(memory);
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

MemoryResult SimOneSided::allocate(std::size_t bytes, void* wish) noexcept {
  const std::scoped_lock lock(context_.mutex);
  if (const auto error = over()) return {{}, error};
  const int fixed = wish != nullptr ? MAP_FIXED : 0;
  void* const at = ::mmap(wish, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
  if (at == MAP_FAILED) return {{}, {TransportErrc::kResources, errno}};
  const MutableBytes memory(static_cast<std::byte*>(at), bytes);
  if (keep(memory)) return {memory, {}};
  ::munmap(at, bytes);
  return {{}, {TransportErrc::kResources, ENOMEM}};
}

// Undoes one add(); false: there was none. Keys that are left without memory go with it.
bool SimOneSided::forget(MutableBytes memory) {
  context_.run_accesses(link_);
  auto& added = own().added;
  const auto found = std::find_if(added.begin(), added.end(), [&](MutableBytes one) {
    return one.data() == memory.data() && one.size() == memory.size();
  });
  if (found == added.end()) return false;
  added.erase(found);
  std::erase_if(own().grants, [&](const auto& entry) { return !is_added(own(), entry.second.range); });
  return true;
}

void SimOneSided::free(MutableBytes memory, bool keep_reserved) noexcept {
  const std::scoped_lock lock(context_.mutex);
  forget(memory);  // after an end of the connection there is nothing to forget
  if (keep_reserved) {
    ::mmap(memory.data(), memory.size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
           -1, 0);
  } else {
    ::munmap(memory.data(), memory.size());
  }
}

TransportError SimOneSided::add(MutableBytes memory) noexcept {
  const std::scoped_lock lock(context_.mutex);
  if (const auto error = over()) return error;
  if (link_.one_sided.kind == OneSidedKind::kMapped) return {TransportErrc::kNotViable, 0};
  if (memory.empty()) return kBadMemory;
  return keep(memory) ? TransportError{} : TransportError{TransportErrc::kResources, ENOMEM};
}

TransportError SimOneSided::add_device(std::uint64_t address, std::size_t bytes, int dma_buf,
                                       std::uint64_t offset) noexcept {
  const std::scoped_lock lock(context_.mutex);
  if (const auto error = over()) return error;
  if (!link_.one_sided.device_memory) return {TransportErrc::kNotViable, EOPNOTSUPP};
  void* const at =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, dma_buf, static_cast<off_t>(offset));
  if (at == MAP_FAILED) return {TransportErrc::kNotViable, errno};
  try {
    std::shared_ptr<std::byte> mapped(static_cast<std::byte*>(at), [bytes](std::byte* p) { ::munmap(p, bytes); });
    auto* const first = reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(address));
    own().devices.push_back({{first, bytes}, std::move(mapped)});
    return {};
  } catch (const std::bad_alloc&) {  // the mapping has gone with its owner
    return {TransportErrc::kResources, ENOMEM};
  }
}

void SimOneSided::remove(MutableBytes memory) noexcept {
  const std::scoped_lock lock(context_.mutex);
  if (forget(memory)) return;
  auto& devices = own().devices;
  const auto found = std::ranges::find_if(devices, [&](const Memory::Device& device) {
    return device.range.data() == memory.data() && device.range.size() == memory.size();
  });
  if (found != devices.end()) devices.erase(found);
}

TransportError SimOneSided::allow(MutableBytes range, RemoteAccess access, RemoteKey& key) noexcept {
  const std::scoped_lock lock(context_.mutex);
  if (const auto error = over()) return error;
  if (range.empty() || !is_added(own(), range)) return kBadMemory;
  try {
    const auto number = ++link_.key_count;
    // The numbers of link and end make it worthless on another connection, or turned round.
    key = {{number, std::uint64_t{link_.number} << 1 | static_cast<std::uint64_t>(end_),
            reinterpret_cast<std::uintptr_t>(range.data()), range.size()}};
    own().grants.emplace(number, Memory::Grant{range, access, key});
    return {};
  } catch (const std::bad_alloc&) {
    return {TransportErrc::kResources, ENOMEM};
  }
}

void SimOneSided::revoke(const RemoteKey& key) noexcept {
  const std::scoped_lock lock(context_.mutex);
  context_.run_accesses(link_);
  if (find_grant(own(), key) != nullptr) own().grants.erase(key.words[0]);
}

// ---- memory of the peer --------------------------------------------------------------

MappedMemory SimOneSided::mapped(const RemoteKey& key) noexcept {
  const std::scoped_lock lock(context_.mutex);
  if (over() || link_.one_sided.kind != OneSidedKind::kMapped) return {};
  const auto* grant = find_grant(link_.memory[static_cast<int>(other(end_))], key);
  return {grant == nullptr ? MutableBytes() : grant->range, nullptr};
}

// An access shares the line with the stream: a read's bytes use the owner's direction, a write's
// bytes use ours. Their end is known half a round trip after they arrived.
void SimOneSided::set_times(Access& access) {
  const auto half = link_.shape.round_trip / 2;
  const bool reads = access.what == RemoteAccess::kRead;
  auto& pipe = link_.pipes[static_cast<int>(reads ? other(end_) : end_)];
  auto leaves = std::max(context_.now() + (reads ? half : SimTime(0)), pipe.line_free);
  if (reads) access.effect = leaves;
  if (link_.shape.bytes_per_second) {
    leaves += SimTime(static_cast<std::int64_t>(static_cast<long double>(access.here.size()) * 1e9L /
                                                    static_cast<long double>(link_.shape.bytes_per_second) +
                                                0.5L));
  }
  pipe.line_free = leaves;
  auto arrival = leaves + half;
  if (link_.one_sided.ordered) {
    arrival = std::max(arrival, pipe.last_arrival);
    pipe.last_arrival = arrival;
  }
  access.end = reads ? arrival : arrival + half;
  if (!reads) access.effect = link_.one_sided.ordered ? arrival : access.end;
  // Ends come in the order of beginnings.
  if (const auto& before = link_.accesses[static_cast<int>(end_)]; !before.empty())
    access.end = std::max(access.end, before.back().end);
}

/// This end's bytes of the access; those of a device are found where its dma-buf is mapped.
bool SimOneSided::find_own(Access& access) {
  if (is_added(own(), access.here)) return true;
  for (const Memory::Device& device : own().devices) {
    if (!contains(device.range, access.here)) continue;
    access.keeps = device.mapped;
    access.here = {device.mapped.get() + (access.here.data() - device.range.data()), access.here.size()};
    return true;
  }
  return false;
}

IoResult SimOneSided::begin(Access access) noexcept {
  const std::scoped_lock lock(context_.mutex);
  if (const auto error = over()) return {0, error};
  if (link_.one_sided.kind != OneSidedKind::kAsynchronous) return {0, {TransportErrc::kNotViable, 0}};
  if (access.here.empty() || !find_own(access)) return {0, kBadMemory};
  auto& accesses = link_.accesses[static_cast<int>(end_)];
  // Those whose end nobody has asked for count: their buffers are still borrowed.
  if (accesses.size() + link_.ended[static_cast<int>(end_)].size() >= link_.one_sided.max_under_way)
    return {};
  const auto bytes = access.here.size();
  try {
    access.number = link_.access_count++;
    set_times(access);
    accesses.push_back(access);
  } catch (const std::bad_alloc&) {
    return {0, {TransportErrc::kResources, ENOMEM}};
  }
  context_.changed();
  return {bytes, {}};
}

IoResult SimOneSided::read(const RemoteKey& key, std::uint64_t offset, MutableBytes into,
                           std::uint64_t token) noexcept {
  return begin({.token = token, .key = key, .what = RemoteAccess::kRead, .offset = offset, .here = into, .keeps = {}});
}

IoResult SimOneSided::write(const RemoteKey& key, std::uint64_t offset, ConstBytes from,
                            std::uint64_t token) noexcept {
  const MutableBytes here(const_cast<std::byte*>(from.data()), from.size());
  return begin({.token = token, .key = key, .what = RemoteAccess::kWrite, .offset = offset, .here = here, .keeps = {}});
}

std::size_t SimOneSided::completed(std::span<OneSidedCompletion> ended) noexcept {
  const std::scoped_lock lock(context_.mutex);
  context_.run_accesses(link_);
  auto& queue = link_.ended[static_cast<int>(end_)];
  const auto count = std::min(ended.size(), queue.size());
  std::copy_n(queue.begin(), count, ended.begin());
  queue.erase(queue.begin(), queue.begin() + static_cast<std::ptrdiff_t>(count));
  return count;
}

}  // namespace avec::sim
