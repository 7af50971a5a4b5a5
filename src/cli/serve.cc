// avec serve: the broker on this machine's device.
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/limits.h"
#include "base/wait_mode.h"
#include "cli/cli.h"
#include "executor/broker/broker.h"
#include "wire/handshake.h"

namespace avec::cli {
namespace {

broker::Stopper* stopper = nullptr;  // lives as long as serve()

extern "C" void stop_serving(int) {
  if (stopper != nullptr) stopper->stop();
}

/// From a terminal: who presses Ctrl-C does not wait for sessions.
extern "C" void stop_serving_now(int) {
  if (stopper != nullptr) stopper->stop_now();
}

std::filesystem::path cache_folder(const Settings& settings) {
  if (const std::string_view wished = settings.text("cache-dir"); !wished.empty()) return wished;
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache != '\0')
    return std::filesystem::path(cache) / "avec";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0')
    return std::filesystem::path(home) / ".cache" / "avec";
  return std::filesystem::path("/var/cache/avec");
}

void start_logging(std::string_view level) {
  auto logger = spdlog::stderr_logger_mt("avec");
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
  logger->set_level(spdlog::level::from_str(std::string(level)));
  spdlog::set_default_logger(logger);
}

/// Of audit lines, which the log level does not concern.
std::shared_ptr<spdlog::logger> audit_log() {
  auto logger = std::make_shared<spdlog::logger>("audit", spdlog::default_logger()->sinks().begin(),
                                                 spdlog::default_logger()->sinks().end());
  logger->set_level(spdlog::level::info);
  logger->flush_on(spdlog::level::info);
  return logger;
}

}  // namespace

int serve(const Settings& settings) {
  start_logging(settings.text("log-level"));
  // The CPU device reads these itself, in the workers.
  for (const char* key : {"cpu-device-dirty", "cpu-device-memory", "cpu-devices"}) {
    const std::string_view value = settings.text(key);
    if (settings.origin(key) != "default" && value != "0" && value != "false")
      ::setenv(variable_of(key).c_str(), std::string(settings.text(key)).c_str(), 1);
    else
      ::unsetenv(variable_of(key).c_str());
  }
  // As the RDMA transport does, in the workers too.
  ::setenv(variable_of("rdma-device").c_str(), std::string(settings.text("rdma-device")).c_str(), 1);
  broker::Options options;
  options.listen = settings.text("listen");
  options.insecure = settings.flag("insecure");
  options.device = settings.text("device");
  options.cuda_driver = settings.text("cuda-driver");
  options.cpu_device = cpu_device_path(settings);
  options.program = own_path();
  options.wait_mode = wait_mode_of(settings.text("wait"));
  options.spin = std::chrono::microseconds(settings.number("spin"));
  options.cache_dir = cache_folder(settings);
  options.spare_workers = static_cast<unsigned>(std::min<std::uint64_t>(settings.number("spare-workers"), limits::kMaxSpareWorkers));
  options.refill_spare_workers = settings.flag("refill-workers");
  options.gpudirect = settings.flag("gpudirect");
  options.library_path = settings.text("library-path");
  options.log_level = settings.text("log-level");
  options.release = AVEC_RELEASE;
  options.drain = std::chrono::seconds(std::min<std::uint64_t>(settings.number("drain"), limits::kMaxDrain.count()));
  options.service_manager = broker::ServiceManager::take_from_environment();
  if (settings.flag("audit"))
    options.audit = [log = audit_log()](const std::string& line) { log->info("{}", line); };
  options.user = settings.text("user");
  options.confine = settings.flag("confine");
  if (const std::string_view file = settings.text("token-file"); !file.empty()) {
    auto token = wire::read_token_file(std::string(file));
    if (!token) {
      say(token.error());
      return 1;
    }
    options.token = *token;
  }
  options.credentials.certificate = settings.text("tls-certificate");
  options.credentials.key = settings.text("tls-key");
  options.credentials.authority = settings.text("tls-ca");
  options.credentials.revoked = settings.text("tls-crl");
  options.encryption = tls::encryption_of(settings.text("transport-encryption"));
  options.listening = [](const std::string& address) {
    std::printf("listening on %s\n", address.c_str());
    std::fflush(stdout);
  };

  broker::Stopper own_stopper;
  stopper = &own_stopper;
  struct sigaction action {};
  action.sa_handler = stop_serving;
  ::sigaction(SIGTERM, &action, nullptr);
  action.sa_handler = stop_serving_now;
  ::sigaction(SIGINT, &action, nullptr);
  const auto served = broker::run(options, own_stopper);
  ::signal(SIGTERM, SIG_DFL);
  ::signal(SIGINT, SIG_DFL);
  stopper = nullptr;
  if (served) return 0;
  say(served.error());
  return 1;
}

}  // namespace avec::cli
