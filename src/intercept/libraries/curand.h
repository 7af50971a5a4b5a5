// What cuRAND's generators are, noted where a call's status depends on it.
#pragma once

#include "client/library_call.h"
#include "libraries/curand_kinds.h"

namespace avec::libraries {

/// What LibraryObject::state holds of a generator.
enum GeneratorState : std::size_t { kOnHost, kQuasi };

/// Seeds are of pseudo-random generators only.
inline int curand_seeds(const void* generator, std::uint64_t) {
  const client::LibraryObject* found = client::find_library_object(generator, kCurandGenerator);
  if (found == nullptr) return 101;            // CURAND_STATUS_NOT_INITIALIZED
  return found->state[kQuasi] != 0 ? 103 : 0;  // CURAND_STATUS_TYPE_ERROR
}

}  // namespace avec::libraries
