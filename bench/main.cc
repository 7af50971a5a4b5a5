// avec_bench: what AVEC costs, each figure beside its yardstick of the same run.
//
// This process only starts others and prints. Each measurement runs in a process of its own
// ("avec_bench measure NAME ..."): through AVEC's shim, and natively where there is a GPU.
#include <sys/utsname.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "harness.h"
#include "spawn.h"

namespace avec::bench {
namespace {

using nlohmann::json;

struct Measurement {
  const char* name;
  void (*run)(const Options&);
  bool raw;            ///< a yardstick: needs neither executor nor driver
  bool native;         ///< also through the system's driver
  std::uint64_t runs;  ///< processes to start; their rows are put together
  const char* help;
};

// A yardstick comes just before what is held against it, since a machine has moods.
constexpr Measurement kMeasurements[] = {
    {"raw_ping", measure_raw_ping, true, false, 1, "64-byte ping-pong over loopback TCP"},
    {"ping", measure_ping, false, false, 1, "synchronous call that does nothing"},
    {"launch", measure_launch, false, true, 1, "posted launch: cost to the caller, CPU, sustained rate"},
    {"synchronise", measure_launch_synchronise, false, true, 1, "launch and synchronise"},
    {"departure", measure_departure, false, false, 1, "from one posted call to its arrival"},
    {"round", measure_round, false, true, 1, "copy in, 100 launches, copy out; round trips counted"},
    {"copies", measure_copies, false, true, 1, "copies 4 B to 256 MiB, both ways"},
    {"open", measure_open, false, true, 10, "opening a session, the first kernel"},
    {"idle", measure_idle, false, false, 1, "CPU of an idle session"},
};

// What a row is held against, and the least or greatest ratio that the project promises.
struct Yardstick {
  const char* row;
  const char* yardstick;     ///< a raw row
  bool bandwidth;            ///< ratio of bytes per second, higher is better; else of times
  std::uint64_t from_bytes;  ///< only rows of at least so many bytes
};
constexpr Yardstick kYardsticks[] = {
    {"ping.session", "raw.ping", false, 0},           {"launch.synchronise", "raw.ping", false, 0},
    {"launch.departure", "raw.ping", false, 0},       {"round.100_launches", "raw.ping", false, 0},
    {"copy.to_device", "raw.stream", true, 1u << 20}, {"copy.from_device", "raw.stream", true, 1u << 20},
};

struct Wishes {
  std::vector<std::string> filters;
  std::string json_file, wait = "adaptive", executor, device = "auto", native = "libcuda.so.1";
  std::uint64_t count = 0;
  bool list = false;
};

class Bench {
 public:
  explicit Bench(Wishes wishes)
      : wishes_(std::move(wishes)), self_(std::filesystem::read_symlink("/proc/self/exe")) {}

  int run_all() {
    const auto root = self_.parent_path().parent_path();
    const auto shim = (root / "lib/avec/libcuda.so.1").string();
    describe_machine();
    std::optional<Executor> started;
    auto avec = options("avec", shim);
    avec.executor = wishes_.executor;
    if (avec.executor.empty() && wanted_beyond_raw()) {
      started.emplace((root / "bin/avec").string(), wishes_.wait, wishes_.device);
      if (started->url().empty()) {
        std::fprintf(stderr, "avec_bench: `avec serve` did not start; start it alone to see why\n");
        return 1;
      }
      avec.executor = started->url();
      avec.executor_pid = started->pid();
    }
    const auto native = options("native", wishes_.native);
    const bool with_native = wanted_beyond_raw() && probe(native);
    print_head();
    for (const auto& one : kMeasurements) {
      if (one.raw) {
        collect(one, options("raw", ""), 1);  // every run has it
        continue;
      }
      if (!wanted(one)) continue;
      if (with_native && one.native) collect(one, native, runs(one));
      collect(one, avec, runs(one));
      if (std::string_view(one.name) == "round") count_round_trips(avec);
    }
    write_json();
    return failed_ ? 1 : 0;
  }

 private:
  bool wanted(const Measurement& one) const {
    if (wishes_.filters.empty()) return true;
    return std::any_of(wishes_.filters.begin(), wishes_.filters.end(), [&](const std::string& word) {
      return std::string_view(one.name).find(word) != std::string_view::npos;
    });
  }
  bool wanted_beyond_raw() const {
    return std::any_of(std::begin(kMeasurements), std::end(kMeasurements),
                       [&](const Measurement& one) { return !one.raw && wanted(one); });
  }
  std::uint64_t runs(const Measurement& one) const {
    return wishes_.count == 0 ? one.runs : std::min(one.runs, wishes_.count);
  }
  Options options(std::string target, std::string library) const {
    Options made;
    made.target = std::move(target);
    made.library = std::move(library);
    made.wait = wishes_.wait;
    made.count = wishes_.count;
    return made;
  }

