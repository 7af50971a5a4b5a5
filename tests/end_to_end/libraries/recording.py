"""Libraries in C that record their calls, made from schemas/libraries/*.api; a program that calls every function.

    recording.py build FOLDER NAME...        makes FOLDER/<soname> of each library
    recording.py call LOG NAME               (through avec) calls each function, compares with what LOG got
"""
import ctypes
import os
import pathlib
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(SOURCE / "tools" / "gen"))
import libraries as generator  # noqa: E402

C_TYPES = {"i8": "signed char", "u8": "unsigned char", "i32": "int", "u32": "unsigned", "i64": "long",
           "u64": "unsigned long", "f32": "float", "f64": "double", "c64": "struct c64", "c128": "struct c128"}
HEAD = """#include <stdio.h>
#include <stdlib.h>
struct c64 { float x, y; };
struct c128 { double x, y; };
struct bytes { char c[128]; };
static void note(const char *line) { FILE *f = fopen(getenv("AVEC_TEST_LOG"), "a"); fputs(line, f); fclose(f); }
"""


def read(names):
    every = [generator.read(p) for p in sorted((SOURCE / "schemas" / "libraries").glob("*.api"))]
    return generator.Generator(every), [next(x for x in every if x.stem == n) for n in names]


def c_type(gen, library, p):
    if p.form == "value":
        return C_TYPES[p.type]
    if p.form == "struct":
        return "struct bytes"
    is_int = p.form in ("object", "set", "delete") and gen.kind(library, p.type).form == "kInt"
    return "int" if is_int else "void *"


def recorder(gen, library, i, p):
    """C that notes argument `i`, or gives what the function makes."""
    if p.form == "value" and p.type in ("c64", "c128"):
        return f'n += sprintf(b + n, " {i}:%g,%g", (double)a{i}.x, (double)a{i}.y);'
    if p.form == "value" and p.type in ("f32", "f64"):
        return f'n += sprintf(b + n, " {i}:%g", (double)a{i});'
    if p.form == "value":
        return f'n += sprintf(b + n, " {i}:%lld", (long long)a{i});'
    if p.form == "device":
        return f'n += sprintf(b + n, " {i}:%p", a{i});'
    form = gen.kind(library, p.type).form if p.form in ("new", "object", "set", "delete") else ""
    if p.form == "new":
        return {"kInt": f"*(int *)a{i} = 0x4242;", "kPointer": f"*(void **)a{i} = (void *)0x4242;"}.get(form, "")
    if form in ("kInt", "kPointer"):
        return f'n += sprintf(b + n, " {i}:name%lx", (unsigned long)a{i});'
    return ""


def build(folder, names):
    gen, chosen = read(names)
    for library in chosen:
        lines, seen = [HEAD], set()
        for f in library.functions:
            name = f.calls or f.name
            if "hidden" in f.flags or name in seen:
                continue
            seen.add(name)
            types = ", ".join(f"{c_type(gen, library, p)} a{i}" for i, p in enumerate(f.parameters)) or "void"
            inside = " ".join(recorder(gen, library, i, p) for i, p in enumerate(f.parameters))
            lines.append(f'int {name}({types}) {{ char b[4096]; int n = sprintf(b, "{name}"); {inside} '
                         'sprintf(b + n, "\\n"); note(b); return 0; }')
        subprocess.run(["cc", "-shared", "-fPIC", "-w", "-O0", "-x", "c", "-", "-o", str(pathlib.Path(folder) / library.soname)],
                       input="\n".join(lines), text=True, check=True)


class Complex64(ctypes.Structure):
    _fields_ = [("x", ctypes.c_float), ("y", ctypes.c_float)]


class Complex128(ctypes.Structure):
    _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_double)]


NUMBERS = {"i8": ctypes.c_byte, "u8": ctypes.c_ubyte, "i32": ctypes.c_int, "u32": ctypes.c_uint, "i64": ctypes.c_int64,
           "u64": ctypes.c_uint64, "f32": ctypes.c_float, "f64": ctypes.c_double}


