"""The functions that PyTorch and Caffe use are implemented, or have a reason in docs/cuda-support.md."""
import pathlib
import re
import tempfile
import unittest

import support
import libraries

SYMBOLS = pathlib.Path(__file__).parent / "symbols"
ABSENT = support.ROOT / "docs" / "parts" / "frameworks.md"


def names_of(path):
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


class Schemas:
    """What schemas/ implements of the driver, the runtime and the libraries, and what it gives reasons for."""

    def __init__(self):
        self.implemented, self.explained = set(), set()
        for library in libraries.read_all(support.APIS):
            refused = {name for _, names in library.unsupported for name in names}
            self.explained |= refused
            self.implemented |= set(library.exports) - refused
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder)
            done = support.generate_api(out)
            if done.returncode:
                raise RuntimeError(done.stderr)
            for library in ("driver", "runtime"):
                stubs = dict(re.findall(r'^AVEC_STUB\((\w+), "(.*)"\)', (out / f"{library}_stubs.cc").read_text(), re.M))
                exports = set(re.findall(r"^    (\w+);", (out / f"{library}_exports.map").read_text(), re.M))
                self.implemented |= exports - set(stubs)
                self.explained |= {name for name, reason in stubs.items() if not reason.startswith("docs/")}
        rows = re.findall(r"^\| [^|]+ \| (`\w+`(?:, `\w+`)*) \|$", ABSENT.read_text(), re.M)
        self.absent = {name for row in rows for name in re.findall(r"`(\w+)`", row)}

    def left(self, names):
        """Names that are neither implemented nor explained. cublas_v2.h makes cublasX of some names cublasX_v2."""
        return [name for name in names if f"{name}_v2" not in self.implemented
                and name not in self.implemented | self.explained | self.absent]


class Symbols(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.schemas = Schemas()

    def test_what_pytorch_uses_is_implemented_or_explained(self):
        names = names_of(SYMBOLS / "pytorch-2.11.txt")
        self.assertEqual(len(names), 709)
        self.assertEqual(self.schemas.left(names), [])

    def test_what_caffe_uses_is_implemented_or_explained(self):
        names = names_of(SYMBOLS / "caffe.txt")
        self.assertEqual(len(names), 106)
        self.assertEqual(self.schemas.left(names), [])

    def test_a_function_that_nobody_has_is_found(self):
        self.assertEqual(self.schemas.left(["cudaMalloc", "cuFileRead", "cublasFly", "ncclDevCommCreate"]), ["cublasFly"])

    def test_no_reason_is_given_for_what_works(self):
        self.assertEqual(self.schemas.absent & (self.schemas.implemented | self.schemas.explained), set())


if __name__ == "__main__":
    unittest.main()
