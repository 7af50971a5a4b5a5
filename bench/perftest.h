// The yardstick of rdma: perftest's programs on the same devices, as child processes.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "harness.h"

namespace avec::bench {

/// Messages of one run of perftest's bandwidth programs: what one sample of verbs_bandwidth moved.
inline constexpr std::uint64_t kVerbsMessages = 20;

/// Says why perftest cannot be the yardstick here ("" when it can): programs missing, no device.
std::string verbs_problem(const std::string& address);

/// Is the adapter of this address software (soft-RoCE)? Its times say nothing about adapters.
bool soft_rdma(const std::string& address);

/// As Contestant::sample, one run of ib_send_lat each: its typical round trip in us (perftest
/// prints half of it), spinning or waiting for events as the options say.
std::function<void(std::uint64_t, std::vector<double>&)> verbs_latency(const Options& options,
                                                                       std::uint64_t bytes);

/// As Contestant::sample, one run each of ib_write_bw (from the peer: ib_read_bw): us for kVerbsMessages.
std::function<void(std::uint64_t, std::vector<double>&)> verbs_bandwidth(const Options& options,
                                                                         bool from_peer, bool both,
                                                                         std::uint64_t bytes);

}  // namespace avec::bench
