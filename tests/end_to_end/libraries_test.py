"""Programs over CUDA's libraries, on the CPU device as far as it has them."""

import pathlib
import re
import subprocess
import sys
import unittest

from support import Case, Serve, program, run_avec, scratch_folder

RECORDING = pathlib.Path(__file__).parent / "libraries" / "recording.py"


class Recorded(Case):
    """Every function that is described, over libraries that record what reaches them."""

    def reached(self, name, least):
        with scratch_folder() as folder:
            subprocess.run([sys.executable, RECORDING, "build", folder, name, "cusparse"], check=True)
            with Serve(AVEC_LIBRARY_PATH=folder, AVEC_TEST_LOG=folder / "calls") as executor:
                result = run_avec(sys.executable, RECORDING, "call", folder / "calls", name, executor=executor.url)
        self.assert_succeeds(result)
        self.assertGreaterEqual(int(re.search(rf"{name}: (\d+) functions", result.stdout)[1]), least)

    def test_cufft(self):
        self.reached("cufft", 41)

    def test_cusparse(self):
        self.reached("cusparse", 400)

    def test_cusolver(self):
        self.reached("cusolver", 450)

    def test_cusparselt(self):
        self.reached("cusparselt", 27)


class Libraries(Case):
    def setUp(self):
        if not program("library_curand").exists():
            self.skipTest("cuRAND is not installed beside the toolkit")

    def test_curand_fills_device_and_host_memory_and_reports_errors_where_they_are_made(self):
        result = run_avec(program("library_curand"), "basic", local=True)
        self.assert_succeeds(result)
        self.assertIn("curand: ok", result.stdout)
        for line in ("a type that does not exist: 103", "a count that 3 does not divide: 105",
                     "an odd count of normal numbers: 105", "dimensions of a pseudo-random generator: 103"):
            self.assertIn(line, result.stdout)

    def test_a_second_run_gives_the_same_numbers(self):
        with Serve() as executor:
            first = run_avec(program("library_curand"), "basic", executor=executor.url)
            second = run_avec(program("library_curand"), "basic", executor=executor.url)
        self.assert_succeeds(first)
        self.assertEqual(first.stdout, second.stdout)

    def test_a_library_that_the_executor_lacks_is_named(self):
        if not program("library_cufft").exists():
            self.skipTest("cuFFT is not installed beside the toolkit")
        result = run_avec(program("library_cufft"), local=True)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("libcufft.so.12 cannot be used: the CPU device has no cufft", result.stderr)


if __name__ == "__main__":
    unittest.main()
