"""Wrong calls and faults return what CUDA 13.0 returned natively on an H100."""

import unittest

from support import SOURCE, Case, program, run_avec


class ErrorCodes(Case):
    def check(self, expected, *arguments):
        result = run_avec(program("error_codes"), *arguments, local=True)
        self.assert_succeeds(result)
        self.assertEqual(result.stdout, (SOURCE / "tests" / "end_to_end" / expected).read_text())

    def test_wrong_arguments(self):
        self.check("error_codes.expected")

    def test_after_a_fault(self):
        self.check("error_codes_fault.expected", "fault")


if __name__ == "__main__":
    unittest.main()
