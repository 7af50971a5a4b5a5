"""Programs that find CUDA in their own ways, through `avec run`: all of them get AVEC's libraries, and nothing is
said by the loader."""

import os
import pathlib
import shutil
import subprocess
import sys
import unittest

from support import BUILD, Case, clean_environment, program, run_avec, scratch_folder

OURS = BUILD / "lib" / "avec"
TOOLKIT = pathlib.Path(os.environ["AVEC_TOOLKIT_LIB"])
CC = os.environ["AVEC_CC"]

# Loads argv[1] and uses it as CUDA; prints the file that the functions came from.
LOADS = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
class Info(ctypes.Structure):
    _fields_ = [("file", ctypes.c_char_p), ("base", ctypes.c_void_p), ("name", ctypes.c_char_p), ("address", ctypes.c_void_p)]
def file_of(function):
    info = Info()
    assert ctypes.CDLL(None).dladdr(ctypes.cast(function, ctypes.c_void_p), ctypes.byref(info)) != 0
    return info.file.decode()
if "cudart" in sys.argv[1]:
    memory = ctypes.c_void_p()
    assert library.cudaMalloc(ctypes.byref(memory), ctypes.c_size_t(4)) == 0
    print(file_of(library.cudaMalloc))
else:
    assert library.cuInit(0) == 0
    print(file_of(library.cuInit))
"""


class Loader(Case):
    def check_load(self, asked, ours, *prefix, **environment):
        result = run_avec(*prefix, sys.executable, "-c", LOADS, str(asked), local=True, **environment)
        self.assert_succeeds(result)
        self.assertEqual(result.stdout.strip(), str(OURS / ours), result.stderr)
        self.assertNotIn("no version information", result.stderr)

    def test_a_bare_name_is_ours(self):
        for asked, ours in (("libcudart.so.13", "libcudart.so.13"), ("libcuda.so.1", "libcuda.so.1"),
                            ("libcudart.so", "libcudart.so"), ("libcuda.so", "libcuda.so")):
            with self.subTest(asked):
                self.check_load(asked, ours)

    def test_an_absolute_path_to_nvidia_s_is_ours(self):
        self.check_load(TOOLKIT / "libcudart.so.13", "libcudart.so.13")
        self.check_load("/nowhere/lib/libcuda.so.1", "libcuda.so.1")

    def test_a_full_version_is_ours(self):
        with scratch_folder() as folder:
            shutil.copy(TOOLKIT / "libcudart.so.13", folder / "libcudart.so.13.0.96")
            self.check_load(folder / "libcudart.so.13.0.96", "libcudart.so.13")

    def test_a_child_without_environment_finds_ours(self):
        self.check_load("libcudart.so.13", "libcudart.so.13", "env", "-i")

    def test_children_with_an_environment_of_their_own_find_ours(self):
        starts = f"""
import os, subprocess, sys
words = [sys.executable, "-c", sys.argv[1], {str(TOOLKIT / "libcudart.so.13")!r}]
subprocess.run(words, check=True, env={{"LD_LIBRARY_PATH": "/nowhere"}})
subprocess.run(words, check=True, env={{"LD_PRELOAD": ""}}, close_fds=False)
pid = os.posix_spawn(words[0], words, {{}})
assert os.waitpid(pid, 0)[1] == 0
if os.fork() == 0:
    os.execve(words[0], words, {{"A": "B"}})
