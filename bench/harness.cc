#include "harness.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

namespace avec::bench {
namespace {

std::uint64_t clock_ns(clockid_t clock) {
  timespec at{};
  ::clock_gettime(clock, &at);
  return static_cast<std::uint64_t>(at.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(at.tv_nsec);
}

// The parent of each process, from /proc.
std::multimap<int, int> children_by_parent() {
  std::multimap<int, int> children;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const int pid = std::atoi(entry.path().filename().c_str());
    if (pid <= 0) continue;
    std::ifstream file(entry.path() / "stat");
    std::string line;
    std::getline(file, line);
    const auto end = line.rfind(')');  // the name may hold anything
    int parent = 0;
    char state = 0;
    if (end != std::string::npos && std::sscanf(line.c_str() + end + 1, " %c %d", &state, &parent) == 2) {
      children.emplace(parent, pid);
    }
  }
  return children;
}

}  // namespace

WaitMode Options::wait_mode() const {
  return wait == "spin" ? WaitMode::kSpin : wait == "block" ? WaitMode::kBlock : WaitMode::kAdaptive;
}

void to_json(nlohmann::json& json, const Row& row) {
  json = {{"name", row.name},   {"target", row.target}, {"unit", row.unit},
          {"bytes", row.bytes}, {"n", row.n},           {"median", row.median},
          {"p99", row.p99},     {"min", row.min},       {"verified", row.verified}};
}

void from_json(const nlohmann::json& json, Row& row) {
  json.at("name").get_to(row.name);
  json.at("target").get_to(row.target);
  json.at("unit").get_to(row.unit);
  json.at("bytes").get_to(row.bytes);
  json.at("n").get_to(row.n);
  json.at("median").get_to(row.median);
  json.at("p99").get_to(row.p99);
  json.at("min").get_to(row.min);
  json.at("verified").get_to(row.verified);
}

Row summarise(std::string_view name, std::string_view unit, std::vector<double> values) {
  if (values.empty()) fail("no samples of " + std::string(name));
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    return values[std::min(values.size() - 1,
                           static_cast<std::size_t>(share * static_cast<double>(values.size())))];
  };
  Row row;
  row.name = name;
  row.unit = unit;
  row.n = values.size();
  row.median = at(0.5);
  row.p99 = at(0.99);
  row.min = values.front();
  return row;
}

void emit(const Options& options, Row row) {
  row.target = options.target;
  std::printf("%s\n", nlohmann::json(row).dump().c_str());
  std::fflush(stdout);
}

std::uint64_t now_ns() { return clock_ns(CLOCK_MONOTONIC); }
std::uint64_t process_cpu_ns() { return clock_ns(CLOCK_PROCESS_CPUTIME_ID); }

std::uint64_t tree_cpu_ns(int pid) {
  const auto children = children_by_parent();
  std::uint64_t total = 0;
  std::vector<int> left{pid};
  while (!left.empty()) {
    const int one = left.back();
    left.pop_back();
    clockid_t clock{};
    if (::clock_getcpuclockid(one, &clock) == 0) total += clock_ns(clock);
    const auto [first, last] = children.equal_range(one);
    for (auto child = first; child != last; ++child) left.push_back(child->second);
  }
  return total;
}

void fail(std::string_view what) {
  std::fprintf(stderr, "avec_bench: %.*s\n", static_cast<int>(what.size()), what.data());
  std::fflush(stderr);
  // The driver library may hold threads that an orderly exit would wait for.
  ::_exit(1);
}

}  // namespace avec::bench
