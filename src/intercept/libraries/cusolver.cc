// cuSOLVER on the client: streams, told back without a round trip.
#include "client/library_call.h"
#include "libraries/cusolver_kinds.h"

using namespace avec;
using namespace avec::libraries;

namespace {

int stream_of(const void* handle, client::ObjectKind kind, void** stream) {
  const client::LibraryObject* found = client::find_library_object(handle, kind);
  if (found == nullptr) return 1;   // CUSOLVER_STATUS_NOT_INITIALIZED
  if (stream == nullptr) return 3;  // CUSOLVER_STATUS_INVALID_VALUE
  *stream = found->stream;
  return 0;
}

}  // namespace

extern "C" {

int cusolverDnGetStream(const void* handle, void** stream) {
  return stream_of(handle, kCusolverDense, stream);
}
int cusolverSpGetStream(const void* handle, void** stream) {
  return stream_of(handle, kCusolverSparse, stream);
}
}
