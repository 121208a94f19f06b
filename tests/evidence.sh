#!/usr/bin/env bash
# Policies compared on real QEMUs: a table in Markdown. Not part of the default run, for it takes half an hour or more. See --help.
set -u
cd "$(dirname "$0")/.." || exit 2
evacuate=build/plain/tests/rig/evacuate-rig
next=
table=
json=
load=brief

# brief: half a minute, and a buffer that is short all at once. long: three minutes, and a buffer that is short however
# the guests start.
set_load() {
    case $1 in
    brief)
        dir=build/evidence seeds="1 2 3 4 5" vms=6 disk=48MiB buffer=64MiB link=20MB window=24
        fixed_off=700000 fixed_sjf=700000 bradford=170:16384
        policies=$every
        ;;
    long)
        dir=build/evidence-long seeds=1 vms=12 disk=256MiB buffer=64MiB link=20MB window=180
        fixed_off=65536 fixed_sjf=5000000 bradford=85:16384
        policies="free:off hybrid:sjf planner:sjf proxmox:sjf paper:off lxd:sjf bradford:sjf fixed:sjf"
        ;;
    *) return 1 ;;
    esac
}
every=
for p in paper planner hybrid fixed none lxd bradford mirror proxmox blocking; do every+="$p:off $p:sjf "; done
every+=free:off
set_load brief

complain() {
    echo "evidence.sh: $*" >&2
    exit 2
}

help() {
    cat <<END
usage: tests/evidence.sh [OPTIONS]      (root)

Moves the same guests from one host with each policy, all at once (off) and one after the other, shortest first (sjf),
and compares what they got written in the first seconds from the start of the evacuation, a window that is the same for
all: who has moved goes on writing at the target, who failed or stands counts with what it got.

  --load brief      6 guests of 48 MiB, 64 MiB of buffer, 24 s; half a minute for each evacuation; five seeds
  --load long       12 guests of 256 MiB, 64 MiB of buffer, 180 s; three and a half minutes for each. One seed, each way
                    once and started as is best for it, paper as it was proposed: 25 minutes. All rows: an hour and a
                    quarter

  paper, planner  the library's policies
  hybrid          planner, and guests that would lose by an overlay are mirrored
  fixed           so many bytes/s of growth for each, as fits when the link carries the disks. brief: $fixed_off (64 MiB
                  / 6 VMs / time for all disks); long: 65536 all at once (the least QEMU can be told; 35000 would fit),
                  5000000 one after the other
  none            overlays in one buffer without a throttle. One after the other it is LXD's way with a size.state as
                  large as the buffer
  lxd             LXD's way today: each VM a volume of its own (size.state), all together as large as the buffer, and no
                  throttle. A guest whose volume is full stands until it is at its target. Its overlay's mirror keeps
                  QEMU's 16 MiB in flight; the others' keep 64 KiB, for the guest's writes wait behind them
  bradford        after a threshold of writes each waits, twice as long at each further threshold. Here as many writes
                  of 64 KiB as fill a guest's part of the buffer, and 16.384 ms, the first power of two of 2.048 ms
                  that our guests feel. With the published 16384 writes and 2.048 ms they would move unthrottled
  mirror          no buffer: every disk is mirrored, set so that its guest goes first
  proxmox         the same as Proxmox and libvirt do it: in the background with QEMU's own settings. The end is a short
                  pause, or write-blocking where QEMU can change to that (8.2)
  blocking        the same, write-blocking from the start with QEMU's own settings
  free            nobody moves in the window (of 30 s at most): what this machine lets guests write. Then all move, without
                  a throttle and over 1 GB/s

Demanded is the pace of the guests' loads, as they were told it (so bursts count when they are on); free shows how much
of it a guest gets that nobody holds up. Delivered are writes acknowledged to the guests. p99: one in a hundred of the
writes that guests wanted to make in the window took longer; those that a stall kept from being made count with the
time to its end. Longest stall: the most that one waited without anything being acknowledged, also while it was stopped.
Time per VM: from the start of the evacuation until it runs at the target. Every write is checked on the disks in the
end. Every other seed takes the rows in the opposite order. Disks are made in TMPDIR, long needs 7 GiB there.

  --load NAME       brief, long; before the options that change it (brief)
  --seeds "LIST"    of numbers
  --policies "LIST" each with its start, as planner:sjf; or all
  --vms N           guests
  --disk SIZE       of each guest
  --buffer SIZE     (free keeps its own)
  --link RATE       (free keeps its own)
  --window S        seconds that are compared
  --bradford W:US   threshold and first delay
  --results DIR     one summary per evacuation; those that are there are not made again
                    (build/evidence, build/evidence-long)
  --evacuate PROG   ($evacuate)
  --next            makes only the next one that is missing; exit status 3 when none is
  --table           makes none, prints the table of those that are there
  --json FILE       the rows, each seed's too, with the command of each
  --help            this text

Exit status: 0 nothing lost, our policies without overflow and without a stall above max_stall_ms, and planner, started as
recommended (sjf), delivers at least twice what paper all at once does; 1 otherwise; 2 it could not be done.
END
}

