#include "executor/worker/confinement.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pwd.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <vector>

namespace avec::worker {
namespace {

// Descriptors of one worker: exported memory (1,024 at most), stripes, and what a driver opens.
constexpr rlim_t kMostDescriptors = 65'536;

// A list of what is refused, not of what is allowed: a driver's calls change with its releases.
constexpr Refused kRefused[] = {
#define AVEC_REFUSED(name) {#name, __NR_##name},
    // programs, other processes
    AVEC_REFUSED(execve) AVEC_REFUSED(execveat) AVEC_REFUSED(ptrace) AVEC_REFUSED(process_vm_readv)
    AVEC_REFUSED(process_vm_writev) AVEC_REFUSED(kcmp)
#ifdef __NR_pidfd_getfd
    AVEC_REFUSED(pidfd_getfd)
#endif
    // the file system's shape, namespaces
    AVEC_REFUSED(mount) AVEC_REFUSED(umount2) AVEC_REFUSED(pivot_root) AVEC_REFUSED(chroot) AVEC_REFUSED(setns)
    AVEC_REFUSED(unshare) AVEC_REFUSED(open_by_handle_at) AVEC_REFUSED(fanotify_init) AVEC_REFUSED(quotactl)
    AVEC_REFUSED(swapon) AVEC_REFUSED(swapoff)
#ifdef __NR_move_mount
    AVEC_REFUSED(move_mount) AVEC_REFUSED(open_tree) AVEC_REFUSED(fsopen) AVEC_REFUSED(fsconfig)
    AVEC_REFUSED(fsmount) AVEC_REFUSED(fspick)
#endif
#ifdef __NR_mount_setattr
    AVEC_REFUSED(mount_setattr)
#endif
    // the kernel
    AVEC_REFUSED(kexec_load) AVEC_REFUSED(init_module) AVEC_REFUSED(finit_module) AVEC_REFUSED(delete_module)
    AVEC_REFUSED(bpf) AVEC_REFUSED(perf_event_open) AVEC_REFUSED(userfaultfd) AVEC_REFUSED(keyctl)
    AVEC_REFUSED(add_key) AVEC_REFUSED(request_key) AVEC_REFUSED(reboot) AVEC_REFUSED(syslog) AVEC_REFUSED(acct)
    AVEC_REFUSED(settimeofday) AVEC_REFUSED(clock_settime) AVEC_REFUSED(clock_adjtime) AVEC_REFUSED(sethostname)
    AVEC_REFUSED(setdomainname) AVEC_REFUSED(vhangup)
#ifdef __NR_kexec_file_load
    AVEC_REFUSED(kexec_file_load)
#endif
#ifdef __NR_io_uring_setup
    // does what the calls above and socket() do, past this filter
    AVEC_REFUSED(io_uring_setup) AVEC_REFUSED(io_uring_enter) AVEC_REFUSED(io_uring_register)
#endif
#ifdef __NR_iopl
    AVEC_REFUSED(iopl) AVEC_REFUSED(ioperm) AVEC_REFUSED(modify_ldt) AVEC_REFUSED(uselib)
#endif
#undef AVEC_REFUSED
};

// Netlink: names of interfaces and RDMA devices.
constexpr std::uint32_t kFamilies[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};

constexpr std::uint32_t kNewNamespaces = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC |
                                         CLONE_NEWUTS | CLONE_NEWCGROUP;

#if defined(__x86_64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
constexpr std::uint32_t kArchitecture = 0;
#endif

/// The filter's program. Jumps are short: each test is followed by its own verdict.
class Program {
 public:
  void load(std::size_t offset) { put(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(offset)); }
  void answer(std::uint32_t verdict) { put(BPF_RET | BPF_K, verdict); }
  void answer_if(std::uint32_t value, std::uint32_t verdict) { test(BPF_JEQ, value, 0, 1), answer(verdict); }
  void answer_unless(std::uint32_t value, std::uint32_t verdict) { test(BPF_JEQ, value, 1, 0), answer(verdict); }
  void answer_if_any(std::uint32_t bits, std::uint32_t verdict) { test(BPF_JSET, bits, 0, 1), answer(verdict); }
  void answer_from(std::uint32_t least, std::uint32_t verdict) { test(BPF_JGE, least, 0, 1), answer(verdict); }
  /// The next `count` instructions only where the value is this one.
  void only_for(std::uint32_t value, std::uint8_t count) { test(BPF_JEQ, value, 0, count); }
  std::vector<sock_filter>& code() { return code_; }

