#!/usr/bin/env python3
"""A first draft of schemas/libraries/<library>.api from a library's headers, and the comparison of the two.

    import_library.py print   --include DIR --rules tools/gen/import/cudnn.rules --library libcudnn.so.9
    import_library.py compare --include DIR --rules ... --library ... --api schemas/libraries/cudnn.api
    import_library.py new     ... (as compare): prints only what the .api lacks, for the library's next release

A draft says what the C types say; whether a call is posted or asked, and how long arrays are, is for a person to
decide (`?` marks what could not be known). Rules, one a line:

    header cudnn.h                       included, in this order; `define X` before them
    library libcudnn.so.9                whose exported names count, when no --library is given: beside the headers
    prefix cudnn                         how the names of the API begin (a regular expression)
    object cudnnHandle_t cudnn           a type of handle, and what the .api calls it; `int` behind it: the handle is a C int
    struct ncclUniqueId 128              passed by value
    mode REGEX posted|sync|query|learned [flags]      of functions whose name matches; the first that matches
    param REGEX TEXT                     for parameters `function.parameter` that match; NAME: the parameter's
"""
import argparse
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field

from cuda_headers import HeaderError, parse_prototype, preprocess

VALUES = {
    "char": "i8", "signed char": "i8", "unsigned char": "u8", "int8_t": "i8", "uint8_t": "u8", "bool": "u8",
    "int": "i32", "int32_t": "i32", "unsigned": "u32", "unsigned int": "u32", "uint32_t": "u32",
    "long": "i64", "long long": "i64", "long long int": "i64", "int64_t": "i64", "ptrdiff_t": "i64",
    "unsigned long": "u64", "unsigned long long": "u64", "unsigned long long int": "u64", "uint64_t": "u64",
    "size_t": "u64", "float": "f32", "double": "f64", "cuComplex": "c64", "cuFloatComplex": "c64",
    "cuDoubleComplex": "c128", "short": "i16", "unsigned short": "u16", "uint16_t": "u16",
}
CLASSES = {"i8": "int1", "u8": "int1", "i16": "int2", "u16": "int2", "i32": "int4", "u32": "int4", "i64": "int8",
           "u64": "int8", "f32": "float4", "f64": "float8", "c64": "complex8", "c128": "complex16", "void": "void"}
STREAMS = {"cudaStream_t": "stream", "CUstream": "stream", "cudaEvent_t": "event", "CUevent": "event"}


@dataclass
class Rules:
    headers: list = field(default_factory=list)
    defines: list = field(default_factory=list)
    library: str = ""
    prefix: str = "cu"
    objects: dict = field(default_factory=dict)
    integers: set = field(default_factory=set)  # kinds whose handles are C ints
    structs: dict = field(default_factory=dict)
    modes: list = field(default_factory=list)
    params: list = field(default_factory=list)


def read_rules(path):
    rules = Rules()
    with open(path, encoding="utf-8") as text:
        for number, line in enumerate(text, 1):
            words = line.split("#")[0].split()
            if not words:
                continue
            word, rest = words[0], words[1:]
            if word == "header":
                rules.headers += rest
            elif word == "define":
                rules.defines += rest
            elif word == "library":
                rules.library = rest[0]
            elif word == "prefix":
                rules.prefix = rest[0]
            elif word == "object":
                rules.objects[rest[0]] = rest[1]
                if rest[2:] == ["int"]:
                    rules.integers.add(rest[1])
            elif word == "struct":
                rules.structs[rest[0]] = int(rest[1])
            elif word == "mode":
                rules.modes.append((re.compile(rest[0]), " ".join(rest[1:])))
            elif word == "param":
                rules.params.append((re.compile(rest[0]), " ".join(rest[1:])))
            else:
                raise HeaderError(f"{path}:{number}: what is `{word}`?")
    return rules


