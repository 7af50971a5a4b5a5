"""Reads schemas/libraries/*.api (docs/adding-a-call.md, "A function of a CUDA library")."""
import re
from dataclasses import dataclass, field

from library_checks import MAX_LIBRARY, OPTIONAL_STATUSES, STATUSES, ApiError, check, check_together

SCALARS = {  # C type of the shim and of the executor
    "i8": "std::int8_t", "u8": "std::uint8_t", "i16": "std::int16_t", "u16": "std::uint16_t", "i32": "std::int32_t",
    "u32": "std::uint32_t", "i64": "std::int64_t", "u64": "std::uint64_t", "f32": "float", "f64": "double",
    "c64": "Complex64", "c128": "Complex128",
}
SIZES = {"i8": 1, "u8": 1, "i16": 2, "u16": 2, "i32": 4, "u32": 4, "i64": 8, "u64": 8, "f32": 4, "f64": 8, "c64": 8,
         "c128": 16, "byte": 1, "device": 8}
KINDS_PER_LIBRARY = 256


@dataclass
class Parameter:
    name: str
    form: str             # value, device, stream, event, object, new, set, delete, scalar, result, in, out, inout, ...
    type: str = ""        # element or value type, or kind
    count: str = ""       # expression
    client_count: bool = False
    optional: bool = False
    owner: str = ""       # scalar, result: the parameter with the pointer mode


@dataclass
class Function:
    name: str
    mode: str
    number: int
    parameters: list
    flags: set = field(default_factory=set)
    check: str = ""
    note: str = ""
    calls: str = ""
    gives: int = 0
    line: int = 0


@dataclass
class Kind:
    name: str
    number: int
    form: str = "kPointer"
    bytes: int = 0
    streams: bool = False


class Library:
    def __init__(self, path):
        self.path = path
        self.stem = path.stem
        self.name, self.number, self.soname, self.cpu, self.version = "", 0, "", "", ""
        self.status, self.kinds, self.functions = {}, {}, []
        self.locals, self.aliases, self.unsupported = [], [], []
        # For messages: the line of `library`, and of each name that is no function's.
        self.line, self.local_lines, self.alias_lines, self.unsupported_lines = 0, [], [], []
        self.declared_kinds = []

    def kind(self, name):
        if name not in self.kinds:
            if self.number == 0:
                raise ApiError("the line `library NAME = N` comes first")
            if len(self.kinds) == KINDS_PER_LIBRARY:
                raise ApiError("too many kinds")
            self.kinds[name] = Kind(name, self.number * KINDS_PER_LIBRARY + len(self.kinds))
        return self.kinds[name]

    @property
    def exports(self):
        names = [f.name for f in self.functions if not hidden(f)] + self.locals + [a for a, _ in self.aliases]
        return sorted(set(names + [n for _, group in self.unsupported for n in group]))


def hidden(function):
    return "hidden" in function.flags or bool(function.calls)


def statements(path):
    """(line number, text): comments taken off, continued lines joined."""
    current, at = "", 0
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = re.sub(r'(^|\s)#[^"]*$', "", line).rstrip()
        if not text.strip():
            continue
        if text[0].isspace():
            current += " " + text.strip()
            continue
        if current:
            yield at, current
        current, at = text, number
    if current:
        yield at, current


def split_arguments(text):
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([") - (c in ")]")
        if c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    last = text[start:].strip()
    return parts + [last] if last else parts


def parse_parameter(library, text):
    match = re.fullmatch(r"(\w+)\s*:\s*(.+)", text)
    if not match:
        raise ApiError(f"a parameter is written `name: type`, not `{text}`")
    name, type_ = match[1], match[2].strip()
    words = type_.split()
    if type_ in SCALARS:
        return Parameter(name, "value", type_)
    if type_ in ("device", "stream", "event", "null"):
        return Parameter(name, type_)
    if type_ in ("string", "string?"):
        return Parameter(name, "string", optional=type_.endswith("?"))
    if words[0] == "struct" and len(words) == 2:
        return Parameter(name, "struct", words[1])
    match = re.fullmatch(r"scratch\s*\[(.*)\]", type_)
    if match:
        return Parameter(name, "scratch", count=match[1])
    if words[0] in ("object", "object?", "set", "new", "delete") and len(words) == 2:
        library.kind(words[1]) if "." not in words[1] else None
        return Parameter(name, words[0].rstrip("?"), words[1], optional=words[0].endswith("?"))
    match = re.fullmatch(r"(scalar|result)\s+(\w+)(?:\s*\[(.*)\])?\s+(\w+)", type_)
    if match:
        if match[2] not in SIZES:
            raise ApiError(f"unknown type `{match[2]}` of {match[1]} {name}")
        count = match[3] or "1"
        client = count.startswith("client ")
        return Parameter(name, match[1], match[2], count=count.removeprefix("client "), client_count=client, owner=match[4])
    match = re.fullmatch(r"(in|out|inout)(\?)?\s+((?:object\s+)?[\w.]+)\s*\[(client\s+)?(.*)\]", type_)
    if match:
        element = match[3].split()
        if element[0] == "object":
            library.kind(element[1]) if "." not in element[1] else None
        elif element[0] not in SIZES:
            raise ApiError(f"unknown element type `{element[0]}`")
        return Parameter(name, match[1], " ".join(element), count=match[5], client_count=bool(match[4]),
                         optional=bool(match[2]))
    raise ApiError(f"unknown type `{type_}` of parameter {name}")


