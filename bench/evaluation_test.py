#!/usr/bin/env python3
"""The evaluation: where a trace's time goes, the floor, the document; and, where the programs are built
(--build FOLDER), a small network measured on the client alone and over links to the CPU device."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom

import evaluation_report
import evaluation_trace

HERE = pathlib.Path(__file__).parent
BUILD = pathlib.Path(sys.argv.pop(1)) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else None
REMOTE = BUILD is not None and all((BUILD / "lib" / "avec" / name).exists() for name in (
    "libcublas.so.13", "libcurand.so.10", "libavec_cpu_cublas.so", "libavec_cpu_curand.so"))


def event(process, thread, begin, end, name="x"):
    return {"ph": "X", "pid": process, "tid": thread, "ts": begin, "dur": end - begin, "name": name, "args": {}}


def one_pass(at):
    """copy in 0..10, calls 10..14 and 20..22, kernels 12..16, 18..30, copies 2..4, 32..33, copy out 22..40."""
    return [event(1, 1, at, at + 10, "cudaMemcpy"), event(1, 1, at + 10, at + 14, "cudaLaunchKernel"),
            event(1, 1, at + 20, at + 22, "cublasSgemm_v2"), event(1, 1, at + 22, at + 40, "cudaMemcpy"),
            event(4, 1, at + 12, at + 16), event(4, 1, at + 18, at + 25), event(4, 2, at + 20, at + 30),
            event(4, 1, at + 2, at + 4, "CopyToDeviceFrom"), event(4, 1, at + 32, at + 33, "CopyFromDeviceTo")]


class Trace(unittest.TestCase):
    trace = {"traceEvents": [{"ph": "M", "pid": 1, "name": "process_name", "args": {"name": "program"}},
                             {"ph": "M", "pid": 4, "name": "process_name", "args": {"name": "device"}},
                             *one_pass(0), *one_pass(1000), *one_pass(2000)]}

    def test_every_moment_counts_once(self):
        found = evaluation_trace.where_time_goes(self.trace, passes=2)
        self.assertEqual(found["passes"], 2)
        expected = {"encoding": 2, "wire up": 8, "waiting": 2, "GPU": 19, "wire down": 9}
        for part, value in expected.items():
            self.assertAlmostEqual(found["parts_ms"][part], value / 1000, 9, part)
        self.assertAlmostEqual(sum(found["parts_ms"].values()), 0.040, 9)
        self.assertAlmostEqual(found["encoding_ms"], 0.006, 9)

    def test_a_trace_without_device_work_is_refused(self):
        with self.assertRaises(ValueError):
            evaluation_trace.where_time_goes({"traceEvents": [e for e in self.trace["traceEvents"] if e["pid"] == 1]}, passes=2)


MACHINE = {"kind": "machine", "date": "2026-01-02T03:04:05Z", "cpu": "a processor", "cores": 16, "kernel": "6.1", "gpu": "a GPU",
           "load": 0.1, "input": "368x656", "commit": "abc", "own_cores": True}


def row(kind, median, **more):
    return {"kind": kind, "network": "coco", "median_ms": median, "p99_ms": median * 1.1, "device_ms": 20.0,
            "input_bytes": 2000000, "output_bytes": 1000000, **more}


class Document(unittest.TestCase):
    rows = [MACHINE, row("alone", 4000, cores=1), row("alone", 1000, cores=4), row("native", 22.0),
            row("offloaded", 25.0, cores=1, link="loopback", shape=""), row("offloaded", 24.0, cores=4, link="loopback", shape=""),
            row("offloaded", 50.0, cores=4, link="thin", shape="rtt=10ms,rate=1gbit"),
            {"kind": "traced", "network": "coco", "cores": 4, "link": "thin", "traced_ms": 51.0, "passes": 3, "encoding_ms": 2.0,
             "parts_ms": {"encoding": 1.0, "wire up": 17.0, "waiting": 1.0, "GPU": 19.0, "wire down": 13.0}},
            {"kind": "wire", "network": "coco", "cores": 4, "round_trips": 1.0, "posted": 370.0, "bytes_sent": 45000.0, "one_sided_bytes": 2000000.0,
             "bytes_received": 1000000.0}]

    def test_the_floor_is_payload_round_trip_and_gpu(self):
        results = evaluation_report.Results(self.rows)
        self.assertAlmostEqual(evaluation_report.floor_ms(results, self.rows[6]), 16 + 8 + 10 + 20, 6)
        self.assertAlmostEqual(evaluation_report.floor_ms(results, self.rows[4]), 22.0, 6)

    def test_the_document_and_its_plots(self):
        with tempfile.TemporaryDirectory() as folder:
            document = pathlib.Path(folder) / "evaluation.md"
            evaluation_report.write(self.rows, document, [pathlib.Path("some.jsonl")])
            text = document.read_text()
            self.assertIn("160 x", text)  # 4000 / 25
            self.assertIn("41.7 x", text)  # 1000 / 24
            self.assertIn("20.0 x", text)  # 1000 / 50 over the thin link
            self.assertIn("| 54 | 0.93 | the GPU (37 % of the floor) |", text)
            self.assertIn("| COCO | 1 | 370 | 3.00 MB | 1.5 % |", text)
            for plot in ("speedup", "time"):
                drawn = pathlib.Path(folder) / "plots" / f"avec-evaluation-coco-{plot}.svg"
                self.assertEqual(xml.dom.minidom.parse(str(drawn)).documentElement.tagName, "svg")
                self.assertIn(f"(plots/{drawn.name})", text)


@unittest.skipUnless(BUILD is not None and (BUILD / "examples" / "openpose_cpu").exists(), "openpose_cpu was not built: OpenBLAS is missing")
class Measuring(unittest.TestCase):
    def measure(self, out, *words, status=0):
        command = [sys.executable, HERE / "evaluation.py", "--measure", "--build", BUILD, "--out", out, "--networks", "tiny", "--input",
                   "24x32", "--device", "cpu", "--seconds", "0.1", "--cores", "1", *words]
        run = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=200)
        self.assertEqual(run.returncode, status, run.stdout + run.stderr)
        return [json.loads(line) for line in out.read_text().splitlines()]

    def test_what_there_is_no_time_for_is_left_to_the_next_run(self):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "result.jsonl"
            self.assertEqual([one["kind"] for one in self.measure(out, "--links", "none", "--within", "1", status=4)], ["machine"])

    @unittest.skipUnless(REMOTE, "the CPU device's cuBLAS or cuRAND, or their shims, were not built")
    def test_a_small_network_alone_and_over_links(self):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "result.jsonl"
            rows = self.measure(out, "--links", "loopback;rtt=4ms,rate=100mbit", "--within", "180")
            kinds = sorted((one["kind"], one.get("link", "")) for one in rows[1:])
            self.assertEqual(kinds, [("alone", ""), ("offloaded", "loopback"), ("offloaded", "rtt=4ms,rate=100mbit"),
                                     ("traced", "loopback"), ("traced", "rtt=4ms,rate=100mbit"), ("wire", "")])
            (wire,) = [one for one in rows if one["kind"] == "wire"]
            self.assertEqual(wire["round_trips"], 1)
            again = self.measure(out, "--links", "loopback", "--within", "180")
            self.assertEqual(again, rows, "known figures are not measured again")
            evaluation_report.write(rows, pathlib.Path(folder) / "evaluation.md", [out])


if __name__ == "__main__":
    unittest.main()
