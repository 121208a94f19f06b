#!/usr/bin/env bash
# matrix.sh PROGRAM GUEST.ELF [BUDGET...]: growth against budget in all combinations on this QEMU (or that of MIGBUF_QEMU),
# as a markdown table on stdout. Budgets in MB/s; default 0.1 1 5 20, a quarter of an hour. Exit 1 when a cell is out of its
# bounds.
set -u
[ $# -ge 2 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
program=$1 guest=$2
shift 2
[ $# -gt 0 ] || set -- 0.1 1 5 20
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"${MIGBUF_QEMU:-qemu-system-x86_64}" --version | head -n 1
echo
status=0 head=1
for budget in "$@"; do
    CK_RUN_CASE=growth_follows_the_budget MIGBUF_QEMU_MATRIX=$budget EVACUATE_GUEST=$guest "$program" |
        tee -a "$log" | sed -un "${head},\$s/^# //p" | grep --line-buffered -v '^[^|]*$'
    [ "${PIPESTATUS[0]}" = 0 ] || status=1
    head=3 # the table has its head
done
echo
echo "$(grep -c '| ok' "$log") of $(grep -c '^# | *[0-9]' "$log") measurements are within their bounds"
grep '^not ok' "$log"
exit $status
