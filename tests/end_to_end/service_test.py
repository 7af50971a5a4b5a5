"""`avec serve` as a service: what it tells the service manager, how it ends, and the line that each session leaves."""

import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
import unittest

from support import AVEC, SOURCE, Case, Serve, clean_environment, program, run_avec, scratch_folder

DEADLINE_S = 60


def wait_for(what, deadline_s=DEADLINE_S):
    """Until `what` returns something true; fails when it never does."""
    until = time.monotonic() + deadline_s
    while True:
        if found := what():
            return found
        if time.monotonic() > until:
            raise AssertionError("it never came")
        time.sleep(0.01)


class Manager:
    """A service manager's socket."""

    def __init__(self, name):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(name)
        self.messages = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while message := self.socket.recv(4096):
            self.messages.append(message.decode())

    def has(self, *lines):
        said = [line for message in list(self.messages) for line in message.split("\n")]
        return all(line in said for line in lines)


def endless(server, **environment):
    """A program whose session lasts until it is killed."""
    running = subprocess.Popen([AVEC, "run", "--executor", server.url, "--", program("endless")], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=clean_environment(**environment))
    wait_for(server.workers)
    return running


def audits(server):
    """Fields of the lines that sessions left."""
    lines = [line.partition(" audit ")[2] for line in list(server.log) if " audit session=" in line]
    return [dict(field.split("=", 1) for field in shlex.split(line)) for line in lines]


class Notified(Case):
    def test_says_when_it_is_ready_lives_and_stops(self):
        with scratch_folder() as folder:
            for name, address in ((str(folder / "notify"), str(folder / "notify")),
                                  (f"@avec-test-{os.getpid()}", f"\0avec-test-{os.getpid()}")):
                manager = Manager(address)
                with Serve(NOTIFY_SOCKET=name, WATCHDOG_USEC=200_000) as server:
                    wait_for(lambda: manager.has("READY=1", "STATUS=0 sessions"))
                    wait_for(lambda: manager.messages.count("WATCHDOG=1") >= 5)
                    running = endless(server)
                    wait_for(lambda: manager.has("STATUS=1 session"))
                    for pid in server.workers():
                        environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
                        self.assertNotIn(b"NOTIFY_SOCKET", environment)
                        self.assertNotIn(b"WATCHDOG", environment)
                    self.assertFalse(manager.has("STOPPING=1"))
                    running.kill()
                    running.communicate()
                wait_for(lambda: manager.has("STOPPING=1"))

    def test_a_watchdog_of_another_process_is_not_fed(self):
        with scratch_folder() as folder:
            manager = Manager(str(folder / "notify"))
            with Serve(NOTIFY_SOCKET=folder / "notify", WATCHDOG_USEC=1000, WATCHDOG_PID=1) as server:
                wait_for(lambda: manager.has("READY=1"))
                self.assert_succeeds(run_avec(program("vector_add"), executor=server.url))
            wait_for(lambda: manager.has("STOPPING=1"))
            self.assertNotIn("WATCHDOG=1", manager.messages)


class Drained(Case):
    def test_a_session_may_finish_and_no_other_begins(self):
        with Serve(AVEC_DRAIN=600) as server:
            running = endless(server)
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: any("stopping; 1 sessions" in line for line in server.log))
            refused = run_avec(program("vector_add"), executor=server.url)
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn("is being stopped", refused.stderr)
            self.assertIsNone(server.process.poll())
            self.assertIsNone(running.poll())
            running.kill()
            running.communicate()
            self.assertEqual(server.process.wait(DEADLINE_S), 0)

    def test_a_session_that_does_not_finish_is_ended(self):
        with Serve(AVEC_DRAIN=1) as server:
            running = endless(server)
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(server.process.wait(DEADLINE_S), 0)
            _, said = running.communicate(timeout=DEADLINE_S)
            self.assertIn("the executor is being stopped", said)
        self.assertIn("stopped", audits(server)[0]["ended"])

    def test_a_second_order_or_an_interrupt_waits_for_nobody(self):
        for orders in ((signal.SIGTERM, signal.SIGTERM), (signal.SIGINT,)):
            with Serve(AVEC_DRAIN=600) as server:
                running = endless(server)
                for order in orders:
                    server.process.send_signal(order)
                    wait_for(lambda: any("stopping" in line for line in server.log))
                self.assertEqual(server.process.wait(DEADLINE_S), 0)
                running.communicate(timeout=DEADLINE_S)


