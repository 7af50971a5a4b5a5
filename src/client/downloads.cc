#include "client/downloads.h"

#include <algorithm>

#include "client/client.h"
#include "client/context.h"
#include "client/stream.h"
#include "session/session.h"

namespace avec::client {
namespace {

/// Adds what is still under way; `to` loses what is not.
void add(Client& client, std::vector<Download>& to, const std::vector<Download>& from) {
  const auto done = [&](const Download& download) {
    return client.session().deferred_done(download.pending);
  };
  std::erase_if(to, done);
  for (const Download& download : from) {
    const auto same = [&](const Download& other) { return other.pending == download.pending; };
    if (!done(download) && std::ranges::none_of(to, same)) to.push_back(download);
  }
}

bool blocking(const Stream& stream) { return (stream.flags & CU_STREAM_NON_BLOCKING) == 0; }

}  // namespace

void note_download(Stream& stream, const Download& download) { inherit_downloads(stream, {download}); }

void inherit_downloads(Stream& stream, const std::vector<Download>& downloads) {
  if (downloads.empty()) return;
  Context& context = *stream.context;
  context.any_downloads.store(true, std::memory_order_release);
  std::scoped_lock lock(context.mutex);
  add(*context.client, stream.downloads, downloads);
}

std::vector<Download> downloads_before(Stream& stream) {
  Context& context = *stream.context;
  std::vector<Download> found;
  if (!context.any_downloads.load(std::memory_order_acquire)) return found;
  std::scoped_lock lock(context.mutex);
  add(*context.client, stream.downloads, {});
  found = stream.downloads;
  if (!blocking(stream)) return found;
  // The legacy stream and the blocking ones wait for each other.
  Stream* legacy = context.legacy.load();
  if (legacy == nullptr) return found;
  add(*context.client, found, legacy->downloads);
  if (legacy != &stream) return found;
  for (const Stream* other : context.streams) {
    if (blocking(*other)) add(*context.client, found, other->downloads);
  }
  return found;
}

std::vector<Download> downloads_of(Context& context) {
  std::vector<Download> found;
  if (!context.any_downloads.load(std::memory_order_acquire)) return found;
  std::scoped_lock lock(context.mutex);
  if (Stream* legacy = context.legacy.load()) found = legacy->downloads;
  for (const Stream* stream : context.streams) add(*context.client, found, stream->downloads);
  return found;
}

void wait_for_downloads(Client& client, const std::vector<Download>& downloads) {
  for (const Download& download : downloads) {
    if (client.session().deferred_done(download.pending)) continue;
    // An error ends the session, which every later call reports.
    (void)client.session().wait_for_destination(download.begin, download.end);
  }
}

}  // namespace avec::client
