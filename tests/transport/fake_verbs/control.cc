// fake_verbs_control(): what tests see and do.
#include <algorithm>
#include <cstring>

#include "transport/fake_verbs/state.h"

namespace fake_verbs {
namespace {

constexpr std::array<std::string_view, static_cast<std::size_t>(Function::kCount)> kFunctions = {
#define FAKE_VERBS_NAME(name) #name,
    FAKE_VERBS_FUNCTIONS(FAKE_VERBS_NAME)
#undef FAKE_VERBS_NAME
};

int index_of(std::string_view function) {
  const auto found = std::find(kFunctions.begin(), kFunctions.end(), function);
  return found != kFunctions.end() ? static_cast<int>(found - kFunctions.begin()) : -1;
}

void default_device(FakeVerbsDevice* device) {
  *device = {};
  std::memcpy(device->name, "fake0", 6);
  device->ports = 2;
  device->link_layer = IBV_LINK_LAYER_ETHERNET;
  device->active_mtu = IBV_MTU_4096;
  const std::uint8_t address[4] = {10, 9, 0, 1};
  std::memcpy(device->ipv4, address, 4);
  device->windows = 2;
  device->max_mr = device->max_mw = device->max_qp = 1 << 16;
  device->max_cq = 1 << 16;
  device->max_cqe = 1 << 20;
  device->max_qp_wr = 1 << 14;
  device->max_sge = 16;
  device->max_inline_data = 256;
  device->max_rd_atomic = 16;
  device->max_mr_size = UINT64_MAX;
  device->max_msg_sz = 1U << 30;
}

void list_devices(Fabric& fabric, const FakeVerbsDevice* devices, unsigned count) {
  fabric.listed.clear();
  for (unsigned i = 0; i < count; ++i) {
    auto device = std::make_unique<Device>();
    device->settings = devices[i];
    device->number = i;
    device->base.node_type = IBV_NODE_CA;
    device->base.transport_type = IBV_TRANSPORT_IB;
    std::memcpy(device->base.name, devices[i].name, sizeof devices[i].name);
    std::memcpy(device->base.dev_name, "fake", 5);
    for (unsigned port = 1; port <= devices[i].ports; ++port) {
      device->ports[port].lid = static_cast<std::uint16_t>(0x10 * (i + 1) + port);
      device->ports[port].has_gids =
          devices[i].ipv4[0] != 0 || devices[i].link_layer == IBV_LINK_LAYER_INFINIBAND;
    }
    fabric.listed.push_back(device.get());
    fabric.devices.push_back(std::move(device));
  }
}

// fake0, whose second port is down, and fake1.
void list_default_devices(Fabric& fabric) {
  std::array<FakeVerbsDevice, 2> devices{};
  for (auto& device : devices) default_device(&device);
  devices[1].name[4] = '1';
  devices[1].ipv4[3] = 2;
  devices[1].ports = 1;
  list_devices(fabric, devices.data(), devices.size());
  fabric.listed.front()->ports[2].state = IBV_PORT_DOWN;
}

Device* device_named(Fabric& fabric, const char* name) {
  for (auto* device : fabric.listed) {
    if (std::strcmp(device->settings.name, name) == 0) return device;
  }
  return nullptr;
}

unsigned reset() {
  auto& fabric = Fabric::get();
  const std::lock_guard lock(fabric.mutex);
  list_default_devices(fabric);
  fabric.no_driver = 0;
  fabric.memlock = UINT64_MAX;
  fabric.known_count = 0;
  fabric.calls.fill(0);
  fabric.call_faults.clear();
  fabric.holds_registrations = false;
  fabric.work_faults.clear();
  fabric.posted.fill(0);
  fabric.receives_posted = 0;
  fabric.violation_count = 0;
  fabric.first_violation.clear();
  fabric.deepest_send_queue = fabric.deepest_completion_queue = 0;
  fabric.keeps_stale_completions = true;
  fabric.mode = FAKE_VERBS_IMMEDIATE;
  fabric.delay = std::chrono::microseconds(0);
  fabric.seed = 0;
  fabric.timeout_percent = 100;
  for (auto* queue_pair : fabric.queue_pairs) fabric.ready(*queue_pair);
  fabric.settle();
  return fabric.live.total();
}

FakeVerbsLive live() {
  auto& fabric = Fabric::get();
  const std::lock_guard lock(fabric.mutex);
  auto live = fabric.live;
  live.locked_bytes_kib = static_cast<unsigned>(fabric.locked_bytes >> 10);
  return live;
}

unsigned violations() {
  const std::lock_guard lock(Fabric::get().mutex);
  return Fabric::get().violation_count;
}

const char* first_violation() {
  const std::lock_guard lock(Fabric::get().mutex);
  return Fabric::get().first_violation.c_str();
}

void set_devices(const FakeVerbsDevice* devices, unsigned count) {
  auto& fabric = Fabric::get();
  const std::lock_guard lock(fabric.mutex);
  list_devices(fabric, devices, count);
}

void set_no_driver(int error) {
  const std::lock_guard lock(Fabric::get().mutex);
  Fabric::get().no_driver = error;
}

void set_port(const char* name, unsigned port, int state) {
  auto& fabric = Fabric::get();
  const std::lock_guard lock(fabric.mutex);
  auto* device = device_named(fabric, name);
  if (device == nullptr || !device->has_port(port) || device->ports[port].state == state) return;
  device->ports[port].state = static_cast<ibv_port_state>(state);
  const auto event = state == IBV_PORT_ACTIVE ? IBV_EVENT_PORT_ACTIVE : IBV_EVENT_PORT_ERR;
  for (auto* context : fabric.contexts) {
    if (context->device == device) fabric.raise(*context, event, static_cast<int>(port), nullptr, nullptr);
  }
  for (auto* queue_pair : fabric.queue_pairs) fabric.ready(*queue_pair);
  fabric.settle();
}

void remove_gids(const char* name, unsigned port) {
  auto& fabric = Fabric::get();
  const std::lock_guard lock(fabric.mutex);
  auto* device = device_named(fabric, name);
  if (device != nullptr && device->has_port(port)) device->ports[port].has_gids = false;
}

void set_memlock(std::uint64_t bytes) {
  const std::lock_guard lock(Fabric::get().mutex);
  Fabric::get().memlock = bytes;
}

void set_mode(int mode, unsigned delay_us, unsigned seed) {
  auto& fabric = Fabric::get();
  const std::lock_guard lock(fabric.mutex);
  fabric.mode = mode;
  fabric.delay = std::chrono::microseconds(delay_us);
  fabric.seed = seed;
  fabric.random.seed(seed);
  for (auto* queue_pair : fabric.queue_pairs) fabric.ready(*queue_pair);
  fabric.settle();
  fabric.wake_engine();
}

unsigned step(std::uint32_t qpn, unsigned count) {
  const std::lock_guard lock(Fabric::get().mutex);
  return Fabric::get().step(qpn, count);
}

void set_timeouts(unsigned percent) {
  const std::lock_guard lock(Fabric::get().mutex);
  Fabric::get().timeout_percent = percent;
}

void stall(std::uint32_t qpn, int on) {
  auto& fabric = Fabric::get();
  const std::lock_guard lock(fabric.mutex);
  if (auto* queue_pair = fabric.queue_pair(qpn)) {
    queue_pair->stalled = on != 0;
    fabric.ready(*queue_pair);
    fabric.settle();
  }
}

void cut(std::uint32_t qpn) {
  auto& fabric = Fabric::get();
  const std::lock_guard lock(fabric.mutex);
  if (auto* queue_pair = fabric.queue_pair(qpn)) queue_pair->cut = true;
}

void set_stale_completions(int keep) {
  const std::lock_guard lock(Fabric::get().mutex);
  Fabric::get().keeps_stale_completions = keep != 0;
}

void hold_registrations(int on) {
  const std::lock_guard lock(Fabric::get().mutex);
  Fabric::get().holds_registrations = on != 0;
  Fabric::get().registrations_go_on.notify_all();
}

int fail_call(const char* function, unsigned nth, int error, unsigned times) {
  auto& fabric = Fabric::get();
  const std::lock_guard lock(fabric.mutex);
  const int index = index_of(function);
  if (index < 0 || nth == 0) return 0;
  fabric.call_faults.push_back({static_cast<Function>(index), nth - 1, times, error});
  return 1;
}

void fail_work(int opcode, std::uint32_t qpn, unsigned nth, int status) {
  const std::lock_guard lock(Fabric::get().mutex);
  if (nth > 0) Fabric::get().work_faults.push_back({opcode, qpn, nth - 1, status});
}

// The device is gone: what is under way is flushed, and nothing new can be made.
void fail_device(Fabric& fabric, Device& device) {
  device.fatal = true;
  for (auto* queue_pair : fabric.queue_pairs) {
    if (queue_pair->device == &device) fabric.to_error(*queue_pair);
  }
}

void raise_event(const char* name, int type, std::uint32_t number) {
  auto& fabric = Fabric::get();
  const std::lock_guard lock(fabric.mutex);
  const auto event = static_cast<ibv_event_type>(type);
  auto* queue_pair = fabric.queue_pair(number);
  if (is_of_queue_pair(event) || event == IBV_EVENT_CQ_ERR) {
    if (queue_pair == nullptr) return;
    auto& context = context_of(queue_pair->base.context);
    if (event == IBV_EVENT_CQ_ERR) {
      auto& queue = *reinterpret_cast<CompletionQueue*>(queue_pair->base.send_cq);
      fabric.raise(context, event, 0, nullptr, &queue);
    } else {
      fabric.raise(context, event, 0, queue_pair, nullptr);
    }
    const bool fatal =
        event == IBV_EVENT_QP_FATAL || event == IBV_EVENT_QP_REQ_ERR || event == IBV_EVENT_QP_ACCESS_ERR;
    if (fatal) fabric.to_error(*queue_pair);
  } else if (auto* device = device_named(fabric, name)) {
    for (auto* context : fabric.contexts) {
      if (context->device == device)
        fabric.raise(*context, event, static_cast<int>(number), nullptr, nullptr);
    }
    if (event == IBV_EVENT_DEVICE_FATAL) fail_device(fabric, *device);
  }
  fabric.settle();
}

unsigned calls(const char* function) {
  const std::lock_guard lock(Fabric::get().mutex);
  const int index = index_of(function);
  return index < 0 ? 0 : Fabric::get().calls[static_cast<std::size_t>(index)];
}

unsigned posted(int opcode) {
  auto& fabric = Fabric::get();
  const std::lock_guard lock(fabric.mutex);
  if (opcode == -2) return fabric.receives_posted;
  if (opcode >= 0) return fabric.posted[static_cast<unsigned>(opcode) % fabric.posted.size()];
  unsigned sum = 0;
  for (const auto count : fabric.posted) sum += count;
  return sum;
}

unsigned posted_of(std::uint32_t qpn) {
  const std::lock_guard lock(Fabric::get().mutex);
  const auto* queue_pair = Fabric::get().queue_pair(qpn);
  return queue_pair != nullptr ? static_cast<unsigned>(queue_pair->sends_posted) : 0;
}

unsigned queue_pairs(std::uint32_t* numbers, unsigned room) {
  auto& fabric = Fabric::get();
  const std::lock_guard lock(fabric.mutex);
  for (unsigned i = 0; i < room && i < fabric.queue_pairs.size(); ++i) {
    numbers[i] = fabric.queue_pairs[i]->base.qp_num;
  }
  return static_cast<unsigned>(fabric.queue_pairs.size());
}

unsigned deepest_send_queue() {
  const std::lock_guard lock(Fabric::get().mutex);
  return Fabric::get().deepest_send_queue;
}

unsigned deepest_completion_queue() {
  const std::lock_guard lock(Fabric::get().mutex);
  return Fabric::get().deepest_completion_queue;
}

// The bytes that a peer with the key gets at through some queue pair that is up, or null.
std::byte* reached(Fabric& fabric, std::uint32_t rkey, std::uint64_t address, std::uint32_t bytes,
                   bool write) {
  const unsigned right = write ? IBV_ACCESS_REMOTE_WRITE : IBV_ACCESS_REMOTE_READ;
  for (const auto* queue_pair : fabric.queue_pairs) {
    const bool up = queue_pair->state == IBV_QPS_RTR || queue_pair->state == IBV_QPS_RTS;
    if (!up || (queue_pair->attributes.qp_access_flags & right) == 0) continue;
    if (auto* memory = fabric.remote(*queue_pair, rkey, address, bytes, right)) return memory;
  }
  return nullptr;
}

int attack(std::uint32_t rkey, std::uint64_t address, void* data, std::uint32_t bytes, int write) {
  auto& fabric = Fabric::get();
  const std::lock_guard lock(fabric.mutex);
  auto* memory = reached(fabric, rkey, address, bytes, write != 0);
  if (memory == nullptr) return IBV_WC_REM_ACCESS_ERR;
  std::memcpy(write != 0 ? static_cast<void*>(memory) : data, write != 0 ? data : memory, bytes);
  return IBV_WC_SUCCESS;
}

unsigned attack_all(unsigned* ever) {
  auto& fabric = Fabric::get();
  const std::lock_guard lock(fabric.mutex);
  const auto known = std::min<std::size_t>(fabric.known_count, fabric.known_keys.size());
  unsigned successes = 0;
  for (std::size_t i = 0; i < known; ++i) {
    const auto& key = fabric.known_keys[i];
    if (reached(fabric, key.rkey, key.address, 1, false) != nullptr ||
        reached(fabric, key.rkey, key.address, 1, true) != nullptr) {
      ++successes;
    }
  }
  if (ever != nullptr) *ever = fabric.known_count;
  return successes;
}

constexpr FakeVerbs kControl = {
    .reset = reset,
    .live = live,
    .violations = violations,
    .first_violation = first_violation,
    .default_device = default_device,
    .set_devices = set_devices,
    .set_no_driver = set_no_driver,
    .set_port = set_port,
    .remove_gids = remove_gids,
    .set_memlock = set_memlock,
    .set_mode = set_mode,
    .step = step,
    .set_timeouts = set_timeouts,
    .stall = stall,
    .cut = cut,
    .set_stale_completions = set_stale_completions,
    .hold_registrations = hold_registrations,
    .fail_call = fail_call,
    .fail_work = fail_work,
    .raise_event = raise_event,
    .calls = calls,
    .posted = posted,
    .posted_of = posted_of,
    .queue_pairs = queue_pairs,
    .deepest_send_queue = deepest_send_queue,
    .deepest_completion_queue = deepest_completion_queue,
    .attack = attack,
    .attack_all = attack_all,
};

}  // namespace
}  // namespace fake_verbs

// A program that only uses verbs finds devices too.
[[gnu::constructor]] static void prepare() { fake_verbs::reset(); }

extern "C" const FakeVerbs* fake_verbs_control(void) { return &fake_verbs::kControl; }
