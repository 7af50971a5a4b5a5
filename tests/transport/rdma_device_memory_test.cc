// Memory of a device, reached through its dma-buf: a memfd stands for that. The device's addresses are mapped
// nowhere in this process, so whoever takes them for the processor's own ends the test.
#include <sys/mman.h>
#include <unistd.h>

#include "base/handle.h"
#include "transport/rdma_fault_support.h"

namespace avec::contract {
namespace {

using enum TransportErrc;

constexpr std::uint64_t kDevice = 0x200000000000;
constexpr std::size_t kBytes = 64 * kPage;

/// A dma-buf whose device memory begins `offset` bytes into it.
class DmaBuf {
 public:
  explicit DmaBuf(std::size_t offset) : descriptor_(::memfd_create("dma-buf", MFD_CLOEXEC)), offset_(offset) {
    REQUIRE(::ftruncate(descriptor_.get(), static_cast<off_t>(offset + kBytes)) == 0);
    void* mapped = ::mmap(nullptr, offset + kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_.get(), 0);
    REQUIRE(mapped != MAP_FAILED);
    all_ = {static_cast<std::byte*>(mapped), offset + kBytes};
  }
  ~DmaBuf() { ::munmap(all_.data(), all_.size()); }
  DmaBuf(const DmaBuf&) = delete;
  DmaBuf& operator=(const DmaBuf&) = delete;
  MutableBytes memory() const { return all_.subspan(offset_); }
  MutableBytes before() const { return all_.first(offset_); }
  int descriptor() const { return descriptor_.get(); }
  void close() { descriptor_.reset(); }

 private:
  Descriptor descriptor_;
  std::size_t offset_;
  MutableBytes all_;
};

/// As spans of one-sided access name it.
MutableBytes device(std::size_t offset, std::size_t bytes) {
  return {reinterpret_cast<std::byte*>(kDevice + offset), bytes};
}

std::vector<std::byte> pattern(std::size_t bytes) {
  std::vector<std::byte> made(bytes);
  for (std::size_t i = 0; i < bytes; ++i) made[i] = static_cast<std::byte>(i * 7 + i / 251);
  return made;
}

TEST_CASE("rdma device memory: READs arrive in it and WRITEs leave from it, at the device's addresses") {
  const Balance balance;
  const std::size_t offset = GENERATE(0, 3 * kPage);
  Victim victim;
  DmaBuf dma_buf(offset);
  const Region theirs(victim.ends.client, kBytes);
  const auto bytes = pattern(kBytes);
  theirs.fill(bytes);
  auto* const access = victim.ends.server.access;
  REQUIRE_FALSE(access->add_device(kDevice, kBytes, dma_buf.descriptor(), offset));
  dma_buf.close();
  const auto source = allowed(victim.ends.client, theirs.bytes(), RemoteAccess::kRead);
  tell(victim.ends.client, victim.ends.server);
  REQUIRE_FALSE(fetch(victim.ends.server, source, kPage, device(2 * kPage, 30 * kPage)));
  CHECK(same(dma_buf.memory().subspan(2 * kPage, 30 * kPage), ConstBytes(bytes).subspan(kPage, 30 * kPage)));
  CHECK(all(dma_buf.memory().first(2 * kPage), std::byte{0}));
  CHECK(all(dma_buf.memory().subspan(32 * kPage), std::byte{0}));
  CHECK(all(dma_buf.before(), std::byte{0}));

  std::ranges::copy(bytes, dma_buf.memory().begin());
  theirs.fill(std::byte{0});
  const auto destination = allowed(victim.ends.client, theirs.bytes(), RemoteAccess::kWrite);
  tell(victim.ends.client, victim.ends.server);
  // The last bytes, and few of them: what would go inline otherwise.
  REQUIRE_FALSE(put(victim.ends.server, destination, 5, device(kBytes - 16, 16)));
  CHECK(same(theirs.part(5, 16), ConstBytes(bytes).last(16)));
  REQUIRE_FALSE(put(victim.ends.server, destination, kPage, device(kPage + 1, 9 * kPage)));
  CHECK(same(theirs.part(kPage, 9 * kPage), ConstBytes(bytes).subspan(kPage + 1, 9 * kPage)));
  access->remove(device(0, kBytes));
  CHECK(access->read(source, 0, device(0, kPage), 7).error.code == kInternal);
}

TEST_CASE("rdma device memory: none of it is the peer's to reach, and nothing beyond it this end's") {
  const Balance balance;
  Victim victim;
  const DmaBuf dma_buf(0);
  const Region theirs(victim.ends.client, kBytes);
  auto* const access = victim.ends.server.access;
  REQUIRE_FALSE(access->add_device(kDevice, kBytes, dma_buf.descriptor(), 0));
  RemoteKey key;
  CHECK(access->allow(device(0, kPage), RemoteAccess::kRead, key).code == kInternal);
  CHECK(access->allow(device(0, kPage), RemoteAccess::kWrite, key).code == kInternal);
  CHECK_FALSE(key);
  CHECK(fake().live().remote_keys == 0);
  const auto source = allowed(victim.ends.client, theirs.bytes(), RemoteAccess::kRead);
  CHECK(access->read(source, 0, device(kBytes - 1, 2), 1).error.code == kInternal);
  CHECK(access->add_device(kDevice, 0, dma_buf.descriptor(), 0).code == kInternal);
  CHECK(access->add_device(~std::uint64_t{0} - 5, kPage, dma_buf.descriptor(), 0).code == kInternal);
}

TEST_CASE("rdma device memory: what library, adapter or system cannot register is told, and the connection goes on") {
  const Balance balance;
  Victim victim;
  const DmaBuf dma_buf(0);
  auto* const access = victim.ends.server.access;
  const auto [error, code] = GENERATE(std::pair{EOPNOTSUPP, kNotViable}, std::pair{EPROTONOSUPPORT, kNotViable},
                                      std::pair{EINVAL, kNotViable}, std::pair{ENOMEM, kResources});
  REQUIRE(fake().fail_call("ibv_reg_dmabuf_mr", 1, error, 1));
  const auto refused = access->add_device(kDevice, kBytes, dma_buf.descriptor(), 0);
  CHECK(static_cast<int>(refused.code) == static_cast<int>(code));
  CHECK(refused.os_error == error);
  tell(victim.ends.client, victim.ends.server);
  CHECK_FALSE(access->add_device(kDevice, kBytes, dma_buf.descriptor(), 0));
}

TEST_CASE("rdma device memory: its registration goes with the connection, and only after accesses under way") {
  const Balance balance;
  Victim victim;
  const DmaBuf dma_buf(0);
  const Region theirs(victim.ends.client, kPage);
  auto* const access = victim.ends.server.access;
  REQUIRE_FALSE(access->add_device(kDevice, kBytes, dma_buf.descriptor(), 0));
  const auto key = allowed(victim.ends.client, theirs.bytes(), RemoteAccess::kRead);
  tell(victim.ends.client, victim.ends.server);
  const auto regions = fake().live().regions;
  fake().stall(victim.server_qp, 1);
  REQUIRE(access->read(key, 0, device(0, kPage), 1).bytes == kPage);
  victim.server().close();
  CHECK(fake().live().regions < regions);
  CHECK(access->add_device(kDevice, kBytes, dma_buf.descriptor(), 0).code == kClosed);
}

}  // namespace
}  // namespace avec::contract