 private:
  void put(int code, std::uint32_t k) { code_.push_back({static_cast<std::uint16_t>(code), 0, 0, k}); }
  void test(int kind, std::uint32_t k, std::uint8_t yes, std::uint8_t no) {
    code_.push_back({static_cast<std::uint16_t>(BPF_JMP | kind | BPF_K), yes, no, k});
  }
  std::vector<sock_filter> code_;
};

constexpr std::uint32_t fails(int error) { return SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error); }

Program filter() {
  Program program;
  program.load(offsetof(seccomp_data, arch));
  program.answer_unless(kArchitecture, SECCOMP_RET_KILL_PROCESS);
  program.load(offsetof(seccomp_data, nr));
#if defined(__x86_64__)
  program.answer_from(0x40000000, fails(ENOSYS));  // the same calls by other numbers (x32)
#endif
  for (const Refused& call : kRefused) program.answer_if(call.number, fails(EPERM));
#ifdef __NR_clone3
  program.answer_if(__NR_clone3, fails(ENOSYS));  // its flags cannot be seen; libc takes clone then
#endif
  const std::size_t first_argument = offsetof(seccomp_data, args);  // its lower half: little-endian
  program.only_for(__NR_clone, 4);
  program.load(first_argument);
  program.answer_if_any(kNewNamespaces, fails(EPERM));
  program.answer(SECCOMP_RET_ALLOW);
  program.only_for(__NR_socket, static_cast<std::uint8_t>(2 + 2 * std::size(kFamilies)));
  program.load(first_argument);
  for (const std::uint32_t family : kFamilies) program.answer_if(family, SECCOMP_RET_ALLOW);
  program.answer(fails(EAFNOSUPPORT));
  program.answer(SECCOMP_RET_ALLOW);
  return program;
}

std::string failed(const std::string& what) { return what + " failed: " + std::strerror(errno); }

std::string become(const std::string& user) {
  passwd entry{};
  passwd* found = nullptr;
  std::array<char, 16384> space;
  if (::getpwnam_r(user.c_str(), &entry, space.data(), space.size(), &found) != 0 || found == nullptr)
    return "there is no user '" + user + "'";
  if (::geteuid() == entry.pw_uid && ::getuid() == entry.pw_uid) return {};
  if (::geteuid() != 0) return "only root can run workers as '" + user + "'";
  // Its groups decide which devices it may open (video, render).
  if (::initgroups(user.c_str(), entry.pw_gid) != 0) return failed("taking the groups of '" + user + "'");
  if (::setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid) != 0) return failed("taking the group of '" + user + "'");
  if (::setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid) != 0) return failed("becoming '" + user + "'");
  return {};
}

std::string limit() {
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) return failed("limiting core dumps");
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return failed("reading the limit of descriptors");
  files.rlim_max = std::min(files.rlim_max, kMostDescriptors);
  files.rlim_cur = files.rlim_max;
  return ::setrlimit(RLIMIT_NOFILE, &files) == 0 ? std::string() : failed("limiting descriptors");
}

std::string install_filter() {
  if (kArchitecture == 0) return "there is no filter of system calls for this architecture";
  Program program = filter();
  const sock_fprog code{static_cast<unsigned short>(program.code().size()), program.code().data()};
  // Threads that libraries have started at load time too.
  if (::syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &code) == 0) return {};
  return failed("installing the filter of system calls");
}

}  // namespace

std::span<const Refused> refused_calls() { return kRefused; }

std::string confine(const Confinement& wish) {
  std::string problem;
  const auto also = [&](std::string more) {
    if (!more.empty()) problem += (problem.empty() ? "" : "; ") + more;
  };
  if (wish.on) also(limit());
  if (!wish.user.empty()) also(become(wish.user));
  if (!wish.on) return problem;
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) also(failed("giving up new privileges"));
  // Other processes of the same user read neither its memory nor its descriptors.
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) also(failed("hiding from other processes"));
  also(install_filter());
  return problem;
}

}  // namespace avec::worker
