#include "suite.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <thread>

#include "perftest.h"
#include "plot.h"
#include "shape.h"
#include "spawn.h"
#include "table.h"

namespace avec::bench {
namespace {

using nlohmann::json;

enum Runs : unsigned {
  kExecutor = 1,  // needs one, and the driver shim
  kNative = 2,    // also through the system's driver
  kAnywhere = 4,  // over every transport, sim too; else not sim
  kTcpOnly = 8,
};

struct Measurement {
  const char* name;
  const char* part;
  void (*run)(const Options&);
  unsigned runs;
  std::uint64_t processes;  // to start; their rows are put together
};

// A yardstick comes just before what is held against it, since a machine has moods.
constexpr Measurement kMeasurements[] = {
    {"latency", "latency", measure_latency, kAnywhere, 1},
    {"bandwidth", "bandwidth", measure_bandwidth, kAnywhere, 1},
    {"rate", "rate", measure_rate, kAnywhere, 1},
    {"call_rate", "rate", measure_call_rate, kExecutor | kNative, 1},
    {"launch", "launch", measure_launch, kExecutor | kNative, 1},
    {"synchronise", "launch", measure_launch_synchronise, kExecutor | kNative, 1},
    {"graph", "launch", measure_graph, kExecutor | kNative, 1},
    {"queries", "query", measure_queries, kExecutor | kNative, 1},
    {"allocation", "memory", measure_allocation, kExecutor | kNative, 1},
    {"departure", "launch", measure_departure, kExecutor | kTcpOnly, 1},
    {"round", "inference", measure_round, kExecutor | kNative, 1},
    {"inference", "inference", measure_inference, kExecutor | kNative, 1},
    {"copies", "copy", measure_copies, kExecutor | kNative, 1},
    {"open", "session", measure_open, kExecutor | kNative, 10},
    {"idle", "session", measure_idle, kExecutor, 1},
    {"shape", "shape", measure_shape, kTcpOnly, 1},
};
constexpr Measurement kRawPing{"raw_ping", "", measure_yardstick, kAnywhere, 1};

// What a row is held against where its process had no yardstick of its own beside it.
struct Yardstick {
  const char* row;
  const char* yardstick;     // a raw row of the same transport
  bool bandwidth;            // ratio of bytes per second, higher is better; else of times
  std::uint64_t from_bytes;  // only rows of at least so many bytes
};
constexpr Yardstick kYardsticks[] = {
    {"launch.synchronise", "raw.ping", false, 0},
    {"launch.departure", "raw.ping", false, 0},
    {"round.100_launches", "raw.ping", false, 0},
    {"inference.", "raw.ping", false, 0},
    {"copy.to_device", "raw.stream", true, 1u << 20},
    {"copy.from_device", "raw.stream", true, 1u << 20},
    {"copy.pinned.to_device", "raw.stream", true, 1u << 20},
    {"copy.pinned.from_device", "raw.stream", true, 1u << 20},
};

bool matches(const std::string& name, std::string_view rule) {
  return rule.ends_with('.') ? name.starts_with(rule) && name.find(".round") == name.npos : name == rule;
}

class Suite {
 public:
  explicit Suite(const Wishes& wishes) : wishes_(wishes), self_(own_program()) {}

  int run() {
    describe_machine();
    if (!choose_transports()) return 1;
    if (!start_executor()) return 1;
    const auto native = options("native", "");
    const bool with_native = needs(kNative) && probe(native);
    Progress progress(steps(with_native));
    progress_ = &progress;
    if (with_yardsticks()) {
      for (const auto& transport : usable(kExecutor)) collect(kRawPing, options("raw", transport));
    }
    for (const auto& one : kMeasurements) {
      if (!wanted(one)) continue;
      if (with_native && (one.runs & kNative) != 0) collect(one, native);
      for (const auto& transport : usable(one.runs)) {
        collect(one, options("avec", transport));
        if (std::string_view(one.name) == "round") count_round_trips(options("avec", transport));
      }
    }
    progress.clear();
    write_results();
    return failed_ ? 1 : 0;
  }

