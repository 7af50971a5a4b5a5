#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/handle.h"
#include "transport/rdma/context.h"

namespace avec::rdma {

/// Accepts streams and makes them RDMA connections. That takes several messages each way, so a thread
/// of its own does it, one stream after another: connect() at the other end need not wait for
/// accept(). Streams of sessions do not come this way, they are upgraded where they were authenticated.
class RdmaListener final : public Listener {
 public:
  /// `transport` upgrades; it outlives the listener.
  static ListenResult make(std::unique_ptr<Listener> streams, std::string address, Transport& transport);
  ~RdmaListener() override;

  ConnectResult accept(Deadline deadline) noexcept override;
  void wake() noexcept override;
  std::string address() const override { return address_; }
  int poll_descriptor() const noexcept override { return ready_.get(); }

 private:
  RdmaListener(std::unique_ptr<Listener> streams, std::string address, Transport& transport, Descriptor wake,
               Descriptor ready);
  void run() noexcept;

  const std::unique_ptr<Listener> streams_;
  const std::string address_;
  Transport& transport_;
  const Descriptor wake_, ready_;  // ready_: a count of what lies in accepted_
  std::mutex mutex_;
  std::deque<ConnectResult> accepted_;  // guarded by mutex_
  std::atomic<bool> ending_{false};
  std::thread thread_;
};

}  // namespace avec::rdma