class Caller:
    """Calls functions through avec with arguments that tell their places."""

    def __init__(self, gen, log):
        self.gen, self.log, self.objects, self.ended, self.kept = gen, log, {}, {}, []
        self.runtime = ctypes.CDLL("libcudart.so.13")
        self.memory = ctypes.c_void_p()
        assert self.runtime.cudaMalloc(ctypes.byref(self.memory), 1 << 16) == 0

    def lines(self):
        return pathlib.Path(self.log).read_text().splitlines() if os.path.exists(self.log) else []

    def number(self, f, i, p):
        if p.type in ("f32", "f64"):
            return NUMBERS[p.type](i + 0.5), f"{i}:{i + 0.5:g}"
        if p.type in ("c64", "c128"):
            return {"c64": Complex64, "c128": Complex128}[p.type](i, i + 0.5), f"{i}:{i},{i + 0.5:g}"
        # What checks and sizes of buffers accept.
        value = {"rank": 2, "mode": 0}.get(p.name, i + 1)
        value = 1 if "SetMat" in f.name and p.form == "value" and len(f.parameters) == 2 else value
        value = 4 if "ype" in p.name and "SetMat" not in f.name else value
        return NUMBERS[p.type](value), f"{i}:{value}"

    def buffer(self, size):
        self.kept.append(ctypes.create_string_buffer(size))
        return self.kept[-1]

    def call(self, library, loaded, f):
        """None, or what is wrong."""
        arguments, expected, made = [], [f.calls or f.name], []
        for i, p in enumerate(f.parameters):
            if p.form == "value":
                value, text = self.number(f, i, p)
                arguments.append(value)
                expected.append(text)
            elif p.form == "device":
                arguments.append(ctypes.c_void_p(self.memory.value + 256 * i))
                expected.append(f"{i}:{self.memory.value + 256 * i:#x}")
            elif p.form in ("stream", "event", "null"):
                arguments.append(ctypes.c_void_p(None))
            elif p.form in ("object", "set", "delete"):
                kind = self.gen.kind(library, p.type)
                if kind.number not in self.objects:
                    return f"no object of kind {p.type}"
                value = self.objects[kind.number]
                arguments.append(value)
                if kind.form != "kCaller":
                    expected.append(f"{i}:name4242")
            else:
                arguments.append(self.buffer(512 if p.form == "new" else 1 << 16))
                if p.form == "new":
                    made.append((self.gen.kind(library, p.type), arguments[-1]))
        before = len(self.lines())
        function = getattr(loaded, f.name)
        function.restype = ctypes.c_int
        status = function(*arguments)
        self.runtime.cudaDeviceSynchronize()
        for kind, out in made:
            pointer = {"kInt": ctypes.c_int, "kPointer": ctypes.c_void_p}.get(kind.form)
            self.objects[kind.number] = pointer.from_buffer_copy(out.raw[:8]) if pointer else out
        got = self.lines()[before:]
        for p in f.parameters:
            if p.form == "delete":
                number = self.gen.kind(library, p.type).number
                self.ended[number] = self.objects[number]
        wanted = " ".join(expected)
        return None if status == 0 and got == [wanted] else f"status {status}, sent `{wanted}`, the library got {got}"


    def refused(self, library, loaded, functions):
        """What is wrong with calls whose first argument is an object that has ended."""
        wrong = []
        for f in functions:
            p = f.parameters[0] if f.parameters else None
            if p is None or p.form not in ("object", "set") or any(q.form != "value" for q in f.parameters[1:]):
                continue
            number = self.gen.kind(library, p.type).number
            if number not in self.ended:
                continue
            before, values = len(self.lines()), [self.number(f, i, q)[0] for i, q in enumerate(f.parameters) if i > 0]
            status = getattr(loaded, f.name)(self.ended[number], *values)
            self.runtime.cudaDeviceSynchronize()
            if status == 0 or len(self.lines()) != before:
                wrong.append(f"{f.name}: status {status} for an object that has ended")
            if f.name in ("cufftSetAutoAllocation", "cusparseSetPointerMode") and status != 1:
                wrong.append(f"{f.name}: status {status} for an object that has ended, not 1 as NVIDIA's")
        return wrong


def call(log, name):
    gen, chosen = read([name] + (["cusparse"] if name == "cusolver" else []))
    caller, wrong, right = Caller(gen, log), [], 0
    for library in reversed(chosen):
        loaded = ctypes.CDLL(library.soname)
        own = [f for f in library.functions if not f.calls and "hidden" not in f.flags]
        has = lambda f, form: any(p.form == form for p in f.parameters)  # noqa: E731
        order = [f for f in own if has(f, "new")]
        if library.stem == name:
            order += [f for f in own if not has(f, "new") and not has(f, "delete")] + [f for f in own if has(f, "delete")]
        for f in order:
            why = caller.call(library, loaded, f)
            right += why is None
            wrong += [f"{f.name}: {why}"] if why else []
        wrong += caller.refused(library, loaded, own)
    print("\n".join(wrong[:20]))
    print(f"{name}: {right} functions reached their library, {len(wrong)} did not")
    return 1 if wrong else 0


if __name__ == "__main__":
    if sys.argv[1] == "build":
        build(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(call(sys.argv[2], sys.argv[3]))
