"""Programs as people write them, compiled as people compile them; each checks its own results."""

import os
import unittest

from support import Case, program, run_avec


class Programs(Case):
    def check(self, name, *arguments):
        result = run_avec(program(name), *arguments, local=True)
        self.assert_succeeds(result)
        self.assertEqual(result.stdout.splitlines()[-1], "passed")
        return result

    def test_cooperative_groups(self):
        self.check("cooperative_groups")

    def test_atomics(self):
        self.check("atomics")

    def test_pitched_and_constant_memory(self):
        self.check("pitched_and_constant")

    def test_the_device_language(self):
        result = self.check("device_language")
        self.assertIn("Hello from block 1, thread 1: str  1.50 1099511627776 x %", result.stdout)
        self.assertIn("x must be one", result.stderr)

    def test_streams_and_callbacks(self):
        self.check("streams_and_callbacks")

    def test_queries_and_errors(self):
        self.check("queries_and_errors")

    def test_asynchronous_copies(self):
        self.check("asynchronous_copies")

    def test_the_standard_library_of_cuda(self):
        self.check("standard_library")

    def test_samples(self):
        self.check("samples")

    def test_thrust_and_cub(self):
        self.check("thrust_and_cub")

    @unittest.skipUnless(os.path.exists(program("cublas_levels")), "not built: cuBLAS, cuRAND or OpenBLAS is missing")
    def test_cublas_and_curand(self):
        result = self.check("cublas_levels")
        self.assertIn("philox: 9ceaf053 77f5493b 12bf50ad 5742b3d7", result.stdout)

    def test_a_plugin_brings_its_own_static_runtime(self):
        self.check("plugin_host", program("libplugin.so"))

    def test_a_library_of_the_program_brings_its_own_static_runtime(self):
        self.check("plugin_user")


if __name__ == "__main__":
    unittest.main()
