#!/usr/bin/env python3
"""Triton: vector addition, softmax, matrix product, an atomic reduction and tuning, over PyTorch's tensors."""
from smoke import close, main, show, step

import numpy as np
import torch
import triton
import triton.language as tl

RANDOM = np.random.default_rng(9)


def device(array):
    return torch.from_numpy(array).cuda()


@triton.jit
def add_kernel(x, y, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < n
    tl.store(out + at, tl.load(x + at, mask=mask) + tl.load(y + at, mask=mask), mask=mask)


@step
def vector_add():
    x, y = RANDOM.standard_normal(10000).astype(np.float32), RANDOM.standard_normal(10000).astype(np.float32)
    out = torch.empty(10000, device="cuda")
    add_kernel[(triton.cdiv(10000, 1024),)](device(x), device(y), out, 10000, BLOCK=1024)
    show("vector add", out.cpu().numpy())
    close("vector add", out.cpu().numpy(), x + y, 0)


@triton.jit
def softmax_kernel(x, out, columns, BLOCK: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, BLOCK)
    values = tl.load(x + row * columns + at, mask=at < columns, other=-float("inf"))
    values = tl.exp(values - tl.max(values, axis=0))
    tl.store(out + row * columns + at, values / tl.sum(values, axis=0), mask=at < columns)


@step
def softmax():
    x = RANDOM.standard_normal((64, 781)).astype(np.float32)
    out = torch.empty(64, 781, device="cuda")
    softmax_kernel[(64,)](device(x), out, 781, BLOCK=1024)
    show("softmax", out.cpu().numpy())
    e = np.exp(x - x.max(1, keepdims=True))
    close("softmax", out.cpu().numpy(), e / e.sum(1, keepdims=True))


@triton.jit
def product_kernel(a, b, c, m, n, k, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    rows, columns, inner = tl.program_id(0) * M + tl.arange(0, M), tl.program_id(1) * N + tl.arange(0, N), tl.arange(0, K)
    total = tl.zeros((M, N), dtype=tl.float32)
    for first in range(0, k, K):
        left = tl.load(a + rows[:, None] * k + (first + inner)[None, :])
        right = tl.load(b + (first + inner)[:, None] * n + columns[None, :])
        total = tl.dot(left, right, total)
    tl.store(c + rows[:, None] * n + columns[None, :], total)


@step
def product():
    a, b = RANDOM.standard_normal((128, 64)).astype(np.float16), RANDOM.standard_normal((64, 128)).astype(np.float16)
    c = torch.empty(128, 128, device="cuda")
    product_kernel[(2, 2)](device(a), device(b), c, 128, 128, 64, M=64, N=64, K=32)
    show("product", c.cpu().numpy())
    close("product", c.cpu().numpy(), a.astype(np.float32) @ b.astype(np.float32), 1e-3)


@triton.jit
def count_kernel(x, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(out, tl.sum((tl.load(x + at, mask=at < n, other=-1.0) > 0).to(tl.int32), axis=0))


@step
def atomics():
    x = RANDOM.standard_normal(5000).astype(np.float32)
    out = torch.zeros(1, dtype=torch.int32, device="cuda")
    count_kernel[(triton.cdiv(5000, 512),)](device(x), out, 5000, BLOCK=512)
    print("positive", out.item(), int((x > 0).sum()), flush=True)


tuned_kernel = triton.autotune(configs=[triton.Config({"BLOCK": 256}), triton.Config({"BLOCK": 512})], key=["n"])(add_kernel)


@step
def autotune():
    x = RANDOM.standard_normal(4096).astype(np.float32)
    out = torch.empty(4096, device="cuda")
    tuned_kernel[lambda meta: (triton.cdiv(4096, meta["BLOCK"]),)](device(x), device(x), out, 4096)
    show("tuned", out.cpu().numpy())


if __name__ == "__main__":
    main()
