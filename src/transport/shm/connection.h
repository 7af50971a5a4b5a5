// One connection over shared memory: a ring per direction, and a Unix-domain socket that rings
// the bell of a peer that sleeps, carries descriptors, and breaks when the peer dies.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "transport/shm/context.h"
#include "transport/shm/memory.h"
#include "transport/shm/ring.h"

namespace avec::shm {

class ShmConnection final : public Connection {
 public:
  /// From what both ends have agreed on. `shared`: a mapping of a whole Shared. Null when the
  /// process is out of memory or descriptors.
  static std::unique_ptr<ShmConnection> make(End end, Mapping shared, Descriptor socket,
                                             std::string peer) noexcept;
  ~ShmConnection() override;

  IoResult send(std::span<const ConstBytes> buffers) noexcept override;
  IoResult receive(std::span<const MutableBytes> buffers) noexcept override;
  TransportError wait(bool want_send, Deadline deadline) noexcept override;
  void wake() noexcept override;
  void close() noexcept override;
  int poll_descriptor() const noexcept override { return control_.descriptor(); }
  bool arm() noexcept override;
  OneSided* one_sided() noexcept override { return &memory_; }
  std::string peer() const override { return peer_; }
  bool same_host() const noexcept override { return true; }

 private:
  ShmConnection(End end, Mapping shared, Descriptor socket, Descriptor wake, std::string peer);

  IoResult fail(TransportError error) noexcept;
  void look_at_socket() noexcept;
  bool look_now_and_then() noexcept;
  bool ready(bool want_send) noexcept;
  TransportError sleep(Deadline deadline, bool& woken) noexcept;

  const Mapping shared_;
  const Descriptor wake_;  // lives as long as this, so that wake() of any thread finds it
  const std::string peer_;
  const pid_t process_;  // a child of fork has no part in the connection
  Control control_;
  RingSender out_;
  RingReceiver in_;
  SharedMemory memory_;

  bool open_ = true;
  bool gone_ = false;             // the socket has ended: nothing more can come but what lies in the ring
  TransportError failed_;         // once broken it stays broken
  std::uint64_t seen_notes_ = 0;  // as of the last look at the socket
  std::uint32_t idle_ = 0;        // operations since then that moved nothing
};

}  // namespace avec::shm
