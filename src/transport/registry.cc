#include <algorithm>
#include <array>
#include <map>
#include <mutex>

#include "avec/transport.h"
#include "transport/rdma/factory.h"
#include "transport/shm/factory.h"
#include "transport/sim/factory.h"
#include "transport/tcp/factory.h"
#include "transport/unix/factory.h"

namespace avec {
namespace {

struct Registry {
  std::mutex mutex;
  std::map<std::string, std::unique_ptr<Transport>, std::less<>> by_scheme;
};

// Made at the first use and never destroyed: other static objects may use a transport while
// the process ends.
Registry& registry() {
  static Registry* const instance = [] {
    auto* made = new Registry;
    std::array transports{tcp::make_transport(), unix_domain::make_transport(), shm::make_transport(), rdma::make_transport(),
                          sim::make_default_transport()};
    for (auto& transport : transports) {
      std::string scheme(transport->scheme());
      made->by_scheme.emplace(std::move(scheme), std::move(transport));
    }
    return made;
  }();
  return *instance;
}

}  // namespace

std::string_view to_string(TransportErrc code) noexcept {
  static constexpr std::array<std::string_view, 10> kNames = {
      "no error",         "closed by the peer", "connection reset",           "connection refused",
      "unreachable",      "deadline passed",    "not usable on this machine", "malformed address",
      "out of resources", "internal error"};
  static_assert(kNames.size() == static_cast<std::size_t>(TransportErrc::kInternal) + 1);
  const auto index = static_cast<std::size_t>(code);
  return index < kNames.size() ? kNames[index] : "unknown error";
}

bool register_transport(std::unique_ptr<Transport> transport) {
  if (!transport) return false;
  std::string scheme(transport->scheme());
  if (scheme.empty() || scheme.find(':') != std::string::npos) return false;
  auto& all = registry();
  const std::scoped_lock lock(all.mutex);
  return all.by_scheme.emplace(std::move(scheme), std::move(transport)).second;
}

Transport* find_transport(std::string_view url) noexcept {
  const auto end = url.find("://");
  if (end == std::string_view::npos) return nullptr;
  auto& all = registry();
  const std::scoped_lock lock(all.mutex);
  const auto found = all.by_scheme.find(url.substr(0, end));
  return found == all.by_scheme.end() ? nullptr : found->second.get();
}

std::vector<std::string> transport_schemes() {
  auto& all = registry();
  const std::scoped_lock lock(all.mutex);
  std::vector<std::string> schemes;
  for (const auto& [scheme, transport] : all.by_scheme) schemes.push_back(scheme);
  return schemes;
}

}  // namespace avec
