"""CuPy and numba-cuda from PyPI, as their users install them, through `avec run` on the CPU device.

They are installed once, into a virtual environment in the build folder. Where PyPI cannot be
reached, and only then, the test is skipped (exit status 77) with the reason.
"""

import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import urllib.error
import urllib.request

BUILD = pathlib.Path(os.environ["AVEC_BUILD"])
HERE = pathlib.Path(__file__).parent
ENVIRONMENT = BUILD / "tests" / "python-clients"
REQUIREMENTS = HERE / "requirements.txt"
INDEX = "https://pypi.org/simple/"
SKIPPED = 77
DEADLINE_S = 240


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


def index_is_reachable():
    """Through the index that pip is configured for, be it a mirror: pip asks for one small package."""
    with tempfile.TemporaryDirectory() as folder:
        asked = subprocess.run(
            [ENVIRONMENT / "bin" / "python3", "-m", "pip", "download", "--no-deps", "--retries", "1", "--timeout", "10",
             "-d", folder, "packaging"], capture_output=True, timeout=120)
    if asked.returncode == 0:
        return True
    try:
        urllib.request.urlopen(INDEX, timeout=10).close()
    except (urllib.error.URLError, OSError):
        return False
    return True


def install():
    stamp = ENVIRONMENT / "installed"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], capture_output=True, text=True)
    if made.returncode != 0:
        skip(f"python3 makes no virtual environment here (python3-venv): {made.stdout.strip()[-200:]}")
    pip = subprocess.run(
        [ENVIRONMENT / "bin" / "python3", "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:",
         "--disable-pip-version-check", "-r", REQUIREMENTS], capture_output=True, text=True, timeout=900)
    if pip.returncode != 0:
        if not index_is_reachable():
            skip("PyPI cannot be reached, so CuPy and numba-cuda cannot be installed")
        raise SystemExit(f"pip failed:\n{pip.stdout}{pip.stderr}")
    stamp.write_text(wanted)


class Clients(unittest.TestCase):
    def run_program(self, name):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AVEC_", "CUDA_", "CUPY_", "NUMBA_", "LD_"))}
        with tempfile.TemporaryDirectory() as folder:
            kept.update(AVEC_CACHE_DIR=f"{folder}/modules", CUPY_CACHE_DIR=f"{folder}/cupy", NUMBA_CACHE_DIR=f"{folder}/numba",
                        CUPY_COMPILE_WITH_PTX="1", NUMBA_CUDA_LOW_OCCUPANCY_WARNINGS="0",
                        NUMBA_CUDA_WARN_ON_IMPLICIT_COPY="0", CUDA_PATH=str(cuda_folder()))
            result = subprocess.run(
                [BUILD / "bin" / "avec", "run", "--local", "--device", "cpu", "--", ENVIRONMENT / "bin" / "python3",
                 HERE / name], capture_output=True, text=True, timeout=DEADLINE_S, env=kept)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertEqual(result.stdout.splitlines()[-1], "passed")

    def test_cupy_runs_its_own_kernels(self):
        self.run_program("cupy_program.py")

    def test_numba_runs_its_own_kernels(self):
        self.run_program("numba_program.py")


def cuda_folder():
    """The headers that NVRTC includes, as the wheels bring them."""
    found = sorted(ENVIRONMENT.glob("lib/python3*/site-packages/nvidia/cu13"))
    return found[0] if found else ENVIRONMENT


if __name__ == "__main__":
    install()
    unittest.main()
