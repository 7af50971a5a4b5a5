#!/usr/bin/env python3
"""The table of library measurements: what is judged, where it is put, and that the documents have the newest."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

import library_report

HERE = pathlib.Path(__file__).parent
ROWS = [{"date": "2026-01-02", "hardware": "H100", "what": "torch.gpt2_token", "unit": "ms", "native": 3.8, "native_best": 3.0,
         "tcp_adaptive": 4.1, "tcp_spin": 4.0, "shm_adaptive": 9.0},
        {"date": "2026-01-02", "hardware": "H100", "what": "torch.first_kernel", "unit": "ms", "native": 300, "tcp_adaptive": 399}]


class Table(unittest.TestCase):
    def test_what_is_not_reached_over_tcp_is_bold(self):
        lines = library_report.table(ROWS, "result.json").splitlines()
        token = next(line for line in lines if "GPT-2" in line)
        self.assertIn("3.8 ms, best 3 | **4.1 (1.08)** | 4 (1.05) | 9 (2.37) |", token)
        self.assertIn("300 ms | 399 (1.33) |  |  |", next(line for line in lines if "First kernel" in line))

    def test_a_later_result_takes_the_place_of_the_table_and_of_nothing_else(self):
        with tempfile.TemporaryDirectory() as folder:
            document = pathlib.Path(folder) / "a.md"
            document.write_text(f"before\n{library_report.BEGIN}\nold\n{library_report.END}\nafter\n")
            text = library_report.written(document, "new")
            self.assertEqual(text, f"before\n{library_report.BEGIN}\nnew\n{library_report.END}\nafter\n")
            document.write_text("no markers\n")
            with self.assertRaises(SystemExit):
                library_report.written(document, "new")

    def test_the_documents_have_the_newest_result(self):
        documents = [HERE.parent / "README.md", HERE.parent / "docs" / "benchmarks.md"]
        done = subprocess.run([sys.executable, HERE / "library_report.py", "--check", "--write", *documents],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
