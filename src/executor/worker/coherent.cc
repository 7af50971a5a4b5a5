#include "executor/worker/coherent.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "base/changes.h"

namespace avec::worker {
namespace {

/// What is compared at once; the next piece is copied meanwhile.
constexpr std::uint64_t kPieceBytes = 4u << 20;
/// Bytes that did not change, between others that did, and travel with them: less than a run costs.
constexpr std::size_t kGap = 64;

}  // namespace

void CoherentMemory::Unmap::operator()(std::byte* memory) const { ::munmap(memory, bytes); }

CUresult CoherentMemory::begin(std::uint64_t address, std::uint64_t bytes) {
  if (bytes == 0 || address + bytes < address) return CUDA_ERROR_INVALID_VALUE;
  const std::lock_guard lock(mutex_);
  if (ranges_.size() >= limits::kMaxCoherentRanges || bytes > limits::kMaxCoherentBytes - bytes_)
    return CUDA_ERROR_INVALID_VALUE;
  const auto next = ranges_.lower_bound(address);
  if (next != ranges_.end() && next->first - address < bytes) return CUDA_ERROR_INVALID_VALUE;
  if (next != ranges_.begin() && address - std::prev(next)->first < std::prev(next)->second.bytes)
    return CUDA_ERROR_INVALID_VALUE;
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  ranges_.emplace(address, Range{bytes, {static_cast<std::byte*>(memory), Unmap{bytes}}});
  bytes_ += bytes;
  return CUDA_SUCCESS;
}

bool CoherentMemory::end(std::uint64_t address, std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto range = ranges_.find(address);
  if (range == ranges_.end() || range->second.bytes != bytes) return false;
  bytes_ -= bytes;
  ranges_.erase(range);
  return true;
}

void CoherentMemory::forget(std::uint64_t address, std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  auto range = ranges_.lower_bound(address);
  if (range != ranges_.begin() && address - std::prev(range)->first < std::prev(range)->second.bytes) --range;
  while (range != ranges_.end() && (range->first < address || range->first - address < bytes)) {
    bytes_ -= range->second.bytes;
    range = ranges_.erase(range);
  }
}

bool CoherentMemory::holds(std::uint64_t address, std::uint64_t bytes) const {
  const std::lock_guard lock(mutex_);
  auto range = ranges_.upper_bound(address);
  if (range == ranges_.begin()) return false;
  --range;
  const std::uint64_t offset = address - range->first;
  return offset < range->second.bytes && bytes <= range->second.bytes - offset;
}

void CoherentMemory::note(std::uint64_t address, ConstBytes bytes) {
  const std::lock_guard lock(mutex_);
  auto range = ranges_.upper_bound(address);
  if (range == ranges_.begin()) return;
  --range;
  const std::uint64_t offset = address - range->first;
  if (offset >= range->second.bytes || bytes.size() > range->second.bytes - offset) return;
  std::memcpy(range->second.shadow.get() + offset, bytes.data(), bytes.size());
}

CoherentMemory::Piece CoherentMemory::piece_from(std::uint64_t address) const {
  const std::lock_guard lock(mutex_);
  auto range = ranges_.upper_bound(address);
  if (range != ranges_.begin()) {
    const auto& [base, before] = *std::prev(range);
    if (address - base < before.bytes) return {address, std::min(kPieceBytes, before.bytes - (address - base))};
  }
  if (range == ranges_.end()) return {};
  return {range->first, std::min(kPieceBytes, range->second.bytes)};
}

void CoherentMemory::take_changes(const Piece& piece, const std::byte* now, Changes& changes) {
  const std::lock_guard lock(mutex_);
  auto range = ranges_.upper_bound(piece.address);
  if (range == ranges_.begin()) return;
  --range;
  const std::uint64_t offset = piece.address - range->first;
  if (offset >= range->second.bytes || piece.bytes > range->second.bytes - offset) return;  // it went meanwhile
  std::byte* const shadow = range->second.shadow.get() + offset;
  find_changes(now, shadow, piece.bytes, kGap, [&](std::size_t at, std::size_t bytes) {
    if (changes.next != 0) return;
    if (changes.runs.size() == limits::kCoherentReplyRuns || changes.bytes.size() >= limits::kCoherentReplyBytes) {
      changes.next = piece.address + at;
      return;
    }
    std::memcpy(shadow + at, now + at, bytes);
    const std::uint64_t address = piece.address + at;
    if (bytes <= limits::kCoherentInlineBytes) {
      changes.runs.emplace_back(address, bytes);
      changes.bytes.insert(changes.bytes.end(), now + at, now + at + bytes);
      return;
    }
    // A long run that goes on where the piece before ended is one.
    if (!changes.runs.empty()) {
      wire::CoherentRun& last = changes.runs.back();
      if (last.bytes() > limits::kCoherentInlineBytes && last.address() + last.bytes() == address && offset != 0) {
        last = wire::CoherentRun(last.address(), last.bytes() + bytes);
        return;
      }
    }
    changes.runs.emplace_back(address, bytes);
  });
}

CUresult CoherentMemory::prepare() {
  CUresult status = CUDA_SUCCESS;
  if (stream_ == nullptr) {
    status = driver_.cuStreamCreateWithPriority(&stream_, CU_STREAM_NON_BLOCKING, 0);
    if (status != CUDA_SUCCESS) stream_ = nullptr;
  }
  for (std::size_t i = 0; i < buffers_.size() && status == CUDA_SUCCESS; ++i) {
    void* memory = nullptr;
    if (buffers_[i] == nullptr) {
      status = driver_.cuMemHostAlloc(&memory, kPieceBytes, CU_MEMHOSTALLOC_PORTABLE);
      if (status == CUDA_SUCCESS) buffers_[i] = static_cast<std::byte*>(memory);
    }
    if (copied_[i] == nullptr && status == CUDA_SUCCESS) {
      status = driver_.cuEventCreate(&copied_[i], CU_EVENT_DISABLE_TIMING);
      if (status != CUDA_SUCCESS) copied_[i] = nullptr;
    }
  }
  return status;
}

CUresult CoherentMemory::start(std::size_t buffer, std::uint64_t address, std::uint64_t bytes) {
  const CUresult status = driver_.cuMemcpyDtoHAsync(buffers_[buffer], address, bytes, stream_);
  return status != CUDA_SUCCESS ? status : driver_.cuEventRecord(copied_[buffer], stream_);
}

CUresult CoherentMemory::finish(std::size_t buffer) { return driver_.cuEventSynchronize(copied_[buffer]); }

CoherentMemory::Changes CoherentMemory::compare(std::uint64_t from, CUcontext context, CUevent after) {
  Changes changes;
  driver_.cuCtxSetCurrent(context);
  changes.status = prepare();
  if (changes.status == CUDA_SUCCESS && after != nullptr)
    changes.status = driver_.cuStreamWaitEvent(stream_, after, 0);
  std::size_t buffer = 0;
  Piece piece = piece_from(from);
  bool started = false;
  while (changes.status == CUDA_SUCCESS && changes.next == 0 && piece.bytes != 0) {
    if (!started) changes.status = start(buffer, piece.address, piece.bytes);
    if (changes.status == CUDA_SUCCESS) changes.status = finish(buffer);
    if (changes.status != CUDA_SUCCESS) break;
    const Piece next = piece_from(piece.address + piece.bytes);
    started = next.bytes != 0;
    if (started) changes.status = start(1 - buffer, next.address, next.bytes);
    take_changes(piece, buffers_[buffer], changes);
    piece = next;
    buffer = 1 - buffer;
  }
  // A copy may be under way into a buffer that the next comparison uses.
  if (started) (void)finish(buffer);
  return changes;
}

void CoherentMemory::clear() {
  for (CUevent& event : copied_) {
    if (event != nullptr) driver_.cuEventDestroy(event);
    event = nullptr;
  }
  for (std::byte*& buffer : buffers_) {
    if (buffer != nullptr) driver_.cuMemFreeHost(buffer);
    buffer = nullptr;
  }
  if (stream_ != nullptr) driver_.cuStreamDestroy(stream_);
  stream_ = nullptr;
  const std::lock_guard lock(mutex_);
  ranges_.clear();
  bytes_ = 0;
}

}  // namespace avec::worker
