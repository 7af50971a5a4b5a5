#!/usr/bin/env python3
"""AVEC's evaluation: OpenPose's networks on the client's processor alone, on the GPU natively, and
offloaded over links of several shapes from a client with 1, 2 and 4 cores.

    evaluation.py                                  measures what is missing and makes docs/avec-evaluation.md
    evaluation.py --measure --out RESULT.jsonl     measures only; ends by itself before --within seconds
                                                   have passed, with status 4 while something is missing:
                                                   run it again with the same file for the rest
    evaluation.py --document RESULT.jsonl ...      the document of results made elsewhere

Measuring needs the programs alone (tests/gpu/pack.sh) and Python 3. Each figure becomes a line of
JSON as soon as it is known; the first line describes the machine.
"""
import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import re
import site
import subprocess
import sys
import tempfile
import time

import evaluation_report
from evaluation_trace import where_time_goes

SOURCE = pathlib.Path(__file__).resolve().parent.parent
LINKS = ["loopback", "ethernet-10g", "ethernet-1g", "rtt=1ms,rate=1gbit", "wifi6", "5g", "4g"]
NOTHING_MISSING, SOMETHING_MISSING = 0, 4


class Machine:
    """Who runs where: the client's cores come first, executor and proxy have those behind them."""

    def __init__(self, wishes):
        self.wishes = wishes
        self.build = wishes.build.resolve()
        cores = sorted(os.sched_getaffinity(0))
        self.most = max(wishes.cores)
        self.cores = cores
        rest = cores[self.most:]
        self.own_cores = len(rest) >= 2
        self.server_cores = rest if self.own_cores else cores

    def program(self, name):
        return self.build / "examples" / name

    def network(self, name):
        return self.wishes.nets / f"{name}.net"

    def pinned(self, cores, *command):
        return ["taskset", "-c", ",".join(map(str, cores)), *map(str, command)]

    def client(self, count):
        return self.cores[:count]

    def describe(self):
        names = [line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                 if line.startswith("model name")]
        gpu = output_of("nvidia-smi", "--query-gpu=name", "--format=csv,noheader") if self.wishes.device == "cuda" else ""
        commit = self.build / "commit"
        return {"kind": "machine", "format": 1, "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "cpu": names[0] if names else platform.machine(), "cores": len(self.cores), "kernel": platform.release(),
                "gpu": gpu.splitlines()[0].strip() if gpu else "", "load": os.getloadavg()[0], "input": self.wishes.input,
                "commit": commit.read_text().strip() if commit.exists() else output_of("git", "-C", SOURCE, "describe", "--always", "--dirty"),
                "executor_cores": len(self.server_cores), "own_cores": self.own_cores}


def output_of(*command):
    try:
        return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def use_libraries(build):
    """What a packed build brings along, and NVIDIA's libraries, are found as tests/gpu/run.sh finds them."""
    folders = [build / "lib" / "deps", pathlib.Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "lib64"]
    wheels = sorted(folder for packages in site.getsitepackages() for folder in pathlib.Path(packages).glob("nvidia/*/lib"))
    first, last = ([str(folder) for folder in some if folder.is_dir()] for some in (folders, wheels))
    os.environ["LD_LIBRARY_PATH"] = ":".join(filter(None, [*first, os.environ.get("LD_LIBRARY_PATH"), *last]))


def environment(**extra):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AVEC_")}
    kept.update({k: str(v) for k, v in extra.items()})
    return kept


@contextlib.contextmanager
def listener(command, **variables):
    """A program that says "listening on URL" first, for the length of a with block."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=log, text=True, env=environment(**variables))
        try:
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                log.seek(0)
                raise RuntimeError(f"{command} does not listen: {line}{log.read()}")
            yield line.split()[-1]
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def run_network(command, timeout, **variables):
    """The JSON line of one run of an example."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=timeout, env=environment(**variables))
    if done.returncode != 0:
        raise RuntimeError(f"status {done.returncode}: {' '.join(map(str, command))}\n{done.stderr.strip()[-600:]}")
    return json.loads(done.stdout.splitlines()[-1])


