// Arrays, textures and surfaces in a session: pieces of their rows, and what is refused.
#include "support/catch.h"

#include <vector>

#include "executor/ready_session.h"
#include "executor/worker/memory.h"

namespace avec::test {
namespace {

using worker::Extent;

std::vector<CUDA_MEMCPY3D>& copies() {
  static std::vector<CUDA_MEMCPY3D> all;
  return all;
}
CUresult note_copy(const CUDA_MEMCPY3D* copy, CUstream) {
  copies().push_back(*copy);
  return CUDA_SUCCESS;
}

/// Rows of a box of 4 rows a slice, from row y = 2 and slice z = 1.
Extent rows_in_box(std::uint64_t first, std::uint64_t height) {
  return {0, 100, 100, height, {reinterpret_cast<CUarray>(std::uintptr_t{8}), 20, 2, 1, 4, first}};
}

constexpr std::uint64_t kArray = 100, kMipmapped = 101, kLevel = 102;

wire::ArrayCreate array_of(std::uint64_t name, std::uint32_t levels = 0) {
  return {name, kContext, 16, 8, 4, CU_AD_FORMAT_FLOAT, 1, 0, levels};
}
wire::Resource array_resource(std::uint64_t array) { return {CU_RESOURCE_TYPE_ARRAY, 0, 0, 0, array, 0, 0, 0, 0}; }

}  // namespace

TEST_CASE("A piece of an array's rows that crosses slices is at most three copies", "[arrays]") {
  worker::DriverTable driver;
  driver.cuMemcpy3DAsync = note_copy;
  copies().clear();
  std::vector<std::byte> host(1100);
  const Extent extent = rows_in_box(3, 11);  // one row, two slices, two rows
  const worker::CopyPiece piece = worker::piece_at(extent, 0, 1 << 20);
  CHECK(piece.bytes == 1100);
  REQUIRE(worker::copy_to_device(driver, piece, host.data(), nullptr) == CUDA_SUCCESS);
  REQUIRE(copies().size() == 3);
  CHECK((copies()[0].dstY == 5 && copies()[0].dstZ == 1 && copies()[0].Height == 1 && copies()[0].Depth == 1));
  CHECK((copies()[1].dstY == 2 && copies()[1].dstZ == 2 && copies()[1].Height == 4 && copies()[1].Depth == 2));
  CHECK((copies()[2].dstY == 2 && copies()[2].dstZ == 4 && copies()[2].Height == 2 && copies()[2].Depth == 1));
  CHECK(static_cast<const std::byte*>(copies()[1].srcHost) == host.data() + 100);
  CHECK(static_cast<const std::byte*>(copies()[2].srcHost) == host.data() + 900);
  CHECK(copies()[2].dstXInBytes == 20);
}

TEST_CASE("Pieces of an array's rows are whole rows, or parts of one", "[arrays]") {
  const Extent extent = rows_in_box(0, 10);
  const worker::CopyPiece rows = worker::piece_at(extent, 500, 350);
  CHECK(rows.bytes == 300);
  CHECK((rows.device.height == 3 && rows.device.in.z == 2 && rows.device.in.first == 1));
  const worker::CopyPiece part = worker::piece_at(extent, 240, 30);
  CHECK(part.bytes == 30);
  CHECK((part.device.height == 1 && part.device.in.x == 60 && part.device.in.first == 2 && part.device.in.z == 1));
}

TEST_CASE("Calls that name arrays and objects which are none get an error, and the session goes on", "[arrays]") {
  Ready session;
  RawClient& client = session.client;
  const wire::ArrayRows nowhere(999, 0, 0, 0, 1, 0);
  CHECK(client.status_of(wire::ArrayPart(kLevel, 999, 0, 0)) == CUDA_ERROR_INVALID_HANDLE);
  CHECK(client.status_of(wire::ArrayRequirements(999, 0, 0)) == CUDA_ERROR_INVALID_HANDLE);
  CHECK(client.status_of(wire::CopyFromArray(nowhere, 4, 1, kStream)) == CUDA_ERROR_INVALID_HANDLE);
  CHECK(client.status_of(wire::TextureCreate(kContext, array_resource(999), {}, {})) == CUDA_ERROR_INVALID_HANDLE);
  CHECK(client.status_of(wire::SurfaceCreate(kContext, 999)) == CUDA_ERROR_INVALID_HANDLE);
  client.send(wire::TextureDestroy(kContext, 1234));
  client.send(wire::SurfaceDestroy(kContext, 1234));
  client.send(wire::ArrayDestroy(999));
  CHECK(session.ping() == 0);
  CHECK(recorded("cuTexObjectDestroy") == 0);
  CHECK(recorded("cuArrayDestroy") == 0);
}

TEST_CASE("Rows outside of an array are refused", "[arrays]") {
  Ready session;
  RawClient& client = session.client;
  REQUIRE(client.status_of(array_of(kArray)) == 0);
  const auto rows = [&](std::uint64_t x, std::uint64_t y, std::uint64_t z, std::uint64_t rows, std::uint64_t first,
                        std::uint64_t width, std::uint64_t height) {
    return client.status_of(wire::CopyFromArray({kArray, x, y, z, rows, first}, width, height, kStream));
  };
  CHECK(rows(0, 0, 0, 8, 0, 64, 32) == 0);
  CHECK(rows(4, 0, 0, 8, 0, 64, 8) == CUDA_ERROR_INVALID_VALUE);
  CHECK(rows(0, 1, 0, 8, 0, 64, 8) == CUDA_ERROR_INVALID_VALUE);
  CHECK(rows(0, 0, 1, 8, 0, 64, 32) == CUDA_ERROR_INVALID_VALUE);
  CHECK(rows(0, 0, 0, 8, 1, 64, 32) == CUDA_ERROR_INVALID_VALUE);
  CHECK(rows(0, 0, 0, 0, 0, 64, 1) == CUDA_ERROR_INVALID_VALUE);
  CHECK(rows(0, 0, 0, 8, 8, 64, 1) == CUDA_ERROR_INVALID_VALUE);
  CHECK(rows(~std::uint64_t{0}, 0, 0, 8, 0, 64, 1) == CUDA_ERROR_INVALID_VALUE);
  CHECK(rows(0, 0, 0, 8, 0, 64, std::uint64_t{1} << 62) == CUDA_ERROR_INVALID_VALUE);
  CHECK(session.ping() == 0);
}

TEST_CASE("A mipmapped array is copied by its levels, and ends with them", "[arrays]") {
  Ready session;
  RawClient& client = session.client;
  REQUIRE(client.status_of(array_of(kMipmapped, 3)) == 0);
  CHECK(client.status_of(wire::CopyFromArray({kMipmapped, 0, 0, 0, 1, 0}, 4, 1, kStream)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(client.status_of(wire::ArrayPart(kLevel, kMipmapped, 3, 0)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(client.status_of(wire::ArrayPart(kLevel, kMipmapped, 1, 0)) == 0);
  client.send(wire::ArrayDestroy(kMipmapped));
  CHECK(client.status_of(wire::CopyFromArray({kLevel, 0, 0, 0, 1, 0}, 4, 1, kStream)) == CUDA_ERROR_INVALID_HANDLE);
  CHECK(session.ping() == 0);
}

}  // namespace avec::test
