// The verbs of libibverbs and the address resolution of librdmacm, loaded at run time: a machine
// without the libraries runs everything else. Types come from the headers; nothing links against
// the libraries.
//
// Six verbs are not functions of the library: ibv_post_send, ibv_post_recv, ibv_poll_cq,
// ibv_req_notify_cq, ibv_alloc_mw and ibv_dealloc_mw are inline and go through
// ibv_context::ops, as the provider filled it. They are used as they are.
#pragma once

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include <expected>
#include <memory>
#include <string>

namespace avec::rdma {

// Functions of libibverbs that must be there: rdma-core 32 or newer.
#define AVEC_VERBS_REQUIRED(X) \
  X(ibv_get_device_list)       \
  X(ibv_free_device_list)      \
  X(ibv_get_device_name)       \
  X(ibv_open_device)           \
  X(ibv_close_device)          \
  X(ibv_query_device)          \
  X(ibv_query_port)            \
  X(ibv_query_gid)             \
  X(_ibv_query_gid_ex)         \
  X(ibv_alloc_pd)              \
  X(ibv_dealloc_pd)            \
  X(ibv_reg_mr)                \
  X(ibv_dereg_mr)              \
  X(ibv_create_comp_channel)   \
  X(ibv_destroy_comp_channel)  \
  X(ibv_create_cq)             \
  X(ibv_destroy_cq)            \
  X(ibv_get_cq_event)          \
  X(ibv_ack_cq_events)         \
  X(ibv_create_qp)             \
  X(ibv_modify_qp)             \
  X(ibv_query_qp)              \
  X(ibv_destroy_qp)            \
  X(ibv_get_async_event)       \
  X(ibv_ack_async_event)       \
  X(ibv_fork_init)             \
  X(ibv_wc_status_str)         \
  X(ibv_event_type_str)

// Functions of libibverbs that may be missing (null): of rdma-core 34 or newer.
#define AVEC_VERBS_OPTIONAL(X) X(ibv_reg_dmabuf_mr)

// Functions of librdmacm; all null without it.
#define AVEC_VERBS_CM(X)        \
  X(rdma_create_event_channel)  \
  X(rdma_destroy_event_channel) \
  X(rdma_create_id)             \
  X(rdma_destroy_id)            \
  X(rdma_resolve_addr)          \
  X(rdma_resolve_route)         \
  X(rdma_get_cm_event)          \
  X(rdma_ack_cm_event)

/// Where the libraries are; a test names its own.
struct VerbsLibraries {
  std::string verbs = "libibverbs.so.1";
  std::string cm = "librdmacm.so.1";  ///< empty: none, addresses are looked up in the GID tables only
};

/// The loaded functions, each under its own name: verbs.ibv_open_device(device). Immutable and
/// shared by all threads. Never unloaded: providers keep state of their own. The headers have
/// macros for three names: device_list(), query_port() and register_memory() stand for them.
struct Verbs {
#define AVEC_VERBS_MEMBER(name) decltype(&::name) name = nullptr;
  AVEC_VERBS_REQUIRED(AVEC_VERBS_MEMBER)
  AVEC_VERBS_OPTIONAL(AVEC_VERBS_MEMBER)
  AVEC_VERBS_CM(AVEC_VERBS_MEMBER)
#undef AVEC_VERBS_MEMBER

  /// Whether addresses can be resolved by librdmacm.
  bool has_cm() const noexcept { return rdma_create_id != nullptr; }

  /// ibv_get_device_list.
  ibv_device** device_list(int& count) const noexcept;
  /// ibv_reg_mr.
  ibv_mr* register_memory(ibv_pd* domain, void* address, std::size_t bytes, int access) const noexcept;
  /// ibv_query_port as the library exports it, with the newer fields zero.
  int query_port(ibv_context* context, std::uint8_t port, ibv_port_attr& attributes) const noexcept;

  /// Loads the libraries, or says in one sentence why not. Calls ibv_fork_init() before any
  /// other verb, so that a fork of the application leaves the parent's registered memory alone.
  static std::expected<std::shared_ptr<const Verbs>, std::string> load(const VerbsLibraries& libraries = {});
};

}  // namespace avec::rdma
