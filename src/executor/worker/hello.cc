// The beginning of a session (Hello: devices, address ranges) and its end.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <ranges>

#include "executor/worker/facts.h"
#include "executor/worker/guard.h"
#include "executor/worker/session.h"

namespace avec::worker {
namespace {

constexpr std::uint64_t kRangeAlignment = 2u << 20;
// Candidates looked at: a client names a handful.
constexpr std::size_t kMaxCandidates = 64;

bool plausible(const wire::AddressRange& range) {
  return range.base() != 0 && range.bytes() != 0 && range.base() % kRangeAlignment == 0 &&
         range.bytes() % kRangeAlignment == 0 && range.base() + range.bytes() > range.base() &&
         range.base() + range.bytes() <= std::uint64_t{1} << 47;
}

}  // namespace

std::string Session::prepare() {
  if (const CUresult status = open_devices(); status != CUDA_SUCCESS)
    return problem_.empty() ? options_.driver_path + " says " + cuda_status_text(status) : problem_;
  return {};
}

CUresult Session::open_devices() {
  if (device_count_ > 0) return CUDA_SUCCESS;
  std::vector<std::filesystem::path> folders;
  for (const auto folder : std::views::split(options_.library_path, ':'))
    if (!folder.empty()) folders.emplace_back(std::string(folder.begin(), folder.end()));
  const std::filesystem::path driver_folder = std::filesystem::path(options_.driver_path).parent_path();
  libraries_.configure(options_.device_kind == "cpu" ? driver_folder : std::filesystem::path(), std::move(folders));
  if (options_.driver) {
    driver_ = *options_.driver;
  } else {
    auto loaded = load_driver(options_.driver_path);
    if (!loaded) {
      problem_ = loaded.error();
      return CUDA_ERROR_NO_DEVICE;
    }
    driver_ = *loaded;
  }
  if (options_.guarded) driver_ = guard_driver(driver_);
  if (CUresult status = driver_.cuInit(0); status != CUDA_SUCCESS) return status;
  int found = 0;
  if (CUresult status = driver_.cuDeviceGetCount(&found); status != CUDA_SUCCESS) return status;
  if (found <= 0) {
    problem_ = options_.driver_path + " has no device";
    return CUDA_ERROR_NO_DEVICE;
  }
  device_count_ = found;
  const auto count = static_cast<std::size_t>(device_count_);
  primary_.assign(count, nullptr);
  exportable_.assign(count, false);
  for (std::size_t device = 0; device < count; ++device) {
    int can = 0;
    exportable_[device] =
        driver_.cuDeviceGetAttribute(&can, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED,
                                     static_cast<int>(device)) == CUDA_SUCCESS &&
        can != 0;
  }
  peers_.assign(count, std::vector<bool>(count, false));
  for (std::size_t from = 0; from < count; ++from) {
    for (std::size_t to = 0; to < count; ++to) {
      int can = 0;
      if (from != to && driver_.cuDeviceCanAccessPeer(&can, static_cast<int>(from), static_cast<int>(to)) == CUDA_SUCCESS)
        peers_[from][to] = can != 0;
    }
  }
  CUmemAllocationProp property{};
  property.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  property.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
  std::size_t granularity = 0;
  if (driver_.cuMemGetAllocationGranularity(&granularity, &property, CU_MEM_ALLOC_GRANULARITY_MINIMUM) != CUDA_SUCCESS)
    granularity = kRangeAlignment;
  granularity_ = std::max<std::uint64_t>(granularity, kRangeAlignment);
  if (driver_.set_output != nullptr) {
    driver_.set_output(
        [](int descriptor, const char* text, std::size_t bytes, void* user) {
          auto& session = *static_cast<Session*>(user);
          std::lock_guard lock(session.output_mutex_);
          session.output_[descriptor == STDERR_FILENO].append(text, bytes);
        },
        this);
  }
  // Kept for the session: whoever asks for a context of the first device finds one.
  return primary(0) != nullptr ? CUDA_SUCCESS : CUDA_ERROR_DEVICE_UNAVAILABLE;
}

void Session::reserve_ranges(const wire::Hello& hello) {
  std::size_t seen = 0;
  if (hello.device_ranges() != nullptr) {
    for (const wire::AddressRange* wish : *hello.device_ranges()) {
      if (++seen > kMaxCandidates) break;
      if (!plausible(*wish)) continue;
      CUdeviceptr address = 0;
      if (driver_.cuMemAddressReserve(&address, wish->bytes(), 0, wish->base(), 0) != CUDA_SUCCESS) continue;
      if (address == wish->base()) {
        device_range_ = *wish;
        break;
      }
      driver_.cuMemAddressFree(address, wish->bytes());
    }
  }
  seen = 0;
  if (hello.host_ranges() == nullptr) return;
  for (const wire::AddressRange* wish : *hello.host_ranges()) {
    if (++seen > kMaxCandidates) break;
    if (!plausible(*wish)) continue;
    // With the driver: memory of the device is mapped there for buffers that the host uses too.
    CUdeviceptr address = 0;
    if (driver_.cuMemAddressReserve(&address, wish->bytes(), 0, wish->base(), 0) != CUDA_SUCCESS) continue;
    if (address == wish->base()) {
      host_range_ = *wish;
      return;
    }
    driver_.cuMemAddressFree(address, wish->bytes());
  }
}

Result<> Session::operator()(const Header& header, const wire::Hello& hello) {
  if (open_) return protocol_error("a second Hello");
  if (const CUresult status = open_devices(); status != CUDA_SUCCESS) {
    spdlog::error("{}: the device cannot be opened: {}", name_, problem_.empty() ? cuda_status_text(status) : problem_);
    device_count_ = 0;
    return finish(header, status);
  }
  if (hello.replay_bytes() != 0) {
    link_.make_resumable();
    use_one_sided(nullptr);
  }
  reserve_ranges(hello);
  int version = 0;
  driver_.cuDriverGetVersion(&version);
  flatbuffers::FlatBufferBuilder builder;
  const auto devices = builder.CreateVector(device_facts(driver_, device_count_, builder));
  const auto kind = builder.CreateString(options_.device_kind);
  const auto release = builder.CreateString(options_.release);
  builder.Finish(wire::CreateHelloReply(builder, version, kind, devices, &device_range_, &host_range_, granularity_,
                                        arena_.chunk_bytes(), release));
  open_ = true;
  link_.reply(header, CUDA_SUCCESS, {reinterpret_cast<const std::byte*>(builder.GetBufferPointer()), builder.GetSize()});
  return {};
}

/// Frees everything, in the order that the driver wants. Waits for the device where it is busy.
void Session::teardown() {
  helpers_.stop();
  if (auto connection = link_.detach()) ended_connection_ = std::move(connection);  // closed by now
  sink_.reset();
  if (!open_) return;
  completions_.turned_idle = nullptr;
  for (Stream* stream : all_streams()) {
    stream->held.clear();
    stream->completions.clear();
  }
  abandon_captures(nullptr);
  downloads_.abandon();
  accesses_.abandon();
  std::vector<Context*> contexts;
  for (auto& [name, context] : contexts_)
    if (context->poison == CUDA_SUCCESS) contexts.push_back(context.get());
  for (auto& context : dying_contexts_) contexts.push_back(context.get());
  for (Context* context : contexts) {
    make_current(*context);
    // The end of a context waits for its work; the memory below must outlive that work.
    for (Stream* stream : context->streams) {
      CUresult status;
      const bool busy = stream->issued != stream->completed;
      if (CUevent event = busy ? completions_.record(*stream, status) : nullptr; event != nullptr) {
        driver_.cuEventSynchronize(event);
        completions_.give_event(*context, event);
      }
      for (const Stream::Mark& mark : stream->marks) completions_.give_event(*context, mark.event);
      stream->marks.clear();
      if (stream->created) driver_.cuStreamDestroy(stream->handle);
    }
  }
  for (auto& event : dying_events_)
    if (event->handle != nullptr) driver_.cuEventDestroy(event->handle);
  event_waits_.clear();
  for (Context* context : contexts) {
    make_current(*context);
    destroy_graphs_of(*context);
    free_arrays_of(*context);
    free_events_of(*context);
    free_modules_of(*context);
  }
  gpu_direct_.clear();
  for (const auto& [address, mapping] : memory_.all()) {
    if (mapping.module != 0) continue;
    driver_.cuMemUnmap(address, mapping.bytes);
    if (mapping.handle != 0) driver_.cuMemRelease(mapping.handle);
  }
  exports_.reset();
  release_physical();
  for (CUcontext context : primary_)
    if (context != nullptr) driver_.cuCtxSetCurrent(context);  // pinned memory is portable: any will do
  // No access is under way, the connection is closed; and the device is done.
  slots_.region.reset();
  regions_.clear();
  arena_.clear();
  coherent_.clear();
  ended_connection_.reset();
  for (Context* context : contexts) {
    if (context->primary) {
      driver_.cuDevicePrimaryCtxRelease(context->device);
    } else if (context->green != nullptr) {
      driver_.cuGreenCtxDestroy(context->green);
    } else {
      driver_.cuCtxDestroy(context->handle);
    }
  }
  driver_.cuCtxSetCurrent(nullptr);
  for (std::size_t device = 0; device < primary_.size(); ++device)
    if (primary_[device] != nullptr) driver_.cuDevicePrimaryCtxRelease(static_cast<int>(device));
  if (device_range_.bytes() != 0) driver_.cuMemAddressFree(device_range_.base(), device_range_.bytes());
  if (host_range_.bytes() != 0) driver_.cuMemAddressFree(host_range_.base(), host_range_.bytes());
  if (driver_.set_output != nullptr) driver_.set_output(nullptr, nullptr);
}

}  // namespace avec::worker