FLAG = r"(?:may_block|hidden|work|grouped|check\s+\w+|note\s+\w+|calls\s+\w+|gives\s+\d+)"
FUNCTION = re.compile(rf"((?:{FLAG}\s+)*)(posted|sync|query|learned)((?:\s+{FLAG})*)\s+(\w+)\s*\((.*)\)\s*=\s*(\d+)")


def parse_library(library, rest):
    match = re.fullmatch(r"(\w+)\s*=\s*(\d+)", rest)
    if not match:
        raise ApiError("written as: library NAME = N")
    if library.number:
        raise ApiError("a second line `library`")
    if not 1 <= int(match[2]) <= MAX_LIBRARY:
        raise ApiError(f"a library's number is 1 to {MAX_LIBRARY}, not {match[2]}")
    library.name, library.number = match[1], int(match[2])


def parse_kind(library, rest):
    match = re.fullmatch(r"(\w+)\s+(?:(int|either)|(caller)\s+(\d+))", rest)
    if not match:
        raise ApiError("written as: kind KIND int, kind KIND caller BYTES or kind KIND either")
    kind = library.kind(match[1])
    kind.form = {"int": "kInt", "caller": "kCaller", "either": "kEither"}[match[2] or match[3]]
    kind.bytes = int(match[4] or 0)
    library.declared_kinds.append(kind.name)


def parse_status(library, rest):
    for part in split_arguments(rest):
        match = re.fullmatch(r"(\w+)\s+(-?\d+)", part)
        if not match or match[1] not in STATUSES + OPTIONAL_STATUSES:
            raise ApiError(f"a status is written NAME VALUE, its name one of {', '.join(STATUSES + OPTIONAL_STATUSES)}; not `{part}`")
        library.status[match[1]] = int(match[2])


def parse_alias(library, rest, line):
    match = re.fullmatch(r"(\w+)\s*=\s*(\w+)", rest)
    if not match:
        raise ApiError("written as: alias NAME = OTHER")
    library.aliases.append((match[1], match[2]))
    library.alias_lines.append((match[1], match[2], line))


def parse_statement(library, text, line):
    word, _, rest = text.partition(" ")
    rest = rest.strip()
    if word == "library":
        parse_library(library, rest)
        library.line = line
    elif word in ("soname", "cpu", "version"):
        setattr(library, word, rest)
    elif word == "major":
        pass
    elif word == "status":
        parse_status(library, rest)
    elif word == "kind":
        parse_kind(library, rest)
    elif word == "local":
        library.locals += rest.split()
        library.local_lines += [(name, line) for name in rest.split()]
    elif word == "alias":
        parse_alias(library, rest, line)
    elif word == "unsupported":
        match = re.fullmatch(r'"([^"]*)"\s*:\s*(.*)', rest)
        if not match:
            raise ApiError('written as: unsupported "why": names')
        library.unsupported.append((match[1], match[2].split()))
        library.unsupported_lines += [(name, line) for name in match[2].split()]
    else:
        match = FUNCTION.fullmatch(text)
        if not match:
            raise ApiError("neither a function nor a setting: " + text[:80])
        flags = match[1].split() + match[3].split()
        parameters = [parse_parameter(library, p) for p in split_arguments(match[5])]
        function = Function(match[4], match[2], int(match[6]), parameters, line=line)
        for i, flag in enumerate(flags):
            if flag == "check":
                function.check = flags[i + 1]
            elif flag == "note":
                function.note = flags[i + 1]
            elif flag == "calls":
                function.calls = flags[i + 1]
            elif flag == "gives":
                function.gives = int(flags[i + 1])
            elif flag in ("may_block", "hidden", "work", "grouped"):
                function.flags.add(flag)
        library.functions.append(function)


def read(path):
    library = Library(path)
    for number, text in statements(path):
        try:
            parse_statement(library, text, number)
        except ApiError as error:
            raise ApiError(f"{path}:{number}: {error}") from error
    check(library)
    for function in library.functions:
        first = function.parameters[0] if function.parameters else None
        if first is not None and first.form in ("object", "set") and binds(function) and "." not in first.type:
            library.kind(first.type).streams = True
    return library


def binds(function):
    return "SetStream" in function.name and any(p.form == "stream" for p in function.parameters)


def read_all(paths):
    libraries = sorted((read(path) for path in paths), key=lambda library: library.number)
    check_together(libraries)
    return libraries
