// The enums of cuDNN 9's C API, as far as the CPU device has it. cuDNN is no part of the CUDA toolkit, so
// they are declared here; a test compares the values with cudnn.h where that is installed.
#pragma once

namespace avec::cpu_libraries::cudnn {

enum class Status : int {
  kSuccess = 0,
  kNotInitialized = 1001,
  kBadParam = 2000,
  kInvalidValue = 2001,
  kNotSupported = 3000,
  kInternalError = 4000,
  kAllocFailed = 4003,
  kExecutionFailed = 5000,
  kExecutionFailedDriver = 5001,
};

enum class Type : int {
  kFloat = 0,
  kDouble = 1,
  kHalf = 2,
  kInt8 = 3,
  kInt32 = 4,
  kUint8 = 6,
  kBfloat16 = 9,
  kInt64 = 10,
};

enum class Format : int { kNchw = 0, kNhwc = 1, kNchwVector = 2 };
enum class Nan : int { kNotPropagate = 0, kPropagate = 1 };
enum class Math : int { kDefault = 0, kTensor = 1, kTensorConversion = 2, kFma = 3 };
enum class Direction : int { kConvolution = 0, kCrossCorrelation = 1 };
enum class Reorder : int { kDefault = 0, kNone = 1 };
enum class Determinism : int { kNo = 0, kYes = 1 };

enum class Activate : int {
  kSigmoid = 0,
  kRelu = 1,
  kTanh = 2,
  kClippedRelu = 3,
  kElu = 4,
  kIdentity = 5,
  kSwish = 6
};
enum class Pool : int {
  kMax = 0,
  kAverageIncludePadding = 1,
  kAverageExcludePadding = 2,
  kMaxDeterministic = 3
};
enum class Softmax : int { kFast = 0, kAccurate = 1, kLog = 2 };
enum class SoftmaxMode : int { kInstance = 0, kChannel = 1 };
enum class Op : int { kAdd = 0, kMul = 1, kMin = 2, kMax = 3, kSqrt = 4, kNot = 5 };
enum class Reduce : int {
  kAdd = 0,
  kMul = 1,
  kMin = 2,
  kMax = 3,
  kAmax = 4,
  kAverage = 5,
  kNorm1 = 6,
  kNorm2 = 7,
  kMulNoZeros = 8,
};
enum class Indices : int { kNone = 0, kFlattened = 1 };
enum class IndexType : int { k32 = 0, k64 = 1, k16 = 2, k8 = 3 };
enum class BatchNorm : int { kPerActivation = 0, kSpatial = 1, kSpatialPersistent = 2 };
enum class BatchNormOps : int { kNorm = 0, kNormActivation = 1, kNormAddActivation = 2 };
enum class Lrn : int { kCrossChannel = 0 };
enum class Divisive : int { kPrecomputedMeans = 0 };
enum class Query : int { kRawCode = 0, kNonBlocking = 1, kBlocking = 2 };

/// The numbers of algorithms: Get...AlgorithmMaxCount and the first values that name none.
inline constexpr int kForwardAlgorithms = 8, kBackwardDataAlgorithms = 6, kBackwardFilterAlgorithms = 7;

/// cudnnConvolution{Fwd,BwdData,BwdFilter}AlgoPerf_t: they differ in the enum of the first member only.
struct AlgorithmPerformance {
  int algorithm;
  Status status;
  float time_ms;
  unsigned long memory;
  Determinism determinism;
  Math math;
  int reserved[3];
};

}  // namespace avec::cpu_libraries::cudnn