  std::vector<std::string> command(std::string_view name, const Options& options) const {
    return {self_.string(),
            "measure",
            std::string(name),
            "--target",
            options.target,
            "--library",
            options.library,
            "--executor-url",
            options.executor,
            "--executor-pid",
            std::to_string(options.executor_pid),
            "--wait",
            options.wait,
            "-n",
            std::to_string(options.count)};
  }

  bool probe(const Options& native) {
    if (wishes_.native == "none") return false;
    const auto finished = run(command("probe", native), {}, std::chrono::seconds(60), true);
    if (!finished.ok || finished.lines.empty()) return false;
    machine_["gpu"] = finished.lines.front();
    return true;
  }

  void collect(const Measurement& one, const Options& options, std::uint64_t times) {
    std::map<std::pair<std::string, std::uint64_t>, std::vector<Row>> gathered;
    std::vector<std::pair<std::string, std::uint64_t>> order;
    bool ok = true;
    for (std::uint64_t i = 0; i < times && ok; ++i) {
      const auto finished = run(command(one.name, options), {}, std::chrono::seconds(300));
      ok = finished.ok;
      for (const auto& line : finished.lines) {
        const auto parsed = json::parse(line, nullptr, false);
        if (!parsed.is_object()) continue;
        const auto row = parsed.get<Row>();
        auto& list = gathered[{row.name, row.bytes}];
        if (list.empty()) order.emplace_back(row.name, row.bytes);
        list.push_back(row);
      }
    }
    if (!ok) {
      std::fprintf(stderr, "avec_bench: the measurement %s (%s) failed\n", one.name, options.target.c_str());
      failed_ = true;
    }
    for (const auto& key : order) add(together(gathered[key]));
  }

  // Rows of several processes, one sample each, are the samples of one row.
  static Row together(const std::vector<Row>& list) {
    if (list.size() == 1) return list.front();
    std::vector<double> values;
    bool verified = true;
    for (const auto& row : list) {
      values.push_back(row.median);
      verified = verified && row.verified;
    }
    auto row = summarise(list.front().name, list.front().unit, std::move(values));
    row.target = list.front().target;
    row.bytes = list.front().bytes;
    row.verified = verified;
    return row;
  }

  // The difference between a run and one twice as long is what the rounds themselves cost.
  void count_round_trips(const Options& avec) {
    constexpr std::uint64_t kRounds = 20;
    std::uint64_t trips[2] = {0, 0};
    for (std::uint64_t factor = 1; factor <= 2; ++factor) {
      auto options = avec;
      options.count = kRounds * factor;
      const auto file =
          std::filesystem::temp_directory_path() / ("avec-bench-" + std::to_string(::getpid()) + ".json");
      const auto finished =
          run(command("round", options), {{"AVEC_STATS", file.string()}}, std::chrono::seconds(120));
      std::ifstream stream(file);
      const auto stats = json::parse(stream, nullptr, false);
      std::filesystem::remove(file);
      if (!finished.ok || !stats.is_object() || !stats.contains("session")) {
        std::fprintf(stderr, "avec_bench: the round trips could not be counted\n");
        failed_ = true;
        return;
      }
      trips[factor - 1] = stats["session"].value("round_trips", std::uint64_t{0});
    }
    auto row = summarise(
        "round.round_trips", "trips",
        {(static_cast<double>(trips[1]) - static_cast<double>(trips[0])) / static_cast<double>(kRounds)});
    row.target = "avec";
    row.n = kRounds;
    add(row);
  }

  const Row* find(std::string_view name, std::string_view target, std::uint64_t bytes, bool any_bytes) const {
    // The latest: a yardstick that was measured again stands beside what follows it.
    for (auto row = rows_.rbegin(); row != rows_.rend(); ++row) {
      if (row->name == name && row->target == target && (any_bytes || row->bytes == bytes)) return &*row;
    }
    return nullptr;
  }

  // {ratio, name of the yardstick}; no name: none fits.
  std::pair<double, std::string> ratio(const Row& row) const {
    if (row.target == "raw" || row.median <= 0) return {};
    for (const auto& rule : kYardsticks) {
      if (row.name != rule.row || row.bytes < rule.from_bytes) continue;
      const auto* raw = find(rule.yardstick, "raw", 0, true);
      if (!raw || raw->median <= 0) continue;
      if (!rule.bandwidth) return {row.median / raw->median, rule.yardstick};
      return {(static_cast<double>(row.bytes) / row.median) / (static_cast<double>(raw->bytes) / raw->median),
              rule.yardstick};
    }
    return {};
  }
  std::optional<double> native_ratio(const Row& row) const {
    if (row.target != "avec") return {};
    const auto* native = find(row.name, "native", row.bytes, false);
    if (!native || native->median <= 0) return {};
    return row.median / native->median;
  }

  void add(const Row& row) {
    rows_.push_back(row);
    if (!row.verified) failed_ = true;
    print(row);
  }

