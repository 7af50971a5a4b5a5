#include "transport/shm/factory.h"

#include <cerrno>
#include <cstring>
#include <new>
#include <string>

#include "transport/shm/listener.h"
#include "transport/shm/upgrade.h"
#include "transport/unix/factory.h"

namespace avec::shm {
namespace {

constexpr std::string_view kPrefix = "shm://";
// One value for each start of a kernel, the same in all its containers.
constexpr auto kHostFile = "/proc/sys/kernel/random/boot_id";

class ShmTransport final : public Transport {
 public:
  explicit ShmTransport(std::string host_file) : host_file_(std::move(host_file)) {}

  std::string_view scheme() const noexcept override { return "shm"; }

  TransportError viable(std::string& detail) const override {
    detail.clear();
    if (make_sealed_memory("avec-probe", 4096)) return {};
    const int error = errno;
    detail = std::string("this system gives no memory to share (memfd_create: ") + std::strerror(error) + ")";
    return {TransportErrc::kNotViable, error};
  }

  std::string begins_at(std::string_view url) const override {
    if (!url.starts_with(kPrefix)) return {};
    const std::string rest(url.substr(kPrefix.size()));
    return (rest.starts_with('/') ? "unix://" : "tcp://") + rest;
  }

  /// Between programs that need no session: a path, where listen() was called.
  ConnectResult connect(std::string_view url, Deadline deadline) noexcept override {
    try {
      const auto path = path_url(url);
      if (path.empty()) return {nullptr, {TransportErrc::kBadAddress, 0}, not_a_path(url)};
      auto stream = streams_->connect(path, deadline);
      if (!stream.connection) return stream;
      return offer(std::move(stream.connection));
    } catch (const std::bad_alloc&) {
      return {nullptr, {TransportErrc::kResources, ENOMEM}, {}};
    }
  }

  ListenResult listen(std::string_view url) noexcept override {
    try {
      const auto path = path_url(url);
      if (path.empty()) return {nullptr, {TransportErrc::kBadAddress, 0}, not_a_path(url)};
      auto streams = streams_->listen(path);
      if (!streams.listener) return streams;
      return {std::make_unique<ShmListener>(std::move(streams.listener)), {}, {}};
    } catch (const std::bad_alloc&) {
      return {nullptr, {TransportErrc::kResources, ENOMEM}, {}};
    }
  }

  ConnectResult upgrade(std::unique_ptr<Connection>& stream, End end, Deadline deadline) noexcept override {
    try {
      return end == End::kClient ? meet_as_client(stream, host_file_, deadline)
                                 : meet_as_executor(stream, host_file_, deadline);
    } catch (const std::bad_alloc&) {
      return {nullptr, {TransportErrc::kResources, ENOMEM}, {}};
    }
  }

 private:
  /// "unix:///PATH" for "shm:///PATH"; else empty.
  static std::string path_url(std::string_view url) {
    if (!url.starts_with("shm:///")) return {};
    return "unix://" + std::string(url.substr(kPrefix.size()));
  }

  static std::string not_a_path(std::string_view url) {
    return "the address " + std::string(url) +
           " is not of the form shm:///PATH; a session to shm://HOST:PORT begins as a stream and is upgraded";
  }

  const std::string host_file_;
  const std::unique_ptr<Transport> streams_ = unix_domain::make_transport();
};

}  // namespace

std::unique_ptr<Transport> make_transport() { return std::make_unique<ShmTransport>(kHostFile); }

std::unique_ptr<Transport> make_transport(std::string host_file) {
  return std::make_unique<ShmTransport>(std::move(host_file));
}

}  // namespace avec::shm
