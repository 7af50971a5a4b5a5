"""What the smoke tests of the frameworks share: a line for each step, with a digest of what it computed. The lines
are the same natively and through avec where the framework itself gives the same bits twice; a step whose order of
additions may change is shown rounded, or as the comparison with the host alone."""
import atexit
import hashlib
import os
import shutil
import sys
import tempfile

import numpy as np

STEPS = []

# Imported before the framework: what it compiles is kept nowhere, so that every run compiles.
CACHES = tempfile.mkdtemp()
atexit.register(shutil.rmtree, CACHES, ignore_errors=True)
for name in ("CUPY_CACHE_DIR", "TRITON_CACHE_DIR", "NUMBA_CACHE_DIR"):
    os.environ[name] = os.path.join(CACHES, name)


def step(function):
    STEPS.append(function)
    return function


def show(name, value):
    value = np.ascontiguousarray(value)
    first = value.ravel()[0] if value.size else "none"
    print(f"{name}: {value.shape} {value.dtype} {first:.6g} {hashlib.sha256(value.tobytes()).hexdigest()[:16]}", flush=True)


def close(name, value, expected, tolerance=1e-4):
    value, expected = np.asarray(value), np.asarray(expected)
    assert value.shape == expected.shape, (name, value.shape, expected.shape)
    scale = max(float(np.abs(expected).max()), 1e-30) if expected.size else 1.0
    error = float(np.abs(value.astype(np.complex128) - expected).max()) / scale if expected.size else 0.0
    assert error <= tolerance, (name, error)
    print(f"{name}: {value.shape} as on the host", flush=True)


def main():
    """All steps, or those that are named. Every step runs; the status says whether one failed."""
    failed = 0
    for function in STEPS:
        if len(sys.argv) > 1 and function.__name__ not in sys.argv[1:]:
            continue
        try:
            function()
        except Exception as error:  # the next step is independent of it
            failed = 1
            print(f"{function.__name__}: failed: {type(error).__name__}: {str(error).strip().splitlines()[:1]}", flush=True)
    print("failed" if failed else "passed", flush=True)
    sys.exit(failed)
