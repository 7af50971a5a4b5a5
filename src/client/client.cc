#include "client/client.h"

#include <fstream>
#include <utility>

#include "base/settings.h"
#include "base/wait_mode.h"
#include "client/callbacks.h"
#include "client/coherence.h"
#include "client/context.h"
#include "client/device.h"
#include "client/heap.h"
#include "client/host_calls.h"
#include "client/host_memory.h"
#include "client/ipc.h"
#include "client/library_call.h"
#include "client/memory_pool.h"
#include "client/managed.h"
#include "client/payload.h"
#include "client/progress.h"
#include "client/slab.h"
#include "client/trace.h"
#include "client/status.h"
#include "client/virtual_memory.h"
#include "session/session.h"
#include "wire/handshake.h"

extern char** environ;

namespace avec::client {
namespace {

/// Ranges offered of each kind: one may be free here and taken on the executor.
constexpr std::size_t kOfferedRanges = 4;

/// Variables that decide how CUDA behaves; an entry that ends in '*' is a prefix.
constexpr std::array<std::string_view, 14> kForwarded{"CUDA_VISIBLE_DEVICES",
                                                      "CUDA_DEVICE_ORDER",
                                                      "CUDA_LAUNCH_BLOCKING",
                                                      "CUDA_MODULE_LOADING",
                                                      "CUDA_FORCE_PTX_JIT",
                                                      "CUDA_DISABLE_PTX_JIT",
                                                      "CUDA_FORCE_JIT",
                                                      "CUDA_DISABLE_JIT",
                                                      "CUDA_CACHE_DISABLE",
                                                      "CUDA_CACHE_MAXSIZE",
                                                      "CUDA_DEVICE_MAX_CONNECTIONS",
                                                      "CUBLAS_WORKSPACE_CONFIG",
                                                      "NVIDIA_TF32_OVERRIDE",
                                                      "NCCL_*"};

std::vector<std::pair<std::string, std::string>> forwarded_environment() {
  std::vector<std::pair<std::string, std::string>> found;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view line = *entry;
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view name = line.substr(0, equals);
    for (const std::string_view allowed : kForwarded) {
      const bool fits =
          allowed.ends_with('*') ? name.starts_with(allowed.substr(0, allowed.size() - 1)) : name == allowed;
      if (fits) found.emplace_back(name, line.substr(equals + 1));
    }
  }
  return found;
}

std::string program_name() {
  std::ifstream file("/proc/self/comm");
  std::string name;
  std::getline(file, name);
  return name;
}

std::vector<wire::AddressRange> as_wire(const std::vector<AddressReservation>& reservations) {
  std::vector<wire::AddressRange> ranges;
  for (const auto& reservation : reservations) ranges.emplace_back(reservation.base(), reservation.bytes());
  return ranges;
}

CoherenceMode coherence_mode(std::string_view setting) {
  if (setting == "off") return CoherenceMode::kOff;
  return setting == "all" ? CoherenceMode::kAll : CoherenceMode::kAuto;
}

/// The reservation that the executor chose; the others are released with `reservations`.
AddressReservation chosen(std::vector<AddressReservation>& reservations, const wire::AddressRange* range) {
  if (range != nullptr && range->bytes() != 0) {
    for (auto& reservation : reservations) {
      if (reservation.base() == range->base() && reservation.bytes() == range->bytes())
        return std::move(reservation);
    }
  }
  return {};
}

}  // namespace

std::expected<ConnectOptions, OpenFailure> options_from_settings() {
  const Settings& settings = client_settings();
  ConnectOptions options;
  options.executor = settings.text("executor");
  options.device = settings.text("device");
  options.wait = settings.text("wait");
  options.program = program_name();
  options.connect_deadline = std::chrono::milliseconds(settings.number("connect-deadline"));
  options.spin = std::chrono::microseconds(settings.number("spin"));
  options.copy_threads = static_cast<unsigned>(
      std::min<std::uint64_t>(settings.number("copy-threads"), limits::kMaxCopyThreads));
  options.tcp_streams = static_cast<unsigned>(
      std::min<std::uint64_t>(settings.number("tcp-streams"), limits::kMaxTcpStreams));
  options.bind_address_ranges = settings.flag("bind-address-ranges");
  options.coherence = settings.text("coherence");
  options.credentials.certificate = settings.text("tls-certificate");
  options.credentials.key = settings.text("tls-key");
  options.credentials.authority = settings.text("tls-ca");
  options.credentials.revoked = settings.text("tls-crl");
  options.server_name = settings.text("tls-server-name");
  options.encryption = tls::encryption_of(settings.text("transport-encryption"));
  if (const std::string path(settings.text("token-file")); !path.empty()) {
    auto token = wire::read_token_file(path);
    if (!token) return std::unexpected(OpenFailure{CUDA_ERROR_NOT_PERMITTED, token.error()});
    options.token = std::move(*token);
  }
  return options;
}

