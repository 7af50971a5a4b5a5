// Handles, descriptors, errors, and the order in which work is done.
#include "cudnn_support.h"
#include "devices/cpu/libraries/cudnn/types.h"
#if __has_include(<cudnn.h>)
#include <cudnn.h>
#endif

using namespace test;

#ifdef CUDNN_MAJOR
namespace {
namespace own = avec::cpu_libraries::cudnn;
#define SAME(own_value, value) static_assert(static_cast<int>(own::own_value) == static_cast<int>(value))
SAME(Status::kNotInitialized, CUDNN_STATUS_NOT_INITIALIZED);
SAME(Status::kBadParam, CUDNN_STATUS_BAD_PARAM);
SAME(Status::kInvalidValue, CUDNN_STATUS_INVALID_VALUE);
SAME(Status::kNotSupported, CUDNN_STATUS_NOT_SUPPORTED);
SAME(Status::kAllocFailed, CUDNN_STATUS_ALLOC_FAILED);
SAME(Status::kExecutionFailed, CUDNN_STATUS_EXECUTION_FAILED);
SAME(Status::kExecutionFailedDriver, CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER);
SAME(Type::kDouble, CUDNN_DATA_DOUBLE);
SAME(Type::kHalf, CUDNN_DATA_HALF);
SAME(Type::kInt8, CUDNN_DATA_INT8);
SAME(Type::kInt32, CUDNN_DATA_INT32);
SAME(Type::kUint8, CUDNN_DATA_UINT8);
SAME(Type::kBfloat16, CUDNN_DATA_BFLOAT16);
SAME(Type::kInt64, CUDNN_DATA_INT64);
SAME(Format::kNhwc, CUDNN_TENSOR_NHWC);
SAME(Math::kFma, CUDNN_FMA_MATH);
SAME(Direction::kCrossCorrelation, CUDNN_CROSS_CORRELATION);
SAME(Activate::kRelu, CUDNN_ACTIVATION_RELU);
SAME(Activate::kElu, CUDNN_ACTIVATION_ELU);
SAME(Activate::kIdentity, CUDNN_ACTIVATION_IDENTITY);
SAME(Activate::kSwish, CUDNN_ACTIVATION_SWISH);
SAME(Pool::kAverageIncludePadding, CUDNN_POOLING_AVERAGE_COUNT_INCLUDE_PADDING);
SAME(Pool::kMaxDeterministic, CUDNN_POOLING_MAX_DETERMINISTIC);
SAME(Softmax::kLog, CUDNN_SOFTMAX_LOG);
SAME(SoftmaxMode::kChannel, CUDNN_SOFTMAX_MODE_CHANNEL);
SAME(Op::kNot, CUDNN_OP_TENSOR_NOT);
SAME(Reduce::kAmax, CUDNN_REDUCE_TENSOR_AMAX);
SAME(Reduce::kMulNoZeros, CUDNN_REDUCE_TENSOR_MUL_NO_ZEROS);
SAME(Indices::kFlattened, CUDNN_REDUCE_TENSOR_FLATTENED_INDICES);
SAME(IndexType::k8, CUDNN_8BIT_INDICES);
SAME(BatchNorm::kSpatialPersistent, CUDNN_BATCHNORM_SPATIAL_PERSISTENT);
SAME(BatchNormOps::kNormAddActivation, CUDNN_BATCHNORM_OPS_BN_ADD_ACTIVATION);
SAME(Query::kBlocking, CUDNN_ERRQUERY_BLOCKING);
SAME(kForwardAlgorithms, CUDNN_CONVOLUTION_FWD_ALGO_COUNT);
SAME(kBackwardDataAlgorithms, CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT);
SAME(kBackwardFilterAlgorithms, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT);
#undef SAME
static_assert(sizeof(own::AlgorithmPerformance) == sizeof(cudnnConvolutionFwdAlgoPerf_t));
static_assert(offsetof(own::AlgorithmPerformance, memory) == offsetof(cudnnConvolutionFwdAlgoPerf_t, memory));
static_assert(offsetof(own::AlgorithmPerformance, math) == offsetof(cudnnConvolutionFwdAlgoPerf_t, mathType));
}  // namespace
#endif

