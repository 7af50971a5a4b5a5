"""Makes docs/avec-evaluation.md and its plots from the results of evaluation.py."""
import datetime
import re

import evaluation_plot
from evaluation_trace import PARTS

PAPER = 7.48  # the paper's best speedup over the device alone
NAMES = {"coco": "COCO", "body_25": "BODY_25"}
UNITS = {"ns": 1e-6, "us": 1e-3, "ms": 1, "s": 1e3, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9, "bit": 1}


class Results:
    """The figures of one or several files; of two equal ones the later counts."""

    def __init__(self, rows):
        self.machines = [row for row in rows if row["kind"] == "machine"]
        self.rows = {(row["kind"], row["network"], row.get("cores"), row.get("link")): row for row in rows if row["kind"] != "machine"}
        self.networks = list(dict.fromkeys(key[1] for key in self.rows))
        self.links = list(dict.fromkeys(key[3] for key in self.rows if key[3]))
        self.cores = sorted({key[2] for key in self.rows if key[0] in ("alone", "offloaded")})

    def get(self, kind, network, cores=None, link=None):
        return self.rows.get((kind, network, cores, link))


def named(network):
    return NAMES.get(network, network)


def quantity(shape, key):
    """A shape's round trip in ms, or its rate in bit/s; 0: not limited."""
    found = re.search(key + r"=([0-9.]+)([a-z]+)", shape or "")
    return float(found[1]) * UNITS[found[2]] if found else 0.0


def transfer_ms(row):
    """What the payload takes on the link: up, down."""
    rate = quantity(row.get("shape"), "rate")
    return tuple(row[name] * 8 / rate * 1e3 if rate else 0.0 for name in ("input_bytes", "output_bytes"))


def floor_ms(results, row):
    """Payload / rate + round trip + native time of the GPU; on loopback the native forward pass."""
    native = results.get("native", row["network"])
    if native is None:
        return None
    if row["link"] == "loopback":
        return native["median_ms"]
    return sum(transfer_ms(row)) + quantity(row["shape"], "rtt") + native["device_ms"]


def ms(value):
    return "" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def times(value):
    return f"{value:.0f} x" if value >= 100 else f"{value:.1f} x" if value >= 10 else f"{value:.2f} x"


def table(head, lines):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)] + ["| " + " | ".join(line) + " |" for line in lines] + [""]


def limit(results, row):
    """What most of the floor is made of, in words."""
    native = results.get("native", row["network"])
    if native is None:
        return ""
    up, down = transfer_ms(row)
    if row["link"] == "loopback":
        return "the GPU"
    causes = {f"the picture's {row['input_bytes'] / 1e6:.1f} MB on the way up": up, "the result on the way down": down,
              "the round trip": quantity(row["shape"], "rtt"), "the GPU": native["device_ms"]}
    words, most = max(causes.items(), key=lambda item: item[1])
    return f"{words} ({100 * most / sum(causes.values()):.0f} % of the floor)"


def described(results):
    lines = []
    for machine in results.machines:
        lines.append(f"{machine['date'][:10]}, {machine['cores']} cores of {machine['cpu']}, Linux {machine['kernel']}, "
                     f"{machine['gpu'] or 'the CPU device (no GPU: these figures show only that the evaluation works)'}, "
                     f"input 3x{machine['input']}, commit {machine['commit'] or 'unknown'}.")
        if not machine["own_cores"]:
            lines.append("The machine has too few cores: executor, link and client shared them, so times are too long.")
    return list(dict.fromkeys(lines)) + [""]


def alone_table(results, network):
    native = results.get("native", network)
    alone = {cores: results.get("alone", network, cores) for cores in results.cores}
    lines = []
    for cores, row in alone.items():
        if row:
            lines.append([f"client alone, {cores} core{'s' if cores > 1 else ''}", ms(row["median_ms"]), ms(row["p99_ms"]),
                          times(row["median_ms"] / native["median_ms"]) + " slower" if native else ""])
    if native:
        lines.append(["natively on the GPU", ms(native["median_ms"]), ms(native["p99_ms"]), f"the kernels themselves: {ms(native['device_ms'])} ms"])
    return table(["", "ms per forward pass", "p99", "beside the GPU"], lines)


def links_table(results, network):
    lines = []
    for link in results.links:
        cells, floor, any_row, least = [], None, None, None
        for cores in results.cores:
            row, alone = results.get("offloaded", network, cores, link), results.get("alone", network, cores)
            if row is None:
                cells += [""]
                continue
            any_row, floor = row, floor_ms(results, row)
            least = min(least or row["median_ms"], row["median_ms"])
            gain = f" ({times(alone['median_ms'] / row['median_ms'])})" if alone else ""
            cells.append(f"{ms(row['median_ms'])}{gain}")
        if any_row:
            cells += [ms(floor), f"{least / floor:.2f}" if floor else "", limit(results, any_row)]
            shape = any_row.get("shape")
            lines.append([f"{link}" + (f" (`{shape}`)" if shape and shape != link else "")] + cells)
    heads = [f"{cores} core{'s' if cores > 1 else ''}: ms (speedup)" for cores in results.cores]
    return table(["link", *heads, "floor, ms", "best / floor", "what limits it"], lines)


def parts_table(results, network):
    rows = [(link, row) for (kind, net, _, link), row in results.rows.items() if kind == "traced" and net == network]
    lines = [[link] + [ms(row["parts_ms"][part]) for part in PARTS] + [ms(sum(row["parts_ms"].values())), ms(row["encoding_ms"])]
             for link, row in sorted(rows, key=lambda pair: results.links.index(pair[0]))]
    return table(["link", *PARTS, "together", "encoding, overlapped too"], lines) if lines else []


