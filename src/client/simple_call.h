// What generated entry points (tools/gen, attribute `api`) are made of: names translated, the
// call made, the error kept.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <type_traits>

#include "client/client.h"
#include "client/context.h"
#include "client/device.h"
#include "client/process.h"
#include "client/stats.h"
#include "client/status.h"
#include "session/session.h"

namespace avec::client {

/// The value of a C parameter as it goes into a field.
template <class T>
auto wire_value(T value) {
  if constexpr (std::is_enum_v<T>) {
    return static_cast<std::underlying_type_t<T>>(value);
  } else {
    return value;
  }
}

class SimpleCall {
 public:
  /// Names on the wire; a handle that is none of ours makes the call fail.
  std::uint64_t current_context() {
    Context* context = nullptr;
    if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return fail(result);
    return take(*context);
  }
  std::uint64_t context(CUcontext handle) {
    if (handle == nullptr) return current_context();
    Context* context = find_context(handle);
    if (context == nullptr || !context->active()) return fail(CUDA_ERROR_INVALID_CONTEXT);
    if (const int sticky = context->error.load(); sticky != CUDA_SUCCESS)
      return fail(static_cast<CUresult>(sticky));
    return take(*context);
  }
  CUdevice device(CUdevice ordinal) {
    CUresult error = CUDA_SUCCESS;
    Client* client = process_client(error);
    if (client == nullptr) return static_cast<CUdevice>(fail(error));
    if (client->device(ordinal) == nullptr) return static_cast<CUdevice>(fail(CUDA_ERROR_INVALID_DEVICE));
    client_ = client;
    return ordinal;
  }

  bool failed() const { return error_ != CUDA_SUCCESS; }
  CUresult error() const { return error_; }

  template <class Body>
  CUresult post(const Body& body) {
    return to_cuda(client_->session().post(body));
  }
  template <class Body>
  CUresult call(const Body& body) {
    return client_->synchronized(to_cuda(client_->session().call(body)));
  }
  template <class Body, class Reply>
  CUresult call(const Body& body, Reply& reply) {
    const auto answer = client_->session().call(body);
    if (!answer) return to_cuda(answer.error());
    reply = *answer;
    return CUDA_SUCCESS;
  }

 private:
  std::uint64_t take(Context& context) {
    client_ = context.client;
    return context.name.load();
  }
  std::uint64_t fail(CUresult error) {
    if (error_ == CUDA_SUCCESS) error_ = error;
    return 0;
  }

  Client* client_ = nullptr;
  CUresult error_ = CUDA_SUCCESS;
};

}  // namespace avec::client
