// Protection domains, memory regions and windows, completion channels and queues.
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "transport/fake_verbs/state.h"

#undef ibv_reg_mr
#undef ibv_reg_mr_iova

namespace fake_verbs {
namespace {

constexpr unsigned kRemoteRights =
    IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC;
constexpr std::uint64_t kPage = 4096;

template <class T>
T* failed(int error) {
  errno = error;
  return nullptr;
}

/// Whether all of the range is mapped, readable, and writable if asked: what the kernel finds out
/// when it pins the pages.
bool mapped(std::uint64_t start, std::uint64_t end, bool writable) {
  std::FILE* maps = std::fopen("/proc/self/maps", "re");
  if (maps == nullptr) return true;
  char line[512];
  while (start < end && std::fgets(line, sizeof line, maps) != nullptr) {
    char* rest = nullptr;
    const std::uint64_t low = std::strtoull(line, &rest, 16);
    const std::uint64_t high = std::strtoull(rest + 1, &rest, 16);  // "low-high rwxp ..."
    while (std::strchr(line, '\n') == nullptr && std::fgets(line, sizeof line, maps) != nullptr)
      rest = nullptr;
    if (high <= start) continue;
    const bool fits = low <= start && rest != nullptr && rest[1] == 'r' && (!writable || rest[2] == 'w');
    if (!fits) break;
    start = high;
  }
  std::fclose(maps);
  return start >= end;
}

int check_rights(const Fabric& fabric, const Device& device, std::uint64_t bytes, unsigned access) {
  constexpr unsigned kKnown = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND | IBV_ACCESS_RELAXED_ORDERING;
  if (device.fatal) return EIO;
  if (bytes == 0 || bytes > device.settings.max_mr_size || (access & ~(kKnown | kRemoteRights)) != 0)
    return EINVAL;
  const bool remote_write = (access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC)) != 0;
  if (remote_write && (access & IBV_ACCESS_LOCAL_WRITE) == 0) return EINVAL;
  return fabric.live.regions >= static_cast<unsigned>(device.settings.max_mr) ? ENOMEM : 0;
}

int check_region(const Fabric& fabric, const Device& device, std::uint64_t start, std::uint64_t bytes,
                 unsigned access, std::uint64_t pages) {
  if (const int error = check_rights(fabric, device, bytes, access)) return error;
  if (pages > fabric.memlock || fabric.locked_bytes > fabric.memlock - pages) return ENOMEM;
  const bool writable = (access & (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE)) != 0;
  return mapped(start, start + bytes, writable) ? 0 : EFAULT;
}

// A receive or an unfinished request of a working queue pair names the region: the adapter would
// still use it.
bool in_use(const Fabric& fabric, const Region& region) {
  for (const auto* qp : fabric.queue_pairs) {
    if (qp->base.pd != region.base.pd || (qp->state != IBV_QPS_RTR && qp->state != IBV_QPS_RTS)) continue;
    for (auto i = qp->receives_done; i < qp->receives_posted; ++i) {
      const auto slot = i % qp->receives.size();
      for (unsigned k = 0; k < qp->receives[slot].sges; ++k) {
        if (qp->receive_sges[slot * qp->init.cap.max_recv_sge + k].lkey == region.base.lkey) return true;
      }
    }
    for (auto i = qp->sends_done; i < qp->sends_posted; ++i) {
      const auto slot = i % qp->sends.size();
      for (unsigned k = 0; k < qp->sends[slot].sges; ++k) {
        if (qp->send_sges[slot * qp->init.cap.max_send_sge + k].lkey == region.base.lkey) return true;
      }
    }
  }
  return false;
}

/// A region with keys of its own: its first byte lies at `memory` and is named `start`.
Region& new_region(Fabric& fabric, ibv_pd* domain, std::byte* memory, std::uint64_t start, size_t bytes,
                   unsigned access) {
  auto* region = new Region;
  region->base = {domain->context, domain, memory, bytes, fabric.next_handle++, 0, 0};
  const auto index = fabric.next_key++;
  region->base.lkey = index << 8 | (index * 7 & 0x7f);
  region->base.rkey = index << 8 | 0x80 | (index * 5 & 0x7f);
  region->access = access;
  region->start = start;
  region->memory = memory;
  fabric.keys[index].region = region;
  ++fabric.live.regions;
  if ((access & kRemoteRights) != 0) {
    ++fabric.live.remote_keys;
    fabric.remember_key(region->base.rkey, start);
  }
  ++reinterpret_cast<Domain*>(domain)->objects;
  return *region;
}

ibv_mr* reg_dmabuf_mr(ibv_pd* domain, std::uint64_t offset, size_t bytes, std::uint64_t iova, int dma_buf,
                      unsigned access) {
  Call call(Function::ibv_reg_dmabuf_mr, domain->context);
  auto& fabric = Fabric::get();
  if (call.error == 0)
    call.error = check_rights(fabric, *context_of(domain->context).device, bytes, access);
  // As the kernel demands: both at the same place in a page.
  if (call.error == 0 && (iova - offset) % kPage != 0) call.error = EINVAL;
  if (call.error != 0) return failed<ibv_mr>(call.error);
  const auto in_page = offset % kPage;
  void* mapped = ::mmap(nullptr, bytes + in_page, PROT_READ | PROT_WRITE, MAP_SHARED, dma_buf,
                        static_cast<off_t>(offset - in_page));
  if (mapped == MAP_FAILED) return failed<ibv_mr>(errno);
  auto& region = new_region(fabric, domain, static_cast<std::byte*>(mapped) + in_page, iova, bytes, access);
  region.of_dma_buf = true;
  region.base.addr = reinterpret_cast<void*>(offset);  // as the real library has it: no address at all
  return &region.base;
}

ibv_mr* reg_mr(ibv_pd* domain, void* address, size_t bytes, unsigned access) {
  Call call(Function::ibv_reg_mr, domain->context);
  auto& fabric = Fabric::get();
  const auto start = reinterpret_cast<std::uint64_t>(address);
  const auto pages = bytes == 0 ? 0 : ((start + bytes + kPage - 1) / kPage - start / kPage) * kPage;
  if (call.error == 0) {
    call.error = check_region(fabric, *context_of(domain->context).device, start, bytes, access, pages);
  }
  if (call.error != 0) return failed<ibv_mr>(call.error);
  auto& region = new_region(fabric, domain, static_cast<std::byte*>(address), start, bytes, access);
  region.locked_bytes = pages;
  fabric.locked_bytes += pages;
  fabric.registrations_go_on.wait(call.lock, [&] { return !fabric.holds_registrations; });
  return &region.base;
}

}  // namespace

