// Copies to, from and between arrays. Rows of an array are an Extent like any other (memory.h), so
// payload goes the same ways as for linear memory.
#include "executor/worker/session.h"

namespace avec::worker {
namespace {

/// a + b <= most, without overflow.
bool fits(std::uint64_t a, std::uint64_t b, std::uint64_t most) { return a <= most && b <= most - a; }

}  // namespace

CUresult Session::find_rows(const wire::ArrayRows& rows, std::uint64_t width, std::uint64_t height, Extent& extent) {
  CUresult status;
  const Array* array = find_array(rows.array(), status);
  if (array == nullptr) return status;
  const ArrayShape& shape = array->shape;
  if (array->handle == nullptr || shape.row_bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  if (rows.rows() == 0 || rows.first() >= rows.rows() || height > limits::kMaxPayloadBytes)
    return CUDA_ERROR_INVALID_VALUE;
  const std::uint64_t slices = (rows.first() + height + rows.rows() - 1) / rows.rows();
  if (!fits(rows.x(), width, shape.row_bytes) || !fits(rows.y(), rows.rows(), shape.rows) ||
      !fits(rows.z(), slices, shape.slices))
    return CUDA_ERROR_INVALID_VALUE;
  extent = {0, width, width, height, {array->handle, rows.x(), rows.y(), rows.z(), rows.rows(), rows.first()}};
  return CUDA_SUCCESS;
}

Result<> Session::operator()(const Header& header, const wire::CopyToArray& call) {
  Extent extent;
  const CUresult found = find_rows(call.destination(), call.width(), call.height(), extent);
  return found == CUDA_SUCCESS ? upload(header, call.stream(), extent) : refuse(header, found);
}

Result<> Session::operator()(const Header& header, const wire::CopyFromArray& call) {
  Extent extent;
  const CUresult found = find_rows(call.source(), call.width(), call.height(), extent);
  return found == CUDA_SUCCESS ? download_reply(header, call.stream(), extent) : refuse(header, found);
}

CUresult Session::find_side(const wire::DeviceBox& box, const wire::CopyBox& call, CUmemorytype& type,
                            CUarray& array, RowsInArray& at, std::uint64_t& slice_rows) {
  if (box.rows().array() != 0) {
    const wire::ArrayRows& rows = box.rows();
    Extent extent;
    if (rows.rows() != call.height() || rows.first() != 0) return CUDA_ERROR_INVALID_VALUE;
    const CUresult found = find_rows(rows, call.width(), call.height() * call.depth(), extent);
    if (found != CUDA_SUCCESS) return found;
    type = CU_MEMORYTYPE_ARRAY;
    array = extent.in.array;
    at = extent.in;
    return CUDA_SUCCESS;
  }
  type = CU_MEMORYTYPE_DEVICE;
  const bool pitched = call.height() > 1 || call.depth() > 1;
  if (pitched && (box.pitch() < call.width() || box.slice() % box.pitch() != 0)) return CUDA_ERROR_INVALID_VALUE;
  slice_rows = pitched ? box.slice() / box.pitch() : 1;
  if (call.depth() > 1 && slice_rows < call.height()) return CUDA_ERROR_INVALID_VALUE;
  // All of it, as rows of one height.
  std::uint64_t before, rows;
  if (__builtin_mul_overflow(slice_rows, call.depth() - 1, &before) ||
      __builtin_add_overflow(before, call.height(), &rows))
    return CUDA_ERROR_INVALID_VALUE;
  const Extent all{box.address(), box.pitch(), call.width(), rows};
  return all.sane() ? check_extent(all) : CUDA_ERROR_INVALID_VALUE;
}

Result<> Session::operator()(const Header& header, const wire::CopyBox& call) {
  if (call.width() > limits::kMaxPayloadBytes || call.height() > limits::kMaxPayloadBytes ||
      call.depth() > limits::kMaxPayloadBytes ||
      static_cast<unsigned __int128>(call.height()) * call.depth() > limits::kMaxPayloadBytes)
    return protocol_error("a copy whose sizes do not fit together");
  CUresult status;
  Stream* stream = find_stream(call.stream(), status);
  if (stream == nullptr) return finish(header, status);
  if (call.width() == 0 || call.height() == 0 || call.depth() == 0) return finish(header, CUDA_SUCCESS);
  CUDA_MEMCPY3D copy{};
  RowsInArray to, from;
  std::uint64_t to_rows = 0, from_rows = 0;
  status = find_side(call.destination(), call, copy.dstMemoryType, copy.dstArray, to, to_rows);
  if (status == CUDA_SUCCESS)
    status = find_side(call.source(), call, copy.srcMemoryType, copy.srcArray, from, from_rows);
  if (status != CUDA_SUCCESS) return finish(header, status);
  if (hold(*stream)) return {};
  copy.dstXInBytes = to.x;
  copy.dstY = to.y;
  copy.dstZ = to.z;
  copy.dstDevice = call.destination().address();
  copy.dstPitch = call.destination().pitch();
  copy.dstHeight = to_rows;
  copy.srcXInBytes = from.x;
  copy.srcY = from.y;
  copy.srcZ = from.z;
  copy.srcDevice = call.source().address();
  copy.srcPitch = call.source().pitch();
  copy.srcHeight = from_rows;
  copy.WidthInBytes = call.width();
  copy.Height = call.height();
  copy.Depth = call.depth();
  before_issue(*stream);
  status = driver_.cuMemcpy3DAsync(&copy, stream->handle);
  if (status == CUDA_SUCCESS) completions_.issued(*stream);
  return finish(header, status);
}

}  // namespace avec::worker
