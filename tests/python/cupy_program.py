"""CuPy's own kernels, compiled by NVRTC at run time, and those that its libraries carry."""

import numpy as np

import cupy as cp


def check(name, ours, theirs):
    ours, theirs = cp.asnumpy(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, (name, ours.shape, theirs.shape)
    assert np.allclose(ours, theirs, rtol=1e-5, atol=1e-6), (name, ours, theirs)
    print("ok", name)


host = np.arange(1000, dtype=np.float32).reshape(20, 50) / 7
device = cp.asarray(host)

check("creation", cp.linspace(0, 1, 33), np.linspace(0, 1, 33))
check("elementwise", cp.sin(device) * 2 + device**2, np.sin(host) * 2 + host**2)
check("broadcasting", device + cp.arange(50), host + np.arange(50))
check("slices", device[3:17:2, ::-1].copy(), host[3:17:2, ::-1])
check("fancy index", device[cp.array([1, 5, 2])], host[[1, 5, 2]])
check("mask", device[device > 30], host[host > 30])
check("where", cp.where(device > 50, device, -device), np.where(host > 50, host, -host))
check("types", device.astype(cp.float16).astype(cp.int64), host.astype(np.float16).astype(np.int64))
check("complex", abs(device + 1j * device), abs(host + 1j * host))
check("sum", device.sum(), host.sum())
check("reduction by axis", device.max(axis=0), host.max(axis=0))
check("mean and variance", cp.stack([device.mean(), device.var()]), np.stack([host.mean(), host.var()]))
check("argmax", device.argmax(axis=1), host.argmax(axis=1))
check("cumulative sum", device.ravel().cumsum(), host.ravel().cumsum())
shuffled = np.random.default_rng(1).permutation(500)
check("sort", cp.sort(cp.asarray(shuffled)), np.arange(500))
check("argsort", cp.argsort(cp.asarray(shuffled)), np.argsort(shuffled))
check("unique", cp.unique(cp.asarray(shuffled % 13)), np.arange(13))
check("histogram", cp.histogram(device, bins=10)[0], np.histogram(host, bins=10)[0])

double_it = cp.ElementwiseKernel("T x, T y", "T z", "z = x * 2 + y", "double_it")
check("ElementwiseKernel", double_it(device, device), host * 3)

row_length = cp.ReductionKernel("T x", "T y", "x * x", "a + b", "y = sqrt(a)", "0", "row_length")
check("ReductionKernel", row_length(device, axis=1), np.sqrt((host * host).sum(axis=1)))

raw = cp.RawKernel(r"""
extern "C" __global__ void reverse(const float* in, float* out, int n) {
  extern __shared__ float tile[];
  int i = threadIdx.x;
  if (i < n) tile[i] = in[i];
  __syncthreads();
  if (i < n) out[i] = tile[n - 1 - i];
}""", "reverse")
row = cp.empty(50, dtype=cp.float32)
raw((1,), (64,), (device[4], row, np.int32(50)), shared_mem=256)
check("RawKernel", row, host[4][::-1])

module = cp.RawModule(code=r"""
__constant__ float scale[2];
template <class T> __global__ void fill(T* out, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = T(i) * T(scale[1]);
}""", options=("-std=c++17",), name_expressions=("fill<float>", "fill<int>"))
kernel = module.get_function("fill<int>")
scale = cp.ndarray((2,), cp.float32, module.get_global("scale"))
scale[...] = cp.array([1, 3], dtype=cp.float32)
numbers = cp.empty(100, dtype=cp.int32)
kernel((4,), (32,), (numbers, np.int32(100)))
check("RawModule", numbers, np.arange(100) * 3)

pool = cp.get_default_memory_pool()
before = pool.used_bytes()
block = cp.empty(1 << 20, dtype=cp.uint8)
assert pool.used_bytes() >= before + (1 << 20)
del block
assert pool.used_bytes() == before
pool.free_all_blocks()
print("ok memory pool")

stream = cp.cuda.Stream(non_blocking=True)
start, stop = cp.cuda.Event(), cp.cuda.Event()
with stream:
    start.record()
    result = device * 2
    pinned = cp.cuda.alloc_pinned_memory(result.nbytes)
    target = np.frombuffer(pinned, np.float32, result.size).reshape(result.shape)
    result.get(stream=stream, out=target)
    stop.record()
stop.synchronize()
assert stop.done and cp.cuda.get_elapsed_time(start, stop) >= 0
check("streams and events", target, host * 2)

cp.cuda.Device().synchronize()
print("passed")
