#!/usr/bin/env python3
"""Runs conformance programs one of four ways and compares what each case prints with its .expected file.

    conformance.py --way cpu|cpu-avec|gpu|gpu-avec [--jobs N] [--write FOLDER] [--case NAME] PROGRAM...

cpu         our libcudart over the CPU device, nothing else of AVEC
cpu-avec    through AVEC to an executor with the CPU device
gpu         natively: NVIDIA's libcudart and driver
gpu-avec    through AVEC to an executor with this machine's GPU

A section of an .expected file begins with `== case`. Lines `-- not on WAY: reason` at its begin
say where the case has no meaning (WAY may also be avec: both ways through it). --write puts what was
printed into FOLDER/<program>.expected. A case that fails is named; exit status 1 when one did.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
WAYS = ("cpu", "cpu-avec", "gpu", "gpu-avec")
DEADLINE_S = 120
EXCEPTION = re.compile(r"-- not on ([a-z-]+): (.+)")


class Section:
    def __init__(self):
        self.lines = []
        self.not_on = {}

    def skipped(self, way):
        """The reason why the case is not run that way, or None."""
        for name, reason in self.not_on.items():
            if name == way or (name == "avec" and way.endswith("-avec")):
                return reason
        return None


def read_expected(path):
    sections = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("== "):
            section = sections.setdefault(line[3:], Section())
        elif not sections:
            raise SystemExit(f"{path}:{number}: a line before the first section")
        elif line.startswith("-- not on "):
            match = EXCEPTION.fullmatch(line)
            if not match or match[1] not in (*WAYS, "avec"):
                raise SystemExit(f"{path}:{number}: not understood: {line}")
            section.not_on[match[1]] = match[2]
        else:
            section.lines.append(line)
    return sections


class Runner:
    def __init__(self, way, build):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AVEC_", "CUDA_", "LD_"))}
        self.prefix = []
        if way == "cpu":
            kept["LD_LIBRARY_PATH"] = f"{build}/tests/cpu_direct:{build}/lib/avec"
        elif way == "gpu":
            home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
            kept["LD_LIBRARY_PATH"] = f"{home}/lib64:" + os.environ.get("LD_LIBRARY_PATH", "")
        else:
            device = {"cpu-avec": "cpu", "gpu-avec": "cuda"}[way]
            transport = os.environ.get("AVEC_TEST_TRANSPORT", "auto")
            self.prefix = [f"{build}/bin/avec", "run", "--local", "--device", device, "-e", transport + "://", "--"]
            if "LD_LIBRARY_PATH" in os.environ:
                kept["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        self.environment = kept

    def __call__(self, program, *words):
        """What the program printed on stdout, as lines; how it ended if not well."""
        try:
            done = subprocess.run([*self.prefix, str(program), *words], env=self.environment, text=True, errors="replace",
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=DEADLINE_S)
        except subprocess.TimeoutExpired as late:
            return (late.stdout or b"").decode(errors="replace").splitlines() + [f"-- no end within {DEADLINE_S} s"], ""
        lines = done.stdout.splitlines()
        status = done.returncode if done.returncode >= 0 else 128 - done.returncode
        if status != 0:
            lines.append(f"-- exit status {status}")
        return lines, done.stderr


def report(name, expected, printed, errors):
    print(f"FAILED {name}")
    for number in range(max(len(expected), len(printed))):
        wanted = expected[number] if number < len(expected) else "(nothing)"
        got = printed[number] if number < len(printed) else "(nothing)"
        if wanted != got:
            print(f"    expected  {wanted}\n    printed   {got}")
    for line in errors.splitlines()[:5]:
        print(f"    stderr    {line}")


def run_program(runner, way, program, arguments, pool):
    """Runs a program's cases; returns how many passed, failed and were skipped."""
    listed, errors = runner(program, "--list")
    path = HERE / f"{program.name}.expected"
    expected = read_expected(path) if path.exists() else {}
    if listed and listed[-1].startswith("-- "):
        print(f"FAILED {program.name} --list: {errors.strip()}")
        return 0, 1, 0
    names = [name for name in listed if arguments.case in (None, name)]
    skipped = [n for n in names if n in expected and expected[n].skipped(way)]
    results = {n: pool.submit(runner, program, n) for n in names if n not in skipped}
    failed, written = 0, []
    for name, result in results.items():
        lines, errors = result.result()
        written += [f"== {name}", *lines]
        wanted = expected[name].lines if name in expected else ["(no section in the .expected file)"]
        if lines != wanted:
            failed += 1
            report(f"{program.name} {name}", wanted, lines, errors)
    if arguments.case is None:
        for name in expected.keys() - set(names):
            failed += 1
            print(f"FAILED {program.name} {name}: expected, but the program has no such case")
    if arguments.write:
        arguments.write.mkdir(parents=True, exist_ok=True)
        (arguments.write / path.name).write_text("\n".join(written) + "\n")
    return len(results) - failed, failed, len(skipped)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=WAYS, required=True)
    parser.add_argument("--build", type=pathlib.Path, default=os.environ.get("AVEC_BUILD", HERE.parents[1] / "build" / "release"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", type=pathlib.Path)
    parser.add_argument("--case")
    parser.add_argument("programs", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    runner = Runner(arguments.way, arguments.build.resolve())
    totals = [0, 0, 0]
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for program in arguments.programs:
            counts = run_program(runner, arguments.way, program.resolve(), arguments, pool)
            totals = [a + b for a, b in zip(totals, counts)]
    print(f"{arguments.way}: {totals[0]} passed, {totals[1]} failed, {totals[2]} not run that way")
    sys.exit(1 if totals[1] else 0)


if __name__ == "__main__":
    main()
