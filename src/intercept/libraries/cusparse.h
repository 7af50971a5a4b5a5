// What cuSPARSE's objects are set to, noted where the program can ask for it without a round trip.
#pragma once

#include "client/library_call.h"
#include "libraries/cusparse_kinds.h"

namespace avec::libraries {

/// Places in LibraryObject::state of a cusparseMatDescr_t, and where they begin after creation (all 0).
enum MatDescriptorState : std::size_t { kMatType, kMatFill, kMatDiagonal, kMatBase };

inline int cusparse_set_pointer_mode(const void* handle, int mode) {
  client::LibraryObject* found = client::find_library_object(handle, kCusparseCusparse);
  if (found == nullptr) return 1;        // CUSPARSE_STATUS_NOT_INITIALIZED
  if (mode != 0 && mode != 1) return 3;  // CUSPARSE_STATUS_INVALID_VALUE
  found->device_pointers = mode == 1;
  return 0;
}

inline int cusparse_note(const void* descriptor, MatDescriptorState which, int value, int last) {
  client::LibraryObject* found = client::find_library_object(descriptor, kCusparseMatdescr);
  if (found == nullptr || value < 0 || value > last) return 3;  // CUSPARSE_STATUS_INVALID_VALUE
  found->state[which] = static_cast<std::uint64_t>(value);
  return 0;
}
inline int cusparse_set_type(const void* descriptor, int type) {
  return cusparse_note(descriptor, kMatType, type, 3);
}
inline int cusparse_set_fill(const void* descriptor, int fill) {
  return cusparse_note(descriptor, kMatFill, fill, 1);
}
inline int cusparse_set_diagonal(const void* descriptor, int diagonal) {
  return cusparse_note(descriptor, kMatDiagonal, diagonal, 1);
}
inline int cusparse_set_base(const void* descriptor, int base) {
  return cusparse_note(descriptor, kMatBase, base, 1);
}

}  // namespace avec::libraries
