#!/bin/sh
# Installs what packaging/packages.txt names and is missing, and checks the CUDA Toolkit.
# Root installs directly, others through sudo.
#
#   setup.sh [guest]     guest: also what the RDMA tests need for their virtual machine, as far as
#                        it can be had
set -eu
here=$(dirname "$0")
architecture=$(dpkg --print-architecture 2>/dev/null || uname -m)

# The packages whose lines begin with $1 that are wanted here and not installed, each after a space.
missing() {
  sed -n "s/^$1\([a-z0-9][^ ]*\) *\(\[.*\]\)\{0,1\}\$/\1 \2/p" "$here/packages.txt" | while read -r package only; do
    [ -z "$only" ] || [ "$only" = "[$architecture]" ] || continue
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || printf ' %s' "$package"
  done
}
as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}
install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# Never fails: without these packages the RDMA tests say what they miss.
install_guest() {
  wanted=$(missing "guest ")
  [ -n "$wanted" ] || return 0
  if ! command -v apt-get >/dev/null || { [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; }; then
    echo "avec: the RDMA tests need these packages, and are skipped without them:$wanted" >&2
    return 0
  fi
  # Not at every start, where there is no network.
  tried=$here/../build/guest-packages-tried
  if [ "$(cat "$tried" 2>/dev/null)" = "$wanted" ] && [ -n "$(find "$tried" -mmin -1440)" ]; then return 0; fi
  echo "avec: installing$wanted"
  as_root apt-get update -qq || :
  # shellcheck disable=SC2086
  install $wanted || for package in $wanted; do install "$package" || :; done
  wanted=$(missing "guest ")
  [ -n "$wanted" ] || return 0
  mkdir -p "$here/../build"
  echo "$wanted" >"$tried"
  echo "avec: could not install$wanted; the RDMA tests that need them are skipped" >&2
}

missing=$(missing "")
if [ -n "$missing" ]; then
  command -v apt-get >/dev/null || { echo "avec: install these packages first:$missing" >&2; exit 1; }
  [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null ||
    { echo "avec: run as root, or install these packages first:$missing" >&2; exit 1; }
  echo "avec: installing$missing"
  as_root apt-get update -qq
  # shellcheck disable=SC2086
  install $missing
fi
[ "${1:-}" != guest ] || install_guest
for folder in "${CUDA_HOME:-}" "${CUDA_PATH:-}" /usr/local/cuda /usr/local/cuda-13.0; do
  if [ -n "$folder" ] && [ -x "$folder/bin/nvcc" ]; then exit 0; fi
done
if command -v nvcc >/dev/null; then exit 0; fi
echo "avec: no CUDA Toolkit found. Install CUDA Toolkit 13.0 (package cuda-toolkit-13-0 of NVIDIA's repository, no driver needed) and set CUDA_HOME if it is not in /usr/local/cuda." >&2
exit 1
