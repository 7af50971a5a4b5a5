// Payload beside the stream: by one-sided access to memory that the executor reaches, or through
// the session's slots.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "avec/one_sided.h"
#include "base/result.h"
#include "calls.h"  // generated
#include "client/copy_threads.h"
#include "client/slots.h"

namespace avec::session {
class Session;
struct Reference;
}  // namespace avec::session

namespace avec::client {

struct Side;

inline wire::RemoteKeyWords to_wire(const RemoteKey& key) {
  return {key.words[0], key.words[1], key.words[2], key.words[3]};
}
inline RemoteKey from_wire(const wire::RemoteKeyWords& words) {
  return {{words.a(), words.b(), words.c(), words.d()}};
}

/// Rows between host and device memory, in the order of a stream.
struct LargeCopy {
  std::byte* host;
  std::uint64_t host_pitch;
  std::uint64_t device;
  std::uint64_t device_pitch;
  std::uint64_t width, height;
  std::uint64_t stream;  ///< its name
  wire::ArrayRows rows{};  ///< in place of `device` where its array is not 0
};

/// The rows from `row` of these on, from this column.
inline wire::ArrayRows rows_at(const wire::ArrayRows& rows, std::uint64_t row, std::uint64_t column = 0) {
  const std::uint64_t at = rows.first() + row;
  return {rows.array(), rows.x() + column, rows.y(), rows.z() + at / rows.rows(), rows.rows(), at % rows.rows()};
}

/// One per client; any thread.
class Payload {
 public:
  /// `threads` as of CopyThreads.
  Payload(session::Session& session, unsigned threads);

  /// OneSidedTraits; 0 and SIZE_MAX where there is no one-sided access.
  std::size_t slots_up_to() const { return traits_.slots_up_to; }
  std::size_t add_from() const { return traits_.add_from; }

  /// How a call names reference.memory, which lies in `side`'s block; a key that was allowed for
  /// this call is put into the reference, to be revoked. Nothing: it cannot be reached now.
  struct Name {
    RemoteKey key;
    std::uint64_t offset;
  };
  std::optional<Name> name(const Side& side, session::Reference& reference);

  /// Through slots: returns when the copy has been posted and the host memory may change.
  /// Nothing: there are no slots in this session.
  std::optional<Result<>> upload(const LargeCopy& copy);
  /// Through slots: returns when the bytes are there, or with the status of what failed.
  std::optional<Result<>> download(const LargeCopy& copy);

 private:
  session::Session& session_;
  OneSidedTraits traits_;
  Slots slots_;
  CopyThreads threads_;
};

}  // namespace avec::client
