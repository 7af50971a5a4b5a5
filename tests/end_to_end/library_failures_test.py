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

    def passes(self, case):
        with tempfile.TemporaryDirectory() as scratch:
            log = pathlib.Path(scratch) / "calls"
            with Serve(AVEC_LIBRARY_PATH=self.folder.name, AVEC_TEST_LOG=log) as executor:
                result = run_avec(sys.executable, FOLDER / "failing.py", case, log, executor=executor.url)
        self.assert_succeeds(result)
        self.assertIn("as expected", result.stdout)
        return result

    def test_host_memory_that_a_library_works_in_has_no_limit_of_the_frame(self):
        self.passes("large_scratch")

    def test_arguments_beyond_the_limit_are_refused_and_the_session_lives(self):
        result = self.passes("large_arguments")
        self.assertIn("cublasSgemmGroupedBatched is not supported: it would read and write more than 12 MiB", result.stderr)


if __name__ == "__main__":
    unittest.main()
