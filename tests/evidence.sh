#!/usr/bin/env bash
# Policies compared on real QEMUs: a table in Markdown. Not part of the default run, for it takes half an hour. See --help.
set -u
cd "$(dirname "$0")/.." || exit 2
evacuate=build/plain/tests/rig/evacuate-rig
dir=build/evidence
seeds="1 2 3 4 5"
vms=6 disk=48MiB buffer=64MiB link=20MB window=24
fixed=700000
next=
table=
policies="paper:off paper:sjf planner:off planner:sjf fixed:off fixed:sjf none:off none:sjf mirror:off mirror:sjf free:off"

help() {
    cat <<END
usage: tests/evidence.sh [OPTIONS]      (root; $(($(wc -w <<<"$policies") * $(wc -w <<<"$seeds"))) evacuations of half a minute each)

Moves the same $vms guests from one host with each policy, all at once (off) and one after the other, shortest first
(sjf), and compares what they got written in the first $window s from the start of the evacuation, a window that is the
same for all: who has moved goes on writing at the target, who failed or stands counts with what it got.

  paper, planner  the library's policies
  fixed           $fixed bytes/s of growth for each: 64 MiB / 6 VMs / time in which the link carries all their disks
  none            overlays in the buffer without a throttle
  mirror          write-through: no buffer, each write goes to both hosts before the guest is told of it
  free            nothing in the way: none with 2 GiB of buffer and 1 GB/s of link. What this machine lets guests write

Demanded is the pace of the guests' loads, as they were told it (so bursts count when they are on); free shows how much
of it a guest gets that nobody holds up. Delivered are writes acknowledged to the guests. Time per VM: from the start of
the evacuation until it runs at the target. Every write is checked on the disks in the end.

  --seeds "LIST"    ($seeds)
  --policies "LIST" each with its start ($policies)
  --vms N           guests ($vms)
  --disk SIZE       of each guest ($disk)
  --buffer SIZE     ($buffer; free keeps its own)
  --link RATE       ($link; free keeps its own)
  --window S        seconds that are compared ($window)
  --results DIR     one summary per evacuation; those that are there are not made again ($dir)
  --evacuate PROG   ($evacuate)
  --next            makes only the next one that is missing; exit status 3 when none is
  --table           makes none, prints the table of those that are there
  --help            this text

Exit status: 0 nothing lost, paper and planner without overflow, and planner one after the other delivers at least twice
what paper all at once does; 1 otherwise; 2 it could not be done.
END
}

complain() {
    echo "evidence.sh: $*" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
    --help) help && exit 0 ;;
    --next) next=1 ;;
    --table) table=1 ;;
    --seeds | --policies | --vms | --disk | --buffer | --link | --window | --results | --evacuate)
        [ $# -gt 1 ] || complain "$1 needs a value"
        case $1 in
        --seeds) seeds=$2 ;;
        --policies) policies=$2 ;;
        --vms) vms=$2 ;;
        --disk) disk=$2 ;;
        --buffer) buffer=$2 ;;
        --link) link=$2 ;;
        --window) window=$2 ;;
        --results) dir=$2 ;;
        *) evacuate=$2 ;;
        esac
        shift
        ;;
    *) complain "$1 is no option; --help lists them" ;;
    esac
    shift
done
for seed in $seeds; do
    case $seed in *[!0-9]*) complain "--seeds \"$seeds\": numbers with spaces between" ;; esac
done
for p in $policies; do
    case $p in
    paper:off | paper:sjf | planner:off | planner:sjf | fixed:off | fixed:sjf | none:off | none:sjf | mirror:off | mirror:sjf | free:off) ;;
    *) complain "--policies: $p is none; --help lists them" ;;
    esac
done
[ -n "$policies" ] || complain "--policies: at least one"
[ -n "$seeds" ] || complain "--seeds: at least one"

# What was measured with other settings is another table.
settings="vms $vms disk $disk buffer $buffer link $link window $window fixed $fixed"
mkdir -p "$dir" || exit 2
[ -f "$dir/settings" ] || echo "$settings" >"$dir/settings"
[ "$(cat "$dir/settings")" = "$settings" ] || complain "$dir holds results of other settings: $(cat "$dir/settings")"

one() { # SEED POLICY ADMISSION
    local policy=$2 b=$buffer l=$link status
    case $policy in
    fixed) policy=fixed:$fixed ;;
    free) policy=none b=2GiB l=1GB ;;
    esac
    rm -f "$dir/new"
    timeout -k 60 300 "$evacuate" --vms "$vms" --disk "$disk" --buffer $b --link $l --window "$window" --seed "$1" \
        --policy "$policy" --admission "$3" --json="$dir/new" >"$dir/log" 2>&1
    status=$?
    [ $status -lt 2 ] && [ -s "$dir/new" ] || { tail -n 5 "$dir/log" >&2 && complain "an evacuation could not be done"; }
    mv "$dir/new" "$dir/$1-$2-$3.json"
}