class Headers:
    """The prototypes and typedefs of a library's headers."""

    def __init__(self, rules, compiler, include):
        self.rules = rules
        text = preprocess(compiler, include, rules.headers, *rules.defines[:1])
        text = re.sub(r"__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)", " ", text)
        self.enums = set(re.findall(r"\btypedef\s+enum\s*\w*\s*\{[^}]*\}\s*(\w+)", text))
        self.enums |= set(re.findall(r"\benum\s+(\w+)\s*\{", text))
        self.pointers = set(re.findall(r"\btypedef\s+(?:const\s+)?(?:struct\s+)?\w+\s*\*\s*(\w+)\s*;", text))
        self.pointers |= set(re.findall(r"\btypedef\s+[\w\s*]+\(\s*\*\s*(\w+)\s*\)\s*\(", text))
        self.aliases = dict((new, " ".join(old.split())) for old, new in
                            re.findall(r"\btypedef\s+((?:(?:unsigned|signed|long|short|enum|struct)\s+)*\w+)\s+(\w+)\s*;", text))
        self.functions = {}
        entry = re.compile(r"([A-Za-z_]\w*(?:\s+\w+)*[\s*]+)(" + rules.prefix + r"\w+)\s*\(([^(){};]*)\)\s*;")
        for match in entry.finditer(text):
            if match[1].split()[0] in ("typedef", "return"):
                continue
            function = parse_prototype(f"{match[1]} cu_({match[3]});")
            function.name = match[2]
            self.functions.setdefault(function.name, function)
        if not self.functions:
            raise HeaderError(f"{', '.join(rules.headers)} declare no function named {rules.prefix}...")

    def value(self, name):
        """The .api's name of a type passed by value; "pointer" for one; None when unknown."""
        words = " ".join(w for w in name.split() if w not in ("const", "struct", "enum"))
        for _ in range(8):
            handle = words in self.rules.objects and self.rules.objects[words] not in self.rules.integers
            if handle or words in STREAMS or words in self.pointers:
                return "pointer"
            if words in VALUES:
                return VALUES[words]
            if words in self.rules.structs:
                return f"struct {self.rules.structs[words]}"
            if words in self.enums:
                return "i32"
            if words not in self.aliases:
                return None
            words = self.aliases[words].removeprefix("enum ").removeprefix("struct ")
        return None


def abi(headers, text):
    """What the calling convention sees of a C type."""
    if text.endswith("*"):
        return "pointer"
    if text == "void":
        return "void"
    value = headers.value(text)
    return CLASSES.get(value, value) if value else f"unknown {text}"


def element(headers, text):
    """The class of what a C pointer points to, or None for void and unknown types."""
    if not text.endswith("*"):
        return None
    inside = text[:-1].replace("const", " ").strip()
    found = abi(headers, inside) if inside != "void" else None
    return None if not found or found.startswith(("unknown", "void")) else found


def draft_parameter(headers, function, parameter, mode):
    """`name: type` for one parameter, as far as C says."""
    for pattern, text in headers.rules.params:
        if pattern.search(f"{function.name}.{parameter.name}"):
            return f"{parameter.name}: {text.replace('NAME', parameter.name)}"
    words = parameter.type.split()
    stars, constant = words.count("*"), "const" in words
    base = " ".join(w for w in words if w not in ("*", "const"))
    kind = headers.rules.objects.get(base)
    if kind and stars == 0:
        changes = {"Destroy": "delete", "Set": "set"}
        verb = next((v for k, v in changes.items() if k in function.name and parameter is function.parameters[0]), "object")
        return f"{parameter.name}: {verb} {kind}"
    if kind and stars == 1:
        return f"{parameter.name}: " + (f"new {kind}" if "Create" in function.name else f"out object {kind}[?]")
    if base in STREAMS and stars == 0:
        return f"{parameter.name}: {STREAMS[base]}"
    if stars == 0:
        return f"{parameter.name}: {headers.value(parameter.type) or '?'}"
    if base == "void" and stars == 1:
        return f"{parameter.name}: device"
    if base == "char" and stars == 1 and constant:
        return f"{parameter.name}: string"
    value = headers.value(base) if stars == 1 else "device"
    if value is None or value == "pointer":
        value = "byte"
    return f"{parameter.name}: " + (f"in {value}[?]" if constant and stars == 1 else f"out {value}[1]")


