#include "avec/executor.h"

#include "base/settings.h"
#include "base/wait_mode.h"
#include "client/device.h"
#include "client/event.h"
#include "client/memory.h"
#include "client/module.h"
#include "client/status.h"
#include "client/stream.h"
#include "public/state.h"
#include "session/session.h"
#include "wire/handshake.h"

namespace avec {
namespace {

std::vector<DeviceInfo> describe(client::Client& client) {
  std::vector<DeviceInfo> devices;
  for (int i = 0; i < client.device_count(); ++i) {
    const client::Device& device = *client.device(i);
    devices.push_back({device.name(), device.pci_bus_id(), device.total_bytes(), device.compute_capability() / 10,
                       device.compute_capability() % 10, device.attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
                       device.attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK)});
  }
  return devices;
}

}  // namespace

void check(CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return;
  const char* name = client::error_name(result);
  const char* text = client::error_text(result);
  throw CudaError(result, std::string(what) + ": " + (text != nullptr ? text : "unknown error") + " (" +
                          (name != nullptr ? name : "no CUDA error") + ")");
}

Executor::State::~State() {
  for (std::size_t i = 0; i < contexts.size(); ++i)
    if (contexts[i] != nullptr) client::primary_release(*client, static_cast<CUdevice>(i));
  client->close();
}

CUcontext Executor::State::context() {
  std::scoped_lock lock(mutex);
  CUcontext& context = contexts[static_cast<std::size_t>(device)];
  if (context == nullptr) check(client::primary_retain(*client, &context, device), "opening the device");
  return context;
}

Current::Current(const Scope& scope) : before_(client::current_context) {
  client::current_context = client::find_context(scope.context);
}

Current::~Current() { client::current_context = before_; }

Executor Executor::connect(const ConnectOptions& options) {
  auto from_settings = client::options_from_settings();
  if (!from_settings) throw ConnectError(from_settings.error().error, from_settings.error().message);
  client::ConnectOptions wished = *from_settings;
  if (!options.url.empty()) wished.executor = options.url;
  if (!options.token_file.empty()) {
    auto token = wire::read_token_file(options.token_file);
    if (!token) throw ConnectError(CUDA_ERROR_NOT_PERMITTED, token.error());
    wished.token = *token;
  }
  wished.device = options.device;
  wished.connect_deadline = options.deadline;
  wished.wait = name_of(options.wait);
  wished.spin = options.spin;
  auto client = client::Client::open(wished);
  if (!client) throw ConnectError(client.error().error, client.error().message);
  auto state = std::make_shared<State>();
  state->client = std::move(*client);
  state->url = wished.executor;
  state->devices = describe(*state->client);
  state->contexts.resize(state->devices.size());
  return Executor(std::move(state));
}

std::string Executor::url() const { return state_->url; }
std::string Executor::link() const { return state_->client->session().peer(); }
std::string Executor::device_kind() const {
  const auto* kind = state_->client->session().hello().device_kind();
  return kind != nullptr ? kind->str() : "";
}
std::string Executor::device_reason() const { return state_->client->session().device_reason(); }
std::string Executor::release() const {
  const auto* release = state_->client->session().hello().release();
  return release != nullptr ? release->str() : "";
}
int Executor::driver_version() const { return state_->client->driver_version(); }
const std::vector<DeviceInfo>& Executor::devices() const { return state_->devices; }

void Executor::use_device(int device) {
  if (state_->client->device(device) == nullptr) check(CUDA_ERROR_INVALID_DEVICE, "choosing a device");
  std::scoped_lock lock(state_->mutex);
  state_->device = device;
}

Buffer Executor::allocate(std::size_t bytes) {
  auto buffer = std::make_shared<Buffer::State>();
  buffer->scope = {state_, state_->context()};
  const Current current(buffer->scope);
  check(client::memory_allocate(&buffer->address, bytes), "allocating device memory");
  buffer->bytes = bytes;
  return Buffer(std::move(buffer));
}

Module Executor::load_module(std::span<const std::byte> image) {
  auto module = std::make_shared<Module::State>();
  module->scope = {state_, state_->context()};
  const Current current(module->scope);
  std::string log(4096, '\0');
  CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void* values[] = {log.data(), reinterpret_cast<void*>(log.size() - 1)};
  const CUresult result = client::module_load_bytes(&module->module, image, {2, options, values});
  log.resize(std::char_traits<char>::length(log.c_str()));
  check(result, log.empty() ? "loading a module" : ("loading a module: " + log).c_str());
  return Module(std::move(module));
}

Module Executor::load_module(std::string_view ptx) {
  return load_module(std::as_bytes(std::span(ptx)));
}

Stream Executor::create_stream() {
  auto stream = std::make_shared<Stream::State>();
  stream->scope = {state_, state_->context()};
  const Current current(stream->scope);
  check(client::stream_create(&stream->stream, CU_STREAM_NON_BLOCKING, 0), "creating a stream");
  stream->owned = true;
  return Stream(std::move(stream));
}

Stream Executor::default_stream() {
  auto stream = std::make_shared<Stream::State>();
  stream->scope = {state_, state_->context()};
  stream->stream = CU_STREAM_LEGACY;
  return Stream(std::move(stream));
}

Event Executor::create_event() {
  auto event = std::make_shared<Event::State>();
  event->scope = {state_, state_->context()};
  const Current current(event->scope);
  check(client::event_create(&event->event, CU_EVENT_DEFAULT), "creating an event");
  return Event(std::move(event));
}

void Executor::synchronize() {
  const Scope scope{state_, state_->context()};
  const Current current(scope);
  check(client::context_synchronize(), "waiting for the device");
}

std::chrono::nanoseconds Executor::ping() {
  const auto begin = std::chrono::steady_clock::now();
  const auto answer = state_->client->session().call(wire::Ping(0));
  const auto end = std::chrono::steady_clock::now();
  check(client::to_cuda(answer), "asking the executor");
  return end - begin;
}

Statistics Executor::statistics() const {
  const session::Counters counters = state_->client->session().counters();
  return {counters.posted, counters.waited, counters.round_trips, counters.bytes_sent, counters.bytes_received};
}

void Executor::close() { state_->client->close(); }

}  // namespace avec
