#!/bin/bash
# Makes a folder with what tests/gpu/run.sh needs, stripped, with the libraries that a bare
# machine lacks: tests/gpu/pack.sh FOLDER
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
build="$here/build/release"
to=${1:?usage: tests/gpu/pack.sh FOLDER}
rm -rf "$to"
mkdir -p "$to/bin" "$to/lib/avec" "$to/lib/deps" "$to/examples"
cp "$build"/bin/avec "$build"/bin/avec_bench "$to/bin/"
cp -P "$build"/lib/avec/*.so* "$to/lib/avec/"
cp -rP "$build"/lib/avec/fallback "$to/lib/avec/"
cp -r "$build"/examples/* "$to/examples/"
mkdir -p "$to/tests/programs"
cp "$build"/tests/programs/*_static "$build"/tests/programs/*_shared "$to/tests/programs/"
mkdir -p "$to/tests/conformance"
find "$build/tests/conformance" -maxdepth 1 -type f -executable -exec cp {} "$to/tests/conformance/" \;
cp "$build"/tests/driver_program "$to/tests/"
git -C "$here" describe --always --dirty >"$to/commit" 2>/dev/null || true
# Everything but the C and C++ libraries, which must be the machine's own.
for file in "$to"/bin/* "$to"/lib/avec/*.so* "$to"/examples/edges "$to"/examples/openpose_cpu; do
  ldd "$file" 2>/dev/null | awk '$3 ~ /^\// && $1 !~ /^(libc|libm|libdl|libpthread|librt|libstdc[+][+]|libgcc_s|libcuda|libcudart|libavec)[.]/ { print $3 }'
done | sort -u | xargs -r -I{} cp -L {} "$to/lib/deps/"
find "$to" -type f \( -path '*/bin/*' -o -path '*/conformance/*' -o -name '*.so*' \) -exec strip --strip-unneeded {} + 2>/dev/null || true
du -sh "$to"
