// One session on the executor: receives and verifies frames, issues them to the driver, knows
// what has finished, and answers. One thread runs it; nothing in its loop waits for the device.
//
// Who waits for whom:
//   the window   a stream has at most limits::kLaunchWindow calls that are not known to have
//                finished; further frames for it are held (Held) and issued in order later
//   held frames  a frame is held behind the held frames that it must follow (its stream's, the
//                default stream's, an event's record); calls on other streams go on
//   chunks       payload waits for a free chunk; when none comes back for kStall, the payload
//                is taken to ordinary memory and its frame is held, so that the frames behind
//                it get through
//   reads        a copy whose payload is read from the client's memory stays the first held frame
//                of its stream until the copy engine has all of it
//   direct copies what the adapter moves between the client's memory and the device's waits for all earlier
//                work of its stream, and stays its first held frame until it is over
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/handle.h"
#include "calls.h"
#include "executor/worker/accesses.h"
#include "executor/worker/arena.h"
#include "executor/worker/coherent.h"
#include "executor/worker/completions.h"
#include "executor/worker/direct_copy.h"
#include "executor/worker/download.h"
#include "executor/worker/fetch.h"
#include "executor/worker/gpu_direct.h"
#include "executor/worker/graph_objects.h"
#include "executor/worker/graph_params.h"
#include "executor/worker/helpers.h"
#include "executor/worker/host_calls.h"
#include "executor/worker/host_regions.h"
#include "executor/worker/ipc.h"
#include "executor/worker/libraries.h"
#include "executor/worker/link.h"
#include "executor/worker/memory.h"
#include "executor/worker/module_cache.h"
#include "executor/worker/objects.h"
#include "executor/worker/tracer.h"
#include "simple_handlers.h"

