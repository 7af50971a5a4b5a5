#!/bin/busybox sh
# The guest's init, on the host's root: runs the command, leaves its status in the control folder,
# and ends the guest. Busybox does all else: a program of the root takes a tenth of a second to start.
# shellcheck shell=dash
control=/run/avec-guest
exec >/dev/kmsg 2>&1 </dev/null
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
busybox() { /run/busybox "$@"; }

# What the command left running; not this script, nor the two who carry its output.
kill_leftovers() {
  for folder in /proc/[0-9]*; do
    process=${folder#/proc/}
    case " 1 $* " in *" $process "*) continue;; esac
    [ ! -e "$folder/exe" ] || kill -KILL "$process"  # a kernel thread has none
  done
}

ulimit -l unlimited
# Pipes, as a program may open its /dev/stderr once more, which would empty a file.
busybox mkfifo /run/out /run/err
/run/busybox cat /run/out >"$control/out" & out=$!
/run/busybox cat /run/err >"$control/err" & err=$!
/bin/sh "$control/command" >/run/out 2>/run/err
status=$?
kill_leftovers "$out" "$err"
wait "$out" "$err"
echo "$status" >"$control/status"
busybox sync
echo b >/proc/sysrq-trigger
busybox sleep 60
