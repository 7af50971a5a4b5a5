// The language on the device: calls of all kinds, memory of all kinds, printf.
#include <new>

#include "device_memory.h"

struct Shape {
  __device__ virtual ~Shape() {}
  __device__ virtual int area() const = 0;
};
struct Square : Shape {
  int side;
  __device__ explicit Square(int s) : side(s) {}
  __device__ int area() const override { return side * side; }
};
struct Strip : Square {
  int length;
  __device__ Strip(int s, int l) : Square(s), length(l) {}
  __device__ int area() const override { return Square::area() * length; }
};
__global__ void shapes(int* out) {
  Shape* all[3] = {new Square(3), new Strip(2, 5), new Square(7)};
  int sum = 0;
  for (Shape* shape : all) sum = sum * 100 + shape->area();
  for (Shape* shape : all) delete shape;
  out[threadIdx.x] = sum;
}
CASE(virtual_functions) {
  Values<int> out(2);
  shapes<<<1, 2>>>(out.device());
  print("areas", out.get());
}

__device__ int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
__device__ int ackermann(int m, int n) { return m == 0 ? n + 1 : n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1)); }
__global__ void recursion(int* out) {
  out[0] = fibonacci(12);
  out[1] = ackermann(2, 3);
}
CASE(recursion) {
  Values<int> out(2);
  recursion<<<1, 1>>>(out.device());
  print("values", out.get());
}

using Operation = int (*)(int, int);
__device__ __noinline__ int plus(int a, int b) { return a + b; }
__device__ __noinline__ int times(int a, int b) { return a * b; }
__device__ Operation operations[2] = {plus, times};
__global__ void through_pointers(int* out) { out[threadIdx.x] = operations[threadIdx.x % 2](threadIdx.x, 10); }
CASE(functions_through_pointers) {
  Values<int> out(6);
  through_pointers<<<1, 6>>>(out.device());
  print("values", out.get());
}

template <class F>
__global__ void apply(F f, int* out) {
  out[threadIdx.x] = f(threadIdx.x);
}
struct Line {
  int slope, start;
  __device__ int operator()(int x) const { return slope * x + start; }
};
CASE(functors_by_value) {
  Values<int> out(5);
  apply<<<1, 5>>>(Line{3, -2}, out.device());
  print("values", out.get());
}

struct Large {
  int values[20];
  double factor;
  char letter;
};
__device__ __noinline__ Large changed(Large in, int at) {
  in.values[at] = -in.values[at];
  in.letter += 1;
  return in;
}
__global__ void structures(Large in, int at, int* out) {
  const Large result = changed(in, at);
  for (int i = 0; i < 20; ++i) out[i] = result.values[i] * static_cast<int>(result.factor);
  out[20] = result.letter;
}
CASE(structures_by_value) {
  Large in{};
  for (int i = 0; i < 20; ++i) in.values[i] = i;
  in.factor = 3;
  in.letter = 'a';
  Values<int> out(21);
  structures<<<1, 1>>>(in, 7, out.device());
  print("values", out.get());
}

__global__ void many_parameters(const __grid_constant__ Large in, int at, int* out) {
  const int* p = in.values;
  *out = p[at] + p[at + 1];
}
CASE(a_grid_constant_has_an_address) {
  Large in{};
  for (int i = 0; i < 20; ++i) in.values[i] = 100 + i;
  Values<int> out(1);
  many_parameters<<<1, 1>>>(in, 4, out.device());
  print("sum", out.get());
}

__constant__ int table[8] = {1, 2, 4, 8, 16, 32, 64, 128};
__device__ int counter = 5;
__global__ void variables(int* out) {
  out[threadIdx.x] = table[threadIdx.x] + counter;
  __syncthreads();
  if (threadIdx.x == 0) counter += 10;
}
CASE(constants_and_variables) {
  Values<int> out(8);
  variables<<<1, 8>>>(out.device());
  variables<<<1, 8>>>(out.device());
  print("values", out.get());
  const int changed[2] = {1000, 2000};
  SHOW(cudaMemcpyToSymbol(table, changed, sizeof changed, 4));
  variables<<<1, 8>>>(out.device());
  print("values", out.get());
  int value = 0;
  SHOW(cudaMemcpyFromSymbol(&value, counter, sizeof value));
  say("counter %d", value);
}

__global__ void dynamic_shared(int* out, int n) {
  extern __shared__ int cells[];
  __shared__ int first;
  for (int i = threadIdx.x; i < n; i += blockDim.x) cells[i] = i * i;
  if (threadIdx.x == 0) first = 7;
  __syncthreads();
  int sum = first;
  for (int i = 0; i < n; ++i) sum += cells[(i + threadIdx.x) % n];
  out[threadIdx.x] = sum + static_cast<int>(threadIdx.x);
}
CASE(dynamic_shared_memory) {
  Values<int> out(8);
  dynamic_shared<<<1, 8, 400>>>(out.device(), 100);
  print("sums", out.get());
  dynamic_shared<<<1, 8, 64 << 10>>>(out.device(), 100);
  SHOW(cudaGetLastError());
  SHOW(cudaFuncSetAttribute(dynamic_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 << 10));
  dynamic_shared<<<1, 8, 64 << 10>>>(out.device(), 16 << 10 >> 2);
  SHOW(cudaGetLastError());
  print("sums", out.get());
}

