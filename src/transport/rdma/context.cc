#include "transport/rdma/context.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "base/handle.h"

namespace avec::rdma {
namespace {

/// The guards of this process. Locked over fork(), so that the child finds it whole.
struct Guards {
  std::mutex mutex;
  std::vector<const std::vector<int>*> descriptors;
};

// Never destroyed: connections of static objects may end later.
Guards& guards() {
  static Guards* const instance = [] {
    auto* made = new Guards;
    ::pthread_atfork([] { guards().mutex.lock(); }, [] { guards().mutex.unlock(); },
                     [] {
                       for (const auto* list : guards().descriptors) {
                         for (const int fd : *list) ::close(fd);
                       }
                       guards().mutex.unlock();
                     });
    return made;
  }();
  return *instance;
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

ForkGuard::ForkGuard(std::vector<int> descriptors)
    : descriptors_(std::move(descriptors)), process_(::getpid()) {
  auto& all = guards();
  const std::scoped_lock lock(all.mutex);
  all.descriptors.push_back(&descriptors_);
}

ForkGuard::~ForkGuard() {
  auto& all = guards();
  const std::scoped_lock lock(all.mutex);
  std::erase(all.descriptors, &descriptors_);
}

bool ForkGuard::forked() const noexcept { return ::getpid() != process_; }

}  // namespace avec::rdma
