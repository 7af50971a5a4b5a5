#include "client/payload.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <mutex>

#include "client/row_copy.h"
#include "session/session.h"

namespace avec::client {
namespace {

/// The smallest piece of a copy in several pieces: below it frames cost more than they gain.
constexpr std::uint64_t kLeastPiece = std::uint64_t{256} << 10;
/// Pieces of a copy per thread at least, so that copying and moving go on at the same time.
constexpr std::uint64_t kPiecesPerThread = 4;
/// Pieces of one copy from the device under way.
constexpr std::size_t kUnderWay = limits::kSlots / 2;

struct Piece {
  std::uint64_t row, rows, column, width;
  std::uint64_t bytes() const { return rows * width; }
};

/// A copy cut into pieces that fit a slot: some rows each, or parts of one row.
class Pieces {
 public:
  Pieces(const LargeCopy& copy, std::uint64_t most) : copy_(copy) {
    if (copy.width > most) {
      piece_width_ = most;
      per_row_ = (copy.width + most - 1) / most;
      count_ = per_row_ * copy.height;
    } else {
      rows_ = most / copy.width;
      piece_width_ = copy.width;
      count_ = (copy.height + rows_ - 1) / rows_;
    }
  }
  std::uint64_t count() const { return count_; }
  Piece at(std::uint64_t index) const {
    const std::uint64_t row = index / per_row_ * rows_, column = index % per_row_ * piece_width_;
    return {row, std::min(rows_, copy_.height - row), column, std::min(piece_width_, copy_.width - column)};
  }

 private:
  const LargeCopy& copy_;
  std::uint64_t piece_width_, rows_ = 1, per_row_ = 1, count_;
};

unsigned threads_for(const LargeCopy& copy, const CopyThreads& threads) {
  return copy.width * copy.height >= limits::kThreadedCopyBytes ? threads.count() : 1;
}

std::uint64_t piece_bytes(const LargeCopy& copy, unsigned threads) {
  constexpr std::uint64_t kRound = 4096;
  const std::uint64_t even = copy.width * copy.height / (threads * kPiecesPerThread) / kRound * kRound;
  return std::clamp<std::uint64_t>(even, kLeastPiece, limits::kSlotBytes);
}

/// What the threads of one copy share.
class Work {
 public:
  Work(session::Session& session, Slots& slots, const LargeCopy& copy, unsigned threads)
      : session_(session),
        slots_(slots),
        copy_(copy),
        pieces_(copy, piece_bytes(copy, threads)),
        under_way_(std::max<std::size_t>(kUnderWay / threads, 2)) {}

  Result<> result() const { return result_; }

  void upload() {
    while (const auto piece = next()) {
      if (auto done = upload(*piece); !done) return fail(done.error());
    }
  }

  void download() {
    std::deque<Flight> flights;
    bool more = true;
    while (more || !flights.empty()) {
      if (more && flights.size() < under_way_) {
        // Waiting for a slot with some taken could be waiting for oneself.
        const auto slot = flights.empty() ? slots_.take(copy_.stream) : as_result(slots_.try_take(copy_.stream));
        if (!slot) return fail(flights, slot.error());
        if (*slot) {
          more = start(**slot, flights);
          continue;
        }
      }
      const Flight flight = flights.front();
      const auto counted = first_.exchange(false) ? session::Counted::kRoundTrip : session::Counted::kNot;
      if (auto answered = session_.wait_deferred(flight.pending, counted); !answered)
        return fail(flights, answered.error());
      flights.pop_front();
      scatter(flight.piece, flight.slot.memory.data());
      slots_.give_back(flight.slot);
    }
  }

 private:
  struct Flight {
    Piece piece;
    Slot slot;
    session::Pending pending;
  };

  std::optional<Piece> next() {
    if (failed_.load(std::memory_order_relaxed)) return std::nullopt;
    const std::uint64_t index = next_.fetch_add(1, std::memory_order_relaxed);
    if (index >= pieces_.count()) return std::nullopt;
    return pieces_.at(index);
  }
  std::byte* host(const Piece& piece) const {
    return copy_.host + piece.row * copy_.host_pitch + piece.column;
  }
  std::uint64_t device(const Piece& piece) const {
    return copy_.device + piece.row * copy_.device_pitch + piece.column;
  }

