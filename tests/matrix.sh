#!/usr/bin/env bash
# matrix.sh PROGRAM GUEST.ELF: growth against budget in all combinations on this QEMU (or that of MIGBUF_QEMU),
# as a markdown table on stdout. About 20 minutes. Exit 1 when a cell is out of its bounds.
set -u
[ $# = 2 ] || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT
CK_RUN_CASE=growth_follows_the_budget MIGBUF_QEMU_MATRIX=all EVACUATE_GUEST=$2 "$1" >"$log"
status=$?
"${MIGBUF_QEMU:-qemu-system-x86_64}" --version | head -n 1
echo
grep "^# |" "$log" | sed "s/^# //"
echo
echo "$(grep -c '| ok' "$log") of $(grep -c '^# | *[0-9]' "$log") measurements are within their bounds"
grep '^not ok' "$log"
exit $status
