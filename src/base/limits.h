// Every limit of AVEC, with its unit and its reason. Each is tested at one below, at, and
// one above.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace avec::limits {

using namespace std::chrono_literals;

/// Body of one frame, bytes. The largest is ModuleLoadReply: 10,000 functions of 400 bytes.
inline constexpr std::uint32_t kMaxBodyBytes = 16u << 20;
/// Payload of one frame, bytes: more than any GPU's memory.
inline constexpr std::uint64_t kMaxPayloadBytes = std::uint64_t{1} << 40;
/// Parameter buffer of a kernel, bytes: CUDA's own limit from compute capability 7.0.
inline constexpr std::uint32_t kMaxParameterBytes = 32764;
/// Handshake message, bytes: an allow-list of variables fits a hundred times.
inline constexpr std::uint32_t kMaxHandshakeBytes = 64u << 10;
/// FlatBuffers tables in one body and their nesting, for the Verifier.
inline constexpr std::uint32_t kMaxTables = 200'000;
inline constexpr std::uint32_t kMaxTableDepth = 16;

/// Payload up to this is copied into the send buffer; a larger one goes out from where it
/// lies and the caller waits until it has left. A memcpy of 64 KiB takes about 8 us, what
/// a second system call and a wake-up cost.
inline constexpr std::size_t kInlinePayloadBytes = 64u << 10;
/// Payload from this on takes the stripes of a TCP connection, which costs a round trip more than the
/// stream does; smaller payload stays in the stream.
inline constexpr std::size_t kStripedBytes = std::size_t{512} << 10;
/// Where nobody says how many: no stripes on a link whose round trip is longer.
inline constexpr auto kStripedRoundTrip = 1ms;
/// Stripes of one connection: each takes a thread at either end.
inline constexpr unsigned kMaxTcpStreams = 16;
/// The send buffer, bytes: the poster waits for room beyond. 10,000 launches.
inline constexpr std::size_t kSendBufferBytes = 1u << 20;
/// Frames kept for resending, bytes, when the session can be resumed.
inline constexpr std::size_t kReplayBytes = 8u << 20;

/// One slot of a session, bytes, and their number: payload in pageable memory passes through them
/// (docs/zero-copy.md). A megabyte takes a copy engine 20 us, several times what its frame costs,
/// and the half of them that one stream may have keeps 100 Gbit/s full over a round trip of 1.3 ms.
inline constexpr std::size_t kSlotBytes = 1u << 20;
inline constexpr std::size_t kSlots = 32;
/// Several threads copy payload into and out of slots from this many bytes on; and at most so many.
inline constexpr std::size_t kThreadedCopyBytes = 2u << 20;
inline constexpr unsigned kMaxCopyThreads = 64;

/// Deferred replies under way in one session: as many copies from the device as a program
/// queues at once; the next one waits.
inline constexpr std::size_t kMaxDeferred = 4096;
/// Workers that an executor starts ahead of their sessions.
inline constexpr std::size_t kMaxSpareWorkers = 64;
/// Text that an executor pushes (device output, reason of an end), bytes of one frame.
inline constexpr std::size_t kMaxTextBytes = 1u << 20;

/// One chunk of the executor's pinned arena, bytes: 4 MiB copies reach 53 of 55 GB/s.
inline constexpr std::size_t kChunkBytes = 4u << 20;
/// The arena of a worker, bytes; a payload waits for a free chunk beyond.
inline constexpr std::size_t kArenaBytes = 64u << 20;
/// Slots of one session, bytes: pinned at both ends for as long as it lasts.
inline constexpr std::uint64_t kMaxSlotsBytes = 256u << 20;
/// Posted work held back because a stream's queue is full, bytes of frames per session.
inline constexpr std::size_t kBacklogBytes = 64u << 20;
/// Work that a client adds while host functions of its streams have not run, bytes and frames: the thread
/// that adds more waits for them. The executor keeps it, beside kBacklogBytes.
inline constexpr std::size_t kHostFunctionBytes = 32u << 20;
inline constexpr std::uint64_t kHostFunctionFrames = 64u << 10;
/// Host functions of one session that have not run.
inline constexpr std::size_t kMaxHostFunctions = 64u << 10;
/// StreamDones that one StreamWatch can ask for.
inline constexpr std::uint64_t kMaxStreamPushes = 1024;
/// Launches issued to one stream and not known to have finished. The driver blocks at
/// about 1,024; the dispatcher must not.
inline constexpr std::uint32_t kLaunchWindow = 512;

