// How every kind of descriptor is made and ended.
#pragma once

#include <new>

#include "devices/cpu/libraries/cudnn/objects.h"

namespace avec::cpu_libraries::cudnn {

template <class Object>
Status create(Object** made) {
  if (made == nullptr) return bad_param("the pointer to the descriptor is NULL");
  *made = new (std::nothrow) Object;
  return *made != nullptr ? Status::kSuccess : refuse(Status::kAllocFailed, "no memory for a descriptor");
}

/// Null is no error, as natively.
template <class Object>
Status destroy(Object* object) {
  delete object;
  return Status::kSuccess;
}

/// Whether an enum has a value from 0 to `last`.
template <class Enum>
bool known(Enum value, Enum last) {
  return static_cast<int>(value) >= 0 && static_cast<int>(value) <= static_cast<int>(last);
}

}  // namespace avec::cpu_libraries::cudnn
