"""Outside projects build against the installed package, by find_package and by pkg-config."""

import os
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "end_to_end"))
from support import BUILD, SOURCE, Case, Serve, clean_environment, scratch_folder  # noqa: E402


class Installed(Case):
    @classmethod
    def setUpClass(cls):
        cls.folder = scratch_folder()
        cls.root = cls.folder.__enter__()
        cls.addClassCleanup(cls.folder.__exit__, None, None, None)
        cls.prefix = cls.root / "prefix"
        done = subprocess.run(["cmake", "--install", BUILD, "--prefix", cls.prefix], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def build(self, name):
        environment = {k: v for k, v in clean_environment().items() if "INCLUDE" not in k and k != "CPATH"}
        environment["PKG_CONFIG_PATH"] = str(self.prefix / "lib" / "pkgconfig")
        folder = self.root / name
        for command in (["cmake", "-S", SOURCE / "tests" / "install" / name, "-B", folder, "-G", "Ninja",
                         f"-DCMAKE_PREFIX_PATH={self.prefix}", "-DCMAKE_BUILD_TYPE=Release"],
                        ["cmake", "--build", folder]):
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return folder / name

    def run_program(self, *command, **environment):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120,
                              env=clean_environment(**environment))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_a_project_without_a_toolkit_runs_a_kernel(self):
        app = self.build("kernel_app")
        with Serve("--insecure") as server:
            output = self.run_program(app, AVEC_EXECUTOR=server.url)
        self.assertIn("the kernel ran", output)
        self.assertIn("scale takes 3 arguments, not 2", output)
        self.assertIn("nosuch", output)

    def test_a_project_plugs_in_its_own_transport(self):
        app = self.build("transport_app")
        with Serve("--insecure") as server:
            output = self.run_program(app, server.url.removeprefix("tcp://"))
        self.assertIn("4 MiB went there and back", output)

    def test_the_service_starts_the_installed_program(self):
        unit = (self.prefix / "lib" / "systemd" / "system" / "avec.service").read_text()
        self.assertIn(f"\nExecStart={self.prefix}/bin/avec serve\n", unit)
        self.assertIn("\nCapabilityBoundingSet=\n", unit)
        self.assertIn("u avec ", (self.prefix / "lib" / "sysusers.d" / "avec.conf").read_text())

    def test_the_installed_program_runs_an_example(self):
        output = self.run_program(self.prefix / "bin" / "avec", "run", "--local", "--device", "cpu", "--",
                                  BUILD / "examples" / "vector_add", "1000")
        self.assertEqual(output, "1000 elements added, 0 wrong\n")

    def test_every_public_header_stands_alone(self):
        for header in sorted((self.prefix / "include" / "avec").glob("*.h")):
            with self.subTest(header=header.name):
                done = subprocess.run(
                    [os.environ.get("CXX", "c++"), "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
                     "-I", self.prefix / "include", "-x", "c++", "-"],
                    input=f"#include <avec/{header.name}>\n#include <avec/{header.name}>\n", text=True,
                    capture_output=True)
                self.assertEqual(done.returncode, 0, done.stderr)

    def test_public_headers_need_no_toolkit_and_no_other_library(self):
        done = subprocess.run([os.environ.get("CXX", "c++"), "-std=c++20", "-M", "-I", self.prefix / "include", "-x",
                               "c++", "-"], input="#include <avec/avec.h>\n", text=True, capture_output=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        for foreign in ("cuda", "asio", "flatbuffers", "infiniband", "spdlog", "fmt/", "openssl"):
            self.assertNotIn(foreign, done.stdout)


if __name__ == "__main__":
    unittest.main()
