// Buffers, streams, events, modules and kernels: each call names its context and passes on.
#include <algorithm>

#include "client/copy.h"
#include "client/event.h"
#include "client/function.h"
#include "client/memory.h"
#include "client/module.h"
#include "client/stream.h"
#include "public/state.h"

namespace avec {

using client::Completion;

// Destructors end what they own; an error has nowhere to go and is the session's anyway.
Buffer::State::~State() {
  if (address == 0) return;
  const Current current(scope);
  client::memory_free(address);
}
Stream::State::~State() {
  if (!owned) return;
  const Current current(scope);
  client::stream_destroy(stream);
}
Event::State::~State() {
  if (event == nullptr) return;
  const Current current(scope);
  client::event_destroy(event);
}
Module::State::~State() {
  if (module == nullptr) return;
  const Current current(scope);
  client::module_unload(module);
}

std::uint64_t Buffer::address() const noexcept { return state_->address; }
std::size_t Buffer::bytes() const noexcept { return state_->bytes; }

namespace {

void check_extent(const Buffer::State& buffer, std::size_t offset, std::size_t bytes) {
  if (offset > buffer.bytes || bytes > buffer.bytes - offset)
    throw CudaError(CUDA_ERROR_INVALID_VALUE, "a copy of " + std::to_string(bytes) + " bytes at offset " +
                                              std::to_string(offset) + " does not fit a buffer of " +
                                              std::to_string(buffer.bytes) + " bytes");
}

}  // namespace

void Buffer::copy_from(std::span<const std::byte> source, std::size_t offset) {
  check_extent(*state_, offset, source.size());
  const Current current(state_->scope);
  check(client::copy_to_device(state_->address + offset, source.data(), source.size(), CU_STREAM_LEGACY,
                               Completion::kSynchronous),
        "copying to the device");
}

void Buffer::copy_to(std::span<std::byte> destination, std::size_t offset) const {
  check_extent(*state_, offset, destination.size());
  const Current current(state_->scope);
  check(client::copy_from_device(destination.data(), state_->address + offset, destination.size(), CU_STREAM_LEGACY,
                                 Completion::kSynchronous),
        "copying from the device");
}

void Buffer::copy_from(std::span<const std::byte> source, const Stream& stream, std::size_t offset) {
  check_extent(*state_, offset, source.size());
  const Current current(state_->scope);
  check(client::copy_to_device(state_->address + offset, source.data(), source.size(), stream.state()->stream,
                               Completion::kAsynchronous),
        "copying to the device");
}

void Buffer::copy_to(std::span<std::byte> destination, const Stream& stream, std::size_t offset) const {
  check_extent(*state_, offset, destination.size());
  const Current current(state_->scope);
  check(client::copy_from_device(destination.data(), state_->address + offset, destination.size(),
                                 stream.state()->stream, Completion::kSynchronous),
        "copying from the device");
}

void Buffer::copy_from(const Buffer& source) {
  check_extent(*state_, 0, source.bytes());
  if (source.state_->scope.executor != state_->scope.executor)
    throw CudaError(CUDA_ERROR_INVALID_VALUE,
                    "the buffers are of two executors; copy through memory of this process");
  const Current current(state_->scope);
  check(client::copy_on_device(state_->address, source.address(), source.bytes(), CU_STREAM_LEGACY),
        "copying on the device");
}

void Buffer::fill(std::uint8_t value) {
  const Current current(state_->scope);
  check(client::set_memory(state_->address, 0, value, 1, state_->bytes, 1, CU_STREAM_LEGACY, Completion::kAsynchronous),
        "setting device memory");
}

void Stream::synchronize() const {
  const Current current(state_->scope);
  check(client::stream_synchronize(state_->stream), "waiting for a stream");
}

bool Stream::idle() const {
  const Current current(state_->scope);
  const CUresult result = client::stream_query(state_->stream);
  if (result == CUDA_ERROR_NOT_READY) return false;
  check(result, "asking a stream");
  return true;
}

void Stream::wait(const Event& event) const {
  const Current current(state_->scope);
  check(client::stream_wait_event(state_->stream, event.state()->event, 0), "waiting for an event in a stream");
}

void Event::record(const Stream& stream) const {
  const Current current(state_->scope);
  check(client::event_record(state_->event, stream.state()->stream, 0), "recording an event");
}

void Event::synchronize() const {
  const Current current(state_->scope);
  check(client::event_synchronize(state_->event), "waiting for an event");
}

bool Event::done() const {
  const Current current(state_->scope);
  const CUresult result = client::event_query(state_->event);
  if (result == CUDA_ERROR_NOT_READY) return false;
  check(result, "asking an event");
  return true;
}

float Event::elapsed_ms_since(const Event& start) const {
  const Current current(state_->scope);
  float milliseconds = 0;
  check(client::event_elapsed_time(&milliseconds, start.state()->event, state_->event), "measuring between events");
  return milliseconds;
}

Kernel Module::kernel(std::string_view name) const {
  const Current current(state_->scope);
  auto kernel = std::make_shared<Kernel::State>();
  kernel->module = state_;
  const CUresult result = client::module_get_function(&kernel->function, state_->module, std::string(name).c_str());
  if (result == CUDA_ERROR_NOT_FOUND) {
    std::string all;
    for (const std::string& other : kernel_names()) all += (all.empty() ? "" : ", ") + other;
    throw CudaError(result, "the module has no kernel named " + std::string(name) + "; it has: " + all);
  }
  check(result, "looking for a kernel");
  return Kernel(std::move(kernel));
}

std::vector<std::string> Module::kernel_names() const {
  const Current current(state_->scope);
  unsigned count = 0;
  check(client::module_function_count(&count, state_->module), "listing kernels");
  std::vector<CUfunction> functions(count);
  check(client::module_functions(functions.data(), count, state_->module), "listing kernels");
  std::vector<std::string> names;
  for (CUfunction function : functions) {
    const char* name = nullptr;
    check(client::function_get_name(&name, function), "listing kernels");
    names.emplace_back(name);
  }
  return names;
}

namespace {

int attribute(const Kernel::State& kernel, CUfunction_attribute which) {
  const Current current(kernel.module->scope);
  int value = 0;
  check(client::function_get_attribute(&value, which, kernel.function), "asking a kernel");
  return value;
}

}  // namespace

std::string Kernel::name() const {
  const Current current(state_->module->scope);
  const char* name = nullptr;
  check(client::function_get_name(&name, state_->function), "asking a kernel");
  return name;
}

int Kernel::max_threads_per_block() const { return attribute(*state_, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK); }
int Kernel::shared_bytes() const { return attribute(*state_, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES); }

void Kernel::launch_list(const LaunchOptions& options, const Argument* arguments, std::size_t count) const {
  const Current current(state_->module->scope);
  const client::Function* function = client::find_function(state_->function);
  if (function == nullptr) check(CUDA_ERROR_INVALID_HANDLE, "launching a kernel");
  if (count != function->parameter_count)
    throw CudaError(CUDA_ERROR_INVALID_VALUE, function->name + " takes " + std::to_string(function->parameter_count) +
                                              " arguments, not " + std::to_string(count));
  std::vector<void*> pointers(count);
  for (std::size_t i = 0; i < count; ++i) {
    if (arguments[i].bytes != function->parameters[i].bytes)
      throw CudaError(CUDA_ERROR_INVALID_VALUE, function->name + ": argument " + std::to_string(i) + " has " +
                                                std::to_string(arguments[i].bytes) + " bytes; the kernel takes " +
                                                std::to_string(function->parameters[i].bytes));
    pointers[i] = const_cast<void*>(arguments[i].data != nullptr ? arguments[i].data
                                                                 : static_cast<const void*>(&arguments[i].address));
  }
  const client::LaunchShape shape{options.grid.x,  options.grid.y,  options.grid.z,      options.block.x,
                                  options.block.y, options.block.z, options.shared_bytes};
  CUstream stream = options.stream != nullptr ? options.stream->state()->stream : CU_STREAM_LEGACY;
  check(client::launch(state_->function, shape, stream, pointers.data(), nullptr, false), "launching a kernel");
}

}  // namespace avec
