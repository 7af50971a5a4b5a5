#!/bin/bash
# The GPU suite: every example natively and through avec on this machine's GPU, output compared;
# errors; the benchmarks beside native CUDA. Runs in parts, each under 8 minutes:
#
#   tests/gpu/run.sh [--build FOLDER] [--out FOLDER] [part ...]      parts: examples networks errors programs libraries
#                                                                conformance bench evaluation pytorch torch_speed frameworks
#
# The build folder may come from another machine (stripped binaries are enough); see
# tests/gpu/pack.sh. Prints a short table last; exit status 1 when anything failed.
set -u
here=$(cd "$(dirname "$0")/../.." && pwd)
build="$here/build/release"
out="${OUT:-/tmp/avec-gpu}"
parts=()
while [ $# -gt 0 ]; do
  case "$1" in
    --build) build=$(cd "$2" && pwd); shift 2 ;;
    --out) out=$2; shift 2 ;;
    *) parts+=("$1"); shift ;;
  esac
done
[ ${#parts[@]} -gt 0 ] || parts=(examples networks errors programs libraries conformance bench)
mkdir -p "$out"
avec="$build/bin/avec"
# NVIDIA's libraries are the toolkit's, or those that came with Python packages.
wheels=$(python3 -c 'import glob, site; print(":".join(sorted(glob.glob(site.getsitepackages()[0] + "/nvidia/*/lib"))))' 2>/dev/null)
export LD_LIBRARY_PATH="$build/lib/deps:${CUDA_HOME:-/usr/local/cuda}/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}${wheels:+:$wheels}"
table=()
failed=0

note() {  # name, status, text
  table+=("$(printf '%-28s %-6s %s' "$1" "$2" "${3:-}")")
  [ "$2" = ok ] || failed=1
}

# Runs a program natively and through avec on the GPU; both must succeed and print the same.
compare() {  # name, command...
  local name=$1; shift
  timeout 120 "$@" >"$out/$name.native" 2>"$out/$name.native.err"; local native=$?
  timeout 120 "$avec" run --local --device cuda -- "$@" >"$out/$name.avec" 2>"$out/$name.avec.err"; local remote=$?
  if [ $native -ne 0 ]; then note "$name" FAIL "natively: status $native, $(tail -1 "$out/$name.native.err")"
  elif [ $remote -ne 0 ]; then note "$name" FAIL "through avec: status $remote, $(tail -1 "$out/$name.avec.err")"
  elif ! cmp -s "$out/$name.native" "$out/$name.avec"; then note "$name" FAIL "output differs: $(diff "$out/$name.native" "$out/$name.avec" | sed -n 2p)"
  else note "$name" ok "the same output"
  fi
}

# The same for programs of many steps, which go on after one that fails: that step then fails both ways, in the same words.
compare_steps() {  # name, command...
  local name=$1; shift
  timeout 200 "$@" >"$out/$name.native" 2>"$out/$name.native.err"; local native=$?
  timeout 200 "$avec" run --local --device cuda -- "$@" >"$out/$name.avec" 2>"$out/$name.avec.err"; local remote=$?
  local lines; lines=$(grep -c . "$out/$name.native")
  if [ "$lines" -lt 3 ]; then note "$name" FAIL "natively: status $native, $(tail -1 "$out/$name.native.err")"
  elif ! cmp -s "$out/$name.native" "$out/$name.avec"; then
    note "$name" FAIL "status $remote, output differs: $(diff "$out/$name.native" "$out/$name.avec" | sed -n 2p)"
  else note "$name" ok "the same $lines lines; steps that fail natively too: $(grep -c ': failed: ' "$out/$name.native")"; fi
}

part_examples() {
  for name in vector_add convnet streams threads; do compare "$name" "$build/examples/$name"; done
  compare edges "$build/examples/edges" "$here/examples/coffee.png" "$out/edges.png"
  if cmp -s "$out/edges.png" "$here/examples/coffee-edges.png"; then note edges-picture ok "as in the repository"
  else note edges-picture FAIL "differs from examples/coffee-edges.png"; fi
}

# OpenPose's networks and LeNet: the same bits natively and through avec, and, but for rounding, what
# the host computes alone.
part_networks() {
  local name nets="$here/examples/openpose"
  for name in tiny coco body_25; do
    compare "$name" "$build/examples/openpose" "$nets/$name.net"
    if ! timeout 120 "$build/examples/openpose_cpu" --threads 4 --write "$out/$name.host" "$nets/$name.net" >"$out/$name.cpu" 2>&1; then
      note "$name-host" FAIL "$(tail -1 "$out/$name.cpu")"
    elif timeout 120 "$avec" run --local --device cuda -- "$build/examples/openpose" --weights host --compare "$out/$name.host" \
        "$nets/$name.net" >"$out/$name.compared" 2>&1; then note "$name-host" ok "$(grep 'largest difference' "$out/$name.compared")"
    else note "$name-host" FAIL "$(tail -1 "$out/$name.compared")"; fi
  done
  compare lenet "$build/examples/lenet" --bits --steps 200 --batch 64
}

# PyTorch, unmodified, in the Python that $PYTHON names: every case natively and through avec, the same
# output; then how fast it is. Its own NVIDIA libraries serve the executor.
torch_libraries() {
  "$python" - <<'END'
import glob, os, sysconfig
print(":".join(sorted({os.path.dirname(f) for f in glob.glob(sysconfig.get_path("purelib") + "/nvidia/*/lib/*.so*")})))
END
}

part_pytorch() {
  local python=${PYTHON:-python3} name
  if ! "$python" -c "import torch" 2>"$out/torch.err"; then note pytorch FAIL "$(tail -1 "$out/torch.err")"; return; fi
  export AVEC_LIBRARY_PATH; AVEC_LIBRARY_PATH=$(torch_libraries)
  for name in ${TORCH_CASES:-$("$python" "$here/tests/gpu/pytorch/cases.py" --list)}; do
    compare "torch-$name" "$python" "$here/tests/gpu/pytorch/cases.py" "$name"
  done
  if [ -z "${TORCH_CASES:-}" ]; then compare_steps torch-opinfo "$python" "$here/tests/gpu/pytorch/opinfo.py"; fi
}

# CuPy, Numba, JAX and Triton, as far as the Python that $PYTHON names has them.
part_frameworks() {
  local python=${PYTHON:-python3} name
  export AVEC_LIBRARY_PATH; AVEC_LIBRARY_PATH=$(torch_libraries)
  export NUMBA_CUDA_LOW_OCCUPANCY_WARNINGS=0 NUMBA_CUDA_WARN_ON_IMPLICIT_COPY=0 PYTHONDONTWRITEBYTECODE=1
  for name in ${FRAMEWORKS:-cupy numba jax triton}; do
    if "$python" -c "import importlib.util as u, sys; sys.exit(u.find_spec('$name') is None)" 2>"$out/$name.err"; then
      compare_steps "$name" "$python" "$here/tests/gpu/frameworks/${name}_smoke.py"
    else note "$name" ok "not installed"; fi
  done
}

part_torch_speed() {
  local python=${PYTHON:-python3} kind
  export AVEC_LIBRARY_PATH; AVEC_LIBRARY_PATH=$(torch_libraries)
  timeout 120 "$python" "$here/tests/gpu/pytorch/speed.py" >"$out/speed.native" 2>"$out/speed.native.err"
  for kind in tcp shm; do
    AVEC_STATS="$out/speed.$kind.stats" timeout 120 "$avec" run --local -e $kind:// --device cuda -- "$python" "$here/tests/gpu/pytorch/speed.py" \
      >"$out/speed.$kind" 2>"$out/speed.$kind.err" || note "speed-$kind" FAIL "$(tail -1 "$out/speed.$kind.err")"
  done
  paste "$out/speed.native" "$out/speed.tcp" "$out/speed.shm"
}

part_errors() {
  for kind in address trap arguments; do compare "faults-$kind" "$build/examples/faults" "$kind"; done
  compare error-codes "$build/examples/error_codes"
  compare error-codes-fault "$build/examples/error_codes" fault
}

part_programs() {
  for program in "$build"/tests/programs/*_static "$build"/tests/programs/*_shared; do
    compare "$(basename "$program")" "$program"
  done
  compare driver_program "$build/tests/driver_program"
  for name in asynchronous_copies atomics cooperative_groups device_language ordering pitched_and_constant \
    standard_library streams_and_callbacks; do
    compare "$name" "$build/examples/$name"
  done
}

# Programs over cuRAND, cuFFT, cuSPARSE, cuSOLVER and NCCL: the same statuses and the same bits.
part_libraries() {
  local program
  for program in "$build"/examples/library_*; do compare "$(basename "$program")" "$program"; done
}

# Cases of tests/conformance: natively and through avec, both against what is expected.
part_conformance() {
  local way
  for way in gpu gpu-avec; do
    timeout 470 python3 "$here/tests/conformance/conformance.py" --way $way --build "$build" --jobs 6 --write "$out/conformance-$way" \
      "$build"/tests/conformance/* >"$out/conformance-$way.txt" 2>&1
    local status=$? last
    last=$(tail -1 "$out/conformance-$way.txt")
    if [ $status -eq 0 ]; then note "conformance-$way" ok "$last"; else note "conformance-$way" FAIL "$last"; fi
  done
}

part_bench() {
  for wait in spin adaptive; do
    if timeout 400 "$avec" bench all --device cuda --wait $wait --seconds 0.15 --json "$out/bench-$wait.jsonl" \
        --plot "$out/bench-$wait.svg" >"$out/bench-$wait.txt" 2>&1; then
      note "bench-$wait" ok "$(wc -l <"$out/bench-$wait.jsonl") lines in $out/bench-$wait.jsonl"
    else note "bench-$wait" FAIL "$(tail -1 "$out/bench-$wait.txt")"; fi
    cat "$out/bench-$wait.txt"
  done
}

# Only when asked for. What there was no time for is measured by the next run with the same --out.
part_evaluation() {
  "$here/bench/evaluation.py" --measure --device cuda --build "$build" --out "$out/evaluation.jsonl" >"$out/evaluation.txt" 2>&1
  local status=$?
  cat "$out/evaluation.txt"
  case $status in
    0) note evaluation ok "$out/evaluation.jsonl" ;;
    4) note evaluation ok "not all yet, run it again: $(tail -1 "$out/evaluation.txt")" ;;
    *) note evaluation FAIL "$(tail -1 "$out/evaluation.txt")" ;;
  esac
}

if ! nvidia-smi -L >"$out/gpus.txt" 2>&1; then
  echo "no GPU here: $(head -1 "$out/gpus.txt")" >&2
  exit 1
fi
for part in "${parts[@]}"; do
  case "$part" in
    examples | networks | errors | programs | libraries | conformance | bench | evaluation | pytorch | torch_speed | frameworks) "part_$part" ;;
    *) echo "unknown part $part; parts: examples networks errors programs libraries conformance bench evaluation pytorch torch_speed frameworks" >&2; exit 2 ;;
  esac
done
echo
cat "$out/gpus.txt"
printf '%s\n' "${table[@]}"
exit $failed
