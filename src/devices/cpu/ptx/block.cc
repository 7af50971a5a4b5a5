#include "devices/cpu/ptx/block.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "devices/cpu/ptx/team.h"

namespace avec::cpu::ptx {
namespace {

/// Instructions of one warp before the next has its turn: well under a millisecond.
constexpr std::uint32_t kSlice = 4096;
/// A block that has not ended after this many steps may wait for a later one, which then joins.
constexpr std::uint32_t kStepsBeforeCompany = 2000;
constexpr std::size_t kMaxResident = 64;

}  // namespace

Block::Block(Run& run, std::array<std::uint32_t, 3> id, unsigned worker) : run_(run), id_(id), worker_(worker) {
  const Launch& launch = run.launch();
  live_threads_ = launch.block[0] * launch.block[1] * launch.block[2];
  dynamic_shared_at_ = (run.kernel().static_shared_bytes + 15) / 16 * 16;
  shared_bytes_ = dynamic_shared_at_ + launch.dynamic_shared_bytes;
  shared_.resize((shared_bytes_ + 7) / 8 + 1);
  for (std::uint32_t first = 0; first < live_threads_; first += kLanes) {
    warps_.push_back(std::make_unique<Warp>(*this, run, first / kLanes, live_threads_ - first));
  }
}

Block::State Block::step() {
  bool ran = false, alive = false;
  for (const auto& warp : warps_) {
    if (warp->done()) continue;
    alive = true;
    if (!warp->ready()) continue;
    ran = true;
    if (warp->run(kSlice) == Pause::kFault) {
      fault_ = warp->fault();
      return State::kFault;
    }
  }
  if (!alive) return State::kDone;
  if (ran) return State::kRunning;
  const bool forced = std::any_of(warps_.begin(), warps_.end(), [](const auto& warp) { return warp->force_sync(); });
  if (forced) return State::kRunning;
  run_.output(2, "avec: deadlock in kernel " + run_.kernel().name + ": threads of block (" + std::to_string(id_[0]) + "," +
                     std::to_string(id_[1]) + "," + std::to_string(id_[2]) + ") wait at different barriers\n");
  fault_ = Fault::kTrap;
  return State::kFault;
}

void Block::arrive(const Arrival& arrival) {
  Barrier& barrier = barriers_[arrival.id];
  barrier.arrived += arrival.threads;
  barrier.credit += arrival.credit;
  barrier.votes += arrival.votes;
  barrier.expected = std::max(barrier.expected, arrival.expected);
  complete_if_full(arrival.id);
}

void Block::threads_left(std::uint32_t threads) {
  live_threads_ -= threads;
  for (std::uint32_t id = 0; id < barriers_.size(); ++id) complete_if_full(id);
  complete_cluster();
}

void Block::cluster_arrive(Warp& warp, Mask mask) {
  warp.set_cluster_arrived(warp.cluster_arrived() | mask);
  complete_cluster();
}

void Block::complete_cluster() {
  const auto all = [](const auto& warp) { return (warp->live() & ~warp->cluster_arrived()) == 0; };
  if (!std::all_of(warps_.begin(), warps_.end(), all)) return;
  for (const auto& warp : warps_) warp->set_cluster_arrived(0);
}

void Block::complete_if_full(std::uint32_t id) {
  Barrier& barrier = barriers_[id];
  if (barrier.arrived == 0) return;
  if (barrier.expected != 0 ? barrier.credit < barrier.expected : barrier.arrived < live_threads_) return;
  const std::uint32_t result = barrier.votes | barrier.arrived << 16;
  barrier = {};
  for (const auto& warp : warps_) warp->release_barrier(id, result);
}

Run::Run(const Program& program, const Function& kernel, const Launch& launch, const std::vector<AddressSpace::Range>& constants)
    : program_(program), kernel_(kernel), launch_(launch), constants_(constants) {
  static std::atomic<std::uint64_t> next_id{1};
  id_ = next_id++;
  blocks_ = std::uint64_t{launch.grid[0]} * launch.grid[1] * launch.grid[2];
}

bool Run::is_constant(std::uint64_t address) const {
  return std::any_of(constants_.begin(), constants_.end(), [&](const auto& r) { return address >= r.begin && address < r.end; });
}

DeviceHeap& Run::heap() const {
  static DeviceHeap shared;
  return launch_.heap != nullptr ? *launch_.heap : shared;
}

AddressSpace::Range Run::find(std::uint64_t address) const {
  const auto holds = [&](const AddressSpace::Range& r) { return address >= r.begin && address < r.end; };
  const AddressSpace::Range parameters{parameters_address(), parameters_address() + parameter_bytes(), false};
  if (holds(parameters)) return parameters;
  const auto workspace = reinterpret_cast<std::uint64_t>(workspace_);
  if (address - workspace < sizeof workspace_) return {workspace, workspace + sizeof workspace_, true};
  for (const AddressSpace::Range& constant : constants_) {
    if (holds(constant)) return constant;
  }
  const AddressSpace::Range allocated = heap().find(address);
  if (holds(allocated)) return allocated;
  if (launch_.memory != nullptr) return launch_.memory->find(address);
  return {1 << 16, std::uint64_t{1} << 47, true};
}

void Run::output(int descriptor, std::string_view text) {
  if (!launch_.output) return;
  const std::lock_guard lock(output_mutex_);
  launch_.output(descriptor, text);
}

bool Run::stopped() const {
  return fault_.load(std::memory_order_relaxed) != Fault::kNone ||
         (launch_.stop != nullptr && launch_.stop->load(std::memory_order_relaxed));
}

void Run::fault(Fault fault) {
  Fault none = Fault::kNone;
  fault_.compare_exchange_strong(none, fault);
}

std::array<std::uint32_t, 3> Run::block_id(std::uint64_t index) const {
  const std::uint64_t x = launch_.grid[0], y = launch_.grid[1];
  return {static_cast<std::uint32_t>(index % x), static_cast<std::uint32_t>(index / x % y),
          static_cast<std::uint32_t>(index / x / y)};
}

/// One host thread: a few blocks in turn. The next starts when one has ended, or when all have
/// run for long, perhaps waiting for it. Of a cooperative launch all are there from the start.
void Run::work(unsigned worker) {
  std::vector<std::unique_ptr<Block>> resident;
  std::uint32_t steps = 0;
  bool more = true;
  while (!stopped()) {
    const bool wants_company = launch_.cooperative || resident.empty() ||
                               (steps > kStepsBeforeCompany && resident.size() < kMaxResident);
    if (more && wants_company) {
      const std::uint64_t index = next_block_.fetch_add(1, std::memory_order_relaxed);
      more = index < blocks_;
      if (more) resident.push_back(std::make_unique<Block>(*this, block_id(index), worker));
      steps = 0;
      if (more && launch_.cooperative) continue;
    }
    if (resident.empty()) return;
    ++steps;
    for (std::size_t i = 0; i < resident.size() && !stopped();) {
      switch (resident[i]->step()) {
        case Block::State::kRunning: ++i; break;
        case Block::State::kDone: resident.erase(resident.begin() + static_cast<std::ptrdiff_t>(i)); break;
        case Block::State::kFault: fault(resident[i]->fault()); return;
      }
    }
  }
}

Fault Run::execute() {
  if (blocks_ == 0) return Fault::kNone;
  parameters_.assign(launch_.parameters.size() / 8 + 8, 0);
  if (!launch_.parameters.empty())
    std::memcpy(parameters_.data(), launch_.parameters.data(), launch_.parameters.size());
  workers_ = static_cast<unsigned>(std::min<std::uint64_t>(blocks_, std::max(1u, std::thread::hardware_concurrency())));
  run_with_team(workers_, [this](unsigned worker) { work(worker); });
  if (const Fault fault = fault_.load(); fault != Fault::kNone) return fault;
  return launch_.stop != nullptr && launch_.stop->load() ? Fault::kStopped : Fault::kNone;
}

}  // namespace avec::cpu::ptx