assert os.wait()[1] == 0
"""
        result = run_avec(sys.executable, "-c", starts, LOADS, local=True)
        self.assert_succeeds(result)
        self.assertEqual(result.stdout.split(), [str(OURS / "libcudart.so.13")] * 4)

    def test_a_child_may_name_another_executor(self):
        shows = "import os, subprocess; subprocess.run(['env'], env={'AVEC_EXECUTOR': 'tcp://127.0.0.1:9'})"
        result = run_avec(sys.executable, "-c", shows, local=True)
        self.assertIn("AVEC_EXECUTOR=tcp://127.0.0.1:9\n", result.stdout)
        self.assertEqual(result.stdout.count("AVEC_EXECUTOR="), 1)
        self.assertIn("AVEC_TOKEN_FILE=", result.stdout)

    def test_libraries_found_by_rpath_or_runpath_are_ours(self):
        for name in ("linked_by_rpath", "linked_by_runpath"):
            with self.subTest(name):
                result = run_avec(program(name), local=True)
                self.assert_succeeds(result)
                self.assertEqual(result.stdout.splitlines(), [str(OURS / "libcudart.so.13"), "42"])
                self.assertEqual(result.stderr, "")

    def test_other_libraries_load_from_where_they_are(self):
        loads = "import ctypes; ctypes.CDLL('libm.so.6'); print([l.split()[-1] for l in open('/proc/self/maps') if 'avec' in l])"
        result = run_avec(sys.executable, "-c", loads, local=True)
        self.assert_succeeds(result)
        self.assertNotIn("libcuda", result.stdout)


    def test_a_program_that_looks_for_a_device_file_finds_one(self):
        looks = """
import os
for name in "nvidia0", "nvidiactl":
    print(os.path.exists("/dev/" + name), os.access("/dev/" + name, os.R_OK))
print(os.path.exists("/dev/nvidia999"), os.path.exists("/dev/avec-none"), os.path.isdir("/dev"))
"""
        result = run_avec(sys.executable, "-c", looks, local=True)
        self.assert_succeeds(result)
        self.assertEqual(result.stdout.splitlines(), ["True True", "True True", "False False True"])


class OtherVersions(Case):
    """CUDA 12's runtime, as far as the loader sees it."""

    def build(self, folder):
        library = folder / "libcudart.so.12"
        (folder / "cudart.c").write_text("int cudaMalloc(void**m, unsigned long n) { return 999; }\n"
                                         "int cudaMemcpy(void*a, const void*b, unsigned long n, int k) { return 999; }\n")
        subprocess.run([CC, "-shared", "-fPIC", "-o", library, folder / "cudart.c", "-Wl,-soname,libcudart.so.12"],
                       check=True, timeout=60)
        source = pathlib.Path(__file__).parent / "programs" / "linked_user.c"
        subprocess.run([CC, "-o", folder / "program", source, library, f"-Wl,-rpath,{folder}"], check=True, timeout=60)
        return folder / "program"

    def test_a_program_of_cuda_12_is_told_both_versions(self):
        with scratch_folder() as folder:
            built = self.build(folder)
            for there in (True, False):
                with self.subTest(library_is_there=there):
                    result = run_avec(built, local=True)
                    self.assertNotEqual(result.returncode, 0)
                    lines = [line for line in result.stderr.splitlines() if line.startswith("avec:")]
                    self.assertEqual(len(lines), 1, result.stderr)
                    self.assertIn("needs libcudart.so.12", lines[0])
                    self.assertIn("libcudart.so.13", lines[0])
                (folder / "libcudart.so.12").unlink(missing_ok=True)

    def test_a_program_that_only_looks_for_cuda_12_is_not_told(self):
        looks = "import ctypes\ntry: ctypes.CDLL('libcudart.so.12')\nexcept OSError: print('not there')"
        result = run_avec(sys.executable, "-c", looks, local=True)
        self.assert_succeeds(result)
        self.assertEqual((result.stdout, result.stderr), ("not there\n", ""))


