// The contract's cases of upgrades, over the smallest transport that begins as another's
// connection: both ends tell each other whether they can, and go on with the stream as it is.
#include <array>
#include <atomic>

#include "support/catch.h"
#include "transport/sim/factory.h"

namespace avec::contract {

class DressedTransport final : public Transport {
 public:
  std::string_view scheme() const noexcept override { return "dressed"; }
  TransportError viable(std::string& detail) const override {
    detail.clear();
    return {};
  }
  ConnectResult connect(std::string_view url, Deadline deadline) noexcept override {
    return sim::default_network().connect(url, deadline);
  }
  ListenResult listen(std::string_view url) noexcept override { return sim::default_network().listen(url); }
  std::string begins_at(std::string_view) const override {
    static std::atomic<int> count{0};
    return "sim://dressed-" + std::to_string(++count);
  }
  ConnectResult upgrade(std::unique_ptr<Connection>& stream, End end, Deadline deadline) noexcept override {
    const bool can = !cannot[static_cast<int>(end)];
    const std::array<std::byte, 2> mine{std::byte{0xd7}, std::byte{can}};
    const ConstBytes out(mine);
    if (const auto sent = stream->send({&out, 1}); sent.error) return {nullptr, sent.error, "the peer left"};
    std::array<std::byte, 2> theirs{};
    for (MutableBytes rest(theirs); !rest.empty();) {
      const auto got = stream->receive({&rest, 1});
      if (got.error) return {nullptr, got.error, "the peer left"};
      rest = rest.subspan(got.bytes);
      if (got.bytes != 0) continue;
      if (const auto failed = stream->wait(false, deadline)) return {nullptr, failed, "no answer"};
    }
    if (theirs[0] != mine[0]) return {nullptr, {TransportErrc::kInternal, EBADMSG}, "nonsense"};
    if (!can || theirs[1] != std::byte{1}) return {nullptr, {TransportErrc::kNotViable, 0}, "one end cannot"};
    return {std::move(stream), {}, {}};
  }
  std::atomic<bool> cannot[2] = {false, false};
};

struct DressedBackend {
  Transport& transport() { return *find_transport("sim://"); }
  Transport& upgrading() { return dressed; }
  void cannot(End end) { dressed.cannot[static_cast<int>(end)] = true; }
  std::string listen_url() {
    static int count = 0;
    return "sim://under-dressed-" + std::to_string(count++);
  }
  std::string absent_url() { return "sim://nobody"; }
  std::vector<std::string> bad_urls() { return {"sim://"}; }
  std::string peer_prefix() { return "sim://client-"; }
  void reset(Connection&) { sim::default_network().reset_all(); }

  DressedTransport dressed;
};

}  // namespace avec::contract

#define AVEC_TRANSPORT_BACKEND DressedBackend
#include "transport/contract.h"
