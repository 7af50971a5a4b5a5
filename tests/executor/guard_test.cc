// The guard over the CPU device, whose new memory holds what others left there.
#include "executor/worker/guard.h"

#include <cstdlib>
#include <vector>

#include "support/catch.h"

namespace avec::test {
namespace {

constexpr std::size_t kPiece = 2u << 20;

struct Guarded {
  worker::DriverTable driver, real;
  std::shared_ptr<executor::Ledger> ledger = executor::Ledger::make();

  explicit Guarded(worker::Allowance allowed) {
    ::setenv("AVEC_CPU_DEVICE_DIRTY", "true", 1);
    const auto loaded = worker::load_driver(AVEC_CPU_DEVICE);
    REQUIRE(loaded.has_value());
    real = *loaded;
    driver = worker::guard_driver(real);
    allowed.ledger = ledger;
    worker::guard_allow(allowed);
    REQUIRE(driver.cuInit(0) == CUDA_SUCCESS);
    CUcontext context = nullptr;
    REQUIRE(driver.cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS);
    REQUIRE(driver.cuCtxSetCurrent(context) == CUDA_SUCCESS);
  }

  CUresult create(CUmemGenericAllocationHandle& handle, std::size_t bytes = kPiece) {
    CUmemAllocationProp property{};
    property.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    property.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    return driver.cuMemCreate(&handle, bytes, &property, 0);
  }

  CUdeviceptr map(CUmemGenericAllocationHandle handle, std::size_t bytes = kPiece) {
    CUdeviceptr at = 0;
    REQUIRE(driver.cuMemAddressReserve(&at, bytes, 0, 0, 0) == CUDA_SUCCESS);
    REQUIRE(driver.cuMemMap(at, bytes, 0, handle, 0) == CUDA_SUCCESS);
    CUmemAccessDesc access{};
    access.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    REQUIRE(driver.cuMemSetAccess(at, bytes, &access, 1) == CUDA_SUCCESS);
    return at;
  }

  /// Bytes of memory that are not zero.
  std::size_t remains(CUdeviceptr at, std::size_t bytes) {
    std::vector<unsigned char> host(bytes, 0xff);
    REQUIRE(driver.cuMemcpyDtoHAsync(host.data(), at, bytes, nullptr) == CUDA_SUCCESS);
    wait();
    return static_cast<std::size_t>(std::ranges::count_if(host, [](unsigned char byte) { return byte != 0; }));
  }

  std::size_t remains(CUarray array, std::size_t width, std::size_t height, std::size_t depth) {
    std::vector<unsigned char> host(width * height * depth, 0xff);
    CUDA_MEMCPY3D copy{};
    copy.srcMemoryType = CU_MEMORYTYPE_ARRAY;
    copy.srcArray = array;
    copy.dstMemoryType = CU_MEMORYTYPE_HOST;
    copy.dstHost = host.data();
    copy.dstPitch = width;
    copy.dstHeight = height;
    copy.WidthInBytes = width;
    copy.Height = height;
    copy.Depth = depth;
    REQUIRE(driver.cuMemcpy3DAsync(&copy, nullptr) == CUDA_SUCCESS);
    wait();
    return static_cast<std::size_t>(std::ranges::count_if(host, [](unsigned char byte) { return byte != 0; }));
  }

  void wait() {
    CUevent event = nullptr;
    REQUIRE(driver.cuEventCreate(&event, 0) == CUDA_SUCCESS);
    REQUIRE(driver.cuEventRecord(event, nullptr) == CUDA_SUCCESS);
    REQUIRE(driver.cuEventSynchronize(event) == CUDA_SUCCESS);
    driver.cuEventDestroy(event);
  }

