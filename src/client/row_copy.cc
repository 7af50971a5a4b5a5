#include "client/row_copy.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/limits.h"
#include "client/callbacks.h"
#include "client/capture.h"
#include "client/client.h"
#include "client/coherence.h"
#include "client/context.h"
#include "client/graph_nodes.h"
#include "client/memory.h"
#include "client/progress.h"
#include "client/status.h"
#include "client/stream.h"
#include "session/session.h"

namespace avec::client {
namespace {

/// Rows that are not contiguous on the host pass through a buffer of at most about this.
constexpr std::size_t kStagingBytes = std::size_t{4} << 20;

}  // namespace

CUresult classify(Client& client, Side& side, const Shape& shape) {
  if (side.kind == Kind::kArray) return CUDA_SUCCESS;  // whoever named its rows has looked
  std::uint64_t extent;
  if (side.address == 0 || !shape.extent(side.pitch, extent)) return CUDA_ERROR_INVALID_VALUE;
  const Pointee pointee = look_up(client, side.address, extent);
  if (pointee.device) {
    side.kind = Kind::kDevice;
    const std::uint64_t room = pointee.device->usable() - (side.address - pointee.device->base);
    if (extent <= room && client.coherent()) (void)client.coherence().find(side.address, &side.twin);
    return extent <= room ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  }
  if (pointee.in_device_range) return CUDA_ERROR_INVALID_VALUE;
  if (!pointee.host) return CUDA_SUCCESS;
  const HostBlock& block = *pointee.host;
  side.address = pointee.address;
  const std::uint64_t offset = side.address - block.base;
  const bool inside = extent <= block.bytes - offset;
  if (block.coherent) {
    side.kind = Kind::kDevice;
    side.twin = side.host();
    side.address = block.device_address + offset;
    return inside ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  }
  if (!inside) return CUDA_SUCCESS;
  side.kind = Kind::kPinned;
  side.reach = block.reach;
  side.key = block.key;
  side.key_address = block.base;
  return CUDA_SUCCESS;
}

RowCopy::RowCopy(Stream& stream, const Side& destination, const Side& source, const Shape& shape)
    : stream_(stream),
      session_(stream.context->client->session()),
      payload_(stream.context->client->payload()),
      destination_(destination),
      source_(source),
      shape_(shape) {}

CUresult RowCopy::run(Completion completion) {
  if (is_capturing(stream_)) [[unlikely]]
    return captured(completion);
  if (destination_.on_device()) return source_.on_device() ? on_device() : to_device(completion);
  return source_.on_device() ? from_device(completion) : on_host();
}

/// In a graph, memory of this process has a place on the device in its stead.
CUresult RowCopy::captured(Completion completion) {
  if (completion == Completion::kSynchronous) return uncapturable(stream_);
  if (destination_.on_device() && source_.on_device()) return on_device();
  if (!destination_.on_device() && !source_.on_device()) {
    return capture_host_function(stream_, [to = destination_, from = source_, shape = shape_] {
      for (std::uint64_t row = 0; row < shape.height; ++row)
        std::memmove(to.host() + row * to.pitch, from.host() + row * from.pitch, shape.width);
    });
  }
  // The place of host memory holds rows, which an array's side of a node does not take.
  if (destination_.kind == Kind::kArray || source_.kind == Kind::kArray) return CUDA_ERROR_NOT_SUPPORTED;
  Side& host = destination_.on_device() ? source_ : destination_;
  const HostRows rows{host.host(), host.pitch, shape_.height, shape_.width, shape_.height, 1};
  HostCopyUse copy;
  {
    std::scoped_lock lock(graphs_mutex);
    Graph* graph = captured_graph(stream_);
    if (graph == nullptr) return CUDA_ERROR_ILLEGAL_STATE;
    const CUresult made = host_copy_for(*graph, *stream_.context, rows, destination_.on_device(), copy);
    if (made != CUDA_SUCCESS) return made;
  }
  host.address = copy.place->address;
  host.pitch = shape_.width;
  return on_device();
}

/// Large enough that its bytes are better off beside the stream, if there is a way.
bool RowCopy::beside_stream() const {
  return shape_.bytes() > limits::kInlinePayloadBytes && session_.one_sided() != nullptr;
}

std::uint64_t RowCopy::rows_at_once() const {
  return std::clamp<std::uint64_t>(kStagingBytes / shape_.width, 1, shape_.height);
}

CUresult RowCopy::on_device() {
  if (destination_.kind == Kind::kArray || source_.kind == Kind::kArray) return between_arrays();
  return to_cuda(session_.post(wire::CopyOnDevice(destination_.address, destination_.pitch, source_.address,
                                                  source_.pitch, shape_.width, shape_.height, stream_.name)));
}

CUresult RowCopy::between_arrays() {
  const Side& array = source_.kind == Kind::kArray ? source_ : destination_;
  const std::uint64_t height = array.rows.rows();
  const auto box = [&](const Side& side) {
    if (side.kind == Kind::kArray) return wire::DeviceBox(side.rows, 0, 0, 0);
    return wire::DeviceBox({}, side.address, side.pitch, side.pitch * height);
  };
  return to_cuda(session_.post(wire::CopyBox(box(destination_), box(source_), shape_.width, height,
                                             shape_.height / height, stream_.name)));
}

/// use() with the call that takes `rows` rows from `row` on to the device, payload behind it.
template <class Use>
auto RowCopy::with_upload(std::uint64_t row, std::uint64_t rows, Use&& use) const {
  if (destination_.kind == Kind::kArray)
    return use(wire::CopyToArray(rows_at(destination_.rows, row), shape_.width, rows, stream_.name));
  return use(wire::CopyToDevice(destination_.address + row * destination_.pitch, destination_.pitch,
                                shape_.width, rows, stream_.name));
}
/// The same for the other direction, payload in the answer.
template <class Use>
auto RowCopy::with_download(std::uint64_t row, std::uint64_t rows, Use&& use) const {
  if (source_.kind == Kind::kArray)
    return use(wire::CopyFromArray(rows_at(source_.rows, row), shape_.width, rows, stream_.name));
  return use(wire::CopyFromDevice(source_.address + row * source_.pitch, source_.pitch, shape_.width, rows,
                                  stream_.name));
}

CUresult RowCopy::on_host() {
  // In stream order: after the work before it, and done before the call returns.
  if (const CUresult result = synchronize(stream_); result != CUDA_SUCCESS) return result;
  if (const CUresult result = settle(source_); result != CUDA_SUCCESS) return result;
  if (const CUresult result = settle(destination_); result != CUDA_SUCCESS) return result;
  for (std::uint64_t row = 0; row < shape_.height; ++row) {
    std::memmove(destination_.host() + row * destination_.pitch, source_.host() + row * source_.pitch,
                 shape_.width);
  }
  return CUDA_SUCCESS;
}

/// Bytes may still be on their way from the device into this host memory.
CUresult RowCopy::settle(const Side& side) {
  std::uint64_t extent = 0;
  shape_.extent(side.pitch, extent);
  return to_cuda(session_.wait_for_destination(side.host(), side.host() + extent));
}

/// The bytes of a download are here. So is then all that the stream was given before it: whoever
/// synchronises next need not ask.
CUresult RowCopy::arrived(const Result<>& reply, std::uint64_t download) {
  const CUresult result = arrived(reply);
  if (result == CUDA_SUCCESS) learn(stream_, download);
  return result;
}

CUresult RowCopy::arrived(const Result<>& reply) {
  Context& context = *stream_.context;
  const CUresult own = to_cuda(reply);
  if (corrupts_context(own)) context.error.store(own);
  const CUresult result = context.client->synchronized(own);
  return result != CUDA_SUCCESS ? result : static_cast<CUresult>(context.error.load());
}

// ---- to the device -------------------------------------------------------------------

CUresult RowCopy::to_device(Completion completion) {
  const CUresult posted = post_to_device(completion);
  if (posted != CUDA_SUCCESS || completion == Completion::kAsynchronous) return posted;
  // CUDA returns when the bytes are there, for whatever stream uses them next. Nobody waits for
  // that here: what other streams do later does.
  Context& context = *stream_.context;
  const bool ordered = context.legacy.load() == &stream_ && !context.client->unordered_streams();
  return ordered ? CUDA_SUCCESS : to_cuda(session_.post(wire::MemFence(stream_.name)));
}

CUresult RowCopy::post_to_device(Completion completion) {
  const bool read_later = beside_stream() && completion == Completion::kAsynchronous && tight(source_) &&
                          source_.reach != Reach::kNone;
  // A host function before the copy may write what the copy reads here, now.
  if (!read_later) wait_for_host_functions(stream_);
  if (const CUresult result = settle(source_); result != CUDA_SUCCESS) return result;
  if (beside_stream()) {
    if (const auto done = upload(completion)) return *done;
    if (read_later) wait_for_host_functions(stream_);
  }
  return post_through_stream();
}

CUresult RowCopy::post_through_stream() {
  const auto post = [&](std::uint64_t row, std::uint64_t rows, const std::byte* from) {
    return with_upload(row, rows, [&](const auto& body) {
      return session_.post(body, ConstBytes(from, rows * shape_.width));
    });
  };
  if (tight(source_)) return to_cuda(post(0, shape_.height, source_.host()));
  const std::uint64_t most = rows_at_once();
  const auto staging = std::make_unique_for_overwrite<std::byte[]>(most * shape_.width);
  for (std::uint64_t row = 0; row < shape_.height; row += most) {
    const std::uint64_t rows = std::min(most, shape_.height - row);
    for (std::uint64_t i = 0; i < rows; ++i) {
      std::memcpy(staging.get() + i * shape_.width, source_.host() + (row + i) * source_.pitch, shape_.width);
    }
    const auto posted = post(row, rows, staging.get());
    if (!posted) return to_cuda(posted.error());
  }
  return CUDA_SUCCESS;
}

std::optional<CUresult> RowCopy::upload(Completion completion) {
  const bool small = shape_.bytes() <= payload_.slots_up_to();
  if (tight(source_)) {
    if (source_.reach != Reach::kNone) {
      if (const auto done = upload_from(source_, completion == Completion::kSynchronous)) return done;
    }
    if (!small && shape_.bytes() >= payload_.add_from()) {
      const auto move = [&](const Side& host) { return upload_from(host, true); };
      if (const auto done = with_added(source_, move)) return done;
    } else if (!small) {
      return std::nullopt;
    }
  }
  const auto moved = payload_.upload(large(source_, destination_));
  if (!moved) return std::nullopt;
  return to_cuda(*moved);
}

std::optional<CUresult> RowCopy::upload_from(const Side& host, bool waits) {
  session::Reference reference{{host.host(), shape_.bytes()}, RemoteAccess::kRead};
  const auto named = payload_.name(host, reference);
  if (!named) return std::nullopt;
  const auto post = [&](const auto& body) {
    return session_.post_by_reference(body, reference,
                                      waits ? session::Attend::kWaiter : session::Attend::kNobody);
  };
  const auto pending =
      destination_.kind == Kind::kArray
          ? post(wire::CopyToArrayFrom(destination_.rows, shape_.width, shape_.height, stream_.name,
                                       to_wire(named->key), named->offset))
          : post(wire::CopyToDeviceFrom(destination_.address, destination_.pitch, shape_.width, shape_.height,
                                        stream_.name, to_wire(named->key), named->offset));
  if (!pending) return to_cuda(pending.error());
  if (!waits) return CUDA_SUCCESS;
  const auto free = session_.wait_deferred(*pending, session::Counted::kSource);
  // What failed before it is for a call that waits for the device.
  return free ? CUDA_SUCCESS : arrived(free);
}

// ---- from the device -----------------------------------------------------------------

CUresult RowCopy::from_device(Completion completion) {
  // Into pageable memory CUDA too returns only when the bytes are there.
  const bool waits = completion == Completion::kSynchronous || destination_.kind == Kind::kPageable;
  if (beside_stream()) {
    if (const auto done = download(waits)) return *done;
  }
  return tight(destination_) ? from_device_through_stream(waits) : rows_from_device();
}

CUresult RowCopy::from_device_through_stream(bool waits) {
  const auto pending = with_download(0, shape_.height, [&](const auto& body) {
    return session_.post_deferred(body, MutableBytes(destination_.host(), shape_.bytes()),
                                  waits ? session::Attend::kWaiter : session::Attend::kNobody);
  });
  if (!pending) return to_cuda(pending.error());
  if (!waits) {
    note_download(stream_, {*pending, destination_.host(), destination_.host() + shape_.bytes()});
    return CUDA_SUCCESS;
  }
  if (shape_.bytes() <= limits::kChunkBytes) return arrived(session_.wait_deferred(*pending), *pending);
  // The status of an answer in several chunks leaves before its last bytes: whether the device
  // failed meanwhile is known from what follows them, in the same round trip.
  const CUresult after = synchronize(stream_);
  const CUresult result = arrived(session_.wait_deferred(*pending));
  return result != CUDA_SUCCESS ? result : after;
}

CUresult RowCopy::rows_from_device() {
  const std::uint64_t most = rows_at_once();
  const auto staging = std::make_unique_for_overwrite<std::byte[]>(most * shape_.width);
  for (std::uint64_t row = 0; row < shape_.height; row += most) {
    const std::uint64_t rows = std::min(most, shape_.height - row);
    const auto pending = with_download(row, rows, [&](const auto& body) {
      return session_.post_deferred(body, MutableBytes(staging.get(), rows * shape_.width));
    });
    if (!pending) return to_cuda(pending.error());
    if (const CUresult result = arrived(session_.wait_deferred(*pending)); result != CUDA_SUCCESS)
      return result;
    for (std::uint64_t i = 0; i < rows; ++i) {
      std::memcpy(destination_.host() + (row + i) * destination_.pitch, staging.get() + i * shape_.width,
                  shape_.width);
    }
  }
  return CUDA_SUCCESS;
}

std::optional<CUresult> RowCopy::download(bool waits) {
  const bool small = shape_.bytes() <= payload_.slots_up_to();
  if (tight(destination_)) {
    if (destination_.reach != Reach::kNone) {
      if (const auto done = download_to(destination_, waits)) return done;
    }
    if (!waits) return std::nullopt;  // the stream's own way returns at once
    if (!small && shape_.bytes() >= payload_.add_from()) {
      const auto move = [&](const Side& host) { return download_to(host, true); };
      if (const auto done = with_added(destination_, move)) return done;
    } else if (!small) {
      return std::nullopt;
    }
  }
  const auto moved = payload_.download(large(destination_, source_));
  if (!moved) return std::nullopt;
  return arrived(*moved);
}

std::optional<CUresult> RowCopy::download_to(const Side& host, bool waits) {
  session::Reference reference{{host.host(), shape_.bytes()}, RemoteAccess::kWrite};
  const auto named = payload_.name(host, reference);
  if (!named) return std::nullopt;
  const auto post = [&](const auto& body) {
    return session_.post_by_reference(body, reference,
                                      waits ? session::Attend::kWaiter : session::Attend::kNobody);
  };
  const auto pending =
      source_.kind == Kind::kArray
          ? post(wire::CopyFromArrayTo(source_.rows, shape_.width, shape_.height, stream_.name,
                                       to_wire(named->key), named->offset))
          : post(wire::CopyFromDeviceTo(source_.address, source_.pitch, shape_.width, shape_.height, stream_.name,
                                        to_wire(named->key), named->offset));
  if (!pending) return to_cuda(pending.error());
  // The answer comes when all bytes are here: its status is that of all of them.
  if (waits) return arrived(session_.wait_deferred(*pending), *pending);
  note_download(stream_, {*pending, host.host(), host.host() + shape_.bytes()});
  return CUDA_SUCCESS;
}

/// Makes memory that the program has not pinned reachable for this one copy.
template <class Move>
std::optional<CUresult> RowCopy::with_added(const Side& host, Move&& move) {
  OneSided& access = *session_.one_sided();
  const MutableBytes memory{host.host(), shape_.bytes()};
  if (access.add(memory)) return std::nullopt;
  Side added = host;
  added.reach = Reach::kPerCall;
  const auto done = move(added);
  access.remove(memory);
  return done;
}

LargeCopy RowCopy::large(const Side& host, const Side& device) const {
  LargeCopy copy{host.host(),  host.pitch,    device.address, device.pitch,
                 shape_.width, shape_.height, stream_.name,   device.rows};
  if (device.kind != Kind::kArray && tight(host) && tight(device)) {
    copy.width = shape_.bytes();
    copy.height = 1;
  }
  return copy;
}

}  // namespace avec::client