ibv_mw* allocate_window(ibv_pd* domain, ibv_mw_type type) {
  Call call(Function::ibv_alloc_mw, domain->context);
  auto& fabric = Fabric::get();
  const auto& device = *context_of(domain->context).device;
  if (call.error == 0 && device.fatal) call.error = EIO;
  if (call.error == 0 && type == IBV_MW_TYPE_2 && device.settings.windows < 2) call.error = EOPNOTSUPP;
  if (call.error == 0 && fabric.live.windows >= static_cast<unsigned>(device.settings.max_mw))
    call.error = ENOMEM;
  if (call.error != 0) return failed<ibv_mw>(call.error);
  auto* window = new Window;
  const auto index = fabric.next_key++;
  window->rkey = index << 8 | (index * 11 & 0xff);
  window->base = {domain->context, domain, window->rkey, fabric.next_handle++, type};
  fabric.keys[index].window = window;
  ++fabric.live.windows;
  ++reinterpret_cast<Domain*>(domain)->objects;
  return &window->base;
}

int free_window(ibv_mw* base) {
  Call call(Function::ibv_dealloc_mw, base->context);
  if (call.error != 0) return call.error;
  auto& fabric = Fabric::get();
  auto* window = reinterpret_cast<Window*>(base);
  for (const auto* qp : fabric.queue_pairs) {
    for (auto i = qp->sends_done; i < qp->sends_posted; ++i) {
      const auto& work = qp->sends[i % qp->sends.size()];
      if (work.window == window && work.opcode == IBV_WR_BIND_MW) {
        fabric.violation("ibv_dealloc_mw of a window whose binding is under way");
        return EBUSY;
      }
    }
  }
  if (window->region != nullptr) {
    --window->region->windows;
    --fabric.live.remote_keys;
  }
  fabric.keys.erase(window->rkey >> 8);
  --fabric.live.windows;
  --reinterpret_cast<Domain*>(base->pd)->objects;
  delete window;
  return 0;
}

}  // namespace fake_verbs