  std::uint64_t used() { return ledger->sum(&executor::LedgerSlot::device_bytes); }
};

TEST_CASE("device memory that is not cleared shows what others left, and memory that is cleared does not") {
  for (const bool scrub : {false, true}) {
    Guarded guarded({.scrub = scrub});
    CUmemGenericAllocationHandle handle = 0;
    REQUIRE(guarded.create(handle) == CUDA_SUCCESS);
    const CUdeviceptr at = guarded.map(handle);
    CHECK(guarded.remains(at, kPiece) == (scrub ? 0 : kPiece));
    CHECK(guarded.driver.cuMemUnmap(at, kPiece) == CUDA_SUCCESS);
    CHECK(guarded.driver.cuMemRelease(handle) == CUDA_SUCCESS);
  }
}

TEST_CASE("arrays of each shape and all levels of mipmapped ones are cleared") {
  for (const bool scrub : {false, true}) {
    Guarded guarded({.scrub = scrub});
    struct Shape { std::size_t width, height, depth; unsigned flags; };
    for (const Shape& shape : {Shape{300, 0, 0, 0}, Shape{64, 48, 0, 0}, Shape{32, 16, 8, 0},
                               Shape{32, 16, 6, CUDA_ARRAY3D_LAYERED}, Shape{4096, 2048, 0, 0}}) {
      CUDA_ARRAY3D_DESCRIPTOR d{};
      d.Width = shape.width, d.Height = shape.height, d.Depth = shape.depth, d.Flags = shape.flags;
      d.Format = CU_AD_FORMAT_UNSIGNED_INT8, d.NumChannels = 1;
      CUarray array = nullptr;
      REQUIRE(guarded.driver.cuArray3DCreate(&array, &d) == CUDA_SUCCESS);
      const std::size_t height = std::max<std::size_t>(shape.height, 1), depth = std::max<std::size_t>(shape.depth, 1);
      CHECK(guarded.remains(array, shape.width, height, depth) == (scrub ? 0 : shape.width * height * depth));
      CHECK(guarded.driver.cuArrayDestroy(array) == CUDA_SUCCESS);
    }
    CUDA_ARRAY3D_DESCRIPTOR d{};
    d.Width = 64, d.Height = 32, d.Format = CU_AD_FORMAT_UNSIGNED_INT8, d.NumChannels = 1;
    CUmipmappedArray mipmapped = nullptr;
    REQUIRE(guarded.driver.cuMipmappedArrayCreate(&mipmapped, &d, 3) == CUDA_SUCCESS);
    for (unsigned level = 0; level < 3; ++level) {
      CUarray part = nullptr;
      REQUIRE(guarded.driver.cuMipmappedArrayGetLevel(&part, mipmapped, level) == CUDA_SUCCESS);
      CHECK((guarded.remains(part, 64u >> level, 32u >> level, 1) == 0) == scrub);
    }
    CHECK(guarded.driver.cuMipmappedArrayDestroy(mipmapped) == CUDA_SUCCESS);
    CHECK(guarded.used() == 0);
  }
}

TEST_CASE("device memory is refused one byte above the quota, and there again when it has been freed") {
  Guarded guarded({.device_bytes = 2 * kPiece});
  CUmemGenericAllocationHandle first = 0, second = 0, third = 0;
  REQUIRE(guarded.create(first) == CUDA_SUCCESS);
  REQUIRE(guarded.create(second) == CUDA_SUCCESS);  // exactly the quota
  CHECK(guarded.create(third) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(guarded.ledger->slot(0).refusals == 1);
  CHECK(guarded.driver.cuMemRelease(second) == CUDA_SUCCESS);
  REQUIRE(guarded.create(third) == CUDA_SUCCESS);
  CHECK(guarded.driver.cuMemRelease(first) == CUDA_SUCCESS);
  CHECK(guarded.driver.cuMemRelease(third) == CUDA_SUCCESS);
  CHECK(guarded.used() == 0);
  CHECK(guarded.ledger->slot(0).device_peak == 2 * kPiece);
}

TEST_CASE("memory counts until its last mapping and its last handle are gone") {
  Guarded guarded({.device_bytes = kPiece});
  CUmemGenericAllocationHandle handle = 0, again = 0;
  REQUIRE(guarded.create(handle) == CUDA_SUCCESS);
  const CUdeviceptr at = guarded.map(handle);
  CHECK(guarded.driver.cuMemRelease(handle) == CUDA_SUCCESS);
  CHECK(guarded.create(again) == CUDA_ERROR_OUT_OF_MEMORY);
  REQUIRE(guarded.driver.cuMemRetainAllocationHandle(&handle, reinterpret_cast<void*>(at)) == CUDA_SUCCESS);
  CHECK(guarded.driver.cuMemUnmap(at, kPiece) == CUDA_SUCCESS);
  CHECK(guarded.used() == kPiece);
  CHECK(guarded.driver.cuMemRelease(handle) == CUDA_SUCCESS);
  CHECK(guarded.used() == 0);
  REQUIRE(guarded.create(again) == CUDA_SUCCESS);
  CHECK(guarded.driver.cuMemRelease(again) == CUDA_SUCCESS);
}

TEST_CASE("sessions of one identity share its quota, and what one leaves comes back when it is cleared") {
  Guarded guarded({.device_bytes = 3 * kPiece});
  const auto other = executor::Ledger::open(guarded.ledger->descriptor());
  REQUIRE(other != nullptr);
  using executor::LedgerSlot;
  REQUIRE(other->take(&LedgerSlot::device_bytes, 7, 2 * kPiece, 3 * kPiece));
  CUmemGenericAllocationHandle handle = 0, more = 0;
  REQUIRE(guarded.create(handle) == CUDA_SUCCESS);
  CHECK(guarded.create(more) == CUDA_ERROR_OUT_OF_MEMORY);
  std::size_t free = 1, total = 0;
  REQUIRE(guarded.driver.cuMemGetInfo(&free, &total) == CUDA_SUCCESS);
  CHECK(total == 3 * kPiece);
  CHECK(free == 0);
  REQUIRE(guarded.driver.cuDeviceTotalMem(&total, 0) == CUDA_SUCCESS);
  CHECK(total == 3 * kPiece);
  guarded.ledger->clear(7);  // as the broker does when a worker has been killed
  REQUIRE(guarded.create(more) == CUDA_SUCCESS);
  guarded.driver.cuMemRelease(handle);
  guarded.driver.cuMemRelease(more);
}

TEST_CASE("pinned memory and arrays have their quotas too") {
  Guarded guarded({.device_bytes = 4096, .pinned_bytes = 8192});
  void *first = nullptr, *second = nullptr;
  REQUIRE(guarded.driver.cuMemHostAlloc(&first, 8192, 0) == CUDA_SUCCESS);
  CHECK(guarded.driver.cuMemHostAlloc(&second, 1, 0) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(guarded.driver.cuMemFreeHost(first) == CUDA_SUCCESS);
  REQUIRE(guarded.driver.cuMemHostAlloc(&second, 8192, 0) == CUDA_SUCCESS);
  CHECK(guarded.driver.cuMemFreeHost(second) == CUDA_SUCCESS);
  CUDA_ARRAY3D_DESCRIPTOR d{};
  d.Width = 64, d.Height = 64, d.Format = CU_AD_FORMAT_UNSIGNED_INT8, d.NumChannels = 1;
  CUarray array = nullptr, more = nullptr;
  REQUIRE(guarded.driver.cuArray3DCreate(&array, &d) == CUDA_SUCCESS);
  CHECK(guarded.driver.cuArray3DCreate(&more, &d) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(guarded.driver.cuArrayDestroy(array) == CUDA_SUCCESS);
}

}  // namespace
}  // namespace avec::test
