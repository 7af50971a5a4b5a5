// One-sided access over a simulated link: both ends are in this process, so that an access is a
// memcpy at the right time. Belongs to a connection.
#pragma once

#include "transport/sim/context.h"

namespace avec::sim {

class SimOneSided final : public OneSided {
 public:
  SimOneSided(Context& context, Link& link, Direction end) : context_(context), link_(link), end_(end) {}

  OneSidedTraits traits() const noexcept override;
  MemoryResult allocate(std::size_t bytes, void* wish) noexcept override;
  void free(MutableBytes memory, bool keep_reserved) noexcept override;
  TransportError add(MutableBytes memory) noexcept override;
  TransportError add_device(std::uint64_t address, std::size_t bytes, int dma_buf,
                            std::uint64_t offset) noexcept override;
  void remove(MutableBytes memory) noexcept override;
  TransportError allow(MutableBytes range, RemoteAccess access, RemoteKey& key) noexcept override;
  void revoke(const RemoteKey& key) noexcept override;
  MappedMemory mapped(const RemoteKey& key) noexcept override;
  IoResult read(const RemoteKey& key, std::uint64_t offset, MutableBytes into,
                std::uint64_t token) noexcept override;
  IoResult write(const RemoteKey& key, std::uint64_t offset, ConstBytes from,
                 std::uint64_t token) noexcept override;
  std::size_t completed(std::span<OneSidedCompletion> ended) noexcept override;

 private:
  // With the mutex held.
  TransportError over() const;
  bool keep(MutableBytes memory);
  bool forget(MutableBytes memory);
  bool find_own(Access& access);
  IoResult begin(Access access) noexcept;
  void set_times(Access& access);

  Memory& own() const { return link_.memory[static_cast<int>(end_)]; }

  Context& context_;  // both live as long as the connection
  Link& link_;
  const Direction end_;
};

}  // namespace avec::sim