  Result<> upload(const Piece& piece) {
    const auto slot = slots_.take(copy_.stream);
    if (!slot) return std::unexpected(slot.error());
    for (std::uint64_t row = 0; row < piece.rows; ++row)
      std::memcpy(slot->memory.data() + row * piece.width, host(piece) + row * copy_.host_pitch, piece.width);
    const auto written = slots_.write(*slot, piece.bytes());
    session::Reference reference{slot->memory.first(piece.bytes()), RemoteAccess::kRead};
    reference.copied = piece.bytes();
    Result<session::Pending> pending = std::unexpected(Error{});
    if (written) {
      reference.write = *written;
      const auto post = [&](const auto& body) {
        return session_.post_by_reference(body, reference, session::Attend::kNobody);
      };
      pending = copy_.rows.array() != 0
                    ? post(wire::CopyToArrayFrom(rows_at(copy_.rows, piece.row, piece.column), piece.width,
                                                 piece.rows, copy_.stream, to_wire({}), slot->offset()))
                    : post(wire::CopyToDeviceFrom(device(piece), copy_.device_pitch, piece.width, piece.rows,
                                                  copy_.stream, to_wire({}), slot->offset()));
    }
    if (!pending) {
      slots_.give_back(*slot);
      return std::unexpected(written ? pending.error() : written.error());
    }
    slots_.used_by(*slot, *pending);
    return {};
  }

  /// Asks for the next piece; false when there is none, or no more are wanted.
  bool start(const Slot& slot, std::deque<Flight>& flights) {
    const auto piece = next();
    if (!piece) {
      slots_.give_back(slot);
      return false;
    }
    session::Reference reference{slot.memory.first(piece->bytes()), RemoteAccess::kWrite};
    reference.copied = piece->bytes();
    const auto post = [&](const auto& body) { return session_.post_by_reference(body, reference); };
    const auto pending =
        copy_.rows.array() != 0
            ? post(wire::CopyFromArrayTo(rows_at(copy_.rows, piece->row, piece->column), piece->width, piece->rows,
                                         copy_.stream, to_wire({}), slot.offset()))
            : post(wire::CopyFromDeviceTo(device(*piece), copy_.device_pitch, piece->width, piece->rows,
                                          copy_.stream, to_wire({}), slot.offset()));
    if (!pending) {
      slots_.give_back(slot);
      fail(pending.error());
      return false;
    }
    flights.push_back({*piece, slot, *pending});
    return true;
  }

  void scatter(const Piece& piece, const std::byte* from) const {
    for (std::uint64_t row = 0; row < piece.rows; ++row)
      std::memcpy(host(piece) + row * copy_.host_pitch, from + row * piece.width, piece.width);
  }

  static Result<std::optional<Slot>> as_result(std::optional<Slot> slot) { return slot; }

  void fail(const Error& error) {
    const std::scoped_lock lock(mutex_);
    if (!failed_.exchange(true)) result_ = std::unexpected(error);
  }
  /// The executor may still write to these.
  void fail(const std::deque<Flight>& flights, const Error& error) {
    for (const Flight& flight : flights) slots_.used_by(flight.slot, flight.pending);
    fail(error);
  }

  session::Session& session_;
  Slots& slots_;
  const LargeCopy& copy_;
  const Pieces pieces_;
  const std::size_t under_way_;  ///< of one thread
  std::atomic<std::uint64_t> next_{0};
  std::atomic<bool> first_{true};
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
  Result<> result_;  // guarded by mutex_ until all threads are back
};

}  // namespace

Payload::Payload(session::Session& session, unsigned threads)
    : session_(session), slots_(session), threads_(threads) {
  traits_.slots_up_to = 0;
  if (OneSided* access = session.one_sided()) traits_ = access->traits();
}

std::optional<Payload::Name> Payload::name(const Side& side, session::Reference& reference) {
  if (side.reach == Reach::kStanding) return Name{side.key, side.address - side.key_address};
  if (session_.one_sided()->allow(reference.memory, reference.access, reference.key)) return std::nullopt;
  return Name{reference.key, 0};
}

std::optional<Result<>> Payload::upload(const LargeCopy& copy) {
  if (!slots_.open()) return std::nullopt;
  const unsigned threads = threads_for(copy, threads_);
  Work work(session_, slots_, copy, threads);
  threads_.run(threads, [&] { work.upload(); });
  return work.result();
}

std::optional<Result<>> Payload::download(const LargeCopy& copy) {
  if (!slots_.open()) return std::nullopt;
  const unsigned threads = threads_for(copy, threads_);
  Work work(session_, slots_, copy, threads);
  threads_.run(threads, [&] { work.download(); });
  return work.result();
}

}  // namespace avec::client
