// avec info: an executor's devices, what was chosen and why, and the link to it as measured.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "avec/avec.h"
#include "base/wait_mode.h"
#include "cli/cli.h"

namespace avec::cli {
namespace {

struct Link {
  double round_trip_us = 0, round_trip_p99_us = 0;
  double to_device_gbs = 0, from_device_gbs = 0;  // 1e9 bytes a second
};

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

Link measure(Executor& executor) {
  Link link;
  std::vector<double> times;
  const auto begin = std::chrono::steady_clock::now();
  while (times.size() < 20 || (times.size() < 2000 && seconds_since(begin) < 0.3))
    times.push_back(std::chrono::duration<double, std::micro>(executor.ping()).count());
  std::ranges::sort(times);
  link.round_trip_us = times[times.size() / 2];
  link.round_trip_p99_us = times[times.size() * 99 / 100];

  // Enough to fill the pipe, little enough for a slow link: grown until it takes 100 ms.
  for (std::size_t bytes = 1 << 20; bytes <= std::size_t{64} << 20; bytes *= 4) {
    const std::vector<std::byte> source(bytes, std::byte{0x5a});
    std::vector<std::byte> back(bytes);
    Buffer buffer = executor.allocate(bytes);
    buffer.copy_from(source);  // maps the memory on both sides
    executor.synchronize();
    auto start = std::chrono::steady_clock::now();
    buffer.copy_from(source);
    executor.synchronize();
    const double up = seconds_since(start);
    start = std::chrono::steady_clock::now();
    buffer.copy_to(back);
    const double down = seconds_since(start);
    link.to_device_gbs = static_cast<double>(bytes) / up / 1e9;
    link.from_device_gbs = static_cast<double>(bytes) / down / 1e9;
    if (up > 0.1 || down > 0.1) break;
  }
  return link;
}

nlohmann::json as_json(const Executor& executor, const Link& link) {
  nlohmann::json devices = nlohmann::json::array();
  for (const DeviceInfo& device : executor.devices())
    devices.push_back({{"name", device.name},
                       {"pci_bus_id", device.pci_bus_id},
                       {"memory_bytes", device.memory_bytes},
                       {"compute_capability", fmt::format("{}.{}", device.compute_major, device.compute_minor)},
                       {"multiprocessors", device.multiprocessors}});
  return {{"executor", executor.url()},
          {"link", executor.link()},
          {"release", executor.release()},
          {"client_release", AVEC_RELEASE},
          {"device_kind", executor.device_kind()},
          {"device_reason", executor.device_reason()},
          {"driver_version", executor.driver_version()},
          {"devices", devices},
          {"round_trip_us", link.round_trip_us},
          {"round_trip_p99_us", link.round_trip_p99_us},
          {"to_device_gbs", link.to_device_gbs},
          {"from_device_gbs", link.from_device_gbs}};
}

void print(const Executor& executor, const Link& link) {
  fmt::print("executor     {}, avec {} (this is avec {})\n", executor.url(), executor.release(), AVEC_RELEASE);
  fmt::print("link         {}\n", executor.link());
  fmt::print("driver       CUDA {}.{}, {} device\n", executor.driver_version() / 1000, executor.driver_version() % 1000 / 10,
             executor.device_kind());
  if (!executor.device_reason().empty()) fmt::print("chosen       {}\n", executor.device_reason());
  for (std::size_t i = 0; i < executor.devices().size(); ++i) {
    const DeviceInfo& device = executor.devices()[i];
    fmt::print("device {}     {}, {:.1f} GiB, compute capability {}.{}, {} multiprocessors, {}\n", i, device.name,
               static_cast<double>(device.memory_bytes) / (1u << 30), device.compute_major, device.compute_minor,
               device.multiprocessors, device.pci_bus_id);
  }
  fmt::print("round trip   {:.1f} us (p99 {:.1f} us)\n", link.round_trip_us, link.round_trip_p99_us);
  fmt::print("to device    {:.2f} GB/s\nfrom device  {:.2f} GB/s\n", link.to_device_gbs, link.from_device_gbs);
}

}  // namespace

int info(const Settings& settings, bool json) {
  ConnectOptions options;
  options.url = settings.text("executor");
  options.device = settings.text("device");
  options.token_file = settings.text("token-file");
  options.deadline = std::chrono::milliseconds(settings.number("connect-deadline"));
  options.spin = std::chrono::microseconds(settings.number("spin"));
  options.wait = wait_mode_of(settings.text("wait"));
  try {
    Executor executor = Executor::connect(options);
    const Link link = measure(executor);
    if (json) fmt::print("{}\n", as_json(executor, link).dump(2));
    else print(executor, link);
    executor.close();
    return 0;
  } catch (const CudaError& error) {
    say(error.what());
    return 1;
  }
}

}  // namespace avec::cli
