#!/usr/bin/env python3
"""JAX: compiled functions, gradients, batches, convolution, linear algebra, random numbers, scans, sorting."""
import os

os.environ.setdefault("JAX_PLATFORMS", "cuda")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
# What the compiler chooses by measuring may differ from run to run.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_autotune_level=0 --xla_gpu_deterministic_ops=true"
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from smoke import close, main, show, step  # noqa: E402

RANDOM = np.random.default_rng(11)


@step
def devices():
    device = jax.devices()[0]
    print("devices", device.platform, len(jax.devices()) >= 1, flush=True)
    show("transfer", np.asarray(jax.device_put(np.arange(100, dtype=np.float32))))


@step
def jit():
    x = RANDOM.standard_normal((64, 48)).astype(np.float32)
    show("jit", np.asarray(jax.jit(lambda a: jnp.where(a > 0, a * 2 + 1, a - a * a))(x)))
    close("fused", np.asarray(jax.jit(lambda a: jnp.tanh(a).sum(axis=0))(x)), np.tanh(x).sum(axis=0))
    show("product", np.asarray(jax.jit(jnp.matmul)(x, x.T)))


@step
def gradients():
    sizes, key = (16, 32, 4), jax.random.key(3)
    weights = [jax.random.normal(k, (a, b)) * 0.3 for k, a, b in zip(jax.random.split(key, 2), sizes, sizes[1:])]
    x, y = (jnp.asarray(RANDOM.standard_normal((64, n)).astype(np.float32)) for n in (16, 4))

    def loss(w):
        return jnp.mean((jnp.maximum(x @ w[0], 0) @ w[1] - y) ** 2)

    update = jax.jit(lambda w: [a - 0.1 * g for a, g in zip(w, jax.grad(loss)(w))])
    before = float(loss(weights))
    for _ in range(50):
        weights = update(weights)
    print("training", float(loss(weights)) < before * 0.9, flush=True)
    show("weights", np.asarray(weights[1]))


@step
def vmap():
    x = RANDOM.standard_normal((10, 8, 8)).astype(np.float32)
    show("vmap", np.asarray(jax.jit(jax.vmap(lambda a: a @ a + jnp.trace(a)))(x)))


@step
def convolution():
    x, w = RANDOM.standard_normal((2, 3, 16, 16)).astype(np.float32), RANDOM.standard_normal((4, 3, 3, 3)).astype(np.float32)
    y = jax.jit(lambda a, b: jax.lax.conv_general_dilated(a, b, (1, 1), "VALID"))(x, w)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    close("convolution", np.asarray(y), np.einsum("nchwij,ocij->nohw", windows, w), 1e-2)
    show("pooling", np.asarray(jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")))


@step
def linalg():
    a = RANDOM.standard_normal((24, 24)).astype(np.float32)
    spd = a @ a.T + 24 * np.eye(24, dtype=np.float32)
    close("solve", np.asarray(jnp.linalg.solve(spd, spd @ np.ones(24, dtype=np.float32))), np.ones(24), 1e-3)
    close("cholesky", np.asarray(jnp.linalg.cholesky(spd)), np.linalg.cholesky(spd), 1e-4)
    close("svd", np.asarray(jnp.linalg.svd(a, compute_uv=False)), np.linalg.svd(a, compute_uv=False), 1e-4)
    close("eigh", np.asarray(jnp.linalg.eigh(spd)[0]), np.linalg.eigh(spd)[0], 1e-4)
    q, r = jnp.linalg.qr(a)
    close("qr", np.asarray(q @ r), a, 1e-2)


@step
def fft():
    x = RANDOM.standard_normal((8, 64)).astype(np.float32)
    close("fft", np.asarray(jnp.fft.fft(x)), np.fft.fft(x), 1e-5)


@step
def random_numbers():
    key = jax.random.key(7)
    show("uniform", np.asarray(jax.random.uniform(key, (1000,))))
    show("permutation", np.asarray(jax.random.permutation(key, 100)))


@step
def scan():
    final, history = jax.jit(lambda x: jax.lax.scan(lambda c, v: (c * 0.5 + v, c), jnp.float32(0), x))(jnp.arange(50.0))
    show("scan", np.asarray(history))
    print("while", int(jax.jit(lambda n: jax.lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, s[1] + s[0]), (0, 0)))(100)[1]),
          float(final) > 0, flush=True)


@step
def sorting():
    x = RANDOM.standard_normal(3000).astype(np.float32)
    show("sort", np.asarray(jnp.sort(x)))
    show("top", np.asarray(jax.lax.top_k(x, 8)[1]))
    show("segments", np.asarray(jax.ops.segment_sum(jnp.arange(3000), jnp.arange(3000) % 7, 7)))


if __name__ == "__main__":
    main()
