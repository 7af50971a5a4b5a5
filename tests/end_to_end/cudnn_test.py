"""A network trained through cuDNN's legacy API, through avec on the CPU device: it computes what the host does."""

import unittest

from support import Case, program, run_avec


class Cudnn(Case):
    def test_a_network_is_trained(self):
        result = run_avec(program("library_cudnn"), local=True)
        self.assert_succeeds(result)
        lines = result.stdout.splitlines()
        self.assertEqual([line.split(":")[0] for line in lines[:-1]], ["step 0", "step 10", "step 20", "step 29"])
        self.assertEqual(lines[-1], "passed")


if __name__ == "__main__":
    unittest.main()
