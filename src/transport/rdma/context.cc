#include "transport/rdma/context.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/handle.h"

namespace avec::rdma {

/// A descriptor of a guard. Cells are used again and never freed, so that a fork finds all of them
/// whole at any moment.
struct ForkCell {
  std::atomic<int> descriptor;
  ForkCell* next;
};

namespace {

// What a cell's descriptor is besides a number.
constexpr int kFreeCell = -1;      // of no guard
constexpr int kNoDescriptor = -2;  // of a guard, with nothing to close any more

constinit std::atomic<ForkCell*> fork_cells{nullptr};
constinit std::atomic<bool> fork_handled{false};

void close_in_child() {
  for (ForkCell* cell = fork_cells.load(); cell != nullptr; cell = cell->next) {
    const int descriptor = cell->descriptor.load();
    if (descriptor < 0) continue;
    ::close(descriptor);
    // Once: later the number may be a file of this child's, which may fork as well.
    cell->descriptor.store(kNoDescriptor);
  }
}

ForkCell* take_cell(int descriptor) {
  for (ForkCell* cell = fork_cells.load(); cell != nullptr; cell = cell->next) {
    int free = kFreeCell;
    if (cell->descriptor.compare_exchange_strong(free, descriptor)) return cell;
  }
  auto* made = new ForkCell{descriptor, fork_cells.load()};
  while (!fork_cells.compare_exchange_weak(made->next, made)) {
  }
  return made;
}

std::string memlock_advice() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return {};
  return "; at most " + std::to_string(limit.rlim_cur >> 10) +
         " KiB may be locked, raise that limit (ulimit -l, LimitMEMLOCK=)";
}

}  // namespace

TransportError completion_error(ibv_wc_status status) noexcept {
  using enum TransportErrc;
  switch (status) {
    case IBV_WC_SUCCESS:
      return {};
    case IBV_WC_RETRY_EXC_ERR:
      return {kReset, ETIMEDOUT};
    case IBV_WC_RNR_RETRY_EXC_ERR:
      return {kReset, ENOBUFS};
    case IBV_WC_REM_ACCESS_ERR:
    case IBV_WC_MW_BIND_ERR:
      return {kReset, EACCES};
    case IBV_WC_REM_INV_REQ_ERR:
    case IBV_WC_REM_OP_ERR:
    case IBV_WC_REM_INV_RD_REQ_ERR:
    case IBV_WC_REM_ABORT_ERR:
      return {kReset, EREMOTEIO};
    case IBV_WC_WR_FLUSH_ERR:
      return {kReset, ECANCELED};
    case IBV_WC_LOC_PROT_ERR:
    case IBV_WC_LOC_ACCESS_ERR:
      return {kInternal, EFAULT};
    case IBV_WC_LOC_LEN_ERR:
      return {kInternal, EMSGSIZE};
    case IBV_WC_LOC_QP_OP_ERR:
    case IBV_WC_LOC_EEC_OP_ERR:
    case IBV_WC_LOC_RDD_VIOL_ERR:
      return {kInternal, EINVAL};
    default:
      return {kReset, EIO};
  }
}

TransportError event_error(ibv_event_type type) noexcept {
  using enum TransportErrc;
  switch (type) {
    case IBV_EVENT_DEVICE_FATAL:
      return {kReset, ENODEV};
    case IBV_EVENT_PORT_ERR:
      return {kReset, ENETDOWN};
    case IBV_EVENT_PATH_MIG_ERR:
      return {kReset, EHOSTUNREACH};
    case IBV_EVENT_QP_ACCESS_ERR:
      return {kReset, EACCES};
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_CQ_ERR:
      return {kReset, EIO};
    default:
      return {};
  }
}

TransportError resource_error(int os_error) noexcept {
  switch (os_error) {
    case ENODEV:
    case ENXIO:
    case EOPNOTSUPP:
    case ENOSYS:
    case EACCES:  // /dev/infiniband is not for this user
      return {TransportErrc::kNotViable, os_error};
    case ENOMEM:
    case EAGAIN:
    case EPERM:
    case ENOSPC:
    case EMFILE:
    case ENFILE:
      return {TransportErrc::kResources, os_error};
    default:
      return {TransportErrc::kInternal, os_error};
  }
}

Failure resource_failure(std::string_view what, int os_error) {
  Failure failure{resource_error(os_error), std::string(what) + ": " + std::strerror(os_error)};
  if (failure.error.code == TransportErrc::kResources) failure.detail += memlock_advice();
  return failure;
}

std::uint32_t random_psn() noexcept {
  std::uint32_t random = 0;
  while (::getrandom(&random, sizeof random, 0) != static_cast<ssize_t>(sizeof random)) {
  }
  return random & 0xffffff;
}

std::uint64_t machine_identity() noexcept {
  std::array<char, 64> text{};
  const Descriptor file(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  if (!file || ::read(file.get(), text.data(), text.size() - 1) <= 0) return 0;
  std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const char* c = text.data(); *c != '\0'; ++c)
    hash = (hash ^ static_cast<unsigned char>(*c)) * 0x100000001b3;
  return hash;
}

ForkGuard::ForkGuard() : process_(::getpid()) {}

ForkGuard::ForkGuard(std::initializer_list<int> descriptors) : ForkGuard() {
  // Twice by two threads does no harm.
  if (!fork_handled.load() && ::pthread_atfork(nullptr, nullptr, close_in_child) == 0) fork_handled = true;
  cells_.reserve(descriptors.size());
  for (const int descriptor : descriptors) {
    if (descriptor >= 0) cells_.push_back(take_cell(descriptor));
  }
}

ForkGuard::~ForkGuard() {
  for (ForkCell* cell : cells_) cell->descriptor.store(kFreeCell);
}

void ForkGuard::forget(int descriptor) noexcept {
  for (ForkCell* cell : cells_) {
    if (cell->descriptor.load() == descriptor) cell->descriptor.store(kNoDescriptor);
  }
}

bool ForkGuard::forked() const noexcept { return ::getpid() != process_; }

}  // namespace avec::rdma