Client::Client() : watched_(std::make_unique<Watched>()) {}

std::expected<std::unique_ptr<Client>, OpenFailure> Client::open(const ConnectOptions& options) {
  auto device_ranges = reserve_candidates(RangeUse::kDevice, kOfferedRanges, options.bind_address_ranges);
  auto host_ranges = reserve_candidates(RangeUse::kHost, kOfferedRanges, options.bind_address_ranges);
  std::unique_ptr<Client> client(new Client);
  session::Options wanted;
  wanted.executor = options.executor;
  wanted.device = options.device;
  wanted.token = options.token;
  wanted.credentials = options.credentials;
  wanted.server_name = options.server_name;
  wanted.encryption = options.encryption;
  wanted.program = options.program;
  wanted.wait_mode = wait_mode_of(options.wait);
  wanted.spin = options.spin;
  wanted.tcp_streams = options.tcp_streams;
  wanted.observer = options.trace;
  wanted.connect_deadline = options.connect_deadline;
  wanted.environment = forwarded_environment();
  wanted.device_ranges = as_wire(device_ranges);
  wanted.host_ranges = as_wire(host_ranges);

  session::Callbacks callbacks;
  callbacks.deferred_error = [raw = client.get()](wire::Opcode, std::uint64_t, int status) {
    raw->posted_call_failed(status);
  };
  callbacks.pushed = [raw = client.get()](wire::Opcode opcode, ConstBytes body) { raw->pushed(opcode, body); };
  callbacks.closed = [raw = client.get()](const std::string& reason) { raw->session_lost(reason); };
  callbacks.notice = [](const std::string& what) { say(what); };
  callbacks.host_call = [raw = client.get()](std::uint64_t call, std::uint64_t function) {
    host_call(*raw, call, function);
  };
  callbacks.device_output = [](int descriptor, std::string_view text) {
    write_device_output(descriptor, text);
  };
  auto session = session::Session::open(std::move(wanted), std::move(callbacks));
  if (!session)
    return std::unexpected(OpenFailure{open_failure_to_cuda(session.error().error), session.error().message});

  const wire::HelloReply& hello = (*session)->hello();
  AddressReservation device_range = chosen(device_ranges, hello.device_range());
  AddressReservation host_range = chosen(host_ranges, hello.host_range());
  if (device_range.bytes() == 0) {
    return std::unexpected(
        OpenFailure{CUDA_ERROR_SYSTEM_NOT_READY,
                    "no address range is free both here and on " + (*session)->peer() +
                        "; without one device memory cannot be addressed (is ulimit -v set?)"});
  }
  if (hello.devices() == nullptr || hello.devices()->size() == 0) {
    return std::unexpected(
        OpenFailure{CUDA_ERROR_NO_DEVICE, "the executor " + (*session)->peer() +
                                              " has no device for this session; check CUDA_VISIBLE_DEVICES"});
  }
  if (options.trace != nullptr) options.trace->start(**session);
  client->adopt(std::move(*session), std::move(device_range), std::move(host_range), options.copy_threads,
                options.coherence);
  return client;
}

Client::Client(std::shared_ptr<session::Session> session, unsigned copy_threads, std::string_view coherence) : Client() {
  const wire::HelloReply& hello = session->hello();
  const auto reserve = [](const wire::AddressRange* range) {
    if (range == nullptr || range->bytes() == 0) return AddressReservation{};
    auto reservation = AddressReservation::at(range->base(), range->bytes());
    return reservation ? std::move(*reservation) : AddressReservation{};
  };
  AddressReservation device_range = reserve(hello.device_range()), host_range = reserve(hello.host_range());
  adopt(std::move(session), std::move(device_range), std::move(host_range), copy_threads, coherence);
}

