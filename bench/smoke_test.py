#!/usr/bin/env python3
"""Runs every subcommand of avec bench with a handful of samples: all figures are there, every
result that was timed is right, a round costs one round trip, results and pictures are well
formed, comparing and the report work. No time is judged here."""
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom

PROGRAM = pathlib.Path(sys.argv.pop(1))
HERE = pathlib.Path(__file__).parent
SIZES = [4, 64, 1 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20]
CALLS = {("launch.posted", "avec"), ("launch.sender_cpu", "avec"), ("launch.sustained", "avec"),
         ("launch.synchronise", "avec"), ("launch.departure", "avec")}


def bench(*words, status=0):
    run = subprocess.run([PROGRAM, *map(str, words)], timeout=280, capture_output=True, text=True)
    assert run.returncode == status, f"avec bench {words} ended with {run.returncode}\n{run.stdout}\n{run.stderr}"
    return run.stdout + run.stderr


class Suite(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def measure(self, part, *words, transport="tcp", samples=3):
        """The rows of one part; a GPU, where there is one, is not what is tested."""
        file = self.folder / f"{part}.jsonl"
        self.output = bench(part, "-n", samples, "--device", "cpu", "--native", "none", "--transport", transport,
                            "--json", file, *words)
        objects = [json.loads(line) for line in file.read_text().splitlines()]
        self.assertEqual(objects[0]["kind"], "machine")
        self.assertGreaterEqual(objects[0]["cores"], 1)
        for row in objects[1:]:
            self.assertEqual(row["kind"], "row", row)
            self.assertTrue(row["verified"], f"wrong result: {row}")
            self.assertGreaterEqual(row["n"], 1, row)
            self.assertLessEqual(row["min"], row["median"], row)
            self.assertLessEqual(row["median"], row["p99"], row)
            self.assertLessEqual(row["p99"], row["max"], row)
            self.assertEqual(len(row["blocks"]), min(row["n"], 10) if row["unit"] != "trips" else 1, row)
        return objects[1:]

    def test_latency_of_two_transports_and_of_a_call_beside_the_yardsticks(self):
        picture = self.folder / "curves.svg"
        rows = self.measure("latency", "--sizes", "8,64,4096", "--check", "--plot", picture, transport="tcp,sim")
        for transport in ("tcp", "sim"):
            for size in (8, 64, 4096):
                for target in ("raw", "avec"):
                    self.assertEqual(1, sum(row["name"] == "latency" and row["transport"] == transport and row["bytes"] == size
                                            and row["target"] == target for row in rows), (transport, size, target))
        (ping,) = [row for row in rows if row["name"] == "ping.session"]
        self.assertEqual(ping["yardstick"], "latency/raw")
        self.assertGreater(ping["ratio"], 0)
        drawn = xml.dom.minidom.parse(str(picture)).documentElement
        self.assertEqual(drawn.tagName, "svg")
        self.assertIn("sim yardstick", picture.read_text())

    def test_every_usable_transport_is_measured_and_the_others_are_left_out_with_a_reason(self):
        output = bench("latency", "-n", 3, "--sizes", "64", "--native", "none", "--device", "cpu", "--transport",
                       "tcp,shm,rdma,pigeon")
        self.assertIn("pigeon is left out: not built in", output)
        for scheme in ("shm", "rdma"):
            measured = [line for line in output.splitlines() if line.startswith("latency ") and scheme in line.split()]
            left_out = [line for line in output.splitlines() if line.startswith(f"{scheme} is left out: ")]
            self.assertEqual(bool(measured), not left_out, output)
        bench("latency", "--transport", "pigeon", status=1)

    def test_bandwidth_of_several_streams_in_both_directions(self):
        rows = self.measure("bandwidth", "--sizes", "1024,65536", "--streams", "1,2", "--check", transport="tcp,sim")
        for name in ("bandwidth.there", "bandwidth.back", "bandwidth.both"):
            for streams in (1, 2):
                found = [row for row in rows if row["name"] == name and row["streams"] == streams and row["target"] == "avec"]
                self.assertEqual(len(found), 4, (name, streams))
                self.assertTrue(all(row["yardstick"] == f"{name}/raw" and row["ratio"] > 0 for row in found))

        for name in ("bandwidth.read", "bandwidth.write"):  # one-sided: tcp cannot
            self.assertEqual({(row["transport"], row["message"]) for row in rows if row["name"] == name},
                             {("sim", 1024), ("sim", 65536)})

    def test_rates_of_messages_and_calls(self):
        rows = self.measure("rate", "--batches", "1,100")
        for name in ("rate.messages", "rate.calls"):
            self.assertEqual({row["batch"] for row in rows if row["name"] == name and row["target"] == "avec"}, {1, 100})

    def test_copies_of_every_size_pageable_and_pinned(self):
        rows = self.measure("copy")
        for name in ("copy.to_device", "copy.from_device", "copy.pinned.to_device", "copy.pinned.from_device"):
            self.assertEqual([row["bytes"] for row in rows if row["name"] == name], SIZES, f"sizes of {name}")
        (largest,) = [row for row in rows if row["name"] == "copy.pinned.to_device" and row["bytes"] == SIZES[-1]]
        self.assertEqual(largest["yardstick"], "raw.stream")

    def test_launches_sessions_and_inference(self):
        rows = self.measure("launch")
        self.assertFalse(CALLS - {(row["name"], row["target"]) for row in rows})
        (raw,) = [row for row in rows if row["name"] == "raw.ping"]
        (call,) = [row for row in rows if row["name"] == "launch.synchronise"]
        self.assertEqual(call["yardstick"], "raw.ping")
        self.assertAlmostEqual(call["ratio"], call["median"] / raw["median"], 6)
        names = {row["name"] for row in self.measure("session")}
        self.assertLessEqual({"open.session", "open.first_kernel", "idle.client", "idle.executor"}, names)
        rows = self.measure("inference")
        (trips,) = [row for row in rows if row["name"] == "round.round_trips"]
        self.assertEqual(trips["median"], 1, "round trips of a round")
        self.assertLessEqual({"round.100_launches", "inference.convnet"}, {row["name"] for row in rows})

    def test_a_recorded_sequence_of_ones_own(self):
        file = self.folder / "mine"
        file.write_text("# two layers\nin 4096\nlaunch 4 1 1 64 1 1\nlaunch 1 1 1 8 1 1\nout 1024\n")
        rows = self.measure("inference", "--sequence", file)
        self.assertIn("inference.mine", {row["name"] for row in rows})
        file.write_text("in 4096\nlaunch 4 1\nout 4\n")
        self.assertIn("is no step", bench("inference", "-n", 1, "--native", "none", "--device", "cpu", "--transport", "tcp",
                                          "--sequence", file, status=1))

    def test_a_shaped_link_is_measured_beside_what_was_asked(self):
        rows = self.measure("shape", "--shape", "rtt=4ms,rate=80mbit,loss=1%")
        asked = {row["name"]: row["asked"] for row in rows}
        self.assertEqual(asked, {"shape.round_trip": 4000, "shape.rate": 80})
        # What it is, is not judged here: the proxy takes off what a busy machine adds.
        self.assertEqual({row["name"] for row in rows if row["verified"]}, set(asked))
        rows = self.measure("latency", "--shape", "rtt=4ms", "--sizes", "64", transport="tcp,sim")
        through = {row["transport"] for row in rows if row["target"] == "avec" and row["verified"]}
        self.assertEqual(through, {"tcp", "sim"})
        bench("latency", "--shape", "rtt=nonsense", status=2)
        bench("shape", status=2)

    def test_a_proxy_passes_on_what_a_program_sends(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            proxy = subprocess.Popen([PROGRAM, "proxy", "--to", f"tcp://127.0.0.1:{server.getsockname()[1]}", "--shape",
                                      "rtt=2ms,rate=100mbit,loss=1%"], stdout=subprocess.PIPE, text=True)
            try:
                url = proxy.stdout.readline().removeprefix("listening on tcp://").strip()
                host, port = url.rsplit(":", 1)
                with socket.create_connection((host, int(port)), timeout=30) as near:
                    near.sendall(b"over the link")
                    far, _ = server.accept()
                    far.settimeout(30)
                    self.assertEqual(far.recv(100), b"over the link")
                    far.close()
            finally:
                proxy.terminate()
                proxy.wait(timeout=30)
                proxy.stdout.close()

    def test_results_are_compared_and_a_gate_stops_what_is_worse(self):
        self.measure("latency", "--sizes", "64", samples=20)
        old, new = self.folder / "latency.jsonl", self.folder / "slow.jsonl"
        self.assertIn("gate: passed", bench("compare", old, old, "--gate"))
        slow = [json.loads(line) for line in old.read_text().splitlines()]
        for row in slow[1:]:
            row["blocks"] = [value * 50 for value in row["blocks"]]
        new.write_text("\n".join(json.dumps(row) for row in slow))
        self.assertIn("worse", bench("compare", old, new))
        self.assertIn("gate: NOT passed", bench("compare", old, new, "--gate", status=1))
        bench("compare", old, self.folder / "nowhere", status=2)

    def test_the_report_is_made_of_new_and_old_results(self):
        self.measure("launch")
        self.measure("bandwidth", "--sizes", "1024,65536", "--streams", "1")
        files = [self.folder / "launch.jsonl", self.folder / "bandwidth.jsonl"]
        files += sorted((HERE / "results").glob("*.jsonl"))
        report = subprocess.run([sys.executable, HERE / "report.py", *files], check=True, capture_output=True, text=True).stdout
        self.assertIn("| Launch and synchronise |", report)
        self.assertIn("| Synchronous call |", report)
        self.assertIn("| bandwidth.there |", report)
        picture = self.folder / "plot.svg"
        bench("plot", files[1], picture)
        xml.dom.minidom.parse(str(picture))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[1:]])
