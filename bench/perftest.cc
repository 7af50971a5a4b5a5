#include "perftest.h"

#include <arpa/inet.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "spawn.h"

namespace avec::bench {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrograms[] = {"ib_send_lat", "ib_write_bw", "ib_read_bw"};
constexpr auto kLimit = std::chrono::seconds(60);

struct Device {
  std::string name;
  int port = 1, gid_index = 0;
  std::string address;  // IPv4
};

std::string program_path(const std::string& name) {
  std::string folders = std::getenv("PATH") != nullptr ? std::getenv("PATH") : "/usr/bin";
  for (std::size_t begin = 0; begin <= folders.size();) {
    const auto end = std::min(folders.find(':', begin), folders.size());
    const auto path = folders.substr(begin, end - begin) + "/" + name;
    if (::access(path.c_str(), X_OK) == 0) return path;
    begin = end + 1;
  }
  return {};
}

// "10.9.0.2" of the GID that stands for an IPv4 address; else "".
std::string ipv4_of(const std::string& gid) {
  in6_addr bytes{};
  if (::inet_pton(AF_INET6, gid.c_str(), &bytes) != 1 || !IN6_IS_ADDR_V4MAPPED(&bytes)) return {};
  char text[INET_ADDRSTRLEN] = "";
  ::inet_ntop(AF_INET, bytes.s6_addr + 12, text, sizeof text);
  return text;
}

std::string first_line(const fs::path& file) {
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  return line;
}

// The devices whose ports have an IPv4 address, RoCE version 2 before version 1.
std::vector<Device> devices() {
  std::vector<Device> found;
  std::error_code error;
  for (const auto& device : fs::directory_iterator("/sys/class/infiniband", error)) {
    for (const auto& port : fs::directory_iterator(device.path() / "ports", error)) {
      for (const auto& gid : fs::directory_iterator(port.path() / "gids", error)) {
        const auto address = ipv4_of(first_line(gid.path()));
        const auto kind = first_line(port.path() / "gid_attrs/types" / gid.path().filename());
        if (address.empty() || kind.find("v2") == kind.npos) continue;
        found.push_back({device.path().filename(), std::atoi(port.path().filename().c_str()),
                         std::atoi(gid.path().filename().c_str()), address});
      }
    }
  }
  return found;
}

// The device of the peer's address, and the one that this side uses: AVEC_RDMA_DEVICE
// ("mlx5_0:1"), else another than the peer's where there is one.
struct Ends {
  Device here, there;
};
std::optional<Ends> ends(const std::string& address) {
  const auto all = devices();
  const auto there =
      std::find_if(all.begin(), all.end(), [&](const Device& one) { return one.address == address; });
  if (there == all.end()) return std::nullopt;
  std::string wished = std::getenv("AVEC_RDMA_DEVICE") != nullptr ? std::getenv("AVEC_RDMA_DEVICE") : "";
  wished = wished.substr(0, wished.find(':'));
  auto here = std::find_if(all.begin(), all.end(), [&](const Device& one) {
    return wished.empty() ? one.name != there->name : one.name == wished;
  });
  return Ends{here == all.end() ? *there : *here, *there};
}

std::vector<std::string> command(const char* program, const Device& device, int port, const Options& options,
                                 std::uint64_t bytes, std::uint64_t iterations, bool both) {
  std::vector<std::string> words{program_path(program),
                                 "-d",
                                 device.name,
                                 "-i",
                                 std::to_string(device.port),
                                 "-x",
                                 std::to_string(device.gid_index),
                                 "-p",
                                 std::to_string(port),
                                 "-s",
                                 std::to_string(bytes),
                                 "-n",
                                 std::to_string(iterations),
                                 "-F"};
  // perftest spins or sleeps at once; adaptive waiting is nearest to spinning while messages keep coming.
  if (options.wait == "block") words.push_back("-e");
  if (both) words.push_back("-b");
  return words;
}

// Numbers of the last line that begins with one.
std::vector<double> numbers(const std::vector<std::string>& lines) {
  std::vector<double> last;
  for (const auto& line : lines) {
    std::vector<double> values;
    const char* at = line.c_str();
    for (char* end = nullptr;; at = end) {
      const double value = std::strtod(at, &end);
      if (end == at) break;
      values.push_back(value);
    }
    if (values.size() >= 4) last = std::move(values);
  }
  return last;
}

// Runs the pair of processes; the client's figures.
std::vector<double> run_pair(const char* program, const Options& options, std::uint64_t bytes,
                             std::uint64_t iterations, bool both) {
  const auto found = ends(options.address);
  if (!found) fail("no RDMA device has the address " + options.address);
  static int port = 18600 + static_cast<int>(::getpid() % 400);
  ++port;  // the last one may still be in TIME_WAIT
  std::thread server([&] {
    (void)run(command(program, found->there, port, options, bytes, iterations, both), {}, kLimit, true);
  });
  std::vector<double> figures;
  auto words = command(program, found->here, port, options, bytes, iterations, both);
  words.push_back(options.address);
  // The server needs a moment to listen.
  for (int attempt = 0; attempt < 10 && figures.empty(); ++attempt) {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    figures = numbers(run(words, {}, kLimit, attempt < 9).lines);
  }
  server.join();
  if (figures.empty()) fail(std::string(program) + " gave no figures on " + found->here.name);
  return figures;
}

}  // namespace

std::string verbs_problem(const std::string& address) {
  for (const auto* program : kPrograms) {
    if (program_path(program).empty())
      return std::string(program) + " (perftest) is not installed: no yardstick";
  }
  if (!ends(address)) return "no RDMA device has the address " + address + " (--address): no yardstick";
  return {};
}

bool soft_rdma(const std::string& address) {
  const auto found = ends(address);
  return found && !fs::exists(fs::path("/sys/class/infiniband") / found->there.name / "device");
}

std::function<void(std::uint64_t, std::vector<double>&)> verbs_latency(const Options& options,
                                                                       std::uint64_t bytes) {
  return [&options, bytes](std::uint64_t count, std::vector<double>& samples) {
    const std::uint64_t iterations = options.count != 0 ? std::max<std::uint64_t>(5, options.count) : 1000;
    for (std::uint64_t i = 0; i < count; ++i) {
      // bytes, iterations, min, max, typical, average, ...: of one way.
      const auto figures = run_pair("ib_send_lat", options, bytes, iterations, false);
      if (figures.size() < 5) fail("ib_send_lat prints other columns than expected");
      samples.push_back(2 * figures[4]);
    }
  };
}

std::function<void(std::uint64_t, std::vector<double>&)> verbs_bandwidth(const Options& options,
                                                                         bool from_peer, bool both,
                                                                         std::uint64_t bytes) {
  return [&options, from_peer, both, bytes](std::uint64_t count, std::vector<double>& samples) {
    const auto iterations = std::clamp<std::uint64_t>((64u << 20) / bytes, 5, 1000);
    for (std::uint64_t i = 0; i < count; ++i) {
      // bytes, iterations, peak, average (MiB/s), messages per second.
      const auto figures =
          run_pair(from_peer ? "ib_read_bw" : "ib_write_bw", options, bytes, iterations, both);
      const double moved = static_cast<double>(bytes * kVerbsMessages) * (both ? 2 : 1);
      samples.push_back(moved / (figures[3] * 1048576.0) * 1e6);
    }
  };
}

}  // namespace avec::bench
