"""What goes wrong ends in one line that says what to do, a fitting CUDA error, and no hang."""

import os
import signal
import socket
import struct
import subprocess
import threading
import time
import unittest

from support import AVEC, HOST, Case, Serve, clean_environment, program, run_avec, scratch_folder


def avec_lines(result):
    """The lines that avec itself wrote on the program's stderr."""
    return [line for line in result.stderr.splitlines() if line.startswith("avec: ")]


class NotConnected(Case):
    """The first CUDA call fails with the error of docs/architecture.md; one line says why."""

    def check(self, executor, error, *words, **environment):
        begin = time.monotonic()
        result = run_avec(program("vector_add"), "1000", executor=executor, **environment)
        self.assertLess(time.monotonic() - begin, 15)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn(error, result.stderr)
        lines = avec_lines(result)
        self.assertEqual(len(lines), 1, result.stderr)
        for word in words:
            self.assertIn(word, lines[0])

    def serve_bytes(self, answer):
        """A listener that is not an executor: answers each connection with these bytes."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)

        def accept():
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    peer.settimeout(3)
                    try:
                        peer.recv(4096)
                        if answer:
                            peer.sendall(answer)
                        time.sleep(0.2)
                    except OSError:
                        pass

        threading.Thread(target=accept, daemon=True).start()
        return f"tcp://127.0.0.1:{listener.getsockname()[1]}"

    def test_nobody_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        self.check(f"tcp://127.0.0.1:{port}", "cudaErrorNoDevice", "avec serve", f"127.0.0.1:{port}")

    def test_another_kind_of_server_answers(self):
        url = self.serve_bytes(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" * 4)
        self.check(url, "cudaErrorNoDevice", "not an AVEC executor")

    def test_a_server_that_says_nothing_is_given_up_at_the_deadline(self):
        url = self.serve_bytes(b"")
        self.check(url, "cudaErrorNoDevice", AVEC_CONNECT_DEADLINE="1000")

    def test_an_address_that_is_none(self):
        self.check("edge:7700", "cudaErrorNoDevice", "tcp://")

    def test_a_host_that_does_not_exist(self):
        self.check("tcp://no-such-host.invalid:7700", "cudaErrorNoDevice", "no-such-host.invalid")

    def test_a_wrong_token_is_refused(self):
        with scratch_folder() as folder:
            for name in ("right", "wrong"):
                (folder / name).write_text(f"a secret of more than sixteen bytes: {name}\n")
                (folder / name).chmod(0o600)
            with Serve("--token-file", folder / "right") as server:
                self.check(server.url, "cudaErrorNotPermitted", "token", AVEC_TOKEN_FILE=folder / "wrong")
                self.check(server.url, "cudaErrorNotPermitted", "token")

    def test_no_such_device(self):
        with Serve("--insecure") as server:
            self.check(server.url, "cudaErrorNoDevice", "'cpu'", "'auto'", AVEC_DEVICE="cuda")

    def test_an_executor_told_to_use_a_gpu_that_is_not_there_does_not_start(self):
        result = subprocess.run([AVEC, "serve", "--listen", "tcp://127.0.0.1:0", "--device", "cuda", "--cuda-driver",
                                 "/no/such/libcuda.so.1"], capture_output=True, text=True, timeout=20,
                                env=clean_environment())
        self.assertEqual(result.returncode, 1)
        self.assertIn("/no/such/libcuda.so.1", result.stderr)


class Listening(Case):
    def serve(self, *arguments):
        return subprocess.run([AVEC, "serve", *arguments], capture_output=True, text=True, timeout=20,
                              env=clean_environment())

    def test_a_listener_beyond_loopback_needs_a_token(self):
        result = self.serve("--listen", "tcp://0.0.0.0:0", "--device", "cpu")
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("--token-file", result.stderr)
        self.assertIn("--insecure", result.stderr)

    def test_a_port_that_is_taken_is_named(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            result = self.serve("--listen", f"tcp://127.0.0.1:{taken.getsockname()[1]}", "--insecure", "--device", "cpu")
        self.assertNotEqual(result.returncode, 0)
        self.assertIn(str(taken.getsockname()[1] if taken.fileno() >= 0 else "127.0.0.1"), result.stderr)

    def test_an_unknown_option_is_a_usage_error(self):
        self.assertEqual(self.serve("--lisen", "tcp://127.0.0.1:0").returncode, 2)


class Killed(Case):
    def start(self, server, *command, **environment):
        process = subprocess.Popen([AVEC, "run", "-e", server.url, "--", *command], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env=clean_environment(**environment))
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.stdout.close)
        return process

    def wait_for_worker(self, server, count=1):
        for _ in range(200):
            if len(server.workers()) >= count:
                return server.workers()
            time.sleep(0.05)
        self.fail("no worker appeared")

    def test_a_killed_worker_ends_its_program_with_an_error_and_nobody_else(self):
        with Serve("--insecure") as server:
            victim = self.start(server, program("endless"))
            (worker,) = self.wait_for_worker(server)
            victim.stdout.readline()  # the program is in its kernel
            os.kill(worker, signal.SIGKILL)
            begin = time.monotonic()
            _, errors = victim.communicate(timeout=10)
            self.assertLess(time.monotonic() - begin, 5)
            self.assertEqual(victim.returncode, 1, errors)
            self.assertIn("cudaErrorDevicesUnavailable", errors)
            self.assert_succeeds(run_avec(program("vector_add"), "1000", executor=server.url))

    def test_a_killed_client_leaves_no_worker_behind(self):
        with Serve("--insecure") as server:
            client = self.start(server, program("endless"))
            self.wait_for_worker(server)
            client.stdout.readline()
            client.kill()
            client.wait()
            for _ in range(100):
                if not server.workers():
                    break
                time.sleep(0.05)
            self.assertEqual(server.workers(), [])

    def test_garbage_on_the_port_harms_nobody(self):
        with Serve("--insecure") as server:
            port = int(server.url.rsplit(":", 1)[1])
            for garbage in (b"", b"\0" * 64, b"GET / HTTP/1.0\r\n\r\n", os.urandom(4096),
                            struct.pack("<IHHB7x16sQ", 0x43455641, 99, 0, 1, b"", 0),
                            struct.pack("<IHHB7x16sQ", 0x43455641, 1, 0, 2, b"x" * 16, 0)):
                with socket.create_connection((HOST, port)) as peer:
                    peer.sendall(garbage)
                    peer.settimeout(0.5)
                    try:
                        peer.recv(4096)
                    except OSError:
                        pass
            self.assert_succeeds(run_avec(program("vector_add"), "1000", executor=server.url))


class Faults(Case):
    def test_errors_are_cudas_own_and_stay_in_their_session(self):
        with Serve("--insecure") as server:
            neighbour = run_avec(program("vector_add"), "1000", executor=server.url)
            self.assert_succeeds(neighbour)
            for kind in ("address", "trap", "arguments"):
                with self.subTest(kind=kind):
                    self.assert_succeeds(run_avec(program("faults"), kind, executor=server.url))
            self.assert_succeeds(run_avec(program("vector_add"), "1000", executor=server.url))


if __name__ == "__main__":
    unittest.main()
