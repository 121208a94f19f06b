#!/usr/bin/env bash
# evidence.sh: one real evacuation, as small as they get, and the rows made of its summary; then what it makes of
# summaries in which other things happened. TAP.     usage: test_evidence.sh PATH-OF-EVACUATE     (root; ten seconds)
set -u
evacuate=$(realpath "${1:?the path of evacuate}")
evidence=$(realpath "$(dirname "$0")")/evidence.sh
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
n=0

check() { # "what" command...
    n=$((n + 1))
    local what=$1
    shift
    if "$@" >"$dir/why" 2>&1; then
        echo "ok $n - $what"
    else
        echo "not ok $n - $what"
        tail -n 15 "$dir/why" | sed 's/^/# /'
    fi
}

# evidence STATUS OPTIONS: its table in $dir/out, what it said in $dir/said.
settings=(--vms 2 --disk 8MiB --buffer 32MiB --link 24MB --window 1)
evidence() {
    local wanted=$1 status
    shift
    TMPDIR=$dir "$evidence" "${settings[@]}" --evacuate "$evacuate" --results "$dir/results" --json "$dir/report" "$@" >"$dir/out" 2>"$dir/said"
    status=$?
    [ $status = "$wanted" ] || { echo "exit status $status, not $wanted" && cat "$dir/out" "$dir/said"; return 1; }
}

if [ "$(id -u)" != 0 ]; then echo "1..0 # SKIP needs root for a loop mount" && exit 0; fi
for tool in qemu-system-x86_64 qemu-img mkfs.ext4 python3; do
    command -v $tool >/dev/null || { echo "1..0 # SKIP no $tool" && exit 0; }
done

# Rows against summaries, all of them from what stands there of each VM. Arguments: POLICY:ADMISSION SEED...
cat >"$dir/rows.py" <<'END'
import json, sys

directory, p, seeds = sys.argv[1], sys.argv[2], sys.argv[3:]
start = {"off": "all at once", "sjf": "shortest first"}[p.split(":")[1]]
table = [[c.strip() for c in l.strip().strip("|").split("|")] for l in open(directory + "/out") if l.startswith("| ")]
heads = [r for r in table if r[0] == "policy"]
assert heads[0][2:] == heads[1][3:] == ["failed", "overflows", "writes lost", "delivered ÷ demanded", "mean per VM",
                                        "p99 of a write (s)", "longest stall (s)", "time per VM (s)", "peak of Ω", "MB sent"], heads
report = json.load(open(directory + "/report"))


def mean(values):
    values = list(values)
    return sum(values) / len(values)


# Another way to the same figure: from the top, where one write in a hundred is left over.
def p99_s(waits, longest_s):
    over = sum(waits) / 100
    k = len(waits) - 1
    while waits[k] < over or not waits[k]:
        over -= waits[k]
        k -= 1
    part = 1 - over / waits[k]
    ms = part if k == 0 else 2 ** (k - 1) * 2 ** part
    return longest_s if ms > 16384 and ms > 1000 * longest_s else ms / 1000


def expected(d):
    vm = d["vm"]
    of = lambda key: [v[key] for v in vm]
    waits = [sum(v["window_waits"][k] for v in vm) for k in range(len(vm[0]["window_waits"]))]
    return [sum(of("failed")), len(vm), sum(of("overflows")), sum(of("writes_lost")), sum(of("writes_acknowledged")),
            100 * sum(of("window_delivered_bytes")) / sum(of("window_demanded_bytes")),
            100 * mean(v["window_delivered_bytes"] / v["window_demanded_bytes"] for v in vm),
            p99_s(waits, max(of("longest_stall_ms")) / 1000), max(of("longest_stall_ms")) / 1000, mean(v["move_seconds"] for v in vm if v["runs_at"] == "target"),
            100 * d["buffer_peak_bytes"] / d["buffer_bytes"], sum(l["bytes_sent"] for l in d["link"]) / 1e6], waits


def same(cells, numbers):
    found = [word for c in cells for word in c.replace("%", " ").replace(" of ", " ").split()]
    assert len(found) == len(numbers), (cells, numbers)
    for text, number in zip(found, numbers):
        digits = len(text.partition(".")[2])
        assert abs(float(text) - number) <= 0.5001 * 10 ** -digits, (cells, numbers)


# The same figures in --json, at full length.
def reported(o, numbers):
    keys = ["failed", "vms", "overflows", "writes_lost", "writes_checked", "delivered_pct", "vm_delivered_pct", "p99_write_ms",
            "longest_stall_ms", "move_seconds", "peak_pct", "bytes_sent"]
    for key, number, times in zip(keys, numbers, [1] * 7 + [1000, 1000, 1, 1, 1e6]):
        assert abs(o[key] - times * number) <= 1e-5 * abs(times * number), (key, o, numbers) # bytes are whole


