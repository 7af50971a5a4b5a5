"""Reads the CUDA Toolkit's headers and library: prototypes, versions, exported names.

The C preprocessor does what macros say (versioned names, per-thread default stream variants),
so that what is parsed here is plain C prototypes.
"""
import re
import subprocess
from collections import defaultdict
from dataclasses import dataclass

# Makes the headers declare every version of a function under the name it has in the library.
INTERNAL = "__CUDA_API_VERSION_INTERNAL"
DRIVER_HEADERS = ("cuda.h", "cudaProfiler.h")
RUNTIME_HEADERS = ("cuda_runtime_api.h", "cuda_profiler_api.h")
TYPEDEF_HEADERS = ("cudaTypedefs.h", "cudaProfilerTypedefs.h")

_PROTOTYPE = re.compile(r"\b(CUresult|cudaError_t|const\s+char\s*\*|(?:struct\s+)?cudaChannelFormatDesc)\s*"
                        r"(cu\w+)\s*\(([^(){};]*)\)\s*;")
# What a manifest may hold: internals of cudart too, which return other types.
_ENTRY = re.compile(r"([a-z]\w*(?:\s+\w+)*[\s*]+)((?:__)?cu\w+)\s*\(([^(){};]*)\)\s*;", re.IGNORECASE)
_TYPE_WORDS = {"void", "char", "short", "int", "long", "float", "double", "unsigned", "signed", "const"}


class HeaderError(Exception):
    """The toolkit does not hold what was expected, or a prototype differs."""


@dataclass
class Parameter:
    type: str  # normalised: "const char * *"
    name: str


@dataclass
class Function:
    name: str
    result: str
    parameters: list

    @property
    def prototype(self):
        """One line of C, as schemas write it."""
        inside = ", ".join(declare(p) for p in self.parameters) or "void"
        return f"{declare(Parameter(self.result, self.name))}({inside})"

    @property
    def types(self):
        return (self.result, [p.type for p in self.parameters])


def declare(parameter):
    """C for a parameter: "const char **name"."""
    text = re.sub(r" \*", "*", parameter.type)
    stars = len(text) - len(text.rstrip("*"))
    text = text.rstrip("*") + " " + "*" * stars
    return (text + parameter.name).strip()


def _tokens(text):
    words = re.findall(r"\w+|\*|\[\w*\]", text)
    return [w for w in words if w not in ("struct", "enum", "extern")]


def _parameter(text):
    words = _tokens(text)
    arrays = [w for w in words if w.startswith("[")]
    words = [w for w in words if not w.startswith("[")]
    name = ""
    # A lone word is a type; the last of several is the name, unless it is a word of a type.
    if len([w for w in words if w not in ("const", "*")]) > 1 and words[-1] not in _TYPE_WORDS and words[-1] != "*":
        name = words.pop()
    return Parameter(" ".join(words + ["*"] * len(arrays)), name)


def parse_prototype(text):
    """A Function from "CUresult cuFoo(int a, void *b)"; None when it is no prototype."""
    match = _ENTRY.fullmatch(" ".join(text.split()).rstrip(";") + ";")
    return _function(match) if match else None


def _function(match):
    result, name, inside = match.groups()
    parameters = [] if inside.strip() in ("", "void") else [_parameter(p) for p in inside.split(",")]
    return Function(name, " ".join(_tokens(result)), parameters)


def preprocess(compiler, include, headers, define=None):
    source = "".join(f"#include <{h}>\n" for h in headers)
    command = [compiler, "-E", "-P", "-x", "c", f"-I{include}"] + ([f"-D{define}"] if define else []) + ["-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HeaderError(f"cannot preprocess {', '.join(headers)}: {done.stderr.strip()}")
    return done.stdout


def functions(text):
    """{name: Function} of preprocessed text; the first declaration counts."""
    found = {}
    for match in _PROTOTYPE.finditer(text):
        function = _function(match)
        found.setdefault(function.name, function)
    if not found:
        raise HeaderError("the CUDA headers declare no function")
    return found


def split_name(symbol):
    """("cuMemcpyHtoD", 2, "ptds") of cuMemcpyHtoD_v2_ptds."""
    match = re.fullmatch(r"(\w+?)(?:_v([2-9]))?(?:_(ptds|ptsz))?", symbol)
    return match[1], int(match[2] or 1), match[3] or ""


def exported(nm, library):
    """(names, version node) of a shared library's functions."""
    done = subprocess.run([nm, "-D", "--defined-only", library], capture_output=True, text=True, check=False)
    if done.returncode:
        raise HeaderError(f"{nm} cannot read {library}: {done.stderr.strip()}")
    names, nodes = set(), set()
    for line in done.stdout.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[1] in "TW":
            name, _, node = fields[2].partition("@")
            names.add(name)
            nodes.add(node.lstrip("@"))
    if not names or len(nodes) != 1:
        raise HeaderError(f"{library}: expected names under one version node, found {len(names)} under {sorted(nodes)}")
    return sorted(names), nodes.pop()


@dataclass
class Version:
    name: str     # what cuGetProcAddress is asked for
    version: int  # CUDA version that brought it
    per_thread: bool
    symbol: str


def versions(symbols, typedefs):
    """The versions of each function: cudaTypedefs.h's PFN_<name>_v<version> in ascending order
    are the symbols name, name_v2, name_v3 ... in ascending order."""
    by_name, by_typedef = defaultdict(list), defaultdict(list)
    for symbol in symbols:
        base, number, suffix = split_name(symbol)
        by_name[base, bool(suffix)].append((number, symbol))
    for base, version, suffix in re.findall(r"\bPFN_(cu\w+?)_v(\d+)(_pt[ds][sz])?\s*\)", typedefs):
        by_typedef[base, bool(suffix)].append(int(version))
    table = []
    for key in sorted(set(by_name) | set(by_typedef)):
        found, known = sorted(by_name[key]), sorted(set(by_typedef[key]))
        if len(found) != len(known):
            raise HeaderError(f"{key[0]}: cuda.h declares {[s for _, s in found]}, cudaTypedefs.h has versions {known}")
        table += [Version(key[0], version, key[1], symbol) for version, (_, symbol) in zip(known, found)]
    return table
