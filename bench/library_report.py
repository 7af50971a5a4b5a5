#!/usr/bin/env python3
"""Makes the table of library measurements (PyTorch, OpenPose) in docs/benchmarks.md and README.md.

    library_report.py                             prints it, from the newest bench/results/*-libraries.json
    library_report.py --result RESULT.json        ... from this one
    library_report.py --write DOCUMENT.md ...     puts it between each document's markers

A result is a JSON array of objects: `date`, `hardware`, `what`, `unit`, `native` (median), perhaps
`native_best`, and a median for each way it was measured (`tcp_adaptive`, `shm_adaptive`, `tcp_spin` ...).
"""
import argparse
import json
import pathlib
import sys

BEGIN, END = "<!-- libraries: begin -->", "<!-- libraries: end -->"
RESULTS = pathlib.Path(__file__).resolve().parent / "results"

# What was measured: title, what is wanted over TCP in words, the longest time that keeps it.
FIGURES = {
    "openpose.coco": ("OpenPose COCO, 656 x 368, forward", "at most 1.05 of native", lambda native: 1.05 * native),
    "openpose.body_25": ("OpenPose BODY_25, forward", "at most 1.05 of native", lambda native: 1.05 * native),
    "torch.resnet50": ("ResNet-50 in PyTorch, batch 1, image up, result down", "at most native", lambda native: native),
    "torch.gpt2_token": ("GPT-2 in PyTorch, each token", "0.95 of native's rate", lambda native: native / 0.95),
    "torch.bf16_4096_product": ("bf16 product 4096 x 4096 x 4096 in PyTorch", "0.99 of native's rate", lambda native: native / 0.99),
    "torch.first_kernel": ("First kernel of a PyTorch program", "native + 100 ms", lambda native: native + 100),
}
WAYS = {"tcp_adaptive": "TCP", "tcp_spin": "TCP, spinning", "shm_adaptive": "shared memory", "shm_spin": "shared memory, spinning"}


def number(value):
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def newest():
    found = sorted(RESULTS.glob("*-libraries.json"))
    if not found:
        sys.exit(f"no *-libraries.json in {RESULTS}")
    return found[-1]


def cell(row, way):
    """The median and its ratio to native; bold where what is wanted over TCP is not reached."""
    if row.get(way) is None:
        return ""
    text = f"{number(row[way])} ({row[way] / row['native']:.2f})"
    figure = FIGURES.get(row["what"])
    return f"**{text}**" if figure and way.startswith("tcp") and row[way] > figure[2](row["native"]) else text


def table(rows, source):
    ways = [way for way in WAYS if any(row.get(way) is not None for row in rows)]
    order = list(FIGURES)
    rows = sorted(rows, key=lambda row: order.index(row["what"]) if row["what"] in order else len(order))
    first = rows[0]
    lines = [f"{first['date']}, {first['hardware']}, client and executor on this machine, native in the same run. Medians, and how many "
             f"times native's in brackets; bold: not what is wanted over TCP. From `{source}`.", "",
             "| | native | " + " | ".join(WAYS[way] for way in ways) + " | wanted over TCP |", "|" + "---|" * (len(ways) + 3)]
    for row in rows:
        title, wanted, _ = FIGURES.get(row["what"], (row["what"], "", None))
        native = f"{number(row['native'])} {row['unit']}" + (f", best {number(row['native_best'])}" if "native_best" in row else "")
        lines.append(f"| {title} | {native} | " + " | ".join(cell(row, way) for way in ways) + f" | {wanted} |")
    return "\n".join(lines)


def written(document, text):
    """The document's text with the table between its markers."""
    old = document.read_text()
    if old.count(BEGIN) != 1 or old.count(END) != 1:
        sys.exit(f"{document} needs one line {BEGIN} and one line {END}")
    head, rest = old.split(BEGIN)
    return f"{head}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--result", type=pathlib.Path)
    parser.add_argument("--write", type=pathlib.Path, nargs="+", metavar="DOCUMENT", default=[])
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 when a document is not up to date")
    wishes = parser.parse_args()
    result = (wishes.result or newest()).resolve()
    source = result.relative_to(RESULTS.parents[1]) if result.is_relative_to(RESULTS.parents[1]) else result
    text = table(json.loads(result.read_text()), source)
    if not wishes.write:
        print(text)
    for document in wishes.write:
        new = written(document, text)
        if new == document.read_text():
            continue
        if wishes.check:
            sys.exit(f"{document} is out of date: run cmake --build BUILD --target docs")
        document.write_text(new)


if __name__ == "__main__":
    main()
