"""Writes the C functions of functions.txt: one file per section, included by what implements it."""

import argparse
import pathlib
import re

TYPES = {"S": ("float", "float"), "D": ("double", "double"), "C": ("Complex", "float"),
         "Z": ("DoubleComplex", "double"), "H": ("Half", "float"), "B": ("Bfloat16", "float")}
LINE = re.compile(r"(\S+) (\w+) (\w+)(<\w+>)? ?\((.*)\)$")


def function(name, implementation, parameters, types, number):
    def put(text):
        return re.sub(r"\b[TRN]\b", lambda m: {"T": types[0], "R": types[1], "N": number}[m.group()], text)
    parameters = [put(p.strip()) for p in parameters.split(",")]
    arguments = ["handle"] + [p.split()[-1].lstrip("*") for p in parameters]
    return (f'extern "C" __attribute__((visibility("default"))) int {name}(Handle* handle, {", ".join(parameters)}) {{\n'
            f'  return {implementation}({", ".join(arguments)});\n}}\n')


def functions(line, wide):
    match = LINE.match(line)
    if match is None:
        raise SystemExit(f"functions.txt: cannot read: {line}")
    types, name, implementation, given, parameters = match.groups()
    for one in types.split(","):
        prefix, _, letter = one.partition("=")
        prefix = "" if prefix == "-" else prefix
        target = implementation + (given or (f"<{TYPES[letter or prefix][0]}>" if prefix else ""))
        pair = TYPES[letter or prefix] if prefix else ("void", "void")
        yield function(f"cublas{prefix}{name}", target, parameters, pair, "int")
        if wide:
            yield function(f"cublas{prefix}{name}_64", target, parameters, pair, "std::int64_t")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--functions", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    sections, name, wide = {}, None, True
    for line in arguments.functions.read_text().splitlines():
        if line.startswith("["):
            name, _, width = line.strip("[]").partition(" ")
            wide = width != "32"
        elif line and not line.startswith("#"):
            sections.setdefault(name, []).extend(functions(line, wide))
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, texts in sections.items():
        (arguments.out / f"cublas_{name}.inc").write_text("".join(texts))


if __name__ == "__main__":
    main()
