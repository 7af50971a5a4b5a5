#!/usr/bin/env python3
"""Generates the shims of CUDA libraries and the executor's side from schemas/libraries/*.api.

    libraries.py --out DIR FILE.api...   for each library: DIR/<name>_shim.cc, <name>_exports.map,
                                         <name>_executor.cc; and library_descriptions.cc, cuda-libraries.md

What an .api file says is described in docs/adding-a-call.md, "A function of a CUDA library".
"""
import argparse
import pathlib
import re
import sys

from library_api import SCALARS, SIZES, ApiError, binds, hidden, read, read_all  # noqa: F401 (read: for who imports this)

MODES = {"posted": "kPosted", "sync": "kSync", "query": "kQuery", "learned": "kLearned"}


class Generator:
    def __init__(self, libraries):
        self.libraries = libraries
        self.by_name = {library.stem: library for library in libraries}

    def kind(self, library, name):
        if "." in name:
            owner, _, name = name.partition(".")
            library = self.by_name[owner]
        return library.kind(name)

    def kind_text(self, library, name):
        kind = self.kind(library, name)
        return f"{{{kind.number}, HandleForm::{kind.form}}}"

    def c_type(self, library, p):
        if p.form == "value":
            return SCALARS[p.type]
        if p.form == "struct":
            return f"Bytes<{p.type}>"
        if p.form in ("object", "set", "delete"):
            return "int" if self.kind(library, p.type).form == "kInt" else "const void*"
        if p.form == "string":
            return "const char*"
        if p.form in ("in", "scalar"):
            return f"const {SCALARS[p.type]}*" if p.type in SCALARS else "const void*"
        if p.form in ("out", "inout", "result"):
            return f"{SCALARS[p.type]}*" if p.type in SCALARS else "void*"
        return "void*"

    def work(self, library, f):
        if f.mode == "query" or binds(f):
            return False
        if "work" in f.flags or any(p.form == "stream" for p in f.parameters):
            return True
        streams = any(p.form in ("object", "set") and self.kind(library, p.type).streams for p in f.parameters)
        return streams and any(p.form in ("device", "scalar", "result") for p in f.parameters)

    def setter(self, library, f):
        """Done even while the program has not been told of an earlier failure: it changes or ends an object, no more."""
        if any(p.form == "new" for p in f.parameters):
            return False
        if binds(f) or any(p.form == "delete" for p in f.parameters):
            return True
        changes = any(p.form == "set" for p in f.parameters)
        sets = re.search("Set[A-Z]", f.name) is not None
        return changes and (sets or not self.work(library, f)) or sets and f.mode == "posted"

    # ---- client

    def client_argument(self, library, f, p):
        n = p.name
        element = p.type.split()
        size = SIZES.get(element[0] if element else "", 1)
        keyed = "" if p.type != "device" else ", false"
        if p.form == "value":
            if p.type in ("c64", "c128"):
                return f"call_.raw(&{n}, sizeof {n});"
            if p.type in ("f32", "f64"):
                # Numbers decide no status (an average's factor changes in each step), but may be part of a content.
                content = f.mode != "learned" or any(q.form in ("set", "new") for q in f.parameters)
                return f"call_.value({n}{'' if content else ', false'});"
            return f"call_.value(static_cast<std::uint64_t>({n}));"
        if p.form == "struct":
            return f"call_.raw(&{n}, sizeof {n});"
        if p.form in ("device", "event", "null"):
            return f"call_.{p.form}({n});"
        if p.form == "stream":
            return f"call_.stream({n}, {'true' if binds(f) else 'false'});"
        if p.form == "object":
            return f"call_.object({n}, {self.kind_text(library, p.type)}{', true' if p.optional else ''});"
        if p.form == "set":
            return f"call_.set({n}, {self.kind_text(library, p.type)});"
        if p.form == "delete":
            return f"call_.destroy({n}, {self.kind_text(library, p.type)});"
        if p.form == "new":
            return f"call_.create({n}, {self.kind_text(library, p.type)});"
        if p.form in ("scalar", "result"):
            owner = next(q for q in f.parameters if q.name == p.owner)
            call = "sized_scalar" if p.form == "scalar" and p.count != "1" else p.form
            return (f"call_.{call}({n}, libraries::host_bytes({p.count}, {size}), {p.owner}, "
                    f"{self.kind_text(library, owner.type)});")
        if p.form == "string":
            return f"call_.string({n}, {'true' if p.optional else 'false'});"
        if p.form == "scratch":
            return f"static_cast<void>({n});"
        if element[0] == "object":
            kind = self.kind_text(library, element[1])
            optional = f", {'true' if p.optional else 'false'}" if p.form == "in" else ""
            return f"call_.{p.form}_objects({n}, static_cast<std::uint64_t>({p.count}), {kind}{optional});"
        optional = "true" if p.optional else "false"
        if p.form == "out" and p.client_count:
            return f"call_.out_counted({n}, libraries::host_bytes({p.count}, {size}));"
        return f"call_.{p.form}({n}, libraries::host_bytes({p.count}, {size}), {optional}{keyed if p.form == 'in' else ''});"

    def shim(self, library):
        status = library.status
        lines = [f"// Generated by tools/gen/libraries.py from schemas/libraries/{library.stem}.api: {library.soname}.",
                 '#include "client/library_call.h"', "#include <cstdint>",
                 f'#if __has_include("libraries/{library.stem}.h")', f'#include "libraries/{library.stem}.h"', "#endif",
                 f'#if __has_include("intercept/libraries/{library.stem}.h")',
                 f'#include "intercept/libraries/{library.stem}.h"', "#endif", "",
                 "using namespace avec;", "using namespace avec::client;", "using namespace avec::libraries;", "",
                 "namespace {", "constexpr LibraryFunction kFunctions[] = {"]
        for f in library.functions:
            keyed = f.mode in ("query", "learned") or any(p.form in ("set", "new") for p in f.parameters)
            text = lambda value: "true" if value else "false"  # noqa: E731
            lines.append(f'    {{{f.number}, "{f.name}", LibraryMode::{MODES[f.mode]}, {text("may_block" in f.flags)}, '
                         f"{text(self.work(library, f))}, {text(keyed)}, {text(self.setter(library, f))}, "
                         f"{'LibraryFunction::kAlways' if 'hidden' in f.flags else f.gives}}},")
        if not library.functions:
            lines.append('    {0, "", LibraryMode::kPosted},')
        status.setdefault("invalid_handle", status["not_initialized"])
        values = ", ".join(str(status[k]) for k in ("ok", "not_initialized", "alloc_failed", "invalid_value",
                                                    "execution_failed", "not_supported", "invalid_handle"))
        lines += ["};", f'constexpr LibraryInfo kLibrary{{{library.number}, "{library.soname}", {{{values}}}, kFunctions, '
                  f"{len(library.functions)}}};", "}  // namespace", "", 'extern "C" {']
        for index, f in enumerate(library.functions):
            parameters = ", ".join(f"{self.c_type(library, p)} {p.name}" for p in f.parameters) or "void"
            attribute = '__attribute__((visibility("hidden"))) ' if hidden(f) else ""
            lines.append(f"{attribute}int {f.name}({parameters}) {{")
            lines.append(f"  LibraryCall call_(kLibrary, kFunctions[{index}]);")
            if f.check:
                names = ", ".join(p.name for p in f.parameters)
                lines.append(f"  call_.check({f.check}({names}));")
            for p in f.parameters:
                lines.append("  " + self.client_argument(library, f, p))
            if f.note:
                names = ", ".join(p.name for p in f.parameters)
                lines += ["  const int status_ = call_.run();", f"  if (call_.done()) {f.note}({names});", "  return status_;", "}"]
            else:
                lines += ["  return call_.run();", "}"]
        by_name = {f.name: f for f in library.functions}
        for alias, target in library.aliases:
            if target in by_name:
                f = by_name[target]
                parameters = ", ".join(f"{self.c_type(library, p)} {p.name}" for p in f.parameters) or "void"
                names = ", ".join(p.name for p in f.parameters)
                lines.append(f"int {alias}({parameters}) {{ return {target}({names}); }}")
            else:
                lines.append(f"void {alias}(void) __attribute__((alias(\"{target}\")));")
        for reason, names in library.unsupported:
            for name in names:
                lines.append(f'int {name}(void) {{ say_unsupported("{name}", "{reason}"); return {status["not_supported"]}; }}')
        return "\n".join(lines + ["}", ""])

    # ---- executor

    def executor_argument(self, library, p):
        """(declaration while decoding, what is done once every argument is known, expression passed)"""
        n = p.name
        element = p.type.split()
        size = SIZES.get(element[0] if element else "", 1)
        bytes_ = f"libraries::host_bytes({p.count}, {size})" if p.count else ""
        pointer = self.c_type(library, p)
        kind = lambda name: self.executor_kind(library, name)  # noqa: E731
        if p.form == "value":
            if p.type in ("c64", "c128"):
                return f"const auto {n} = arguments_.raw<{SCALARS[p.type]}>();", "", n
            return f"const auto {n} = arguments_.value<{SCALARS[p.type]}>();", "", n
        if p.form == "struct":
            return f"const auto {n} = arguments_.raw<Bytes<{p.type}>>();", "", n
        if p.form in ("device", "stream", "event"):
            return f"void* const {n} = arguments_.{p.form}();", "", n
        if p.form == "null":
            return "", "", "nullptr"
        if p.form in ("object", "set", "delete"):
            call = "destroy" if p.form == "delete" else "object"
            optional = ", true" if p.optional else ""
            if self.kind(library, p.type).form == "kInt":
                return f"const int {n} = arguments_.{call}_int({kind(p.type)}{optional});", "", n
            return f"void* const {n} = arguments_.{call}({kind(p.type)}{optional});", "", n
        if p.form == "new":
            return f"void* const {n} = arguments_.create({kind(p.type)});", "", n
        if p.form in ("scalar", "result"):
            # Its size may depend on arguments behind it.
            late = p.count != "1"
            cast = f"static_cast<{pointer}>"
            if late:
                take = "expect" if p.form == "scalar" else "out"
                if p.client_count:
                    bytes_ = f"{n}_sized.host.bytes"
                return (f"const auto {n}_sized = arguments_.sized_{p.form}();",
                        f"const auto {n} = {cast}(arguments_.{take}({n}_sized, {bytes_}));", n)
            return f"{pointer} const {n} = {cast}(arguments_.{p.form}({size}));", "", n
        if p.form == "string":
            return f"const char* const {n} = arguments_.string({'true' if p.optional else 'false'});", "", n
        if p.form == "scratch":
            # Memory that does not travel has no limit of the frame's.
            return "", f"void* const {n} = arguments_.scratch(static_cast<std::uint64_t>({p.count}));", n
        if element[0] == "object":
            way = "in" if p.form == "in" else "out"
            check = "" if p.client_count else f"arguments_.expect_count({n}_count, static_cast<std::uint64_t>({p.count}));"
            if p.optional and check:
                check = f"if ({n} != nullptr) {check}"
            return (f"std::uint64_t {n}_count; void* const {n} = arguments_.objects_{way}({kind(element[1])}, {n}_count);", check, n)
        optional = "true" if p.optional else "false"
        if p.form == "out":
            if p.client_count:
                return (f"const std::uint64_t {n}_bytes = arguments_.word();",
                        f"const auto {n} = static_cast<{pointer}>(arguments_.out({n}_bytes != 0, {n}_bytes, true));", n)
            return (f"const bool {n}_wanted = arguments_.wanted();",
                    f"const auto {n} = static_cast<{pointer}>(arguments_.out({n}_wanted, {bytes_}, {optional}));", n)
        take = "both" if p.form == "inout" else "expect"
        want = f"{n}_blob.bytes" if p.client_count else bytes_
        return (f"const auto {n}_blob = arguments_.in();",
                f"const auto {n} = static_cast<{pointer}>(arguments_.{take}({n}_blob, {want}, {optional}));", n)

    def executor_kind(self, library, name):
        kind = self.kind(library, name)
        return f"LibraryKind{{{kind.number}, HandleForm::{kind.form}, {kind.bytes}}}"

    def executor(self, library):
        lines = [f"// Generated by tools/gen/libraries.py from schemas/libraries/{library.stem}.api.",
                 '#include "executor/worker/libraries.h"',
                 f'#if __has_include("libraries/{library.stem}.h")', f'#include "libraries/{library.stem}.h"', "#endif", "",
                 "using namespace avec;", "using namespace avec::libraries;", "using namespace avec::worker;", ""]
        own = [f for f in library.functions if "hidden" in f.flags]
        if own:
            lines.append('extern "C" {')
            for f in own:
                types = ", ".join(self.native_type(library, p) for p in f.parameters) or "void"
                lines.append(f"int {f.name}({types});")
            lines.append("}")
        lines.append("namespace {")
        for f in library.functions:
            lines.append(f"int call_{f.name}(LibraryArguments& arguments_, void* address_) {{")
            late, passed, pointers = [], [], []
            for p in f.parameters:
                early, after, expression = self.executor_argument(library, p)
                if early:
                    lines.append("  " + early)
                if after:
                    late.append("  " + after)
                passed.append(expression)
                if expression != "nullptr":
                    pointers.append(expression)
            lines += late
            types = ", ".join(self.native_type(library, p) for p in f.parameters)
            lines.append("  return arguments_.invoke([=] { return reinterpret_cast<int (*)(" + types + ")>(address_)(" +
                         ", ".join(passed) + "); });")
            lines.append("}")
        lines += ["}  // namespace", "", "namespace avec::worker {",
                  f"extern const LibraryEntry k{library.stem}_entries[] = {{"]
        by_number = {f.number: f for f in library.functions}
        count = max(by_number, default=-1) + 1
        for number in range(count):
            f = by_number.get(number)
            if f is None:
                lines.append(f"    {{{number}, nullptr, nullptr, nullptr, nullptr}},")
            elif "hidden" in f.flags:
                lines.append(f'    {{{number}, "{f.name}", nullptr, &call_{f.name}, reinterpret_cast<void*>(&{f.name})}},')
            else:
                lines.append(f'    {{{number}, "{f.name}", "{f.calls or f.name}", &call_{f.name}, nullptr}},')
        if count == 0:
            lines.append("    {0, nullptr, nullptr, nullptr, nullptr},")
        lines += ["};", f"extern const std::size_t k{library.stem}_count = {count};", "}  // namespace avec::worker", ""]
        return "\n".join(lines)

    def native_type(self, library, p):
        if p.form in ("value", "struct"):
            return self.c_type(library, p)
        if p.form in ("object", "set", "delete") and self.kind(library, p.type).form == "kInt":
            return "int"
        return "const void*"

    def descriptions(self):
        lines = ["// Generated by tools/gen/libraries.py.", '#include "executor/worker/libraries.h"', "",
                 "namespace avec::worker {"]
        for library in self.libraries:
            lines += [f"extern const LibraryEntry k{library.stem}_entries[];", f"extern const std::size_t k{library.stem}_count;"]
        lines += ["", "const LibraryDescription* library_description(std::uint16_t number) {",
                  "  static const LibraryDescription all[] = {"]
        for library in self.libraries:
            cpu = f'"{library.cpu}"' if library.cpu else "nullptr"
            s = library.status
            lines.append(f'      {{{library.number}, "{library.name}", "{library.soname}", {cpu}, {s["ok"]}, {s["alloc_failed"]}, {s["invalid_value"]}, '
                         f'{s["not_supported"]}, k{library.stem}_entries, k{library.stem}_count}},')
        lines += ["  };", "  for (const LibraryDescription& one : all)", "    if (one.number == number) return &one;",
                  "  return nullptr;", "}", "", "}  // namespace avec::worker", ""]
        return "\n".join(lines)

    def support(self):
        """cuda-libraries.md: every function of every library."""
        lines = ["# CUDA libraries, function by function", "", "Generated from `schemas/libraries/`; refresh with "
                 "`cmake --build build/release --target docs`.", "What the words mean, and the sums: "
                 "[cuda-support.md](cuda-support.md), \"CUDA libraries\". What is not", "implemented stands at the end of "
                 "each library with its reason.", ""]
        for library in self.libraries:
            lines += [f"## {library.soname}", "", "| function | mode |", "|---|---|"]
            lines += [f"| `{name}` | {mode} |" for name, mode in modes(library)]
            if library.unsupported:
                lines += ["", "Not supported, and why:", "", "| reason | functions |", "|---|---|"]
            for reason, names in library.unsupported:
                lines.append(f"| {reason} | " + ", ".join(f"`{n}`" for n in sorted(names)) + " |")
            lines.append("")
        return "\n".join(lines)


