"""Transports of one machine: which one a URL means, and that programs run over it."""

import json
import os
import shutil
import signal
import subprocess
import time
import unittest

from support import AVEC, SOURCE, Case, Serve, clean_environment, program, run_avec, scratch_folder


def expected(name):
    return (SOURCE / "examples" / f"{name}.expected").read_text()


def rest(url):
    return url.partition("://")[2]


class Listening(Serve):
    """An executor that listens on a TCP port and on a socket in a folder."""

    def __init__(self, folder):
        self.path = folder / "avec.sock"
        super().__init__(listen=f"tcp://127.0.0.1:0,unix://{self.path}")

    def __enter__(self):
        super().__enter__()
        self.address = rest(self.url).partition(",")[0]
        return self


class Transports(Case):
    def link(self, url):
        result = subprocess.run([AVEC, "info", "--json", "-e", url], capture_output=True, text=True, timeout=120,
                                env=clean_environment())
        self.assert_succeeds(result)
        return json.loads(result.stdout)["link"]

    def test_the_url_chooses_the_transport_and_auto_chooses_shared_memory_on_one_host(self):
        with scratch_folder() as folder, Listening(folder) as server:
            for scheme, link in (("tcp", "tcp"), ("shm", "shm"), ("auto", "shm")):
                self.assertEqual(self.link(f"{scheme}://{server.address}"), f"{link}://{server.address}")
            for scheme, link in (("unix", "unix"), ("shm", "shm"), ("auto", "shm")):
                self.assertEqual(self.link(f"{scheme}://{server.path}"), f"{link}://{server.path}")

    def test_programs_run_over_each(self):
        with scratch_folder() as folder, Listening(folder) as server:
            for url in (f"shm://{server.address}", f"auto://{server.address}", f"unix://{server.path}",
                        f"shm://{server.path}"):
                for name in ("vector_add", "streams", "threads", "convnet"):
                    with self.subTest(url=url, program=name):
                        result = run_avec(program(name), executor=url)
                        self.assert_succeeds(result)
                        self.assertEqual(result.stdout, expected(name))

    def test_a_program_that_ends_with_copies_under_way_ends_with_its_own_status(self):
        with scratch_folder() as folder, Listening(folder) as server:
            for scheme in ("tcp", "shm"):
                for milliseconds in (0, 3, 30):
                    with self.subTest(scheme=scheme, milliseconds=milliseconds):
                        result = run_avec(program("leaving"), str(milliseconds),
                                          executor=f"{scheme}://{server.address}", AVEC_COPY_THREADS="3")
                        self.assertEqual((result.returncode, result.stdout, result.stderr), (7, "", ""))

    def test_the_socket_s_file_is_the_group_s_and_goes_with_the_executor(self):
        with scratch_folder() as folder:
            with Listening(folder) as server:
                self.assertEqual(server.path.stat().st_mode & 0o7777, 0o660)
            self.assertFalse(server.path.exists())

    def test_a_program_that_is_killed_frees_its_worker_at_once(self):
        with scratch_folder() as folder, Listening(folder) as server:
            with subprocess.Popen([AVEC, "run", "-e", f"shm://{server.address}", "--", program("endless")],
                                  env=clean_environment()) as process:
                self.until(lambda: server.workers())
                time.sleep(0.5)
                process.send_signal(signal.SIGKILL)
                process.wait()
                self.until(lambda: not server.workers())

    def test_an_executor_that_is_killed_is_an_error_of_the_program(self):
        with scratch_folder() as folder, Listening(folder) as server:
            with subprocess.Popen([AVEC, "run", "-e", f"shm://{server.address}", "--", program("endless")],
                                  env=clean_environment(), stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL) as process:
                self.until(lambda: server.workers())
                time.sleep(0.5)
                for worker in server.workers():
                    os.kill(worker, signal.SIGKILL)
                self.assertNotEqual(process.wait(30), 0)

    def test_another_network_namespace_falls_back_to_the_stream(self):
        if not shutil.which("unshare") or subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode:
            self.skipTest("this user may not make network namespaces")
        with scratch_folder() as folder, Listening(folder) as server:
            apart = ["unshare", "-n"]
            # The folder is shared, the network is not: the socket works, and carries descriptors.
            shared = subprocess.run([*apart, AVEC, "info", "--json", "-e", f"auto://{server.path}"],
                                    capture_output=True, text=True, timeout=120, env=clean_environment())
            self.assert_succeeds(shared)
            self.assertEqual(json.loads(shared.stdout)["link"], f"shm://{server.path}")

    def until(self, condition):
        end = time.monotonic() + 20
        while not condition():
            self.assertLess(time.monotonic(), end, "it did not happen within 20 s")
            time.sleep(0.02)


if __name__ == "__main__":
    unittest.main()
