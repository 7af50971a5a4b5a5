// What else than mbarrier instructions touches a barrier in shared memory: copies that tell it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace avec::cpu::ptx {

/// `bytes` of a copy are there (.mbarrier::complete_tx::bytes) for the barrier at `barrier`.
void complete_bytes(std::byte* barrier, std::uint64_t bytes);

}  // namespace avec::cpu::ptx
