/* A library with a runtime of its own and no symbol table. */
int cudaMalloc(void** memory, unsigned long bytes);
int cudaFree(void* memory);

int use_cuda(void) {
  void* memory = 0;
  for (int i = 0; i < 3; ++i)
    if (cudaMalloc(&memory, 4) == 0) return 0;
  return 1;
}