/// The common address ranges, bytes. That of the device: programs reserve more than the GPU's memory for each
/// of several growing segments (PyTorch), and addresses rest while work drains. The smaller one, where the
/// executor's driver refuses: twice the memory of a GPU.
inline constexpr std::uint64_t kDeviceRangeBytes = std::uint64_t{1} << 40;
inline constexpr std::uint64_t kSmallDeviceRangeBytes = std::uint64_t{1} << 38;
inline constexpr std::uint64_t kHostRangeBytes = std::uint64_t{1} << 38;

/// Memory that one end of a connection shares with the other: how many pieces, and bytes together. A
/// process may have 65,530 mappings; the bytes are those of the range in which the memory lies.
inline constexpr std::size_t kMaxSharedMemories = 4096;
inline constexpr std::uint64_t kMaxSharedBytes = kHostRangeBytes;

/// Memory that host and device both use (docs/decisions/0006-coherence-by-comparison.md): how many
/// ranges, and bytes together, of one session; every byte costs the executor another for its shadow.
inline constexpr std::size_t kMaxCoherentRanges = 1u << 16;
inline constexpr std::uint64_t kMaxCoherentBytes = kHostRangeBytes;
/// What the device changed: a run up to this travels in the reply, a longer one by a copy of its own;
/// and a reply ends when it has so many bytes, or runs.
inline constexpr std::size_t kCoherentInlineBytes = kInlinePayloadBytes;
inline constexpr std::size_t kCoherentReplyBytes = 1u << 20;
inline constexpr std::size_t kCoherentReplyRuns = 4096;

/// Sessions of one broker.
inline constexpr std::uint32_t kMaxSessions = 256;
/// Addresses that one broker listens on.
inline constexpr std::size_t kMaxListeners = 16;
/// Connections that have not yet authenticated; the oldest is dropped beyond.
inline constexpr std::uint32_t kMaxPendingConnections = 1024;
inline constexpr auto kAuthenticationDeadline = 5s;
/// Connecting, authenticating and the worker's first answer, together.
inline constexpr auto kConnectDeadline = 5s;
/// A ticket is worth something until its first data connection comes, this long; then as long as its session.
inline constexpr auto kTicketLifetime = 30s;
/// Openings of a session whose serials are remembered; older ones than these are refused.
inline constexpr std::size_t kRememberedOpenings = 1024;
/// A worker that lost its client ends within this.
inline constexpr auto kTeardownDeadline = 1s;
/// A posted call leaves the client within this with no further call.
inline constexpr auto kDeparture = 50us;
/// Sessions of a broker that has been told to stop go on for so long at most.
inline constexpr auto kMaxDrain = 86'400s;

/// Names of one kind (streams, events, modules ...) in one session.
inline constexpr std::uint32_t kMaxHandles = 1u << 20;
/// Pieces of memory that one session has exported to others: each holds a descriptor.
inline constexpr std::size_t kMaxExports = 1024;
/// Levels and planes of one array that have names: each level at most once is all a client needs.
inline constexpr std::size_t kMaxArrayParts = 256;
/// One module image, bytes: the largest fatbins of deep learning libraries have 1 GiB.
inline constexpr std::uint64_t kMaxImageBytes = std::uint64_t{2} << 30;
/// Threads of one worker that run calls which may block; more such calls wait for one.
inline constexpr std::uint32_t kMaxHelperThreads = 64;
/// Cached module images of one broker's machine, bytes.
inline constexpr std::uint64_t kModuleCacheBytes = std::uint64_t{4} << 30;

}  // namespace avec::limits
