// Which adapter, which of its ports, and which of the port's addresses (GIDs) a connection uses.
#pragma once

#include <sys/socket.h>

#include <expected>
#include <memory>
#include <string>
#include <string_view>

#include "transport/rdma/context.h"

namespace avec::rdma {

/// "mlx5_0:1" or "mlx5_0", as in AVEC_RDMA_DEVICE. Empty name: any.
struct DeviceWish {
  std::string name;
  std::uint8_t port = 0;  ///< 0: any
  static std::expected<DeviceWish, std::string> parse(std::string_view text);
};

/// The addresses of a stream's ends, as the system gave them; family 0: not an IP stream.
struct StreamAddresses {
  sockaddr_storage own{};
  sockaddr_storage peer{};
};
StreamAddresses addresses_of(int descriptor) noexcept;

/// An opened adapter, one active port of it, and the address used there. The context belongs to
/// one connection, so that no connection sees the asynchronous events of another.
struct Port {
  std::shared_ptr<const Verbs> verbs;
  std::unique_ptr<ibv_context, int (*)(ibv_context*)> context{nullptr, nullptr};
  std::string device;
  std::uint8_t number = 0;
  ibv_device_attr device_attributes{};
  ibv_port_attr attributes{};
  bool ethernet = false;  ///< RoCE: addressed by GID; otherwise by LID
  std::uint8_t gid_index = 0;
  ibv_gid gid{};

  /// Whether keys are made with type-2 memory windows. Not on soft-RoCE, which has them: there a
  /// packet that is being copied when its window is invalidated still reaches the memory after that,
  /// while the end of a registration waits for it.
  bool type2_windows() const noexcept {
    constexpr std::uint32_t kSoftRoceVendor = 0xffffff;
    const auto types =
        device_attributes.device_cap_flags & (IBV_DEVICE_MEM_WINDOW_TYPE_2A | IBV_DEVICE_MEM_WINDOW_TYPE_2B);
    return types != 0 && device_attributes.vendor_id != kSoftRoceVendor;
  }
};

/// Opens what the wish names; else what librdmacm finds on the way to the peer's address; else the
/// port whose GID is this end's address; else the first active port. kNotViable: there is none.
std::expected<Port, Failure> open_port(const std::shared_ptr<const Verbs>& verbs, const DeviceWish& wish,
                                       const StreamAddresses& addresses, Deadline deadline);

/// None when open_port() has something to open, whatever the addresses; else why not.
std::expected<void, Failure> probe_devices(const Verbs& verbs, const DeviceWish& wish);

}  // namespace avec::rdma
