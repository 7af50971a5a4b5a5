#!/usr/bin/env python3
"""Makes the table of docs/benchmarks.md from a JSON result of avec_bench.

    report.py RESULT.jsonl ...                       prints a table for each
    report.py RESULT.jsonl ... --write DOCUMENT.md   puts them between the document's markers
"""
import argparse
import json
import pathlib
import sys

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
MIB = 1 << 20

# Figure, row of the result, its bytes, what is promised: (against what, limit) or None.
FIGURES = [
    ("Posted launch, cost to the caller", "launch.posted", 0, ("below", 400, "ns")),
    ("Posted launch, CPU of the client process", "launch.sender_cpu", 0, None),
    ("Launches, sustained, each", "launch.sustained", 0, ("native at most", 1.0, "")),
    ("Posted launch, to its arrival", "launch.departure", 0, ("departure", 50, "us")),
    ("Synchronous call", "ping.session", 0, ("ratio at most", 1.4, "")),
    ("Launch and synchronise", "launch.synchronise", 0, ("spinning below", 22, "us")),
    ("Copy in, 100 launches, copy out", "round.100_launches", 0, None),
    ("Round trips of that", "round.round_trips", 0, ("exactly", 1, "")),
    ("Copy of 4 B to the device", "copy.to_device", 4, None),
    ("Copy of 4 B from the device", "copy.from_device", 4, None),
    ("Copy of 1 MiB to the device", "copy.to_device", MIB, None),
    ("Copy of 1 MiB from the device", "copy.from_device", MIB, None),
    ("Copy of 256 MiB to the device", "copy.to_device", 256 * MIB, ("ratio at least", 0.85, "")),
    ("Copy of 256 MiB from the device", "copy.from_device", 256 * MIB, ("ratio at least", 0.85, "")),
    ("Opening a session", "open.session", 0, None),
    ("First kernel of a session", "open.first_kernel", 0, None),
    ("Idle session, client, of a core", "idle.client", 0, ("sleeping below", 0.5, "%")),
    ("Idle session, executor, of a core", "idle.executor", 0, ("sleeping below", 0.5, "%")),
]


def number(value):
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def amount(row):
    text = f"{number(row['median'])} {'' if row['unit'] == 'trips' else row['unit']}".strip()
    if row["bytes"] >= MIB:
        text += f" ({row['bytes'] / row['median'] / 1e3:.2f} GB/s)"
    return text


def judged(row, promise, raw_ping, machine):
    """What was promised, and whether it is kept. Some promises are for one way of waiting, or for a GPU."""
    if promise is None:
        return "", ""
    kind, limit, unit = promise
    spins = machine["wait"] == "spin"
    if kind == "spinning below":
        return judged(row, ("below", limit, unit), raw_ping, machine) if spins and machine["gpu"] else ("", "")
    if kind == "sleeping below":
        return ("", "") if spins else judged(row, ("below", limit, unit), raw_ping, machine)
    if kind == "native at most":
        if "native_ratio" not in row:
            return "", ""
        return "as fast as natively", "yes" if row["native_ratio"] <= limit else f"**no**, {row['native_ratio']:.2f} times"
    words = f"{kind} {limit} {unit}".strip()
    if kind == "below":
        kept = row["median"] < limit
    elif kind == "exactly":
        kept = row["median"] == limit
    elif kind == "departure":
        words = "below 50 us + half a ping-pong"
        kept = raw_ping is not None and row["median"] < limit + raw_ping["median"] / 2
    elif "ratio" not in row:
        return words, "not measured"
    else:
        kept = row["ratio"] <= limit if kind == "ratio at most" else row["ratio"] >= limit
    return words, "yes" if kept else "**no**"


def table(objects):
    machine = objects[0]
    rows = {(row["name"], row["target"], row["bytes"]): row for row in objects[1:]}
    ping = rows.get(("raw.ping", "raw", 0))
    stream = next((row for (name, _, _), row in rows.items() if name == "raw.stream"), None)
    device = machine["gpu"] or "CPU device"
    lines = [f"{machine['date'][:10]}, {machine['cores']} cores of {machine['cpu']}, Linux {machine['kernel']}, {device}, "
             f"client and executor on this machine, loopback TCP, `--wait {machine['wait']}`."]
    if machine["load"] > machine["cores"] / 4:
        lines.append(f"The machine was busy with other work (load {machine['load']:.1f} at the start): ratios count, times do not.")
    if ping and stream:
        lines.append(f"Yardsticks: 64-byte ping-pong {number(ping['median'])} us (p99 {number(ping['p99'])}), "
                     f"stream {stream['bytes'] / stream['median'] / 1e3:.2f} GB/s.")
    lines += ["", "| figure | median | p99 | ratio to the yardstick | native | promised | kept |", "|---|---|---|---|---|---|---|"]
    for title, name, size, promise in FIGURES:
        row = rows.get((name, "avec", size))
        if row is None:
            continue
        native = rows.get((name, "native", size))
        words, kept = judged(row, promise, ping, machine)
        ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
        p99 = number(row["p99"]) if row["n"] > 1 and row["unit"] != "trips" else ""
        lines.append(f"| {title} | {amount(row)} | {p99} | {ratio} | {amount(native) if native else ''} | {words} | {kept} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=pathlib.Path, nargs="+", metavar="RESULT")
    parser.add_argument("--write", type=pathlib.Path, metavar="DOCUMENT")
    wishes = parser.parse_args()
    tables = []
    for result in wishes.results:
        objects = [json.loads(line) for line in result.read_text().splitlines() if line.strip()]
        if not objects or objects[0].get("kind") != "machine":
            sys.exit(f"{result} is no result of avec_bench --json")
        tables.append(table(objects))
    text = "\n\n".join(tables)
    if wishes.write is None:
        print(text)
        return
    document = wishes.write.read_text()
    if document.count(BEGIN) != 1 or document.count(END) != 1:
        sys.exit(f"{wishes.write} needs one line {BEGIN} and one line {END}")
    head, rest = document.split(BEGIN)
    tail = rest.split(END)[1]
    wishes.write.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}")


if __name__ == "__main__":
    main()
