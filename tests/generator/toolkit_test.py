"""What is made from the CUDA Toolkit: prototypes compared, stubs, export lists, versions, matrix."""
import pathlib
import re
import tempfile
import unittest

import support
import cuda_headers
import libraries
from support import SCHEMAS, generate_api

HEAD = 'include "attributes.fbs";\nnamespace avec.wire;\n'


class Toolkit(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = pathlib.Path(folder.name)

    def manifest(self, entry):
        path = self.out / "manifest.fbs"
        path.write_text(HEAD + entry)
        return path

    def entry(self, name, proto, extra=""):
        return self.manifest(f'table {name} (mode: "local", override: "client"{extra},\n    proto: "{proto}") {{}}\n')

    def test_a_prototype_that_differs_fails_naming_the_function(self):
        path = self.entry("cuInit", "CUresult cuInit(int Flags)")
        done = generate_api(self.out, driver=path, version=13000)
        self.assertEqual(done.returncode, 1)
        self.assertIn("manifest.fbs:3", done.stderr)
        self.assertIn("cuInit: the header has CUresult cuInit(unsigned int Flags)", done.stderr)

    def test_a_later_toolkit_only_warns(self):
        path = self.entry("cuInit", "CUresult cuInit(int Flags)")
        done = generate_api(self.out, driver=path, version=13010)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("warning: manifest.fbs:3: cuInit", done.stderr)

    def test_names_of_parameters_do_not_matter(self):
        path = self.entry("cuInit", "CUresult cuInit(unsigned   int how)")
        self.assertEqual(generate_api(self.out, driver=path, version=13000).returncode, 0)

    def test_a_function_that_cuda_lacks_is_refused(self):
        path = self.entry("cuFly", "CUresult cuFly(void)")
        done = generate_api(self.out, driver=path, version=13000)
        self.assertEqual(done.returncode, 1)
        self.assertIn("cuFly is no name of the CUDA library", done.stderr)

    def test_an_entry_under_another_name_is_refused(self):
        path = self.entry("cuInit", "CUresult cuCtxSynchronize(void)")
        self.assertIn("cuCtxSynchronize's", generate_api(self.out, driver=path).stderr)

    def test_a_form_that_does_not_exist_is_refused(self):
        path = self.entry("cuInit", "CUresult cuInit(unsigned int Flags)", ', pair: "ptsz"')
        self.assertIn("cuInit_ptsz is no name", generate_api(self.out, driver=path).stderr)

    def test_an_entry_needs_its_attributes(self):
        path = self.manifest('table cuInit (mode: "local", override: "client") {}')
        self.assertIn("cuInit has no proto", generate_api(self.out, driver=path).stderr)
        path = self.manifest('table cuInit (mode: "never", override: "client", proto: "x") {}')
        self.assertIn("mode of cuInit", generate_api(self.out, driver=path).stderr)

    def test_stubs_are_exactly_what_is_not_implemented(self):
        path = self.entry("cuMemcpyHtoD_v2", "CUresult cuMemcpyHtoD_v2(CUdeviceptr d, const void *s, size_t n)",
                          ', pair: "ptds"')
        self.assertEqual(generate_api(self.out, driver=path).returncode, 0)
        stubs = set(re.findall(r"^AVEC_STUB\((\w+), ", (self.out / "driver_stubs.cc").read_text(), re.M))
        exports = set(re.findall(r"^    (\w+);", (self.out / "driver_exports.map").read_text(), re.M))
        generated = {name for path in support.WIRE for name in re.findall(r'api: "(\w+)"', path.read_text())}
        self.assertEqual(exports - stubs - generated, {"cuMemcpyHtoD_v2", "cuMemcpyHtoD_v2_ptds"})
        self.assertTrue({"cuMemcpyHtoD", "cuMemcpyHtoDAsync_v2_ptsz", "cuGraphLaunch"} <= stubs)

    def test_what_is_not_supported_says_why(self):
        path = self.out / "unsupported.fbs"
        path.write_text(HEAD + 'enum Far : ubyte (unsupported: "too far away") { cuIpcGetMemHandle, cudaMemcpyToArray }\n')
        done = generate_api(self.out, driver=self.manifest(""), runtime=self.manifest(""), unsupported=path)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn('AVEC_STUB(cuIpcGetMemHandle, "too far away")', (self.out / "driver_stubs.cc").read_text())
        self.assertIn('AVEC_STUB(cudaMemcpyToArray_ptds, "too far away")', (self.out / "runtime_stubs.cc").read_text())
        matrix = (self.out / "cuda-support.md").read_text()
        self.assertIn("| too far away | `cuIpcGetMemHandle` |", matrix)
        self.assertIn("| too far away | `cudaMemcpyToArray` |", matrix)

    def test_a_reason_is_for_a_function_that_exists_and_does_not_work(self):
        path = self.out / "unsupported.fbs"
        path.write_text(HEAD + 'enum Far : ubyte (unsupported: "far") { cuFly }\n')
        self.assertIn("cuFly is no name of a CUDA library", generate_api(self.out, unsupported=path).stderr)
        path.write_text(HEAD + 'enum Far : ubyte (unsupported: "far") { cuInit }\n')
        self.assertIn("cuInit is implemented", generate_api(self.out, unsupported=path).stderr)
        path.write_text(HEAD + 'enum Far : ubyte { cuIpcGetMemHandle }\n')
        self.assertIn("Far has no reason", generate_api(self.out, unsupported=path).stderr)

    def test_export_lists_are_nvidias(self):
        self.assertEqual(generate_api(self.out).returncode, 0)
        text = (self.out / "runtime_exports.map").read_text()
        self.assertIn("libcudart.so.13 {", text)
        arguments = dict(zip(support.toolkit_arguments()[::2], support.toolkit_arguments()[1::2]))
        names, node = cuda_headers.exported(arguments["--nm"], arguments["--cudart"])
        self.assertEqual(node, "libcudart.so.13")
        self.assertEqual(sorted(re.findall(r"^    (\w+);", text, re.M)), names)
        self.assertIn("\n{\n  global:", (self.out / "driver_exports.map").read_text())

    def test_versions_of_a_function_follow_the_toolkit(self):
        self.assertEqual(generate_api(self.out).returncode, 0)
        text = (self.out / "proc_address_table.cc").read_text()
        rows = re.findall(r'\{"(\w+)", (\d+), (true|false), reinterpret_cast<void\*>\(&(\w+)\)\}', text)
        rows = [(n, int(v), p == "true", s) for n, v, p, s in rows]
        self.assertEqual(rows, sorted(rows, key=lambda r: (r[0], r[2], r[1])))
        self.assertIn(("cuMemcpyHtoD", 2000, False, "cuMemcpyHtoD"), rows)
        self.assertIn(("cuMemcpyHtoD", 3020, False, "cuMemcpyHtoD_v2"), rows)
        self.assertIn(("cuMemcpyHtoD", 7000, True, "cuMemcpyHtoD_v2_ptds"), rows)
        self.assertEqual([r[3] for r in rows if r[0] == "cuCtxCreate"],
                         ["cuCtxCreate", "cuCtxCreate_v2", "cuCtxCreate_v3", "cuCtxCreate_v4"])
        self.assertEqual(len(rows), len({r[3] for r in rows}))

    def test_prototypes_are_normalised(self):
        parse = cuda_headers.parse_prototype
        one = parse("CUresult  cuX( const char * const*a, struct CUuuid_st *b,unsigned long long c )")
        two = parse("CUresult cuX(const char *const *names, CUuuid_st *, unsigned long long)")
        self.assertEqual(one.types, two.types)
        self.assertEqual(parse("CUresult cuX(void)").parameters, [])
        self.assertIsNone(parse("not a prototype"))

    def test_the_committed_matrix_is_current(self):
        if support.toolkit_arguments()[7] != "13000":
            self.skipTest("the matrix is kept for CUDA 13.0")
        self.assertEqual(generate_api(self.out).returncode, 0)
        committed = support.ROOT / "docs" / "cuda-support.md"
        self.assertTrue(committed.exists() and committed.read_text() == (self.out / "cuda-support.md").read_text(),
                        "docs/cuda-support.md is out of date: run cmake --build BUILD --target docs")

    def test_the_committed_list_of_libraries_is_current(self):
        every = libraries.Generator(libraries.read_all(support.APIS))
        committed = support.ROOT / "docs" / "cuda-libraries.md"
        self.assertTrue(committed.exists() and committed.read_text() == every.support(),
                        "docs/cuda-libraries.md is out of date: run cmake --build BUILD --target docs")

    def test_a_library_is_summed_up_by_how_its_functions_are_called(self):
        path = self.out / "foo.api"
        path.write_text('library foo = 60\nsoname libfoo.so.1\nstatus ok 0, not_initialized 1, alloc_failed 2, '
                        'invalid_value 3, execution_failed 4, not_supported 5\n'
                        'kind foo either\nposted fooRun(handle: object foo, x: device) = 1\nquery hidden fooInside(n: out i32[1]) = 2\n'
                        'local fooName\nalias fooGo = fooRun\nunsupported "too far away": fooFar\n')
        summary = libraries.summary(libraries.read(path))
        self.assertEqual((summary["done"], summary["total"]), (3, 4))
        self.assertEqual(summary["counts"], [2, 0, 0, 0, 1])
        self.assertEqual(summary["unsupported"], [("too far away", "`fooFar`", 1)])
        self.assertFalse(summary["cpu"])

    def test_every_function_is_implemented_or_explained(self):
        self.assertEqual(generate_api(self.out).returncode, 0)
        for library in ("driver", "runtime"):
            left = re.findall(r'^AVEC_STUB\((\w+), "docs/cuda-support.md"\)',
                              (self.out / f"{library}_stubs.cc").read_text(), re.M)
            self.assertEqual(left, [], f"schemas/{library}_api.fbs or schemas/unsupported.fbs lacks them")

    def test_every_entry_is_implemented_by_hand_once(self):
        for name in ("driver", "runtime"):
            names = re.findall(r"^table (\w+)", (SCHEMAS / f"{name}_api.fbs").read_text(), re.M)
            self.assertEqual(len(names), len(set(names)))


if __name__ == "__main__":
    unittest.main()
