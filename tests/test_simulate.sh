#!/bin/sh
# SPDX-License-Identifier: MIT
# simulate: same seed same result, resuming equals running afresh, the shape of its JSON, nothing outgrows the volume.
# Usage: test_simulate.sh PATH-OF-SIMULATE. Prints TAP.
set -u
tested=$1
simulate=$1
# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"

every_column() { # FILE: all that a row has, on however many lines
    for title in failed overflows delivered "per VM" bound p99 completion peak "run end" "run peak" "start end" "start peak" \
        "wait end" "wait peak"; do
        grep -q -- "$title" "$1" || { echo "no $title"; return 1; }
    done
}

table() {
    "$simulate" --quiet --scenario light --seeds 1 >"$dir/table" && cat "$dir/table" && [ "$(wc -L <"$dir/table")" -le 100 ] &&
        every_column "$dir/table" && [ "$(grep -c '^light *planner *sjf' "$dir/table")" -eq 2 ]
}

narrow() { # a terminal by script(1), where there is one
    command -v script >/dev/null || return 0
    script -qec "stty cols 80 && '$simulate' --quiet --scenario light --seeds 1" /dev/null </dev/null | tr -d '\r' >"$dir/table"
    cat "$dir/table"
    [ "$(wc -L <"$dir/table")" -le 80 ] && every_column "$dir/table" && [ "$(grep -c '^light *planner *sjf' "$dir/table")" -gt 2 ]
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

# What is promised of those that leave without being noticed.
goals() {
    "$simulate" --quiet --scenario evac16 --policy hybrid --admission sjf --seeds 3 --seed 101 --json "$dir/goals.json" >/dev/null
    "$simulate" --quiet --scenario 1gbe --policy hybrid --admission sjf --seeds 3 --seed 101 --json "$dir/slow.json" >/dev/null
    python3 -c 'import json, sys
[e], [s] = json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))
sys.exit(not (e["vm_delivered_pct"] >= 97 and e["p99_slowdown"] <= 5 and s["vm_delivered_pct"] >= 92 and s["p99_slowdown"] <= 10 and
              not e["overflows"] + s["overflows"] and e["failed_pct"] == s["failed_pct"] == 0))' "$dir/goals.json" "$dir/slow.json"
}

# How a disk is mirrored decides what its guest gets.
ways_to_mirror() {
    for way in background paced blocking; do
        "$simulate" --quiet --scenario evac16 --policy mirror --admission sjf --seeds 1 --mirror $way --json "$dir/$way.json" >/dev/null
    done
    python3 -c 'import json, sys
b, p, q = (json.load(open(f))[0] for f in sys.argv[1:])
sys.exit(not (b["vm_delivered_pct"] > 99.5 and p["vm_delivered_pct"] > 99 and q["vm_delivered_pct"] < 95 and q["p99_slowdown"] > 5 and
              b["mean_completion_s"] < p["mean_completion_s"]))' "$dir/background.json" "$dir/paced.json" "$dir/blocking.json"
}

# A link that stays behind its plan: with this seed guests stood for 91 s before their floors were kept free.
nobody_stands() {
    "$simulate" --quiet --scenario 1gbe --policy planner --admission sjf --seeds 1 --seed 11 --json "$dir/stand.json" >/dev/null
    python3 -c 'import json, sys
[r] = json.load(open(sys.argv[1]))
sys.exit(not (0 < r["longest_stall_s"] <= 1 and r["pauses_per_vm"] == 0))' "$dir/stand.json"
}

# Small clusters need less of the volume, so that more is delivered; who would be held back waits, and gets more.
causes() {
    for more in "--admission sjf" "--admission sjf --without clusters" "--admission patient"; do
        "$simulate" --quiet --scenario dbhost --policy planner --seeds 1 $more --json - || return 1
    done >"$dir/causes.json"
    python3 -c 'import json, sys
text = open(sys.argv[1]).read().replace("]\n[", ",")
usual, clusters, patient = json.loads(text)
sys.exit(not (clusters["vm_delivered_pct"] > usual["vm_delivered_pct"] + 3 and
              patient["vm_delivered_pct"] > usual["vm_delivered_pct"] + 1))' "$dir/causes.json"
}

