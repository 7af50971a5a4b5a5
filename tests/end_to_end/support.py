"""What the end-to-end tests share: starting executors and programs, with a deadline on each.

The whole suite runs over another transport with AVEC_TEST_TRANSPORT=shm (rdma, auto; tcp is the
default); AVEC_TEST_HOST is the address that executors listen on, where loopback has no such device.
"""

import contextlib
import os
import pathlib
import subprocess
import tempfile
import threading
import unittest

BUILD = pathlib.Path(os.environ["AVEC_BUILD"])
SOURCE = pathlib.Path(os.environ["AVEC_SOURCE"])
AVEC = BUILD / "bin" / "avec"
TRANSPORT = os.environ.get("AVEC_TEST_TRANSPORT", "tcp")
HOST = os.environ.get("AVEC_TEST_HOST", "127.0.0.1")
DEADLINE_S = 120 if TRANSPORT != "rdma" else 600  # in an emulated machine


def clean_environment(**extra):
    """The environment without the caller's AVEC_ and CUDA_ variables."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AVEC_", "CUDA_", "LD_"))}
    if "AVEC_RDMA_DEVICE" in os.environ:
        kept["AVEC_RDMA_DEVICE"] = os.environ["AVEC_RDMA_DEVICE"]
    kept["AVEC_CACHE_DIR"] = str(BUILD / "tests" / "module-cache")
    kept.update({k: str(v) for k, v in extra.items()})
    return kept


def program(name):
    """An example that the build made."""
    return BUILD / "examples" / name


class Serve:
    """`avec serve` on a free port for the length of a with block; url names the suite's transport."""

    def __init__(self, *arguments, listen=f"tcp://{HOST}:0", **environment):
        self.listen = listen
        self.arguments = arguments
        # workers() are sessions' then, unless a test asks for more
        self.environment = {"AVEC_SPARE_WORKERS": "0", "AVEC_DRAIN": "0", **environment}
        self.log = []

    def __enter__(self):
        self.process = subprocess.Popen(
            [AVEC, "serve", "--listen", self.listen, "--device", "cpu", *self.arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment(**self.environment))
        self.reader = threading.Thread(target=self._read_log, daemon=True)
        self.reader.start()
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            self.process.kill()
            raise AssertionError(f"avec serve did not start: {line!r} {''.join(self.log)}")
        self.url = line.split()[-1].replace("tcp://", TRANSPORT + "://", 1)
        return self

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line)

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("avec serve did not end within 10 s of SIGTERM")
        finally:
            self.reader.join(5)
            self.process.stdout.close()
            self.process.stderr.close()

    def workers(self):
        """Process ids of the broker's children that serve sessions."""
        found = []
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, parent = stat.read_text().rpartition(")")[2].split()[:2]
                if int(parent) == self.process.pid and state != "Z":
                    found.append(int(stat.parent.name))
        return found


def run_avec(*command, executor=None, local=False, options=(), timeout=DEADLINE_S, **environment):
    """`avec run` to its end; returns the completed process with text output."""
    words = [AVEC, "run", *options]
    if local:
        words += ["--local", "--device", "cpu", "-e", TRANSPORT + "://"]
    if executor:
        words += ["--executor", executor]
    return subprocess.run([*words, "--", *command], capture_output=True, text=True, timeout=timeout,
                          env=clean_environment(**environment))


@contextlib.contextmanager
def scratch_folder():
    with tempfile.TemporaryDirectory(prefix="avec-test-") as folder:
        yield pathlib.Path(folder)


class Case(unittest.TestCase):
    maxDiff = 4000

    def assert_succeeds(self, result):
        self.assertEqual(result.returncode, 0, f"stdout:\n{result.stdout}\nstderr:\n{result.stderr}")
