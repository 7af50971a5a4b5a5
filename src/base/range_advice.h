// What a program has advised about ranges of managed memory (cuMemAdvise, cuMemPrefetchAsync), kept
// so that it can be asked for again (cuMemRangeGetAttribute). Numbers are those of CUDA's enumerations.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <type_traits>
#include <utility>
#include <vector>

namespace avec {

class RangeAdvice {
 public:
  /// CUmemLocation.
  struct Location {
    int type = kNoLocation, id = 0;
    bool operator==(const Location&) const = default;
  };
  static constexpr int kNoLocation = 0, kDevice = 1, kHost = 2, kHostNuma = 3, kHostNumaCurrent = 4;
  /// CU_DEVICE_CPU and CU_DEVICE_INVALID.
  static constexpr int kCpuDevice = -1, kNoDevice = -2;

  enum class Answer { kDone, kInvalidValue, kInvalidDevice };

  explicit RangeAdvice(int devices = 0) : devices_(devices) {}
  /// Before anything is advised.
  void set_devices(int devices) { devices_ = devices; }

  /// CUmem_advise; the range is known to be managed memory.
  Answer advise(std::uint64_t begin, std::uint64_t bytes, int advice, const Location& where) {
    enum { kSetReadMostly = 1, kUnsetReadMostly, kSetPreferred, kUnsetPreferred, kSetAccessedBy, kUnsetAccessedBy };
    if (advice < kSetReadMostly || advice > kUnsetAccessedBy) return Answer::kInvalidValue;
    if (advice == kSetPreferred || advice == kSetAccessedBy || advice == kUnsetAccessedBy) {
      // An H100 says the same of a device that there is not.
      if (check(where, advice == kSetPreferred) != Answer::kDone) return Answer::kInvalidValue;
    }
    const int user = where.type == kDevice ? where.id : kCpuDevice;
    change(begin, begin + bytes, [&](Piece& piece) {
      if (advice == kSetReadMostly || advice == kUnsetReadMostly) piece.read_mostly = advice == kSetReadMostly;
      if (advice == kSetPreferred) piece.preferred = where;
      if (advice == kUnsetPreferred) piece.preferred = {};
      if (advice == kSetAccessedBy || advice == kUnsetAccessedBy) {
        std::erase(piece.accessed_by, user);
        if (advice == kSetAccessedBy) piece.accessed_by.push_back(user);
      }
    });
    return Answer::kDone;
  }

  Answer prefetched(std::uint64_t begin, std::uint64_t bytes, const Location& where) {
    if (const Answer checked = check(where, true); checked != Answer::kDone) return checked;
    change(begin, begin + bytes, [&](Piece& piece) { piece.prefetched = where; });
    return Answer::kDone;
  }

  /// The memory is given back.
  void forget(std::uint64_t begin, std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    split(begin);
    split(begin + bytes);
    pieces_.erase(pieces_.lower_bound(begin), pieces_.lower_bound(begin + bytes));
  }

  /// CUmem_range_attribute.
  Answer read(void* data, std::size_t size, int attribute, std::uint64_t begin, std::uint64_t bytes) const {
    enum { kReadMostly = 1, kPreferred, kAccessedBy, kPrefetched, kPreferredType, kPreferredId, kPrefetchedType, kPrefetchedId };
    if (attribute < kReadMostly || attribute > kPrefetchedId || size == 0 || size % sizeof(int) != 0)
      return Answer::kInvalidValue;
    std::vector<int> answer;
    switch (attribute) {
      case kReadMostly:
        answer = {common(begin, begin + bytes, [](const Piece& piece) { return piece.read_mostly; }) ? 1 : 0};
        break;
      case kAccessedBy:
        answer = accessed_by(begin, begin + bytes);
        answer.resize(size / sizeof(int), kNoDevice);
        break;
      default: {
        const bool preferred = attribute == kPreferred || attribute == kPreferredType || attribute == kPreferredId;
        const Location where = common(begin, begin + bytes, [&](const Piece& piece) {
          return preferred ? piece.preferred : piece.prefetched;
        });
        if (attribute == kPreferred || attribute == kPrefetched) {
          answer = {as_device(where)};
        } else {
          const bool type = attribute == kPreferredType || attribute == kPrefetchedType;
          answer = {type ? where.type : where.id};
        }
      }
    }
    if (attribute != kAccessedBy && size != sizeof(int)) return Answer::kInvalidValue;
    std::memcpy(data, answer.data(), size);
    return Answer::kDone;
  }

 private:
  struct Piece {
    std::uint64_t end = 0;
    bool read_mostly = false;
    Location preferred, prefetched;
    std::vector<int> accessed_by;
  };
  using Pieces = std::map<std::uint64_t, Piece>;  // by first address; nothing was advised between them

  static int as_device(const Location& where) {
    if (where.type == kDevice) return where.id;
    return where.type == kNoLocation ? kNoDevice : kCpuDevice;
  }

  Answer check(const Location& where, bool nodes) const {
    if (where.type == kDevice) return where.id >= 0 && where.id < devices_ ? Answer::kDone : Answer::kInvalidDevice;
    if (where.type == kHost) return Answer::kDone;
    const bool node = where.type == kHostNuma || where.type == kHostNumaCurrent;
    return nodes && node && where.id >= 0 ? Answer::kDone : Answer::kInvalidValue;
  }

  /// No piece holds `at` but at its beginning.
  void split(std::uint64_t at) {
    auto next = pieces_.upper_bound(at);
    if (next == pieces_.begin()) return;
    auto& [begin, piece] = *std::prev(next);
    if (begin == at || piece.end <= at) return;
    Piece rest = piece;
    piece.end = at;
    pieces_.emplace(at, std::move(rest));
  }

  template <class Change>
  void change(std::uint64_t begin, std::uint64_t end, Change&& to) {
    const std::lock_guard lock(mutex_);
    split(begin);
    split(end);
    for (std::uint64_t at = begin; at < end;) {
      auto next = pieces_.lower_bound(at);
      if (next == pieces_.end() || next->first != at) {  // a gap
        Piece fresh;
        fresh.end = next == pieces_.end() ? end : std::min(end, next->first);
        next = pieces_.emplace(at, std::move(fresh)).first;
      }
      to(next->second);
      at = next->second.end;
    }
  }

  /// What all of the range has; nothing where it is not the same.
  template <class Get, class Value = std::decay_t<std::invoke_result_t<Get, const Piece&>>>
  Value common(std::uint64_t begin, std::uint64_t end, Get&& get) const {
    const std::lock_guard lock(mutex_);
    Value value{};
    bool first = true;
    for (std::uint64_t at = begin; at < end;) {
      const Piece* piece = holding(at);
      if (piece == nullptr || (!first && !(get(*piece) == value))) return Value{};
      value = get(*piece);
      first = false;
      at = piece->end;
    }
    return value;
  }

  std::vector<int> accessed_by(std::uint64_t begin, std::uint64_t end) const {
    std::vector<int> users;
    for (int device = kCpuDevice; device < devices_; ++device) {
      const bool all = common(begin, end, [&](const Piece& piece) {
        for (const int user : piece.accessed_by)
          if (user == device) return true;
        return false;
      });
      if (all) users.push_back(device);
    }
    return users;
  }

  const Piece* holding(std::uint64_t at) const {
    auto next = pieces_.upper_bound(at);
    if (next == pieces_.begin()) return nullptr;
    const Piece& piece = std::prev(next)->second;
    return at < piece.end ? &piece : nullptr;
  }

  int devices_;
  mutable std::mutex mutex_;
  Pieces pieces_;
};

}  // namespace avec
