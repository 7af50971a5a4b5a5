"""Every example prints through avec on the CPU device what it is expected to print."""

import json
import subprocess
import unittest

from support import AVEC, SOURCE, TRANSPORT, Case, Serve, clean_environment, program, run_avec, scratch_folder


class Examples(Case):
    def check(self, name, *arguments):
        result = run_avec(program(name), *arguments, local=True)
        self.assert_succeeds(result)
        expected = (SOURCE / "examples" / f"{name}.expected").read_text()
        self.assertEqual(result.stdout, expected)

    def test_vector_add(self):
        self.check("vector_add")

    def test_convnet(self):
        self.check("convnet")

    def test_streams(self):
        self.check("streams")

    def test_threads(self):
        self.check("threads")

    def test_edges_of_a_photograph_are_those_of_the_reference_picture(self):
        with scratch_folder() as folder:
            self.check("edges", SOURCE / "examples" / "coffee.png", folder / "edges.png")
            same = (folder / "edges.png").read_bytes() == (SOURCE / "examples" / "coffee-edges.png").read_bytes()
            self.assertTrue(same, "the picture differs from examples/coffee-edges.png")


class Sessions(Case):
    def test_two_programs_use_one_executor_at_once(self):
        with Serve("--insecure") as server:
            command = [AVEC, "run", "-e", server.url, "--", program("streams")]
            both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean_environment())
                    for _ in range(2)]
            expected = (SOURCE / "examples" / "streams.expected").read_text()
            for process in both:
                output, _ = process.communicate(timeout=120)
                self.assertEqual((process.returncode, output), (0, expected))

    def test_a_token_opens_the_session(self):
        with scratch_folder() as folder:
            token = folder / "token"
            token.write_text("a secret of more than sixteen bytes\n")
            token.chmod(0o600)
            # A token encrypts what leaves the machine, which RDMA cannot: docs/security.md.
            rdma = TRANSPORT == "rdma"
            settings = {"AVEC_TOKEN_FILE": token}
            if rdma:
                with Serve("--token-file", token) as server:
                    refused = run_avec(program("vector_add"), "1000", executor=server.url, **settings)
                    self.assertNotEqual(refused.returncode, 0)
                    self.assertIn("set transport-encryption off at both ends", refused.stderr)
                settings["AVEC_TRANSPORT_ENCRYPTION"] = "off"
            with Serve("--token-file", token, **settings) as server:
                result = run_avec(program("vector_add"), "1000", executor=server.url, **settings)
                self.assert_succeeds(result)

    def test_the_exit_status_of_the_program_is_ours(self):
        for local in (True, False):
            result = run_avec("sh", "-c", "exit 7", local=local)
            self.assertEqual(result.returncode, 7)

    def test_a_program_that_does_not_exist_is_named(self):
        result = run_avec("/no/such/program", local=True)
        self.assertEqual(result.returncode, 127)
        self.assertIn("/no/such/program", result.stderr)

    def test_statistics_name_each_function_and_count_round_trips(self):
        with scratch_folder() as folder:
            report = folder / "stats.json"
            result = run_avec(program("vector_add"), "1000", local=True, AVEC_STATS=report)
            self.assert_succeeds(result)
            text = report.read_text()
            self.assertIn("cudaMalloc", text)
            self.assertIn("cudaLaunchKernel", text)
            json.loads(text)


if __name__ == "__main__":
    unittest.main()
