// cuSPARSELt on the client: products, which take an array of streams, in one of them.
#include <cstdint>

#include "intercept/libraries/sparse_status.h"

using namespace avec::libraries;

// The generated functions of schemas/libraries/cusparselt.api.
extern "C" {
int cusparselt_matmul(const void* handle, const void* plan, const float* alpha, void* a, void* b,
                      const float* beta, void* c, void* d, void* workspace, void* stream);
int cusparselt_search(const void* handle, const void* plan, const float* alpha, void* a, void* b,
                      const float* beta, void* c, void* d, void* workspace, void* stream);
}

namespace {

/// Splitting over the other streams is the library's choice: the result is the same in the first.
void* first_of(void* const* streams, std::int32_t count) {
  return streams == nullptr || count < 1 ? nullptr : streams[0];
}

}  // namespace

extern "C" {

int cusparseLtMatmul(const void* handle, const void* plan, const float* alpha, void* a, void* b,
                     const float* beta, void* c, void* d, void* workspace, void* const* streams,
                     std::int32_t count) {
  return cusparselt_matmul(handle, plan, alpha, a, b, beta, c, d, workspace, first_of(streams, count));
}

int cusparseLtMatmulSearch(const void* handle, const void* plan, const float* alpha, void* a, void* b,
                           const float* beta, void* c, void* d, void* workspace, void* const* streams,
                           std::int32_t count) {
  return cusparselt_search(handle, plan, alpha, a, b, beta, c, d, workspace, first_of(streams, count));
}

const char* cusparseLtGetErrorName(int status) { return sparse_status(status).name; }
const char* cusparseLtGetErrorString(int status) { return sparse_status(status).words; }
}
