// Memory of graphs: the device's side of copies from and to memory of this process, and what allocation
// nodes allocate.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

namespace avec::client {

struct Context;
struct Stream;
struct GraphExec;
class Client;
class Device;

/// Rows of this process's memory: `rows` rows make a slice, of which `height` are meant.
struct HostRows {
  std::byte* address = nullptr;
  std::uint64_t pitch = 0, rows = 0;
  std::uint64_t width = 0, height = 0, depth = 1;
  std::uint64_t bytes() const { return width * height * depth; }
  auto operator<=>(const HostRows&) const = default;
};

/// A place in device memory that a copy node copies from or to in the stead of memory of this process.
/// A launch fills it first, and what a node wrote there is fetched behind the launch. Shared by the
/// graph, its copies and its executable graphs, whose launches take turns (graph_memory.cc).
struct HostCopy {
  HostCopy() = default;
  HostCopy(const HostCopy&) = delete;
  HostCopy& operator=(const HostCopy&) = delete;
  ~HostCopy();

  Context* context = nullptr;
  std::uint64_t context_name = 0;
  std::uint64_t address = 0;  ///< tight rows
  // Who used it last; guarded by the lock of host copies.
  std::uint64_t last_stream = 0, last_event = 0;
};

/// What nodes of a graph do with such a place. A copy from and a copy to the same rows share it: bytes
/// that one writes and another reads need not pass through this process.
struct HostCopyUse {
  std::shared_ptr<HostCopy> place;
  HostRows rows;
  unsigned to_device = 0, from_device = 0;  ///< nodes
  bool may_not_run = false;                 ///< inside a conditional node
};

CUresult make_host_copy(Context& context, std::uint64_t bytes, std::shared_ptr<HostCopy>& made);
/// Before and behind a launch in the stream.
CUresult send_host_copies(GraphExec& exec, Stream& stream);
CUresult fetch_host_copies(GraphExec& exec, Stream& stream);
/// The launch comes after what used its places last, and whoever uses them next after it.
void take_host_copies(GraphExec& exec, Stream& stream);
void leave_host_copies(GraphExec& exec, Stream& stream);

/// The same for a graph with host functions (graph_exchange.cc): before and behind the launch, and around
/// each function, on the thread of host nodes.
struct HostExchange;
CUresult begin_exchange(GraphExec& exec, Stream& stream, std::shared_ptr<HostExchange>& made);
CUresult end_exchange(const std::shared_ptr<HostExchange>& exchange, Stream& stream);
void exchange_before_function(Client& client, std::uint64_t function);
void exchange_after_function(Client& client, std::uint64_t function);

/// What an allocation node allocates: there from its making on, for as long as the graph or an executable
/// graph of it exists, and until it is freed.
struct GraphAllocation {
  GraphAllocation() = default;
  GraphAllocation(const GraphAllocation&) = delete;
  GraphAllocation& operator=(const GraphAllocation&) = delete;
  ~GraphAllocation();

  Context* context = nullptr;
  std::uint64_t context_name = 0;
  std::uint64_t address = 0, bytes = 0;
  std::atomic<bool> live{false};  ///< a launch allocated it and nobody freed it
  std::atomic<bool> used{false};  ///< a launch allocated it once
};

/// A launch has allocated it: it stays until it is freed, whatever becomes of the graph.
void allocated_by_launch(const std::shared_ptr<GraphAllocation>& allocation);
/// CUDA_ERROR_INVALID_VALUE: it is not allocated.
CUresult free_graph_allocation(const std::shared_ptr<GraphAllocation>& allocation);
/// cuMemAllocAsync and cuMemFreeAsync in a stream that captures.
CUresult capture_allocation(Stream& stream, std::uint64_t bytes, CUdeviceptr& address);
CUresult capture_free(Stream& stream, CUdeviceptr address);

CUresult make_graph_allocation(Context& context, std::uint64_t bytes, std::shared_ptr<GraphAllocation>& made);
/// The allocation of a graph that begins at the address, or null.
std::shared_ptr<GraphAllocation> find_graph_allocation(std::uint64_t address);
/// Bytes that allocation nodes of a device have, and those that launches have allocated.
struct GraphMemoryUse {
  std::uint64_t reserved = 0, used = 0, reserved_high = 0, used_high = 0;
};
GraphMemoryUse graph_memory_use(const Device& device);
void reset_graph_memory_high(const Device& device, bool used);

}  // namespace avec::client
