// cuSPARSELt's products, which take an array of streams: given one.
#include <cstdint>

#include "executor/worker/libraries.h"

namespace {

constexpr std::uint16_t kSparseLt = 12;  // schemas/libraries/cusparselt.api
constexpr int kNotSupported = 10;

using Product = int (*)(const void* handle, const void* plan, const void* alpha, const void* a, const void* b,
                        const void* beta, const void* c, const void* d, const void* workspace,
                        const void* const* streams, std::int32_t count);

int product(const char* name, const void* handle, const void* plan, const void* alpha, const void* a,
            const void* b, const void* beta, const void* c, const void* d, const void* workspace,
            const void* stream) {
  const auto function = reinterpret_cast<Product>(avec_library_symbol(kSparseLt, name));
  return function == nullptr ? kNotSupported
                             : function(handle, plan, alpha, a, b, beta, c, d, workspace, &stream, 1);
}

}  // namespace

extern "C" {
int cusparselt_matmul(const void* handle, const void* plan, const void* alpha, const void* a, const void* b,
                      const void* beta, const void* c, const void* d, const void* workspace,
                      const void* stream);
int cusparselt_search(const void* handle, const void* plan, const void* alpha, const void* a, const void* b,
                      const void* beta, const void* c, const void* d, const void* workspace,
                      const void* stream);
}

int cusparselt_matmul(const void* handle, const void* plan, const void* alpha, const void* a, const void* b,
                      const void* beta, const void* c, const void* d, const void* workspace,
                      const void* stream) {
  return product("cusparseLtMatmul", handle, plan, alpha, a, b, beta, c, d, workspace, stream);
}

int cusparselt_search(const void* handle, const void* plan, const void* alpha, const void* a, const void* b,
                      const void* beta, const void* c, const void* d, const void* workspace,
                      const void* stream) {
  return product("cusparseLtMatmulSearch", handle, plan, alpha, a, b, beta, c, d, workspace, stream);
}
