#include "transport/rdma/device.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <vector>

namespace avec::rdma {
namespace {

/// librdmacm asks the network about an address for at most this long.
constexpr auto kResolveTime = 1000ms;

class DeviceList {
 public:
  explicit DeviceList(const Verbs& verbs) : verbs_(verbs), list_(verbs.device_list(count_)) {}
  ~DeviceList() {
    if (list_ != nullptr) verbs_.ibv_free_device_list(list_);
  }
  DeviceList(const DeviceList&) = delete;
  DeviceList& operator=(const DeviceList&) = delete;
  ibv_device* const* begin() const { return list_; }
  ibv_device* const* end() const { return list_ + (list_ != nullptr ? count_ : 0); }

 private:
  const Verbs& verbs_;
  int count_ = 0;
  ibv_device** const list_;
};

/// A GID that stands for an IP address: mapped for IPv4, the address itself for IPv6.
std::optional<ibv_gid> gid_of(const sockaddr_storage& address) {
  ibv_gid gid{};
  if (address.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(address);
    gid.raw[10] = gid.raw[11] = 0xff;
    std::memcpy(gid.raw + 12, &in.sin_addr, 4);
    return gid;
  }
  if (address.ss_family == AF_INET6) {
    const auto& in = reinterpret_cast<const sockaddr_in6&>(address);
    std::memcpy(gid.raw, &in.sin6_addr, 16);
    return gid;
  }
  return std::nullopt;
}

bool same(const ibv_gid& a, const ibv_gid& b) { return std::memcmp(a.raw, b.raw, sizeof a.raw) == 0; }
bool is_mapped_ipv4(const ibv_gid& gid) {
  static constexpr std::array<std::uint8_t, 12> kPrefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::memcmp(gid.raw, kPrefix.data(), kPrefix.size()) == 0;
}
bool is_zero(const ibv_gid& gid) { return same(gid, ibv_gid{}); }

/// How well a port suits: the wished address, any IPv4 address of RoCEv2, any address.
enum class Match { kNone, kAny, kIpv4, kAddress };

/// Chooses the port's GID. InfiniBand has its first; RoCE the RoCEv2 entry of this end's address,
/// since only that is routed as the stream is.
Match choose_gid(Port& port, const std::optional<ibv_gid>& wished) {
  const Verbs& verbs = *port.verbs;
  if (!port.ethernet) {
    port.gid_index = 0;
    return verbs.ibv_query_gid(port.context.get(), port.number, 0, &port.gid) == 0 ? Match::kAny
                                                                                   : Match::kNone;
  }
  Match best = Match::kNone;
  for (int i = 0; i < std::min(port.attributes.gid_tbl_len, 256); ++i) {
    ibv_gid_entry entry{};
    if (verbs._ibv_query_gid_ex(port.context.get(), port.number, static_cast<std::uint32_t>(i), &entry, 0,
                                sizeof entry) != 0)
      continue;
    if (entry.gid_type != IBV_GID_TYPE_ROCE_V2 || is_zero(entry.gid)) continue;
    const Match match = wished && same(entry.gid, *wished) ? Match::kAddress
                        : is_mapped_ipv4(entry.gid)        ? Match::kIpv4
                                                           : Match::kAny;
    if (match <= best) continue;
    best = match;
    port.gid_index = static_cast<std::uint8_t>(i);
    port.gid = entry.gid;
  }
  return best;
}

/// Opens the device and its port, without a GID. False: no such active port.
bool open(ibv_device* device, std::uint8_t number, Port& port, std::string& why) {
  const Verbs& verbs = *port.verbs;
  port.device = verbs.ibv_get_device_name(device);
  port.context = {verbs.ibv_open_device(device), verbs.ibv_close_device};
  if (!port.context) {
    why = port.device + " cannot be opened: " + std::strerror(errno);
    return false;
  }
  if (const int error = verbs.ibv_query_device(port.context.get(), &port.device_attributes)) {
    why = port.device + " does not say what it can: " + std::strerror(error);
    return false;
  }
  for (unsigned n = number == 0 ? 1 : number; n <= port.device_attributes.phys_port_cnt; ++n) {
    port.number = static_cast<std::uint8_t>(n);
    if (verbs.query_port(port.context.get(), port.number, port.attributes) != 0) break;
    if (port.attributes.state == IBV_PORT_ACTIVE) {
      port.ethernet = port.attributes.link_layer == IBV_LINK_LAYER_ETHERNET;
      return true;
    }
    if (number != 0) break;
  }
  why = number == 0 ? port.device + " has no active port"
                    : "port " + std::to_string(number) + " of " + port.device + " is not active";
  return false;
}

struct Resolved {
  std::string device;
  std::uint8_t port = 0;
};

/// Waits for the answer to a request to librdmacm.
bool answered(const Verbs& verbs, rdma_event_channel* channel, rdma_cm_event_type wanted, Deadline deadline) {
  while (true) {
    rdma_cm_event* event = nullptr;
    if (verbs.rdma_get_cm_event(channel, &event) == 0) {
      const bool good = event->event == wanted;
      verbs.rdma_ack_cm_event(event);
      return good;
    }
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd entry{channel->fd, POLLIN, 0};
    if ((errno != EAGAIN && errno != EINTR) || left <= 0ms ||
        ::poll(&entry, 1, static_cast<int>(left.count())) == 0)
      return false;
  }
}

/// The adapter on the way from this end's address to the peer's, as the kernel routes it.
std::optional<Resolved> resolve(const Verbs& verbs, const StreamAddresses& addresses, Deadline deadline) {
  if (!verbs.has_cm() || addresses.peer.ss_family == 0) return std::nullopt;
  deadline = std::min(deadline, std::chrono::steady_clock::now() + kResolveTime);
  const std::unique_ptr<rdma_event_channel, void (*)(rdma_event_channel*)> channel(
      verbs.rdma_create_event_channel(), verbs.rdma_destroy_event_channel);
  if (!channel) return std::nullopt;
  ::fcntl(channel->fd, F_SETFL, ::fcntl(channel->fd, F_GETFL) | O_NONBLOCK);
  rdma_cm_id* made = nullptr;
  if (verbs.rdma_create_id(channel.get(), &made, nullptr, RDMA_PS_TCP) != 0) return std::nullopt;
  const std::unique_ptr<rdma_cm_id, int (*)(rdma_cm_id*)> id(made, verbs.rdma_destroy_id);
  sockaddr_storage own = addresses.own, peer = addresses.peer;
  // The stream has the port already.
  (own.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(own).sin6_port
                             : reinterpret_cast<sockaddr_in&>(own).sin_port) = 0;
  const int time_ms = static_cast<int>(kResolveTime.count());
  if (verbs.rdma_resolve_addr(id.get(), reinterpret_cast<sockaddr*>(&own), reinterpret_cast<sockaddr*>(&peer),
                              time_ms) != 0 ||
      !answered(verbs, channel.get(), RDMA_CM_EVENT_ADDR_RESOLVED, deadline) || id->verbs == nullptr) {
    return std::nullopt;
  }
  if (verbs.rdma_resolve_route(id.get(), time_ms) != 0 ||
      !answered(verbs, channel.get(), RDMA_CM_EVENT_ROUTE_RESOLVED, deadline)) {
    return std::nullopt;
  }
  return Resolved{verbs.ibv_get_device_name(id->verbs->device), id->port_num};
}

bool is_loopback(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    return (ntohl(reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr) >> 24) == 127;
  }
  return address.ss_family == AF_INET6 &&
         IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6&>(address).sin6_addr);
}