namespace avec::worker {

struct SessionOptions {
  /// The driver: a loaded table (tests), or the library to load at Hello.
  std::optional<DriverTable> driver;
  std::string driver_path;
  std::string device_kind = "cuda";  ///< "cuda" or "cpu", told to the client
  /// Folders in which NVIDIA's libraries are looked for first, colons between them.
  std::string library_path;
  WaitMode wait_mode = WaitMode::kAdaptive;
  std::chrono::microseconds spin{50};
  std::filesystem::path cache_dir;   ///< module images; empty: memory only
  std::string release;               ///< of this program, for messages
  std::string name = "a session";    ///< for log lines: "session 12"
  /// How long a resumable session waits for its client to come back.
  std::chrono::milliseconds resume_window{10'000};
  /// A new session's first data connection must come within this.
  std::chrono::milliseconds first_connection{5'000};
  /// The process's stdout is this session's alone: what kernels print there goes to the client.
  bool capture_stdout = false;
  std::size_t arena_bytes = limits::kArenaBytes;
  /// Large copies go by GPUDirect RDMA where connection, driver and device can.
  bool gpudirect = false;
  /// The driver is used through worker/guard.h: the process has this session only.
  bool guarded = false;
};

/// How a session went, for the operator's log.
struct SessionReport {
  std::string reason;  ///< "closed by the client", "protocol error: ..."
  std::uint64_t bytes_in = 0, bytes_out = 0, calls = 0;
  /// Payload of copies that the CPU moved from one place in memory to another.
  std::uint64_t bytes_copied = 0;
};

class Session {
 public:
  explicit Session(SessionOptions options);
  ~Session();

  /// What a session begins with and what takes longest, done before there is a client: the driver is
  /// loaded, its devices are opened, and the first one has a context. Empty, or why it cannot be.
  std::string prepare();
  /// For log lines. Before run().
  void set_name(std::string name) { name_ = std::move(name); }

  /// Runs until the session ends. `process_ends`: what it holds is freed by the end of the
  /// process, at once; otherwise it is freed here, and the device's unfinished work awaited.
  SessionReport run(bool process_ends);
  /// A data connection whose opening was checked; `peer_has` from its preamble. Any thread.
  void attach(std::unique_ptr<Connection> connection, std::uint64_t peer_has);
  /// The loop looks for work again. Any thread.
  void wake();
  /// Ends the session soon, with this reason for the client. Any thread.
  void stop(std::string reason);

  // Handlers of wire::dispatch, one for each call. An error is the client's violation of the
  // protocol and ends the session; CUDA's errors are answered or deferred.
  using Header = wire::FrameHeader;
  Result<> operator()(const Header&, const wire::Hello&);
  Result<> operator()(const Header&, const wire::Ack&);
  Result<> operator()(const Header&, const wire::Ping&);
  Result<> operator()(const Header&, const wire::Goodbye&);
  Result<> operator()(const Header&, const wire::ContextCreate&);
  Result<> operator()(const Header&, const wire::ContextDestroy&);
  Result<> operator()(const Header&, const wire::ContextSynchronize&);
  Result<> operator()(const Header&, const wire::ContextSetLimit&);
  Result<> operator()(const Header&, const wire::ContextGetLimit&);
  Result<> operator()(const Header&, const wire::ContextSetCacheConfig&);
  Result<> operator()(const Header&, const wire::MemMap&);
  Result<> operator()(const Header&, const wire::MemUnmap&);
  Result<> operator()(const Header&, const wire::MemFence&);
  Result<> operator()(const Header&, const wire::MemGetInfo&);
  Result<> operator()(const Header&, const wire::CopyToDevice&);
  Result<> operator()(const Header&, const wire::CopyFromDevice&);
  Result<> operator()(const Header&, const wire::CopyToDeviceFrom&);
  Result<> operator()(const Header&, const wire::CopyFromDeviceTo&);
  Result<> operator()(const Header&, const wire::HostMemoryOpen&);
  Result<> operator()(const Header&, const wire::HostMemoryClose&);
  Result<> operator()(const Header&, const wire::SlotsOpen&);
  Result<> operator()(const Header&, const wire::CopyOnDevice&);
  Result<> operator()(const Header&, const wire::MemSet&);
  Result<> operator()(const Header&, const wire::StreamCreate&);
  Result<> operator()(const Header&, const wire::StreamDestroy&);
  Result<> operator()(const Header&, const wire::StreamSynchronize&);
  Result<> operator()(const Header&, const wire::StreamQuery&);
  Result<> operator()(const Header&, const wire::StreamWaitEvent&);
  Result<> operator()(const Header&, const wire::EventCreate&);
  Result<> operator()(const Header&, const wire::EventDestroy&);
  Result<> operator()(const Header&, const wire::EventRecord&);
  Result<> operator()(const Header&, const wire::EventSynchronize&);
  Result<> operator()(const Header&, const wire::EventQuery&);
  Result<> operator()(const Header&, const wire::EventElapsedTime&);
  Result<> operator()(const Header&, const wire::ModuleLoad&);
  Result<> operator()(const Header&, const wire::ModuleImage&);
  Result<> operator()(const Header&, const wire::ModuleUnload&);
  Result<> operator()(const Header&, const wire::ModuleGetGlobal&);
  Result<> operator()(const Header&, const wire::FunctionSetAttribute&);
  Result<> operator()(const Header&, const wire::FunctionSetCacheConfig&);
  Result<> operator()(const Header&, const wire::OccupancyBlocks&);
  Result<> operator()(const Header&, const wire::LaunchKernel&);
  Result<> operator()(const Header&, const wire::TraceStart&);
  // modules.fbs
  Result<> operator()(const Header&, const wire::LaunchKernelEx&);
  Result<> operator()(const Header&, const wire::StreamSetAttribute&);
  Result<> operator()(const Header&, const wire::OccupancyClusters&);
  Result<> operator()(const Header&, const wire::FunctionLoad&);
  Result<> operator()(const Header&, const wire::LinkCreate&);
  Result<> operator()(const Header&, const wire::LinkAdd&);
  Result<> operator()(const Header&, const wire::LinkComplete&);
  Result<> operator()(const Header&, const wire::LinkDestroy&);
  Result<> operator()(const Header&, const wire::StreamMemoryOperations&);
  Result<> operator()(const Header&, const wire::RemoteWritesFlush&);
  Result<> operator()(const Header&, const wire::TensorMapEncode&);
  Result<> operator()(const Header&, const wire::DeviceResource&);
  Result<> operator()(const Header&, const wire::SmResourceSplit&);
  Result<> operator()(const Header&, const wire::ResourceDescribe&);
  Result<> operator()(const Header&, const wire::GreenContextCreate&);
  Result<> operator()(const Header&, const wire::ContextRecordEvent&);
  Result<> operator()(const Header&, const wire::ContextWaitEvent&);
  // Device memory (memory.fbs): virtual_memory.cc, ipc_calls.cc
  Result<> operator()(const Header&, const wire::MemCreate&);
  Result<> operator()(const Header&, const wire::MemRelease&);
  Result<> operator()(const Header&, const wire::MemMapAt&);
  Result<> operator()(const Header&, const wire::MemSetAccess&);
  Result<> operator()(const Header&, const wire::StreamFollow&);
  Result<> operator()(const Header&, const wire::ContextPeerAccess&);
  Result<> operator()(const Header&, const wire::IpcExportMemory&);
  Result<> operator()(const Header&, const wire::IpcImportMemory&);
  Result<> operator()(const Header&, const wire::IpcExportEvent&);
  Result<> operator()(const Header&, const wire::IpcOpenEvent&);
  // Memory that host and device both use (coherent_calls.cc).
  Result<> operator()(const Header&, const wire::CoherentBegin&);
  Result<> operator()(const Header&, const wire::CoherentEnd&);
  Result<> operator()(const Header&, const wire::CoherentWrite&);
  Result<> operator()(const Header&, const wire::CoherentPull&);
  // Completion that is told unasked (watches.cc), host functions (host_functions.cc).
  Result<> operator()(const Header&, const wire::EventWatch&);
  Result<> operator()(const Header&, const wire::StreamWatch&);
  Result<> operator()(const Header&, const wire::HostFunction&);
  Result<> operator()(const Header&, const wire::HostFunctionDone&);
  // Graphs and capture.
  Result<> operator()(const Header&, const wire::GraphCreate&);
  Result<> operator()(const Header&, const wire::GraphDestroy&);
  Result<> operator()(const Header&, const wire::GraphAddNode&);
  Result<> operator()(const Header&, const wire::GraphNodeSetParams&);
  Result<> operator()(const Header&, const wire::GraphDestroyNode&);
  Result<> operator()(const Header&, const wire::GraphChangeEdges&);
  Result<> operator()(const Header&, const wire::GraphClone&);
  Result<> operator()(const Header&, const wire::GraphOfNode&);
  Result<> operator()(const Header&, const wire::GraphDescribe&);
  Result<> operator()(const Header&, const wire::GraphNodeGetParams&);
  Result<> operator()(const Header&, const wire::GraphFindInClone&);
  Result<> operator()(const Header&, const wire::GraphConditionalCreate&);
  Result<> operator()(const Header&, const wire::GraphSetAttribute&);
  Result<> operator()(const Header&, const wire::GraphCopyAttributes&);
  Result<> operator()(const Header&, const wire::GraphDot&);
  Result<> operator()(const Header&, const wire::GraphInstantiate&);
  Result<> operator()(const Header&, const wire::GraphExecDestroy&);
  Result<> operator()(const Header&, const wire::GraphLaunch&);
  Result<> operator()(const Header&, const wire::GraphUpload&);
  Result<> operator()(const Header&, const wire::GraphExecUpdate&);
  Result<> operator()(const Header&, const wire::GraphNodeSetEnabled&);
  Result<> operator()(const Header&, const wire::StreamBeginCapture&);
  Result<> operator()(const Header&, const wire::StreamEndCapture&);
  Result<> operator()(const Header&, const wire::StreamCaptureInfo&);
  Result<> operator()(const Header&, const wire::StreamChangeDependencies&);
  Result<> operator()(const Header&, const wire::StreamCaptureNode&);
  Result<> operator()(const Header&, const wire::StreamCaptureHost&);
  Result<> operator()(const Header&, const wire::HostCallDone&);
  // Arrays, textures and surfaces.
  Result<> operator()(const Header&, const wire::ArrayCreate&);
  Result<> operator()(const Header&, const wire::ArrayDestroy&);
  Result<> operator()(const Header&, const wire::ArrayPart&);
  Result<> operator()(const Header&, const wire::ArrayRequirements&);
  Result<> operator()(const Header&, const wire::CopyToArray&);
  Result<> operator()(const Header&, const wire::CopyFromArray&);
  Result<> operator()(const Header&, const wire::CopyToArrayFrom&);
  Result<> operator()(const Header&, const wire::CopyFromArrayTo&);
  Result<> operator()(const Header&, const wire::CopyBox&);
  Result<> operator()(const Header&, const wire::TextureCreate&);
  Result<> operator()(const Header&, const wire::TextureDestroy&);
  Result<> operator()(const Header&, const wire::SurfaceCreate&);
  Result<> operator()(const Header&, const wire::SurfaceDestroy&);
  // CUDA libraries (library_calls.cc).
  Result<> operator()(const Header&, const wire::LibraryOpen&);
  Result<> operator()(const Header&, const wire::LibraryCall&);
  Result<> operator()(const Header&, const wire::LibraryAsk&);
  /// Calls whose handlers are generated (simple_handlers.h).
  template <class Body>
    requires(SimpleCall<Body>::exists)
  Result<> operator()(const Header& header, const Body& body) {
    using Reply = typename wire::CallTraits<Body>::Reply;
    Resolver resolver{*this};
    if constexpr (std::is_void_v<Reply>) {
      return finish(header, SimpleCall<Body>::run(driver_, resolver, body));
    } else {
      Reply reply;
      const CUresult status = SimpleCall<Body>::run(driver_, resolver, body, reply);
      return status == CUDA_SUCCESS ? answer(header, reply) : finish(header, status);
    }
  }

 private:
  /// The driver's handles of names, for generated handlers.
  struct Resolver {
    Session& session;
    CUresult context(std::uint64_t name, CUcontext& handle) {
      CUresult status = CUDA_SUCCESS;
      Context* found = session.find_context(name, status);
      if (found == nullptr) return status;
      session.make_current(*found);
      handle = found->handle;
      return CUDA_SUCCESS;
    }
    CUresult device(std::int32_t ordinal, CUdevice& handle) {
      if (ordinal < 0 || ordinal >= session.device_count_) return CUDA_ERROR_INVALID_DEVICE;
      handle = ordinal;
      return CUDA_SUCCESS;
    }
  };

  CUresult open_event(std::uint64_t name, std::uint64_t context, const IpcBytes& given);
  class UploadSink;
  CUresult still_there(const Held& copy, const Extent& extent);
  class ImageSink;
  class DiscardSink;
  friend class UploadSink;
  friend class ImageSink;

  // ---- loop (session.cc)
  bool round();
  bool take_connection();
  bool handle_frames();
  Result<> handle(InFrame& frame);
  void sleep_or_spin(bool progress);
  void link_was_lost();
  void close_with(const std::string& reason);
  void end(std::string reason);
  void drain_output();
  void capture_output();
  bool everything_done() const;
  bool paused() const;

  // ---- answers
  /// The call is done: an answer where one is awaited, a DeferredError where a posted one failed.
  Result<> finish(const Header& call, int status);
  template <class Reply>
  Result<> answer(const Header& call, const Reply& reply) {
    link_.reply(call, CUDA_SUCCESS, {reinterpret_cast<const std::byte*>(&reply), sizeof reply});
    return {};
  }
  /// A call that was answered already, or is posted, has failed.
  void fail_later(const Header& call, int status);
  /// A held call, perhaps begun, whose object is gone.
  void fail_held(const Held& held, CUresult status);
  Result<> answer_when_done(const Header& call, Stream& stream);
  /// The same for a call whose answer says that work is done: behind the bytes it covers.
  Result<> finish_after_downloads(const Header& call, int status);
  /// Takes and drops the payload that follows the current frame, if one does.
  void discard_payload();

  // ---- objects (names.cc)
  /// The object, or null with the error that the call gets.
  Context* find_context(std::uint64_t name, CUresult& status);
  Stream* find_stream(std::uint64_t name, CUresult& status);
  Event* find_event(std::uint64_t name, CUresult& status);
  Module* find_module(std::uint64_t name, CUresult& status);
  Function* find_function(std::uint64_t module, std::uint32_t index, Module*& owner, CUresult& status);
  void make_current(Context& context);
  Stream* add_stream(std::uint64_t name, Context& context);
  /// Puts a stream that lost its name aside until it is idle.
  void retire_stream(std::uint64_t name);
  /// What is done to a stream before work is issued to it: its context, pending fences.
  void before_issue(Stream& stream);
  void stream_turned_idle(Stream& stream);
  /// No event refers to frames of a stream that is about to be freed.
  void forget_held_points(const Stream& stream);
  void destroy_context(Context* context);
  /// Once no helper makes a library's call in the context, which has lost its name. Once for a context.
  void when_left(Context& context, std::function<void()> action);
  void free_events_of(Context& context);
  void free_modules_of(Context& context);
  void destroy_event(std::unique_ptr<Event> event);
  bool poll_event_waits();
  /// The device's primary context, retained for the session's own needs.
  CUcontext primary(int device);
  void fence(std::vector<Stream*> busy);
  std::vector<Stream*> all_streams();

  // ---- held frames (backlog.cc)
  /// True when the current frame must wait: it has been copied and will be dispatched again.
  bool hold(Stream& stream, const std::vector<HeldPoint>& after = {});
  bool must_hold(Stream& stream, std::vector<HeldPoint>& after);
  /// Holds a frame of no stream behind everything held on `streams`. As hold().
  bool hold_behind(const std::vector<Stream*>& streams, bool barrier);
  /// Holds a frame that changes a function, behind the held launches of it; later launches of
  /// it follow. As hold().
  bool hold_setting(const Module& module, std::uint32_t index);
  /// Where the held changes of a function end; null stream when none is held.
  HeldPoint held_setting(std::uint64_t module, std::uint32_t index);
  Held copy_of_frame();
  void keep(Stream& lane, Held held);
  bool ready(const Held& held) const;
  bool room_in(const Stream& stream) const;
  bool pump_held();
  bool pump_lane(Stream& lane);
  bool replay(Held& held);
  /// Where the stream's held frames end now; null stream when none is held.
  static HeldPoint held_end(Stream& stream);

  // ---- graphs (graphs.cc, graph_params.cc, graph_execs.cc)
  struct Edges {
    std::vector<CUgraphNode> nodes;
    std::vector<CUgraphEdgeData> data;
  };
  Graph* find_graph(std::uint64_t name, CUresult& status);
  GraphNode* find_node(std::uint64_t name, CUresult& status);
  GraphExec* find_exec(std::uint64_t name, CUresult& status);
  GraphNode* add_node(std::uint64_t name, Graph* graph);
  void set_node(GraphNode& node, CUgraphNode handle);
  bool name_inner(GraphNode& node, std::uint64_t name, CUgraph handle);
  std::uint64_t name_of_node(Graph& graph, CUgraphNode handle, std::uint64_t& next);
  bool name_of_function(CUfunction handle, std::uint64_t& module, std::uint32_t& index);
  void forget_graph(std::uint64_t name);
  bool captures_into(const Graph& graph);
  bool captures_into(const GraphNode& node);
  void forget_node(std::uint64_t name);
  void destroy_graphs_of(Context& context);
  Result<> read_edges(Graph& graph, PayloadReader& reader, std::uint32_t count, Edges& edges, CUresult& status);
  Result<> read_params(unsigned type, ConstBytes payload, NodeParams& node, CUresult& status);
  Result<> read_kernel(PayloadReader& reader, NodeParams& node, CUresult& status);
  Result<> read_copy(PayloadReader& reader, NodeParams& node, CUresult& status);
  Result<> read_fill(PayloadReader& reader, NodeParams& node, CUresult& status);
  Result<> read_conditional(PayloadReader& reader, NodeParams& node, CUresult& status);
  Result<> read_batch(PayloadReader& reader, NodeParams& node, CUresult& status);
  CUresult write_params(const GraphNode& node, CUgraphNodeType type, std::vector<std::byte>& out);
  CUresult write_kernel(const GraphNode& node, std::vector<std::byte>& out);
  Result<> answer_table(const Header& call, const flatbuffers::FlatBufferBuilder& builder);
  std::vector<HeldPoint> before_recording(const GraphExec& exec);
  bool push_host_calls();

  // ---- capture (capture.cc)
  void look_at_capture(Stream& stream);
  void prepare_capture(Stream& stream);
  CUresult end_capture(Stream& stream, std::vector<Capture>::iterator capture, bool discard);
  void abandon_captures(const Context* context);
  void abandon_capture_of(const Stream& stream);
  void note_captured_record(Stream& stream, std::uint64_t event);
  CUresult capture_state(Stream& stream, Graph*& graph, const CUgraphNode*& nodes, const CUgraphEdgeData*& data,
                         std::size_t& count);

  // ---- copies (copies.cc)
  CUresult check_extent(const Extent& extent) const;
  Result<> upload(const Header& call, std::uint64_t stream_name, const Extent& extent);
  Result<> download_reply(const Header& call, std::uint64_t stream_name, const Extent& extent);
  bool issue_upload(Held& held, Stream& stream, const Extent& extent);
  CUresult upload_piece(Stream& stream, const CopyPiece& piece, Chunk* chunk, const std::byte* data);
  Result<> download(const Header& call, Stream& stream, const Extent& extent, const std::optional<PeerMemory>& to);
  Result<> download_small(const Header& call, Stream& stream, const Extent& extent,
                          const std::optional<PeerMemory>& to);
  Result<> upload_whole(const Header& call, Stream& stream, const Extent& extent, ConstBytes payload);

  // ---- copies by one-sided access (one_sided_calls.cc)
  void use_one_sided(OneSided* one_sided);
  bool maps() const { return one_sided_->traits().maps; }
  /// Where the copy's bytes lie at the client, or in the slots.
  CUresult find_peer_memory(const wire::RemoteKeyWords& key, std::uint64_t offset, std::uint64_t bytes,
                            RemoteAccess access, PeerMemory& found);
  struct PeerCopy {
    Extent extent;
    Stream* stream = nullptr;
    PeerMemory memory;
    bool now = false;  // it is to be issued
  };
  /// What all such copies begin with: the copy is refused, held, or to be issued now.
  template <class Body>
  Result<> check_peer_copy(const Header& header, const Body& call, RemoteAccess access, PeerCopy& copy);
  template <class Body>
  Result<> copy_from_peer(const Header& header, const Body& call, const Extent& extent);
  template <class Body>
  Result<> copy_to_peer(const Header& header, const Body& call, const Extent& extent);
  /// The call is refused; what a held one has begun ends.
  Result<> refuse(const Header& header, CUresult status);
  Result<> copy_directly(const Header& header, const PeerCopy& copy, RemoteAccess access);
  /// The copy is one that the adapter makes, or has begun to make.
  bool by_adapter(const PeerCopy& copy);
  Result<> copy_by_adapter(const Header& header, PeerCopy copy, RemoteAccess access);

  // ---- arrays (array_calls.cc, array_copies.cc, texture_calls.cc)
  Array* find_array(std::uint64_t name, CUresult& status);
  /// The rows of an array that a call names: known to lie inside of it.
  CUresult find_rows(const wire::ArrayRows& rows, std::uint64_t width, std::uint64_t height, Extent& extent);
  void make_array_on_helper(Header call, wire::ArrayCreate body);
  void array_made(const Header& call, const wire::ArrayCreate& body, CUarray array, CUmipmappedArray mipmapped,
                  CUresult status);
  void make_waiting_arrays();
  void free_array(const Array& array);
  void free_arrays_of(Context& context);
  /// One side of a CopyBox: filled in, or refused.
  CUresult find_side(const wire::DeviceBox& box, const wire::CopyBox& call, CUmemorytype& type, CUarray& array,
                     RowsInArray& at, std::uint64_t& slice_rows);
  CUresult find_resource(const wire::Resource& from, CUDA_RESOURCE_DESC& resource);
  /// Runs `action` on the loop once all work of the context issued so far has finished.
  void when_idle(Context& context, std::function<void()> action);

  // ---- memory (memory_calls.cc)
  void map_on_helper(Header call, wire::MemMap body);
  void unmap_when_done(Header call, wire::MemUnmap body);
  void unmap_on_helper(Header call, wire::MemUnmap body);
  bool unmap_pending(std::uint64_t address, std::uint64_t bytes) const;
  void map_waiting();
  /// What the client has given back is not free yet.
  bool memory_coming_back() const { return !unmaps_.empty() || arrays_going_ != 0; }

  // ---- memory apart from addresses (virtual_memory.cc), shared between sessions (ipc_calls.cc)
  void create_on_helper(Header call, wire::MemCreate body);
  bool in_device_range(std::uint64_t address, std::uint64_t bytes) const;
  bool in_host_range(std::uint64_t address, std::uint64_t bytes) const;
  /// How physical memory of the device is made.
  CUmemAllocationProp memory_property(int device);
  /// The device and those that can reach it, for cuMemSetAccess.
  std::vector<CUmemAccessDesc> access_with_peers(int device) const;
  void release_physical();
  // ---- memory that host and device both use (coherent_calls.cc)
  void answer_pull(const Header& header, const CoherentMemory::Changes& changes, bool idle);
  /// Runs it now, or when the comparison under way has ended: it takes away what that reads.
  void when_not_comparing(std::function<void()> action);
  void forget_globals(std::uint64_t module);
  bool is_managed(CUdeviceptr address) const;
  // ---- completion told unasked (watches.cc)
  /// Tells the client of watched events and streams that have finished. Before every answer that work is
  /// done: what that work came after must be known to be done by then.
  bool poll_watches();
  bool poll_watched_events();
  bool poll_watched_streams();
  void tell_event(Event& event, CUresult status);
  void tell_stream(Stream& stream, CUresult status);
  /// What kernels of the context printed has left by then; `event` has finished.
  void flush_output(Context& context, CUevent event);
  void flush_output(Stream& stream);

  // ---- host functions (host_functions.cc)
  void tell_turn(std::uint64_t function, CUresult status);
  /// The client is leaving: nobody will say any more that a host function has run.
  void end_host_functions();

  // ---- modules (modules.cc)
  void load_on_helper(Header call, Module& module, const wire::ModuleLoad& body);
  /// The image with this hash that the client has sent and nothing has taken yet; empty: none.
  std::vector<std::byte> take_image(const wire::ContentHash& hash);
  void function_loaded(const Header& call, std::uint64_t module, std::uint32_t index, CUresult status,
                       std::vector<std::int32_t> attributes);

  // ---- links (links.cc)
  Linker* find_link(std::uint64_t name, CUresult& status);
  void link_done(std::uint64_t name);
  void free_links_of(const Context& context);

  // ---- memory operations of streams (stream_memory.cc)
  /// Memory that a stream may wait for or write on the client's behalf.
  bool may_address(std::uint64_t address, std::uint64_t bytes) const;

  // ---- CUDA libraries (library_calls.cc)
  /// The call is held: for its stream, and behind every held call of a library. stream null: of none.
  bool hold_library_call(Stream* stream);
  template <class Call>
  Result<> prepare_library_call(const Header& header, const Call& call, Stream*& stream, Context*& context, bool& held);
  std::shared_ptr<LibraryArguments> library_arguments(const LibraryDescription& library, std::vector<std::uint64_t> words);
  void before_library_call(Context& context, Stream* stream);
  void after_library_call(Stream* stream);
  Result<> answer_library(const Header& header, int status, const std::vector<std::uint64_t>& results);

  // ---- beginning and end (hello.cc)
  CUresult open_devices();
  void reserve_ranges(const wire::Hello& hello);
  void teardown();

  const SessionOptions options_;
  std::string name_ = options_.name;
  DriverTable driver_;
  bool open_ = false;  ///< Hello has been answered
  /// The connection after its end. What it maps is used until the device is done with it.
  std::unique_ptr<Connection> ended_connection_;
  Link link_;
  Completions completions_{driver_};
  Arena arena_;
  /// The connection's, or null: payload travels in the stream. A session that can be resumed,
  /// on another connection, does without.
  OneSided* one_sided_ = nullptr;
  Accesses accesses_;
  Downloads downloads_;
  Fetches fetches_;
  GpuDirect gpu_direct_{driver_, memory_};
  DirectCopies direct_copies_{gpu_direct_, completions_, downloads_, accesses_};
  Helpers helpers_;
  Tracer tracer_{driver_, completions_, link_};
  HostRegions regions_;
  ModuleCache cache_;
  SessionLibraries libraries_;

  Names<Context> contexts_;
  Names<Stream> streams_;
  Names<Event> events_;
  Names<Module> modules_;
  Names<Linker> links_;
  Names<Resource> resources_;
  Names<Description> descriptions_;
  /// Helpers that are loading functions, by module, and unloads that wait for them.
  std::map<std::uint64_t, std::uint32_t> function_loads_;
  std::map<std::uint64_t, std::function<void()>> held_unloads_;
  /// Unloaded while graphs may hold their kernels: until the context goes.
  std::vector<std::unique_ptr<Module>> retired_modules_;
  Names<Graph> graphs_;
  Names<GraphNode> graph_nodes_;
  Names<GraphExec> graph_execs_;
  std::unordered_set<CUgraphConditionalHandle> conditional_handles_;
  std::vector<Capture> captures_;
  HostCalls host_calls_{[this] { wake(); }};
  Names<Array> arrays_;
  std::uint64_t arrays_going_ = 0;  ///< destroyed, their memory not back yet
  std::vector<std::pair<Header, wire::ArrayCreate>> waiting_arrays_;  ///< found no memory while some is on its way back
  std::vector<std::unique_ptr<Context>> dying_contexts_;
  std::vector<std::unique_ptr<Stream>> dying_streams_;
  std::vector<std::unique_ptr<Stream>> freed_streams_;  ///< until no held frame can refer to them
  struct EventWait {
    Header call;
    CUevent event;
    Context* context;
  };
  std::vector<EventWait> event_waits_;
  std::vector<std::unique_ptr<Event>> dying_events_;  ///< destroyed while somebody waits
  std::vector<std::uint64_t> watched_events_, watched_streams_;  ///< names, oldest first
  std::vector<std::uint64_t> unfinished_;  ///< of poll_watched_events: streams with an event that has not finished
  bool polling_watches_ = false;
  std::uint64_t handled_ = 0;  ///< the last frame that has been issued or held
  std::map<std::uint64_t, std::shared_ptr<HostTurn>> host_turns_;  ///< by function, until it has run
  Context* current_ = nullptr;
  int arena_device_ = 0;
  int device_count_ = 0;
  std::string problem_;  ///< why the devices could not be opened, where it is known
  std::vector<std::vector<bool>> peers_;   ///< [device][device]: can access
  std::vector<CUcontext> primary_;         ///< retained for helpers and the arena, by device
  std::uint64_t granularity_ = 0;
  wire::AddressRange device_range_, host_range_;

  /// Through which payload passes that does not lie in pinned memory.
  struct Slots {
    bool asked = false;                  // SlotsOpen has come
    RemoteKey client_key;                // as it named the memory
    std::shared_ptr<HostRegion> region;  // what copies to the device read; null: not open
    RemoteKey key;                       // where copies from the device go; zero: `region`
  } slots_;
  std::uint64_t copied_bytes_ = 0;       ///< payload that the CPU moved

  AddressMap memory_;
  CoherentMemory coherent_{driver_};
  bool comparing_ = false;  ///< a helper is in coherent_.compare()
  std::deque<std::function<void()>> after_comparing_;
  struct PendingUnmap {
    std::uint64_t address, bytes, sequence;
  };
  std::vector<PendingUnmap> unmaps_;
  std::uint64_t unmapped_ = 0;  // unmaps done, and arrays that went
  std::vector<std::pair<Header, wire::MemMap>> waiting_maps_;
  Names<Physical> physical_;
  std::vector<std::pair<Header, wire::MemCreate>> waiting_creates_;
  /// A posted mapping of addresses whose memory is still being taken away: no frame passes it.
  std::optional<std::pair<Header, wire::MemMapAt>> stalled_map_;
  std::vector<bool> exportable_;         ///< by device: its memory can be shared with other sessions
  std::unique_ptr<MemoryExports> exports_;  ///< from the first export on
  std::vector<std::pair<std::uint64_t, std::uint64_t>> mapping_now_;

  // Fences: streams wait for the event before their next work.
  struct Fence {
    std::uint64_t count = 0;
    CUevent event = nullptr;
    Context* context = nullptr;
  };
  Fence fence_;
  Fence beside_fence_;  ///< of streams that do not wait for the other (Stream::beside)

  std::vector<Stream*> lanes_;    ///< streams with held frames
  Stream barriers_;               ///< lane of frames that everything later must follow
  std::list<Held> floating_;      ///< held frames of no stream
  Stream library_lane_;           ///< lane of library calls of no stream
  HeldPoint held_library_;        ///< the last library call that was held
  /// Lanes of held changes of functions, by module and index; as long as any frame is held.
  std::map<std::pair<std::uint64_t, std::uint32_t>, Stream> settings_;
  std::uint64_t held_sequence_ = 0;
  std::uint64_t held_bytes_ = 0;
  std::uint64_t spilled_bytes_ = 0;  ///< of a payload being received to ordinary memory
  bool pumping_ = false;

  // The frame being handled.
  InFrame* frame_ = nullptr;
  Held* replaying_ = nullptr;     ///< it comes from the held ones
  bool incomplete_ = false;       ///< it was issued in part and stays at the front

  std::unique_ptr<PayloadSink> sink_;  ///< of the payload being received
  std::vector<std::pair<wire::ContentHash, std::vector<std::byte>>> images_;  ///< sent, not yet verified
  std::uint64_t image_bytes_ = 0;

  std::vector<std::function<void()>> later_;  ///< run by the loop, outside of completions
  std::uint64_t calls_ = 0;
  bool ended_ = false, closing_ = false;
  std::chrono::steady_clock::time_point closing_since_;
  std::optional<Header> goodbye_;  ///< to be answered when everything is done
  std::string reason_;
  std::optional<std::chrono::steady_clock::time_point> lost_since_;
  std::chrono::steady_clock::time_point quiet_since_;
  Descriptor output_pipe_;         ///< what the process writes to stdout, captured
  std::mutex output_mutex_;
  std::string output_[2];          ///< printed by kernels, not sent yet (stdout, stderr); guarded by output_mutex_

  std::mutex door_mutex_;
  std::condition_variable door_;
  // Guarded by door_mutex_.
  std::unique_ptr<Connection> arrived_;
  std::uint64_t arrived_has_ = 0;
  Connection* wakeable_ = nullptr;
  bool woken_ = false;
  std::string stop_reason_;
  bool stop_ = false;
};

}  // namespace avec::worker
