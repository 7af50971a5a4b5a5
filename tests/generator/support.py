"""What the generator's tests share: the generator as modules and as a program."""
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "schemas"
_BUILT = re.search(r"^set\(wire_schemas ([^)]*)\)", (SCHEMAS / "CMakeLists.txt").read_text(), re.M)[1].split()
APIS = sorted((SCHEMAS / "libraries").glob("*.api"))
WIRE = [SCHEMAS / f"{name}.fbs" for name in ("attributes", *_BUILT)]
sys.path.insert(0, str(ROOT / "tools" / "gen"))

import schema  # noqa: E402

ATTRIBUTES = ("attributes.fbs", (SCHEMAS / "attributes.fbs").read_text())


def parse(text):
    """A schema of one file test.fbs."""
    return schema.parse([ATTRIBUTES, ("test.fbs", text)])


def calls(text):
    return schema.calls(parse(text))


def toolkit_arguments(version=None):
    env = os.environ
    return ["--compiler", env.get("AVEC_CXX", "c++"), "--nm", env.get("AVEC_NM", "nm"),
            "--cuda-include", env.get("AVEC_CUDA_INCLUDE", "/usr/local/cuda/include"),
            "--cuda-version", str(version or env.get("AVEC_CUDA_VERSION", "13000")),
            "--cudart", env.get("AVEC_CUDART", "/usr/local/cuda/lib64/libcudart.so")]


def generate(command, *arguments):
    """Runs gen.py; the finished process."""
    return subprocess.run([sys.executable, str(ROOT / "tools" / "gen" / "gen.py"), command, *map(str, arguments)],
                          capture_output=True, text=True, timeout=60, check=False)


def generate_api(out, driver=None, runtime=None, version=None, unsupported=None):
    return generate("api", *toolkit_arguments(version), "--out", out,
                    "--driver-manifest", driver or SCHEMAS / "driver_api.fbs",
                    "--runtime-manifest", runtime or SCHEMAS / "runtime_api.fbs",
                    "--unsupported-manifest", unsupported or SCHEMAS / "unsupported.fbs",
                    "--libraries", *APIS, "--frameworks", ROOT / "docs" / "parts" / "frameworks.md", *WIRE)
