// The RDMA transport as a backend of the contract suite. Over the fake verbs library, or, where
// AVEC_TEST_RDMA_HOST names an address of a real adapter of this machine, over that.
#pragma once

#include <sys/resource.h>
#include <sys/socket.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "avec/transport.h"
#include "transport/fake_verbs/fake_verbs.h"
#include "transport/rdma/factory.h"
#include "transport/tcp/factory.h"

namespace avec::contract {

/// The address of a real adapter, or null: the fake.
inline const char* real_adapter() { return std::getenv("AVEC_TEST_RDMA_HOST"); }

inline std::unique_ptr<Transport> make_rdma(const char* device = "") {
  rdma::Options options;
  options.device = device;
  if (real_adapter() == nullptr) options.verbs_library = options.cm_library = fake_verbs::path();
  return rdma::make_transport(options);
}

/// One for the process: verbs are loaded once.
inline Transport& rdma_transport() {
  static const auto transport = make_rdma();
  return *transport;
}

struct RdmaBackend {
  RdmaBackend() {
    if (real_adapter() == nullptr) fake_verbs::control().reset();
    // An end of a connection has six descriptors; the suite opens 200 ends at once.
    rlimit files{};
    if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
      files.rlim_cur = files.rlim_max;
      ::setrlimit(RLIMIT_NOFILE, &files);
    }
  }
  static std::string host() { return real_adapter() != nullptr ? real_adapter() : "127.0.0.1"; }
  Transport& transport() { return rdma_transport(); }
  std::string listen_url() { return "rdma://" + host() + ":0"; }
  std::string absent_url() { return "rdma://" + host() + ":1"; }
  std::vector<std::string> bad_urls() {
    return {"rdma://",
            "rdma://127.0.0.1",
            "rdma://host:65536",
            "rdma://:7700",
            "tcp://127.0.0.1:7700",
            "rdma:/x:1",
            ""};
  }
  std::string peer_prefix() { return "rdma://" + host().substr(0, host().rfind('.')); }
  // Connecting to nothing breaks a TCP connection at once, as the death of the process would.
  void reset(Connection& connection) {
    sockaddr none{};
    none.sa_family = AF_UNSPEC;
    ::connect(tcp::native_descriptor(*rdma::stream_of(connection)), &none, sizeof none);
  }
};

}  // namespace avec::contract
