#!/usr/bin/env bash
# mirror.sh BUILD [RUNS]: what a guest gets while its disk is mirrored over a link of 24 MB/s, on QEMU 7.2, 10.0 and 11.1, each row
# RUNS times (3). It wants 12 MB/s in 4 writes at once, on ground that is copied already. By hand: a quarter of a minute for each of
# the 30 rows and runs, and the machine to itself. Prints a table (tests/README.md holds one), and all runs as they come on stderr.
#   none        no mirror
#   blocking    write-blocking, buffer of QEMU's own (16 MiB)
#   small       write-blocking, buffer and granules of 64 KiB
#   paced       the same, and the copy is paced as migbuf_mirror_pace says
#   background  background, granules of 4 KiB for the small writes, else of 64 KiB
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { sed -n '2,9s/^# //p' "$0" >&2; exit 2; }
build=$(cd "$1" && pwd) runs=${2:-3}
. "$here/packages.sh"
need_packages python3 qemu-system-x86 qemu-utils
found=$(mktemp)
trap 'rm -f "$found"' EXIT
for run in $(seq "$runs"); do
    for version in 7.2 10.0 11.1; do
        if [ $version = 7.2 ]; then qemu=qemu-system-x86_64; else qemu=$("$here/newer_qemu.sh" $version "$here/../build/qemu-$version") || continue; fi
        for kib in 64 4; do
            for way in none blocking small paced background; do
                echo "$version $kib $way $("$here/mirror.py" "$build/examples/evacuate/writer" "$build/examples/evacuate/guest.elf" "$qemu" $way $kib)" |
                    tee -a "$found" >&2
            done
        done
    done
done
echo "| QEMU | writes | way | guest MB/s | copy MB/s | p50 ms | p99 ms |"
echo "|---|---|---|---|---|---|---|"
sort -s -k1,1V -k2,2nr "$found" | awk '
    { key = "| " $1 " | " $2 " KiB | " $3; if (!(key in n)) order[++rows] = key; n[key]++
      for (k = 4; k <= 7; k++) { if (n[key] == 1 || $k < least[key, k]) least[key, k] = $k; if (n[key] == 1 || $k > most[key, k]) most[key, k] = $k } }
    END { for (r = 1; r <= rows; r++) { line = order[r]
            for (k = 4; k <= 7; k++) line = line " | " (least[order[r], k] == most[order[r], k] ? least[order[r], k] : least[order[r], k] " to " most[order[r], k])
            print line " |" } }'