class StaticRuntimes(Case):
    """What a library with cudart's functions in itself is told, by the names of functions that it has."""

    def lines(self, *inner):
        names = ("cudaGetDeviceProperties_v2", "cudaGetLastError", *inner)
        with scratch_folder() as folder:
            (folder / "library.c").write_text("".join(f"int {name}(void) {{ return 7; }}\n" for name in names))
            subprocess.run([CC, "-shared", "-fPIC", "-o", folder / "library.so", folder / "library.c"], check=True, timeout=60)
            loads = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).cudaGetLastError())"
            result = run_avec(sys.executable, "-c", loads, str(folder / "library.so"), local=True)
        self.assert_succeeds(result)
        self.assertEqual(result.stdout, "7\n")
        return result.stderr.splitlines()

    def test_one_of_cuda_12_is_named(self):
        lines = self.lines("libcudart_static_0123456789abcdef")
        self.assertEqual(len(lines), 1)
        self.assertIn("library.so carries the CUDA runtime of a toolkit before 13", lines[0])

    def test_functions_that_only_look_up_the_shared_one_are_left_alone(self):
        self.assertEqual(self.lines(), [])


class NvidiasLibraries(Case):
    def test_one_that_avec_does_not_have_is_named_when_it_is_called_and_not_before(self):
        # Links the runtime statically and has no symbol table, as NVIDIA's libraries have none.
        loads = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
sys.stderr.write("loaded\\n")
sys.stderr.flush()
sys.exit(library.use_cuda())
"""
        result = run_avec(sys.executable, "-c", loads, str(program("libstripped.so")), local=True)
        self.assertEqual(result.returncode, 1, result.stderr)
        lines = result.stderr.splitlines()
        self.assertEqual(lines[0], "loaded")
        self.assertEqual(len(lines), 2, result.stderr)
        self.assertRegex(lines[1], "^avec: .*libstripped.so needs private functions of NVIDIA's driver")


COMPILES = r"""
import ctypes, sys
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p
nvrtc = ctypes.CDLL(sys.argv[1])
nvrtc.nvrtcGetErrorString.restype = c_char_p
print(next(l.split()[-1] for l in open("/proc/self/maps") if "libnvrtc.so" in l))
def text(program, what):
    size = c_size_t()
    assert getattr(nvrtc, f"nvrtcGet{what}Size")(program, byref(size)) == 0
    buffer = ctypes.create_string_buffer(size.value)
    assert getattr(nvrtc, f"nvrtcGet{what}")(program, buffer) == 0
    return buffer.value.decode()
def create(source):
    program = c_void_p()
    header, name = (c_char_p * 1)(b"#define THREE 3\n"), (c_char_p * 1)(b"three.h")
    assert nvrtc.nvrtcCreateProgram(byref(program), source, b"test.cu", 1, header, name) == 0
    return program
options = (c_char_p * 2)(b"--gpu-architecture=compute_75", b"-DOFFSET=1")
program, lowered = create(b'#include "three.h"\ntemplate <class T> __global__ void scale(T* x) { *x = *x * THREE + OFFSET; }'), c_char_p()
assert nvrtc.nvrtcAddNameExpression(program, b"scale<int>") == 0
assert nvrtc.nvrtcGetLoweredName(program, b"scale<int>", byref(lowered)) == 9
assert nvrtc.nvrtcCompileProgram(program, 2, options) == 0, text(program, "ProgramLog")
assert nvrtc.nvrtcGetLoweredName(program, b"scale<int>", byref(lowered)) == 0
ptx = text(program, "PTX")
assert ".entry " + lowered.value.decode() in ptx and ".target sm_75" in ptx
driver, context, module, function, memory, value = (ctypes.CDLL("libcuda.so.1"), c_void_p(), c_void_p(), c_void_p(),
                                                    ctypes.c_uint64(), c_int(13))
