"""libcudart.so.13 exports the names of NVIDIA's, with its version node, and nothing else."""
import argparse
import subprocess
import sys


def exports(nm, library):
    """{name@@version} of what the library defines for others."""
    lines = subprocess.run([nm, "-D", "--defined-only", "--with-symbol-versions", library], check=True,
                           capture_output=True, text=True).stdout.splitlines()
    return {line.split()[-1] for line in lines}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--nm", "--ours", "--theirs"):
        parser.add_argument(name, required=True)
    arguments = parser.parse_args()
    ours, theirs = exports(arguments.nm, arguments.ours), exports(arguments.nm, arguments.theirs)
    for name in sorted(theirs - ours):
        print(f"missing: {name}")
    for name in sorted(ours - theirs):
        print(f"not NVIDIA's: {name}")
    print(f"{len(ours & theirs)} names agree")
    return 0 if ours == theirs and len(theirs) > 400 else 1


if __name__ == "__main__":
    sys.exit(main())
