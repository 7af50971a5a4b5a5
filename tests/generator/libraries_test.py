"""Descriptions of CUDA libraries: what is refused, with file and line, and what the generator makes of the rest."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

import support
import libraries

HEAD = """library foo = 9
soname libfoo.so.1
status ok 0, not_initialized 1, alloc_failed 2, invalid_value 3, execution_failed 4, not_supported 5
posted fooCreate(handle: new handle) = 1
"""


def run(*descriptions):
    """libraries.py over files foo.api, bar.api ...; (exit status, stderr, the names of what it made)."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name, text in zip(("foo", "bar"), descriptions):
            files.append(pathlib.Path(folder) / f"{name}.api")
            files[-1].write_text(text)
        out = pathlib.Path(folder) / "out"
        done = subprocess.run([sys.executable, support.ROOT / "tools" / "gen" / "libraries.py", "--out", out, *files],
                              capture_output=True, text=True, timeout=60, check=False)
        made = {path.name: path.read_text() for path in out.glob("*")} if out.exists() else {}
    return done.returncode, done.stderr, made


class Descriptions(unittest.TestCase):
    def refused(self, text, line, *words, also=()):
        status, stderr, made = run(text, *also)
        self.assertNotIn("Traceback", stderr)
        self.assertNotEqual(status, 0, made.keys())
        for word in (f"foo.api:{line}:" if line else "foo.api", *words):
            self.assertIn(word, stderr)
        self.assertEqual(made, {})

    def refused_line(self, text, *words):
        """What is wrong is in the line behind HEAD."""
        self.refused(HEAD + text, 5, *words)

    def test_a_right_description_is_accepted(self):
        status, stderr, made = run(HEAD + "posted note note_it fooSet(handle: set handle, mode: i32) = 2\n"
                                   "sync gives 7 fooFind(handle: object handle, at: result i32 handle) = 3\n"
                                   "alias fooPut = fooSet\nkind other caller 64\nunsupported \"it is old\": fooOld\n")
        self.assertEqual((status, stderr), (0, ""))
        self.assertIn("if (call_.done()) note_it(handle, mode);", made["foo_shim.cc"])
        self.assertRegex(made["foo_shim.cc"], r'\{3, "fooFind", [^}]*, 7\}')

    def test_the_number_of_a_library_fits_its_tables(self):
        for number in (0, 64, 1000):
            self.refused(HEAD.replace("= 9", f"= {number}"), 1, "number is 1 to 63", str(number))
        self.assertEqual(run(HEAD.replace("= 9", "= 63"))[0], 0)
        self.refused(HEAD.replace("foo = 9", "foo"), 1, "library NAME = N")
        self.refused(HEAD.replace("foo = 9", "foo = nine"), 1, "library NAME = N")
        self.refused(HEAD + "library foo = 10\n", 5, "second")

    def test_two_libraries_have_two_numbers(self):
        status, stderr, _ = run(HEAD, HEAD.replace("foo", "bar"))
        self.assertNotEqual(status, 0)
        self.assertIn("number 9 is that of", stderr)

    def test_a_function_has_a_number_of_its_own_that_fits_the_wire(self):
        self.refused_line("sync fooTwo(handle: object handle) = 1\n", "number 1 is that of fooCreate")
        for number in (0, 65536):
            self.refused_line(f"sync fooTwo(handle: object handle) = {number}\n", "1 to 65535", str(number))

    def test_parameters_and_results_are_limited(self):
        def many(count, type_):
            return ", ".join(f"p{i}: {type_}" for i in range(count))
        self.refused_line(f"sync fooMany({many(64, 'i32')}) = 2\n", "fooMany", "64 parameters")
        self.refused_line(f"sync fooMany({many(17, 'out i32[1]')}) = 2\n", "fooMany", "16 results")
        self.assertEqual(run(HEAD + f"sync fooMany({many(63, 'i32')}) = 2\nsync fooResults({many(16, 'out i32[1]')}) = 3\n")[0], 0)
        self.refused_line("sync fooTwice(a: i32, a: i32) = 2\n", "two parameters are called a")

    def test_types_are_known(self):
        self.refused_line("sync fooRun(handle: object handle, mode: i31) = 2\n", "unknown type `i31`", "mode")
        self.refused_line("sync fooRun(handle: object handle, alpha: scalar f31 handle) = 2\n", "unknown type `f31`", "alpha")
        self.refused_line("sync fooRun(handle: object handle, alpha: result f31 handle) = 2\n", "unknown type `f31`", "alpha")
        self.refused_line("sync fooRun(sizes: in i31[2]) = 2\n", "unknown element type `i31`")

    def test_the_owner_of_a_scalar_is_an_object_among_the_parameters(self):
        self.refused_line("sync fooRun(handle: object handle, alpha: scalar f32 handel) = 2\n", "handel", "no parameter")
        self.refused_line("sync fooRun(handle: object handle, n: i32, alpha: scalar f32 n) = 2\n", "alpha", "no object")

    def test_a_mistyped_kind_is_no_new_one(self):
        for form in ("object", "object?", "set", "delete"):
            self.refused_line(f"sync fooRun(handle: {form} handel) = 2\n", "fooRun", "kind handel")
        self.refused_line("sync fooRun(handles: in object handel[2]) = 2\n", "fooRun", "kind handel")
        bar = HEAD.replace("foo", "bar").replace("= 9", "= 10")
        self.assertEqual(run(HEAD + "sync fooRun(handle: object bar.handle) = 2\n", bar)[0], 0)
        self.refused(HEAD + "sync fooRun(handle: object bar.handel) = 2\n", 5, "bar has no objects of kind handel", also=(bar,))
        self.refused(HEAD + "sync fooRun(handle: object baz.handle) = 2\n", 5, "no library baz", also=(bar,))

    def test_a_kind_has_a_form(self):
        for text in ("kind ctx", "kind ctx float", "kind ctx caller", "kind ctx caller many", "kind ctx int 8", "kind"):
            self.refused_line(text + "\n", "kind KIND int")

    def test_kinds_are_numbered_by_their_library(self):
        self.refused("kind ctx int\n" + HEAD, 1, "comes first")

    def test_a_name_stands_once(self):
        self.refused_line("sync fooCreate(n: i32) = 2\n", "fooCreate", "line 4")
        self.refused_line("unsupported \"it is old\": fooOld fooCreate\n", "fooCreate", "line 4")
        self.refused_line("local fooCreate\n", "fooCreate", "line 4")
        self.refused_line("alias fooCreate = fooCreate\n", "fooCreate", "line 4")
        self.refused_line("unsupported \"it is old\": fooOld fooOld\n", "fooOld", "line 5")

    def test_an_alias_is_of_something(self):
        self.refused_line("alias fooNew = fooCreat\n", "fooNew", "fooCreat")
        self.refused_line("alias fooNew\n", "alias NAME = OTHER")
        self.assertEqual(run(HEAD + "local fooVersion\nalias fooNew = fooCreate\nalias fooOther = fooVersion\n")[0], 0)

    def test_statuses_are_the_ones_that_are_used(self):
        self.refused(HEAD.replace("alloc_failed", "aloc_failed"), 3, "aloc_failed")
        self.refused(HEAD.replace("ok 0", "ok zero"), 3, "ok zero")
        self.refused(HEAD.replace(", not_supported 5", ""), None, "lacks not_supported")

    def test_what_is_no_statement_is_named(self):
        self.refused_line("posted fooRun(handle: object handle)\n", "neither a function nor a setting")
        self.refused_line("posted quickly fooRun(handle: object handle) = 2\n", "neither a function nor a setting")
        self.refused_line("posted fooRun(handle) = 2\n", "name: type")
        self.refused_line("unsupported fooOld\n", "unsupported \"why\": names")

    def test_the_shipped_descriptions_are_read(self):
        self.assertGreater(sum(len(library.functions) for library in libraries.read_all(support.APIS)), 1000)


if __name__ == "__main__":
    unittest.main()
