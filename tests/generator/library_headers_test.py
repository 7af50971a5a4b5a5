"""Each library's description against its headers and exported names, where the library is installed.

cuDNN and NCCL are no part of the toolkit: without them their comparison is skipped."""
import glob
import os
import re
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools", "gen"))
import import_library  # noqa: E402

INCLUDE = os.environ.get("AVEC_CUDA_INCLUDE", "/usr/local/cuda/include")
COMPILER = os.environ.get("AVEC_CXX", "cc")
RULES = sorted(glob.glob(os.path.join(ROOT, "tools", "gen", "import", "*.rules")))

SMALL_HEADER = """
#include <stddef.h>
typedef struct context *fooHandle_t;
typedef enum { FOO_A = 0 } fooMode_t;
fooMode_t fooRun(fooHandle_t handle, fooMode_t mode, const double *alpha, size_t bytes, int dims[]);
fooMode_t fooCreate(fooHandle_t *handle);
"""


def small_library(folder, api):
    """Headers of a library of two functions, and its description."""
    with open(os.path.join(folder, "foo.h"), "w", encoding="utf-8") as text:
        text.write(SMALL_HEADER)
    with open(os.path.join(folder, "foo.api"), "w", encoding="utf-8") as text:
        text.write(api)
    rules = import_library.Rules(headers=["foo.h"], prefix="foo", objects={"fooHandle_t": "foo"})
    headers = import_library.Headers(rules, COMPILER, folder)
    return headers, import_library.read_api(os.path.join(folder, "foo.api"))


class Comparison(unittest.TestCase):
    GOOD = ("posted fooCreate(handle: new foo) = 1\n"
            "posted fooRun(handle: object foo, mode: i32, alpha: scalar f64 handle, bytes: u64,\n"
            "    dims: in i32[2]) = 2\n")

    def problems(self, api, names=("fooRun", "fooCreate")):
        with tempfile.TemporaryDirectory() as folder:
            headers, entries = small_library(folder, api)
            return import_library.compare(headers, set(names), entries)

    def test_a_description_that_fits_has_no_problem(self):
        self.assertEqual(self.problems(self.GOOD), [])

    def test_a_missing_parameter_is_found(self):
        self.assertIn("4 parameters", self.problems(self.GOOD.replace("bytes: u64,\n", ""))[0])

    def test_swapped_parameters_are_found(self):
        bad = self.GOOD.replace("mode: i32, alpha: scalar f64 handle", "alpha: scalar f64 handle, mode: i32")
        self.assertIn("alpha", self.problems(bad)[0])

    def test_a_narrower_integer_is_found(self):
        self.assertIn("int4", self.problems(self.GOOD.replace("bytes: u64", "bytes: u32"))[0])

    def test_elements_of_another_size_are_found(self):
        self.assertIn("float4", self.problems(self.GOOD.replace("scalar f64", "scalar f32"))[0])

    def test_a_function_that_is_not_described_is_found(self):
        self.assertIn("fooCreate is exported", self.problems(self.GOOD.partition("\n")[2])[0])

    def test_a_name_that_is_not_exported_is_found(self):
        self.assertIn("not exported", self.problems(self.GOOD + "local fooGone\n")[0])

    def test_a_number_used_twice_is_found(self):
        self.assertIn("same number", self.problems(self.GOOD.replace("= 2", "= 1"))[0])

    def test_a_draft_of_a_library_reads_back(self):
        with tempfile.TemporaryDirectory() as folder:
            headers, _ = small_library(folder, self.GOOD)
            drafts = [import_library.draft(headers, f, n) for n, f in enumerate(headers.functions.values(), 1)]
            headers, entries = small_library(folder, "\n".join(drafts) + "\n")
            self.assertEqual(import_library.compare(headers, set(headers.functions), entries), [])


class Installed(unittest.TestCase):
    def test_every_description_fits_the_headers_and_the_exported_names(self):
        compared = 0
        for path in RULES:
            api = os.path.join(ROOT, "schemas", "libraries", os.path.basename(path).replace(".rules", ".api"))
            rules = import_library.read_rules(path)
            library = import_library.find_library(rules, INCLUDE)
            if not library or not all(os.path.exists(os.path.join(INCLUDE, h)) for h in rules.headers):
                continue
            compared += 1
            with self.subTest(api):
                headers = import_library.Headers(rules, COMPILER, INCLUDE)
                names = {n for n in import_library.exported(library) if re.match(rules.prefix, n)}
                self.assertEqual(import_library.compare(headers, names, import_library.read_api(api)), [])
        if not compared:
            self.skipTest("none of the libraries is installed")


if __name__ == "__main__":
    unittest.main()
