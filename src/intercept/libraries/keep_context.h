// For libraries that are no use of CUDA (NVRTC, nvJitLink): asking the executor leaves the thread's current
// context as it is.
#pragma once

#include "client/context.h"

namespace avec::libraries {

class KeepContext {
 public:
  KeepContext() : before_(client::current_context) {}
  ~KeepContext() { client::current_context = before_; }
  KeepContext(const KeepContext&) = delete;
  KeepContext& operator=(const KeepContext&) = delete;

 private:
  client::Context* before_;
};

}  // namespace avec::libraries
