"""What a program sees when calls of libraries fail, with a library that fails when asked to (libraries/failing.c)."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

from support import Case, Serve, run_avec

FOLDER = pathlib.Path(__file__).parent / "libraries"
NAMES = ("libcufft.so.12", "libcusparse.so.12", "libcusolver.so.12")


class Failures(Case):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        built = pathlib.Path(cls.folder.name) / NAMES[0]
        subprocess.run([os.environ.get("AVEC_CC", "cc"), "-shared", "-fPIC", "-O1", "-w", FOLDER / "failing.c", "-o", built],
                       check=True)
        for name in NAMES[1:]:
            (built.parent / name).symlink_to(built)

    def passes(self, case, **environment):
        with tempfile.TemporaryDirectory() as scratch:
            log = pathlib.Path(scratch) / "calls"
            with Serve(AVEC_LIBRARY_PATH=self.folder.name, AVEC_TEST_LOG=log, **environment) as executor:
                result = run_avec(sys.executable, FOLDER / "failing.py", case, log, executor=executor.url)
        self.assert_succeeds(result)
        self.assertIn("as expected", result.stdout)
        return result

    def test_host_memory_that_a_library_works_in_has_no_limit_of_the_frame(self):
        self.passes("large_scratch")

    def test_arguments_beyond_the_limit_are_refused_and_the_session_lives(self):
        result = self.passes("large_arguments")
        self.assertIn("cublasSgemmGroupedBatched is not supported: it would read and write more than 12 MiB", result.stderr)

    def test_what_sets_and_ends_is_done_while_an_earlier_failure_is_to_be_told(self):
        self.passes("setters_travel_while_a_failure_is_pending")

    def test_work_is_not_begun_before_an_earlier_failure_is_told(self):
        self.passes("work_does_not_begin_while_a_failure_is_pending")

    def test_a_pointer_mode_that_the_library_refused_is_not_taken_for_set(self):
        self.passes("a_mode_that_was_refused_is_not_noted", AVEC_TEST_REFUSE_MODE="1")

    def test_failures_of_two_libraries_are_told_once_each(self):
        self.passes("failures_of_two_libraries_are_both_told")

    def test_the_number_of_an_ended_plan_never_names_a_later_one(self):
        self.passes("numbers_of_plans_that_have_ended_name_no_plan")

    def test_a_failed_call_leaves_its_results_as_they_were(self):
        self.passes("outputs_of_a_failed_call_are_as_they_were")


if __name__ == "__main__":
    unittest.main()
