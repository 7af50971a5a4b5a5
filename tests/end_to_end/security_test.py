"""Programs over TLS, by certificates and by a token; and that secrets stay where they belong."""

import os
import pathlib
import stat
import subprocess
import unittest

from support import AVEC, SOURCE, Case, Serve, clean_environment, program, run_avec, scratch_folder


def expected(name):
    return (SOURCE / "examples" / f"{name}.expected").read_text()


def keygen(*words):
    return subprocess.run([AVEC, "keygen", *words], capture_output=True, text=True, timeout=60, env=clean_environment())


def certificate(folder, name):
    return {"AVEC_TLS_CERTIFICATE": folder / f"{name}.pem", "AVEC_TLS_KEY": folder / f"{name}-key.pem",
            "AVEC_TLS_CA": folder / "ca.pem"}


class Keygen(Case):
    def test_makes_an_authority_and_certificates_in_one_command(self):
        with scratch_folder() as folder:
            self.assert_succeeds(keygen("--ca", folder, "--server", "edge,127.0.0.1", "--client", "laptop"))
            made = sorted(path.name for path in folder.iterdir())
            self.assertEqual(made, ["ca-key.pem", "ca.pem", "crl.pem", "edge-key.pem", "edge.pem", "laptop-key.pem", "laptop.pem"])
            for path in folder.glob("*-key.pem"):
                self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600, path)
            before = (folder / "ca.pem").read_text()
            self.assert_succeeds(keygen("--ca", folder, "--client", "desk"))
            self.assertEqual((folder / "ca.pem").read_text(), before)

    def test_overwrites_nothing_and_takes_no_name_that_is_a_path(self):
        with scratch_folder() as folder:
            token = folder / "token"
            self.assert_succeeds(keygen("--token", token))
            self.assertEqual(stat.S_IMODE(token.stat().st_mode), 0o600)
            self.assertEqual(len(token.read_text().strip()), 64)
            self.assertIn("exists", keygen("--token", token).stderr)
            self.assert_succeeds(keygen("--ca", folder / "ca", "--client", "laptop"))
            self.assertIn("exists", keygen("--ca", folder / "ca", "--client", "laptop").stderr)
            for name in ("../laptop", "", "a/b", "ca", ".hidden", "DNS:a,b\n"):
                self.assertNotEqual(keygen("--ca", folder / "ca", "--client", name).returncode, 0, name)
            self.assertNotEqual(keygen().returncode, 0)


class Encrypted(Case):
    def test_programs_run_by_certificates(self):
        with scratch_folder() as folder:
            self.assert_succeeds(keygen("--ca", folder, "--server", "edge,127.0.0.1", "--client", "laptop"))
            with Serve(AVEC_TRANSPORT_ENCRYPTION="on", **certificate(folder, "edge")) as server:
                for name in ("vector_add", "streams", "threads", "convnet"):
                    result = run_avec(program(name), executor=server.url, AVEC_TRANSPORT_ENCRYPTION="on",
                                      **certificate(folder, "laptop"))
                    self.assert_succeeds(result)
                    self.assertEqual(result.stdout, expected(name))
                self.assertTrue(any("authenticated: laptop, encrypted" in line for line in server.log), server.log)

    def test_programs_run_by_a_token_that_appears_nowhere(self):
        with scratch_folder() as folder:
            token = folder / "token"
            self.assert_succeeds(keygen("--token", token))
            secret = token.read_text().strip()
            with Serve("--token-file", token, "--log-level", "trace", AVEC_TRANSPORT_ENCRYPTION="on",
                       AVEC_SPARE_WORKERS="1") as server:
                result = run_avec(program("vector_add"), executor=server.url, AVEC_TOKEN_FILE=token)
                self.assert_succeeds(result)
                self.assertEqual(result.stdout, expected("vector_add"))
                for pid in [server.process.pid, *server.workers()]:
                    for name in ("cmdline", "environ"):
                        self.assertNotIn(secret.encode(), pathlib.Path(f"/proc/{pid}/{name}").read_bytes())
            self.assertNotIn(secret, "".join(server.log) + result.stdout + result.stderr)
            self.assertTrue(any("authenticated: token, encrypted" in line for line in server.log), server.log)

    def test_a_revoked_client_and_one_without_anything_are_refused(self):
        with scratch_folder() as folder:
            self.assert_succeeds(keygen("--ca", folder, "--server", "edge,127.0.0.1", "--client", "laptop"))
            self.assert_succeeds(keygen("--ca", folder, "--revoke", "laptop"))
            with Serve(AVEC_TLS_CRL=folder / "crl.pem", **certificate(folder, "edge")) as server:
                for settings, words in ((certificate(folder, "laptop"), "revoked"), ({}, "wants TLS")):
                    result = run_avec(program("vector_add"), executor=server.url, **settings)
                    self.assertEqual(result.returncode, 1)
                    self.assertIn("cudaErrorNotPermitted", result.stderr)
                    self.assertIn(words, result.stderr)
                self.assertEqual(server.workers(), [])

    def test_a_secret_on_the_command_line_is_refused_and_not_repeated(self):
        for words in (["--token", "a-secret-of-sixteen"], ["--token=a-secret-of-sixteen"]):
            for command in ("serve", "run", "info"):
                result = subprocess.run([AVEC, command, *words], capture_output=True, text=True, timeout=60,
                                        env=clean_environment())
                self.assertEqual(result.returncode, 2)
                self.assertIn("--token-file", result.stderr)
                self.assertNotIn("a-secret-of-sixteen", result.stdout + result.stderr)

    def test_a_key_that_everybody_can_read_is_refused(self):
        with scratch_folder() as folder:
            self.assert_succeeds(keygen("--ca", folder, "--server", "edge,127.0.0.1"))
            os.chmod(folder / "edge-key.pem", 0o644)
            result = subprocess.run([AVEC, "serve", "--device", "cpu", "--listen", "tcp://127.0.0.1:0"],
                                    capture_output=True, text=True, timeout=60,
                                    env=clean_environment(**certificate(folder, "edge")))
            self.assertEqual(result.returncode, 1)
            self.assertIn("chmod 600", result.stderr)


if __name__ == "__main__":
    unittest.main()
