// What the generated entry points of simple calls do (schemas/driver.fbs, attribute api):
// translate handles, post or call. The first thing that fails is what the function returns.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <type_traits>

#include "client/client.h"
#include "client/context.h"
#include "client/process.h"
#include "client/stats.h"
#include "client/status.h"
#include "session/session.h"

namespace avec::client {

/// The value of a parameter on the wire.
template <class T>
constexpr auto wire_value(T value) {
  if constexpr (std::is_enum_v<T>) {
    return static_cast<std::int32_t>(value);
  } else {
    return value;
  }
}

class SimpleCall {
 public:
  bool failed() const { return error_ != CUDA_SUCCESS; }
  CUresult error() const { return error_; }

  // Names on the wire. A failure is remembered and the result is 0.
  std::uint64_t current_context() {
    Context* context = nullptr;
    note(usable_context(context));
    return name_of(context);
  }
  std::uint64_t context(CUcontext handle) {
    Context* context = find_context(handle);
    if (context == nullptr || !context->active()) note(CUDA_ERROR_INVALID_CONTEXT);
    return name_of(context);
  }
  std::int32_t device(CUdevice ordinal) {
    CUresult error = CUDA_SUCCESS;
    Client* client = process_client(error);
    if (client == nullptr) {
      note(error);
    } else if (client->device(ordinal) == nullptr) {
      note(CUDA_ERROR_INVALID_DEVICE);
    }
    if (!failed()) client_ = client;
    return ordinal;
  }

  template <class Body>
  CUresult post(const Body& body) {
    return to_cuda(client_->session().post(body));
  }
  template <class Body>
  CUresult call(const Body& body) {
    return to_cuda(client_->session().template call<Body>(body));
  }
  template <class Body, class Reply>
  CUresult call(const Body& body, Reply& reply) {
    auto answer = client_->session().template call<Body>(body);
    if (!answer) return to_cuda(answer.error());
    reply = *answer;
    return CUDA_SUCCESS;
  }

 private:
  void note(CUresult error) {
    if (error_ == CUDA_SUCCESS) error_ = error;
  }
  std::uint64_t name_of(Context* context) {
    if (failed()) return 0;
    client_ = context->client;
    return context->name.load(std::memory_order_acquire);
  }

  Client* client_ = nullptr;
  CUresult error_ = CUDA_SUCCESS;
};

}  // namespace avec::client
