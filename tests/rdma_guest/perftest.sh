#!/bin/sh
# One of perftest's programs between the guest's two adapters, inside the guest: perftest.sh
# ib_send_lat [option ...]. Its server is on rxb, its client on rxa; prints what the client says.
# Exit status 77 where perftest is not installed.
set -u
tool=$1
shift
command -v "$tool" >/dev/null || { echo "avec: $tool is missing (package perftest)" >&2; exit 77; }
port=18515
ipv4_gid=1  # in the table of an rxe adapter: 0 is the link-local address
deadline=60

listens() { grep -q "$(printf ':%04X [0-9A-F]*:0000 0A' "$port")" /proc/net/tcp /proc/net/tcp6; }
timeout "$deadline" "$tool" -d rxb -x "$ipv4_gid" -p "$port" -F "$@" >/dev/null &
server=$!
until listens; do
  kill -0 "$server" 2>/dev/null || { echo "avec: the server of $tool ended" >&2; exit 1; }
  sleep 0.05
done
timeout "$deadline" "$tool" -d rxa -x "$ipv4_gid" -p "$port" -F "$@" 10.9.0.2 || exit
wait "$server"
