// RDMA over InfiniBand or RoCEv2: "rdma://HOST:PORT". Sessions begin as TCP connections to HOST:PORT
// and change over once they are authenticated; connect() and listen() do the same at once, without
// authentication, for tests and measurements. See docs/rdma.md.
#pragma once

#include <memory>
#include <string>

#include "avec/transport.h"

namespace avec::rdma {

struct Options {
  /// Adapter and port, "mlx5_0" or "mlx5_0:1"; empty: the one that leads to the peer. Not given:
  /// the setting rdma-device.
  const char* device = nullptr;
  /// Where libibverbs and librdmacm are; tests name their own. No path of librdmacm: not used.
  std::string verbs_library = "libibverbs.so.1";
  std::string cm_library = "librdmacm.so.1";
};

std::unique_ptr<Transport> make_transport();
std::unique_ptr<Transport> make_transport(const Options& options, std::string scheme = "rdma");

/// The stream beside an RDMA connection, whose end ends it; null when `connection` is of another
/// transport. For tests.
const Connection* stream_of(const Connection& connection) noexcept;

}  // namespace avec::rdma
