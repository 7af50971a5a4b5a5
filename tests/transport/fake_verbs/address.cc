// The part of librdmacm that resolves addresses: which device leads to an IP address, with what GIDs.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <rdma/rdma_cma.h>

#include <algorithm>
#include <cstring>

#include "transport/fake_verbs/state.h"

namespace fake_verbs {
namespace {

struct EventChannel {
  rdma_event_channel base{};
  Doorbell bell;
  Ring<rdma_cm_event> events;
  unsigned ids = 0;
};

struct Id {
  rdma_cm_id base{};
  unsigned unacknowledged = 0;
};

int failed(int error) {
  errno = error;
  return -1;
}

void tell(Id& id, rdma_cm_event_type type, int status) {
  auto& channel = *reinterpret_cast<EventChannel*>(id.base.channel);
  rdma_cm_event event{};
  event.id = &id.base;
  event.event = type;
  event.status = status;
  channel.events.push(event);
  channel.bell.post();
}

// As asked for by fail_call("rdma_cm_event"): the event is told, told as an error, or never told.
void answer(Fabric& fabric, Id& id, rdma_cm_event_type good, rdma_cm_event_type bad, int status) {
  int error = 0;
  if (fabric.fault(Function::rdma_cm_event, error)) {
    if (error != 0) tell(id, bad, -error);
  } else if (status != 0) {
    tell(id, bad, status);
  } else {
    tell(id, good, 0);
  }
}

// The context that librdmacm opened for the device: one for all, never closed.
ibv_context* context_for(Fabric& fabric, Device& device) {
  for (auto* context : fabric.contexts) {
    if (context->of_cm && context->device == &device) return context->base();
  }
  return open_context(fabric, device, true)->base();
}

struct Place {
  Device* device = nullptr;
  unsigned port = 0;
};

// The device with the address; for a loopback address the first one that is up.
Place place_of(Fabric& fabric, const std::uint8_t (&ipv4)[4]) {
  for (auto* device : fabric.listed) {
    for (unsigned port = 1; port <= device->settings.ports; ++port) {
      const bool up = device->ports[port].state == IBV_PORT_ACTIVE && device->ports[port].has_gids;
      if (ipv4[0] == 127 ? up : device->has_address(port, ipv4)) return {device, port};
    }
  }
  return {};
}

// Where a connection to that place begins: on another device, as if each were a host of its own, or
// on the same where there is no other and for loopback addresses.
Place place_towards(Fabric& fabric, const std::uint8_t (&ipv4)[4], const Place& there) {
  if (there.device == nullptr || ipv4[0] == 127) return there;
  for (auto* device : fabric.listed) {
    const bool up = device->ports[1].state == IBV_PORT_ACTIVE && device->ports[1].has_gids;
    if (device != there.device && up) return {device, 1};
  }
  return there;
}

void take_route(Fabric& fabric, rdma_cm_id& id, const Place& here, const Place& there) {
  auto& route = id.route.addr;
  ibv_gid_type type{};
  id.verbs = context_for(fabric, *here.device);
  id.port_num = static_cast<std::uint8_t>(here.port);
  here.device->gid(here.port, here.device->preferred_gid(), route.addr.ibaddr.sgid, type);
  there.device->gid(there.port, there.device->preferred_gid(), route.addr.ibaddr.dgid, type);
  route.addr.ibaddr.pkey = 0xffff;
  route.src_sin = {};
  route.src_sin.sin_family = AF_INET;
  std::memcpy(&route.src_sin.sin_addr, here.device->settings.ipv4, 4);
}

}  // namespace
}  // namespace fake_verbs

using namespace fake_verbs;

