#!/usr/bin/env python3
"""Generates what the build needs from schemas/*.fbs and the CUDA Toolkit's headers.

    gen.py calls --out DIR FILE.fbs...     calls.h, calls.cc: opcodes, traits, dispatch, verification
"""
import argparse
import pathlib
import sys

import jinja2

import schema

ROOT = pathlib.Path(__file__).resolve().parent


def environment():
    env = jinja2.Environment(loader=jinja2.FileSystemLoader(ROOT / "templates"), undefined=jinja2.StrictUndefined,
                             trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    env.filters["camel"] = lambda word: "k" + word.capitalize()
    env.filters["hex4"] = lambda value: f"{value:#06x}"
    env.filters["boolean"] = lambda value: "true" if value else "false"
    return env


def render(out, name, **values):
    text = environment().get_template(name + ".j2").render(**values)
    out.mkdir(parents=True, exist_ok=True)
    (out / name).write_text(text)


def read_schemas(paths):
    return schema.parse([(path.name, path.read_text()) for path in paths])


def make_calls(arguments):
    parsed = read_schemas(arguments.schemas)
    calls = schema.calls(parsed)
    for name in ("calls.h", "calls.cc"):
        render(arguments.out, name, calls=calls, last=calls[-1].opcode)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("calls")
    command.set_defaults(run=make_calls)
    command.add_argument("--out", type=pathlib.Path, required=True)
    command.add_argument("schemas", type=pathlib.Path, nargs="+")
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except schema.SchemaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
