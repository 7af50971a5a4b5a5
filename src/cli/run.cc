// avec run: starts a program with the shims in front of CUDA's libraries. With --local an
// executor lives as long as the program does.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <random>

#include "base/handle.h"
#include "cli/cli.h"

extern char** environ;

namespace avec::cli {
namespace {

void prepend(const char* variable, const std::string& value, char separator) {
  const char* old = std::getenv(variable);
  const std::string all = old != nullptr && *old != '\0' ? value + separator + old : value;
  ::setenv(variable, all.c_str(), 1);
}

/// A token for one run, in a file that only this user can read; gone with the object.
class TokenFile {
 public:
  static std::optional<TokenFile> create() {
    const char* runtime = std::getenv("XDG_RUNTIME_DIR");
    std::error_code ignored;
    std::string path = runtime != nullptr && std::filesystem::is_directory(runtime, ignored)
                           ? std::string(runtime)
                           : std::filesystem::temp_directory_path(ignored).string();
    path += "/avec-token-XXXXXX";
    const Descriptor file(::mkstemp(path.data()));  // mode 0600
    if (!file) return std::nullopt;
    TokenFile token(path);
    std::random_device device;
    std::string text;
    for (int i = 0; i < 32; ++i) text += "0123456789abcdef"[device() % 16];
    text += '\n';
    if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) return std::nullopt;
    return token;
  }
  TokenFile(TokenFile&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TokenFile& operator=(TokenFile&&) = delete;
  ~TokenFile() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  const std::string& path() const { return path_; }

 private:
  explicit TokenFile(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

void forget_unknown_variables() {
  std::vector<std::string> unknown;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view line = *entry;
    const std::string name(line.substr(0, line.find('=')));
    const bool known = std::ranges::any_of(setting_table(), [&](const Setting& s) { return variable_of(s.key) == name; });
    if (line.starts_with("AVEC_") && !known) unknown.push_back(name);
  }
  for (const std::string& name : unknown) ::unsetenv(name.c_str());
}

/// `avec serve` on a free loopback port, ended by the destructor (and with this process).
class LocalExecutor {
 public:
  static std::optional<LocalExecutor> start(const Settings& settings, const std::string& token_file) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return std::nullopt;
    Descriptor reader(ends[0]), writer(ends[1]);
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) return std::nullopt;
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGTERM);
      if (::getppid() != parent) ::_exit(kNotFound);  // it ended before that
      ::setpgid(0, 0);  // the terminal's Ctrl-C is for the program
      ::dup2(writer.get(), STDOUT_FILENO);
      ::setenv("AVEC_LISTEN", "tcp://127.0.0.1:0", 1);
      ::setenv("AVEC_TOKEN_FILE", token_file.c_str(), 1);
      ::setenv("AVEC_REFILL_WORKERS", "false", 1);  // one program, mostly one session
      ::setenv("AVEC_DRAIN", "0", 1);
      ::setenv("AVEC_AUDIT", "false", 1);
      ::unsetenv("NOTIFY_SOCKET");  // the program's
      ::setenv("AVEC_DEVICE", std::string(settings.text("device")).c_str(), 1);
      if (settings.origin("log-level") == "default") ::setenv("AVEC_LOG_LEVEL", "warn", 1);
      forget_unknown_variables();  // the program's process warns of them
      const std::string self = own_path();
      ::execl(self.c_str(), self.c_str(), "serve", static_cast<char*>(nullptr));
      ::_exit(kNotFound);
    }
    writer.reset();
    LocalExecutor executor(pid);
    std::string line;
    for (;;) {
      char c = 0;
      const ssize_t got = ::read(reader.get(), &c, 1);
      if (got < 0 && errno == EINTR) continue;
      if (got != 1 || c == '\n') break;
      line += c;
    }
    constexpr std::string_view kPrefix = "listening on ";
    if (!line.starts_with(kPrefix)) return std::nullopt;
    executor.url_ = line.substr(kPrefix.size());
    return executor;
  }
  LocalExecutor(LocalExecutor&& other) noexcept : pid_(std::exchange(other.pid_, -1)), url_(std::move(other.url_)) {}
  LocalExecutor& operator=(LocalExecutor&&) = delete;
  ~LocalExecutor() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGTERM);
    for (int i = 0; i < 300; ++i) {
      if (::waitpid(pid_, nullptr, WNOHANG) != 0) return;
      ::usleep(10'000);
    }
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  const std::string& url() const { return url_; }

 private:
  explicit LocalExecutor(pid_t pid) : pid_(pid) {}
  pid_t pid_;
  std::string url_;
};

