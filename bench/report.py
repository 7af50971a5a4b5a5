#!/usr/bin/env python3
"""Makes the tables of docs/benchmarks.md from JSON results of avec bench.

    report.py RESULT.jsonl ...                       prints the tables of each
    report.py RESULT.jsonl ... --write DOCUMENT.md   puts them between the document's markers, and the
                                                     curves, drawn by `avec bench plot`, into plots/ beside it

Results of a machine whose RDMA adapter is software (a guest with soft-RoCE) appear as ratios to
their yardsticks alone: its times say nothing about adapters.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
MIB = 1 << 20

# Over tcp: figure, row of the result, its bytes, what is promised: (against what, limit) or None.
FIGURES = [
    ("Posted launch, cost to the caller", "launch.posted", 0, ("below", 400, "ns")),
    ("Posted launch, CPU of the client process", "launch.sender_cpu", 0, None),
    ("Launches, sustained, each", "launch.sustained", 0, ("native at most", 1.0, "")),
    ("Posted launch, to its arrival", "launch.departure", 0, ("departure", 50, "us")),
    ("Synchronous call", "ping.session", 0, ("ratio at most", 1.4, "")),
    ("Launch and synchronise", "launch.synchronise", 0, ("spinning below", 22, "us")),
    ("Graph of 100 launches, one after the other", "graph.sustained", 0, ("native at most", 1.05, "")),
    ("Graph of 100 launches and synchronise", "graph.synchronise", 0, None),
    ("Event query, work known to be complete", "query.event", 0, ("below", 200, "ns")),
    ("Stream query, the same", "query.stream", 0, ("below", 200, "ns")),
    ("Is a stream capturing", "query.capturing", 0, ("below", 50, "ns")),
    ("Pointer attribute", "query.pointer", 0, ("below", 200, "ns")),
    ("Device attribute", "query.device_attribute", 0, ("below", 50, "ns")),
    ("Current context", "query.context", 0, ("below", 50, "ns")),
    ("Launch, record, poll the event until done", "launch.polled", 0, None),
    ("1 MiB allocated", "memory.allocate", MIB, None),
    ("1 MiB freed", "memory.free", MIB, None),
    ("1 MiB allocated and freed in stream order", "memory.allocate_free_async", MIB, None),
    ("Copy in, 100 launches, copy out", "round.100_launches", 0, None),
    ("Round trips of that", "round.round_trips", 0, ("exactly", 1, "")),
    ("Copy of 4 B to the device", "copy.to_device", 4, None),
    ("Copy of 4 B from the device", "copy.from_device", 4, None),
    ("Copy of 1 MiB to the device", "copy.to_device", MIB, None),
    ("Copy of 1 MiB from the device", "copy.from_device", MIB, None),
    ("Copy of 256 MiB to the device", "copy.to_device", 256 * MIB, ("ratio at least", 0.85, "")),
    ("Copy of 256 MiB from the device", "copy.from_device", 256 * MIB, ("ratio at least", 0.85, "")),
    ("Pinned copy of 256 MiB to the device", "copy.pinned.to_device", 256 * MIB, None),
    ("Pinned copy of 256 MiB from the device", "copy.pinned.from_device", 256 * MIB, None),
    ("Recorded convolutional network, 12 launches", "inference.convnet", 0, None),
    ("Opening a session", "open.session", 0, None),
    ("First kernel of a session", "open.first_kernel", 0, None),
    ("Idle session, client, of a core", "idle.client", 0, ("sleeping below", 0.5, "%")),
    ("Idle session, executor, of a core", "idle.executor", 0, ("sleeping below", 0.5, "%")),
]

# The same for shm: shares of the native speed on a GPU, and its round trip while spinning.
SHM_PROMISES = {
    ("ping.session", 0): ("spinning below", 3, "us"),
    ("copy.to_device", 256 * MIB): ("native speed", 0.8, ""),
    ("copy.from_device", 256 * MIB): ("native speed", 0.8, ""),
    ("copy.pinned.to_device", 256 * MIB): ("native speed", 0.9, ""),
    ("copy.pinned.from_device", 256 * MIB): ("native speed", 0.9, ""),
}


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
    if kind == "native speed":
        if "native_ratio" not in row:
            return "", ""
        share = 1 / row["native_ratio"]
        return f"at least {limit} of native", "yes" if share >= limit else f"**no**, {share:.2f}"
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


def scheme(row):
    """Older results know TCP alone."""
    return row.get("transport") or ("" if row["target"] == "native" else "tcp")


def described(machine):
    lines = [f"{machine['date'][:10]}, {machine['cores']} cores of {machine['cpu']}, Linux {machine['kernel']}, "
             f"{machine['gpu'] or 'CPU device'}, client and executor on this machine, `--wait {machine['wait']}`"
             + (f", link `{machine['shape']}`" if machine.get("shape") else "")
             + (f", commit {machine['commit']}" if machine.get("commit") else "") + "."]
    if machine.get("soft_rdma"):
        lines.append("Its RDMA adapter is software (soft-RoCE in a guest): only ratios to the yardsticks of the same guest and run are "
                     "shown, and they say nothing about RDMA against TCP.")
    if machine["load"] > machine["cores"] / 4:
        lines.append(f"The machine was busy with other work (load {machine['load']:.1f} at the start): ratios count, times do not.")
    return lines


def figures_table(machine, rows, transport):
    """The figures of calls and copies over one transport, beside what was promised."""
    mine = [row for row in rows if row["target"] == "native" or scheme(row) == transport]
    rows = {(row["name"], row["target"], row["bytes"]): row for row in mine}
    by_name = {(row["name"], row["target"]): row for row in mine}

    def find(name, target, size):
        return rows.get((name, target, size)) if size else by_name.get((name, target))

    ping, stream = find("raw.ping", "raw", 0), find("raw.stream", "raw", 0)
    lines = []
    for title, name, size, promise in FIGURES:
        row = find(name, "avec", size)
        if row is None:
            continue
        native = find(name, "native", size)
        wanted = promise if transport == "tcp" else SHM_PROMISES.get((name, size)) if transport == "shm" else None
        words, kept = judged(row, wanted, ping, machine)
        ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
        p99 = number(row["p99"]) if row["n"] > 1 and row["unit"] != "trips" else ""
        lines.append(f"| {title} | {amount(row)} | {p99} | {ratio} | {amount(native) if native else ''} | {words} | {kept} |")
    if not lines:
        return []
    head = [f"Calls and copies over {transport}."]
    if ping and stream:
        head.append(f"Yardsticks: 64-byte ping-pong {number(ping['median'])} us (p99 {number(ping['p99'])}), "
                    f"stream {stream['bytes'] / stream['median'] / 1e3:.2f} GB/s.")
    return head + ["", "| figure | median | p99 | ratio to the yardstick | native | promised | kept |",
                   "|---|---|---|---|---|---|---|"] + lines + [""]


def size_text(count):
    for unit in ("B", "KiB", "MiB"):
        if count < 1024 or unit == "MiB":
            return f"{count:g} {unit}"
        count /= 1024


def noise(row):
    return f" ± {100 * row['ratio_noise']:.0f} %" if row.get("ratio_noise") else ""


def transports_table(machine, rows):
    """What the transports do by themselves, each beside its yardstick."""
    ratios_only = machine.get("soft_rdma", False)
    measured = [row for row in rows if row["target"] == "avec" and "ratio" in row
                and (row["name"] == "latency" or row["name"].startswith(("bandwidth.", "rate.messages"))
                     or ratios_only and row["name"].startswith(("ping.", "copy.")))]
    if not measured:
        return []
    lines = ["Transports by themselves, each beside its yardstick of the same run (the ratio is of round trips, of times per message, "
             "or of bytes per second).", ""]
    lines += ["| figure | over | size | streams, batch | ratio |", "|---|---|---|---|---|"] if ratios_only else \
             ["| figure | over | size | streams, batch | median | yardstick | ratio |", "|---|---|---|---|---|---|---|"]
    for row in measured:
        size = row.get("message") or row["bytes"]
        many = " ".join(filter(None, [f"{row['streams']} streams" if row.get("streams", 1) > 1 else "",
                                      f"batch {row['batch']}" if row.get("batch") else ""]))
        cells = [row["name"], scheme(row), size_text(size) if size else "128 B", many]
        if not ratios_only:
            cells += [measure(row), measure(yardstick_of(row, rows))]
        lines.append("| " + " | ".join(cells + [f"{row['ratio']:.2f}{noise(row)}"]) + " |")
    return lines + [""]


def measure(row):
    if row is None:
        return ""
    if row.get("message"):
        return f"{row['bytes'] / row['median'] / 1e3:.2f} GB/s"
    return f"{number(row['median'])} {row['unit']}"


def yardstick_of(row, rows):
    name, _, target = row["yardstick"].partition("/")
    for one in rows:
        if (one["name"] == name and one["target"] == (target or "raw") and scheme(one) == scheme(row)
                and (one.get("message"), one.get("streams"), one.get("batch")) == (row.get("message"), row.get("streams"), row.get("batch"))
                and (row.get("message") or one["bytes"] == row["bytes"])):
            return one
    return None


def shape_table(rows):
    asked = [row for row in rows if row.get("asked")]
    if not asked:
        return []
    return ["Emulated links, what was asked and what is there.", "", "| link | figure | asked | measured | off by |", "|---|---|---|---|---|"] + [
        f"| `{row['shape']}` | {row['name'].removeprefix('shape.').replace('_', ' ')} | {number(row['asked'])} {row['unit']} | "
        f"{number(row['median'])} {row['unit']} | {100 * (row['median'] / row['asked'] - 1):+.1f} % |" for row in asked] + [""]


def table(objects, picture):
    machine, rows = objects[0], objects[1:]
    lines = described(machine) + [""]
    if not machine.get("soft_rdma"):
        for transport in sorted({scheme(row) for row in rows if row["target"] == "avec"}, key=["tcp", "shm", "rdma", "sim"].index):
            lines += figures_table(machine, rows, transport)
    lines += transports_table(machine, rows) + shape_table(rows)
    if picture:
        lines += [f"![curves of this run]({picture})", ""]
    return "\n".join(lines).rstrip()


def draw(program, result, document):
    """The run's curves; the address of the picture from the document, or nothing."""
    folder = document.parent / "plots"
    folder.mkdir(exist_ok=True)
    picture = folder / (result.stem + ".svg")
    done = subprocess.run([program, "plot", result, picture], capture_output=True, text=True)
    return f"plots/{picture.name}" if done.returncode == 0 else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=pathlib.Path, nargs="+", metavar="RESULT")
    parser.add_argument("--write", type=pathlib.Path, metavar="DOCUMENT")
    parser.add_argument("--program", type=pathlib.Path, metavar="AVEC_BENCH", help="draws the curves",
                        default=pathlib.Path(os.environ.get("AVEC_BENCH_PROGRAM", "build/release/bin/avec_bench")))
    wishes = parser.parse_args()
    tables = []
    for result in wishes.results:
        objects = [json.loads(line) for line in result.read_text().splitlines() if line.strip()]
        if not objects or objects[0].get("kind") != "machine":
            sys.exit(f"{result} is no result of avec bench --json")
        # Several runs may lie in one file, each with a line for the machine.
        for one in objects:
            shape = one.get("shape", "") if one["kind"] == "machine" else shape
            one["shape"] = shape
        if any(one["shape"] != objects[0]["shape"] for one in objects):
            objects[0]["shape"] = ""  # the table names each
        objects = [objects[0]] + [one for one in objects if one["kind"] == "row"]
        draws = wishes.write is not None and wishes.program.exists() and not objects[0].get("soft_rdma")
        tables.append(table(objects, draw(wishes.program, result, wishes.write) if draws else None))
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
