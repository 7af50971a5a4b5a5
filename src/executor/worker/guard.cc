#include "executor/worker/guard.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/array_format.h"
#include "executor/worker/scrub.h"

namespace avec::worker {
namespace {

using executor::LedgerSlot;

/// The account that an allocation is on, until it goes.
class Charge {
 public:
  using Field = std::atomic<std::uint64_t> LedgerSlot::*;
  Charge(std::shared_ptr<executor::Ledger> ledger, std::size_t slot, Field field, std::uint64_t bytes)
      : ledger_(std::move(ledger)), slot_(slot), field_(field), bytes_(bytes) {}
  ~Charge() {
    if (ledger_ != nullptr) ledger_->give_back(field_, slot_, bytes_);
  }
  Charge(const Charge&) = delete;
  Charge& operator=(const Charge&) = delete;

 private:
  const std::shared_ptr<executor::Ledger> ledger_;
  const std::size_t slot_;
  const Field field_;
  const std::uint64_t bytes_;
};
using ChargeRef = std::shared_ptr<Charge>;

/// Physical memory lives as long as a handle or a mapping names it, and so does its charge.
struct Named {
  ChargeRef charge;
  unsigned references = 1;
};

struct Guard {
  DriverTable driver;
  std::mutex mutex;  // guards what follows
  Allowance allowance;
  std::unordered_map<CUmemGenericAllocationHandle, Named> handles;
  std::map<CUdeviceptr, ChargeRef> mappings;
  std::unordered_map<const void*, ChargeRef> others;  // arrays, pinned memory: by address or handle
  std::unique_ptr<Scrubber> scrubber;
};

Guard& guard() {
  static Guard* const one = new Guard;  // driver threads may outlive main
  return *one;
}

Allowance allowance() {
  const std::lock_guard lock(guard().mutex);
  return guard().allowance;
}

/// Null: the identity may not have so much.
ChargeRef charge(Charge::Field field, std::uint64_t bytes) {
  const Allowance allowed = allowance();
  if (allowed.ledger == nullptr) return std::make_shared<Charge>(nullptr, 0, field, bytes);
  const std::uint64_t most = field == &LedgerSlot::device_bytes ? allowed.device_bytes : allowed.pinned_bytes;
  LedgerSlot& slot = allowed.ledger->slot(allowed.slot);
  if (!allowed.ledger->take(field, allowed.slot, bytes, most)) {
    slot.refusals.fetch_add(1);
    return nullptr;
  }
  if (field == &LedgerSlot::device_bytes) {
    const std::uint64_t now = slot.device_bytes.load();
    std::uint64_t peak = slot.device_peak.load();
    while (peak < now && !slot.device_peak.compare_exchange_weak(peak, now)) {
    }
  }
  return std::make_shared<Charge>(allowed.ledger, allowed.slot, field, bytes);
}

void remember(const void* what, ChargeRef charge) {
  const std::lock_guard lock(guard().mutex);
  guard().others[what] = std::move(charge);
}

void forget(const void* what) {
  ChargeRef gone;
  const std::lock_guard lock(guard().mutex);
  if (auto found = guard().others.find(what); found != guard().others.end()) {
    gone = std::move(found->second);
    guard().others.erase(found);
  }
}

Scrubber* scrubber() {
  const std::lock_guard lock(guard().mutex);
  return guard().allowance.scrub ? guard().scrubber.get() : nullptr;
}

// ---- physical memory -------------------------------------------------------------------

CUresult create(CUmemGenericAllocationHandle* handle, std::size_t bytes, const CUmemAllocationProp* property,
                unsigned long long flags) {
  ChargeRef taken = charge(&LedgerSlot::device_bytes, bytes);
  if (taken == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  CUresult status = guard().driver.cuMemCreate(handle, bytes, property, flags);
  if (status != CUDA_SUCCESS) return status;
  if (Scrubber* clean = scrubber(); clean != nullptr && property->location.type == CU_MEM_LOCATION_TYPE_DEVICE) {
    status = clean->memory(*handle, bytes, property->location.id);
    if (status != CUDA_SUCCESS) {  // never given out with what others left in it
      guard().driver.cuMemRelease(*handle);
      return status;
    }
  }
  const std::lock_guard lock(guard().mutex);
  guard().handles[*handle] = {std::move(taken), 1};
  return CUDA_SUCCESS;
}

CUresult release(CUmemGenericAllocationHandle handle) {
  // Under the lock, for the driver gives the handle's number to somebody else.
  ChargeRef gone;
  const std::lock_guard lock(guard().mutex);
  const CUresult status = guard().driver.cuMemRelease(handle);
  if (auto found = guard().handles.find(handle);
      status == CUDA_SUCCESS && found != guard().handles.end() && --found->second.references == 0) {
    gone = std::move(found->second.charge);
    guard().handles.erase(found);
  }
  return status;
}

CUresult map(CUdeviceptr address, std::size_t bytes, std::size_t offset, CUmemGenericAllocationHandle handle,
             unsigned long long flags) {
  const CUresult status = guard().driver.cuMemMap(address, bytes, offset, handle, flags);
  if (status != CUDA_SUCCESS) return status;
  const std::lock_guard lock(guard().mutex);
  if (auto found = guard().handles.find(handle); found != guard().handles.end())
    guard().mappings[address] = found->second.charge;
  return status;
}

CUresult unmap(CUdeviceptr address, std::size_t bytes) {
  std::vector<ChargeRef> gone;
  const CUresult status = guard().driver.cuMemUnmap(address, bytes);
  if (status != CUDA_SUCCESS) return status;
  const std::lock_guard lock(guard().mutex);
  const auto first = guard().mappings.lower_bound(address), last = guard().mappings.lower_bound(address + bytes);
  for (auto at = first; at != last; ++at) gone.push_back(std::move(at->second));
  guard().mappings.erase(first, last);
  return status;
}

CUresult retain(CUmemGenericAllocationHandle* handle, void* address) {
  const CUresult status = guard().driver.cuMemRetainAllocationHandle(handle, address);
  if (status != CUDA_SUCCESS) return status;
  const std::lock_guard lock(guard().mutex);
  auto found = guard().mappings.upper_bound(reinterpret_cast<CUdeviceptr>(address));
  if (found == guard().mappings.begin()) return status;
  auto [named, fresh] = guard().handles.try_emplace(*handle, Named{std::prev(found)->second, 1});
  if (!fresh) ++named->second.references;
  return status;
}

// ---- arrays ----------------------------------------------------------------------------

/// What an array takes at least; a driver's tiling adds some.
std::uint64_t array_bytes(const CUDA_ARRAY3D_DESCRIPTOR& d, unsigned levels) {
  std::uint64_t all = 0;
  const bool layered = (d.Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)) != 0;
  for (unsigned level = 0; level < std::max(levels, 1u); ++level) {
    const auto part = [&](std::size_t extent) { return extent == 0 ? 0 : std::max<std::uint64_t>(extent >> level, 1); };
    const ArrayShape shape = array_shape(part(d.Width), part(d.Height), layered ? d.Depth : part(d.Depth),
                                         static_cast<std::uint32_t>(d.Format), d.NumChannels);
    // A format that is not known: its widest element.
    all += shape.rows != 0 ? shape.row_bytes * shape.rows * shape.slices
                           : 16 * part(d.Width) * std::max<std::uint64_t>(part(d.Height), 1) * std::max<std::uint64_t>(part(d.Depth), 1);
  }
  return all;
}

CUresult create_array(CUarray* array, const CUDA_ARRAY3D_DESCRIPTOR* descriptor) {
  ChargeRef taken = charge(&LedgerSlot::device_bytes, array_bytes(*descriptor, 1));
  if (taken == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  CUresult status = guard().driver.cuArray3DCreate(array, descriptor);
  if (status != CUDA_SUCCESS) return status;
  if (Scrubber* clean = scrubber(); clean != nullptr && (status = clean->array(*array)) != CUDA_SUCCESS) {
    guard().driver.cuArrayDestroy(*array);
    return status;
  }
  remember(*array, std::move(taken));
  return status;
}

CUresult destroy_array(CUarray array) {
  forget(array);
  return guard().driver.cuArrayDestroy(array);
}

CUresult create_mipmapped(CUmipmappedArray* array, const CUDA_ARRAY3D_DESCRIPTOR* descriptor, unsigned levels) {
  ChargeRef taken = charge(&LedgerSlot::device_bytes, array_bytes(*descriptor, levels));
  if (taken == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  CUresult status = guard().driver.cuMipmappedArrayCreate(array, descriptor, levels);
  if (status != CUDA_SUCCESS) return status;
  Scrubber* clean = scrubber();
  for (unsigned level = 0; clean != nullptr && level < levels && status == CUDA_SUCCESS; ++level) {
    CUarray part = nullptr;
    status = guard().driver.cuMipmappedArrayGetLevel(&part, *array, level);
    if (status == CUDA_ERROR_INVALID_VALUE && level != 0) {  // the driver made fewer levels than were asked for
      status = CUDA_SUCCESS;
      break;
    }
    if (status == CUDA_SUCCESS) status = clean->array(part);
  }
  if (status != CUDA_SUCCESS) {
    guard().driver.cuMipmappedArrayDestroy(*array);
    return status;
  }
  remember(*array, std::move(taken));
  return status;
}

CUresult destroy_mipmapped(CUmipmappedArray array) {
  forget(array);
  return guard().driver.cuMipmappedArrayDestroy(array);
}

// ---- pinned memory ---------------------------------------------------------------------

CUresult host_alloc(void** memory, std::size_t bytes, unsigned flags) {
  ChargeRef taken = charge(&LedgerSlot::pinned_bytes, bytes);
  if (taken == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  const CUresult status = guard().driver.cuMemHostAlloc(memory, bytes, flags);
  if (status == CUDA_SUCCESS) remember(*memory, std::move(taken));
  return status;
}

CUresult host_free(void* memory) {
  forget(memory);
  return guard().driver.cuMemFreeHost(memory);
}

CUresult host_register(void* memory, std::size_t bytes, unsigned flags) {
  ChargeRef taken = charge(&LedgerSlot::pinned_bytes, bytes);
  if (taken == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  const CUresult status = guard().driver.cuMemHostRegister(memory, bytes, flags);
  if (status == CUDA_SUCCESS) remember(memory, std::move(taken));
  return status;
}

CUresult host_unregister(void* memory) {
  forget(memory);
  return guard().driver.cuMemHostUnregister(memory);
}

// ---- what the session sees -------------------------------------------------------------

CUresult get_info(std::size_t* free, std::size_t* total) {
  const CUresult status = guard().driver.cuMemGetInfo(free, total);
  const Allowance allowed = allowance();
  if (status != CUDA_SUCCESS || allowed.device_bytes == 0 || allowed.ledger == nullptr) return status;
  const std::uint64_t used = std::min(allowed.ledger->sum(&LedgerSlot::device_bytes), allowed.device_bytes);
  *total = std::min<std::size_t>(*total, allowed.device_bytes);
  *free = std::min<std::size_t>(*free, allowed.device_bytes - used);
  return status;
}

CUresult total_mem(std::size_t* bytes, CUdevice device) {
  const CUresult status = guard().driver.cuDeviceTotalMem(bytes, device);
  const std::uint64_t most = allowance().device_bytes;
  if (status == CUDA_SUCCESS && most != 0) *bytes = std::min<std::size_t>(*bytes, most);
  return status;
}

}  // namespace

DriverTable guard_driver(const DriverTable& driver) {
  {
    const std::lock_guard lock(guard().mutex);
    guard().driver = driver;
    guard().scrubber = std::make_unique<Scrubber>(driver);
  }
  DriverTable guarded = driver;
  guarded.cuMemCreate = create;
  guarded.cuMemRelease = release;
  guarded.cuMemMap = map;
  guarded.cuMemUnmap = unmap;
  guarded.cuMemRetainAllocationHandle = retain;
  guarded.cuArray3DCreate = create_array;
  guarded.cuArrayDestroy = destroy_array;
  guarded.cuMipmappedArrayCreate = create_mipmapped;
  guarded.cuMipmappedArrayDestroy = destroy_mipmapped;
  guarded.cuMemHostAlloc = host_alloc;
  guarded.cuMemFreeHost = host_free;
  guarded.cuMemHostRegister = host_register;
  guarded.cuMemHostUnregister = host_unregister;
  guarded.cuMemGetInfo = get_info;
  guarded.cuDeviceTotalMem = total_mem;
  return guarded;
}

void guard_allow(Allowance allowance) {
  const std::lock_guard lock(guard().mutex);
  guard().allowance = std::move(allowance);
}

}  // namespace avec::worker