# Seed by seed: what disturbs the machine for some minutes disturbs all policies.
n=0
all=$(($(wc -w <<<"$policies") * $(wc -w <<<"$seeds")))
for seed in $seeds; do
    for p in $policies; do
        n=$((n + 1))
        [ -z "$table" ] && [ ! -f "$dir/$seed-${p/:/-}.json" ] || continue
        [ -x "$evacuate" ] || complain "$evacuate is not there: meson setup build/plain && meson compile -C build/plain makes it"
        echo "$n of $all: ${p%:*}, start ${p#*:}, seed $seed" >&2
        one "$seed" "${p%:*}" "${p#*:}"
        [ -z "$next" ] || exit 0
    done
done
[ -z "$next" ] || exit 3

exec python3 - "$dir" "$policies" "$seeds" <<'END'
import json, os, sys

directory, policies, seeds = sys.argv[1], sys.argv[2].split(), sys.argv[3].split()
start = {"off": "all at once", "sjf": "shortest first"}


def row(d):
    vms = d["vm"]
    part = [v["window_delivered_bytes"] / v["window_demanded_bytes"] for v in vms]
    moves = [v["move_seconds"] for v in vms if v["runs_at"] == "target"]
    return {
        "vms": len(vms),
        "failed": d["failed"],
        "overflows": d["overflows"],
        "lost": d["writes_lost"],
        "checked": d["writes_acknowledged"],
        "delivered": 100 * d["window_delivered_bytes"] / d["window_demanded_bytes"],
        "mean": 100 * sum(part) / len(part),
        "stall": d["longest_stall_ms"] / 1000,
        "time": sum(moves) / len(moves) if moves else float("nan"),
        "peak": 100 * d["buffer_peak_bytes"] / d["buffer_bytes"],
    }


def line(*cells):
    print("| " + " | ".join(cells) + " |")


def numbers(r):
    return ("%d of %d" % (r["failed"], r["vms"]), "%d" % r["overflows"], "%d of %d" % (r["lost"], r["checked"]),
            "%.1f %%" % r["delivered"], "%.1f %%" % r["mean"], "%.1f" % r["stall"], "%.1f" % r["time"],
            "%.0f %%" % r["peak"])


columns = ["failed", "overflows", "writes lost", "delivered ÷ demanded", "mean per VM", "longest stall (s)",
           "time per VM (s)", "peak of Ω"]
rows = {}
for p in policies:
    for s in seeds:
        path = os.path.join(directory, "%s-%s.json" % (s, p.replace(":", "-")))
        if os.path.exists(path):
            with open(path) as f:
                rows.setdefault(p, {})[s] = row(json.load(f))


def together(of):
    mean = lambda key: sum(r[key] for r in of) / len(of)
    add = lambda key: sum(r[key] for r in of)
    return {"vms": add("vms"), "failed": add("failed"), "overflows": add("overflows"), "lost": add("lost"),
            "checked": add("checked"), "delivered": mean("delivered"), "mean": mean("mean"),
            "stall": max(r["stall"] for r in of), "time": mean("time"), "peak": max(r["peak"] for r in of)}


sums = {p: together(list(rows[p].values())) for p in policies if p in rows}
line("policy", "start", *columns)
line(*["---"] * (2 + len(columns)))
for p in sums:
    line(p.split(":")[0], start[p.split(":")[1]], *numbers(sums[p]))
print()
line("policy", "start", "seed", *columns)
line(*["---"] * (3 + len(columns)))
for p in rows:
    for s in rows[p]:
        line(p.split(":")[0], start[p.split(":")[1]], s, *numbers(rows[p][s]))
print()
kept = [p for p in sums if p.split(":")[0] in ("paper", "planner")]
lost = sum(r["lost"] for r in sums.values())
overflows = sum(sums[p]["overflows"] for p in kept)
print("%d writes checked, %d lost; %d overflows under paper and planner" %
      (sum(r["checked"] for r in sums.values()), lost, overflows))
good = not lost and not overflows


def times(a, b, words):
    if a not in sums or b not in sums:
        return 2
    ratio = sums[a]["delivered"] / sums[b]["delivered"]
    print("%s: %.2f times" % (words, ratio))
    return ratio


times("planner:off", "paper:off", "planner delivers, against paper, both all at once")
times("planner:sjf", "paper:sjf", "planner delivers, against paper, both shortest first")
times("paper:sjf", "paper:off", "shortest first delivers, against all at once, both paper")
times("planner:sjf", "planner:off", "shortest first delivers, against all at once, both planner")
good = good and times("planner:sjf", "paper:off", "planner, shortest first, delivers, against paper, all at once") >= 2
missing = len(policies) * len(seeds) - sum(len(r) for r in rows.values())
if missing:
    print("evacuations missing: %d" % missing)
sys.exit(0 if good and not missing else 1)
END