  static void print_head() {
    std::printf("%-24s %-7s %10s %6s %10s %10s %10s %8s %9s %8s %8s\n", "name", "target", "bytes", "unit",
                "median", "p99", "min", "n", "GB/s", "ratio", "/native");
  }
  void print(const Row& row) const {
    char speed[16] = "", against[16] = "", native[16] = "";
    if (row.bytes && row.median > 0) std::snprintf(speed, sizeof speed, "%.3f", gigabytes(row));
    if (const auto [value, name] = ratio(row); !name.empty())
      std::snprintf(against, sizeof against, "%.2f", value);
    if (const auto value = native_ratio(row)) std::snprintf(native, sizeof native, "%.2f", *value);
    std::printf("%-24s %-7s %10llu %6s %10.2f %10.2f %10.2f %8llu %9s %8s %8s%s\n", row.name.c_str(),
                row.target.c_str(), static_cast<unsigned long long>(row.bytes), row.unit.c_str(), row.median,
                row.p99, row.min, static_cast<unsigned long long>(row.n), speed, against, native,
                row.verified ? "" : "  WRONG RESULT");
    std::fflush(stdout);
  }
  static double gigabytes(const Row& row) {
    return static_cast<double>(row.bytes) / row.median / 1e3;
  }  // unit is us

  void describe_machine() {
    utsname names{};
    ::uname(&names);
    std::string cpu, line;
    std::ifstream file("/proc/cpuinfo");
    while (cpu.empty() && std::getline(file, line)) {
      if (line.starts_with("model name")) cpu = line.substr(line.find(':') + 2);
    }
    double load[1] = {0};
    (void)::getloadavg(load, 1);
    char date[32];
    const auto now = std::time(nullptr);
    std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
    machine_ = {{"kind", "machine"},
                {"cpu", cpu},
                {"cores", std::thread::hardware_concurrency()},
                {"kernel", names.release},
                {"load", load[0]},
                {"date", date},
                {"wait", wishes_.wait},
                {"device", wishes_.device},
                {"gpu", ""}};
  }

  void write_json() const {
    if (wishes_.json_file.empty()) return;
    std::ofstream file(wishes_.json_file);
    file << machine_.dump() << "\n";
    for (const auto& row : rows_) {
      json object = row;
      object["kind"] = "row";
      object["wait"] = wishes_.wait;
      if (row.bytes && row.median > 0) object["gb_per_s"] = gigabytes(row);
      if (const auto [value, name] = ratio(row); !name.empty()) {
        object["ratio"] = value;
        object["yardstick"] = name;
      }
      if (const auto value = native_ratio(row)) object["native_ratio"] = *value;
      file << object.dump() << "\n";
    }
  }

  const Wishes wishes_;
  const std::filesystem::path self_;
  std::vector<Row> rows_;
  json machine_;
  bool failed_ = false;
};

int measure(const std::string& name, const Options& options) {
  if (name == "probe") {
    measure_probe(options);
    return 0;
  }
  for (const auto& one : kMeasurements) {
    if (name == one.name) {
      one.run(options);
      return 0;
    }
  }
  fail("no measurement is called " + name);
}

}  // namespace
}  // namespace avec::bench

int main(int argc, char** argv) {
  avec::bench::Wishes wishes;
  avec::bench::Options options;
  std::string name;
  CLI::App app("What AVEC costs, each figure beside its yardstick of the same run.", "avec_bench");
  app.add_option("NAME", wishes.filters, "Measure only what contains one of these words, with its yardstick");
  app.add_option("--json", wishes.json_file, "Write one JSON object a line to this file");
  app.add_option("--wait", wishes.wait, "How both sides wait")
      ->check(CLI::IsMember({"spin", "adaptive", "block"}));
  app.add_option("-n", wishes.count, "At most so many samples of each figure");
  app.add_option("--executor", wishes.executor, "URL of a running executor, instead of starting one here");
  app.add_option("--device", wishes.device, "Device kind of the executor: auto, cuda or cpu");
  app.add_option("--native", wishes.native, "Driver library of the native figures, or none");
  app.add_flag("--list", wishes.list, "List the measurements");
  auto* inner =
      app.add_subcommand("measure", "One measurement in this process, as the program starts it itself")
          ->group("");
  inner->add_option("NAME", name)->required();
  inner->add_option("--target", options.target);
  inner->add_option("--library", options.library);
  inner->add_option("--executor-url", options.executor);
  inner->add_option("--executor-pid", options.executor_pid);
  inner->add_option("--wait", options.wait);
  inner->add_option("-n", options.count);
  CLI11_PARSE(app, argc, argv);
  if (inner->parsed()) return avec::bench::measure(name, options);
  if (wishes.list) {
    for (const auto& one : avec::bench::kMeasurements) std::printf("%-12s %s\n", one.name, one.help);
    return 0;
  }
  return avec::bench::Bench(std::move(wishes)).run_all();
}
