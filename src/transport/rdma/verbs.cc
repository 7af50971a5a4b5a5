#include "transport/rdma/verbs.h"

#include <dlfcn.h>

#include <cstring>

namespace avec::rdma {
namespace {

// RTLD_NODELETE: providers register with the library and leave threads' data behind.
void* open_library(const std::string& path) {
  return ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
}

std::string why_not_loaded() {
  const char* reason = ::dlerror();
  return reason != nullptr ? reason : "unknown reason";
}

template <class Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
  return function != nullptr;
}

}  // namespace

// In parentheses, so that the headers' macros do not take the names.

ibv_device** Verbs::device_list(int& count) const noexcept { return (ibv_get_device_list)(&count); }

ibv_mr* Verbs::register_memory(ibv_pd* domain, void* address, std::size_t bytes, int access) const noexcept {
  return (ibv_reg_mr)(domain, address, bytes, access);
}

int Verbs::query_port(ibv_context* context, std::uint8_t port, ibv_port_attr& attributes) const noexcept {
  std::memset(&attributes, 0, sizeof attributes);
  return (ibv_query_port)(context, port, reinterpret_cast<_compat_ibv_port_attr*>(&attributes));
}

std::expected<std::shared_ptr<const Verbs>, std::string> Verbs::load(const VerbsLibraries& libraries) {
  auto verbs = std::make_shared<Verbs>();
  void* library = open_library(libraries.verbs);
  if (library == nullptr) {
    return std::unexpected("the RDMA library cannot be loaded (" + why_not_loaded() +
                           "); install libibverbs1 and ibverbs-providers");
  }
  const char* missing = nullptr;
#define AVEC_VERBS_FIND(name) \
  if (!find(library, #name, verbs->name)) missing = #name;
  AVEC_VERBS_REQUIRED(AVEC_VERBS_FIND)
#undef AVEC_VERBS_FIND
  if (missing != nullptr) return std::unexpected(libraries.verbs + " has no " + missing + "; it is too old");
#define AVEC_VERBS_FIND(name) find(library, #name, verbs->name);
  AVEC_VERBS_OPTIONAL(AVEC_VERBS_FIND)
#undef AVEC_VERBS_FIND

  // Its errors do not matter: EINVAL after another user of the library in this process has
  // registered memory, and where the kernel copies pinned pages at a fork it does nothing.
  verbs->ibv_fork_init();

  if (void* cm = libraries.cm.empty() ? nullptr : open_library(libraries.cm)) {
    bool complete = true;
#define AVEC_VERBS_FIND(name) complete = find(cm, #name, verbs->name) && complete;
    AVEC_VERBS_CM(AVEC_VERBS_FIND)
#undef AVEC_VERBS_FIND
    if (!complete) verbs->rdma_create_id = nullptr;
  }
  return verbs;
}

}  // namespace avec::rdma
