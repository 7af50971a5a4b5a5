// A few functions of cuFFT, cuSPARSE and cuSOLVER that fail when asked to, and note what reaches them in AVEC_TEST_LOG:
// the library that library_failures_test.py lends to an executor under the three names.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void note(const char *format, ...) {
  FILE *file = fopen(getenv("AVEC_TEST_LOG"), "a");
  va_list values;
  va_start(values, format);
  vfprintf(file, format, values);
  va_end(values);
  fclose(file);
}

// cuFFT: plan numbers are used again, as NVIDIA's may be.
static char plans[64];
int cufftCreate(int *plan) {
  *plan = 1;
  while (plans[*plan]) ++*plan;
  plans[*plan] = 1;
  note("create plan %d\n", *plan);
  return 0;
}
int cufftDestroy(int plan) {
  plans[plan] = 0;
  note("destroy plan %d\n", plan);
  return 0;
}
int cufftSetAutoAllocation(int plan, int on) {
  note("plan %d allocates %d\n", plan, on);
  return 0;
}
int cufftExecC2C(int plan, void *from, void *to, int direction) {
  note("transform\n");
  return direction == 77 ? 6 : 0;
}
int cufftGetSize(int plan, unsigned long *size) { return 6; }
int cufftXtSetWorkAreaPolicy(int plan, int policy, unsigned long *size) {
  *size += 1;
  return 16;
}

// cuSPARSE: ending a description of a matrix fails.
int cusparseCreate(void **handle) {
  *handle = (void *)0x10;
  return 0;
}
int cusparseDestroy(void *handle) {
  note("destroy cusparse\n");
  return 0;
}
int cusparseSetPointerMode(void *handle, int mode) {
  static int refused;
  note("pointer mode %d\n", mode);
  return mode == 1 && getenv("AVEC_TEST_REFUSE_MODE") && !refused++ ? 6 : 0;
}
int cusparseCreateMatDescr(void **descriptor) {
  *descriptor = (void *)0x20;
  return 0;
}
int cusparseDestroyMatDescr(void *descriptor) { return 7; }
int cusparseCreateCsric02Info(void **info) {
  *info = (void *)0x30;
  return 0;
}
int cusparseXcsric02_zeroPivot(void *handle, void *info, int *position) {
  *position = 3;
  return 9;  // CUSPARSE_STATUS_ZERO_PIVOT
}
int cusparseCreateCsrilu02Info(void **info) {
  *info = (void *)0x40;
  return 0;
}
int cusparseXcsrilu02_zeroPivot(void *handle, void *info, int *position) { return 6; }
// cuSOLVER: works in all of the host memory that it is lent.
int cusolverDnCreateSyevjInfo(void **info) {
  *info = (void *)0x70;
  return 0;
}
int cusolverDnXsyevjGetResidual(void *handle, void *info, double *residual) {
  *residual = 0;
  return 0;
}
int cusolverDnCreate(void **handle) {
  *handle = (void *)0x60;
  return 0;
}
int cusolverDnXpotrf(void *handle, void *parameters, int half, long n, int type, void *a, long stride, int compute,
                     void *device, unsigned long device_bytes, char *host, unsigned long host_bytes, void *info) {
  host[0] = host[host_bytes - 1] = 1;
  note("worked in %lu\n", host_bytes);
  return 0;
}
