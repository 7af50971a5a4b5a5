// What the dynamic loader has loaded, and a word from it before the constructors of what it
// loads next.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace avec::preload {

/// A program or library as the loader mapped it.
struct Object {
  struct Segment {
    std::uint64_t begin;
    std::uint64_t end;
  };
  bool program = false;
  std::string path;
  std::uint64_t bias = 0;     ///< what the loader added to its addresses
  std::vector<Segment> code;  ///< executable segments, without the bias
};

/// Calls `found` for every object loaded now, and later for each that dlopen() loads, before its
/// relocations and constructors. Once per process.
void watch_loader(void (*found)(const Object&));

}  // namespace avec::preload