assert driver.cuInit(0) == 0 and driver.cuDevicePrimaryCtxRetain(byref(context), 0) == 0 and driver.cuCtxSetCurrent(context) == 0
assert driver.cuModuleLoadData(byref(module), ptx.encode()) == 0
assert driver.cuModuleGetFunction(byref(function), module, lowered.value) == 0
assert driver.cuMemAlloc_v2(byref(memory), c_size_t(4)) == 0 and driver.cuMemcpyHtoD_v2(memory, byref(value), c_size_t(4)) == 0
arguments = (c_void_p * 1)(ctypes.cast(byref(memory), c_void_p))
assert driver.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, None, arguments, None) == 0
assert driver.cuMemcpyDtoH_v2(byref(value), memory, c_size_t(4)) == 0
print(value.value)
broken = create(b"__global__ void broken() { undeclared(); }")
status = nvrtc.nvrtcCompileProgram(broken, 2, options)
assert status == 6 and nvrtc.nvrtcGetErrorString(status) == b"NVRTC_ERROR_COMPILATION"
assert "undeclared" in text(broken, "ProgramLog")
size = c_size_t()
assert nvrtc.nvrtcGetPTXSize(c_void_p(8), byref(size)) == 4 if "fallback" in open("/proc/self/maps").read() else True
assert nvrtc.nvrtcDestroyProgram(byref(program)) == 0 and not program.value
major, minor, count = c_int(), c_int(), c_int()
assert nvrtc.nvrtcVersion(byref(major), byref(minor)) == 0 and major.value == 13
assert nvrtc.nvrtcGetNumSupportedArchs(byref(count)) == 0
archs = (c_int * count.value)()
assert nvrtc.nvrtcGetSupportedArchs(archs) == 0 and 75 in list(archs)
"""


class Nvrtc(Case):
    """Compiling needs no GPU: the client's library is taken, and the executor's where it has none."""

    def check(self, asked, expected):
        if not (TOOLKIT / "libnvrtc.so.13").exists():
            self.skipTest("no libnvrtc.so.13 in the toolkit")
        # NVIDIA's looks for its own parts where the loader does, and the toolkit's folder need not be known to that.
        own = str(TOOLKIT) if asked.parent == TOOLKIT else ""
        result = run_avec(sys.executable, "-c", COMPILES, str(asked), local=True, LD_LIBRARY_PATH=own)
        self.assert_succeeds(result)
        self.assertEqual(result.stderr, "")
        where, value = result.stdout.splitlines()
        self.assertEqual(value, "40")
        self.assertEqual(pathlib.Path(where).resolve(), expected.resolve())

    def test_the_client_s_own_is_taken(self):
        self.check(TOOLKIT / "libnvrtc.so.13", TOOLKIT / "libnvrtc.so.13")

    def test_the_executor_s_serves_a_client_without_one(self):
        self.check(OURS / "fallback" / "libnvrtc.so.13", OURS / "fallback" / "libnvrtc.so.13")

    def test_ours_is_found_where_no_other_is(self):
        with scratch_folder() as folder:
            shutil.copy(OURS / "libavec_audit.so", folder)
            (folder / "fallback").mkdir()
            (folder / "other").mkdir()
            (folder / "which.c").write_text("int which(void) { return WHICH; }\n")
            for number, place in enumerate(("fallback", "other"), 1):
                subprocess.run([CC, "-shared", "-fPIC", f"-DWHICH={number}", "-o", folder / place / "libnvavectest.so.1",
                                folder / "which.c"], check=True, timeout=60)
            loads = "import ctypes; print(ctypes.CDLL('libnvavectest.so.1').which())"
            for path, expected in (("", "1"), (folder / "other", "2")):
                result = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, timeout=60,
                                        env=clean_environment(LD_AUDIT=folder / "libavec_audit.so", LD_LIBRARY_PATH=path))
                self.assertEqual(result.stdout.strip(), expected, result.stderr)


LINKS = r"""
import ctypes, sys
from ctypes import byref, c_char_p, c_size_t, c_uint, c_void_p
library, inlined = ctypes.CDLL(sys.argv[1]), "inlined" in sys.argv
print(next(l.split()[-1] for l in open("/proc/self/maps") if "libnvJitLink.so" in l))
def function(name):  # as nvJitLink.h calls it, or by its plain name
    return getattr(library, f"__nvJitLink{name}_13_0" if inlined else f"nvJitLink{name}")
def create(*options):
    link = c_void_p()
    return link, function("Create")(byref(link), len(options), (c_char_p * len(options))(*options))