WORDS = {"posted": "posted", "learned": "learned", "query": "remembered", "sync": "waits"}
SHOWN = 6  # names of a group in a summary


def modes(library):
    """(name, mode in words) of every exported function that is implemented, sorted."""
    by_name = {f.name: WORDS[f.mode] for f in library.functions if not hidden(f)}
    by_name |= {name: "client" for name in library.locals}
    for alias, target in library.aliases:
        by_name[alias] = by_name[target]
    return sorted(by_name.items())


def summary(library):
    """One library's part of cuda-support.md, for its template."""
    every = modes(library)
    groups = []
    for reason, names in library.unsupported:
        shown = sorted(names)[:SHOWN if len(names) > SHOWN + 2 else len(names)]
        more = len(names) - len(shown)
        groups.append((reason, ", ".join(f"`{n}`" for n in shown) + (f" and {more} more" if more else ""), len(names)))
    return {"soname": library.soname, "total": len(library.exports), "done": len(every),
            "counts": [sum(mode == word for _, mode in every) for word in (*WORDS.values(), "client")],
            "cpu": bool(library.cpu), "anchor": re.sub(r"[^a-z0-9-]", "", library.soname.lower()), "unsupported": groups}


def exports_map(library):
    node = library.version or ""
    names = "".join(f"    {name};\n" for name in library.exports)
    return f"/* Generated: the names that {library.soname} exports. */\n{node}{' ' if node else ''}{{\n  global:\n{names}  local:\n    *;\n}};\n"


