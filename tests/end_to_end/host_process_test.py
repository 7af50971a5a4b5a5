"""What the process of the program may do: fork, exec, end, threads, signals, limits."""

import os
import shutil
import signal
import subprocess
import time
import unittest

from support import AVEC, Case, DEADLINE_S, TRANSPORT, clean_environment, program, run_avec


class HostProcess(Case):
    def check(self, case, status=0, last="passed"):
        result = run_avec(program("host_process"), case, local=True)
        self.assertEqual(result.returncode, status, f"stdout:\n{result.stdout}\nstderr:\n{result.stderr}")
        if last is not None:
            self.assertEqual(result.stdout.splitlines()[-1:], [last])
        self.assertNotIn("terminate called", result.stderr)
        return result

    def test_a_fork_before_the_first_call(self):
        self.check("fork_before_the_first_call")

    def test_a_child_has_no_session_and_does_not_harm_its_parent_s(self):
        self.check("fork_after_the_first_call")

    def test_forks_while_threads_are_in_calls(self):
        self.check("fork_while_threads_are_in_calls")

    def test_children_that_exec_have_sessions_of_their_own(self):
        self.check("children_that_exec")

    def test_a_process_that_execs_opens_a_new_session(self):
        self.check("exec_of_the_process_itself")

    def test_a_daemon_opens_its_session_after_its_forks(self):
        self.check("daemon_before_the_first_call")

    def test_exit_handlers_use_cuda(self):
        result = self.check("exit_handlers_use_cuda", last=None)
        self.assertEqual(result.stdout.splitlines(), ["registered after: used", "registered before: over"])

    def test_exit_from_another_thread_while_others_are_in_calls(self):
        self.check("exit_from_another_thread", status=7, last=None)

    def test_the_main_thread_may_end_first(self):
        self.check("the_main_thread_ends_first", status=7, last=None)

    def test_quick_exit(self):
        self.check("quick_ends", last=None)

    def test_many_threads_at_once(self):
        self.check("many_threads_at_once")

    def test_threads_with_small_stacks(self):
        self.check("threads_with_small_stacks")

    def test_threads_that_are_cancelled(self):
        self.check("threads_that_are_cancelled")

    def test_no_thread_and_no_socket_before_the_first_call(self):
        self.check("nothing_before_the_first_call")

    def test_signals_during_calls(self):
        self.check("signals_during_calls")

    def test_a_handler_that_reaps_children(self):
        self.check("a_handler_that_reaps_children")

    def test_every_descriptor_is_closed_before_the_first_call(self):
        self.check("every_descriptor_is_closed_before_the_first_call")

    def test_every_descriptor_is_closed_later(self):
        self.check("every_descriptor_is_closed_later")

    def test_few_descriptors_are_refused_with_a_message(self):
        result = self.check("few_descriptors")
        if result.stdout.splitlines()[0] == "refused":
            self.assertIn("avec: ", result.stderr)

    def test_little_address_space_is_refused_with_a_message(self):
        result = self.check("little_address_space")
        if result.stdout.splitlines()[0] == "refused":
            self.assertIn("avec: ", result.stderr)


class Suspended(Case):
    def start(self):
        return subprocess.Popen([AVEC, "run", "--local", "--device", "cpu", "-e", TRANSPORT + "://", "--",
                                 program("host_process"), "runs_for_a_while"], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, env=clean_environment())

    def child_of(self, process):
        """The program that avec started."""
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                with open(f"/proc/{entry}/stat") as stat:
                    name, _, rest = stat.read().rpartition(")")
                if int(rest.split()[1]) == process.pid and "host_process" in name:
                    return int(entry)
            except OSError:
                pass
        return process.pid  # avec became the program

    def test_a_client_that_was_suspended_goes_on(self):
        with self.start() as process:
            self.assertEqual(process.stdout.readline(), "ready\n")
            child = self.child_of(process)
            for _ in range(2):
                os.kill(child, signal.SIGSTOP)
                time.sleep(3)
                os.kill(child, signal.SIGCONT)
                time.sleep(0.2)
            output, errors = process.communicate(timeout=DEADLINE_S)
            self.assertEqual(process.returncode, 0, errors)
            self.assertIn("passed", output)

    @unittest.skipUnless(shutil.which("gdb"), "no gdb here")
    def test_a_debugger_attaches_and_detaches(self):
        with self.start() as process:
            self.assertEqual(process.stdout.readline(), "ready\n")
            child = self.child_of(process)
            debugger = subprocess.run(["gdb", "-p", str(child), "-batch", "-ex", "thread apply all bt 1"],
                                      capture_output=True, text=True, timeout=DEADLINE_S)
            if "not permitted" in debugger.stderr:
                process.kill()
                self.skipTest("ptrace is not permitted here")
            output, errors = process.communicate(timeout=DEADLINE_S)
            self.assertEqual(process.returncode, 0, errors)
            self.assertIn("passed", output)


if __name__ == "__main__":
    unittest.main()