each, waits = [], []
for s in seeds:
    row = [r for r in table if r[:3] == [p.split(":")[0], start, s]]
    assert len(row) == 1, (s, row)
    numbers, w = expected(json.load(open("%s/results/%s-%s.json" % (directory, s, p.replace(":", "-")))))
    each.append(numbers)
    waits.append(w)
    same(row[0][3:], numbers)
    mine = [o for o in report["seeds"] if o["policy"] + ":" + o["start"] == p and o["seeds"] == [s]]
    assert len(mine) == 1 and len(mine[0]["commands"]) == 1 and " --seed %s " % s in mine[0]["commands"][0], mine
    reported(mine[0], numbers)
row = [r for r in table if len(r) == 12 and r[:2] == [p.split(":")[0], start]]
assert len(row) == 1, row
k = list(zip(*each)) # added up, but for parts, times (means) and what is the most (stall, peak)
all = [sum(c) for c in k[:5]] + [mean(k[5]), mean(k[6]), p99_s([sum(c) for c in zip(*waits)], max(k[8])), max(k[8]), mean(k[9]), max(k[10]), mean(k[11])]
same(row[0][2:], all)
reported([o for o in report["rows"] if o["policy"] + ":" + o["start"] == p][0], all)
END
rows() {
    python3 "$dir/rows.py" "$dir" "$@" 2>"$dir/wrong" || { cat "$dir/out" "$dir/wrong" && return 1; }
}

# like FILE NEW PROGRAM: a summary like another, but for what the program does to d and its VMs.
like() {
    python3 -c '
import json, sys
d = json.load(open(sys.argv[1]))
vm = d["vm"]
exec(sys.argv[3])
json.dump(d, open(sys.argv[2], "w"))' "$@"
}

real() {
    evidence 0 --policies planner:sjf --seeds 1 && rows planner:sjf 1 && grep -q "^1 of 1, after [0-9]* s: planner, start sjf, seed 1" "$dir/said" &&
        python3 - "$dir" <<'END'
import json, sys
d = json.load(open(sys.argv[1] + "/results/1-planner-sjf.json"))
assert (d["policy"], d["admission"], d["seed"], len(d["vm"]), d["moved"]) == ("planner", "sjf", 1, 2, 2), d
assert d["writes_acknowledged"] > 100 and d["window_delivered_bytes"] > 2e5, d
words = "%d writes checked, 0 lost; 0 overflows under planner\nShortest first, the longest stall under ours is %.1f s" % (
    d["writes_acknowledged"], d["longest_stall_ms"] / 1000)
wanted = sum(sum(v["window_waits"]) for v in d["vm"])
pace = [v["window_demanded_bytes"] for v in d["vm"]] # 64 KiB and 4 KiB; what came after the last tenth is not in it
assert 0.5 < wanted / (pace[0] / 65536 + pace[1] / 4096) <= 1.1, (wanted, pace)
assert words in open(sys.argv[1] + "/out").read(), words
END
}
check "a real evacuation: the rows are what its summary says" real
[ -f "$dir/results/1-planner-sjf.json" ] || { echo "1..$n" && exit 1; }
cp "$dir/out" "$dir/first"

again() { evidence 0 --policies planner:sjf --seeds 1 && cmp "$dir/out" "$dir/first" && [ ! -s "$dir/said" ]; }
check "what has been made is not made again, and makes the same table" again
check "--next: nothing is missing" evidence 3 --policies planner:sjf --seeds 1 --next

other() { evidence 2 --policies planner:sjf --seeds 1 --window 3 --table && grep -q "other settings.*window 1" "$dir/said"; }
check "results of other settings are refused" other

missing() { evidence 1 --policies planner:sjf --seeds "1 2" --table && grep -q "^evacuations missing: 1$" "$dir/out" && rows planner:sjf 1; }
check "what is missing is told" missing

impossible() {
    evidence 2 --policies planner:sjf --seeds "1 2" --evacuate /bin/false && grep -q "could not be done" "$dir/said" &&
        [ ! -e "$dir/results/2-planner-sjf.json" ]
}
check "an evacuation that cannot be made leaves no result" impossible

