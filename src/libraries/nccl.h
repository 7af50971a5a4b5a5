// Sizes that NCCL functions read and write in host memory: the same on both sides.
#pragma once

#include <cstddef>
#include <cstdint>

namespace avec::libraries {

/// ncclConfig_t as of NCCL 2.28, which is what travels: older programs' configurations are a beginning of it.
struct NcclConfig {
  std::uint64_t size;
  std::uint32_t magic;
  std::uint32_t version;
  int blocking;
  int cga_cluster_size;
  int min_ctas;
  int max_ctas;
  const char* net_name;
  int split_share;
  int traffic_class;
  const char* comm_name;
  int collnet_enable;
  int cta_policy;
  int shrink_share;
  int nvls_ctas;
  int channels_per_net_peer;
  int nvlink_centric_sched;
};
static_assert(sizeof(NcclConfig) == 80 && offsetof(NcclConfig, comm_name) == 48);

constexpr std::uint64_t nccl_config_bytes() { return sizeof(NcclConfig); }

/// Bytes of `count` ncclUniqueId.
constexpr std::uint64_t nccl_id_bytes(int count) {
  return count < 0 ? 0 : static_cast<std::uint64_t>(count) * 128;
}

/// One send or receive of a group.
struct NcclTransfer {
  std::uint64_t address;
  std::uint64_t count;
  std::int32_t type;  ///< ncclDataType_t
  std::int32_t peer;
  std::int32_t receives;  ///< 1: ncclRecv
  std::int32_t reserved;
};
static_assert(sizeof(NcclTransfer) == 32);

constexpr std::uint64_t nccl_transfer_bytes(int count) {
  return count < 0 ? 0 : static_cast<std::uint64_t>(count) * sizeof(NcclTransfer);
}

/// Bytes of an element of a ncclDataType_t; 0 for one that is not known.
constexpr std::uint64_t nccl_size_of_type(int type) {
  constexpr std::uint8_t kBytes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
  return type >= 0 && type < static_cast<int>(sizeof kBytes) ? kBytes[type] : 0;
}

}  // namespace avec::libraries