TEST_CASE("the library says which version it is, and names every status") {
  int major = 0;
  CHECK(dnn("GetProperty", 0, &major) == kSuccess);
  CHECK(major == 9);
  CHECK(dnn("GetVersion") / 10000 == 9);
  CHECK(dnn("GetProperty", 3, &major) == kBadParam);
  void* library = ::dlopen(AVEC_CPU_CUDNN, RTLD_NOW | RTLD_LOCAL);
  REQUIRE(library != nullptr);
  const auto text = reinterpret_cast<const char* (*)(int)>(::dlsym(library, "cudnnGetErrorString"));
  CHECK(std::string(text(3007)) == "CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH");
  CHECK(std::string(text(2000)) == "CUDNN_STATUS_BAD_PARAM");
  CHECK(std::string(text(17)) == "CUDNN_UNKNOWN_STATUS");
}

TEST_CASE("descriptors of tensors are packed by their format, or strided, and tell what they were set to") {
  Descriptor tensor("Tensor");
  void* t = tensor;
  int type = -1, count = 0, dims[8] = {}, strides[8] = {};
  std::size_t bytes = 77;
  const auto told = [&] {
    REQUIRE(dnn("GetTensorNdDescriptor", t, 8, &type, &count, &dims[0], &strides[0]) == kSuccess);
    REQUIRE(dnn("GetTensorSizeInBytes", t, &bytes) == kSuccess);
    return Dims(strides, strides + count);
  };
  REQUIRE(dnn("SetTensor4dDescriptor", t, kNhwc, kDouble, 2, 3, 4, 5) == kSuccess);
  CHECK(told() == Dims{60, 1, 15, 3});
  CHECK((type == kDouble && bytes == 960));
  REQUIRE(dnn("SetTensor4dDescriptorEx", t, kFloat, 2, 3, 4, 5, 100, 30, 7, 1) == kSuccess);
  CHECK(told() == Dims{100, 30, 7, 1});
  CHECK(bytes == 744);
  const int five[] = {2, 3, 4, 5, 6};
  REQUIRE(dnn("SetTensorNdDescriptorEx", t, kNhwc, kHalf, 5, &five[0]) == kSuccess);
  CHECK(told() == Dims{360, 1, 90, 18, 3});
  CHECK(dnn("SetTensor4dDescriptor", t, kNchw, kFloat, 2, 0, 4, 5) == kBadParam);
  CHECK(dnn("SetTensor4dDescriptor", t, 7, kFloat, 2, 3, 4, 5) == kBadParam);
  CHECK(dnn("SetTensor4dDescriptor", t, kNchw, 99, 2, 3, 4, 5) == kBadParam);
  CHECK(dnn("SetTensor4dDescriptorEx", t, kFloat, 2, 3, 4, 5, 60, 20, 5, 0) == kBadParam);
  CHECK(dnn("SetTensor4dDescriptor", t, kNchw, kFloat, 1 << 15, 1 << 15, 2, 1) == kNotSupported);
  CHECK(dnn("SetTensor4dDescriptor", t, kNchw, kFloat, 40000, 40000, 1, 1) == kSuccess);
  const int nine[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
  CHECK(dnn("SetTensorNdDescriptor", t, kFloat, 9, &nine[0], &nine[0]) == kNotSupported);
  CHECK(dnn("SetTensorNdDescriptor", t, kFloat, 1, &nine[0], &nine[0]) == kBadParam);
  CHECK(dnn("SetTensorNdDescriptor", t, kFloat, 8, &nine[0], &nine[0]) == kSuccess);
}

TEST_CASE("descriptors of operations are refused with cuDNN's statuses") {
  Descriptor convolution("Convolution"), pooling("Pooling"), activation("Activation"), lrn("LRN"),
      op("OpTensor"), reduce("ReduceTensor"), filter("Filter");
  void *c = convolution, *p = pooling, *a = activation, *l = lrn, *o = op, *r = reduce, *f = filter;
  CHECK(dnn("SetConvolution2dDescriptor", c, 0, 0, 0, 1, 1, 1, 1, kFloat) == kBadParam);
  CHECK(dnn("SetConvolution2dDescriptor", c, -1, 0, 1, 1, 1, 1, 1, kFloat) == kBadParam);
  CHECK(dnn("SetConvolution2dDescriptor", c, 0, 0, 1, 1, 1, 1, 2, kFloat) == kBadParam);
  CHECK(dnn("SetConvolutionGroupCount", c, 0) == kBadParam);
  CHECK(dnn("SetConvolutionMathType", c, 4) == kBadParam);
  CHECK(dnn("SetPooling2dDescriptor", p, 4, 0, 2, 2, 0, 0, 2, 2) == kBadParam);
  CHECK(dnn("SetPooling2dDescriptor", p, 0, 0, 2, 2, 0, 0, 0, 2) == kBadParam);
  CHECK(dnn("SetActivationDescriptor", a, 7, 0, 0.0) == kBadParam);
  CHECK(dnn("SetLRNDescriptor", l, 17u, 1e-4, 0.75, 2.0) == kBadParam);
  CHECK(dnn("SetLRNDescriptor", l, 16u, 1e-4, 0.75, 2.0) == kSuccess);
  CHECK(dnn("SetLRNDescriptor", l, 5u, 1e-4, 0.75, 1e-6) == kBadParam);
  CHECK(dnn("SetOpTensorDescriptor", o, 6, kFloat, 0) == kBadParam);
  CHECK(dnn("SetReduceTensorDescriptor", r, 9, kFloat, 0, 0, 0) == kBadParam);
  CHECK(dnn("SetFilter4dDescriptor", f, kFloat, kNchw, 2, 0, 3, 3) == kBadParam);
  unsigned n = 0;
  double alpha = 0, beta = 0, k = 0;
  CHECK(dnn("GetLRNDescriptor", l, &n, &alpha, &beta, &k) == kSuccess);
  CHECK((n == 16 && alpha == 1e-4 && beta == 0.75 && k == 2));
}

TEST_CASE("work is done in the order of the handle's stream, not before") {
  Dnn d;
  Array y({1, 1, 1, 4});
  y.set({1, 1, 1, 1});
  Gate gate;
  gate.close(d.stream);
  const float two = 2, three = 3;
  void* yd = y.descriptor;
  REQUIRE(dnn("ScaleTensor", d.handle, yd, y.data(), &two) == kSuccess);  // returns though the gate is closed
  CHECK(cuStreamQuery(d.stream) == CUDA_ERROR_NOT_READY);
  // A descriptor may change as soon as the call has returned.
  REQUIRE(dnn("SetTensor4dDescriptor", yd, kNchw, kFloat, 1, 1, 1, 2) == kSuccess);
  REQUIRE(dnn("SetTensor", d.handle, yd, y.data(), &three) == kSuccess);
  float now[4] = {};
  std::memcpy(&now[0], y.data(), sizeof now);  // the device's memory is the process's own
  CHECK(now[3] == 1);
  gate.open();
  check_close(y.get(), {3, 3, 2, 2});
  int status = -1;
  void* tag = nullptr;
  CHECK(dnn("QueryRuntimeError", d.handle, &status, 2, tag) == kSuccess);
  CHECK(status == kSuccess);
}

TEST_CASE(
    "work that a stream records is done at each launch of the graph, also after its descriptors ended") {
  Dnn d;
  Array y({1, 1, 1, 2});
  y.set({1, 5});
  const float two = 2;
  CUgraph graph = nullptr;
  CUgraphExec executable = nullptr;
  OK(cuStreamBeginCapture(d.stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  {
    Descriptor shape("Tensor");
    void* sd = shape;
    REQUIRE(dnn("SetTensor4dDescriptor", sd, kNchw, kFloat, 1, 1, 1, 2) == kSuccess);
    REQUIRE(dnn("ScaleTensor", d.handle, sd, y.data(), &two) == kSuccess);
  }
  OK(cuStreamEndCapture(d.stream, &graph));
  check_close(y.get(), {1, 5});
  OK(cuGraphInstantiate(&executable, graph, 0));
  OK(cuGraphDestroy(graph));
  for (int i = 0; i < 3; ++i) OK(cuGraphLaunch(executable, d.stream));
  check_close(y.get(), {8, 40});
  OK(cuGraphExecDestroy(executable));
}
