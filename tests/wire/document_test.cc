// docs/wire.md shows bytes: here they are built.
#include <array>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "calls.h"
#include "support/catch.h"
#include "transport/tcp/stripes.h"
#include "wire/handshake.h"

using namespace avec;
using namespace avec::wire;

namespace {

/// The bytes of each ```hex block; a # starts a remark.
std::vector<Bytes> blocks_of(const std::string& path) {
  std::ifstream file(path);
  REQUIRE(file);
  std::vector<Bytes> blocks;
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    if (line == "```hex") {
      inside = true;
      blocks.emplace_back();
    } else if (line == "```") {
      inside = false;
    } else if (inside) {
      std::istringstream words(line.substr(0, line.find('#')));
      for (std::string word; words >> word;) blocks.back().push_back(static_cast<std::byte>(std::stoi(word, nullptr, 16)));
    }
  }
  return blocks;
}

template <class... Parts>
Bytes joined(const Parts&... parts) {
  Bytes all((sizeof parts + ...));
  std::size_t at = 0;
  const auto add = [&](const auto& part) {
    std::memcpy(all.data() + at, &part, sizeof part);
    at += sizeof part;
  };
  (add(parts), ...);
  return all;
}

template <class Body>
FrameHeader header_of(FrameFlag flags, std::uint64_t sequence, std::uint64_t ack, std::uint64_t payload_bytes) {
  return {static_cast<std::uint16_t>(CallTraits<Body>::opcode), static_cast<std::uint16_t>(flags), 0, sizeof(Body), 0,
          sequence, ack, 0, payload_bytes};
}

}  // namespace

TEST_CASE("the bytes in docs/wire.md are those that go over the wire") {
  const auto blocks = blocks_of(AVEC_WIRE_DOCUMENT);
  REQUIRE(blocks.size() == 10);
  CHECK(blocks[0] == joined(control_preamble()));

  const auto launch = header_of<LaunchKernel>(FrameFlag{}, 9, 4, 8);
  CHECK(blocks[1] == joined(launch, LaunchKernel(5, 2, 0, 1, 1, 1, 64, 1, 1, 3, 0, 0), std::uint64_t{0x600000200000}));
  CHECK(check_header(launch, Sender::kClient));

  const auto wait = header_of<StreamSynchronize>(FrameFlag::WantsReply, 10, 4, 0);
  CHECK(blocks[2] == joined(wait, StreamSynchronize(3)));
  CHECK(check_header(wait, Sender::kClient));

  const FrameHeader reply(0x32, static_cast<std::uint16_t>(FrameFlag::Reply), 700, 0, 0, 5, 10, 10, 0);
  CHECK(blocks[3] == joined(reply));
  CHECK(check_header(reply, Sender::kExecutor));

  TicketId ticket;
  for (std::size_t i = 0; i < ticket.size(); ++i) ticket[i] = static_cast<std::byte>(0xa0 + i);
  const auto preamble_of = [](const Opening& opening) { return Bytes(opening.begin(), opening.begin() + kPreambleBytes); };
  CHECK(blocks[4] == preamble_of(*data_opening(ticket, {}, 0, Upgrades::kNone, Stripes::kMayFollow)));
  CHECK(blocks[5] == preamble_of(*stripe_opening(ticket, {})));
  using tcp::StripeReply, tcp::StripeRequest;
  const RemoteKey key{{7, 0xb7b6b5b4b3b2b1b0, 0xc7c6c5c4c3c2c1c0, 0xd7d6d5d4d3d2d1d0}};
  CHECK(blocks[6] == joined(StripeRequest{StripeRequest::kRead, 0, key, tcp::kStripePartBytes, tcp::kStripePartBytes}));
  CHECK(blocks[7] == joined(StripeReply{StripeReply::kDone, 0, tcp::kStripePartBytes}));

  // cublasSaxpy_v2 is 280 of cuBLAS, which is 1: schemas/libraries/cublas.api.
  const auto axpy = header_of<LibraryCall>(FrameFlag{}, 11, 5, 64);
  const std::array<std::uint64_t, 8> words{0x21, 1024, 1, 0x40000000, 0x600000200000, 1, 0x600000201000, 1};
  CHECK(blocks[8] == joined(axpy, LibraryCall(1, 280, 0, 2, 3), words));
  CHECK(check_header(axpy, Sender::kClient));
  const auto failed = header_of<LibraryFailed>(FrameFlag{}, 6, 11, 0);
  CHECK(blocks[9] == joined(failed, LibraryFailed(1, 280, 13)));
  CHECK(check_header(failed, Sender::kExecutor));
}
