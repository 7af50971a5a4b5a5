// Devices, ports, GIDs, contexts and their asynchronous events.
#include <arpa/inet.h>
#include <errno.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "transport/fake_verbs/state.h"

// The headers give some names to inline functions; here are the functions themselves.
#undef ibv_query_port
#undef ibv_get_device_list

namespace fake_verbs {

Context& context_of(ibv_context* context) {
  return *reinterpret_cast<Context*>(reinterpret_cast<std::byte*>(context) -
                                     offsetof(verbs_context, context));
}

bool is_of_queue_pair(ibv_event_type event) {
  switch (event) {
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_COMM_EST:
    case IBV_EVENT_SQ_DRAINED:
    case IBV_EVENT_PATH_MIG:
    case IBV_EVENT_PATH_MIG_ERR:
    case IBV_EVENT_QP_LAST_WQE_REACHED:
      return true;
    default:
      return false;
  }
}

// As a Mellanox adapter lists them: each address once for RoCEv1 and once for RoCEv2.
bool Device::gid(unsigned port, unsigned index, ibv_gid& value, ibv_gid_type& type) const {
  value = {};
  type = IBV_GID_TYPE_IB;
  if (!has_port(port) || !ports[port].has_gids) return false;
  value.raw[0] = 0xfe;
  value.raw[1] = 0x80;
  value.raw[8] = 0x02;
  value.raw[14] = static_cast<std::uint8_t>(number);
  value.raw[15] = static_cast<std::uint8_t>(port);
  if (settings.link_layer == IBV_LINK_LAYER_INFINIBAND) return index == 0;
  type = index % 2 == 0 ? IBV_GID_TYPE_ROCE_V1 : IBV_GID_TYPE_ROCE_V2;
  if (index < 2) return true;
  value = {};
  value.raw[10] = value.raw[11] = 0xff;
  std::memcpy(&value.raw[12], settings.ipv4, 4);
  value.raw[15] = static_cast<std::uint8_t>(value.raw[15] + port - 1);
  if (index < 4 && settings.ipv4[0] != 0) return true;
  value = {};
  return false;
}

namespace {

int query_device_ex(ibv_context* context, const ibv_query_device_ex_input*, ibv_device_attr_ex* attributes,
                    size_t bytes) {
  if (bytes < sizeof attributes->orig_attr) return EINVAL;
  std::memset(attributes, 0, bytes);
  return ::ibv_query_device(context, &attributes->orig_attr);
}

// `bytes`: the size of the caller's struct, which grew over the versions.
int query_port(ibv_context* context, std::uint8_t number, ibv_port_attr* attributes, size_t bytes) {
  Call call(Function::ibv_query_port, context);
  if (call.error != 0) return call.error;
  const auto& device = *context_of(context).device;
  if (!device.has_port(number)) return EINVAL;
  ibv_port_attr known{};
  known.state = device.fatal ? IBV_PORT_DOWN : device.ports[number].state;
  known.max_mtu = IBV_MTU_4096;
  known.active_mtu = static_cast<ibv_mtu>(device.settings.active_mtu);
  known.gid_tbl_len = Device::kGidTable;
  known.max_msg_sz = device.settings.max_msg_sz;
  known.pkey_tbl_len = 1;
  const bool infiniband = device.settings.link_layer == IBV_LINK_LAYER_INFINIBAND;
  known.lid = infiniband ? device.ports[number].lid : 0;
  known.sm_lid = infiniband ? 1 : 0;
  known.active_width = 2;
  known.active_speed = 32;
  known.phys_state = known.state == IBV_PORT_ACTIVE ? 5 : 3;
  known.link_layer = static_cast<std::uint8_t>(device.settings.link_layer);
  std::memset(attributes, 0, bytes);
  std::memcpy(attributes, &known, std::min(bytes, sizeof known));
  return 0;
}

}  // namespace

Context* open_context(Fabric& fabric, Device& device, bool of_cm) {
  auto* context = new Context;
  context->device = &device;
  context->owner = ::getpid();
  context->of_cm = of_cm;
  auto& base = *context->base();
  base.device = &device.base;
  base.async_fd = context->async.descriptor();
  base.cmd_fd = -1;
  base.num_comp_vectors = 1;
  base.abi_compat = __VERBS_ABI_IS_EXTENDED;
  ::pthread_mutex_init(&base.mutex, nullptr);
  base.ops.post_send = post_send;
  base.ops.post_recv = post_receive;
  base.ops.poll_cq = poll;
  base.ops.req_notify_cq = request_notification;
  if (device.settings.windows > 0) {
    base.ops.alloc_mw = allocate_window;
    base.ops.dealloc_mw = free_window;
  }
  context->extended.sz = sizeof context->extended;
  context->extended.query_port = query_port;
  context->extended.query_device_ex = query_device_ex;
  fabric.contexts.push_back(context);
  if (!of_cm) ++fabric.live.contexts;
  fabric.start_engine();
  return context;
}

void close_context(Fabric& fabric, Context& context) {
  std::erase(fabric.contexts, &context);
  if (!context.of_cm) --fabric.live.contexts;
  delete &context;
}

bool Device::has_address(unsigned port, const std::uint8_t (&ipv4)[4]) const {
  return ports[port].state == IBV_PORT_ACTIVE && ports[port].has_gids &&
         std::memcmp(settings.ipv4, ipv4, 3) == 0 && settings.ipv4[3] + port - 1 == ipv4[3];
}

}  // namespace fake_verbs