 private:
  bool wanted(const Measurement& one) const {
    return std::find(wishes_.parts.begin(), wishes_.parts.end(), one.part) != wishes_.parts.end();
  }
  bool needs(unsigned what) const {
    return std::any_of(std::begin(kMeasurements), std::end(kMeasurements),
                       [&](const Measurement& one) { return (one.runs & what) != 0 && wanted(one); });
  }
  // Is anything measured that has no yardstick in its own process?
  bool with_yardsticks() const {
    return std::any_of(std::begin(kMeasurements), std::end(kMeasurements), [&](const Measurement& one) {
      return (one.runs & kExecutor) != 0 && wanted(one) && std::string_view(one.part) != "session";
    });
  }
  std::vector<std::string> usable(unsigned runs) const {
    std::vector<std::string> schemes;
    for (const auto& scheme : transports_) {
      if (scheme == "sim" && (runs & kAnywhere) == 0) continue;
      if (scheme != "tcp" && (runs & kTcpOnly) != 0) continue;
      schemes.push_back(scheme);
    }
    return schemes;
  }
  std::size_t steps(bool with_native) const {
    std::size_t count = with_yardsticks() ? usable(kExecutor).size() : 0;
    for (const auto& one : kMeasurements) {
      if (!wanted(one)) continue;
      count += usable(one.runs).size() + (with_native && (one.runs & kNative) != 0 ? 1 : 0);
    }
    return count;
  }

  // Why a transport cannot be measured here; "" when it can.
  std::string problem(const std::string& scheme) const {
    const auto* transport = find_transport(scheme + "://");
    if (transport == nullptr) return "not built in";
    std::string detail;
    if (transport->viable(detail)) return detail;
    if (!wishes_.options.shape.empty() && scheme != "tcp" && scheme != "sim")
      return "--shape is of links that carry tcp or sim";
    if (scheme == "rdma") return verbs_problem(wishes_.options.address);
    return {};
  }
  bool choose_transports() {
    auto asked = wishes_.transports;
    if (asked.empty()) {
      for (const char* scheme : {"tcp", "shm", "rdma"}) {
        if (find_transport(std::string(scheme) + "://") != nullptr) asked.push_back(scheme);
      }
    }
    for (const auto& scheme : asked) {
      const auto why = problem(scheme);
      if (why.empty())
        transports_.push_back(scheme);
      else
        std::printf("%s is left out: %s\n", scheme.c_str(), why.c_str());
    }
    if (transports_.empty()) std::fprintf(stderr, "avec bench: no transport is left to measure\n");
    return !transports_.empty();
  }

  bool start_executor() {
    executor_url_ = wishes_.executor;
    const auto root = self_.parent_path().parent_path();
    shim_ = (root / "lib/avec/libcuda.so.1").string();
    if (executor_url_.empty() && (needs(kExecutor) || with_session_ping())) {
      executor_.emplace((root / "bin/avec").string(), wishes_.options.address, wishes_.options.wait,
                        wishes_.device);
      executor_url_ = executor_->url();
      if (executor_url_.empty()) {
        std::fprintf(stderr, "avec bench: `avec serve` did not start; start it alone to see why\n");
        return false;
      }
    }
    if (wishes_.options.shape.empty() || executor_url_.empty()) return true;
    proxy_.emplace(executor_url_, wishes_.options.shape);
    if (proxy_->url().empty())
      std::fprintf(stderr, "avec bench: the proxy of the shaped link did not start\n");
    return !proxy_->url().empty();
  }
  bool with_session_ping() const {
    return std::find(wishes_.parts.begin(), wishes_.parts.end(), "latency") != wishes_.parts.end();
  }

  Options options(std::string target, std::string transport) const {
    Options made = wishes_.options;
    made.target = std::move(target);
    made.library = made.target == "native" ? wishes_.native : shim_;
    if (made.target == "native") made.shape.clear();
    made.transport = std::move(transport);
    if (made.target != "avec" || made.transport == "sim" || executor_url_.empty()) return made;
    const auto& url = proxy_ ? proxy_->url() : executor_url_;
    made.executor = made.transport + url.substr(url.find("://"));
    made.executor_pid = executor_ ? executor_->pid() : 0;
    return made;
  }
  std::vector<std::string> command(const std::string& name, const Options& options) const {
    return {self_.string(), "measure", name, json(options).dump()};
  }

