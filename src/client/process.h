// The client of this process: opened by the first CUDA call that needs it, closed at exit.
#pragma once

#include <cuda.h>

namespace avec::client {

class Client;

/// Opens the session at the first call (cuInit). A failure is said once on stderr and
/// remembered: later calls return the same error. `program` false: by NVML, which is no use of CUDA; if nothing
/// else opened the session, a child of fork() may open its own.
CUresult process_init(bool program = true);
/// The opened client. Null with CUDA_ERROR_NOT_INITIALIZED in `error`, or the error with which
/// opening failed; in the child of a fork of a process that had initialised CUDA:
/// CUDA_ERROR_NOT_INITIALIZED for good.
Client* process_client(CUresult& error) noexcept;
/// Executor's driver version once opened, before that the one AVEC was built for.
int process_driver_version() noexcept;
/// True once exit handlers run: calls then return CUDA_ERROR_DEINITIALIZED.
bool process_ended() noexcept;

}  // namespace avec::client