using namespace fake_verbs;

extern "C" {

ibv_pd* ibv_alloc_pd(ibv_context* context) {
  Call call(Function::ibv_alloc_pd, context);
  auto& fabric = Fabric::get();
  if (call.error == 0 && context_of(context).device->fatal) call.error = EIO;
  if (call.error != 0) return failed<ibv_pd>(call.error);
  auto* domain = new Domain;
  domain->base = {context, fabric.next_handle++};
  ++fabric.live.domains;
  ++context_of(context).objects;
  return &domain->base;
}

int ibv_dealloc_pd(ibv_pd* base) {
  Call call(Function::ibv_dealloc_pd, base->context);
  if (call.error != 0) return call.error;
  auto* domain = reinterpret_cast<Domain*>(base);
  if (domain->objects > 0) {
    Fabric::get().violation("ibv_dealloc_pd while its objects live");
    return EBUSY;
  }
  --Fabric::get().live.domains;
  --context_of(base->context).objects;
  delete domain;
  return 0;
}

ibv_mr* ibv_reg_mr(ibv_pd* domain, void* address, size_t bytes, int access) {
  return reg_mr(domain, address, bytes, static_cast<unsigned>(access));
}

ibv_mr* ibv_reg_mr_iova2(ibv_pd* domain, void* address, size_t bytes, std::uint64_t iova, unsigned access) {
  if (iova != reinterpret_cast<std::uint64_t>(address)) return failed<ibv_mr>(EOPNOTSUPP);
  return reg_mr(domain, address, bytes, access);
}

ibv_mr* ibv_reg_dmabuf_mr(ibv_pd* domain, std::uint64_t offset, size_t bytes, std::uint64_t iova, int dma_buf,
                          int access) {
  return reg_dmabuf_mr(domain, offset, bytes, iova, dma_buf, static_cast<unsigned>(access));
}

int ibv_dereg_mr(ibv_mr* base) {
  Call call(Function::ibv_dereg_mr, base->context);
  if (call.error != 0) return call.error;
  auto& fabric = Fabric::get();
  auto* region = reinterpret_cast<Region*>(base);
  if (region->windows > 0) {
    fabric.violation("ibv_dereg_mr while a window is bound to the region");
    return EBUSY;
  }
  if (in_use(fabric, *region)) fabric.violation("ibv_dereg_mr while posted work names the region");
  if ((region->access & kRemoteRights) != 0) --fabric.live.remote_keys;
  fabric.keys.erase(base->lkey >> 8);
  fabric.locked_bytes -= region->locked_bytes;
  --fabric.live.regions;
  --reinterpret_cast<Domain*>(base->pd)->objects;
  if (region->of_dma_buf) {
    const auto in_page = reinterpret_cast<std::uintptr_t>(region->memory) % kPage;
    ::munmap(region->memory - in_page, base->length + in_page);
  }
  delete region;
  return 0;
}

ibv_comp_channel* ibv_create_comp_channel(ibv_context* context) {
  Call call(Function::ibv_create_comp_channel, context);
  if (call.error != 0) return failed<ibv_comp_channel>(call.error);
  auto* channel = new Channel;
  channel->base = {context, channel->bell.descriptor(), 0};
  ++Fabric::get().live.channels;
  ++context_of(context).objects;
  return &channel->base;
}

int ibv_destroy_comp_channel(ibv_comp_channel* base) {
  Call call(Function::ibv_destroy_comp_channel, base->context);
  if (call.error != 0) return call.error;
  if (base->refcnt > 0) {
    Fabric::get().violation("ibv_destroy_comp_channel while completion queues use it");
    return EBUSY;
  }
  --Fabric::get().live.channels;
  --context_of(base->context).objects;
  delete reinterpret_cast<Channel*>(base);
  return 0;
}

ibv_cq* ibv_create_cq(ibv_context* context, int entries, void* user, ibv_comp_channel* channel, int vector) {
  Call call(Function::ibv_create_cq, context);
  auto& fabric = Fabric::get();
  const auto& device = *context_of(context).device;
  if (call.error == 0 && device.fatal) call.error = EIO;
  if (call.error == 0 && (entries < 1 || entries > device.settings.max_cqe || vector != 0))
    call.error = EINVAL;
  if (call.error == 0 && fabric.live.completion_queues >= static_cast<unsigned>(device.settings.max_cq)) {
    call.error = ENOMEM;
  }
  if (call.error != 0) return failed<ibv_cq>(call.error);
  auto* queue = new CompletionQueue;
  queue->base.context = context;
  queue->base.channel = channel;
  queue->base.cq_context = user;
  queue->base.handle = fabric.next_handle++;
  queue->base.cqe = entries;
  queue->entries = std::make_unique<Ring<Completion>>(static_cast<std::size_t>(entries));
  if (channel != nullptr) ++channel->refcnt;
  ++fabric.live.completion_queues;
  ++context_of(context).objects;
  return &queue->base;
}

int ibv_destroy_cq(ibv_cq* base) {
  Call call(Function::ibv_destroy_cq, base->context);
  if (call.error != 0) return call.error;
  auto& fabric = Fabric::get();
  auto* queue = reinterpret_cast<CompletionQueue*>(base);
  if (queue->queue_pairs > 0) {
    fabric.violation("ibv_destroy_cq while queue pairs use it");
    return EBUSY;
  }
  // The real one waits here until they are acknowledged.
  if (queue->unacknowledged > 0) fabric.violation("ibv_destroy_cq with events that are not acknowledged");
  if (base->channel != nullptr) {
    auto& channel = *reinterpret_cast<Channel*>(base->channel);
    for (auto n = channel.events.drop([&](const CompletionQueue* of) { return of == queue; }); n > 0; --n) {
      channel.bell.withdraw();
    }
    --base->channel->refcnt;
  }
  auto& context = context_of(base->context);
  for (auto n = context.events.drop([&](const AsyncEvent& event) {
         return event.event.event_type == IBV_EVENT_CQ_ERR && event.event.element.cq == base;
       });
       n > 0; --n) {
    context.async.withdraw();
  }
  --fabric.live.completion_queues;
  --context.objects;
  delete queue;
  return 0;
}

int ibv_get_cq_event(ibv_comp_channel* base, ibv_cq** queue, void** user) {
  {
    Call call(Function::ibv_get_cq_event, base->context);
    if (call.error != 0) {
      errno = call.error;
      return -1;
    }
  }
  auto& channel = *reinterpret_cast<Channel*>(base);
  if (const int error = channel.bell.take()) {
    errno = error;
    return -1;
  }
  const std::lock_guard lock(Fabric::get().mutex);
  if (channel.events.empty()) {
    errno = EAGAIN;
    return -1;
  }
  auto& told = *channel.events.front();
  channel.events.pop();
  ++told.unacknowledged;
  *queue = &told.base;
  *user = told.base.cq_context;
  return 0;
}

void ibv_ack_cq_events(ibv_cq* queue, unsigned count) {
  Call call(Function::ibv_ack_cq_events, queue->context);
  auto& acknowledged = *reinterpret_cast<CompletionQueue*>(queue);
  if (count > acknowledged.unacknowledged) {
    Fabric::get().violation("ibv_ack_cq_events of more events than there were");
    count = acknowledged.unacknowledged;
  }
  acknowledged.unacknowledged -= count;
}

}  // extern "C"