  bool probe(const Options& native) {
    if (wishes_.native == "none") return false;
    const auto finished = bench::run(command("probe", native), {}, std::chrono::seconds(60), true);
    if (!finished.ok || finished.lines.empty()) return false;
    machine_["gpu"] = finished.lines.front();
    return true;
  }

  void collect(const Measurement& one, const Options& options) {
    progress_->step(std::string(one.name) + " " + options.target + " " + options.transport);
    const auto processes =
        options.count == 0 ? one.processes : std::min<std::uint64_t>(one.processes, options.count);
    std::vector<std::vector<Row>> gathered;  // one list a figure
    bool ok = true;
    const auto take = [&](const std::string& line) {
      const auto parsed = json::parse(line, nullptr, false);
      if (!parsed.is_object()) return;
      auto row = parsed.get<Row>();
      if (processes == 1) {
        add(std::move(row));
        return;
      }
      auto list = std::find_if(gathered.begin(), gathered.end(),
                               [&](const auto& rows) { return rows.front().same_figure(row); });
      if (list == gathered.end()) list = gathered.insert(gathered.end(), std::vector<Row>());
      list->push_back(std::move(row));
    };
    for (std::uint64_t i = 0; i < processes && ok; ++i)
      ok = bench::run(command(one.name, options), {}, std::chrono::seconds(300), false, take).ok;
    if (!ok) {
      std::fprintf(stderr, "avec bench: the measurement %s (%s %s) failed\n", one.name,
                   options.target.c_str(), options.transport.c_str());
      failed_ = true;
    }
    for (const auto& list : gathered) add(together(list));
  }

  // Rows of several processes, one sample each, are the samples of one row.
  static Row together(const std::vector<Row>& list) {
    std::vector<double> values;
    for (const auto& row : list) values.push_back(row.median);
    auto row = summarise(list.front().name, list.front().unit, values);
    row.target = list.front().target;
    row.transport = list.front().transport;
    row.bytes = list.front().bytes;
    row.verified = std::all_of(list.begin(), list.end(), [](const Row& one) { return one.verified; });
    return row;
  }

  // The difference between a run and one twice as long is what the rounds themselves cost.
  void count_round_trips(Options options) {
    constexpr std::uint64_t kRounds = 20;
    std::uint64_t trips[2] = {0, 0};
    for (std::uint64_t factor = 1; factor <= 2; ++factor) {
      options.count = kRounds * factor;
      const auto file =
          std::filesystem::temp_directory_path() / ("avec-bench-" + std::to_string(::getpid()) + ".json");
      const auto finished =
          bench::run(command("round", options), {{"AVEC_STATS", file.string()}}, std::chrono::seconds(120));
      std::ifstream stream(file);
      const auto stats = json::parse(stream, nullptr, false);
      std::filesystem::remove(file);
      if (!finished.ok || !stats.is_object() || !stats.contains("session")) {
        std::fprintf(stderr, "avec bench: the round trips could not be counted\n");
        failed_ = true;
        return;
      }
      trips[factor - 1] = stats["session"].value("round_trips", std::uint64_t{0});
    }
    auto row = summarise(
        "round.round_trips", "trips",
        {(static_cast<double>(trips[1]) - static_cast<double>(trips[0])) / static_cast<double>(kRounds)});
    row.target = "avec";
    row.transport = options.transport;
    row.n = kRounds;
    add(row);
  }

  void add(Row row) {
    if (row.yardstick.empty()) hold_against(row);
    ask(row);
    if (!row.verified) failed_ = true;
    progress_->clear();
    table_.print(row, native_ratio(row));
    rows_.push_back(std::move(row));
  }

