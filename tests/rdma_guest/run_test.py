"""run.sh keeps its promises: run_test.py [class]. Exit status 77 where no guest is possible."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
RUN = str(HERE / "run.sh")
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "avec/rdma-guest"
SKIPPED = 77
DEADLINE_SECONDS = 120


def run(*words, **options):
    return subprocess.run([RUN, *words], capture_output=True, text=True, timeout=DEADLINE_SECONDS, **options)


class Folder(unittest.TestCase):
    """Each test has a temporary folder of its own, where run.sh puts its files, too."""

    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory(prefix="avec-rdma-guest-test.")
        self.addCleanup(self.temporary.cleanup)
        self.folder = pathlib.Path(self.temporary.name)
        (self.folder / "tmp").mkdir()
        self.environment = {**os.environ, "TMPDIR": str(self.folder / "tmp")}

    def program(self, name, text):
        """A program that is found before the system's."""
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n" + text + "\n")
        path.chmod(0o755)
        self.environment["PATH"] = f"{path.parent}:{os.environ['PATH']}"

    def own_cache(self, with_image):
        cache = self.folder / "cache/avec/rdma-guest"
        cache.mkdir(parents=True)
        for kept in CACHE.glob("*") if with_image else []:
            if kept.name == "kernel" or kept.name.startswith("initrd-"):
                (cache / kept.name).symlink_to(kept)
        self.environment["XDG_CACHE_HOME"] = str(self.folder / "cache")
        return cache

    def processes(self):
        """Those that have this test's folder in their command line."""
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(self.folder).encode() in words:
                found.append(words.replace(b"\0", b" ").decode())
        return found

    def expect_nothing_left(self):
        end = time.monotonic() + DEADLINE_SECONDS
        while self.processes() and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual(self.processes(), [])


class Reasons(Folder):
    """Where no guest is possible, and how that is said. Each test lacks one thing, whatever is missing here."""

    TOOLS = ("qemu-system-x86_64", "busybox", "modprobe", "cpio", "xz", "ip", "rdma")

    def setUp(self):
        super().setUp()
        self.program("dpkg", "echo amd64")
        for tool in self.TOOLS:
            self.program(tool, "exit 0")

    def test_without_qemu_it_names_the_package(self):
        tools = self.folder / "bin"
        (tools / "qemu-system-x86_64").unlink()
        for folder in ("/bin", "/usr/bin"):
            for tool in os.listdir(folder):
                if not tool.startswith("qemu") and not os.path.lexists(tools / tool):
                    (tools / tool).symlink_to(f"{folder}/{tool}")
        result = run("true", env={**self.environment, "PATH": str(tools)})
        self.assertEqual((result.returncode, result.stdout), (SKIPPED, ""))
        self.assertIn("package qemu-system-x86", result.stderr)

    def test_another_architecture_is_named(self):
        self.program("dpkg", "echo arm64")
        result = run("true", env=self.environment)
        self.assertEqual(result.returncode, SKIPPED)
        self.assertIn("this is arm64", result.stderr)

    def test_a_kernel_that_can_not_be_fetched_leaves_no_half_of_it(self):
        for tool in ("apt-get", "apt-cache"):
            self.program(tool, "exit 100")
        cache = self.own_cache(with_image=False)
        result = run("true", env=self.environment)
        self.assertEqual(result.returncode, SKIPPED, result.stderr)
        self.assertIn("fetched", result.stderr)
        self.assertEqual([entry.name for entry in cache.iterdir()], ["lock"])

    def test_options_that_do_not_exist_are_refused(self):
        for words in ([], ["--"], ["--network", "token-ring", "true"], ["--wrong", "1", "true"], ["--accel", "x", "true"],
                      ["--timeout", "1m", "true"], ["--memlock"]):
            with self.subTest(words=words):
                self.assertEqual(run(*words, env=self.environment).returncode, 2)


