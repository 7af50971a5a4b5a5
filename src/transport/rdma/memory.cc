#include "transport/rdma/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <thread>
#include <utility>

namespace avec::rdma {
namespace {

// Words of a key: first address, bytes, rkey below the window's index plus one, and the window's
// generation above a checksum, which tells a key from anything else before the adapter does.
enum KeyWord : std::size_t { kAddress, kBytes, kWindow, kChecked };

std::uint32_t window_number(const RemoteKey& key) {
  return static_cast<std::uint32_t>(key.words[kWindow] >> 32);
}

/// The key with its checksum. Not a secret: what protects memory is the adapter's check of the rkey.
RemoteKey with_checksum(RemoteKey key) {
  key.words[kChecked] &= ~std::uint64_t{0xffffffff};
  std::uint64_t sum = 0;
  for (const std::uint64_t word : key.words) sum = (sum ^ word) * 0x9e3779b97f4a7c15 ^ (sum >> 29);
  key.words[kChecked] |= sum >> 32;
  return key;
}

// Words of work: what ended.
enum class Ended : std::uint64_t { kAccessPart, kAccess, kBind, kInvalidation };
std::uint64_t word_of(Ended what, std::uint64_t index) {
  return (index << 2) | static_cast<std::uint64_t>(what);
}

std::uintptr_t address_of(const std::byte* pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }

TransportError registration_error(int os_error) {
  switch (os_error) {
    case ENOMEM:
    case EAGAIN:
    case EPERM:
    case ENOSPC:
      return {TransportErrc::kResources, os_error};
    case EFAULT:  // pages that cannot be pinned: device memory, a file without pages
    case EINVAL:
    case EOPNOTSUPP:
    case EPROTONOSUPPORT:  // a kernel that knows no such registration
      return {TransportErrc::kNotViable, os_error};
    default:
      return {TransportErrc::kInternal, os_error};
  }
}

constexpr TransportError kInvalid{TransportErrc::kInternal, EINVAL};

}  // namespace

Memory::Memory(QueuePair& queue_pair) : pair_(queue_pair), type2_(queue_pair.port().type2_windows()) {}

OneSidedTraits Memory::traits() const noexcept {
  // Measured over soft-RoCE: adding and removing 64 KiB takes 92 us, 1 MiB 157 us, 64 MiB 1.3 ms; copying
  // them takes 21 us, 337 us and 40 ms on the same (emulated) processor. They meet near 400 KiB.
  constexpr std::size_t kWorthAdding = 512u << 10;
  return {.maps = false, .ordered = true, .slots_up_to = kWorthAdding, .add_from = kWorthAdding};
}

// ---- memory of this end

MemoryResult Memory::allocate(std::size_t bytes, void* wish) noexcept {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  if (bytes == 0 || bytes % page != 0) return {{}, kInvalid};
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | (wish != nullptr ? MAP_FIXED : 0);
  void* mapped = ::mmap(wish, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (mapped == MAP_FAILED) return {{}, {TransportErrc::kResources, errno}};
  const MutableBytes memory(static_cast<std::byte*>(mapped), bytes);
  try {
    if (const auto error = add_region(memory); !error)
      return {memory, {}};
    else {
      // At a wished address something was mapped: leave the addresses reserved.
      if (wish != nullptr)
        ::mmap(mapped, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
      else
        ::munmap(mapped, bytes);
      return {{}, error};
    }
  } catch (...) {
    ::munmap(mapped, bytes);
    return {{}, {TransportErrc::kResources, ENOMEM}};
  }
}

void Memory::free(MutableBytes memory, bool keep_reserved) noexcept {
  remove(memory);
  if (keep_reserved) {
    ::mmap(memory.data(), memory.size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
           -1, 0);
  } else {
    ::munmap(memory.data(), memory.size());
  }
}

TransportError Memory::add(MutableBytes memory) noexcept {
  if (memory.empty()) return kInvalid;
  try {
    return add_region(memory);
  } catch (...) {
    return {TransportErrc::kResources, ENOMEM};
  }
}

TransportError Memory::add_region(MutableBytes memory) {
  {
    const Lock lock(pair_.mutex());
    if (Region* known = find_exact(memory)) return ++known->adds, TransportError{};
  }
  auto region = std::make_unique<Region>();
  region->bytes = memory;
  const Verbs& verbs = pair_.verbs();
  // Registering takes milliseconds and concerns nobody else: outside of the lock, while the
  // protection domain is kept by stop()'s caller, who waits for no registration. It is looked at
  // again below.
  if (const auto error = pair_.error()) return error;
  const int window = type2_ ? IBV_ACCESS_MW_BIND : 0;
  const auto attempt = [&](int access) {
    region->registration = {verbs.register_memory(pair_.domain(), memory.data(), memory.size(), access),
                            verbs.ibv_dereg_mr};
    return region->registration != nullptr;
  };
  if (!attempt(IBV_ACCESS_LOCAL_WRITE | window)) {
    // Read-only memory, perhaps: enough to be read by the peer.
    const int os_error = errno;
    region->writable = false;
    if ((os_error != EFAULT && os_error != EACCES) || !attempt(window)) return registration_error(os_error);
  }
  const Lock lock(pair_.mutex());
  if (const auto error = pair_.error()) return error;
  regions_.emplace(memory.data(), std::move(region));
  return {};
}

TransportError Memory::add_device(std::uint64_t address, std::size_t bytes, int dma_buf,
                                  std::uint64_t offset) noexcept {
  const Verbs& verbs = pair_.verbs();
  if (bytes == 0 || address + bytes < address) return kInvalid;
  if (verbs.ibv_reg_dmabuf_mr == nullptr) return {TransportErrc::kNotViable, ENOSYS};
  try {
    auto region = std::make_unique<Region>();
    region->bytes = {reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(address)), bytes};
    region->device = true;
    if (const auto error = pair_.error()) return error;
    // The address that accesses name is the device's own. No other right, and no window: allow() refuses it.
    region->registration = {
        verbs.ibv_reg_dmabuf_mr(pair_.domain(), offset, bytes, address, dma_buf, IBV_ACCESS_LOCAL_WRITE),
        verbs.ibv_dereg_mr};
    if (!region->registration) return registration_error(errno);
    const Lock lock(pair_.mutex());
    if (const auto error = pair_.error()) return error;
    const std::byte* const first = region->bytes.data();
    regions_.emplace(first, std::move(region));
    return {};
  } catch (...) {
    return {TransportErrc::kResources, ENOMEM};
  }
}

Memory::Region* Memory::find(const std::byte* begin, std::size_t bytes) noexcept {
  // The nearest that begins before it is nearly always the one; regions may overlap, though.
  for (auto it = regions_.upper_bound(begin); it != regions_.begin();) {
    --it;
    const MutableBytes region = it->second->bytes;
    const auto offset = address_of(begin) - address_of(region.data());
    if (offset <= region.size() && bytes <= region.size() - offset && it->second->registration &&
        it->second->adds != 0)
      return it->second.get();
  }
  return nullptr;
}

Memory::Region* Memory::find_exact(MutableBytes memory) noexcept {
  for (auto [it, last] = regions_.equal_range(memory.data()); it != last; ++it) {
    if (it->second->bytes.size() == memory.size() && it->second->adds != 0) return it->second.get();
  }
  return nullptr;
}

void Memory::remove(MutableBytes memory) noexcept {
  Lock lock(pair_.mutex());
  Region* region = find_exact(memory);
  if (region != nullptr && --region->adds == 0) remove_region(*region, lock);
}

void Memory::remove_region(Region& region, Lock& lock) noexcept {
  // Nobody finds it any more. A key that memory added otherwise covers goes on; all others end, also
  // those of memory taken back earlier that this one has covered.
  for (std::size_t i = 0; i < windows_.size(); ++i) {
    Window& window = *windows_[i];
    if (window.state == WindowState::kFree) continue;
    const auto* begin = reinterpret_cast<const std::byte*>(window.key.words[kAddress]);
    if (find(begin, window.key.words[kBytes]) == nullptr) revoke_window(window, lock);
  }
  if (!wait_until(lock, [&] { return region.uses == 0 && region.registering == 0; })) {
    pair_.fail({TransportErrc::kReset, ETIMEDOUT},
               "an access or a registration did not end before its memory was taken back");
  }
  // Should accesses be left, the queue pair is out of service and none of them goes on.
  if (region.uses != 0) region.registration.reset();
  region.parked = true;
  erase_if_unused(region);
}

void Memory::erase_if_unused(Region& region) noexcept {
  if (!region.parked || region.keys != 0 || region.uses != 0) return;
  for (auto [it, last] = regions_.equal_range(region.bytes.data()); it != last; ++it) {
    if (it->second.get() != &region) continue;
    regions_.erase(it);
    return;
  }
}

template <class Done>
bool Memory::wait_until(Lock& lock, Done done) noexcept {
  const auto deadline = std::chrono::steady_clock::now() + kRevokeDeadline;
  while (!done() && !pair_.destroyed()) {
    if (pair_.poll_sends()) continue;
    // What an out of service queue pair flushes comes soon, or not at all.
    if (pair_.failed() && !pair_.sends_under_way()) break;
    if (std::chrono::steady_clock::now() >= deadline) return false;
    lock.unlock();
    std::this_thread::yield();
    lock.lock();
  }
  return true;
}

// ---- keys

Memory::Window* Memory::free_window(bool alone) noexcept {
  try {
    if (free_windows_.empty()) {
      if (windows_.size() >= kMaxWindows) return nullptr;
      free_windows_.reserve(windows_.size() + 1);  // so that giving one back allocates nothing
      windows_.push_back(std::make_unique<Window>());
      windows_.back()->index = static_cast<std::uint32_t>(windows_.size() - 1);
      free_windows_.push_back(windows_.back()->index);
    }
  } catch (...) {
    return nullptr;
  }
  Window* window = windows_[free_windows_.back()].get();
  if (!alone && !window->object) {
    ibv_mw* made = ibv_alloc_mw(pair_.domain(), IBV_MW_TYPE_2);
    if (made == nullptr) return nullptr;
    window->object = {made, [](ibv_mw* object) { return ibv_dealloc_mw(object); }};
  }
  free_windows_.pop_back();
  return window;
}

TransportError Memory::allow(MutableBytes range, RemoteAccess access, RemoteKey& key) noexcept {
  if (range.empty()) return kInvalid;
  Lock lock(pair_.mutex());
  if (const auto error = pair_.error()) return error;
  Region* region = find(range.data(), range.size());
  if (region == nullptr || region->device) return kInvalid;
  if (access == RemoteAccess::kWrite && !region->writable) return {TransportErrc::kInternal, EACCES};
  ++region->keys;  // so that it stays while the lock is given up
  // Binding asks for memory that can be written.
  const bool alone = !type2_ || !region->writable;
  Registration registration{nullptr, nullptr};
  TransportError error;
  if (alone) {
    error = register_alone(*region, range, access, registration, lock);
  } else if (!wait_until(lock, [&] { return pair_.room(Urgency::kMemory) > 0; })) {
    error = {TransportErrc::kResources, EAGAIN};
  }
  if (!error) error = pair_.error();
  if (!error && find(range.data(), range.size()) == nullptr) error = kInvalid;  // taken back meanwhile
  Window* window = error ? nullptr : free_window(alone);
  if (!error && window == nullptr) error = {TransportErrc::kResources, ENOMEM};
  if (error) {
    --region->keys;
    erase_if_unused(*region);
    return error;
  }
  window->region = region;
  if (alone) {
    window->rkey = registration->rkey;
    window->registration = std::move(registration);
  } else if (const auto refused = bind(*window, range, access)) {
    release(*window);
    return refused;
  }
  window->state = WindowState::kBound;
  window->key.words = {address_of(range.data()), range.size(),
                       (std::uint64_t{window->index + 1} << 32) | window->rkey,
                       std::uint64_t{window->generation} << 32};
  window->key = with_checksum(window->key);
  key = window->key;
  return {};
}

TransportError Memory::bind(Window& window, MutableBytes range, RemoteAccess access) noexcept {
  ibv_send_wr request{};
  request.opcode = IBV_WR_BIND_MW;
  request.bind_mw.mw = window.object.get();
  request.bind_mw.rkey = ibv_inc_rkey(window.object->rkey);
  request.bind_mw.bind_info = {
      window.region->registration.get(), address_of(range.data()), range.size(),
      access == RemoteAccess::kRead ? IBV_ACCESS_REMOTE_READ : IBV_ACCESS_REMOTE_WRITE};
  const Work work{this, word_of(Ended::kBind, 0)};
  if (!pair_.post(request, {&work, 1})) return pair_.error();
  window.rkey = window.object->rkey = request.bind_mw.rkey;
  return {};
}

TransportError Memory::register_alone(Region& region, MutableBytes range, RemoteAccess access,
                                      Registration& registration, Lock& lock) noexcept {
  const Verbs& verbs = pair_.verbs();
  const int rights = access == RemoteAccess::kRead ? IBV_ACCESS_REMOTE_READ
                                                   : IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_LOCAL_WRITE;
  ++region.registering;
  lock.unlock();  // it may take milliseconds
  registration = {verbs.register_memory(pair_.domain(), range.data(), range.size(), rights),
                  verbs.ibv_dereg_mr};
  TransportError error = registration ? TransportError{} : registration_error(errno);
  lock.lock();
  if (!error && find(range.data(), range.size()) == nullptr) {
    // Taken back meanwhile, by one who waits for this.
    error = kInvalid;
    lock.unlock();
    registration.reset();
    lock.lock();
  }
  --region.registering;
  return error;
}

void Memory::revoke(const RemoteKey& key) noexcept {
  Lock lock(pair_.mutex());
  const std::uint32_t number = window_number(key);
  if (number == 0 || number > windows_.size()) return;
  Window& window = *windows_[number - 1];
  if (window.key == key) revoke_window(window, lock);
}

void Memory::release(Window& window) noexcept {
  Region* region = std::exchange(window.region, nullptr);
  window.state = WindowState::kFree;
  window.key = {};
  ++window.generation;
  free_windows_.push_back(window.index);
  --region->keys;
  erase_if_unused(*region);
}

void Memory::revoke_window(Window& window, Lock& lock) noexcept {
  if (window.state == WindowState::kFree) return;
  const auto generation = window.generation;
  const auto is_over = [&] { return window.generation != generation; };
  if (window.state == WindowState::kBound && window.registration) {
    window.state = WindowState::kEnding;
    Registration registration = std::move(window.registration);
    lock.unlock();  // its end may wait for accesses under way
    registration.reset();
    lock.lock();
    if (!is_over()) release(window);
    return;
  }
  if (window.state == WindowState::kBound && !pair_.failed()) {
    window.state = WindowState::kEnding;
    const auto has_room = [&] { return pair_.room(Urgency::kMemory) > 0; };
    if (wait_until(lock, has_room) && has_room() && !pair_.failed()) {
      ibv_send_wr request{};
      request.opcode = IBV_WR_LOCAL_INV;
      request.invalidate_rkey = window.rkey;
      request.send_flags = IBV_SEND_SIGNALED;
      const Work work{this, word_of(Ended::kInvalidation, window.index)};
      pair_.post(request, {&work, 1});
    }
  }
  // Posted here, or by another thread that revokes it too.
  if (window.state == WindowState::kEnding && !wait_until(lock, is_over)) {
    pair_.fail({TransportErrc::kReset, ETIMEDOUT}, "a memory key could not be invalidated in time");
  }
  if (is_over()) return;
  // The queue pair is out of service, nothing comes in through it: giving the window back ends it
  // for good.
  window.object.reset();
  release(window);
}

// ---- memory of the peer

IoResult Memory::read(const RemoteKey& key, std::uint64_t offset, MutableBytes into,
                      std::uint64_t token) noexcept {
  return start(IBV_WR_RDMA_READ, key, offset, into, token);
}

IoResult Memory::write(const RemoteKey& key, std::uint64_t offset, ConstBytes from,
                       std::uint64_t token) noexcept {
  return start(IBV_WR_RDMA_WRITE, key, offset, from, token);
}

IoResult Memory::start(ibv_wr_opcode opcode, const RemoteKey& key, std::uint64_t offset, ConstBytes here,
                       std::uint64_t token) noexcept {
  const std::uint64_t allowed = key.words[kBytes];
  if (key != with_checksum(key)) return {0, kInvalid};
  if (here.empty() || offset > allowed || here.size() > allowed - offset) return {0, kInvalid};
  Lock lock(pair_.mutex());
  if (const auto error = pair_.error()) return {0, error};
  Region* region = find(here.data(), here.size());
  if (region == nullptr || (opcode == IBV_WR_RDMA_READ && !region->writable)) return {0, kInvalid};

  // As many pieces as a quarter of the queue takes at most: a larger access has larger pieces.
  constexpr std::size_t kMostPieces = kLeastSendDepth / 4;
  const std::size_t largest = std::min<std::size_t>(pair_.port().attributes.max_msg_sz, 1u << 30);
  const std::size_t fair = std::bit_ceil(here.size() / kMostPieces + 1);
  const std::size_t piece = std::min(std::max(kPieceBytes, fair), largest);
  const std::size_t pieces = (here.size() + piece - 1) / piece;
  if (pieces > kMostPieces) return {0, {TransportErrc::kInternal, EMSGSIZE}};
  const std::uint64_t number = started_.load(std::memory_order_relaxed);
  if (number - taken_.load(std::memory_order_acquire) >= kAccesses) return {};
  if (pair_.room(Urgency::kPayload) < pieces) pair_.poll_sends();
  if (pair_.room(Urgency::kPayload) < pieces) return {};

  std::array<ibv_send_wr, kMostPieces> requests{};
  std::array<ibv_sge, kMostPieces> elements;
  std::array<Work, kMostPieces> works;
  for (std::size_t i = 0; i < pieces; ++i) {
    const std::size_t at = i * piece, bytes = std::min(piece, here.size() - at);
    elements[i] = {address_of(here.data()) + at, static_cast<std::uint32_t>(bytes),
                   region->registration->lkey};
    // Never inline: the processor would read the bytes, which may be a device's.
    requests[i].opcode = opcode;
    requests[i].sg_list = &elements[i];
    requests[i].num_sge = 1;
    requests[i].wr.rdma = {key.words[kAddress] + offset + at, static_cast<std::uint32_t>(key.words[kWindow])};
    requests[i].next = i + 1 < pieces ? &requests[i + 1] : nullptr;
    const bool last = i + 1 == pieces;
    if (last) requests[i].send_flags = IBV_SEND_SIGNALED;
    works[i] = {this, word_of(last ? Ended::kAccess : Ended::kAccessPart, number % kAccesses)};
  }
  accesses_[number % kAccesses] = {token, region, {}, false};
  ++region->uses;
  started_.store(number + 1);  // before asleep_ is read, as the driving thread does the opposite
  if (asleep_.load()) pair_.arm_sends();
  // Should that fail, completed() tells of it.
  pair_.post(requests[0], std::span(works).first(pieces));
  return {here.size(), {}};
}

void Memory::ended(std::uint64_t word, TransportError error) noexcept {
  const auto index = word >> 2;
  switch (static_cast<Ended>(word & 3)) {
    case Ended::kBind:
      return;  // an error has failed the queue pair
    case Ended::kInvalidation: {
      if (error) return;  // revoke_window() gives the window back
      release(*windows_[index]);
      return;
    }
    case Ended::kAccessPart:
    case Ended::kAccess: {
      Access& access = accesses_[index];
      if (error && !access.error) access.error = error;
      if (static_cast<Ended>(word & 3) == Ended::kAccessPart) return;
      --access.region->uses;
      access.ended = true;
      // Those that could not be posted are told of before those under way end.
      std::uint64_t finished = finished_.load(std::memory_order_relaxed);
      while (finished != started_.load(std::memory_order_relaxed) && accesses_[finished % kAccesses].ended)
        ++finished;
      finished_.store(finished, std::memory_order_release);
      return;
    }
  }
}

std::size_t Memory::completed(std::span<OneSidedCompletion> ended) noexcept {
  if (!has_completed()) {
    if (!busy()) return 0;
    const Lock lock(pair_.mutex());
    pair_.poll_sends();
  }
  std::size_t count = 0;
  const auto finished = finished_.load(std::memory_order_acquire);
  std::uint64_t taken = taken_.load(std::memory_order_relaxed);
  while (count < ended.size() && taken != finished) {
    const Access& access = accesses_[taken++ % kAccesses];
    ended[count++] = {access.token, access.error};
  }
  taken_.store(taken, std::memory_order_release);
  return count;
}

// ---- the end

void Memory::end_windows() noexcept {
  const Lock lock(pair_.mutex());
  for (auto& window : windows_) {
    window->object.reset();
    window->registration.reset();
    if (window->state != WindowState::kFree) release(*window);
  }
}

void Memory::end_regions() noexcept {
  const Lock lock(pair_.mutex());
  for (auto& [begin, region] : regions_) region->registration.reset();
}

}  // namespace avec::rdma