extern "C" {

rdma_event_channel* rdma_create_event_channel(void) {
  Call call(Function::rdma_create_event_channel);
  if (call.error == 0 && Fabric::get().listed.empty()) call.error = ENODEV;
  if (call.error != 0) {
    errno = call.error;
    return nullptr;
  }
  auto* channel = new EventChannel;
  channel->base.fd = channel->bell.descriptor();
  ++Fabric::get().live.cm_channels;
  return &channel->base;
}

void rdma_destroy_event_channel(rdma_event_channel* base) {
  auto& fabric = Fabric::get();
  const std::lock_guard lock(fabric.mutex);
  auto* channel = reinterpret_cast<EventChannel*>(base);
  if (channel->ids > 0) fabric.violation("rdma_destroy_event_channel while identifiers use it");
  --fabric.live.cm_channels;
  delete channel;
}

int rdma_create_id(rdma_event_channel* channel, rdma_cm_id** made, void* user, rdma_port_space space) {
  Call call(Function::rdma_create_id);
  if (call.error != 0) return failed(call.error);
  auto* id = new Id;
  id->base.channel = channel;
  id->base.context = user;
  id->base.ps = space;
  ++reinterpret_cast<EventChannel*>(channel)->ids;
  ++Fabric::get().live.cm_ids;
  *made = &id->base;
  return 0;
}

int rdma_destroy_id(rdma_cm_id* base) {
  auto& fabric = Fabric::get();
  const std::lock_guard lock(fabric.mutex);
  auto* id = reinterpret_cast<Id*>(base);
  // The real one waits here until they are acknowledged.
  if (id->unacknowledged > 0) fabric.violation("rdma_destroy_id with events that are not acknowledged");
  auto& channel = *reinterpret_cast<EventChannel*>(base->channel);
  for (auto n = channel.events.drop([&](const rdma_cm_event& event) { return event.id == base; }); n > 0;
       --n) {
    channel.bell.withdraw();
  }
  --channel.ids;
  --fabric.live.cm_ids;
  delete id;
  return 0;
}

int rdma_resolve_addr(rdma_cm_id* base, sockaddr*, sockaddr* to, int) {
  Call call(Function::rdma_resolve_addr);
  if (call.error != 0) return failed(call.error);
  auto& fabric = Fabric::get();
  std::uint8_t ipv4[4] = {};
  if (to->sa_family == AF_INET) {
    std::memcpy(ipv4, &reinterpret_cast<sockaddr_in*>(to)->sin_addr, 4);
    std::memcpy(&base->route.addr.dst_storage, to, sizeof(sockaddr_in));
  } else if (to->sa_family == AF_INET6) {
    const auto& ipv6 = reinterpret_cast<sockaddr_in6*>(to)->sin6_addr;
    if (IN6_IS_ADDR_LOOPBACK(&ipv6)) ipv4[0] = 127;
    if (IN6_IS_ADDR_V4MAPPED(&ipv6)) std::memcpy(ipv4, &ipv6.s6_addr[12], 4);
    std::memcpy(&base->route.addr.dst_storage, to, sizeof(sockaddr_in6));
  } else {
    return failed(EINVAL);
  }
  const auto there = place_of(fabric, ipv4);
  const auto here = place_towards(fabric, ipv4, there);
  if (here.device != nullptr) take_route(fabric, *base, here, there);
  answer(fabric, *reinterpret_cast<Id*>(base), RDMA_CM_EVENT_ADDR_RESOLVED, RDMA_CM_EVENT_ADDR_ERROR,
         here.device != nullptr ? 0 : -ENODEV);
  return 0;
}

int rdma_resolve_route(rdma_cm_id* base, int) {
  Call call(Function::rdma_resolve_route);
  if (call.error == 0 && base->verbs == nullptr) call.error = EINVAL;
  if (call.error != 0) return failed(call.error);
  answer(Fabric::get(), *reinterpret_cast<Id*>(base), RDMA_CM_EVENT_ROUTE_RESOLVED, RDMA_CM_EVENT_ROUTE_ERROR,
         0);
  return 0;
}

int rdma_get_cm_event(rdma_event_channel* base, rdma_cm_event** event) {
  {
    Call call(Function::rdma_get_cm_event);
    if (call.error != 0) return failed(call.error);
  }
  auto& channel = *reinterpret_cast<EventChannel*>(base);
  if (const int error = channel.bell.take()) return failed(error);
  const std::lock_guard lock(Fabric::get().mutex);
  if (channel.events.empty()) return failed(EAGAIN);
  *event = new rdma_cm_event(channel.events.front());
  channel.events.pop();
  ++reinterpret_cast<Id*>((*event)->id)->unacknowledged;
  return 0;
}

int rdma_ack_cm_event(rdma_cm_event* event) {
  const std::lock_guard lock(Fabric::get().mutex);
  --reinterpret_cast<Id*>(event->id)->unacknowledged;
  delete event;
  return 0;
}

const char* rdma_event_str(rdma_cm_event_type event) {
  switch (event) {
    case RDMA_CM_EVENT_ADDR_RESOLVED:
      return "RDMA_CM_EVENT_ADDR_RESOLVED";
    case RDMA_CM_EVENT_ADDR_ERROR:
      return "RDMA_CM_EVENT_ADDR_ERROR";
    case RDMA_CM_EVENT_ROUTE_RESOLVED:
      return "RDMA_CM_EVENT_ROUTE_RESOLVED";
    case RDMA_CM_EVENT_ROUTE_ERROR:
      return "RDMA_CM_EVENT_ROUTE_ERROR";
    default:
      return "an event of the fake that does not exist";
  }
}

}  // extern "C"
