// Payload by one-sided access (include/avec/one_sided.h): the peer reads from, or writes into,
// memory of this end. What large copies cost on transports that can.
#pragma once

#include <functional>
#include <vector>

#include "peer.h"

namespace avec::bench {

/// Does the channel's connection move payload so, and not by mapping the memory?
bool moves_one_sided(Channel& channel);

/// As Contestant::sample: the peer reads `messages` times `message` bytes of this end's memory
/// (kRead), or writes them (kWrite); us. `right` is cleared when bytes are wrong. The memory is
/// made here and stays until the process ends.
std::function<void(std::uint64_t, std::vector<double>&)> one_sided_movements(Channel& channel, Command::Op op,
                                                                             std::uint64_t message,
                                                                             std::uint64_t messages,
                                                                             bool& right);

/// The peer's part of kRead and kWrite; false when the channel is over.
bool serve_one_sided(Channel& channel, const Command& command);

}  // namespace avec::bench