void Client::adopt(std::shared_ptr<session::Session> session, AddressReservation device_range,
                   AddressReservation host_range, unsigned copy_threads, std::string_view coherence) {
  session_ = std::move(session);
  const wire::HelloReply& hello = session_->hello();
  driver_version_ = hello.driver_version();
  heap_ = std::make_unique<Heap>(*session_, std::move(device_range), hello.granularity());
  host_memory_ = std::make_unique<HostMemory>(*session_, std::move(host_range), hello.granularity());
  coherence_ = std::make_unique<Coherence>(*this, coherence_mode(coherence), host_memory_->common());
  managed_ = std::make_unique<ManagedMemory>(
      *this, hello.devices() != nullptr ? static_cast<int>(hello.devices()->size()) : 0);
  payload_ = std::make_unique<Payload>(*session_, copy_threads);
  foreign_ranges_ = std::make_unique<ForeignRanges>();
  virtual_memory_ = std::make_unique<VirtualMemory>(*this);
  shared_memory_ = std::make_unique<SharedMemory>(*this);
  adopt_devices();
  pools_ = std::make_unique<Pools>(*this);
}

void Client::adopt_devices() {
  const wire::HelloReply& hello = session_->hello();
  if (hello.devices() == nullptr) return;
  std::scoped_lock lock(contexts_mutex_);
  for (const wire::DeviceFacts* facts : *hello.devices()) {
    devices_.push_back(std::make_unique<Device>(static_cast<CUdevice>(devices_.size()), *facts,
                                                coherence_->possible()));
    Context* primary = Slab<Context>::make();
    primary->client = this;
    primary->device = devices_.back().get();
    primary->primary = true;
    primaries_.push_back(primary);
    contexts_.push_back(primary);
    if (lost()) primary->error.store(CUDA_ERROR_DEVICE_UNAVAILABLE);
  }
}

Client::~Client() {
  close();
  if (heap_ == nullptr) return;
  // Other threads may still have them current, and per-thread streams in them.
  for (Context* context : contexts_) forget_context(*context);
}

Device* Client::device(CUdevice ordinal) {
  return ordinal >= 0 && ordinal < device_count() ? devices_[static_cast<std::size_t>(ordinal)].get()
                                                  : nullptr;
}

Context* Client::primary(CUdevice ordinal) {
  return ordinal >= 0 && ordinal < device_count() ? primaries_[static_cast<std::size_t>(ordinal)] : nullptr;
}

void Client::add_context(Context* context) {
  std::scoped_lock lock(contexts_mutex_);
  contexts_.push_back(context);
  if (lost()) context->error.store(CUDA_ERROR_DEVICE_UNAVAILABLE);
}

std::size_t Client::active_contexts() {
  std::scoped_lock lock(contexts_mutex_);
  return static_cast<std::size_t>(
      std::ranges::count_if(contexts_, [](const Context* context) { return context->active(); }));
}

CUresult Client::synchronized(CUresult own) {
  const CUresult posted = deferred_errors_.take();
  return own != CUDA_SUCCESS ? own : posted;
}

void Client::posted_call_failed(int status) {
  const auto error = static_cast<CUresult>(status);
  if (!corrupts_context(error)) {
    deferred_errors_.note(error);
    return;
  }
  // Which context it was is not said; CUDA itself declares the whole process inconsistent.
  std::scoped_lock lock(contexts_mutex_);
  for (Context* context : contexts_) {
    int none = CUDA_SUCCESS;
    if (context->active()) context->error.compare_exchange_strong(none, status);
  }
}

void Client::pushed(wire::Opcode opcode, ConstBytes body) {
  if (opcode == wire::Opcode::LibraryFailed) {
    const auto failed = wire::read_struct<wire::LibraryFailed>(body);
    return library_call_failed(*this, failed.library(), failed.function(), failed.status());
  }
  if (!watched_->take(opcode, body)) take_host_function(body);
}

void Client::session_lost(const std::string& reason) {
  if (closed_.load() || lost_.exchange(true)) return;
  say("session lost: " + reason);
  std::scoped_lock lock(contexts_mutex_);
  for (Context* context : contexts_) context->error.store(CUDA_ERROR_DEVICE_UNAVAILABLE);
  fail_host_functions(*this, CUDA_ERROR_DEVICE_UNAVAILABLE);
}

void Client::close(CUresult error) {
  if (closed_.exchange(true) || session_ == nullptr) return;
  {
    std::scoped_lock lock(contexts_mutex_);
    for (Context* context : contexts_) context->error.store(error);
  }
  session_->close();
}

void Client::abandon_after_fork() noexcept {
  closed_.store(true);
  // Other threads do not exist here: a lock that one of them held stays locked, so none is taken.
  for (Context* context : contexts_) context->error.store(CUDA_ERROR_NOT_INITIALIZED);
  if (session_ != nullptr) session_->abandon_after_fork();
}

}  // namespace avec::client