__global__ void heap(int* out) {
  int* mine = static_cast<int*>(malloc(100 * sizeof(int)));
  for (int i = 0; i < 100; ++i) mine[i] = i + threadIdx.x;
  int sum = 0;
  for (int i = 0; i < 100; ++i) sum += mine[i];
  free(mine);
  free(nullptr);
  out[threadIdx.x] = sum;
  void* huge = malloc(size_t{1} << 40);
  if (huge != nullptr) out[threadIdx.x] = -1;
}
CASE(memory_from_the_device_heap) {
  Values<int> out(4);
  heap<<<1, 4>>>(out.device());
  print("sums", out.get());
}

__global__ void local_arrays(const int* order, int* out) {
  int cells[16];
  for (int i = 0; i < 16; ++i) cells[i] = i * 3;
  for (int i = 0; i < 16; ++i) cells[order[i]] += cells[(order[i] + 5) % 16];
  int sum = 0;
  for (int i = 0; i < 16; ++i) sum = sum * 3 + cells[i];
  *out = sum;
}
CASE(local_arrays) {
  std::vector<int> order;
  for (int i = 0; i < 16; ++i) order.push_back(i * 7 % 16);
  Values<int> from(order), out(1);
  local_arrays<<<1, 1>>>(from.device(), out.device());
  int cells[16], sum = 0;
  for (int i = 0; i < 16; ++i) cells[i] = i * 3;
  for (int i = 0; i < 16; ++i) cells[order[i]] += cells[(order[i] + 5) % 16];
  for (int i = 0; i < 16; ++i) sum = static_cast<int>(static_cast<unsigned>(sum) * 3 + cells[i]);
  say("%s", out.get()[0] == sum ? "equal" : "different");
}

__global__ void prints() {
  printf("%d %i %u %x %X %o|%5d|%-5d|%05d|%+d\n", -3, 4, 5u, 255, 255, 8, 42, 42, 42, 42);
  printf("%f %.2f %e %g %10.3f|%c|%s|%%\n", 1.5, 2.345, 12345.678, 0.0001, 3.14159, 'x', "text");
  printf("%lld %llu %lx %hd\n", -1234567890123ll, 18446744073709551615ull, 255l, static_cast<short>(7));
}
CASE(printf_of_every_kind) {
  prints<<<1, 1>>>();
  SHOW(cudaDeviceSynchronize());
}
__global__ void print_in_turn() {
  for (int i = 0; i < static_cast<int>(blockDim.x); ++i) {
    if (i == static_cast<int>(threadIdx.x)) printf("thread %d\n", i);
    __syncthreads();
  }
}
CASE(printf_in_turn) {
  print_in_turn<<<1, 4>>>();
  SHOW(cudaDeviceSynchronize());
}

__global__ void spaces(int* global, int* out) {
  __shared__ int shared;
  int local = 0;
  out[0] = __isGlobal(global) * 1000 + __isShared(&shared) * 100 + __isLocal(&local) * 10 + __isConstant(table);
  out[1] = __isShared(global) + __isLocal(&shared) + __isGlobal(&local);
  int* generic = threadIdx.x == 0 ? &shared : &local;
  *generic = 5;
  out[2] = *generic + (shared == 5);
}
CASE(address_spaces) {
  Values<int> out(3);
  spaces<<<1, 1>>>(out.device(), out.device());
  print("spaces", out.get());
}

__global__ void times_pass(int* out) {
  const long long before = clock64();
  const unsigned short_before = clock();
  unsigned long long global_before, global_after;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(global_before));
  __nanosleep(2000);
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(global_after));
  *out = (clock64() > before) + 10 * (clock() - short_before > 0) + 100 * (global_after >= global_before);
}
CASE(clocks) {
  Values<int> out(1);
  times_pass<<<1, 1>>>(out.device());
  print("clocks", out.get());
}

__global__ void __launch_bounds__(64) bounded(int* out) { out[threadIdx.x] = 1; }
CASE(launch_bounds) {
  Values<int> out(128);
  bounded<<<1, 64>>>(out.device());
  SHOW(cudaGetLastError());
  bounded<<<1, 65>>>(out.device());
  SHOW(cudaGetLastError());
  cudaFuncAttributes attributes{};
  SHOW(cudaFuncGetAttributes(&attributes, bounded));
  say("%d threads", attributes.maxThreadsPerBlock);
}

__global__ void inline_ptx(int* out) {
  int a, b, c, d;
  asm("{ .reg .pred p; setp.gt.s32 p, %1, 3; selp.s32 %0, 10, 20, p; }" : "=r"(a) : "r"(static_cast<int>(threadIdx.x)));
  asm("lop3.b32 %0, %1, %2, %3, 0xCA;" : "=r"(b) : "r"(0xF0F0), "r"(0xAAAA), "r"(0x1234));
  asm("bfe.s32 %0, %1, 4, 8;" : "=r"(c) : "r"(0xFA5));
  asm("prmt.b32.rc16 %0, %1, 0, 1;" : "=r"(d) : "r"(0x12345678));
  out[threadIdx.x * 4] = a;
  out[threadIdx.x * 4 + 1] = b;
  out[threadIdx.x * 4 + 2] = c;
  out[threadIdx.x * 4 + 3] = d;
}
CASE(inline_assembly) {
  Values<int> out(20);
  inline_ptx<<<1, 5>>>(out.device());
  print("values", out.get());
}
