#!/bin/sh
# Installs what packaging/packages.txt names and is missing, and checks the CUDA Toolkit.
# Root installs directly, others through sudo.
set -eu
here=$(dirname "$0")
missing=""
for package in $(grep -v '^#' "$here/packages.txt"); do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
if [ -n "$missing" ]; then
  command -v apt-get >/dev/null || { echo "avec: install these packages first:$missing" >&2; exit 1; }
  as_root=""
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "avec: run as root, or install these packages first:$missing" >&2; exit 1; }
    as_root=sudo
  fi
  echo "avec: installing$missing"
  $as_root apt-get update -qq
  # shellcheck disable=SC2086
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
for folder in "${CUDA_HOME:-}" "${CUDA_PATH:-}" /usr/local/cuda /usr/local/cuda-13.0; do
  if [ -n "$folder" ] && [ -x "$folder/bin/nvcc" ]; then exit 0; fi
done
if command -v nvcc >/dev/null; then exit 0; fi
echo "avec: no CUDA Toolkit found. Install CUDA Toolkit 13.0 (package cuda-toolkit-13-0 of NVIDIA's repository, no driver needed) and set CUDA_HOME if it is not in /usr/local/cuda." >&2
exit 1
