"""A shim exports the names of NVIDIA's library, with its version node, and nothing else."""
import argparse
import subprocess
import sys


def exports(nm, library):
    """{name@@version} of what the library defines for others."""
    lines = subprocess.run([nm, "-D", "--defined-only", "--with-symbol-versions", library], check=True,
                           capture_output=True, text=True).stdout.splitlines()
    # An absolute symbol is a version node itself.
    return {line.split()[-1] for line in lines if line.split()[-2] != "A"}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--nm", "--ours", "--theirs"):
        parser.add_argument(name, required=True)
    parser.add_argument("--at-least", type=int, default=400, help="how many names NVIDIA's must have")
    arguments = parser.parse_args()
    ours, theirs = exports(arguments.nm, arguments.ours), exports(arguments.nm, arguments.theirs)
    for name in sorted(theirs - ours):
        print(f"missing: {name}")
    for name in sorted(ours - theirs):
        print(f"not NVIDIA's: {name}")
    print(f"{len(ours & theirs)} names agree")
    return 0 if ours == theirs and len(theirs) >= arguments.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
