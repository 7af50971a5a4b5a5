// Names and words of cusparseStatus_t, which cuSPARSE and cuSPARSELt share.
#pragma once

namespace avec::libraries {

struct SparseStatus {
  const char* name;
  const char* words;
};

inline SparseStatus sparse_status(int status) {
  static constexpr SparseStatus kAll[] = {
      {"CUSPARSE_STATUS_SUCCESS", "success"},
      {"CUSPARSE_STATUS_NOT_INITIALIZED", "initialization error"},
      {"CUSPARSE_STATUS_ALLOC_FAILED", "out of memory"},
      {"CUSPARSE_STATUS_INVALID_VALUE", "invalid value"},
      {"CUSPARSE_STATUS_ARCH_MISMATCH", "architecture mismatch"},
      {"CUSPARSE_STATUS_MAPPING_ERROR", "texture memory mapping error"},
      {"CUSPARSE_STATUS_EXECUTION_FAILED", "kernel launch failure"},
      {"CUSPARSE_STATUS_INTERNAL_ERROR", "internal error"},
      {"CUSPARSE_STATUS_MATRIX_TYPE_NOT_SUPPORTED", "matrix type not supported"},
      {"CUSPARSE_STATUS_ZERO_PIVOT", "zero pivot"},
      {"CUSPARSE_STATUS_NOT_SUPPORTED", "operation not supported"},
      {"CUSPARSE_STATUS_INSUFFICIENT_RESOURCES", "insufficient resources"},
  };
  constexpr int kCount = sizeof kAll / sizeof kAll[0];
  return status >= 0 && status < kCount ? kAll[status]
                                        : SparseStatus{"unrecognized error code", "unrecognized error code"};
}

}  // namespace avec::libraries
