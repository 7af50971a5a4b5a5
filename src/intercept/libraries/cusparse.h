// What cuSPARSE's objects are set to, noted where the program can ask for it without a round trip.
#pragma once

#include "client/library_call.h"
#include "libraries/cusparse_kinds.h"

namespace avec::libraries {

/// Places in LibraryObject::state of a cusparseMatDescr_t, and where they begin after creation (all 0).
enum MatDescriptorState : std::size_t { kMatType, kMatFill, kMatDiagonal, kMatBase };

inline int cusparse_check_pointer_mode(const void* handle, int mode) {
  if (client::find_library_object(handle, kCusparseCusparse) == nullptr) return 1;  // CUSPARSE_STATUS_NOT_INITIALIZED
  return mode == 0 || mode == 1 ? 0 : 3;                                            // CUSPARSE_STATUS_INVALID_VALUE
}
inline void cusparse_set_pointer_mode(const void* handle, int mode) {
  if (client::LibraryObject* found = client::find_library_object(handle, kCusparseCusparse)) found->device_pointers = mode == 1;
}

inline int cusparse_check(const void* descriptor, int value, int last) {
  const client::LibraryObject* found = client::find_library_object(descriptor, kCusparseMatdescr);
  return found == nullptr || value < 0 || value > last ? 3 : 0;  // CUSPARSE_STATUS_INVALID_VALUE
}
inline int cusparse_check_type(const void* descriptor, int type) { return cusparse_check(descriptor, type, 3); }
inline int cusparse_check_fill(const void* descriptor, int fill) { return cusparse_check(descriptor, fill, 1); }
inline int cusparse_check_diagonal(const void* descriptor, int diagonal) { return cusparse_check(descriptor, diagonal, 1); }
inline int cusparse_check_base(const void* descriptor, int base) { return cusparse_check(descriptor, base, 1); }

inline void cusparse_note(const void* descriptor, MatDescriptorState which, int value) {
  if (client::LibraryObject* found = client::find_library_object(descriptor, kCusparseMatdescr))
    found->state[which] = static_cast<std::uint64_t>(value);
}
inline void cusparse_set_type(const void* descriptor, int type) { cusparse_note(descriptor, kMatType, type); }
inline void cusparse_set_fill(const void* descriptor, int fill) { cusparse_note(descriptor, kMatFill, fill); }
inline void cusparse_set_diagonal(const void* descriptor, int diagonal) { cusparse_note(descriptor, kMatDiagonal, diagonal); }
inline void cusparse_set_base(const void* descriptor, int base) { cusparse_note(descriptor, kMatBase, base); }

}  // namespace avec::libraries
