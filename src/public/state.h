// What the handles of include/avec share: each keeps its session alive.
#pragma once

#include <cuda.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "avec/executor.h"
#include "client/client.h"
#include "client/context.h"

namespace avec {

/// Throws avec::CudaError with CUDA's name for the result unless it is CUDA_SUCCESS.
void check(CUresult result, const char* what);

struct Executor::State {
  std::unique_ptr<client::Client> client;
  std::string url;
  std::vector<DeviceInfo> devices;
  std::mutex mutex;                      // guards what follows
  std::vector<CUcontext> contexts;       // primary context of each device, null until used
  int device = 0;

  ~State();
  /// The primary context of the device in use, retained at the first use.
  CUcontext context();
};

/// A device context with the session it belongs to.
struct Scope {
  std::shared_ptr<Executor::State> executor;
  CUcontext context = nullptr;
};

/// Makes a context current on this thread for a block; the one before is restored, so that a
/// program may use the library and a preloaded CUDA side by side.
class Current {
 public:
  explicit Current(const Scope& scope);
  ~Current();
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;

 private:
  client::Context* before_;
};

struct Buffer::State {
  Scope scope;
  CUdeviceptr address = 0;
  std::size_t bytes = 0;
  ~State();
};

struct Stream::State {
  Scope scope;
  CUstream stream = nullptr;
  bool owned = false;
  ~State();
};

struct Event::State {
  Scope scope;
  CUevent event = nullptr;
  ~State();
};

struct Module::State {
  Scope scope;
  CUmodule module = nullptr;
  ~State();
};

struct Kernel::State {
  std::shared_ptr<Module::State> module;
  CUfunction function = nullptr;
};

}  // namespace avec