class Evaluation:
    def __init__(self, wishes):
        self.wishes = wishes
        self.machine = Machine(wishes)
        self.begin = time.monotonic()
        use_libraries(self.machine.build)
        self.rows = read(wishes.out)
        self.missing = self.failed = 0
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="avec-evaluation-"))
        if not self.rows:
            self.add(self.machine.describe())

    def add(self, row):
        self.rows.append(row)
        self.wishes.out.parent.mkdir(parents=True, exist_ok=True)
        with self.wishes.out.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def shape(self, link):
        """What a preset of `avec bench --shape` stands for; other links say it themselves."""
        words = output_of(self.machine.build / "bin/avec_bench", "latency", "--help")
        presets = dict(re.findall(r"([a-z0-9-]+)\(((?:rtt|rate)=[^)]*)\)", re.sub(r"\s", "", words).replace("apreset:", "apreset;")))
        return "" if link == "loopback" else presets.get(link, link)

    def known(self, **key):
        return next((row for row in self.rows if all(row.get(k) == v for k, v in key.items())), None)

    def figure(self, measure, estimate_s, **key):
        """Measures what is not known yet, if there is time for it."""
        if self.known(**key) is not None:
            return
        if time.monotonic() - self.begin + estimate_s > self.wishes.within:
            self.missing += 1
            return
        try:
            row = {**key, **measure(), "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")}
        except (RuntimeError, subprocess.TimeoutExpired, ValueError, OSError) as error:
            self.failed += 1
            print(f"{key}: {error}", file=sys.stderr)
            return
        self.add(row)
        told = f"{row['median_ms']:.2f} ms" if "median_ms" in row else ""
        print(f"{time.monotonic() - self.begin:6.0f} s  {' '.join(str(v) for v in key.values())}: {told}", flush=True)

    def arguments(self, network, repeat):
        return ["--input", self.wishes.input, "--repeat", repeat, "--json", self.machine.network(network)]

    def alone(self, network, cores):
        """On the client's processor alone; some passes, since each takes seconds."""
        once = run_network(self.pinned_host(network, cores, 1), 300)
        repeat = max(1, min(20, int(self.wishes.seconds * 1000 / once["median_ms"]) - 4))
        return once if repeat <= 2 else run_network(self.pinned_host(network, cores, repeat), 300)

    def pinned_host(self, network, cores, repeat):
        return self.machine.pinned(self.machine.client(cores), self.machine.program("openpose_cpu"), "--threads", cores,
                                   *self.arguments(network, repeat))

    def natively(self, network):
        """All cores: what the machine with the GPU gives its own programs."""
        return run_network([self.machine.program("openpose"), *self.arguments(network, 50)], 120)

    def remote(self, network, cores, url, repeat, **variables):
        return run_network(self.machine.pinned(self.machine.client(cores), self.machine.build / "bin/avec", "run", "-e", url, "--",
                                               self.machine.program("openpose"), *self.arguments(network, repeat)),
                           180, AVEC_CACHE_DIR=self.scratch / "cache", **variables)

    def offloaded(self, network, cores, url, shape):
        once = self.remote(network, cores, url, 3)
        repeat = max(5, min(100, int(self.wishes.seconds * 1000 / max(once["median_ms"], 1))))
        row = self.remote(network, cores, url, repeat)
        native = self.known(kind="native", network=network)
        if native is not None and row["hash"] != native["hash"]:
            raise ValueError(f"the output is not the native one: {row['hash']} instead of {native['hash']}")
        return {**row, "shape": shape}

    def traced(self, network, cores, url):
        file = self.scratch / "trace.json"
        row = self.remote(network, cores, url, 6, AVEC_TRACE=file)
        return {"traced_ms": row["median_ms"], **where_time_goes(json.loads(file.read_text()), passes=6)}

    def wire(self, network, cores, url):
        """Round trips and bytes of one pass: the difference between 10 and 30 of them."""
        counted = []
        for repeat in (10, 30):
            file = self.scratch / "stats.json"
            self.remote(network, cores, url, repeat, AVEC_STATS=file)
            counted.append(json.loads(file.read_text())["session"])
        few, many = counted
        return {name: (many[name] - few[name]) / 20 for name in ("round_trips", "posted", "bytes_sent", "bytes_received", "one_sided_bytes")}

    def measure(self):
        wishes, machine = self.wishes, self.machine
        for network in wishes.networks:
            for cores in wishes.cores:
                self.figure(lambda n=network, c=cores: self.alone(n, c), 60 / cores, kind="alone", network=network, cores=cores)
        if wishes.device == "cuda":
            for network in wishes.networks:
                self.figure(lambda n=network: self.natively(n), 10, kind="native", network=network)
        serve = machine.pinned(machine.server_cores, machine.build / "bin/avec", "serve", "--listen", "tcp://127.0.0.1:0",
                               "--insecure", "--device", wishes.device)
        with listener(serve) as server:
            for link in wishes.links:
                self.over(link, server)
        print(f"{self.missing} figures are missing, {self.failed} failed" if self.missing or self.failed else "all figures are there")
        return SOMETHING_MISSING if self.missing else 1 if self.failed else NOTHING_MISSING

    def over(self, link, server):
        with contextlib.ExitStack() as stack:
            url, shape = server, self.shape(link)
            if link != "loopback":
                url = stack.enter_context(listener(self.machine.pinned(
                    self.machine.server_cores, self.machine.build / "bin/avec_bench", "proxy", "--listen", "tcp://127.0.0.1:0",
                    "--to", server, "--shape", link)))
            for network in self.wishes.networks:
                for cores in self.wishes.cores:
                    self.figure(lambda n=network, c=cores: self.offloaded(n, c, url, shape), 15, kind="offloaded", network=network,
                                cores=cores, link=link)
                most = max(self.wishes.cores)
                self.figure(lambda n=network: self.traced(n, most, url), 15, kind="traced", network=network, cores=most, link=link)
                if link == "loopback":
                    self.figure(lambda n=network: self.wire(n, most, url), 15, kind="wire", network=network, cores=most)


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()] if path.exists() else []


