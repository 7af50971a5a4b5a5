"""The built shims against NVIDIA's libraries and against the manifests."""
import os
import re
import subprocess
import pathlib
import tempfile
import unittest

import support
import cuda_headers
from support import generate_api


def symbols(library):
    """{name: (type, version node)} of the functions that a library exports."""
    done = subprocess.run([os.environ.get("AVEC_NM", "nm"), "-D", "--defined-only", library], capture_output=True,
                          text=True, timeout=60, check=True)
    result = {}
    for line in done.stdout.splitlines():
        _, kind, name = line.split()
        name, _, node = name.partition("@")
        if kind in "TWViu":
            result[name] = (kind, node.lstrip("@"))
    return result


class Shims(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = pathlib.Path(folder.name)
        done = generate_api(self.out)
        self.assertEqual(done.returncode, 0, done.stderr)

    def library(self, variable):
        path = os.environ.get(variable)
        if not path:
            self.skipTest(f"{variable} is not set: this build has no such shim")
        return path

    def check_manifest(self, exported, stubs, manifest):
        listed = set(re.findall(r"^AVEC_STUB\((\w+), ", (self.out / stubs).read_text(), re.M))
        # Stubs are weak: a strong definition of one's name has no entry in the manifest.
        unlisted = sorted(name for name in listed if exported[name][0] == "T")
        self.assertEqual(unlisted, [], f"implemented, but not in {manifest}")
        missing = sorted(name for name in exported if name not in listed and exported[name][0] == "W")
        self.assertEqual(missing, [], f"in {manifest}, but not implemented")

    def test_libcuda_exports_what_cuda_h_declares_and_nothing_else(self):
        exported = symbols(self.library("AVEC_SHIM_CUDA"))
        names = re.findall(r"^    (\w+);", (self.out / "driver_exports.map").read_text(), re.M)
        self.assertEqual(sorted(exported), sorted(names))
        self.assertEqual({node for _, node in exported.values()}, {""})

    def test_libcudart_exports_what_nvidias_does_under_its_version_node(self):
        exported = symbols(self.library("AVEC_SHIM_CUDART"))
        arguments = support.toolkit_arguments()
        names, node = cuda_headers.exported(arguments[3], arguments[9])
        self.assertEqual(sorted(exported), names)
        self.assertEqual({n for _, n in exported.values()}, {node})

    def test_the_driver_manifest_lists_what_is_implemented(self):
        self.check_manifest(symbols(self.library("AVEC_SHIM_CUDA")), "driver_stubs.cc", "schemas/driver_api.fbs")

    def test_the_runtime_manifest_lists_what_is_implemented(self):
        self.check_manifest(symbols(self.library("AVEC_SHIM_CUDART")), "runtime_stubs.cc", "schemas/runtime_api.fbs")


if __name__ == "__main__":
    unittest.main()
