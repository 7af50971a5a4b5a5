// What cuDNN answers about descriptors, for which it needs no GPU: printed, and compared between NVIDIA's
// library natively and the same library behind avec (cudnn_graph_test.py). Built where cuDNN is installed.
#include <cudnn.h>

#include <cstdio>
#include <initializer_list>
#define P(x) std::printf("%s -> %d\n", #x, static_cast<int>(x))
int main() {
  std::printf("ver %zu rt %zu max %zu\n", cudnnGetVersion(), cudnnGetCudartVersion(),
              cudnnGetMaxDeviceVersion());
  int v;
  for (int i = 0; i < 4; i++) {
    v = -1;
    int s = cudnnGetProperty((libraryPropertyType)i, &v);
    std::printf("prop %d %d\n", s, v);
  }
  cudnnTensorDescriptor_t t, u;
  P(cudnnCreateTensorDescriptor(&t));
  P(cudnnCreateTensorDescriptor(&u));
  P(cudnnSetTensor4dDescriptor(t, CUDNN_TENSOR_NCHW, CUDNN_DATA_DOUBLE, 2, 3, 4, 5));
  P(cudnnSetTensor4dDescriptor(u, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, 2, -3, 4, 5));
  P(cudnnSetTensor4dDescriptor(u, CUDNN_TENSOR_NHWC, CUDNN_DATA_HALF, 2, 8, 4, 5));
  cudnnDataType_t d;
  int nd, n[9] = {0}, c[9] = {0};
  P(cudnnGetTensorNdDescriptor(t, 8, &d, &nd, n, c));
  std::printf("%d %d: %d %d %d %d | %d %d\n", d, nd, n[0], n[1], n[2], n[3], c[0], c[1]);
  P(cudnnGetTensorNdDescriptor(u, 4, &d, &nd, n, c));
  std::printf("%d %d: %d %d %d %d | %d %d %d %d\n", d, nd, n[0], n[1], n[2], n[3], c[0], c[1], c[2], c[3]);
  int a[9];
  P(cudnnGetTensor4dDescriptor(t, &d, a, a + 1, a + 2, a + 3, a + 4, a + 5, a + 6, a + 7));
  std::printf("%d %d %d %d %d\n", a[0], a[3], a[4], a[6], a[7]);
  size_t z;
  P(cudnnGetTensorSizeInBytes(t, &z));
  std::printf("%zu\n", z);
  P(cudnnDeriveBNTensorDescriptor(u, t, CUDNN_BATCHNORM_SPATIAL));
  P(cudnnGetTensorNdDescriptor(u, 4, &d, &nd, n, c));
  std::printf("%d %d: %d %d %d %d\n", d, nd, n[0], n[1], n[2], n[3]);
  cudnnFilterDescriptor_t f;
  cudnnCreateFilterDescriptor(&f);
  int fd[4] = {6, 3, 3, 3};
  P(cudnnSetFilterNdDescriptor(f, CUDNN_DATA_DOUBLE, CUDNN_TENSOR_NCHW, 4, fd));
  cudnnTensorFormat_t tf;
  P(cudnnGetFilterNdDescriptor(f, 4, &d, &tf, &nd, n));
  std::printf("%d %d %d %d %d\n", d, tf, nd, n[0], n[3]);
  P(cudnnGetFilterSizeInBytes(f, &z));
  std::printf("%zu\n", z);
  cudnnConvolutionDescriptor_t cd;
  P(cudnnCreateConvolutionDescriptor(&cd));
  P(cudnnSetConvolution2dDescriptor(cd, 1, 1, 1, 1, 1, 1, CUDNN_CROSS_CORRELATION, CUDNN_DATA_DOUBLE));
  P(cudnnSetConvolutionGroupCount(cd, 1));
  P(cudnnSetConvolutionMathType(cd, CUDNN_FMA_MATH));
  int o[4];
  P(cudnnGetConvolution2dForwardOutputDim(cd, t, f, o, o + 1, o + 2, o + 3));
  std::printf("%d %d %d %d\n", o[0], o[1], o[2], o[3]);
  P(cudnnGetConvolutionNdForwardOutputDim(cd, t, f, 4, o));
  std::printf("%d\n", o[2]);
  cudnnMathType_t mt;
  P(cudnnGetConvolutionMathType(cd, &mt));
  std::printf("%d\n", mt);
  P(cudnnGetConvolutionGroupCount(cd, &v));
  std::printf("%d\n", v);
  P(cudnnSetConvolutionGroupCount(cd, 3));
  P(cudnnGetConvolutionGroupCount(cd, &v));
  std::printf("%d\n", v);
  cudnnConvolutionMode_t cm;
  int pa[2], st[2], di[2];
  P(cudnnGetConvolutionNdDescriptor(cd, 2, &nd, pa, st, di, &cm, &d));
  std::printf("%d %d %d %d %d %d\n", nd, pa[0], st[1], di[1], cm, d);
  cudnnPoolingDescriptor_t pd;
  cudnnCreatePoolingDescriptor(&pd);
  P(cudnnSetPooling2dDescriptor(pd, CUDNN_POOLING_MAX, CUDNN_NOT_PROPAGATE_NAN, 2, 2, 0, 0, 2, 2));
  P(cudnnGetPooling2dForwardOutputDim(pd, t, o, o + 1, o + 2, o + 3));
  std::printf("%d %d\n", o[2], o[3]);
  cudnnActivationDescriptor_t ad;
  cudnnCreateActivationDescriptor(&ad);
  P(cudnnSetActivationDescriptor(ad, CUDNN_ACTIVATION_ELU, CUDNN_PROPAGATE_NAN, 1.5));
  double co;
  cudnnActivationMode_t am;
  cudnnNanPropagation_t np;
  P(cudnnGetActivationDescriptor(ad, &am, &np, &co));
  std::printf("%d %d %g\n", am, np, co);
  cudnnLRNDescriptor_t ld;
  cudnnCreateLRNDescriptor(&ld);
  P(cudnnSetLRNDescriptor(ld, 5, 1e-4, 0.75, 2));
  P(cudnnSetLRNDescriptor(ld, 99, 1e-4, 0.75, 2));
  unsigned ln;
  double la, lb, lk;
  P(cudnnGetLRNDescriptor(ld, &ln, &la, &lb, &lk));
  std::printf("%u %g %g %g\n", ln, la, lb, lk);
  cudnnRNNDataDescriptor_t rd;
  P(cudnnCreateRNNDataDescriptor(&rd));
  int sl[3] = {3, 2, 9};
  float fill = 2.5f;
  P(cudnnSetRNNDataDescriptor(rd, CUDNN_DATA_FLOAT, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED, 4, 3, 5, sl,
                              &fill));
  sl[2] = 1;
  P(cudnnSetRNNDataDescriptor(rd, CUDNN_DATA_FLOAT, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED, 4, 3, 5, sl,
                              &fill));
  sl[0] = 0;
  P(cudnnSetRNNDataDescriptor(rd, CUDNN_DATA_FLOAT, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED, 4, 3, 5, sl,
                              &fill));
  P(cudnnSetRNNDataDescriptor(rd, CUDNN_DATA_INT32, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED, 4, 3, 5, sl,
                              &fill));
  P(cudnnSetRNNDataDescriptor(rd, CUDNN_DATA_FLOAT, (cudnnRNNDataLayout_t)7, 4, 3, 5, sl, &fill));
  P(cudnnSetRNNDataDescriptor(rd, CUDNN_DATA_FLOAT, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED, 0, 3, 5, sl,
                              &fill));
  sl[0] = 3;
  P(cudnnSetRNNDataDescriptor(rd, CUDNN_DATA_FLOAT, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED, 4, 3, 5, sl,
                              &fill));
  cudnnRNNDataLayout_t lay;
  int ms, bs, vs, got[3];
  float gf = 0;
  P(cudnnGetRNNDataDescriptor(rd, &d, &lay, &ms, &bs, &vs, 3, got, &gf));
  std::printf("%d %d %d %d %d %d %g\n", d, lay, ms, bs, vs, got[2], gf);
  cudnnRNNDescriptor_t r;
  P(cudnnCreateRNNDescriptor(&r));
  P(cudnnSetRNNDescriptor_v8(r, CUDNN_RNN_ALGO_STANDARD, CUDNN_LSTM, CUDNN_RNN_DOUBLE_BIAS,
                             CUDNN_UNIDIRECTIONAL, CUDNN_LINEAR_INPUT, CUDNN_DATA_FLOAT, CUDNN_DATA_FLOAT,
                             CUDNN_DEFAULT_MATH, 5, 7, 7, 2, NULL, 0));
  P(cudnnSetRNNDescriptor_v8(r, CUDNN_RNN_ALGO_STANDARD, CUDNN_LSTM, CUDNN_RNN_DOUBLE_BIAS,
                             CUDNN_UNIDIRECTIONAL, CUDNN_LINEAR_INPUT, CUDNN_DATA_FLOAT, CUDNN_DATA_FLOAT,
                             CUDNN_DEFAULT_MATH, -5, 7, 7, 2, NULL, 0));
  P(cudnnRNNSetClip_v9(r, CUDNN_RNN_CLIP_MINMAX, -1, 1));
  cudnnRNNClipMode_t cl;
  double lc, rc;
  P(cudnnRNNGetClip_v9(r, &cl, &lc, &rc));
  std::printf("%d %g %g\n", cl, lc, rc);
  cudnnCTCLossDescriptor_t ct;
  cudnnCreateCTCLossDescriptor(&ct);
  P(cudnnSetCTCLossDescriptor_v9(ct, CUDNN_DATA_FLOAT, CUDNN_LOSS_NORMALIZATION_SOFTMAX,
                                 CUDNN_CTC_ZERO_OOB_GRADIENTS, 10));
  P(cudnnGetCTCLossDescriptor(ct, &d));
  std::printf("%d\n", d);
  cudnnBackendDescriptor_t b, p;
  P(cudnnBackendCreateDescriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR, &b));
  int64_t m = 0;
  int64_t dims[4] = {1, 2, 3, 4}, str[4] = {24, 12, 4, 1};
  cudnnDataType_t ty = CUDNN_DATA_FLOAT;
  bool bo = false;
  int64_t uid = 7, al = 16;
  P(cudnnBackendGetAttribute(b, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, &m, dims));
  P(cudnnBackendSetAttribute(b, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims));
  P(cudnnBackendSetAttribute(b, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, str));
  P(cudnnBackendSetAttribute(b, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &ty));
  P(cudnnBackendSetAttribute(b, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid));
  P(cudnnBackendSetAttribute(b, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &al));
  P(cudnnBackendSetAttribute(b, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &bo));
  P(cudnnBackendFinalize(b));
  P(cudnnBackendFinalize(b));
  P(cudnnBackendSetAttribute(b, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims));
  int64_t gd[4] = {0};
  P(cudnnBackendGetAttribute(b, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 2, &m, gd));
  std::printf("%ld %ld %ld %ld\n", (long)m, (long)gd[0], (long)gd[1], (long)gd[2]);
  P(cudnnBackendGetAttribute(b, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 0, &m, nullptr));
  std::printf("%ld\n", (long)m);
  P(cudnnBackendGetAttribute(b, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_INT64, 2, &m, gd));
  cudnnBackendDescriptor_t pw, op, y;
  P(cudnnBackendCreateDescriptor(CUDNN_BACKEND_POINTWISE_DESCRIPTOR, &pw));
  cudnnPointwiseMode_t md = CUDNN_POINTWISE_RELU_FWD;
  P(cudnnBackendSetAttribute(pw, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &md));
  P(cudnnBackendSetAttribute(pw, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &ty));
  P(cudnnBackendFinalize(pw));
  cudnnBackendCreateDescriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR, &y);
  cudnnBackendSetAttribute(y, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
  cudnnBackendSetAttribute(y, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, str);
  cudnnBackendSetAttribute(y, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &ty);
  uid = 8;
  cudnnBackendSetAttribute(y, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
  cudnnBackendSetAttribute(y, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &al);
  P(cudnnBackendFinalize(y));
  P(cudnnBackendCreateDescriptor(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, &op));
  P(cudnnBackendSetAttribute(op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                             1, &pw));
  P(cudnnBackendSetAttribute(op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &b));
  P(cudnnBackendSetAttribute(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y));
  P(cudnnBackendFinalize(op));
  cudnnBackendDescriptor_t bad;
  P(cudnnBackendCreateDescriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR, &bad));
  P(cudnnBackendSetAttribute(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                             &bad));
  P(cudnnBackendFinalize(bad));
  P(cudnnBackendCreateDescriptor((cudnnBackendDescriptorType_t)999, &p));
  P(cudnnBackendDestroyDescriptor(b));
  P(cudnnDestroyTensorDescriptor(t));
  P(cudnnDestroyConvolutionDescriptor(cd));
  P(cudnnDestroyRNNDescriptor(r));
  for (int s :
       {0,    1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 2000, 2001, 2002, 2003, 2004, 2005, 2006, 2007,
        2008, 2009, 2010, 2011, 2012, 3000, 3001, 3002, 3003, 3004, 3005, 3006, 3007, 3008, 3009, 3010, 3011,
        3012, 3013, 3014, 4000, 4001, 4002, 4003, 4004, 4005, 4006, 5000, 5001, 5002, 5003, 5004, 77})
    std::printf("{%d, \"%s\"},\n", s, cudnnGetErrorString((cudnnStatus_t)s));
}