  // Against the latest raw row that a rule names: one that was measured again stands beside what follows it.
  void hold_against(Row& row) const {
    if (row.target == "raw" || row.median <= 0) return;
    for (const auto& rule : kYardsticks) {
      if (!matches(row.name, rule.row) || row.bytes < rule.from_bytes) continue;
      const auto raw = std::find_if(rows_.rbegin(), rows_.rend(), [&](const Row& one) {
        return one.name == rule.yardstick && one.target == "raw" &&
               (row.transport.empty() || one.transport == row.transport);
      });
      if (raw == rows_.rend() || raw->median <= 0) continue;
      row.ratio =
          rule.bandwidth ? gigabytes_per_second(row) / gigabytes_per_second(*raw) : row.median / raw->median;
      row.ratio_noise = std::hypot(row.noise, raw->noise);
      row.yardstick = rule.yardstick;
      return;
    }
  }
  // What the shape asked for.
  void ask(Row& row) const {
    const auto shape = parse_shape(wishes_.options.shape);
    if (!shape) return;
    if (row.name == "shape.round_trip")
      row.asked = std::chrono::duration<double, std::micro>(shape->round_trip).count();
    if (row.name == "shape.rate") row.asked = static_cast<double>(shape->bytes_per_second) * 8e-6;
  }
  std::optional<double> native_ratio(const Row& row) const {
    if (row.target != "avec") return {};
    const auto native = std::find_if(rows_.rbegin(), rows_.rend(), [&](const Row& one) {
      return one.target == "native" && one.name == row.name && one.bytes == row.bytes &&
             one.batch == row.batch;
    });
    if (native == rows_.rend() || native->median <= 0) return {};
    return row.median / native->median;
  }

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
                {"format", 2},
                {"cpu", cpu},
                {"cores", std::thread::hardware_concurrency()},
                {"kernel", names.release},
                {"load", load[0]},
                {"date", date},
                {"commit", commit()},
                {"wait", wishes_.options.wait},
                {"device", wishes_.device},
                {"shape", wishes_.options.shape},
                {"check", wishes_.options.check},
                {"soft_rdma", soft_rdma(wishes_.options.address)},
                {"gpu", ""}};
  }
  // What was built: of the repository around the program, or the file that a packed copy brings.
  std::string commit() const {
    std::string line;
    std::ifstream packed(self_.parent_path().parent_path() / "commit");
    if (std::getline(packed, line)) return line;
    const auto finished =
        bench::run({"/usr/bin/git", "-C", self_.parent_path().string(), "describe", "--always", "--dirty"},
                   {}, std::chrono::seconds(5), true);
    return finished.ok && !finished.lines.empty() ? finished.lines.front() : "";
  }

  void write_results() {
    Results results{machine_, rows_};
    if (!wishes_.json_file.empty()) {
      std::ofstream file(wishes_.json_file);
      file << machine_.dump() << "\n";
      for (const auto& row : rows_) {
        json object = row;
        object["kind"] = "row";
        object["wait"] = wishes_.options.wait;
        if (row.bytes != 0 && row.unit == "us") object["gb_per_s"] = gigabytes_per_second(row);
        if (const auto value = native_ratio(row)) object["native_ratio"] = *value;
        file << object.dump() << "\n";
      }
      file.close();
      if (!file) {
        std::fprintf(stderr, "avec bench: %s could not be written\n", wishes_.json_file.c_str());
        failed_ = true;
      }
    }
    if (wishes_.plot_file.empty()) return;
    if (const auto problem = write_plot(results, wishes_.plot_file); !problem.empty()) {
      std::fprintf(stderr, "avec bench: %s\n", problem.c_str());
      failed_ = true;
    }
  }

  const Wishes& wishes_;
  const std::filesystem::path self_;
  std::string shim_, executor_url_;
  std::vector<std::string> transports_;
  std::optional<Executor> executor_;
  std::optional<ProxyProcess> proxy_;
  std::vector<Row> rows_;
  json machine_;
  Table table_;
  Progress* progress_ = nullptr;
  bool failed_ = false;
};

}  // namespace

int run_suite(const Wishes& wishes) { return Suite(wishes).run(); }

int run_measurement(const std::string& name, const Options& options) {
  if (name == "probe") {
    measure_probe(options);
    return 0;
  }
  if (name == kRawPing.name) {
    kRawPing.run(options);
    return 0;
  }
  for (const auto& one : kMeasurements) {
    if (name != one.name) continue;
    one.run(options);
    return 0;
  }
  fail("no measurement is called " + name);
}

}  // namespace avec::bench