def wire_lines(results):
    lines = []
    for network in results.networks:
        row = next((row for key, row in results.rows.items() if key[:2] == ("wire", network)), None)
        sent = next((row for key, row in results.rows.items() if key[:2] == ("offloaded", network)), None)
        if row and sent:
            payload = sent["input_bytes"] + sent["output_bytes"]
            # Payload on stripes is counted beside the stream.
            extra = (row["bytes_sent"] + row["bytes_received"] + row.get("one_sided_bytes", 0)) / payload - 1
            lines.append([named(network), f"{row['round_trips']:g}", f"{row['posted']:g}", f"{payload / 1e6:.2f} MB",
                          f"{100 * extra:.1f} %" if extra >= 0 else "not counted"])
    return table(["a forward pass of", "round trips", "posted calls", "payload", "bytes beyond the payload"], lines) if lines else []


def summary(results):
    """The best speedup of each number of cores, in a sentence each."""
    lines = []
    for network in results.networks:
        for cores in results.cores:
            alone = results.get("alone", network, cores)
            offloaded = [row for (kind, net, count, _), row in results.rows.items() if (kind, net, count) == ("offloaded", network, cores)]
            if alone and offloaded:
                best, worst = min(offloaded, key=lambda row: row["median_ms"]), max(offloaded, key=lambda row: row["median_ms"])
                lines.append([named(network), str(cores), f"{times(alone['median_ms'] / best['median_ms'])} ({best['link']})",
                              f"{times(alone['median_ms'] / worst['median_ms'])} ({worst['link']})"])
    return table(["network", "client's cores", "best speedup over the client alone", "least"], lines) if lines else []


HEAD = """# AVEC's evaluation: OpenPose from a client without a GPU

OpenPose's networks (`examples/openpose`, written as Caffe runs them: im2col and cuBLAS, 3x368x656 pictures; weights seeded,
not trained) on the client's processor alone, natively on the GPU, and offloaded from that client by `avec run` over
links of several shapes (`avec bench proxy`). The paper's figure for OpenPose is a speedup of up to {paper} over the
device alone. The client, pinned to 1, 2 or 4 cores, is the same in both columns of a speedup; alone it uses OpenBLAS
with a thread a core, on strips of the picture that stay in the cache.

    make evaluation                                                    # all of this, here
    bench/evaluation.py --measure --out result.jsonl --build FOLDER    # the measuring, in parts of 8 minutes, from packed programs
    bench/evaluation.py --document result.jsonl                        # this document, from results made elsewhere

A forward pass is timed from the picture in pinned memory to the result in pinned memory: one copy in, the launches, one
copy out; each run's output has the bits of the native one. Times are medians. The **floor** of a link is payload / rate + round trip + the native time of the GPU (for
loopback: the native forward pass, copies included). A loss on a link is none of the floor's.
"""


def write(rows, document, sources, wanted_links=()):
    """`wanted_links`: those that the document is to have; what is missing of them is said."""
    results = Results(rows)
    plots = document.parent / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    text = [HEAD.format(paper=PAPER)] + described(results)
    missing = [f"`{link}`" for link in wanted_links if link not in results.links]
    if missing:
        text += [f"Not measured on this machine yet: {', '.join(missing)}.", ""]
    text += ["## Speedup over the client alone", "", *summary(results)]
    for network in results.networks:
        text += [f"## {named(network)}", "", *alone_table(results, network), *links_table(results, network)]
        text += draw(results, network, plots)
    text += wires(results)
    names = ", ".join(f"`bench/results/evaluation/{source.name}`" for source in sources)
    text += [f"Results: {names}. Made {datetime.date.today()} by `bench/evaluation.py`."]
    document.write_text("\n".join(text).rstrip() + "\n")


def wires(results):
    lines = wire_lines(results)
    return ["## Round trips and bytes", "", *lines] if lines else []


def draw(results, network, plots):
    text = []
    bars = [(link, [(f"{cores} core{'s' if cores > 1 else ''}", alone["median_ms"] / row["median_ms"]) for cores in results.cores
                    if (row := results.get("offloaded", network, cores, link)) and (alone := results.get("alone", network, cores))])
            for link in results.links]
    if any(values for _, values in bars):
        name = f"avec-evaluation-{network}-speedup.svg"
        (plots / name).write_text(evaluation_plot.grouped(f"{named(network)}: speedup over the client alone", bars, PAPER, "the paper"))
        text += [f"![speedup over the client alone](plots/{name})", ""]
    parts = parts_table(results, network)
    if parts:
        stacks = [(link, [(part, row["parts_ms"][part]) for part in PARTS]) for link in results.links
                  for (kind, net, _, one), row in results.rows.items() if (kind, net, one) == ("traced", network, link)]
        name = f"avec-evaluation-{network}-time.svg"
        (plots / name).write_text(evaluation_plot.stacked(f"{named(network)}: where the time goes", stacks))
        text += ["Where the time of a pass goes, in ms (from `AVEC_TRACE`, whose events make a pass a little longer). Each moment counts "
                 "once: as GPU while the device works, else as encoding while the client is in a call other than the two copies, else "
                 "as wire up before the first kernel, wire down after the last, waiting between. Most encoding is hidden behind the "
                 "picture on its way; the last column is all of it.", "", *parts, f"![where the time goes](plots/{name})", ""]
    return text
