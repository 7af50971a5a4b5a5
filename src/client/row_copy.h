// One copy of rows between two sides, in the order of a stream: which way its bytes take.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <optional>

#include "client/copy.h"
#include "client/host_memory.h"
#include "client/payload.h"

namespace avec::client {

class Client;
struct Stream;

enum class Kind { kDevice, kArray, kPinned, kPageable };

/// One end of a copy: rows of `pitch` bytes from `address`.
struct Side {
  std::uint64_t address = 0;
  std::uint64_t pitch = 0;
  Kind kind = Kind::kPageable;
  Reach reach = Reach::kNone;     ///< of kPinned
  RemoteKey key{};                ///< of kStanding
  std::uint64_t key_address = 0;  ///< where the key's bytes begin
  /// Of kDevice: where the program has the same bytes (coherence.h); null: it has not.
  std::byte* twin = nullptr;
  wire::ArrayRows rows{};         ///< of kArray, in place of address and pitch

  bool on_device() const { return kind == Kind::kDevice || kind == Kind::kArray; }
  std::byte* host() const { return reinterpret_cast<std::byte*>(address); }
};

struct Shape {
  std::uint64_t width = 0, height = 0;
  std::uint64_t bytes() const { return width * height; }
  /// Bytes from the first to the last of rows `pitch` apart; false when they overflow.
  bool extent(std::uint64_t pitch, std::uint64_t& bytes) const {
    return !__builtin_mul_overflow(height - 1, pitch, &bytes) &&
           !__builtin_add_overflow(bytes, width, &bytes);
  }
};

/// Finds out where the side lies. Device memory must hold all of it.
CUresult classify(Client& client, Side& side, const Shape& shape);

class RowCopy {
 public:
  RowCopy(Stream& stream, const Side& destination, const Side& source, const Shape& shape);
  CUresult run(Completion completion);

 private:
  bool tight(const Side& side) const { return shape_.height == 1 || side.pitch == shape_.width; }
  bool beside_stream() const;
  std::uint64_t rows_at_once() const;
  CUresult captured(Completion completion);
  CUresult on_device();
  CUresult on_host();
  CUresult to_device(Completion completion);
  CUresult post_to_device(Completion completion);
  CUresult post_through_stream();
  CUresult from_device(Completion completion);
  CUresult from_device_through_stream(bool waits);
  CUresult rows_from_device();

  // Beside the stream. Nothing: this copy cannot go that way.
  std::optional<CUresult> upload(Completion completion);
  std::optional<CUresult> download(bool waits);
  std::optional<CUresult> upload_from(const Side& host, bool waits);
  std::optional<CUresult> download_to(const Side& host, bool waits);
  template <class Move>
  std::optional<CUresult> with_added(const Side& host, Move&& move);
  CUresult between_arrays();
  template <class Use>
  auto with_upload(std::uint64_t row, std::uint64_t rows, Use&& use) const;
  template <class Use>
  auto with_download(std::uint64_t row, std::uint64_t rows, Use&& use) const;
  LargeCopy large(const Side& host, const Side& device) const;

  CUresult settle(const Side& side);
  CUresult arrived(const Result<>& reply);
  CUresult arrived(const Result<>& reply, std::uint64_t download);

  Stream& stream_;
  session::Session& session_;
  Payload& payload_;
  Side destination_, source_;
  Shape shape_;
};

}  // namespace avec::client
