#!/bin/bash
# Runs several commands one after the other, in one guest: suite.sh COMMAND [ARGUMENT ...]
# [--next COMMAND [ARGUMENT ...]] ... Prints a line per command, and goes on after a failure.
#
# Exit status: 1 if any command failed; else 77 if any was skipped (77), so that a skipped command
# never counts as passed; else 0.
set -u
failed=0 skipped=0 number=0 command=()

run_one() {
  local status=0 begin=$EPOCHREALTIME seconds
  number=$((number + 1))
  echo "--- $number: ${command[*]}"
  "${command[@]}" || status=$?
  seconds=$((${EPOCHREALTIME/[.,]/} - ${begin/[.,]/}))
  seconds=$(printf '%d.%02d s' $((seconds / 1000000)) $((seconds % 1000000 / 10000)))
  case $status in
    0) echo "--- $number: passed, $seconds";;
    77) echo "--- $number: skipped, $seconds"; skipped=$((skipped + 1));;
    *) echo "--- $number: FAILED with status $status, $seconds"; failed=$((failed + 1));;
  esac
  command=()
}

for argument in "$@" --next; do
  if [ "$argument" != --next ]; then command+=("$argument"); continue; fi
  [ "${#command[@]}" -gt 0 ] && run_one
done
echo "--- $number commands, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] || exit 1
[ "$skipped" -eq 0 ] || exit 77
[ "$number" -gt 0 ]