def default_result(device):
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    return SOURCE / "bench" / "results" / "evaluation" / f"{date}-{device}.jsonl"


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="do not make the document")
    parser.add_argument("--document", type=pathlib.Path, nargs="+", metavar="RESULT", help="do not measure")
    parser.add_argument("--write", type=pathlib.Path, default=SOURCE / "docs" / "avec-evaluation.md", metavar="DOCUMENT")
    parser.add_argument("--build", type=pathlib.Path, default=SOURCE / "build" / "release", metavar="FOLDER")
    parser.add_argument("--nets", type=pathlib.Path, default=SOURCE / "examples" / "openpose", metavar="FOLDER")
    parser.add_argument("--out", type=pathlib.Path, metavar="RESULT", help="default: bench/results/evaluation/DATE-DEVICE.jsonl")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="of the executor; default: cuda where there is a GPU")
    parser.add_argument("--networks", type=lambda text: text.split(","), default=["coco", "body_25"])
    parser.add_argument("--cores", type=lambda text: [int(word) for word in text.split(",")], default=[1, 2, 4])
    parser.add_argument("--links", type=lambda text: text.split(";"), default=LINKS, help="of avec bench --shape, with semicolons")
    parser.add_argument("--input", default="368x656", metavar="HxW")
    parser.add_argument("--seconds", type=float, default=3, help="for each figure, about")
    parser.add_argument("--within", type=float, default=420, metavar="SECONDS", help="measure no longer than that")
    wishes = parser.parse_args()
    if wishes.device is None:
        wishes.device = "cuda" if output_of("nvidia-smi", "-L") else "cpu"
    wishes.cores = [count for count in wishes.cores if count <= len(os.sched_getaffinity(0))] or [1]
    if wishes.out is None:
        wishes.out = default_result(wishes.device)
    return wishes


def main():
    wishes = parse()
    status = NOTHING_MISSING
    if wishes.document is None:
        status = Evaluation(wishes).measure()
    if not wishes.measure:
        rows = [row for path in wishes.document or [wishes.out] for row in read(path)]
        evaluation_report.write(rows, wishes.write, wishes.document or [wishes.out], wishes.links)
        print(f"written: {wishes.write}")
    sys.exit(status)


if __name__ == "__main__":
    main()
