#include "transport/shm/memory.h"

#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "base/limits.h"
#include "transport/tcp/context.h"

namespace avec::shm {
namespace {

constexpr TransportError kNotAllowed{TransportErrc::kInternal, EACCES};
// Messages that one look takes: a peer that sends without end does not keep the loop.
constexpr int kMessagesPerLook = 256;
// Accesses that have ended and were not asked for.
constexpr std::size_t kMaxCompletions = 4096;
constexpr std::size_t kHugePage = 2u << 20;
// The word of a key: serial number, access, place in the table.
constexpr unsigned kAccessBit = 13;
static_assert(kKeys == 1u << kAccessBit);

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

std::size_t page_bytes() {
  static const auto bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

// Keys of one connection are those of no other.
std::uint64_t first_serial() {
  std::uint64_t random = 0;
  if (::getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
    random = static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  return random >> (kAccessBit + 2);  // half of the numbers are left to count on
}

std::size_t slot_of(std::uint64_t word) { return static_cast<std::size_t>(word) & (kKeys - 1); }

RemoteAccess access_of(std::uint64_t word) {
  return (word >> kAccessBit & 1) != 0 ? RemoteAccess::kWrite : RemoteAccess::kRead;
}

void reserve_only(MutableBytes memory) {
  ::mmap(memory.data(), memory.size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
         0);
}

void unmap(MutableBytes memory, bool keep_reserved) {
  if (keep_reserved) {
    reserve_only(memory);
  } else {
    ::munmap(memory.data(), memory.size());
  }
}

bool all_pages_exist(int fd, std::size_t bytes) {
  struct stat status {};
  return ::fstat(fd, &status) == 0 && static_cast<std::uint64_t>(status.st_blocks) * 512 >= bytes;
}

// Gives all pages at once: pinned memory has them from the beginning, and a fault for each page
// costs several times as much. False: there is not so much memory.
bool touch_all(MutableBytes memory) {
  if (memory.size() >= kHugePage) ::madvise(memory.data(), memory.size(), MADV_HUGEPAGE);
  return ::madvise(memory.data(), memory.size(), MADV_POPULATE_WRITE) == 0 || errno == EINVAL;  // Linux 5.14
}

}  // namespace

SharedMemory::SharedMemory(Control& control, RingSender& sender, KeyTable& own, const KeyTable& peers,
                           int wake)
    : control_(control),
      sender_(sender),
      own_keys_(own),
      peers_keys_(peers),
      wake_(wake),
      slots_(kKeys),
      last_serial_(first_serial()) {
  free_slots_.reserve(kKeys);
  for (std::size_t i = kKeys; i-- > 0;) free_slots_.push_back(static_cast<std::uint32_t>(i));
}

// What is still allocated stays the caller's, mapped.
SharedMemory::~SharedMemory() = default;

OneSidedTraits SharedMemory::traits() const noexcept {
  return {.maps = true, .ordered = true, .slots_up_to = SIZE_MAX, .add_from = SIZE_MAX};
}

// ---- memory of this end ----------------------------------------------------------------

MemoryResult SharedMemory::allocate(std::size_t bytes, void* wish) noexcept {
  if (bytes == 0 || bytes % page_bytes() != 0) return {{}, {TransportErrc::kInternal, EINVAL}};
  {
    // What several threads allocate at once is counted before it exists: beyond its limits the
    // peer ends the connection.
    const std::scoped_lock lock(mutex_);
    if (ended_) return {{}, {TransportErrc::kClosed, 0}};
    if (own_count_ >= limits::kMaxSharedMemories || bytes > limits::kMaxSharedBytes - own_bytes_)
      return {{}, {TransportErrc::kResources, ENOMEM}};
    ++own_count_;
    own_bytes_ += bytes;
  }
  auto result = make_own(bytes, wish);
  if (result.error) {
    const std::scoped_lock lock(mutex_);
    --own_count_;
    own_bytes_ -= bytes;
  }
  return result;
}

MemoryResult SharedMemory::make_own(std::size_t bytes, void* wish) {
  const auto fail = [](int os_error) { return MemoryResult{{}, {TransportErrc::kResources, os_error}}; };
  Own own;
  own.bytes = bytes;
  own.fd = make_sealed_memory("avec-pinned", bytes);
  if (!own.fd) return fail(errno);
  void* const at = ::mmap(wish, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (wish != nullptr ? MAP_FIXED : 0),
                          own.fd.get(), 0);
  if (at == MAP_FAILED) return fail(errno);
  const MutableBytes memory(static_cast<std::byte*>(at), bytes);
  if (!touch_all(memory)) {
    const int error = errno;
    unmap(memory, wish != nullptr);
    return fail(error);
  }
  const std::scoped_lock lock(mutex_);
  try {
    const auto place = own_.insert_or_assign(memory.data(), std::move(own)).first;
    place->second.id = ++last_id_;
    announce(place->second);
  } catch (const std::bad_alloc&) {
    own_.erase(memory.data());
    unmap(memory, wish != nullptr);
    return fail(ENOMEM);
  }
  return {memory, {}};
}

void SharedMemory::free(MutableBytes memory, bool keep_reserved) noexcept {
  const std::scoped_lock lock(mutex_);
  const auto found = own_.find(memory.data());
  if (found != own_.end() && found->second.bytes == memory.size()) {
    const auto id = found->second.id;
    for (std::size_t i = 0; i < kKeys; ++i)
      if (slots_[i].word != 0 && slots_[i].region == id) clear_slot(i);
    if (found->second.announced) {
      try {
        unsent_.push_back({Note::kMemoryGone, 0, id, 0});
      } catch (const std::bad_alloc&) {
        // The peer keeps its mapping until the end.
      }
    } else {
      std::erase_if(unsent_, [&](const Message& message) { return message.id == id; });
    }
    --own_count_;
    own_bytes_ -= memory.size();
    own_.erase(found);
    flush_locked();
  }
  unmap(memory, keep_reserved);
}

TransportError SharedMemory::add(MutableBytes) noexcept { return {TransportErrc::kNotViable, 0}; }

void SharedMemory::remove(MutableBytes) noexcept {}

std::map<std::byte*, SharedMemory::Own>::iterator SharedMemory::find(MutableBytes range) {
  auto after = own_.upper_bound(range.data());
  if (after == own_.begin()) return own_.end();
  const auto found = std::prev(after);
  const auto offset = static_cast<std::size_t>(range.data() - found->first);
  const bool inside = offset <= found->second.bytes && range.size() <= found->second.bytes - offset;
  return inside ? found : own_.end();
}

TransportError SharedMemory::allow(MutableBytes range, RemoteAccess access, RemoteKey& key) noexcept {
  const std::scoped_lock lock(mutex_);
  if (ended_) return {TransportErrc::kClosed, 0};
  const auto found = find(range);
  if (found == own_.end() || range.empty()) return {TransportErrc::kInternal, EINVAL};
  // A peer that has not taken earlier messages does not know this memory yet.
  if (!found->second.announced) flush_locked();
  if (!found->second.announced || free_slots_.empty()) return {TransportErrc::kResources, 0};
  const auto index = free_slots_.back();
  free_slots_.pop_back();
  const std::uint64_t write = access == RemoteAccess::kWrite ? 1 : 0;
  const std::uint64_t word = ++last_serial_ << (kAccessBit + 1) | write << kAccessBit | index;
  slots_[index] = {word, found->second.id};
  own_keys_[index].store(word, std::memory_order_release);
  key.words = {found->second.id, static_cast<std::uint64_t>(range.data() - found->first), range.size(), word};
  return {};
}

void SharedMemory::clear_slot(std::size_t index) {
  slots_[index] = {};
  own_keys_[index].store(0, std::memory_order_release);
  free_slots_.push_back(static_cast<std::uint32_t>(index));  // its capacity is that of all
}

void SharedMemory::revoke(const RemoteKey& key) noexcept {
  const std::scoped_lock lock(mutex_);
  const auto index = slot_of(key.words[3]);
  if (key.words[3] != 0 && slots_[index].word == key.words[3]) clear_slot(index);
}

// ---- memory of the peer ----------------------------------------------------------------

SharedMemory::Theirs::Theirs(Mapping all, bool pages_exist, std::shared_ptr<Usage> counted)
    : mapping(std::move(all)), to_touch(pages_exist), usage(std::move(counted)) {
  ++usage->memories;
  usage->bytes += mapping.bytes().size();
}

SharedMemory::Theirs::~Theirs() {
  const auto bytes = mapping.bytes().size();
  mapping.reset();
  usage->bytes -= bytes;
  --usage->memories;
}

std::shared_ptr<SharedMemory::Theirs> SharedMemory::find_theirs(const RemoteKey& key, MutableBytes& range) {
  const auto [id, offset, bytes, word] = key.words;
  if (ended_ || word == 0 || peers_keys_[slot_of(word)].load(std::memory_order_acquire) != word)
    return nullptr;
  auto found = theirs_.find(id);
  if (found == theirs_.end() && id > last_theirs_) {
    attend_locked();
    // The thread of the connection may sleep beside the socket, and a bell was for it.
    if (was_heard()) tcp::signal_wake(wake_);
    found = theirs_.find(id);
  }
  if (peer_ != Peer::kThere || found == theirs_.end()) return nullptr;
  const auto all = found->second->mapping.bytes();
  if (offset > all.size() || bytes > all.size() - offset) return nullptr;
  range = all.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(bytes));
  return found->second;
}

MappedMemory SharedMemory::mapped(const RemoteKey& key) noexcept {
  MappedMemory memory;
  MutableBytes to_touch;
  {
    const std::scoped_lock lock(mutex_);
    auto theirs = find_theirs(key, memory.bytes);
    if (theirs == nullptr) return {};
    if (std::exchange(theirs->to_touch, false)) to_touch = theirs->mapping.bytes();
    memory.keeps = std::move(theirs);
  }
  // It takes milliseconds, in which the connection goes on.
  if (!to_touch.empty()) touch_all(to_touch);
  return memory;
}

MutableBytes SharedMemory::part_of(const RemoteKey& key, RemoteAccess access, std::uint64_t offset,
                                   std::size_t bytes) {
  MutableBytes range;
  if (find_theirs(key, range) == nullptr) return {};
  if (access_of(key.words[3]) != access || offset > range.size() || bytes > range.size() - offset) return {};
  return range.subspan(static_cast<std::size_t>(offset), bytes);
}

IoResult SharedMemory::complete(std::uint64_t token, TransportError error, std::size_t bytes) {
  try {
    completions_.push_back({token, error});
  } catch (const std::bad_alloc&) {
    return {0, {TransportErrc::kResources, ENOMEM}};
  }
  completions_waiting_.store(completions_.size(), std::memory_order_release);
  tcp::signal_wake(wake_);
  return {bytes, {}};
}

IoResult SharedMemory::read(const RemoteKey& key, std::uint64_t offset, MutableBytes into,
                            std::uint64_t token) noexcept {
  const std::scoped_lock lock(mutex_);
  if (ended_) return {0, {TransportErrc::kClosed, 0}};
  if (completions_.size() >= kMaxCompletions) return {};
  const auto from = part_of(key, RemoteAccess::kRead, offset, into.size());
  if (from.empty()) return complete(token, kNotAllowed, into.size());
  std::memcpy(into.data(), from.data(), into.size());
  return complete(token, {}, into.size());
}

IoResult SharedMemory::write(const RemoteKey& key, std::uint64_t offset, ConstBytes from,
                             std::uint64_t token) noexcept {
  const std::scoped_lock lock(mutex_);
  if (ended_) return {0, {TransportErrc::kClosed, 0}};
  if (completions_.size() >= kMaxCompletions) return {};
  const auto into = part_of(key, RemoteAccess::kWrite, offset, from.size());
  if (into.empty()) return complete(token, kNotAllowed, from.size());
  std::memcpy(into.data(), from.data(), from.size());
  return complete(token, {}, from.size());
}

std::size_t SharedMemory::completed(std::span<OneSidedCompletion> ended) noexcept {
  if (!has_completions()) return 0;
  const std::scoped_lock lock(mutex_);
  std::size_t count = 0;
  for (; count < ended.size() && !completions_.empty(); ++count) {
    ended[count] = completions_.front();
    completions_.pop_front();
  }
  completions_waiting_.store(completions_.size(), std::memory_order_release);
  return count;
}

// ---- messages --------------------------------------------------------------------------

void SharedMemory::announce(Own& own) {
  unsent_.push_back({Note::kMemory, 0, own.id, own.bytes});
  flush_locked();
}

void SharedMemory::flush_locked() {
  while (!unsent_.empty() && !ended_) {
    const Message& message = unsent_.front();
    Own* own = nullptr;
    if (message.note == Note::kMemory) {
      const auto found =
          std::ranges::find_if(own_, [&](const auto& entry) { return entry.second.id == message.id; });
      own = found == own_.end() ? nullptr : &found->second;
    }
    const auto sent = control_.send(message, own != nullptr ? own->fd.get() : -1);
    if (sent == Control::Sent::kFull) break;
    if (sent == Control::Sent::kDone) sender_.count_note();
    if (own != nullptr && sent == Control::Sent::kDone) {
      own->announced = true;
      own->fd.reset();
    }
    unsent_.pop_front();  // a broken socket is noticed elsewhere
  }
  unsent_waiting_.store(!unsent_.empty(), std::memory_order_relaxed);
}

// False: the message breaks the rules.
bool SharedMemory::take(const Message& message, Descriptor attached) {
  if (message.note == Note::kMemory) {
    const auto bytes = static_cast<std::size_t>(message.bytes);
    if (!attached || message.id <= last_theirs_ || bytes == 0 || bytes % page_bytes() != 0 ||
        their_usage_->memories >= limits::kMaxSharedMemories ||
        bytes > limits::kMaxSharedBytes - their_usage_->bytes || !is_sealed_memory(attached.get(), bytes)) {
      return false;
    }
    last_theirs_ = message.id;
    auto mapping = Mapping::of(attached.get(), bytes);
    if (!mapping) return errno == ENOMEM;  // then its keys name nothing; the session goes another way
    // What the owner has not touched is not touched here either, or it would be charged to this end.
    theirs_.emplace(
        message.id,
        std::make_shared<Theirs>(std::move(mapping), all_pages_exist(attached.get(), bytes), their_usage_));
    return true;
  }
  if (attached) return false;
  if (message.note == Note::kMemoryGone) {
    if (message.id == 0 || message.id > last_theirs_) return false;
    theirs_.erase(message.id);  // what of it is still held stays mapped, and counts
    return true;
  }
  return message.note == Note::kBell;
}

SharedMemory::Peer SharedMemory::attend_locked() noexcept {
  for (int i = 0; i < kMessagesPerLook && peer_ == Peer::kThere; ++i) {
    Message message;
    Descriptor attached;
    switch (control_.receive(message, attached)) {
      case Control::Received::kNothing:
        return peer_;
      case Control::Received::kEnd:
        peer_ = Peer::kGone;
        break;
      case Control::Received::kMalformed:
        peer_ = Peer::kMalicious;
        break;
      case Control::Received::kMessage:
        try {
          if (!take(message, std::move(attached))) peer_ = Peer::kMalicious;
        } catch (const std::bad_alloc&) {
          peer_ = Peer::kMalicious;  // a message is lost: nothing can be relied on
        }
        break;
    }
    heard_.store(true, std::memory_order_release);
  }
  return peer_;
}

SharedMemory::Peer SharedMemory::attend() noexcept {
  const std::scoped_lock lock(mutex_);
  flush_locked();
  attend_locked();
  heard_.store(false, std::memory_order_relaxed);
  return peer_;
}

void SharedMemory::end() noexcept {
  const std::scoped_lock lock(mutex_);
  ended_ = true;
  for (std::size_t i = 0; i < kKeys; ++i)
    if (slots_[i].word != 0) clear_slot(i);
}

}  // namespace avec::shm
