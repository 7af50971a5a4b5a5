// A thread that pthread_cancel() ends must not end inside of us: with locks held, or through noexcept.
#pragma once

#include <pthread.h>

namespace avec {

/// While one lives, the thread is not cancelled at system calls.
class NoCancel {
 public:
  NoCancel() noexcept { ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
  ~NoCancel() { ::pthread_setcancelstate(before_, nullptr); }
  NoCancel(const NoCancel&) = delete;
  NoCancel& operator=(const NoCancel&) = delete;

 private:
  int before_ = PTHREAD_CANCEL_ENABLE;
};

}  // namespace avec