using namespace fake_verbs;

extern "C" {

ibv_device** ibv_get_device_list(int* count) {
  Call call(Function::ibv_get_device_list);
  auto& fabric = Fabric::get();
  if (call.error == 0) call.error = fabric.no_driver;
  if (count != nullptr) *count = 0;
  if (call.error != 0) {
    errno = call.error;
    return nullptr;
  }
  auto* list = new ibv_device*[fabric.listed.size() + 1]();
  for (std::size_t i = 0; i < fabric.listed.size(); ++i) list[i] = &fabric.listed[i]->base;
  if (count != nullptr) *count = static_cast<int>(fabric.listed.size());
  return list;
}

void ibv_free_device_list(ibv_device** list) { delete[] list; }

const char* ibv_get_device_name(ibv_device* device) { return device->name; }

__be64 ibv_get_device_guid(ibv_device* device) {
  return 0x0200000000000000U + reinterpret_cast<Device*>(device)->number;
}

ibv_context* ibv_open_device(ibv_device* device) {
  Call call(Function::ibv_open_device);
  auto& opened = *reinterpret_cast<Device*>(device);
  if (call.error == 0 && opened.fatal) call.error = EIO;
  if (call.error != 0) {
    errno = call.error;
    return nullptr;
  }
  return open_context(Fabric::get(), opened, false)->base();
}

int ibv_close_device(ibv_context* context) {
  Call call(Function::ibv_close_device, context);
  auto& fabric = Fabric::get();
  if (call.error != 0) return call.error;
  if (context_of(context).objects != 0) {
    fabric.violation("ibv_close_device while objects of the context live");
    return EBUSY;
  }
  if (fabric.contexts.size() == 1) fabric.stop_engine(call.lock);
  close_context(fabric, context_of(context));
  return 0;
}

int ibv_query_device(ibv_context* context, ibv_device_attr* attributes) {
  Call call(Function::ibv_query_device, context);
  if (call.error != 0) return call.error;
  const auto& device = *context_of(context).device;
  const auto& settings = device.settings;
  *attributes = {};
  std::memcpy(attributes->fw_ver, "1.0", 4);
  attributes->node_guid = attributes->sys_image_guid = ::ibv_get_device_guid(context->device);
  attributes->max_mr_size = settings.max_mr_size;
  attributes->page_size_cap = 4096;
  attributes->max_qp = settings.max_qp;
  attributes->max_qp_wr = static_cast<int>(settings.max_qp_wr);
  attributes->device_cap_flags = IBV_DEVICE_RC_RNR_NAK_GEN | IBV_DEVICE_PORT_ACTIVE_EVENT;
  if (settings.windows >= 1) attributes->device_cap_flags |= IBV_DEVICE_MEM_WINDOW;
  if (settings.windows >= 2) {
    attributes->device_cap_flags |= IBV_DEVICE_MEM_WINDOW_TYPE_2B | IBV_DEVICE_MEM_MGT_EXTENSIONS;
  }
  attributes->max_sge = attributes->max_sge_rd = static_cast<int>(settings.max_sge);
  attributes->max_cq = settings.max_cq;
  attributes->max_cqe = settings.max_cqe;
  attributes->max_mr = settings.max_mr;
  attributes->max_mw = settings.windows > 0 ? settings.max_mw : 0;
  attributes->max_pd = 1024;
  attributes->max_qp_rd_atom = attributes->max_qp_init_rd_atom = static_cast<int>(settings.max_rd_atomic);
  attributes->max_res_rd_atom = attributes->max_qp_rd_atom * settings.max_qp;
  attributes->max_pkeys = 1;
  attributes->local_ca_ack_delay = 15;
  attributes->phys_port_cnt = static_cast<std::uint8_t>(settings.ports);
  return 0;
}

// Callers of the function have the struct as it was before its last member.
int ibv_query_port(ibv_context* context, std::uint8_t port, _compat_ibv_port_attr* attributes) {
  return query_port(context, port, reinterpret_cast<ibv_port_attr*>(attributes),
                    offsetof(ibv_port_attr, port_cap_flags2));
}

int ibv_query_gid(ibv_context* context, std::uint8_t port, int index, ibv_gid* gid) {
  Call call(Function::ibv_query_gid, context);
  const auto& device = *context_of(context).device;
  if (call.error == 0 &&
      (!device.has_port(port) || index < 0 || index >= static_cast<int>(Device::kGidTable))) {
    call.error = EINVAL;
  }
  if (call.error != 0) {
    errno = call.error;
    return -1;
  }
  ibv_gid_type type{};
  device.gid(port, static_cast<unsigned>(index), *gid, type);  // an empty entry reads as zeros
  return 0;
}

int _ibv_query_gid_ex(ibv_context* context, std::uint32_t port, std::uint32_t index, ibv_gid_entry* entry,
                      std::uint32_t flags, size_t bytes) {
  Call call(Function::_ibv_query_gid_ex, context);
  if (call.error != 0) return call.error;
  const auto& device = *context_of(context).device;
  if (flags != 0 || bytes < sizeof *entry || !device.has_port(port) || index >= Device::kGidTable)
    return EINVAL;
  *entry = {};
  ibv_gid_type type{};
  if (!device.gid(port, index, entry->gid, type)) return ENODATA;
  entry->gid_index = index;
  entry->port_num = port;
  entry->gid_type = static_cast<std::uint32_t>(type);
  return 0;
}

ssize_t _ibv_query_gid_table(ibv_context* context, ibv_gid_entry* entries, size_t room, std::uint32_t flags,
                             size_t bytes) {
  size_t count = 0;
  const auto ports = context_of(context).device->settings.ports;
  for (std::uint32_t port = 1; port <= ports; ++port) {
    for (std::uint32_t i = 0; i < Device::kGidTable && count < room; ++i) {
      if (::_ibv_query_gid_ex(context, port, i, &entries[count], flags, bytes) == 0) ++count;
    }
  }
  return static_cast<ssize_t>(count);
}

int ibv_query_pkey(ibv_context*, std::uint8_t, int index, __be16* pkey) {
  if (index != 0) return -1;
  *pkey = 0xffff;
  return 0;
}

int ibv_get_async_event(ibv_context* context, ibv_async_event* event) {
  {
    Call call(Function::ibv_get_async_event, context);
    if (call.error != 0) {
      errno = call.error;
      return -1;
    }
  }
  auto& opened = context_of(context);
  if (const int error = opened.async.take()) {
    errno = error;
    return -1;
  }
  auto& fabric = Fabric::get();
  const std::lock_guard lock(fabric.mutex);
  if (opened.events.empty()) {  // its object was destroyed meanwhile
    errno = EAGAIN;
    return -1;
  }
  *event = opened.events.front().event;
  if (auto* queue_pair = fabric.queue_pair(opened.events.front().qpn)) ++queue_pair->unacknowledged;
  if (event->event_type == IBV_EVENT_CQ_ERR) {
    ++reinterpret_cast<CompletionQueue*>(event->element.cq)->unacknowledged;
  }
  opened.events.pop();
  return 0;
}

void ibv_ack_async_event(ibv_async_event* event) {
  Call call(Function::ibv_ack_async_event);
  if (is_of_queue_pair(event->event_type)) --reinterpret_cast<QueuePair*>(event->element.qp)->unacknowledged;
  if (event->event_type == IBV_EVENT_CQ_ERR) {
    --reinterpret_cast<CompletionQueue*>(event->element.cq)->unacknowledged;
  }
}

int ibv_fork_init(void) {
  Call call(Function::ibv_fork_init);
  if (call.error != 0) return call.error;
  return Fabric::get().live.regions > 0 ? EINVAL : 0;
}

ibv_fork_status ibv_is_fork_initialized(void) { return IBV_FORK_UNNEEDED; }

const char* ibv_node_type_str(ibv_node_type) { return "fake channel adapter"; }

const char* ibv_port_state_str(ibv_port_state state) {
  return state == IBV_PORT_ACTIVE ? "active" : "not active";
}

const char* ibv_wc_status_str(ibv_wc_status status) {
  static constexpr std::array<const char*, 22> kNames = {"success",
                                                         "local length error",
                                                         "local QP operation error",
                                                         "local EE context operation error",
                                                         "local protection error",
                                                         "Work Request Flushed Error",
                                                         "memory bind operation error",
                                                         "bad response error",
                                                         "local access error",
                                                         "remote invalid request error",
                                                         "remote access error",
                                                         "remote operation error",
                                                         "transport retry counter exceeded",
                                                         "RNR retry counter exceeded",
                                                         "local RDD violation error",
                                                         "remote invalid RD request",
                                                         "aborted error",
                                                         "invalid EE context number",
                                                         "invalid EE context state",
                                                         "fatal error",
                                                         "response timeout error",
                                                         "general error"};
  const auto index = static_cast<std::size_t>(status);
  return index < kNames.size() ? kNames[index] : "unknown";
}

const char* ibv_event_type_str(ibv_event_type event) {
  static constexpr std::array<const char*, 20> kNames = {"CQ error",
                                                         "local work queue catastrophic error",
                                                         "invalid request local work queue error",
                                                         "local access violation work queue error",
                                                         "communication established",
                                                         "send queue drained",
                                                         "path migrated",
                                                         "path migration request error",
                                                         "local catastrophic error",
                                                         "port active",
                                                         "port error",
                                                         "LID change",
                                                         "P_Key change",
                                                         "SM change",
                                                         "SRQ catastrophic error",
                                                         "SRQ limit reached",
                                                         "last WQE reached",
                                                         "client reregistration",
                                                         "GID table change",
                                                         "work queue fatal error"};
  const auto index = static_cast<std::size_t>(event);
  return index < kNames.size() ? kNames[index] : "unknown";
}

}  // extern "C"
