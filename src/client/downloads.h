// Copies into pinned memory that go on after their call. The device may have finished one, and
// whoever synchronises behind it be told so, before its last bytes are here: what a
// synchronisation covers it also waits for here.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace avec::client {

class Client;
struct Context;
struct Stream;

struct Download {
  std::uint64_t pending;  ///< session::Pending
  const std::byte* begin;
  const std::byte* end;
};

/// The stream has begun one.
void note_download(Stream& stream, const Download& download);
/// Work added to the stream from now on comes after these (an event that it waits for).
void inherit_downloads(Stream& stream, const std::vector<Download>& downloads);
/// What work that is added to the stream now comes after.
std::vector<Download> downloads_before(Stream& stream);
/// Those of all streams of the context.
std::vector<Download> downloads_of(Context& context);
/// Waits until their bytes are here. The device has finished them: only the link is waited for.
void wait_for_downloads(Client& client, const std::vector<Download>& downloads);

}  // namespace avec::client