def part(link, what):
    size = c_size_t()
    status = function(f"Get{what}Size")(link, byref(size))
    if status != 0:
        return status
    buffer = ctypes.create_string_buffer(size.value)
    assert function(f"Get{what}")(link, buffer) == 0
    return buffer.raw
def kernel(name, bytes):
    return b".version 8.0\n.target sm_75\n.address_size 64\n.visible .entry %s(.param .u64 p) { .reg .b64 a; " \
        b"ld.param.u64 a, [p]; st.global.u32 [a], 7; ret; }\n%s\0" % (name, b"/" * 2 + b"." * bytes)
link, status = create(b"-arch=sm_75", b"-verbose")
print("created", status, part(link, "LinkedCubin"), part(link, "ErrorLog"))
one, two = kernel(b"one", 0), kernel(b"two", 7 << 20)
open(sys.argv[-1] + "/two.ptx", "wb").write(two)
print("added", function("AddData")(link, 2, one, c_size_t(len(one)), b"one.ptx"),
      function("AddFile")(link, 2, (sys.argv[-1] + "/two.ptx").encode()), function("AddFile")(link, 2, b"/nowhere/three.ptx"))
print("refused", function("AddData")(link, 1, b"no cubin", c_size_t(8), b"no.cubin"), function("AddData")(link, 2, None, c_size_t(0), None))
print(next(l for l in part(link, "ErrorLog").decode().splitlines() if "no.cubin" in l or "CUBIN" in l))
print("completed", function("Complete")(link))
cubin = part(link, "LinkedCubin")
assert cubin[:4] == b"\x7fELF" and b".text.one" in cubin and b".text.two" in cubin and len(cubin) > 4000
print("size", len(cubin), "ptx", part(link, "LinkedPtx"), [l for l in part(link, "InfoLog").decode().splitlines() if "entry function" in l])
print("ended", function("Destroy")(byref(link)), link.value, function("Destroy")(byref(link)), function("Complete")(None))
link, status = create(b"-arch=sm_75", b"-bogus")
print("bogus", status, part(link, "ErrorLog"))
print(create()[1], create(b"-arch=sm_52")[1])
if sys.argv[1].startswith("/") and "fallback" in sys.argv[1]:
    assert function("Complete")(c_void_p(64)) == 3  # natively a crash
major, minor = c_uint(), c_uint()
print("version", library.nvJitLinkVersion(byref(major), byref(minor)), major.value, minor.value)
"""


class JitLink(Case):
    """Linking needs no GPU either: both ways give the same statuses, logs and sizes as natively."""

    def check(self, asked, expected, *more):
        theirs = TOOLKIT / "libnvJitLink.so.13"
        if not theirs.exists():
            self.skipTest("no libnvJitLink.so.13 in the toolkit")
        with scratch_folder() as folder:
            result = run_avec(sys.executable, "-c", LINKS, str(asked), *more, str(folder), local=True, LD_LIBRARY_PATH="")
            self.assert_succeeds(result)
            native = subprocess.run([sys.executable, "-c", LINKS, str(theirs), *more, str(folder)], capture_output=True,
                                    text=True, timeout=60, env=clean_environment())
            self.assertEqual(native.returncode, 0, native.stderr)
        where, *lines = result.stdout.splitlines()
        self.assertEqual(pathlib.Path(where).resolve(), expected.resolve())
        self.assertEqual(lines, native.stdout.splitlines()[1:])

    def test_the_client_s_own_is_taken(self):
        self.check(TOOLKIT / "libnvJitLink.so.13", TOOLKIT / "libnvJitLink.so.13")

    def test_the_executor_s_serves_a_client_without_one(self):
        for more in ((), ("inlined",)):
            with self.subTest(more):
                self.check(OURS / "fallback" / "libnvJitLink.so.13", OURS / "fallback" / "libnvJitLink.so.13", *more)


if __name__ == "__main__":
    unittest.main()