Failure not_viable(std::string detail) { return {{TransportErrc::kNotViable, 0}, std::move(detail)}; }

/// A mapped IPv4 address as IPv4: the stream's socket may be of IPv6.
sockaddr_storage unmapped(const sockaddr_storage& address) {
  if (address.ss_family != AF_INET6) return address;
  const auto& in6 = reinterpret_cast<const sockaddr_in6&>(address);
  if (!IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr)) return address;
  sockaddr_storage result{};
  auto& in = reinterpret_cast<sockaddr_in&>(result);
  in.sin_family = AF_INET;
  in.sin_port = in6.sin6_port;
  std::memcpy(&in.sin_addr, in6.sin6_addr.s6_addr + 12, 4);
  return result;
}

}  // namespace

std::expected<DeviceWish, std::string> DeviceWish::parse(std::string_view text) {
  DeviceWish wish;
  const auto colon = text.find(':');
  wish.name = text.substr(0, colon);
  if (colon != std::string_view::npos) {
    const auto digits = text.substr(colon + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), wish.port);
    if (error != std::errc{} || end != digits.data() + digits.size() || wish.port == 0 || wish.name.empty()) {
      return std::unexpected("the RDMA device '" + std::string(text) +
                             "' is not of the form mlx5_0 or mlx5_0:1");
    }
  }
  return wish;
}

