// What a worker gives up before it hears of its client: privileges, core dumps, and system calls that neither it nor a
// CUDA driver needs. A client that takes a worker over is left with little more than its own session.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace avec::worker {

struct Confinement {
  /// Whose rights the process takes when it is root's. Empty: it stays who it is.
  std::string user;
  /// No new privileges, limits, and the filter of system calls; false: none of them.
  bool on = true;
};

/// Confines this process for good; its threads too, so there should be none but the caller. Empty, or a sentence that
/// says why it is not as safe as was asked.
std::string confine(const Confinement& wish);

/// System calls that a confined worker is refused (EPERM), whatever their arguments. For tests and documents.
struct Refused {
  const char* name;
  std::uint32_t number;
};
std::span<const Refused> refused_calls();

}  // namespace avec::worker
