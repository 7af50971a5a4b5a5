#!/usr/bin/env python3
"""Runs every measurement of avec_bench with a handful of samples: all figures are there, every
result that was timed is right, a round costs one round trip, and the report can be made.
No time is judged here."""
import json
import pathlib
import subprocess
import sys
import tempfile

FIGURES = {
    ("raw.ping", "raw"), ("raw.stream", "raw"), ("ping.session", "avec"), ("launch.posted", "avec"),
    ("launch.sender_cpu", "avec"), ("launch.sustained", "avec"), ("launch.synchronise", "avec"),
    ("launch.departure", "avec"), ("round.100_launches", "avec"), ("round.round_trips", "avec"),
    ("copy.to_device_returns", "avec"), ("copy.to_device", "avec"), ("copy.from_device", "avec"),
    ("open.session", "avec"), ("open.first_kernel", "avec"), ("idle.client", "avec"), ("idle.executor", "avec"),
}
SIZES = [4, 64, 1 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20]


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "result.jsonl"
        # --native none: a GPU, where there is one, is not what is tested.
        run = subprocess.run([program, "-n", "3", "--device", "cpu", "--native", "none", "--json", file], timeout=280,
                             capture_output=True, text=True)
        print(run.stdout, run.stderr, sep="\n")
        assert run.returncode == 0, f"avec_bench ended with {run.returncode}"
        objects = [json.loads(line) for line in file.read_text().splitlines()]
        report = subprocess.run([sys.executable, pathlib.Path(__file__).with_name("report.py"), file], check=True,
                                capture_output=True, text=True).stdout
    assert objects[0]["kind"] == "machine", objects[0]
    assert objects[0]["cores"] >= 1
    rows = objects[1:]
    missing = FIGURES - {(row["name"], row["target"]) for row in rows}
    assert not missing, f"no row of {missing}"
    for row in rows:
        assert row["kind"] == "row", row
        assert row["verified"], f"wrong result: {row}"
        assert row["n"] >= 1 and row["min"] <= row["median"] <= row["p99"], row
    for name in ("copy.to_device", "copy.from_device"):
        assert [row["bytes"] for row in rows if row["name"] == name] == SIZES, f"sizes of {name}"
    for name in ("ping.session", "launch.synchronise"):
        (row,) = [row for row in rows if row["name"] == name]
        (raw,) = [row for row in rows if row["name"] == "raw.ping"]
        assert row["yardstick"] == "raw.ping" and abs(row["ratio"] - row["median"] / raw["median"]) < 1e-6, row
    (trips,) = [row for row in rows if row["name"] == "round.round_trips"]
    assert trips["median"] == 1, f"a round costs {trips['median']} round trips"
    assert "| Synchronous call |" in report, report


if __name__ == "__main__":
    main()
