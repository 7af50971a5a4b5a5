// The order in which the blocks of a function are laid out.
#pragma once

#include <cstdint>
#include <vector>

namespace avec::cpu::ptx {

/// Blocks reachable from block 0 in weak topological order (Bourdoncle, 1993): a block comes
/// after all that lead to it, loops apart, and what leaves a loop comes after the whole loop.
/// Lanes that always run the lowest block first then meet again where their paths join.
std::vector<std::uint32_t> weak_topological_order(const std::vector<std::vector<std::uint32_t>>& successors);

}  // namespace avec::cpu::ptx
