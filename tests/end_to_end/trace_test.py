"""AVEC_TRACE: what the file says about a program that ran."""

import collections
import json
import unittest

from support import Case, Serve, program, run_avec, scratch_folder

PROGRAM, WIRE, EXECUTOR, DEVICE = 1, 2, 3, 4
CLOCKS_US = 2000  # how far apart the two sides' clocks may be taken to be, on a busy machine


class Trace(Case):
    def trace(self, *command, **environment):
        with scratch_folder() as folder, Serve() as executor:
            path = folder / "trace.json"
            result = run_avec(*command, executor=executor.url, AVEC_TRACE=path, **environment)
            self.assert_succeeds(result)
            return json.loads(path.read_text())["traceEvents"]

    def slices(self, events, part):
        return [e for e in events if e["ph"] == "X" and e["pid"] == part]

    def test_every_piece_of_device_work_is_reached_from_the_call_that_caused_it(self):
        events = self.trace(program("convnet"))
        arrows = {phase: {e["id"]: e for e in events if e["ph"] == phase} for phase in "stf"}
        calls = self.slices(events, PROGRAM)
        kernels = [e for e in self.slices(events, DEVICE) if "softmax" in e["name"]]
        self.assertTrue(kernels, "no kernel by its name")
        for work in self.slices(events, DEVICE):
            number = work["args"]["call"]
            if number == 0:  # a piece of a copy, long after its call
                self.assertEqual(work["name"], "copy")
                continue
            start, step, end = (arrows[phase][number] for phase in "stf")
            inside = [c for c in calls if c["tid"] == start["tid"] and c["ts"] <= start["ts"] <= c["ts"] + c["dur"]]
            self.assertTrue(inside, f"{work['name']} comes from no call")
            self.assertLessEqual(start["ts"], step["ts"] + CLOCKS_US)
            self.assertLessEqual(step["ts"], work["ts"] + CLOCKS_US)
            self.assertEqual(end["ts"], work["ts"])
        launches = [c for c in calls if c["name"] == "cudaLaunchKernel"]
        self.assertEqual(len(launches), len([w for w in self.slices(events, DEVICE) if "(" in w["name"]]))

    def test_work_of_one_stream_does_not_overlap_and_streams_do_not_share_a_track(self):
        events = self.trace(program("streams"))
        tracks = collections.defaultdict(list)
        for work in self.slices(events, DEVICE):
            tracks[work["tid"]].append(work)
        self.assertGreater(len(tracks), 1)
        for track in tracks.values():
            track.sort(key=lambda e: e["ts"])
            for one, next_one in zip(track, track[1:]):
                self.assertLessEqual(one["ts"] + one["dur"], next_one["ts"] + 1)

    def test_the_bytes_of_the_wire_add_up(self):
        events = self.trace(program("vector_add"), "100000")
        sent = sum(e["args"]["bytes"] for e in self.slices(events, WIRE) if e["tid"] == 1)
        self.assertGreater(sent, 1000)

    def test_a_file_that_cannot_be_written_is_said_and_the_program_succeeds(self):
        result = run_avec(program("vector_add"), "1000", local=True, AVEC_TRACE="/nonexistent/trace.json")
        self.assert_succeeds(result)
        self.assertIn("cannot write the trace to /nonexistent/trace.json", result.stderr)


if __name__ == "__main__":
    unittest.main()