def draft(headers, function, number):
    mode = next((m for pattern, m in headers.rules.modes if pattern.search(function.name)), "sync")
    if mode == "local":
        return f"local {function.name}"
    inside = [draft_parameter(headers, function, p, mode) for p in function.parameters]
    return wrap(f"{mode} {function.name}(", inside, f") = {number}")


def wrap(head, parts, tail, width=130):
    """The call, with its parameters over as many lines as needed."""
    lines, line = [], head
    for index, part in enumerate(parts):
        part += ", " if index + 1 < len(parts) else tail
        if len(line) + len(part.rstrip()) > width:
            lines.append(line.rstrip())
            line = "    "
        line += part
    return "\n".join(lines + [line if parts else head + tail])


@dataclass
class Entry:
    name: str
    line: int
    mode: str
    flags: str
    parameters: list  # [(name, type)]; None of a local function, an alias or an unsupported one
    number: int = 0


def _split(text):
    """`text` at the commas outside of brackets."""
    parts, depth, part = [], 0, ""
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += char
    return [p.strip() for p in parts + [part] if p.strip()]


def read_api(path):
    """{name: Entry} of a .api file."""
    with open(path, encoding="utf-8") as text:
        lines = [(n, line.split("#")[0].rstrip()) for n, line in enumerate(text, 1)]
    joined = []
    for number, line in lines:
        if line[:1].isspace() and joined:
            joined[-1][1] += " " + line.strip()
        elif line:
            joined.append([number, line])
    entries = {}
    for number, line in joined:
        for entry in _entries(path, number, line):
            if entry.name in entries:
                raise HeaderError(f"{path}:{number}: {entry.name} is described twice")
            entries[entry.name] = entry
    return entries


def _entries(path, number, line):
    word = line.split()[0]
    if word == "local":
        return [Entry(name, number, word, "", None) for name in line.split()[1:]]
    if word == "alias":
        return [Entry(line.split()[1], number, word, "", None)]
    if word == "unsupported":
        return [Entry(name, number, word, "", None) for name in line.rpartition(":")[2].split()]
    match = re.fullmatch(r"(hidden\s+)?(posted|sync|query|learned)\s+((?:[\w ]+\s)?)(\w+)\s*\((.*)\)\s*=\s*(\d+)", line)
    if match:
        parameters = [tuple(x.strip() for x in p.split(":", 1)) for p in _split(match[5])]
        if any(len(p) != 2 for p in parameters):
            raise HeaderError(f"{path}:{number}: {match[4]}: a parameter is `name: type`")
        return [Entry(match[4], number, match[2], (match[1] or "") + match[3].strip(), parameters, int(match[6]))]
    if word in ("hidden", "posted", "sync", "query", "learned"):
        raise HeaderError(f"{path}:{number}: cannot read `{line[:60]}...`")
    return []


def api_abi(text, integers=frozenset()):
    """(class, class of the elements or None) of a parameter's type in a .api."""
    words = text.replace("?", " ").split()
    if words[0] in ("object", "set", "delete") and words[1] in integers:
        return "int4", None
    if words[0] in VALUES.values():
        return CLASSES[words[0]], None
    if words[0] == "struct":
        return text, None
    match = re.fullmatch(r"(?:in|out|inout)\s+(\w+)(?:\s+\w+)?\s*\[.*\]", text.replace("?", ""))
    kind = match[1] if match else words[1] if words[0] in ("scalar", "result") else ""
    return "pointer", CLASSES.get(kind, "pointer" if kind in ("object", "device") else None)


