#!/usr/bin/env python3
"""Numba: kernels with shared memory and atomics, reductions, device arrays, streams."""
import math

from smoke import close, main, show, step

import numpy as np
from numba import cuda, float32, int32, vectorize

N = 1000
A = np.arange(N, dtype=np.float32)


@cuda.jit
def add(x, y, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = x[i] + y[i]


@step
def kernels():
    out = np.zeros_like(A)
    add[8, 128](A, 2 * A, out)
    show("host arrays", out)
    x = cuda.to_device(A)
    y = cuda.device_array_like(x)
    add[8, 128](x, x, y)
    show("device arrays", y.copy_to_host())
    z = cuda.to_device(np.arange(24, dtype=np.float64).reshape(4, 6))
    show("slice", np.ascontiguousarray(z[1:3].copy_to_host()))


@cuda.jit
def product(a, b, c):
    tile_a, tile_b = cuda.shared.array((16, 16), float32), cuda.shared.array((16, 16), float32)
    x, y = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    total = float32(0)
    for k in range(a.shape[1] // 16):
        tile_a[tx, ty] = a[x, ty + k * 16]
        tile_b[tx, ty] = b[tx + k * 16, y]
        cuda.syncthreads()
        for j in range(16):
            total += tile_a[tx, j] * tile_b[j, ty]
        cuda.syncthreads()
    c[x, y] = total


@step
def shared_memory():
    a = np.random.default_rng(2).standard_normal((64, 64)).astype(np.float32)
    c = np.zeros_like(a)
    product[(4, 4), (16, 16)](a, a, c)
    show("tiled product", c)
    close("tiled product", c, a @ a)


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


@step
def atomics():
    bins = cuda.to_device(np.zeros(10, dtype=np.int32))
    histogram[8, 128, 0, 40](cuda.to_device(A), bins)
    show("histogram", bins.copy_to_host())


@step
def reductions():
    largest = cuda.reduce(lambda p, q: max(p, q))
    print("reduce", float(largest(A)), flush=True)
    total = cuda.reduce(lambda p, q: p + q)
    print("sum", int(total(np.arange(5000, dtype=np.int64))), flush=True)


@vectorize([float32(float32, float32)], target="cuda")
def hypotenuse(p, q):
    return math.sqrt(p * p + q * q)


@step
def ufuncs():
    close("vectorize", hypotenuse(A, A), np.hypot(A, A))


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


@step
def device_functions():
    steps = np.zeros(100, dtype=np.int32)
    count_steps[4, 32](steps)
    show("collatz", steps)


@cuda.jit
def warp_sums(out):
    value = cuda.laneid
    for offset in (16, 8, 4, 2, 1):
        value += cuda.shfl_down_sync(0xFFFFFFFF, value, offset)
    if cuda.laneid == 0:
        out[cuda.threadIdx.x // 32] = value


@step
def warps():
    out = np.zeros(4, dtype=np.int32)
    warp_sums[1, 128](out)
    show("shuffles", out)


@cuda.jit
def mathematics_kernel(values):
    i = cuda.grid(1)
    values[i] = math.log(values[i] + 1) + math.sin(values[i]) + values[i] ** 0.25


@step
def mathematics():
    values = A[:256].astype(np.float64)
    mathematics_kernel[2, 128](values)
    show("libdevice", values)


@step
def streams():
    first, second = cuda.stream(), cuda.stream()
    with cuda.pinned(A):
        x = cuda.to_device(A, stream=first)
        y = cuda.device_array_like(A, stream=first)
        done = cuda.event()
        add[8, 128, first](x, x, x)
        done.record(first)
        done.wait(second)
        add[8, 128, second](x, x, y)
        second.synchronize()
    show("streams", y.copy_to_host())
    pinned = cuda.pinned_array(N, dtype=np.float32)
    y.copy_to_host(pinned)
    show("pinned", pinned.copy())


@step
def queries():
    device = cuda.get_current_device()
    free, total = cuda.current_context().get_memory_info()
    print("device", device.WARP_SIZE, device.MAX_THREADS_PER_BLOCK, 0 < free <= total, len(cuda.gpus) >= 1, flush=True)


if __name__ == "__main__":
    main()