while [ $# -gt 0 ]; do
    case $1 in
    --help) help && exit 0 ;;
    --next) next=1 ;;
    --table) table=1 ;;
    --load | --seeds | --policies | --vms | --disk | --buffer | --link | --window | --bradford | --results | --evacuate | --json)
        [ $# -gt 1 ] || complain "$1 needs a value"
        case $1 in
        --load) load=$2 && { set_load "$2" || complain "--load $2: brief or long"; } ;;
        --seeds) seeds=$2 ;;
        --policies) policies=$2 ;;
        --vms) vms=$2 ;;
        --disk) disk=$2 ;;
        --buffer) buffer=$2 ;;
        --link) link=$2 ;;
        --window) window=$2 ;;
        --bradford) bradford=$2 ;;
        --json) json=$2 ;;
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
[ "$policies" != all ] || policies=$every
for p in $policies; do
    case " $every " in *" $p "*) ;; *) complain "--policies: $p is none; --help lists them, with their start, off or sjf" ;; esac
done
[ -n "$policies" ] || complain "--policies: at least one"
[ -n "$seeds" ] || complain "--seeds: at least one"

# What was measured with other settings is another table.
settings="vms $vms disk $disk buffer $buffer link $link window $window fixed $fixed_off $fixed_sjf bradford $bradford"
mkdir -p "$dir" || exit 2
[ -f "$dir/settings" ] || echo "$settings" >"$dir/settings"
[ "$(cat "$dir/settings")" = "$settings" ] || complain "$dir holds results of other settings: $(cat "$dir/settings")"

command_of() { # SEED POLICY START
    local policy=$2 b=$buffer l=$link w=$window
    case $2:$3 in
    fixed:off) policy=fixed:$fixed_off ;;
    fixed:sjf) policy=fixed:$fixed_sjf ;;
    bradford:*) policy=bradford:$bradford ;;
    mirror:*) policy="mirror --mirror ours" ;;
    proxmox:*) policy="mirror --mirror background" ;;
    blocking:*) policy="mirror --mirror blocking" ;;
    free:*) b=2GiB l=1GB w=$((window < 30 ? window : 30)) ;;
    esac
    echo "$evacuate --vms $vms --disk $disk --buffer $b --link $l --window $w --seed $1 --policy $policy --admission $3"
}

one() { # SEED POLICY START
    local status
    rm -f "$dir/new"
    timeout -k 60 $((300 + 3 * window)) $(command_of "$@") --json="$dir/new" >"$dir/log" 2>&1
    status=$?
    [ $status -lt 2 ] && [ -s "$dir/new" ] || { tail -n 5 "$dir/log" >&2 && complain "an evacuation could not be done"; }
    mv "$dir/new" "$dir/$1-$2-$3.json"
}

# Seed by seed: what disturbs the machine for some minutes disturbs all policies.
n=0
all=$(($(wc -w <<<"$policies") * $(wc -w <<<"$seeds")))
backwards=
began=$SECONDS
for seed in $seeds; do
    order=$policies
    [ -z "$backwards" ] || order=$(tr ' ' '\n' <<<"$policies" | tac)
    [ -n "$backwards" ] && backwards= || backwards=1
    for p in $order; do
        n=$((n + 1))
        [ -z "$table" ] && [ ! -f "$dir/$seed-${p/:/-}.json" ] || continue
        [ -x "$evacuate" ] || complain "$evacuate is not there: meson setup build/plain && meson compile -C build/plain makes it"
        echo "$n of $all, after $((SECONDS - began)) s: ${p%:*}, start ${p#*:}, seed $seed" >&2
        one "$seed" "${p%:*}" "${p#*:}"
        [ -z "$next" ] || exit 0
    done
done
[ -z "$next" ] || exit 3

