"""numba-cuda's kernels: Python made PTX by NVVM, linked by the driver."""

import math

import numpy as np

# nvJitLink, where it is found, makes a cubin of the device; the CPU device runs PTX, which the
# driver's own linker keeps. numba asks whether nvJitLink is there.
import cuda.bindings._internal.nvjitlink as nvjitlink

nvjitlink._inspect_function_pointer = lambda name: 0

from numba import cuda, float32, int32, vectorize  # noqa: E402


def check(name, ours, theirs):
    assert np.allclose(ours, theirs, rtol=1e-5), (name, ours, theirs)
    print("ok", name)


n = 1000
a = np.arange(n, dtype=np.float32)


@cuda.jit
def add(x, y, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = x[i] + y[i]


out = np.zeros_like(a)
add[8, 128](a, 2 * a, out)
check("host arrays", out, 3 * a)

x = cuda.to_device(a)
y = cuda.device_array_like(x)
add[8, 128](x, x, y)
check("device arrays", y.copy_to_host(), 2 * a)


@vectorize([float32(float32, float32)], target="cuda")
def hypotenuse(p, q):
    return math.sqrt(p * p + q * q)


check("vectorize", hypotenuse(a, a), np.hypot(a, a))


@cuda.jit
def block_sums(values, sums):
    tile = cuda.shared.array(128, float32)
    t = cuda.threadIdx.x
    i = cuda.grid(1)
    tile[t] = values[i] if i < values.size else 0
    cuda.syncthreads()
    step = 64
    while step > 0:
        if t < step:
            tile[t] += tile[t + step]
        cuda.syncthreads()
        step //= 2
    if t == 0:
        cuda.atomic.add(sums, 0, tile[0])


sums = cuda.to_device(np.zeros(1, dtype=np.float32))
block_sums[8, 128](x, sums)
check("shared memory and atomics", sums.copy_to_host()[0], a.sum())


@cuda.jit
def histogram(values, bins):
    local = cuda.shared.array(0, int32)
    t = cuda.threadIdx.x
    if t < bins.size:
        local[t] = 0
    cuda.syncthreads()
    i = cuda.grid(1)
    if i < values.size:
        cuda.atomic.add(local, int(values[i]) % bins.size, 1)
    cuda.syncthreads()
    if t < bins.size:
        cuda.atomic.add(bins, t, local[t])


bins = cuda.to_device(np.zeros(10, dtype=np.int32))
histogram[8, 128, 0, 40](x, bins)
check("dynamic shared memory", bins.copy_to_host(), np.full(10, 100))


@cuda.reduce
def largest(p, q):
    return max(p, q)


check("reduce", largest(a), a.max())


@cuda.jit(device=True)
def collatz(value):
    steps = 0
    while value != 1:
        value = value // 2 if value % 2 == 0 else 3 * value + 1
        steps += 1
    return steps


@cuda.jit
def count_steps(steps):
    i = cuda.grid(1)
    if i < steps.size:
        steps[i] = collatz(i + 1)


def collatz_on_host(value):
    steps = 0
    while value != 1:
        value = value // 2 if value % 2 == 0 else 3 * value + 1
        steps += 1
    return steps


steps = np.zeros(100, dtype=np.int32)
count_steps[4, 32](steps)
check("device functions", steps, [collatz_on_host(i + 1) for i in range(100)])


@cuda.jit
def warp_sums(out):
    value = cuda.laneid
    for offset in (16, 8, 4, 2, 1):
        value += cuda.shfl_down_sync(0xFFFFFFFF, value, offset)
    if cuda.laneid == 0:
        out[cuda.threadIdx.x // 32] = value


warps = np.zeros(4, dtype=np.int32)
warp_sums[1, 128](warps)
check("shuffles", warps, np.full(4, 496))

first, second = cuda.stream(), cuda.stream()
p, q = cuda.to_device(a, stream=first), cuda.device_array_like(a, stream=first)
done = cuda.event()
add[8, 128, first](p, p, q)
done.record(first)
done.wait(second)
add[8, 128, second](q, p, q)
second.synchronize()
check("streams and events", q.copy_to_host(), 3 * a)


@cuda.jit
def divide(values):
    i = cuda.grid(1)
    values[i] = math.log(values[i] + 1) + math.sin(values[i]) + values[i] ** 0.25


logs = a[:256].astype(np.float64)
divide[2, 128](logs)
check("mathematics", logs, np.log(a[:256] + 1) + np.sin(a[:256].astype(np.float64)) + a[:256].astype(np.float64) ** 0.25)

cuda.synchronize()
print("passed")
