#include "harness.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include "statistics.h"

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

// Medians this sure are stable; more than so many rounds are not worth their time.
constexpr double kStable = 0.01;
constexpr std::uint64_t kLeastRounds = 5, kMostRounds = 20, kCostlyRounds = 3;
// A figure may take so many times its seconds while it is not stable.
constexpr double kPatience = 2;
constexpr std::uint64_t kMostSlice = 5'000;

// One contestant while it runs.
struct Running {
  std::vector<double> samples, blocks;
  std::uint64_t slice = 1;

  void take(const Contestant& contestant, std::uint64_t count) {
    std::vector<double> fresh;
    contestant.sample(count, fresh);
    if (fresh.empty()) fail("no samples of " + contestant.row.name);
    blocks.push_back(median(fresh));
    samples.insert(samples.end(), fresh.begin(), fresh.end());
  }
};

// Warms up and finds how many samples make a round's share of the time.
std::uint64_t warm_up(const Options& options, const Contestant& contestant) {
  if (contestant.costly) return 1;
  std::vector<double> thrown_away;
  std::uint64_t count = 1;
  const auto start = now_ns();
  const double share = options.seconds * 1e9 / 10;
  std::uint64_t last = 0;
  // Twice as many each time, until a tenth of the time is spent.
  for (;; count *= 2) {
    const auto before = now_ns();
    contestant.sample(count, thrown_away);
    last = std::max<std::uint64_t>(1, (now_ns() - before) / count);
    const auto spent = static_cast<double>(now_ns() - start);
    if (count >= kMostSlice || spent > share || (options.count != 0 && count >= options.count)) break;
  }
  return std::clamp<std::uint64_t>(static_cast<std::uint64_t>(share / static_cast<double>(last)), 1,
                                   kMostSlice);
}

}  // namespace

WaitMode Options::wait_mode() const {
  return wait == "spin" ? WaitMode::kSpin : wait == "block" ? WaitMode::kBlock : WaitMode::kAdaptive;
}

void race(const Options& options, std::vector<Contestant> contestants,
          const std::function<bool()>& verified) {
  std::vector<Running> running(contestants.size());
  bool costly = false;
  for (std::size_t i = 0; i < contestants.size(); ++i) {
    costly = costly || contestants[i].costly;
    running[i].slice = warm_up(options, contestants[i]);
  }
  auto rounds = costly ? kCostlyRounds : kMostRounds;
  if (options.count != 0) rounds = std::min<std::uint64_t>(options.count, costly ? kCostlyRounds : kBlocks);
  const auto start = now_ns();
  const double patience = options.seconds * 1e9 * kPatience * static_cast<double>(contestants.size());
  for (std::uint64_t round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < contestants.size(); ++i) {
      auto count = running[i].slice;
      if (options.count != 0)
        count =
            contestants[i].costly ? 1 : options.count * (round + 1) / rounds - options.count * round / rounds;
      running[i].take(contestants[i], count);
    }
    if (options.count != 0 || costly || round + 1 < kLeastRounds) continue;
    const bool stable = std::all_of(running.begin(), running.end(),
                                    [](const Running& one) { return relative_error(one.blocks) < kStable; });
    if (stable || static_cast<double>(now_ns() - start) > patience) break;
  }
  const bool right = verified();
  for (std::size_t i = 0; i < contestants.size(); ++i) {
    const auto& named = contestants[i].row;
    auto row = summarise(named.name, named.unit, running[i].samples);
    row.target = named.target;
    row.transport = named.transport;
    row.bytes = named.bytes;
    row.message = named.message;
    row.streams = named.streams;
    row.batch = named.batch;
    row.blocks = running[i].blocks;
    row.noise = relative_spread(row.blocks);
    row.verified = right;
    if (i > 0 && row.median > 0 && contestants[0].row.target == "raw") {
      std::vector<double> ratios;
      for (std::size_t k = 0; k < running[i].blocks.size(); ++k) {
        const double mine = running[i].blocks[k], theirs = running[0].blocks[k];
        // Of bandwidths, where both move bytes: more is better. Else of times.
        const double ours = row.bytes != 0 && row.message != 0 ? static_cast<double>(row.bytes) / mine : mine;
        const double base = row.bytes != 0 && row.message != 0
                                ? static_cast<double>(contestants[0].row.bytes) / theirs
                                : theirs;
        ratios.push_back(ours / base);
      }
      row.ratio_noise = relative_spread(ratios);
      row.ratio = median(std::move(ratios));
      row.yardstick = contestants[0].row.name + "/" + contestants[0].row.target;
    }
    emit(options, std::move(row));
  }
}

void emit(const Options& options, Row row) {
  if (row.target.empty()) row.target = options.target;
  if (row.transport.empty() && row.target != "native") row.transport = options.transport;
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
  std::fprintf(stderr, "avec bench: %.*s\n", static_cast<int>(what.size()), what.data());
  std::fflush(stderr);
  // The driver library may hold threads that an orderly exit would wait for.
  ::_exit(1);
}

}  // namespace avec::bench
