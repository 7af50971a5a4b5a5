"""The network examples: the host's engine computes what a reference computes, and through avec on the
CPU device openpose computes the same, in one round trip, and LeNet learns."""

import json
import math
import struct
import subprocess
import unittest

from support import BUILD, SOURCE, Case, clean_environment, program, run_avec, scratch_folder

NETWORKS = SOURCE / "examples" / "openpose"
HOST, GPU, LENET = program("openpose_cpu"), program("openpose"), program("lenet")
NO_HOST = "openpose_cpu was not built: OpenBLAS is missing"
CUBLAS = all((BUILD / "lib" / "avec" / name).exists() for name in ("libcublas.so.13", "libavec_cpu_cublas.so"))
CURAND = all((BUILD / "lib" / "avec" / name).exists() for name in ("libcurand.so.10", "libavec_cpu_curand.so"))
NO_CUBLAS = "the toolkit has no cuBLAS, or the CPU device none"


def on_host(*arguments):
    return subprocess.run([HOST, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=clean_environment())


class Reference:
    """A network by its definition: loops over every output, no matrices."""

    def __init__(self, path, height, width, seed):
        self.state = (seed * 0x9E3779B97F4A7C15 + 1) % 2**64
        self.blobs = {}
        layers = [line.split("#")[0].split() for line in path.read_text().splitlines()]
        layers = [words for words in layers if words]
        ((_, self.input, channels),) = [words for words in layers if words[0] == "input"]
        ((_, self.output),) = [words for words in layers if words[0] == "output"]
        self.size = {self.input: (height, width)}
        self.layers = layers
        self.channels = int(channels)

    def number(self):
        self.state ^= self.state >> 12
        self.state = (self.state ^ self.state << 25) % 2**64
        self.state ^= self.state >> 27
        return ((self.state * 2685821657736338717 % 2**64 >> 40) - 2**23) / 2**23

    def picture(self, seed):
        height, width = self.size[self.input]
        self.state = (seed * 0x9E3779B97F4A7C15 + 1) % 2**64
        channels = []
        for c in range(self.channels):
            rows = []
            for y in range(height):
                v = y * (2 + c) % height / height
                row = []
                for x in range(width):
                    u = x * (3 + c) % width / width
                    row.append(0.8 * (min(u, 1 - u) + min(v, 1 - v) - 0.5) + 0.1 * self.number())
                rows.append(row)
            channels.append(rows)
        return channels

    def forward(self, picture):
        self.blobs[self.input] = picture
        for kind, name, *rest in self.layers:
            if kind == "conv":
                self.blobs[name] = self.convolution(self.blobs[rest[0]], int(rest[1]), int(rest[2]), rest[3:])
            elif kind == "pool":
                self.blobs[name] = [[[max(row[2 * x + u] for row in rows[2 * y:2 * y + 2] for u in (0, 1) if 2 * x + u < len(row))
                                      for x in range((len(rows[0]) + 1) // 2)] for y in range((len(rows) + 1) // 2)]
                                    for rows in self.blobs[rest[0]]]
            elif kind == "concat":
                self.blobs[name] = [rows for bottom in rest for rows in self.blobs[bottom]]
        return [value for rows in self.blobs[self.output] for row in rows for value in row]

    def convolution(self, inputs, outputs, kernel, activation):
        depth = len(inputs) * kernel * kernel
        largest = math.sqrt(3) * math.sqrt(2 / depth)
        weights = [[self.number() * largest for _ in range(depth)] for _ in range(outputs)]
        biases = [self.number() * 0.1 for _ in range(outputs)]
        below = {"relu": 0, "prelu": 0.25}.get(activation[0] if activation else "", 1)
        height, width, border = len(inputs[0]), len(inputs[0][0]), kernel // 2
        result = [[[0] * width for _ in range(height)] for _ in range(outputs)]
        for y in range(height):
            for x in range(width):
                seen = [rows[v][u] if 0 <= v < height and 0 <= u < width else 0 for rows in inputs
                        for v in range(y - border, y + border + 1) for u in range(x - border, x + border + 1)]
                for o in range(outputs):
                    value = biases[o] + sum(map(float.__mul__, weights[o], map(float, seen)))
                    result[o][y][x] = value if value > 0 else value * below
        return result


@unittest.skipUnless(HOST.exists(), NO_HOST)
class OnTheHost(Case):
    def test_the_output_is_that_of_a_reference(self):
        reference = Reference(NETWORKS / "tiny.net", 9, 14, seed=5)
        picture = reference.picture(5)
        reference.state = (5 * 0x9E3779B97F4A7C15 + 1) % 2**64  # weights have the same seed
        values = reference.forward(picture)
        with scratch_folder() as folder:
            file = folder / "reference.out"
            file.write_bytes(struct.pack(f"{len(values)}f", *values))
            for threads in (1, 3):
                result = on_host("--input", "9x14", "--seed", 5, "--threads", threads, "--compare", file, NETWORKS / "tiny.net")
                self.assert_succeeds(result)
            other = on_host("--input", "9x14", "--seed", 6, "--compare", file, NETWORKS / "tiny.net")
            self.assertEqual(other.returncode, 3, other.stderr)

    def test_the_networks_have_the_published_sizes(self):
        for name, convolutions, parameters, channels in (("coco", 92, "52.3", 57), ("body_25", 114, "26.2", 78)):
            result = on_host("--input", "16x24", NETWORKS / f"{name}.net")
            self.assert_succeeds(result)
            self.assertIn(f"{name}: {convolutions} convolutions, {parameters} M parameters", result.stdout)
            self.assertIn(f"3 x 16 x 24 -> {channels} x 2 x 3\n", result.stdout)

    def test_a_description_that_makes_no_sense_is_named_with_its_line(self):
        with scratch_folder() as folder:
            file = folder / "wrong.net"
            for line, reason in (("conv a nothing 4 3", "called nothing"), ("conv a data 4 2", "odd"), ("conv a data 0 3", "'0'"),
                                 ("conv data data 4 3", "already"), ("fold a data", "not understood"),
                                 ("pool p data\nconcat c p data", "another size"), ("", "missing")):
                file.write_text(f"input data 3\n{line}\n")
                result = on_host("--input", "8x8", file)
                self.assertEqual(result.returncode, 1)
                self.assertIn(reason, result.stderr)
                self.assertIn(f"{file}:", result.stderr)
            self.assertEqual(on_host(folder / "none.net").returncode, 1)
            self.assertEqual(on_host("--input", "8").returncode, 2)

    def test_times_are_given_as_json(self):
        result = on_host("--input", "16x16", "--repeat", 3, "--json", NETWORKS / "tiny.net")
        self.assert_succeeds(result)
        row = json.loads(result.stdout)
        self.assertEqual((row["network"], row["engine"], row["repeat"]), ("tiny", "host", 3))
        self.assertEqual((row["input_bytes"], row["output_bytes"]), (3 * 16 * 16 * 4, 7 * 8 * 8 * 4))
        self.assertLessEqual(row["min_ms"], row["median_ms"])


@unittest.skipUnless(GPU.exists() and CUBLAS, NO_CUBLAS)
class ThroughAvec(Case):
    size = ("--input", "24x32")

    @unittest.skipUnless(HOST.exists(), NO_HOST)
    def test_the_output_is_that_of_the_host(self):
        with scratch_folder() as folder:
            file = folder / "host.out"
            self.assert_succeeds(on_host(*self.size, "--write", file, NETWORKS / "tiny.net"))
            result = run_avec(GPU, *self.size, "--weights", "host", "--compare", file, NETWORKS / "tiny.net", local=True)
            self.assert_succeeds(result)

    def round_trips(self, repeat):
        with scratch_folder() as folder:
            report = folder / "stats.json"
            result = run_avec(GPU, *self.size, "--weights", "host", "--repeat", str(repeat), NETWORKS / "tiny.net", local=True,
                              AVEC_STATS=report)
            self.assert_succeeds(result)
            return json.loads(report.read_text())["session"]["round_trips"]

    def test_a_forward_pass_costs_one_round_trip(self):
        self.round_trips(1)  # the executor may not know the program's module yet, which costs one more
        self.assertEqual(self.round_trips(6) - self.round_trips(2), 4)

    @unittest.skipUnless(CURAND, "the toolkit has no cuRAND, or the CPU device none")
    def test_weights_that_the_device_generates_are_the_same_every_time(self):
        once, again = (run_avec(GPU, *self.size, NETWORKS / "tiny.net", local=True) for _ in range(2))
        self.assert_succeeds(once)
        self.assertEqual(once.stdout, again.stdout)
        other = run_avec(GPU, *self.size, "--seed", "2", NETWORKS / "tiny.net", local=True)
        self.assertNotEqual(once.stdout, other.stdout)

    def test_lenet_learns(self):
        result = run_avec(LENET, local=True)
        self.assert_succeeds(result)
        self.assertEqual(result.stdout, (SOURCE / "examples" / "lenet.expected").read_text())


if __name__ == "__main__":
    unittest.main()