def difference(headers, entry, function):
    """Why an entry does not fit the prototype, or None."""
    if entry.parameters is None:
        return None
    if len(entry.parameters) != len(function.parameters):
        return f"{len(entry.parameters)} parameters, the header has {len(function.parameters)}"
    for (name, text), parameter in zip(entry.parameters, function.parameters):
        mine, elements = api_abi(text, headers.rules.integers)
        theirs, inside = abi(headers, parameter.type), element(headers, parameter.type)
        if mine != theirs:
            return f"{name}: `{text}` is {mine} to the calling convention; `{parameter.type}` of the header is {theirs}"
        if elements and inside and elements != inside:
            return f"{name}: elements of `{text}` are {elements}; of `{parameter.type}` they are {inside}"
        if parameter.name and parameter.name.lower() != name.lower():
            return f"{name}: the header calls this parameter {parameter.name}"
    return None


def exported(library):
    done = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=False)
    if done.returncode:
        raise HeaderError(f"nm cannot read {library}: {done.stderr.strip()}")
    fields = [line.split() for line in done.stdout.splitlines()]
    return {f[2].partition("@")[0] for f in fields if len(f) == 3 and f[1] in "TWi"}


def find_library(rules, include):
    """The library that belongs to the headers in `include`, or None."""
    root = os.path.dirname(os.path.abspath(include))
    for folder in ("lib64", "lib", "lib/x86_64-linux-gnu"):
        path = os.path.join(root, folder, rules.library)
        if rules.library and os.path.exists(path):
            return path
    return None


def compare(headers, names, entries, complete=True):
    """Lines that say where a .api does not fit the headers and the names that the library exports."""
    problems = []
    for name in sorted(names & set(headers.functions) - set(entries)) if complete else []:
        problems.append(f"{name} is exported and declared, and not described")
    for name in sorted(names - set(headers.functions) - set(entries)) if complete else []:
        problems.append(f"{name} is exported, in no header, and not described")
    numbers = {}
    for entry in entries.values():
        hidden = not {"hidden", "calls"}.isdisjoint(entry.flags.split())
        if entry.number and entry.number in numbers:
            problems.append(f"{entry.name} and {numbers[entry.number]} have the same number {entry.number}")
        numbers[entry.number] = entry.name
        if entry.name not in names and not hidden:
            problems.append(f"line {entry.line}: {entry.name} is not exported by the library")
        elif entry.name in headers.functions:
            why = difference(headers, entry, headers.functions[entry.name])
            problems += [f"line {entry.line}: {entry.name}: {why}"] if why else []
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("print", "new", "compare"))
    parser.add_argument("--compiler", default="cc")
    parser.add_argument("--include", default="/usr/local/cuda/include")
    parser.add_argument("--rules", required=True)
    parser.add_argument("--library")
    parser.add_argument("--api")
    options = parser.parse_args()
    rules = read_rules(options.rules)
    library = options.library or find_library(rules, options.include)
    if not library:
        raise HeaderError(f"no {rules.library or 'library'} beside {options.include}: give --library")
    headers = Headers(rules, options.compiler, options.include)
    names = {n for n in exported(library) if re.match(rules.prefix, n)}
    if options.command == "compare":
        problems = compare(headers, names, read_api(options.api))
        print("\n".join(problems) or f"{options.api}: {len(names)} functions fit")
        return 1 if problems else 0
    known = read_api(options.api) if options.command == "new" else {}
    number = max([e.number for e in known.values()] + [0])
    for name, function in headers.functions.items():
        if name in names and name not in known:
            number += 1
            print(draft(headers, function, number))
    for name in sorted(names - set(headers.functions) - set(known)):
        print(f"unsupported \"not part of the public interface\": {name}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (HeaderError, OSError) as error:
        sys.exit(f"import_library: {error}")
