// What a kernel does wrong, what it may not do, and what is then said.
#include <cassert>

#include "device_memory.h"

__global__ void store_at(int* where, int value) { *where = value; }
__global__ void trap_now() { __trap(); }
__global__ void fail(int value) { assert(value == 1 && "one"); }
__global__ void read_far(int* from, int* out) { *out = from[1u << 28]; }
__global__ void shared_past_the_end(int* out, int at) {
  __shared__ int cells[8];
  cells[threadIdx.x % 8] = 1;
  __syncthreads();
  *out = *reinterpret_cast<volatile int*>(reinterpret_cast<char*>(cells) + at);
}
__global__ void add_one(int* p) { *p += 1; }

static void after(const char* what) {
  SHOW(cudaGetLastError());
  std::printf("%s, ", what);
  SHOW(cudaDeviceSynchronize());
  SHOW(cudaDeviceSynchronize());
  SHOW(cudaGetLastError());
  void* more = nullptr;
  SHOW(cudaMalloc(&more, 16));
}

CASE(a_store_to_nowhere) {
  store_at<<<1, 1>>>(nullptr, 1);
  after("null pointer");
}
CASE(a_store_to_an_odd_address) {
  Values<int> cells(4);
  store_at<<<1, 1>>>(reinterpret_cast<int*>(reinterpret_cast<char*>(cells.device()) + 1), 1);
  after("odd address");
}
CASE(a_trap) {
  trap_now<<<1, 1>>>();
  after("trap");
}
CASE(a_failed_assertion) {
  std::fclose(stderr);
  fail<<<1, 1>>>(0);
  after("assertion");
}
CASE(an_assertion_that_holds) {
  fail<<<1, 1>>>(1);
  SHOW(cudaDeviceSynchronize());
}
CASE(a_fault_in_one_of_many_blocks) {
  Values<int> cells(1);
  read_far<<<64, 64>>>(nullptr, cells.device());
  after("far away");
}
CASE(shared_memory_beyond_what_there_is) {
  Values<int> out(1);
  shared_past_the_end<<<1, 32>>>(out.device(), 1 << 20);
  after("shared");
}
CASE(work_behind_a_fault_is_not_done) {
  Values<int> cells(1);
  trap_now<<<1, 1>>>();
  add_one<<<1, 1>>>(cells.device());
  int value = 0;
  SHOW(cudaMemcpy(&value, cells.device(), 4, cudaMemcpyDeviceToHost));
  say("value %d", value);
  SHOW(cudaStreamSynchronize(0));
}
CASE(a_reset_mends_no_fault) {
  trap_now<<<1, 1>>>();
  SHOW(cudaDeviceSynchronize());
  SHOW(cudaDeviceReset());
  Values<int> cells(1);
  add_one<<<1, 1>>>(cells.device());
  print("cell", cells.get());
}