class Audited(Case):
    def test_each_session_leaves_a_line(self):
        with scratch_folder() as folder:
            keys = folder / "keys"
            self.assert_succeeds(subprocess.run(
                [AVEC, "keygen", "--ca", keys, "--server", "edge,127.0.0.1", "--client", "laptop"], capture_output=True,
                text=True, timeout=DEADLINE_S, env=clean_environment()))

            def certificate(of):
                return {"AVEC_TLS_CERTIFICATE": keys / f"{of}.pem", "AVEC_TLS_KEY": keys / f"{of}-key.pem",
                        "AVEC_TLS_CA": keys / "ca.pem"}

            with Serve(AVEC_LOG_LEVEL="off", AVEC_TRANSPORT_ENCRYPTION="on", **certificate("edge")) as server:
                self.assert_succeeds(run_avec(program("vector_add"), executor=server.url,
                                              AVEC_TRANSPORT_ENCRYPTION="on", **certificate("laptop")))
                wait_for(lambda: audits(server))
                running = endless(server, AVEC_TRANSPORT_ENCRYPTION="on", **certificate("laptop"))
                os.kill(server.workers()[0], signal.SIGKILL)
                wait_for(lambda: len(audits(server)) == 2)
                running.kill()
                running.communicate()
            first, second = audits(server)
            self.assertEqual(first["session"], "1")
            self.assertEqual(first["identity"], "laptop")
            self.assertRegex(first["from"], r"^127\.0\.0\.1:\d+$")
            self.assertEqual(first["program"].rpartition("/")[2], "vector_add")
            self.assertEqual(first["device"], "cpu")
            self.assertEqual(first["encrypted"], "yes")
            self.assertGreater(float(first["seconds"]), 0)
            for field in ("calls", "bytes_in", "bytes_out", "worker", "pid"):
                self.assertGreater(int(first[field]), 0, field)
            self.assertEqual(second["ended"], "the worker was killed by signal 9")
            self.assertEqual(second["bytes_in"], "-")

    def test_what_a_client_calls_itself_is_one_value(self):
        with scratch_folder() as folder, Serve() as server:
            forged = folder / 'x" identity=r'
            shutil.copy(program("vector_add"), forged)
            self.assert_succeeds(run_avec(forged, executor=server.url))
            wait_for(lambda: audits(server))
            self.assertEqual(audits(server)[0]["identity"], "nobody")
            self.assertEqual(audits(server)[0]["program"], forged.name)

    def test_no_line_where_none_is_wanted(self):
        with Serve(AVEC_AUDIT="false") as server:
            self.assert_succeeds(run_avec(program("vector_add"), executor=server.url))
        self.assertEqual(audits(server), [])


class Unit(Case):
    UNIT = SOURCE / "packaging" / "avec.service"

    @unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd-analyze here")
    def test_is_hardened(self):
        judged = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=40", self.UNIT],
                                capture_output=True, text=True, timeout=DEADLINE_S)
        self.assertEqual(judged.returncode, 0, judged.stdout + judged.stderr)
        self.assertLessEqual(float(re.search(r"exposure level for \S+: ([0-9.]+)", judged.stdout).group(1)), 4.0)

    def test_waits_longer_than_the_broker_drains_and_leaves_workers_to_it(self):
        text = self.UNIT.read_text()
        self.assertIn("KillMode=mixed", text)
        settings = subprocess.run([AVEC, "info", "--config"], capture_output=True, text=True, timeout=DEADLINE_S,
                                  env=clean_environment()).stdout
        drain = int(re.search(r"^drain\s+(?:=\s*)?\"?(\d+)", settings, re.MULTILINE).group(1))
        self.assertGreater(int(re.search(r"TimeoutStopSec=(\d+)", text).group(1)), drain)


if __name__ == "__main__":
    unittest.main()