for p in $policies; do
    for seed in $seeds; do
        echo "$p $seed $(command_of "$seed" "${p%:*}" "${p#*:}")"
    done
done >"$dir/commands"

exec python3 - "$dir" "$policies" "$seeds" "$json" <<'END'
import json, math, os, sys

directory, policies, seeds, output = sys.argv[1], sys.argv[2].split(), sys.argv[3].split(), sys.argv[4]
start = {"off": "all at once", "sjf": "shortest first"}
ours = ("paper", "planner", "hybrid")
MAX_STALL_S = 30 # max_stall_ms, as migbuf_buffer_options_init sets it
commands = {}
with open(os.path.join(directory, "commands")) as f:
    for l in f:
        p, s, command = l.rstrip("\n").split(" ", 2)
        commands[p, s] = command


def quantile(waits, q):
    """ms: waits[0] took less than 1, waits[k] 2^(k-1) to 2^k; within one they are spread by their logarithm"""
    all, below = sum(waits), 0
    for k, n in enumerate(waits):
        if n > 0 and below + n >= q * all:
            part = (q * all - below) / n
            return part if k == 0 else 2 ** (k - 1 + part)
        below += n
    return float("nan")


def p99_ms(r):
    """a doubling is coarse where only stalls are that long: then the longest one is the bound"""
    return min(quantile(r["waits"], 0.99), max(1000 * r["stall"], 16384))


def row(d, free):
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
        "waits": [sum(w) for w in zip(*(v["window_waits"] for v in vms))],
        "stall": (max(v["window_longest_stall_ms"] for v in vms) if free else d["longest_stall_ms"]) / 1000, # free: not of its move
        "time": sum(moves) / len(moves) if moves else float("nan"),
        "peak": 100 * d["buffer_peak_bytes"] / d["buffer_bytes"],
        "sent": sum(l["bytes_sent"] for l in d["link"]) / 1e6,
        "pauses": d["pauses"],
    }


def line(*cells):
    print("| " + " | ".join(cells) + " |")


def numbers(r):
    return ("%d of %d" % (r["failed"], r["vms"]), "%d" % r["overflows"], "%d of %d" % (r["lost"], r["checked"]),
            "%.1f %%" % r["delivered"], "%.1f %%" % r["mean"], "%.2f" % (p99_ms(r) / 1000), "%.1f" % r["stall"],
            "%.1f" % r["time"], "%.0f %%" % r["peak"], "%.0f" % r["sent"])


columns = ["failed", "overflows", "writes lost", "delivered ÷ demanded", "mean per VM", "p99 of a write (s)", "longest stall (s)",
           "time per VM (s)", "peak of Ω", "MB sent"]
rows = {}
for p in policies:
    for s in seeds:
        path = os.path.join(directory, "%s-%s.json" % (s, p.replace(":", "-")))
        if os.path.exists(path):
            with open(path) as f:
                rows.setdefault(p, {})[s] = row(json.load(f), p == "free:off")


def together(of):
    mean = lambda key: sum(r[key] for r in of) / len(of)
    add = lambda key: sum(r[key] for r in of)
    return {"vms": add("vms"), "failed": add("failed"), "overflows": add("overflows"), "lost": add("lost"),
            "checked": add("checked"), "delivered": mean("delivered"), "mean": mean("mean"),
            "waits": [sum(w) for w in zip(*(r["waits"] for r in of))], "stall": max(r["stall"] for r in of),
            "time": mean("time"), "peak": max(r["peak"] for r in of), "sent": mean("sent"), "pauses": add("pauses")}


def as_json(p, r, s):
    policy, admission = p.split(":")
    o = {"policy": policy, "start": admission, "seeds": [s] if s else list(rows[p])}
    o.update({"vms": r["vms"], "failed": r["failed"], "overflows": r["overflows"], "writes_lost": r["lost"],
              "writes_checked": r["checked"], "delivered_pct": r["delivered"], "vm_delivered_pct": r["mean"],
              "p99_write_ms": p99_ms(r), "longest_stall_ms": 1000 * r["stall"],
              "move_seconds": None if math.isnan(r["time"]) else r["time"], "peak_pct": r["peak"], "bytes_sent": 1e6 * r["sent"],
              "pauses": r["pauses"], "commands": [commands[p, k] for k in ([s] if s else rows[p])]})
    return o


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
if output:
    with open(output, "w") as f:
        json.dump({"rows": [as_json(p, sums[p], None) for p in sums],
                   "seeds": [as_json(p, rows[p][s], s) for p in rows for s in rows[p]]}, f, indent=1)
        f.write("\n")
print("One row, one seed:")
for p in rows:
    print("    " + commands[p, next(iter(rows[p]))])
print()
kept = [p for p in sums if p.split(":")[0] in ours]
lost = sum(r["lost"] for r in sums.values())
overflows = sum(sums[p]["overflows"] for p in kept)
print("%d writes checked, %d lost; %d overflows under %s" %
      (sum(r["checked"] for r in sums.values()), lost, overflows,
       " and ".join(o for o in ours if any(p.startswith(o + ":") for p in kept)) or "none of ours"))
good = not lost and not overflows
for admission, words in ("sjf", "Shortest first"), ("off", "All at once"):
    stalls = [sums[p]["stall"] for p in kept if p.endswith(":" + admission)]
    if stalls:
        print("%s, the longest stall under ours is %.1f s; max_stall_ms is %d s" % (words, max(stalls), MAX_STALL_S))
        good = good and max(stalls) <= MAX_STALL_S


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
