// cuSPARSE on the client: what the program set, told back without a round trip; words of errors.
// The log of the library is the executor's: settings of it are accepted and do nothing.
#include "intercept/libraries/cusparse.h"

#include "intercept/libraries/sparse_status.h"

using namespace avec;
using namespace avec::libraries;

namespace {

constexpr int kNotInitialized = 1;
constexpr int kInvalidValue = 3;

/// 0, the value after creation, for what is no descriptor: these functions return no status.
int noted(const void* descriptor, MatDescriptorState which) {
  const client::LibraryObject* found = client::find_library_object(descriptor, kCusparseMatdescr);
  return found == nullptr ? 0 : static_cast<int>(found->state[which]);
}

}  // namespace

extern "C" {

int cusparseGetStream(const void* handle, void** stream) {
  const client::LibraryObject* found = client::find_library_object(handle, kCusparseCusparse);
  if (found == nullptr) return kNotInitialized;
  if (stream == nullptr) return kInvalidValue;
  *stream = found->stream;
  return 0;
}

int cusparseGetPointerMode(const void* handle, int* mode) {
  const client::LibraryObject* found = client::find_library_object(handle, kCusparseCusparse);
  if (found == nullptr) return kNotInitialized;
  if (mode == nullptr) return kInvalidValue;
  *mode = found->device_pointers ? 1 : 0;
  return 0;
}

int cusparseGetMatType(const void* descriptor) { return noted(descriptor, kMatType); }
int cusparseGetMatFillMode(const void* descriptor) { return noted(descriptor, kMatFill); }
int cusparseGetMatDiagType(const void* descriptor) { return noted(descriptor, kMatDiagonal); }
int cusparseGetMatIndexBase(const void* descriptor) { return noted(descriptor, kMatBase); }

const char* cusparseGetErrorName(int status) { return sparse_status(status).name; }
const char* cusparseGetErrorString(int status) { return sparse_status(status).words; }

int cusparseLoggerSetLevel(int level) { return level < 0 || level > 5 ? kInvalidValue : 0; }
int cusparseLoggerSetMask(int) { return 0; }
int cusparseLoggerForceDisable() { return 0; }
}
