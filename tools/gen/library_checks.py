"""What must hold of the descriptions in schemas/libraries/*.api beyond their grammar, each with the line that breaks it."""

MAX_LIBRARY = 63        # client and executor keep tables by this number
MAX_FUNCTION = 0xFFFF   # an ushort on the wire
MAX_PARAMETERS = 63
MAX_OUTPUTS = 16        # LibraryCall::outputs_
STATUSES = ("ok", "not_initialized", "alloc_failed", "invalid_value", "execution_failed", "not_supported")
OPTIONAL_STATUSES = ("invalid_handle",)
USES = ("object", "set", "delete")


class ApiError(Exception):
    """An .api file that cannot be read: file, line, what is wrong."""


def fail(library, line, text):
    raise ApiError(f"{library.path}:{line}: {text}")


def element_kind(parameter):
    """The kind of object that a parameter takes or makes, or None."""
    if parameter.form in (*USES, "new"):
        return parameter.type
    return parameter.type.split()[1] if parameter.type.startswith("object ") else None


def makes(parameter):
    return parameter.form == "new" or parameter.form == "out" and parameter.type.startswith("object ")


def check_settings(library):
    missing = [name for name in STATUSES if name not in library.status]
    if not library.name or not library.soname or missing:
        raise ApiError(f"{library.path}: lacks {', '.join(missing) or ('soname' if library.name else 'library')}")


def check_names(library):
    """Every exported name stands once, whatever it is; aliases are of something."""
    seen = {}
    groups = [(f.name, f.line) for f in library.functions] + library.local_lines
    groups += [(alias, line) for alias, _, line in library.alias_lines] + library.unsupported_lines
    for name, line in sorted(groups, key=lambda one: one[1]):
        if name in seen:
            fail(library, line, f"{name} stands twice: it is in line {seen[name]} already")
        seen[name] = line
    there = {f.name for f in library.functions} | set(library.locals)
    for alias, target, line in library.alias_lines:
        if target not in there:
            fail(library, line, f"{alias} is an alias of {target}, which is neither a function nor local")


def check_function(library, function):
    where = f"{function.name}: "
    if not 1 <= function.number <= MAX_FUNCTION:
        fail(library, function.line, f"{where}its number is 1 to {MAX_FUNCTION}, not {function.number}")
    if len(function.parameters) > MAX_PARAMETERS:
        fail(library, function.line, f"{where}{len(function.parameters)} parameters; {MAX_PARAMETERS} are the most")
    if sum(p.form in ("out", "inout", "result") and not makes(p) for p in function.parameters) > MAX_OUTPUTS:
        fail(library, function.line, f"{where}more than {MAX_OUTPUTS} results in host memory")
    by_name = {}
    for parameter in function.parameters:
        if parameter.name in by_name:
            fail(library, function.line, f"{where}two parameters are called {parameter.name}")
        by_name[parameter.name] = parameter
    for parameter in function.parameters:
        if not parameter.owner:
            continue
        owner = by_name.get(parameter.owner)
        if owner is None or owner.form not in ("object", "set"):
            fail(library, function.line, f"{where}{parameter.name} lies where the pointer mode of {parameter.owner} says, which is "
                 + ("no parameter" if owner is None else "no object"))


def check_kinds(library):
    """A kind that nothing makes is one that was mistyped."""
    known = set(library.declared_kinds)
    known |= {element_kind(p) for f in library.functions for p in f.parameters if makes(p)}
    for function in library.functions:
        for parameter in function.parameters:
            kind = element_kind(parameter)
            if kind is not None and "." not in kind and kind not in known:
                fail(library, function.line, f"{function.name}: no function makes an object of kind {kind}, and no line declares it")


def check(library):
    """One description by itself."""
    check_settings(library)
    check_names(library)
    numbers = {}
    for function in library.functions:
        check_function(library, function)
        if function.number in numbers:
            fail(library, function.line, f"{function.name}: number {function.number} is that of {numbers[function.number]}")
        numbers[function.number] = function.name
    check_kinds(library)


def check_together(libraries):
    """What descriptions say of each other."""
    numbers, by_stem = {}, {library.stem: library for library in libraries}
    for library in libraries:
        if library.number in numbers:
            fail(library, library.line, f"number {library.number} is that of {numbers[library.number]}")
        numbers[library.number] = library.name
        for function in library.functions:
            for parameter in function.parameters:
                owner, dot, kind = (element_kind(parameter) or "").partition(".")
                if dot and owner not in by_stem:
                    fail(library, function.line, f"{function.name}: there is no library {owner}")
                if dot and kind not in by_stem[owner].kinds:
                    fail(library, function.line, f"{function.name}: {owner} has no objects of kind {kind}")
