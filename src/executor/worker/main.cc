#include "executor/worker/main.h"

#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <thread>

#include "executor/worker/confinement.h"
#include "executor/worker/door.h"
#include "base/wait_mode.h"
#include "executor/worker/opening.h"
#include "executor/worker/session.h"
#include "executor/worker_channel.h"
#include "transport/tcp/factory.h"

namespace avec::worker {
namespace {

using namespace executor;
using namespace std::chrono_literals;

constexpr int kUsage = 2;

int probe(const std::string& library) {
  const auto report = [](const std::string& why) {
    std::printf("%s\n", why.c_str());
    std::fflush(stdout);
    return 1;
  };
  auto driver = load_driver(library);
  if (!driver) return report(driver.error());
  if (const CUresult status = driver->cuInit(0); status != CUDA_SUCCESS)
    return report("cuInit of " + library + " says " + cuda_status_text(status));
  int count = 0;
  if (driver->cuDeviceGetCount(&count) != CUDA_SUCCESS || count == 0) return report(library + " has no device");
  return 0;
}

/// Connections and orders of the broker, for as long as the session lives.
void doorway(int channel, const ChannelMessage& start, Session& session) {
  Door door(session);
  Ticket ticket(start.ticket, start.key, start.encrypted);
  ChannelMessage message;
  while (receive_message(channel, message, true) == Received::kMessage) {
    if (message.kind == MessageKind::kStop) {
      session.stop(message.text);
    } else if (message.kind == MessageKind::kData) {
      auto connection = tcp::adopt(message.descriptor.release());
      if (connection == nullptr) continue;
      const auto preamble = check_opening(connection, ticket,
                                          std::chrono::steady_clock::now() + limits::kAuthenticationDeadline);
      const auto entered = preamble ? door.enter(std::move(connection), *preamble)
                                    : wire::Answer<>(std::unexpected(preamble.error()));
      if (!entered) spdlog::warn("a data connection was refused: {}", entered.error().message);
    }
  }
  session.stop("the broker is gone");
}

int serve(int channel, SessionOptions options, bool ahead) {
  // Should the broker die, nobody could reach this session any more.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::signal(SIGINT, SIG_IGN);  // of the terminal's group: the broker decides
  Session session(std::move(options));
  if (ahead) {
    ChannelMessage ready;
    ready.kind = MessageKind::kReady;
    ready.text = session.prepare();
    send_message(channel, ready);
    if (!ready.text.empty()) ::_exit(1);
  }
  ChannelMessage start;
  if (receive_message(channel, start, true) != Received::kMessage || start.kind != MessageKind::kStart) ::_exit(1);
  session.set_name(start.text);
  std::thread([&] { doorway(channel, start, session); }).detach();
  const SessionReport report = session.run(true);
  ChannelMessage ended;
  ended.kind = MessageKind::kEnded;
  ended.text = report.reason;
  ended.bytes_in = report.bytes_in;
  ended.bytes_out = report.bytes_out;
  ended.calls = report.calls;
  ended.bytes_copied = report.bytes_copied;
  send_message(channel, ended);
  spdlog::shutdown();
  // Everything else, a kernel under way included, ends with the process.
  ::_exit(0);
}

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string_view, std::string> values;
  for (int i = 0; i + 1 < argc; i += 2) values[argv[i]] = argv[i + 1];
  if (values.contains("--probe")) return probe(values["--probe"]);
  int channel = -1;
  const std::string& fd = values["--fd"];
  std::from_chars(fd.data(), fd.data() + fd.size(), channel);
  SessionOptions options;
  if (channel < 3 || argc % 2 != 0) {
    std::fprintf(stderr, "avec: `worker` is started by `avec serve`, not by hand\n");
    return kUsage;
  }
  options.wait_mode = wait_mode_of(values["--wait"]);
  options.driver_path = values["--driver"];
  options.device_kind = values["--kind"];
  options.cache_dir = values["--cache-dir"];
  options.release = values["--release"];
  options.spin = std::chrono::microseconds(std::strtoull(values["--spin"].c_str(), nullptr, 10));
  options.gpudirect = values["--gpudirect"] == "true";
  options.library_path = values["--library-path"];
  options.capture_stdout = options.device_kind == "cuda";
  spdlog::set_default_logger(spdlog::stderr_logger_mt("avec"));
  spdlog::set_level(spdlog::level::from_str(values["--log-level"]));
  options.guarded = true;
  if (const std::string problem = confine({values["--user"], values["--confine"] != "false"}); !problem.empty()) {
    spdlog::error("a worker cannot be confined: {}; avec serve --confine off does without", problem);
    return 1;
  }
  return serve(channel, std::move(options), values["--ahead"] == "true");
}

}  // namespace avec::worker