StreamAddresses addresses_of(int descriptor) noexcept {
  StreamAddresses addresses;
  socklen_t bytes = sizeof addresses.own;
  const bool own = ::getsockname(descriptor, reinterpret_cast<sockaddr*>(&addresses.own), &bytes) == 0;
  bytes = sizeof addresses.peer;
  const bool peer = ::getpeername(descriptor, reinterpret_cast<sockaddr*>(&addresses.peer), &bytes) == 0;
  addresses.own = unmapped(addresses.own);
  addresses.peer = unmapped(addresses.peer);
  const auto is_ip = [](const sockaddr_storage& a) {
    return a.ss_family == AF_INET || a.ss_family == AF_INET6;
  };
  if (!own || !peer || !is_ip(addresses.own) || !is_ip(addresses.peer)) return {};
  return addresses;
}

std::expected<Port, Failure> open_port(const std::shared_ptr<const Verbs>& verbs, const DeviceWish& wish,
                                       const StreamAddresses& addresses, Deadline deadline) {
  const DeviceList devices(*verbs);
  if (devices.begin() == devices.end())
    return std::unexpected(not_viable("this machine has no RDMA adapter"));
  DeviceWish wanted = wish;
  // The adapter of a loopback address is none: any will do, it sends to itself.
  if (wanted.name.empty() && !is_loopback(addresses.peer)) {
    if (auto found = resolve(*verbs, addresses, deadline)) wanted = {std::move(found->device), found->port};
  }
  const auto own = gid_of(addresses.own);
  std::optional<Port> best;
  Match best_match = Match::kNone;
  std::string why;
  for (ibv_device* device : devices) {
    if (!wanted.name.empty() && wanted.name != verbs->ibv_get_device_name(device)) continue;
    Port port;
    port.verbs = verbs;
    if (!open(device, wanted.port, port, why)) continue;
    const Match match = choose_gid(port, own);
    if (match == Match::kNone) why = port.device + " has no RoCEv2 address (GID)";
    if (match <= best_match) continue;
    best_match = match;
    best = std::move(port);
    if (match == Match::kAddress) break;
  }
  if (best) return std::move(*best);
  if (why.empty()) why = "there is no RDMA adapter " + wanted.name + " (ibv_devices lists them)";
  return std::unexpected(not_viable(std::move(why)));
}

std::expected<void, Failure> probe_devices(const Verbs& verbs, const DeviceWish& wish) {
  // Not owned: the ports opened here end with this function.
  const std::shared_ptr<const Verbs> borrowed(&verbs, [](const Verbs*) {});
  // Without addresses there is nothing to resolve, and nothing to wait for.
  auto port = open_port(borrowed, wish, {}, Deadline::min());
  if (!port) return std::unexpected(std::move(port.error()));
  return {};
}

}  // namespace avec::rdma