# One VM came back, the other overflowed and lost a write; both got less.
bad() {
    like "$dir/results/1-planner-sjf.json" "$dir/results/2-planner-sjf.json" '
vm[0].update(failed=1, runs_at="source", window_delivered_bytes=vm[0]["window_delivered_bytes"] // 3, longest_stall_ms=9876)
vm[1].update(overflows=3, writes_lost=1, window_delivered_bytes=vm[1]["window_delivered_bytes"] // 2, move_seconds=12.34)
vm[0]["window_waits"][13] += 100
d.update(failed=1, moved=1, overflows=3, writes_lost=1, longest_stall_ms=9876, buffer_peak_bytes=d["buffer_bytes"])
d["window_delivered_bytes"] = sum(v["window_delivered_bytes"] for v in vm)' &&
        evidence 1 --policies planner:sjf --seeds "1 2" --table && rows planner:sjf 1 2 &&
        grep -q "checked, 1 lost; 3 overflows under planner" "$dir/out"
}
check "two seeds: sums, means and the most of both; a lost write fails" bad

# paper, all at once, as if it had delivered so many times less.
less() { # TIMES STATUS
    like "$dir/results/1-planner-sjf.json" "$dir/results/1-paper-off.json" '
for x in vm + [d]:
    x["window_delivered_bytes"] = int(x["window_delivered_bytes"] / '"$1"')' &&
        evidence "$2" --policies "paper:off planner:sjf" --seeds 1 --table && rows paper:off 1 && rows planner:sjf 1 &&
        grep -q "^planner, shortest first, delivers, against paper, all at once: $1. times" "$dir/out"
}
check "three times what paper delivers is enough" less 3.0 0
check "one and a half times is not" less 1.5 1
overflown() {
    like "$dir/results/1-planner-sjf.json" "$dir/results/1-none-off.json" 'vm[0]["overflows"] = d["overflows"] = 4' &&
        evidence 0 --policies "none:off planner:sjf" --seeds 1 --table && rows none:off 1 && rows planner:sjf 1
}
check "an overflow without throttle is none of ours" overflown
stalled() { # MS ADMISSION STATUS
    like "$dir/results/1-planner-sjf.json" "$dir/results/3-planner-$2.json" 'vm[0]["window_waits"][15] += 1000
vm[0]["longest_stall_ms"] = d["longest_stall_ms"] = '"$1" &&
        evidence "$3" --policies "planner:$2" --seeds 3 --table && rows "planner:$2" 3 && grep -q "| 30.00 | 30.0 |" "$dir/out"
}
check "a stall as long as max_stall_ms passes" stalled 30000 sjf 0
check "one that is longer does not" stalled 30001 sjf 1
check "all at once as well: one as long passes" stalled 30000 off 0
check "all at once as well: one that is longer does not" stalled 30001 off 1

# Each policy reaches evacuate with what belongs to it, and a person can do it again.
commands() {
    mkdir "$dir/commands"
    for p in lxd-off bradford-sjf fixed-off proxmox-sjf free-off; do
        cp "$dir/results/1-planner-sjf.json" "$dir/commands/1-$p.json"
    done
    evidence 0 --results "$dir/commands" --bradford 7:9000 --policies "lxd:off bradford:sjf fixed:off proxmox:sjf free:off" \
        --seeds 1 --table || return 1
    for words in "--policy lxd --admission off" "--policy bradford:7:9000 --admission sjf" "--policy fixed:700000 --admission off" \
        "--policy mirror --mirror background --admission sjf" \
        "--buffer 2GiB --link 1GB --window 1 --seed 1 --policy free --admission off"; do
        grep -q -- "^    $evacuate .*$words\$" "$dir/out" || { echo "no $words" && return 1; }
    done
}
check "each row's command is told" commands
free_stall() {
    like "$dir/results/1-planner-sjf.json" "$dir/results/1-free-off.json" '
vm[1]["window_longest_stall_ms"] = 4321
vm[0]["longest_stall_ms"] = d["longest_stall_ms"] = 54321' && evidence 0 --policies free:off --seeds 1 --table &&
        grep -q "^| free | all at once | 1 .* | 4.3 | " "$dir/out"
}
check "free: its stalls are those of the window, not of its move" free_stall
refused() { evidence 2 --load short && grep -q "load short: brief or long" "$dir/said" && evidence 2 --policies planner:fifo; }
check "a load or a start that there is not is refused" refused

# today POLICY PROGRAM OPTIONS: two guests of 32 MiB over 16 MB/s; then the program looks at the summary d.
today() {
    TMPDIR=$dir "$evacuate" --vms 2 --disk 32MiB --buffer 64MiB --link 16MB --window 1 --seed 1 --admission off --policy "$1" \
        --json="$dir/today" "${@:3}"
    [ $? -lt 2 ] && python3 -c '
import json, sys
d = json.load(open(sys.argv[1]))
vm = d["vm"]
assert (d["moved"], d["failed"], d["writes_lost"], d["limits_restored"]) == (2, 0, 0, True), d
exec(sys.argv[2])' "$dir/today" "$2"
}
check "lxd: each guest fills a volume of its own, stands, and is moved with all it wrote" today lxd:1MiB '
assert d["overflows"] == 2 and all(v["overflows"] == 1 and v["buffer_peak_bytes"] <= 1 << 20 for v in vm), d
assert 1 << 20 < d["buffer_peak_bytes"] <= 2 << 20, d'
check "bradford: after two writes one a second" today bradford:2:1000000 '
assert d["overflows"] == 0 and all(v["longest_stall_ms"] > 500 for v in vm), d'
check "free: nobody has arrived when the window is over" today free '
assert all(0 < v["window_delivered_bytes"] / size < v["writes_before_arrival"] for v, size in zip(vm, (65536, 4096))), d' --link 1GB --window 3
unknown() {
    "$evacuate" --policy "$1" 2>"$dir/said" && return 1
    grep -q "policy $1: paper.* bradford:WRITES:MICROSECONDS" "$dir/said"
}
for policy in lxd:1KiB bradford:0:1 bradford:1 bradford:1:2x; do
    check "$policy is refused" unknown $policy
done
echo "1..$n"
