/* A plain C program whose CUDA runtime the linker found (RPATH, RUNPATH, another version ...). Prints which file
   the runtime came from, and that it works. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int cudaMalloc(void** memory, size_t bytes);
int cudaMemcpy(void* to, const void* from, size_t bytes, int kind);

int main(void) {
  Dl_info info;
  if (dladdr((void*)&cudaMalloc, &info) != 0) printf("%s\n", info.dli_fname);
  int in = 42, out = 0;
  void* device = NULL;
  if (cudaMalloc(&device, sizeof in) != 0) return 1;
  if (cudaMemcpy(device, &in, sizeof in, 1) != 0 || cudaMemcpy(&out, device, sizeof out, 2) != 0) return 1;
  printf("%d\n", out);
  return 0;
}
