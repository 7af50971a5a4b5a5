"""What `avec run` is to the program and to the terminal: signals, exit status, and programs that
load the driver in their own ways."""

import os
import pty
import shutil
import signal
import subprocess
import sys
import unittest

from support import AVEC, TRANSPORT, Case, DEADLINE_S, clean_environment, program, run_avec, scratch_folder

COUNT_INTERRUPTS = """
import signal, time
count = 0
def interrupted(number, frame):
    global count
    count += 1
signal.signal(signal.SIGINT, interrupted)
print("ready", flush=True)
end = time.monotonic() + 60
while count == 0 and time.monotonic() < end:
    time.sleep(0.05)
time.sleep(0.5)
print("interrupts:", count, flush=True)
"""

DRIVER = """
import ctypes
driver = ctypes.CDLL("libcuda.so.1")
def call(name, *arguments):
    error = getattr(driver, name)(*arguments)
    assert error == 0, (name, error)
call("cuInit", 0)
context = ctypes.c_void_p()
call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
call("cuCtxSetCurrent", context)
"""

LARGE_COPIES = """
import os, time
def sockets():
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink("/proc/self/fd/" + name).startswith("socket:")
        except OSError:
            pass
    return found
size = (9 << 20) + 12345
data = os.urandom(size)
device, pinned = ctypes.c_uint64(), ctypes.c_void_p()
call("cuMemAlloc_v2", ctypes.byref(device), ctypes.c_size_t(size))
call("cuMemHostAlloc", ctypes.byref(pinned), ctypes.c_size_t(size), 0)
pageable = ctypes.create_string_buffer(size)
before = sockets()
for host in (pinned, ctypes.cast(pageable, ctypes.c_void_p)):
    ctypes.memmove(host, data, size)
    call("cuMemsetD8_v2", device, 0, ctypes.c_size_t(size))
    call("cuMemcpyHtoD_v2", device, host, ctypes.c_size_t(size))
    ctypes.memset(host, 0, size)
    call("cuMemcpyDtoH_v2", host, device, ctypes.c_size_t(size))
    assert ctypes.string_at(host, size) == data
end = time.monotonic() + 20
while sockets() - before < int(os.environ["AVEC_TCP_STREAMS"]) > 1 and time.monotonic() < end:
    time.sleep(0.01)  # the last stripes may still be on their way
print("sockets", sockets() - before)
"""


def local(code):
    return [AVEC, "run", "--local", "--device", "cpu", "--", sys.executable, "-c", code]


class Signals(Case):
    def test_an_interrupt_at_the_terminal_reaches_the_program_once(self):
        try:
            pid, terminal = pty.fork()
        except OSError as error:
            self.skipTest(f"no terminals here: {error}")
        if pid == 0:
            os.execve(AVEC, [str(word) for word in local(COUNT_INTERRUPTS)], clean_environment())
        output = b""
        while b"ready" not in output:
            output += os.read(terminal, 4096)
        os.write(terminal, b"\x03")
        try:
            while part := os.read(terminal, 4096):
                output += part
        except OSError:  # the terminal is gone with its last process
            pass
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
        self.assertIn(b"interrupts: 1", output)
        self.assertEqual(status, 0)

    def test_a_signal_sent_to_avec_reaches_the_program(self):
        with subprocess.Popen(local(COUNT_INTERRUPTS), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              env=clean_environment()) as process:
            self.assertEqual(process.stdout.readline(), "ready\n")
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.stdout.read(), "interrupts: 1\n")
            self.assertEqual(process.wait(DEADLINE_S), 0)

    def test_a_signal_that_was_ignored_stays_ignored(self):
        with subprocess.Popen(["nohup", AVEC, "run", "--local", "--device", "cpu", "--", "sh", "-c",
                               "echo ready; read line; echo survived"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              env=clean_environment(), start_new_session=True) as process:
            self.assertEqual(process.stdout.readline(), "ready\n")
            os.killpg(process.pid, signal.SIGHUP)
            output, _ = process.communicate("go on\n", DEADLINE_S)
            self.assertEqual(output, "survived\n")
            self.assertEqual(process.returncode, 0)


class Programs(Case):
    def test_the_exit_status_is_the_program_s(self):
        self.assertEqual(run_avec("sh", "-c", "exit 7", local=True).returncode, 7)
        self.assertEqual(run_avec("sh", "-c", "kill -9 $$", local=True).returncode, 128 + 9)
        self.assertEqual(run_avec("/nonexistent", local=True).returncode, 127)

    def test_avec_may_lie_in_a_folder_with_spaces(self):
        with scratch_folder() as folder:
            moved = folder / "my programs" / "bin" / "avec"
            moved.parent.mkdir(parents=True)
            shutil.copy(AVEC, moved)
            (folder / "my programs" / "lib").symlink_to(AVEC.absolute().parent.parent / "lib")
            result = subprocess.run([moved, "run", "--local", "--device", "cpu", "--", program("vector_add")],
                                    capture_output=True, text=True, timeout=DEADLINE_S, env=clean_environment())
            self.assert_succeeds(result)

    @unittest.skipIf(TRANSPORT != "tcp", "stripes are TCP's")
    def test_large_copies_take_as_many_streams_as_were_asked_for(self):
        for streams, more in ((1, 0), (4, 4)):
            with self.subTest(streams=streams):
                result = run_avec(sys.executable, "-c", DRIVER + LARGE_COPIES, local=True, AVEC_TCP_STREAMS=streams)
                self.assert_succeeds(result)
                self.assertEqual(result.stdout.split(), ["sockets", str(more)])

    def test_a_synchronous_copy_is_seen_by_every_stream(self):
        self.assert_succeeds(run_avec(program("ordering"), local=True))

    def test_most_of_the_memory_can_be_had_again_as_soon_as_it_is_freed(self):
        result = run_avec(sys.executable, "-c", DRIVER + """
free, total = ctypes.c_size_t(), ctypes.c_size_t()
call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
for i in range(20):
    address = ctypes.c_uint64()
    call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(free.value // 10 * 7))
    call("cuMemsetD8_v2", address, 1, ctypes.c_size_t(1 << 20))
    call("cuMemFree_v2", address)
""", local=True)
        self.assert_succeeds(result)

    def test_a_driver_that_was_closed_again_does_no_harm(self):
        result = run_avec(sys.executable, "-c", DRIVER + """
import _ctypes, time
_ctypes.dlclose(driver._handle)
time.sleep(0.3)  # for threads that would run code that is gone
print("still here")
""", local=True)
        self.assert_succeeds(result)
        self.assertIn("still here", result.stdout)

    def test_a_child_of_fork_is_told_that_it_has_no_driver(self):
        result = run_avec(sys.executable, "-c", DRIVER + """
import os
per_thread = ctypes.c_void_p(2)
call("cuStreamSynchronize", per_thread)  # the thread has a stream that ends with it
child = os.fork()
if child == 0:
    count = ctypes.c_int()
    os._exit(driver.cuDeviceGetCount(ctypes.byref(count)))  # 3: CUDA_ERROR_NOT_INITIALIZED
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
child = os.fork()
if child == 0:
    raise SystemExit(5)  # with all that runs at exit
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
call("cuCtxSynchronize")
""", local=True)
        self.assert_succeeds(result)


if __name__ == "__main__":
    unittest.main()
