#!/usr/bin/env python3
"""Generates what the build needs from schemas/*.fbs and the CUDA Toolkit's headers.

    gen.py calls    calls.h, calls.cc: opcodes, traits, dispatch, verification;
                    simple_calls.cc, simple_handlers.h, simple_functions.h: functions made from one schema entry;
                    golden_frames.h, golden_frames.cc: a valid frame of each kind, for tests
    gen.py api      what the shims need of the CUDA Toolkit: stubs of functions that are not
                    implemented, export lists, cuGetProcAddress's table, cuda-support.md
    gen.py entries  prints the entries of driver_api.fbs or runtime_api.fbs for named functions
"""
import argparse
import pathlib
import sys
import textwrap

import jinja2

import api
import cuda_headers
import golden
import libraries
import schema
import simple

ROOT = pathlib.Path(__file__).resolve().parent


def environment():
    env = jinja2.Environment(loader=jinja2.FileSystemLoader(ROOT / "templates"), undefined=jinja2.StrictUndefined,
                             trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    env.filters["camel"] = lambda word: "k" + word.capitalize()
    env.filters["hex4"] = lambda value: f"{value:#06x}"
    env.filters["cpp"] = schema.cpp_name
    env.filters["boolean"] = lambda value: "true" if value else "false"
    return env


def render(out, name, template=None, **values):
    text = environment().get_template((template or name) + ".j2").render(**values)
    out.mkdir(parents=True, exist_ok=True)
    file = out / name
    # What did not change is not written: nothing that includes it is compiled again.
    if not file.exists() or file.read_text() != text:
        file.write_text(text)


def read_schemas(paths):
    return schema.parse([(path.name, path.read_text()) for path in paths])


def make_calls(arguments):
    parsed = read_schemas(arguments.schemas)
    calls = schema.calls(parsed)
    for name in ("calls.h", "calls.cc"):
        render(arguments.out, name, calls=calls, last=calls[-1].opcode)
    for name in ("simple_calls.cc", "simple_handlers.h", "simple_functions.h"):
        render(arguments.out, name, simple_calls=simple.simple_calls(calls), handles=simple.HANDLES)
    for name in ("golden_frames.h", "golden_frames.cc"):
        render(arguments.out, name, frames=golden.frames(parsed, calls))


class Toolkit:
    """What the build needs of a CUDA Toolkit."""

    def __init__(self, arguments):
        def read(headers, define=cuda_headers.INTERNAL):
            return cuda_headers.preprocess(arguments.compiler, arguments.cuda_include, headers, define)

        self.version = arguments.cuda_version
        self.driver = cuda_headers.functions(read(cuda_headers.DRIVER_HEADERS))
        self.runtime = cuda_headers.functions(read(cuda_headers.RUNTIME_HEADERS))
        self.driver_names = sorted(self.driver)
        self.runtime_names, self.runtime_node = cuda_headers.exported(arguments.nm, arguments.cudart)
        self.versions = cuda_headers.versions(self.driver_names, read(cuda_headers.TYPEDEF_HEADERS))


def support_part(title, entries, names, unsupported):
    """One library's section of cuda-support.md; variants of per-thread default streams do not count."""
    plain = {name for name in names if not (name[-5:] in ("_ptds", "_ptsz") and name[:-5] in names)}
    implemented = sorted(entries, key=lambda e: e.name)
    explained = [(group.reason, ", ".join(f"`{n}`" for n in group.of(plain))) for group in unsupported]
    left = plain - {e.name for e in entries} - {n for group in unsupported for n in group.names}
    missing = ", ".join(f"`{n}`" for n in sorted(left))
    return {"title": title, "implemented": implemented, "total": len(plain),
            "unsupported": sorted((reason, functions) for reason, functions in explained if functions),
            "missing": textwrap.wrap(missing, 110, break_long_words=False, break_on_hyphens=False)}


def make_api(arguments):
    toolkit = Toolkit(arguments)
    calls = schema.calls(read_schemas(arguments.schemas))
    manifests = [schema.parse([(path.name, path.read_text()) for path in (arguments.schemas[0], manifest)])
                 for manifest in (arguments.driver_manifest, arguments.runtime_manifest)]
    driver = api.from_manifest(manifests[0]) + api.from_calls(calls)
    runtime = api.from_manifest(manifests[1])
    api.check(driver, toolkit.driver, set(toolkit.driver_names), toolkit.version)
    api.check(runtime, toolkit.runtime, set(toolkit.runtime_names), toolkit.version)

    unsupported = api.from_unsupported(schema.parse([(path.name, path.read_text()) for path in
                                                     (arguments.schemas[0], arguments.unsupported_manifest)]))
    reasons = api.reasons(unsupported, driver + runtime, set(toolkit.driver_names) | set(toolkit.runtime_names))

    def missing(names, entries):
        left = set(names) - {symbol for entry in entries for symbol in entry.symbols}
        return [(name, reasons.get(name, "")) for name in sorted(left)]

    out = arguments.out
    render(out, "driver_stubs.cc", "stubs.cc", library="libcuda.so.1", manifest="driver_api.fbs", runtime=False,
           names=missing(toolkit.driver_names, driver))
    render(out, "runtime_stubs.cc", "stubs.cc", library="libcudart.so.13", manifest="runtime_api.fbs", runtime=True,
           names=missing(toolkit.runtime_names, runtime))
    render(out, "driver_exports.map", "exports.map", library="libcuda.so.1", node="", names=toolkit.driver_names)
    render(out, "runtime_exports.map", "exports.map", library="libcudart.so.13", node=toolkit.runtime_node,
           names=toolkit.runtime_names)
    for name in ("proc_address_table.h", "proc_address_table.cc"):
        render(out, name, versions=toolkit.versions)
    render(out, "cuda-support.md", toolkit=f"{toolkit.version // 1000}.{toolkit.version % 1000 // 10}",
           parts=[support_part("Driver API", driver, toolkit.driver_names, unsupported),
                  support_part("Runtime API", runtime, toolkit.runtime_names, unsupported)],
           libraries=[libraries.summary(library) for library in libraries.read_all(arguments.libraries)],
           frameworks=arguments.frameworks.read_text())


def print_entries(arguments):
    toolkit = Toolkit(arguments)
    names, declared = {"driver": (toolkit.driver_names, toolkit.driver),
                       "runtime": (toolkit.runtime_names, toolkit.runtime)}[arguments.library]
    for name in arguments.names:
        pair = next((suffix for suffix in ("ptds", "ptsz") if f"{name}_{suffix}" in names), "")
        function = declared.get(name) or declared.get(f"{name}_{pair}")
        if function is None:
            raise cuda_headers.HeaderError(f"{name} is not in the CUDA headers")
        print(api.entry_text(cuda_headers.Function(name, function.result, function.parameters),
                             arguments.mode, pair, ""), end="")


def add_toolkit_arguments(command):
    command.add_argument("--compiler", default="c++")
    command.add_argument("--nm", default="nm")
    command.add_argument("--cuda-include", default="/usr/local/cuda/include")
    command.add_argument("--cuda-version", type=int, default=13000)
    command.add_argument("--cudart", default="/usr/local/cuda/lib64/libcudart.so")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("calls")
    command.set_defaults(run=make_calls)
    command.add_argument("--out", type=pathlib.Path, required=True)
    command.add_argument("schemas", type=pathlib.Path, nargs="+")
    command = commands.add_parser("api")
    command.set_defaults(run=make_api)
    add_toolkit_arguments(command)
    command.add_argument("--out", type=pathlib.Path, required=True)
    command.add_argument("--driver-manifest", type=pathlib.Path, required=True)
    command.add_argument("--runtime-manifest", type=pathlib.Path, required=True)
    command.add_argument("--unsupported-manifest", type=pathlib.Path, required=True)
    command.add_argument("--libraries", type=pathlib.Path, nargs="+", required=True, help="schemas/libraries/*.api")
    command.add_argument("--frameworks", type=pathlib.Path, required=True, help="part of cuda-support.md, by hand")
    command.add_argument("schemas", type=pathlib.Path, nargs="+", help="attributes.fbs first")
    command = commands.add_parser("entries")
    command.set_defaults(run=print_entries)
    add_toolkit_arguments(command)
    command.add_argument("--mode", choices=api.API_MODES, default="local")
    command.add_argument("library", choices=("driver", "runtime"))
    command.add_argument("names", nargs="+")
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except (schema.SchemaError, cuda_headers.HeaderError, libraries.ApiError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
