#!/usr/bin/env python3
"""CuPy: its kernels, its libraries, streams and memory."""
from smoke import close, main, show, step

import cupy as cp
import numpy as np

RANDOM = np.random.default_rng(5)
HOST = RANDOM.standard_normal((64, 48)).astype(np.float32)


@step
def elementwise():
    x = cp.asarray(HOST)
    show("elementwise", cp.asnumpy(x * 2 + 1 - x * x))
    scaled = cp.ElementwiseKernel("T x, T y", "T z", "z = x * 3 + y", "scaled")
    show("ElementwiseKernel", cp.asnumpy(scaled(x, x)))

    @cp.fuse()
    def fused(a, b):
        return cp.maximum(a, b) - cp.abs(a)

    show("fuse", cp.asnumpy(fused(x, x[::-1].copy())))


@step
def reductions():
    x = cp.asarray(HOST)
    show("sum of integers", cp.asnumpy((x * 100).astype(cp.int64).sum(axis=0)))
    show("max", cp.asnumpy(x.max(axis=1)))
    lengths = cp.ReductionKernel("T x", "T y", "x * x", "a + b", "y = sqrt(a)", "0", "lengths")
    close("ReductionKernel", cp.asnumpy(lengths(x, axis=1)), np.linalg.norm(HOST, axis=1))
    show("sorted", cp.asnumpy(cp.sort(x.ravel())))
    show("cumulative", cp.asnumpy(cp.cumsum(cp.arange(5000))))
    show("histogram", cp.asnumpy(cp.histogram(x, bins=16)[0]))


@step
def raw_kernel():
    reverse = cp.RawKernel(r"""extern "C" __global__ void reverse(const float* in, float* out, int n) {
      extern __shared__ float tile[];
      int i = threadIdx.x;
      if (i < n) tile[i] = in[i];
      __syncthreads();
      if (i < n) out[i] = tile[n - 1 - i];
    }""", "reverse")
    out = cp.empty(48, dtype=cp.float32)
    reverse((1,), (64,), (cp.asarray(HOST)[4], out, np.int32(48)), shared_mem=256)
    show("RawKernel", cp.asnumpy(out))
    module = cp.RawModule(code=r"""__constant__ float scale[2];
    template <class T> __global__ void fill(T* out, int n) {
      int i = blockIdx.x * blockDim.x + threadIdx.x;
      if (i < n) out[i] = T(i) * T(scale[1]);
    }""", options=("-std=c++17",), name_expressions=("fill<int>",))
    cp.ndarray((2,), cp.float32, module.get_global("scale"))[...] = cp.array([1, 3], dtype=cp.float32)
    numbers = cp.empty(100, dtype=cp.int32)
    module.get_function("fill<int>")((4,), (32,), (numbers, np.int32(100)))
    show("RawModule", cp.asnumpy(numbers))


@step
def products():
    a, b = cp.asarray(HOST), cp.asarray(HOST.T.copy())
    show("matmul", cp.asnumpy(a @ b))
    batch = cp.asarray(RANDOM.standard_normal((8, 16, 16)))
    show("batched, double", cp.asnumpy(cp.matmul(batch, batch)))
    show("half", cp.asnumpy(a.astype(cp.float16) @ b.astype(cp.float16)))
    show("complex", cp.asnumpy((a + 1j * a) @ b))
    show("einsum", cp.asnumpy(cp.einsum("bij,bjk->ik", batch, batch)))


@step
def fft():
    x = RANDOM.standard_normal((16, 128))
    close("fft", cp.asnumpy(cp.fft.fft(cp.asarray(x))), np.fft.fft(x), 1e-10)
    close("rfft2 and back", cp.asnumpy(cp.fft.irfft2(cp.fft.rfft2(cp.asarray(x)))), x, 1e-10)


@step
def linalg():
    a = RANDOM.standard_normal((32, 32))
    x = cp.asarray(a)
    close("solve", cp.asnumpy(cp.linalg.solve(x, x @ cp.ones(32))), np.ones(32), 1e-8)
    close("svd", cp.asnumpy(cp.linalg.svd(x, compute_uv=False)), np.linalg.svd(a, compute_uv=False), 1e-10)
    close("eigh", cp.asnumpy(cp.linalg.eigh(x + x.T)[0]), np.linalg.eigh(a + a.T)[0], 1e-10)
    close("cholesky", cp.asnumpy(cp.linalg.cholesky(x @ x.T + cp.eye(32))), np.linalg.cholesky(a @ a.T + np.eye(32)), 1e-10)
    q, r = cp.linalg.qr(x)
    close("qr", cp.asnumpy(q @ r), a, 1e-10)


@step
def sparse():
    from cupyx.scipy import sparse as device_sparse
    dense = np.where(RANDOM.random((40, 30)) < 0.2, RANDOM.standard_normal((40, 30)), 0)
    matrix, vector = device_sparse.csr_matrix(cp.asarray(dense)), RANDOM.standard_normal(30)
    close("sparse vector", cp.asnumpy(matrix @ cp.asarray(vector)), dense @ vector, 1e-10)
    close("sparse matrix", cp.asnumpy((matrix @ matrix.T).toarray()), dense @ dense.T, 1e-10)
    show("sparse formats", cp.asnumpy(matrix.tocoo().tocsc().toarray()))


@step
def random_numbers():
    generator = cp.random.default_rng(7)
    show("Generator", cp.asnumpy(generator.random(1000)))
    cp.random.seed(7)
    show("cuRAND", cp.asnumpy(cp.random.uniform(size=1000)))
    show("permutation", cp.asnumpy(cp.sort(cp.random.permutation(500))))


@step
def streams():
    first, second = cp.cuda.Stream(non_blocking=True), cp.cuda.Stream()
    done = cp.cuda.Event()
    with first:
        x = cp.asarray(HOST) * 2
        done.record()
    second.wait_event(done)
    with second:
        y = x + 1
        pinned = cp.cuda.alloc_pinned_memory(y.nbytes)
        target = np.frombuffer(pinned, np.float32, y.size).reshape(y.shape)
        y.get(stream=second, out=target)
    second.synchronize()
    show("streams", target)
    with cp.cuda.Stream(non_blocking=True) as recorded:
        recorded.begin_capture()
        cp.multiply(y, 2, out=x)
        graph = recorded.end_capture()
        graph.launch(recorded)
        recorded.synchronize()
    show("graph", cp.asnumpy(x))


@step
def memory_pool():
    pool = cp.get_default_memory_pool()
    before = pool.used_bytes()
    block = cp.zeros(1 << 20, dtype=cp.uint8)
    print("pool", pool.used_bytes() - before, int(block.sum()), flush=True)
    del block
    pool.free_all_blocks()
    with cp.cuda.using_allocator(cp.cuda.MemoryAsyncPool().malloc):
        show("asynchronous pool", cp.asnumpy(cp.arange(1000) * 2))
    with cp.cuda.using_allocator(cp.cuda.MemoryPool(cp.cuda.malloc_managed).malloc):
        show("managed memory", cp.asnumpy(cp.arange(1000) * 3))
    free, total = cp.cuda.Device().mem_info
    print("memory", 0 < free <= total, cp.cuda.runtime.getDeviceCount() >= 1, flush=True)


if __name__ == "__main__":
    main()
