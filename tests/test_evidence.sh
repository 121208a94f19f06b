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
    TMPDIR=$dir "$evidence" "${settings[@]}" --evacuate "$evacuate" --results "$dir/results" "$@" >"$dir/out" 2>"$dir/said"
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
                                        "longest stall (s)", "time per VM (s)", "peak of Ω"], heads


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def expected(d):
    vm = d["vm"]
    of = lambda key: [v[key] for v in vm]
    return [sum(of("failed")), len(vm), sum(of("overflows")), sum(of("writes_lost")), sum(of("writes_acknowledged")),
            100 * sum(of("window_delivered_bytes")) / sum(of("window_demanded_bytes")),
            100 * mean(v["window_delivered_bytes"] / v["window_demanded_bytes"] for v in vm),
            max(of("longest_stall_ms")) / 1000, mean(v["move_seconds"] for v in vm if v["runs_at"] == "target"),
            100 * d["buffer_peak_bytes"] / d["buffer_bytes"]]


def same(cells, numbers):
    found = [word for c in cells for word in c.replace("%", " ").replace(" of ", " ").split()]
    assert len(found) == len(numbers), (cells, numbers)
    for text, number in zip(found, numbers):
        digits = len(text.partition(".")[2])
        assert abs(float(text) - number) <= 0.5001 * 10 ** -digits, (cells, numbers)


each = []
for s in seeds:
    row = [r for r in table if r[:3] == [p.split(":")[0], start, s]]
    assert len(row) == 1, (s, row)
    each.append(expected(json.load(open("%s/results/%s-%s.json" % (directory, s, p.replace(":", "-"))))))
    same(row[0][3:], each[-1])
row = [r for r in table if len(r) == 10 and r[:2] == [p.split(":")[0], start]]
assert len(row) == 1, row
k = list(zip(*each)) # added up, but for parts, times (means) and what is the most (stall, peak)
same(row[0][2:], [sum(c) for c in k[:5]] + [mean(k[5]), mean(k[6]), max(k[7]), mean(k[8]), max(k[9])])
END
rows() {
    python3 "$dir/rows.py" "$dir" "$@" || { cat "$dir/out" && return 1; }
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
    evidence 0 --policies planner:sjf --seeds 1 && rows planner:sjf 1 && grep -q "^1 of 1: planner, start sjf, seed 1" "$dir/said" &&
        python3 - "$dir" <<'END'
import json, sys
d = json.load(open(sys.argv[1] + "/results/1-planner-sjf.json"))
assert (d["policy"], d["admission"], d["seed"], len(d["vm"]), d["moved"]) == ("planner", "sjf", 1, 2, 2), d
assert d["writes_acknowledged"] > 100 and d["window_delivered_bytes"] > 2e5, d
words = "%d writes checked, 0 lost; 0 overflows under paper and planner" % d["writes_acknowledged"]
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
d.update(failed=1, moved=1, overflows=3, writes_lost=1, longest_stall_ms=9876, buffer_peak_bytes=d["buffer_bytes"])
d["window_delivered_bytes"] = sum(v["window_delivered_bytes"] for v in vm)' &&
        evidence 1 --policies planner:sjf --seeds "1 2" --table && rows planner:sjf 1 2 &&
        grep -q "checked, 1 lost; 3 overflows under paper and planner" "$dir/out"
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
echo "1..$n"
