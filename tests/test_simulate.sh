#!/bin/sh
# SPDX-License-Identifier: MIT
# simulate: same seed same result, resuming equals running afresh, the shape of its JSON, nothing outgrows the volume.
# Usage: test_simulate.sh PATH-OF-SIMULATE. Prints TAP.
set -u
simulate=$1
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
n=0
failed=0

check() { # check "what" command...
    what=$1
    shift
    n=$((n + 1))
    if "$@" >"$dir/out" 2>&1; then
        echo "ok $n - $what"
    else
        failed=1
        echo "not ok $n - $what"
        sed 's/^/# /' "$dir/out"
    fi
}

refuses() {
    "$simulate" "$@" >/dev/null 2>"$dir/message"
    [ $? -eq 2 ] && [ -s "$dir/message" ]
}

run() { # run FILE options...: two scenarios, four rows, eight runs
    file=$1
    shift
    "$simulate" --quiet --scenario evac16,light --policy paper,planner --admission sjf --seeds 2 --seed 7 --json "$file" "$@"
}

shape() {
    keys="scenario policy admission seeds failed_pct overflows delivered_pct vm_delivered_pct p99_slowdown mean_completion_s
          peak_fraction bound_vm_delivered_pct"
    [ "$(head -n 1 "$1")" = "[" ] && [ "$(tail -n 1 "$1")" = "]" ] || return 1
    for key in $keys; do
        [ "$(grep -c "\"$key\": " "$1")" -eq "$2" ] || { echo "$key"; return 1; }
    done
    [ "$(grep -c '^  {.*}$' "$1")" -eq 1 ] && [ "$(grep -c '^  {.*},$' "$1")" -eq $(($2 - 1)) ]
}

no_overflow() {
    [ "$(grep -c '"overflows": 0,' "$1")" -eq 4 ] && [ "$(grep -c '"failed_pct": 0.000,' "$1")" -eq 4 ]
}

# No row may promise more than its bound.
below_bound() {
    sed -n 's/.*"vm_delivered_pct": \([0-9.]*\).*"bound_vm_delivered_pct": \([0-9.]*\).*/\1 \2/p' "$1" |
        awk '{ if ($1 > $2 + 0.2) bad = 1 } END { exit bad || NR == 0 }'
}

half_done() { # four whole lines of eight, and one that was cut
    head -n 4 "$dir/all.txt" >"$dir/half.txt"
    sed -n 5p "$dir/all.txt" | head -c 100 >>"$dir/half.txt"
    echo >>"$dir/half.txt"
}

overflows_without_throttle() {
    "$simulate" --quiet --scenario evac16 --policy none --admission off --seeds 2 --json "$dir/none.json" >/dev/null
    ! grep -q '"overflows": 0,' "$dir/none.json"
}

replays() {
    printf 'seconds,bytes_per_s\n0,1000000\n10,50000000\n20,0\n' >"$dir/trace.csv"
    "$simulate" --quiet --scenario light --policy planner --admission off --seeds 1 --trace "$dir/trace.csv" --json |
        grep -q '"scenario": "light"'
}

# Who cannot fit is mirrored: more is delivered, to all together and to each, and nobody waits longer.
mirrors_who_cannot_fit() {
    "$simulate" --quiet --scenario evac16 --policy planner,hybrid --admission sjf --seeds 2 --json "$dir/hybrid.json" >/dev/null
    python3 -c 'import json, sys
p, h = json.load(open(sys.argv[1]))
sys.exit(not (h["delivered_pct"] > p["delivered_pct"] + 10 and h["vm_delivered_pct"] > p["vm_delivered_pct"] and
              h["p99_slowdown"] < p["p99_slowdown"] and not h["overflows"] and h["failed_pct"] == 0 and
              p["finish_within_pct"] > 60 and p["peak_within_pct"] > 60 and
              p["start_finish_within_pct"] > 60 and p["start_peak_within_pct"] > 60))' "$dir/hybrid.json"
}

check "runs" run "$dir/a.json"
check "same seeds, one process, keeping a file: the same" run "$dir/b.json" --jobs 1 --resume "$dir/all.txt"
check "to the last digit" cmp "$dir/a.json" "$dir/b.json"
check "half of it is there" half_done
check "goes on" run "$dir/c.json" --jobs 2 --resume "$dir/half.txt"
check "a resumed run equals a fresh one" cmp "$dir/a.json" "$dir/c.json"
check "nothing left to do" run "$dir/d.json" --resume "$dir/half.txt"
check "equals it, too" cmp "$dir/a.json" "$dir/d.json"
check "another seed gives something else" sh -c "! '$simulate' --quiet --scenario evac16,light --admission sjf --seeds 2 --seed 9 --json - | cmp -s - '$dir/a.json'"
check "JSON: an array of rows" shape "$dir/a.json" 4
check "paper and planner: no overflow, nobody fails" no_overflow "$dir/a.json"
check "nothing above its bound" below_bound "$dir/a.json"
check "without throttle it overflows" overflows_without_throttle
check "who cannot fit is mirrored, and forecasts hold" mirrors_who_cannot_fit
check "a picture" sh -c "'$simulate' --quiet --scenario evac16 --admission sjf --seeds 1 --svg '$dir/a.svg' && grep -q '</svg>' '$dir/a.svg'"
check "several hosts" "$simulate" --quiet --scenario evac16 --hosts 3 --seeds 1 --policy planner,paper
check "replays a trace" replays
check "help" sh -c "'$simulate' --help | grep -q '^usage: simulate'"
check "refuses an unknown scenario" refuses --scenario mars
check "refuses an unknown policy" refuses --policy fair
check "refuses a number that is none" refuses --seeds 2x
check "refuses what is not an option" refuses 7
echo "1..$n"
exit $failed
