#!/usr/bin/env python3
"""Makes the CPU device's export list from the toolkit's headers.

    generate_exports.py --include DIR --compiler CC --out DIR

  exports.cc   _ptds and _ptsz forms and older versions with the same parameters: they forward
  missing.c    every other name: CUDA_ERROR_NOT_SUPPORTED
  names.inc    what cuGetProcAddress knows: base name, symbol, first version, per-thread form
  errors.inc   code and name of every CUresult
  exports.map  the linker's version script

All functions of exports.cc and missing.c are weak: a hand-written one of that name wins.
"""
import argparse
import pathlib
import re
import subprocess

EXTRA = ["avec_cpu_device_set_output"]


def preprocess(arguments, text, *flags):
    command = [arguments.compiler, "-E", "-x", "c", "-I", str(arguments.include), *flags, "-"]
    out = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    return " ".join(line for line in out.splitlines() if not line.startswith("#"))


def prototypes(text):
    """{name: [parameter]}; a later declaration of a name replaces an earlier one."""
    found = {}
    for name, parameters in re.findall(r"\bCUresult\s+(cu[A-Z]\w*)\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)\s*;", text):
        parameters = [re.sub(r"\s+", " ", p).strip() for p in parameters.split(",")]
        found.setdefault(name, [] if parameters in ([""], ["void"]) else parameters)
    return found


def name_of(parameter):
    return re.search(r"(\w+)\s*(\[\d*\])?$", parameter).group(1)


def type_of(parameter):
    return re.sub(r"(\w+)\s*(\[\d*\])?$", r"\2", parameter).replace(" ", "")


def base_of(symbol):
    return re.sub(r"(_v\d+)?(_ptds|_ptsz)?$", "", symbol)


def target_of(name, all_names):
    """What `name` forwards to: the plain form of a per-thread form, the newest version that has its parameters."""
    plain = re.sub(r"_pt[ds][sz]$", "", name)
    if plain != name:
        return plain if plain in all_names else None
    if re.search(r"_v\d+$", name):
        return None
    for version in (4, 3, 2):
        newer = f"{name}_v{version}"
        if newer in all_names and [type_of(p) for p in all_names[newer]] == [type_of(p) for p in all_names[name]]:
            return newer
    return None


def versions(include):
    """{(base, suffix): [version]} from the PFN_ types; suffix is '', '_ptds' or '_ptsz'."""
    found = {}
    for header in ("cudaTypedefs.h", "cudaProfilerTypedefs.h"):
        text = (include / header).read_text()
        for base, version, suffix in re.findall(r"\bPFN_(cu\w+?)_v(\d+)(_ptds|_ptsz)?\)", text):
            found.setdefault((base, suffix), set()).add(int(version))
    return {key: sorted(value) for key, value in found.items()}


def order(symbol):
    match = re.search(r"_v(\d+)", symbol)
    return int(match.group(1)) if match else 1


def name_rows(names, include):
    known = versions(include)
    groups = {}
    for symbol in names:
        suffix = symbol[-5:] if symbol.endswith(("_ptds", "_ptsz")) else ""
        groups.setdefault((base_of(symbol), suffix), []).append(symbol)
    rows = []
    for (base, suffix), symbols in sorted(groups.items()):
        symbols.sort(key=order)
        since = known.get((base, suffix), [])
        for index, symbol in enumerate(symbols):
            # The newest symbols take the newest versions.
            place = index - len(symbols) + len(since)
            version = since[place] if 0 <= place < len(since) else (2000 if not since else since[0])
            rows.append((base, symbol, version, "true" if suffix else "false"))
    return rows


def main():
    parser = argparse.ArgumentParser()
    for option in ("--include", "--out"):
        parser.add_argument(option, type=pathlib.Path, required=True)
    parser.add_argument("--compiler", required=True)
    arguments = parser.parse_args()
    source = "#include <cuda.h>\n#include <cudaProfiler.h>\n"
    text = preprocess(arguments, source, "-D__CUDA_API_VERSION_INTERNAL")
    names = prototypes(text)
    names.update({k: v for k, v in prototypes(preprocess(arguments, source)).items() if k not in names})
    # Inline in the header, not a symbol of the library.
    names.pop("cuGetProcAddress_v2_ptsz", None)

    forwards, missing = [], []
    for name, parameters in sorted(names.items()):
        target = target_of(name, names)
        if target is None:
            missing.append(f"CUresult {name}() {{ return CUDA_ERROR_NOT_SUPPORTED; }}")
            continue
        scope = "  const avec::cpu::PerThreadDefault scope;\n" if re.search(r"_pt[ds][sz]$", name) else ""
        passed = ", ".join(name_of(p) for p in parameters)
        declared = ", ".join(names[target])
        forwards.append(f"CUresult {target}({declared});\n"
                        f"__attribute__((weak)) CUresult {name}({', '.join(parameters)}) {{\n"
                        f"{scope}  return {target}({passed});\n}}")
    undefines = "\n".join(f"#undef {base}" for base in sorted({base_of(n) for n in names}))
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    (out / "exports.cc").write_text(
        '#include <cuda.h>\n#include <cudaProfiler.h>\n#include "devices/cpu/device.h"\n' + undefines +
        '\nextern "C" {\n' + "\n".join(forwards) + "\n}\n")
    (out / "missing.c").write_text(
        "typedef int CUresult;\n#define CUDA_ERROR_NOT_SUPPORTED 801\n" +
        "\n".join("__attribute__((weak)) " + line for line in missing) + "\n")
    (out / "names.inc").write_text("".join(
        f'AVEC_NAME("{base}", {symbol}, {version}, {per_thread})\n'
        for base, symbol, version, per_thread in name_rows(names, arguments.include)))
    header = (arguments.include / "cuda.h").read_text()
    body = re.search(r"typedef enum cudaError_enum \{(.*?)\} CUresult;", header, re.S).group(1)
    (out / "errors.inc").write_text("".join(
        f"AVEC_ERROR({code}, {name})\n" for name, code in re.findall(r"^\s*(CUDA_\w+)\s*=\s*(\d+)", body, re.M)))
    (out / "exports.map").write_text(
        "{\n  global:\n" + "".join(f"    {name};\n" for name in sorted(names) + EXTRA) + "  local: *;\n};\n")


if __name__ == "__main__":
    main()