/// The local executor's URL with the transport of the user's, "-e tcp://" say, or else auto://.
std::string local_url(const Settings& settings, const std::string& url) {
  const std::string_view wished = settings.text("executor");
  return std::string(wished.substr(0, wished.find("://"))) + url.substr(url.find("://"));
}

/// What the program must find in its environment: the settings of the command line and the shims.
bool prepare_environment(const Settings& settings) {
  for (const Setting& setting : setting_table())
    if (setting.side != SettingSide::kExecutor && settings.origin(setting.key) == "command line")
      ::setenv(variable_of(setting.key).c_str(), std::string(settings.text(setting.key)).c_str(), 1);
  const std::string folder = library_folder();
  if (::access((folder + "/libcuda.so.1").c_str(), R_OK) != 0) {
    say("the shims are not in " + folder + "; build or install avec completely");
    return false;
  }
  if (folder.find_first_of(":;") != std::string::npos) {
    say("the loader cannot name " + folder + "; move avec to a folder without : and ;");
    return false;
  }
  prepend("LD_LIBRARY_PATH", folder, ':');
  // A space would end the name; then the loader looks for it in the folders above.
  const std::string path = folder.find(' ') == std::string::npos ? folder + "/" : "";
  prepend("LD_PRELOAD", path + "libavec_preload.so", ':');
  // Reaches libraries that are named by an RPATH or an absolute path too.
  prepend("LD_AUDIT", folder + "/libavec_audit.so", ':');
  return true;
}

std::vector<char*> arguments_of(const RunOptions& options) {
  std::vector<char*> arguments;
  for (const std::string& word : options.command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  return arguments;
}

int cannot_start(const std::string& program, int error) {
  say("cannot run " + program + ": " + std::strerror(error));
  return error == ENOENT ? kNotFound : kNotRunnable;
}

std::atomic<pid_t> program_pid{0};

/// What a shell or a supervisor may send to avec and means for the program.
constexpr std::array kForwarded{SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

void forward_signal(int signal, siginfo_t* info, void*) {
  // What the terminal sends, it sends to the program as well.
  if (info->si_code == SI_KERNEL) return;
  if (const pid_t pid = program_pid.load(); pid > 0) ::kill(pid, signal);
}

/// Forwards signals from here on. What was ignored stays so (nohup), for the program too.
/// Returns the signals that the program must find as they were.
sigset_t forward_signals() {
  sigset_t forwarded;
  ::sigemptyset(&forwarded);
  for (const int signal : kForwarded) {
    struct sigaction before {};
    if (::sigaction(signal, nullptr, &before) != 0 || before.sa_handler == SIG_IGN) continue;
    struct sigaction action {};
    action.sa_sigaction = forward_signal;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    ::sigaction(signal, &action, nullptr);
    ::sigaddset(&forwarded, signal);
  }
  return forwarded;
}

/// Runs the program as a child and returns its status as a shell would.
int run_and_wait(const RunOptions& options) {
  auto arguments = arguments_of(options);
  const sigset_t forwarded = forward_signals();
  // A signal that comes before the program's pid is known waits until it is.
  sigset_t mask;
  ::sigprocmask(SIG_BLOCK, &forwarded, &mask);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setsigdefault(&attributes, &forwarded);
  ::posix_spawnattr_setsigmask(&attributes, &mask);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, arguments[0], nullptr, &attributes, arguments.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  if (error == 0) program_pid = pid;
  ::sigprocmask(SIG_SETMASK, &mask, nullptr);
  if (error != 0) return cannot_start(options.command[0], error);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  program_pid = 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

int run(const Settings& settings, const RunOptions& options) {
  if (options.command.empty()) {
    say("name the program: avec run [options] -- PROGRAM ARGS...");
    return kUsage;
  }
  if (!options.local) {
    if (!prepare_environment(settings)) return 1;
    auto arguments = arguments_of(options);
    ::execvp(arguments[0], arguments.data());
    return cannot_start(options.command[0], errno);
  }
  auto token = TokenFile::create();
  if (!token) {
    say(std::string("cannot write a token file: ") + std::strerror(errno) + "; set XDG_RUNTIME_DIR or TMPDIR to a folder of yours");
    return 1;
  }
  auto executor = LocalExecutor::start(settings, token->path());
  if (!executor) {
    say("the local executor did not start; try `avec serve` alone to see why");
    return 1;
  }
  if (!prepare_environment(settings)) return 1;
  ::setenv("AVEC_EXECUTOR", local_url(settings, executor->url()).c_str(), 1);
  ::setenv("AVEC_TOKEN_FILE", token->path().c_str(), 1);
  return run_and_wait(options);
}

}  // namespace avec::cli
