#!/usr/bin/env python3
"""PyTorch's own description of its operators (OpInfo), as its tests use it: for each of the operators below the sample
inputs that PyTorch makes, on the GPU and on the CPU, forward, and backward where it has a derivative. Prints a digest of
what the GPU computed, which is the same natively and through avec.

    opinfo.py [--device DEVICE] [--list] [operator ...]

PyTorch's wheel carries the operators' descriptions, but none of its tests."""
import argparse
import hashlib
import itertools
import os
import random
import sys
import types
import unittest
import warnings

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
warnings.filterwarnings("ignore")
try:
    import expecttest  # noqa: F401
except ImportError:  # only tests with expected texts need it
    sys.modules["expecttest"] = types.ModuleType("expecttest")
    sys.modules["expecttest"].TestCase = unittest.TestCase
import torch  # noqa: E402
from torch.testing._internal.common_methods_invocations import op_db  # noqa: E402

# Of each kind of operator some: elementwise, reductions, sorting, indexing, products, linear algebra, FFT, layers.
OPERATORS = """add sub mul div pow exp log sigmoid tanh erf atan2 clamp where lerp floor fmod
sum mean prod var amax argmax cumsum cumprod logsumexp norm median
sort topk unique searchsorted kthvalue masked_select nonzero
index_select gather scatter scatter_add index_put take roll flip tril cat stack repeat nn.functional.pad
matmul bmm addmm baddbmm mv dot einsum outer
linalg.solve linalg.inv linalg.det linalg.cholesky linalg.qr linalg.svdvals linalg.eigvalsh linalg.lu_factor triangular_solve
fft.fft fft.ifft fft.rfft fft.irfft2 stft
nn.functional.conv2d nn.functional.conv1d nn.functional.conv_transpose2d nn.functional.linear nn.functional.batch_norm
nn.functional.layer_norm nn.functional.group_norm nn.functional.max_pool2d nn.functional.avg_pool2d
nn.functional.interpolate softmax log_softmax nn.functional.cross_entropy nn.functional.gelu nn.functional.relu
nn.functional.embedding nn.functional.scaled_dot_product_attention nn.functional.grid_sample""".split()
MAX_SAMPLES = 8
# The order of additions is not fixed, or results are equal only up to a sign: compared with the CPU, not shown.
VARYING = {"scatter_add", "index_put", "nn.functional.grid_sample", "nn.functional.interpolate", "nn.functional.embedding",
           "cumsum", "cumprod", "linalg.qr", "nn.functional.max_pool2d", "nn.functional.avg_pool2d", "gather", "index_select", "take",
           "median", "kthvalue", "nn.functional.scaled_dot_product_attention"}


def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (tuple, list)):
        return [tensor for part in value for tensor in tensors(part)]
    return []


def moved(value, device):
    if isinstance(value, torch.Tensor):
        return value.detach().to(device).requires_grad_(value.requires_grad)
    if isinstance(value, (tuple, list)):
        parts = [moved(part, device) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return {name: moved(part, device) for name, part in value.items()}
    return value


def computed(op, sample, device):
    """Results, then derivatives, on the CPU."""
    inputs, arguments, named = (moved(part, device) for part in (sample.input, sample.args, sample.kwargs))
    results = tensors(op(inputs, *arguments, **named))
    leaves = [t for t in tensors([inputs, list(arguments), list(named.values())]) if t.requires_grad]
    roots = [t for t in results if t.requires_grad]
    found = [t.detach().cpu() for t in results]
    if leaves and roots:
        total = sum((t.abs() if t.is_complex() else t).double().pow(2).sum() for t in roots)
        found += [g.cpu() for g in torch.autograd.grad(total, leaves, allow_unused=True) if g is not None]
    return found


def check(op, device):
    """What a line says: how many samples, and the digest."""
    torch.manual_seed(17)
    digest, samples = hashlib.sha256(), 0
    every = list(itertools.islice(op.sample_inputs("cpu", torch.float32, requires_grad=op.supports_autograd), 200))
    for sample in random.Random(2).sample(every, min(MAX_SAMPLES, len(every))):
        ours, theirs = computed(op, sample, device), computed(op, sample, "cpu")
        samples += 1
        for a, b in zip(ours, theirs, strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype, (a.shape, b.shape, a.dtype, b.dtype)
            digest.update(a.contiguous().resolve_conj().numpy().tobytes())
            torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-3, equal_nan=True)
    return f"{samples} samples, as on the CPU" + ("" if op.name in VARYING else f", {digest.hexdigest()[:16]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("operators", nargs="*", default=OPERATORS)
    arguments = parser.parse_args()
    if arguments.list:
        print(*OPERATORS, sep="\n")
        return 0
    torch.use_deterministic_algorithms(True, warn_only=True)
    known = {}
    for op in op_db:
        known.setdefault(op.name, op)  # the variant without a suffix comes first
    failed = 0
    for name in arguments.operators:
        if name not in known:
            print(f"{name}: this PyTorch has none", flush=True)
            continue
        try:
            print(f"{name}: {check(known[name], arguments.device)}", flush=True)
        except Exception as error:  # the next operator is independent of it
            failed += 1
            print(f"{name}: failed: {type(error).__name__}: {str(error).strip().splitlines()[:1]}", flush=True)
    print(f"{len(arguments.operators) - failed} of {len(arguments.operators)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
