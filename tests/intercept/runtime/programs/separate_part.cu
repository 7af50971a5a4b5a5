__device__ int shared_between_files = 3;
__device__ int triple(int value) { return 3 * value; }