# What others do today. With a volume of its own, and the sum of them Ω, nobody fails, guests stand, and never is Ω outgrown.
# A mirror that waits until nothing is dirty hinders nobody, and over a slow link it waits for ever.
others() {
    "$simulate" --quiet --scenario evac16,1gbe --policy lxd,proxmox --admission off --seeds 2 --json "$dir/others.json" >/dev/null
    python3 -c 'import json, sys
row = {(r["scenario"], r["policy"]): r for r in json.load(open(sys.argv[1]))}
lxd, fast, slow = row["evac16", "lxd"], row["evac16", "proxmox"], row["1gbe", "proxmox"]
assert lxd["failed_pct"] == 0 and 0 < lxd["overflows"] <= 2 * 16 and 0.5 < lxd["peak_fraction"] <= 1, lxd
assert lxd["p99_slowdown"] > 1000 and lxd["vm_delivered_pct"] < lxd["bound_vm_delivered_pct"] - 20, lxd
assert fast["failed_pct"] == 0 and slow["failed_pct"] > 10, (fast, slow)
for r in fast, slow:
    assert r["vm_delivered_pct"] > 99 and r["peak_fraction"] == 0 and r["bound_vm_delivered_pct"] == 100, r' "$dir/others.json"
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
check "nobody notices the move: the goals" goals
check "a mirror in the background, paced, and as QEMU does it when nothing is set" ways_to_mirror
check "nobody stands for longer than max_stall" nobody_stands
check "causes that are switched off, and patience" causes
check "an unknown way to mirror" refuses "--mirror fast: .*background, blocking, paced" --mirror fast
check "an unknown cause" refuses "--without rain: .*reserve, hysteresis, late, noise, unknown, clusters" --without rain
check "others' ways: LXD's guests stand, Proxmox's mirror may never end" others
check "a picture" sh -c "'$simulate' --quiet --scenario evac16 --admission sjf --seeds 1 --svg '$dir/a.svg' && grep -q '</svg>' '$dir/a.svg'"
check "several hosts" "$simulate" --quiet --scenario evac16 --hosts 3 --seeds 1 --policy planner,paper
check "replays a trace" replays
check "help" sh -c "'$simulate' --help | grep -q '^usage: simulate'"
check "refuses an unknown scenario and names those there are" refuses "--scenario mars: .*normal, evac16, dbhost, 1gbe, light" --scenario light,mars
check "an unknown policy" refuses "--policy fair: .*paper, planner, mirror, proxmox, hybrid" --policy fair
check "an unknown admission" refuses "--admission lifo: .*off, sjf, fifo, patient" --admission lifo
check "an empty name" refuses '--policy "": ' --policy paper,
check "a number that is none, and says its range" refuses "--seeds 2x: .* from 1 to 100000" --seeds 2x
check "half a host" refuses "--hosts 2.5: .* from 1 to 64" --hosts 2.5
check "no volume" refuses "--omega 0: .*1 MiB to 1 PB" --omega 0
check "an interval between the model's steps" refuses "--interval 0.25: .*0.1 to 60" --interval 0.25
check "an option without its value" refuses "--jobs needs a value" --jobs
check "a value where there is none" refuses "--quiet takes no value" --quiet=1
check "what is not an option" refuses "7: there are options only" 7
check "an option of one letter" refuses "-q is no option" -q
check "a file that is not there" refuses "--trace $dir/nowhere: No such file" --trace "$dir/nowhere"
printf 'heading\n0,1\n\n5;7\n' >"$dir/bad.csv"
check "a line that is no point, by its number" refuses "--trace $dir/bad.csv, line 4: " --trace "$dir/bad.csv"
for output in json svg resume; do
    check "--$output where nothing can be written, before it runs" refuses "--$output $dir/nowhere/x: No such file" --$output "$dir/nowhere/x"
done
check "sizes have units: the same volume by other words" sh -c "'$simulate' --quiet --scenario light --admission off --seeds 1 --json - >'$dir/plain.json' && '$simulate' --quiet --scenario light --admission off --seeds 1 --omega 10GiB --json - | cmp - '$dir/plain.json'"
worker_dies() { # the others wait for more to do: that one is gone is told, and nobody hangs
    "$simulate" --quiet --scenario evac16 --seeds 100000 --jobs 2 --json "$dir/never.json" 2>"$dir/message" &
    pid=$!
    until worker=$(cat "/proc/$pid/task/$pid/children") && [ "$(echo "$worker" | wc -w)" = 2 ]; do kill -0 $pid || return 1; done
    kill -9 "${worker%% *}"
    wait $pid
    status=$?
    cat "$dir/message"
    [ $status -ne 0 ] && [ $status -lt 128 ] && grep -q "a worker is gone" "$dir/message"
}
check "a worker that is killed" worker_dies
check "the table is not wider than 100 columns, with every column" table
check "nor than a terminal of 80" narrow
check "-h and --version" sh -c "'$simulate' -h | grep -q '^usage: simulate' && '$simulate' --version | grep -qx 'simulate [0-9.]*' && [ \$('$simulate' --help | wc -L) -le 100 ]"
tap_end
