// What fake_library.cc and the test that loads it share.
#pragma once

#include <atomic>

namespace avec::test {

struct FakeState {
  std::atomic<int> calls{0};        ///< of functions of the library
  std::atomic<int> waiting{0};      ///< calls that came to the gate
  std::atomic<bool> gate{false};    ///< true: calls that can wait do
  std::atomic<bool> gate_ends{false};  ///< calls that end a generator can wait, too
  std::atomic<bool> no_memory{false};  ///< calls that can wait find none
  std::atomic<int> status{0};       ///< what every function returns
  std::atomic<double> seen{0};      ///< sum of the scalar's parts
};

}  // namespace avec::test