class Guest(Folder):
    """What a command finds in the guest. One guest for most of it, as each takes seconds."""

    def test_the_command_runs_as_if_it_ran_here(self):
        script = """
            printf '%s|' "$@"; echo "$AVEC_TEST_ODD|$PWD|$(id -u)"
            echo first >&2; echo second >/dev/stderr
            head -c 300000 /dev/zero | tr '\\0' x; echo
            ls /sys/class/infiniband | tr '\\n' ' '; ulimit -l; grep CapEff /proc/self/status
            echo shared >"$SHARED/file"; echo lost >/var/tmp/avec-rdma-guest-lost
            sleep 1000 & exit 7"""
        shared = self.folder / "sha, red"
        shared.mkdir()
        odd = "it's \"$odd\"\n`x` \\"
        environment = {**self.environment, "AVEC_TEST_ODD": odd, "SHARED": str(shared), "control": "x", "status": "y"}
        result = run("--share", str(shared), "--memlock", "8388608", "--", "sh", "-c", script, "-", "a b", "", "c'd", "*",
                     env=environment, cwd=HERE)
        self.assertEqual(result.returncode, 7, result.stderr)
        self.assertEqual(result.stderr, "first\nsecond\n")
        words, rest = result.stdout.split("x" * 300000 + "\n")
        self.assertEqual(words, f"a b||c'd|*|{odd}|{HERE}|0\n")
        adapters, rights = rest.splitlines()
        self.assertEqual(adapters, "rxa rxb 8192")
        ipc_lock = 1 << 14
        self.assertEqual(int(rights.split()[1], 16) & ipc_lock, 0)
        self.assertEqual((shared / "file").read_text(), "shared\n")
        self.assertFalse(os.path.exists("/var/tmp/avec-rdma-guest-lost"))
        self.assertEqual(list((self.folder / "tmp").iterdir()), [])
        self.expect_nothing_left()

    def test_the_other_network_has_one_adapter(self):
        result = run("--network", "lo", "--", "sh", "-c", "ls /sys/class/infiniband; ip -brief -4 address show d0",
                     env=self.environment)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("rxe0\n", result.stdout)
        self.assertIn("10.9.0.1/24", result.stdout)

    def test_a_guest_that_hangs_is_stopped_at_its_time_limit(self):
        result = run("--timeout", "8", "--", "sleep", "1000", env=self.environment)
        self.assertEqual(result.returncode, 124)
        self.assertIn("time limit", result.stderr)
        self.expect_nothing_left()


class Hygiene(Folder):
    """How it ends otherwise."""

    def start(self):
        """A guest whose command has begun, in a session of its own."""
        started = subprocess.Popen([RUN, "--", "sh", "-c", "echo begun; sleep 1000"], env=self.environment,
                                   stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.addCleanup(started.stdout.close)
        self.assertEqual(started.stdout.readline(), "begun\n")
        self.assertNotEqual(self.processes(), [])
        return started

    def test_an_interrupt_leaves_nothing_behind(self):
        started = self.start()
        os.killpg(started.pid, signal.SIGINT)
        self.assertEqual(started.wait(DEADLINE_SECONDS), 130)
        self.expect_nothing_left()
        self.assertEqual(list((self.folder / "tmp").iterdir()), [])

    def test_the_guest_dies_with_the_one_who_started_it(self):
        started = self.start()
        started.kill()
        started.wait(DEADLINE_SECONDS)
        self.expect_nothing_left()

    def test_a_guest_that_panics_leaves_its_last_words(self):
        result = run("--", "sh", "-c", "echo c >/proc/sysrq-trigger", env=self.environment)
        self.assertEqual(result.returncode, 125)
        self.assertIn("panic", result.stderr)

    def test_two_guests_at_once_do_not_disturb_each_other(self):
        started = [subprocess.Popen([RUN, "--", "sh", "-c", f"exit {status}"], env=self.environment) for status in (3, 4)]
        self.assertEqual([one.wait(DEADLINE_SECONDS) for one in started], [3, 4])

    def test_guests_that_start_without_an_image_make_it_once(self):
        cache = self.own_cache(with_image=False)
        (cache / "kernel").symlink_to(CACHE / "kernel")
        started = [subprocess.Popen([RUN, "--check"], env=self.environment, stdout=subprocess.DEVNULL) for _ in range(3)]
        self.assertEqual([one.wait(DEADLINE_SECONDS) for one in started], [0, 0, 0])
        self.assertEqual(len(list(cache.glob("initrd-*"))), 1)
        self.assertEqual(list(cache.glob("new.*")), [])

    @unittest.skipUnless(os.access("/dev/kvm", os.R_OK | os.W_OK), "no /dev/kvm to be distrusted")
    def test_a_kvm_that_opens_and_hangs_is_not_used(self):
        self.own_cache(with_image=True)
        self.program("qemu-system-x86_64", "sleep 1000")
        result = run("--check", env=self.environment)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("under emulation", result.stdout)
        self.expect_nothing_left()

    @unittest.skipUnless(os.access("/dev/kvm", os.R_OK | os.W_OK), "no /dev/kvm to be distrusted")
    def test_a_kvm_that_runs_code_but_no_kernel_is_not_used(self):
        self.own_cache(with_image=True)
        self.program("qemu-system-x86_64", 'case "$*" in *isa-debug-exit*) exit 67;; *) exit 1;; esac')
        result = run("--check", env=self.environment)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("under emulation", result.stdout)


if __name__ == "__main__":
    wanted = [globals()[name] for name in sys.argv[1:]] or [Reasons, Guest, Hygiene]
    check = subprocess.run([RUN, "--check"], capture_output=True, text=True)
    possible = check.returncode != SKIPPED
    if not possible:
        wanted = [one for one in wanted if one is Reasons]
    loader = unittest.TestLoader()
    suite = unittest.TestSuite(loader.loadTestsFromTestCase(one) for one in wanted)
    passed = unittest.TextTestRunner(verbosity=2, stream=sys.stdout).run(suite).wasSuccessful()
    print(check.stdout + check.stderr, end="")
    sys.exit(1 if not passed else 0 if possible else SKIPPED)
