// Launches of graphs that have host functions and copies from or to memory of this process, both. What a
// copy before a function wrote must be here when it runs, and what it writes must be in the places of the
// copies behind it. So the places are filled when the stream comes to the launch, brought here before each
// function, filled with what it changed behind it, and brought here at the end. All of it travels in a stream
// of its own, and passes through memory of its own: nothing that is behind the launch is waited for.
#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "client/callbacks.h"
#include "client/client.h"
#include "client/context.h"
#include "client/graph.h"
#include "client/graph_memory.h"
#include "client/status.h"
#include "client/stream.h"
#include "session/session.h"
#include "wire/stream_flags.h"

namespace avec::client {

/// One launch, while it runs. Guarded by exchanges_mutex.
struct HostExchange {
  struct Piece {
    HostCopyUse use;
    std::vector<std::byte> bytes;  ///< of the place, as last seen here
  };
  Client* client = nullptr;
  std::uint64_t stream = 0;
  std::vector<Piece> pieces;
  std::vector<std::uint64_t> functions;  ///< names
};

namespace {

std::mutex& exchanges_mutex = *new std::mutex;
auto& running = *new std::vector<std::shared_ptr<HostExchange>>;

/// The stream of a context that such bytes travel in. 0: there is none.
std::uint64_t exchange_stream(Context& context) {
  static auto& names = *new std::map<std::pair<Client*, std::uint64_t>, std::uint64_t>;  // by client and context
  std::scoped_lock lock(exchanges_mutex);
  std::uint64_t& name = names[{context.client, context.name.load()}];
  if (name != 0) return name;
  const std::uint64_t fresh = context.client->mint();
  const auto posted = context.client->session().post(
      wire::StreamCreate(fresh, context.name.load(), CU_STREAM_NON_BLOCKING | wire::kStreamBeside, 0));
  return posted ? name = fresh : 0;
}

template <class Move>
void each_row(const HostRows& rows, std::byte* tight, Move&& move) {
  for (std::uint64_t z = 0; z < rows.depth; ++z) {
    for (std::uint64_t y = 0; y < rows.height; ++y, tight += rows.width)
      move(rows.address + (z * rows.rows + y) * rows.pitch, tight, rows.width);
  }
}

std::vector<std::byte> gather(const HostRows& rows) {
  std::vector<std::byte> bytes(rows.bytes());
  each_row(rows, bytes.data(), [](const std::byte* row, std::byte* to, std::size_t width) { std::memcpy(to, row, width); });
  return bytes;
}

bool read_place(HostExchange& exchange, std::uint64_t address, MutableBytes to) {
  session::Session& session = exchange.client->session();
  const auto pending =
      session.post_deferred(wire::CopyFromDevice(address, to.size(), to.size(), 1, exchange.stream), to);
  return pending && session.wait_deferred(*pending);
}

void fetch_all(HostExchange& exchange) {
  for (HostExchange::Piece& piece : exchange.pieces) {
    if (piece.use.from_device == 0) continue;
    if (!read_place(exchange, piece.use.place->address, piece.bytes)) return;
    each_row(piece.use.rows, piece.bytes.data(),
             [](std::byte* row, const std::byte* from, std::size_t width) { std::memcpy(row, from, width); });
  }
}

/// Fills the places whose memory has changed (all: every one), and waits until they are filled.
void send_changed(HostExchange& exchange, bool all) {
  std::uint64_t last = 0;
  for (HostExchange::Piece& piece : exchange.pieces) {
    std::vector<std::byte> bytes = gather(piece.use.rows);
    if (!all && bytes == piece.bytes) continue;
    piece.bytes = std::move(bytes);
    last = piece.use.place->address;
    const std::uint64_t size = piece.bytes.size();
    const auto posted =
        exchange.client->session().post(wire::CopyToDevice(last, size, size, 1, exchange.stream), piece.bytes);
    if (!posted) return;
  }
  std::byte behind;  // a read comes after all of them
  if (last != 0) (void)read_place(exchange, last, {&behind, 1});
}

template <class Do>
void each_of(Client& client, std::uint64_t function, Do&& act) {
  std::scoped_lock lock(exchanges_mutex);
  for (const auto& exchange : running) {
    const bool asks = exchange->client == &client &&
                      std::ranges::find(exchange->functions, function) != exchange->functions.end();
    if (asks) act(*exchange);
  }
}

}  // namespace

void exchange_before_function(Client& client, std::uint64_t function) { each_of(client, function, fetch_all); }

void exchange_after_function(Client& client, std::uint64_t function) {
  each_of(client, function, [](HostExchange& exchange) { send_changed(exchange, false); });
}

CUresult begin_exchange(GraphExec& exec, Stream& stream, std::shared_ptr<HostExchange>& made) {
  auto exchange = std::make_shared<HostExchange>();
  exchange->client = exec.context->client;
  exchange->stream = exchange_stream(*exec.context);
  if (exchange->stream == 0) return CUDA_ERROR_UNKNOWN;
  for (const HostCopyUse& use : exec.belongings.copies) exchange->pieces.push_back({use, std::vector<std::byte>(use.rows.bytes())});
  for (const auto& function : exec.belongings.functions) exchange->functions.push_back(function->name);
  made = exchange;
  return after_work(handle_of(&stream), [exchange](CUresult status) {
    if (status != CUDA_SUCCESS) return;
    std::scoped_lock lock(exchanges_mutex);
    send_changed(*exchange, true);
    running.push_back(exchange);
  });
}

CUresult end_exchange(const std::shared_ptr<HostExchange>& exchange, Stream& stream) {
  return after_work(handle_of(&stream), [exchange](CUresult status) {
    std::scoped_lock lock(exchanges_mutex);
    std::erase(running, exchange);
    if (status == CUDA_SUCCESS) fetch_all(*exchange);
  });
}

}  // namespace avec::client
