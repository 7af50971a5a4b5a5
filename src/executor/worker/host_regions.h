// Memory of the client, or of its slots, that this process reaches by a pointer: made known to the
// driver, so that the copy engine reaches it too.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <vector>

#include "avec/one_sided.h"
#include "executor/worker/driver.h"
#include "executor/worker/helpers.h"

namespace avec::worker {

/// Whoever copies to or from it holds a shared_ptr until the device is done with it; the table
/// holds another one.
struct HostRegion {
  MutableBytes memory;
  /// Of the client's memory: nothing the client does unmaps it while this region is there.
  std::shared_ptr<const void> keeps;
  bool open = false;        ///< copies may name it; loop only
  bool registered = false;  ///< with the driver; written by the helper that opens it
  bool allocated = false;   ///< by the driver, for this session: freed, not unregistered
  bool offered = false;     ///< to the client, which writes there
  /// The copy engine reaches it; otherwise payload goes through the arena.
  bool direct() const { return registered || allocated; }
  bool holds(std::uint64_t offset, std::uint64_t bytes) const {
    return offset <= memory.size() && bytes <= memory.size() - offset;
  }
};

/// The regions of one session, by key. Loop only; the driver is called on helpers.
class HostRegions {
 public:
  HostRegions(const DriverTable& driver, Helpers& helpers) : driver_(driver), helpers_(helpers) {}

  /// A context that lives as long as the session, in which memory is registered.
  std::function<CUcontext()> context;
  /// Of OneSided, on any thread. Where the key's memory lies in this process:
  std::function<MappedMemory(const RemoteKey&)> mapped;
  /// Lets the client write to memory of this process, and undoes it:
  std::function<TransportError(MutableBytes, RemoteKey&)> offer;
  std::function<void(MutableBytes)> withdraw;

  using Told = std::function<void(CUresult)>;
  bool known(const RemoteKey& key) const { return regions_.contains(key.words); }
  /// Opens `bytes` of what the key names, a key that is not known yet. Memory that the driver
  /// refuses to register is opened all the same: copies then pass through the arena.
  void open(const RemoteKey& key, std::uint64_t bytes, Told told);
  /// Pinned memory for the client to write to, as `key` says; it stays until clear().
  using Offered = std::function<void(CUresult, std::shared_ptr<HostRegion>, const RemoteKey& key)>;
  void allocate(std::uint64_t bytes, Offered told);
  /// An open region, or null.
  std::shared_ptr<HostRegion> find(const RemoteKey& key) const;
  /// Gives it up once no copy uses it any more. False: it is not open.
  bool close(const RemoteKey& key, Told told);
  /// Goes on with regions that nobody uses any more. True when there was any.
  bool settle();
  bool idle() const { return closing_.empty(); }
  /// Gives everything up; the device must be done with it, helpers stopped, a context current.
  void clear();

 private:
  struct Closing {
    std::shared_ptr<HostRegion> region;
    Told told;
    bool handed = false;  // to a helper, which gives it up
  };
  bool has_room(std::uint64_t bytes) const;
  CUresult allocate_on_helper(HostRegion& region, std::uint64_t bytes, RemoteKey& key) const;
  void give_up(HostRegion& region) const;

  const DriverTable& driver_;
  Helpers& helpers_;
  std::map<std::array<std::uint64_t, 4>, std::shared_ptr<HostRegion>> regions_;
  std::vector<std::shared_ptr<HostRegion>> allocated_;
  std::list<Closing> closing_;
  std::uint64_t bytes_ = 0;  // of regions_ and closing_
};

}  // namespace avec::worker