def kinds_header(library):
    """The kinds for hand-written code of the client: kCublasCublas."""
    lines = [f"// Generated by tools/gen/libraries.py: the kinds of objects of {library.name}.", "#pragma once",
             '#include "client/library_call.h"', "namespace avec::libraries {"]
    for kind in library.kinds.values():
        lines.append(f"inline constexpr client::ObjectKind k{library.stem.capitalize()}{kind.name.capitalize()}"
                     f"{{{kind.number}, client::HandleForm::{kind.form}}};")
    return "\n".join(lines + ["}", ""])


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("files", type=pathlib.Path, nargs="+")
    arguments = parser.parse_args()
    try:
        libraries = read_all(arguments.files)
        generator = Generator(libraries)
        for library in libraries:
            write(arguments.out / f"{library.stem}_shim.cc", generator.shim(library))
            write(arguments.out / f"{library.stem}_executor.cc", generator.executor(library))
            write(arguments.out / f"{library.stem}_exports.map", exports_map(library))
            write(arguments.out / f"{library.stem}_kinds.h", kinds_header(library))
        write(arguments.out / "library_descriptions.cc", generator.descriptions())
        write(arguments.out / "cuda-libraries.md", generator.support())
    except ApiError as error:
        sys.exit(f"libraries.py: {error}")


if __name__ == "__main__":
    main()
