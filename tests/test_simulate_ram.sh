#!/bin/sh
# SPDX-License-Identifier: MIT
# simulate-ram: same seed same result, the shape of its JSON, and what examples/README.md says of rules and histories.
# Usage: test_simulate_ram.sh PATH-OF-SIMULATE-RAM. Prints TAP.
set -u
tested=$1
simulate=$1
# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"

holds() { # FILE EXPRESSION: over the rows as r[RULE] (each the mean of its populations) or, of a history, as h[BEFORE]
    python3 -c '
import json, sys
rows = json.load(open(sys.argv[1]))
r, h = {}, {row["before"]: row for row in rows if "before" in row}
for rule in {row["rule"] for row in rows if "rule" in row}:
    of = [row for row in rows if row["rule"] == rule]
    r[rule] = {key: sum(row[key] for row in of) / len(of) for key in of[0] if key not in ("rule",)}
for name, row in {**r, **h}.items():
    print(name, {key: row[key] for key in row if key in ("agreed_pct", "in_time_pct", "stop_ms", "back_pct", "end_pct", "means_pct")})
sys.exit(not eval("(" + sys.argv[2] + ")"))' "$1" "$2"
}

check "runs: every rule, three populations of a hundred" "$simulate" --json "$dir/all.json"
check "with what was agreed all move in time, none stands longer" holds "$dir/all.json" \
    'all(r[o]["agreed_pct"] == 100 for o in ("ours-98", "ours-postcopy", "ours-both"))'
check "nobody else moves as many, and who comes next has more than twice the stop" holds "$dir/all.json" \
    'max(r[o]["agreed_pct"] for o in r if not o.startswith("ours")) < 100 and
     min(r[o]["stop_ms"] for o in r if not o.startswith("ours") and r[o]["agreed_pct"] >= 98) > 2 * r["ours-98"]["stop_ms"]'
check "a guest whose owner agreed to less is given back, or stands" holds "$dir/all.json" \
    'r["ours"]["back_pct"] > 0 and abs(100 - r["ours"]["agreed_pct"] - r["ours"]["back_pct"]) < 0.01 and r["ours-force"]["back_pct"] == 0 and
     r["ours-force"]["in_time_pct"] == 100'
check "others' rules differ as they do" holds "$dir/all.json" \
    'r["nova"]["total_p99_s"] > 3600 and r["proxmox"]["stop_p99_ms"] > 10000 and r["xen"]["in_time_pct"] == 100 and
     r["kubevirt"]["back_pct"] > 5 and r["kubevirt-force"]["back_pct"] < 2 and
     r["qemu-10"]["lost_s"] < r["qemu-7"]["lost_s"] and r["cloudstack-pause"]["agreed_pct"] < r["cloudstack"]["agreed_pct"]'
check "same seed" sh -c "'$simulate' --json - | cmp - '$dir/all.json'"
check "another seed gives something else" sh -c "! '$simulate' --seed 12 --json - | cmp -s - '$dir/all.json'"
check "a faster link" sh -c "'$simulate' --link 1170MB --seeds 1 --json '$dir/fast.json'"
check "there most rules do well, and ours stops for less" holds "$dir/fast.json" \
    'r["qemu-10"]["agreed_pct"] >= 99 and r["ours-98"]["agreed_pct"] == 100 and 2 * r["ours-98"]["stop_ms"] < r["qemu-10"]["stop_ms"]'
check "guests that come back" "$simulate" --history 6 --json "$dir/history.json"
check "the first move is foretold as without a history" holds "$dir/history.json" \
    'all(h[0][key][0] == h[0][key][1] for key in ("end_pct", "means_pct", "rate", "bound_pct"))'
check "from the third on the end is foretold three times as well" holds "$dir/history.json" \
    'all(3 * h[k]["end_pct"][1] < h[k]["end_pct"][0] for k in range(2, 6))'
check "and what means will be needed, and the rate" holds "$dir/history.json" \
    'all(h[k]["means_pct"][1] > h[k]["means_pct"][0] + 20 and 2 * h[k]["rate"][1] < h[k]["rate"][0] and
         h[k]["bound_pct"][1] >= 90 for k in range(2, 6))'
check "the table has every rule, and tells where ours does not win" sh -c "'$simulate' >'$dir/table' &&
    [ \$(grep -c '^ours: ' '$dir/table') -eq 10 ] && grep -q '^A shorter middle stop than ours: Xen' '$dir/table' &&
    grep -q '^Nobody else moves as many as agreed' '$dir/table'"
check "so does that of histories" sh -c "'$simulate' --seeds 1 --vms 5 --history 3 | grep -c '%' | grep -qx 3"
is_json() { # OPTIONS...: without a number that JSON has not, of few guests, of whom none may have moved
    "$simulate" "$@" --json | python3 -c '
import json, sys
def refuse(word):
    raise ValueError(word)
rows = json.load(sys.stdin, parse_constant=refuse)
sys.exit(not any(v is None or isinstance(v, list) and None in v for row in rows for v in row.values()))'
}
check "what is not known is null in JSON" is_json --vms 1 --seeds 5
check "so it is of a forecast without an end" is_json --vms 3 --seeds 1 --history 2
check "and - in a table" sh -c "'$simulate' --vms 1 --seeds 1 --seed 1 >'$dir/few' && grep -q ' - ' '$dir/few' && ! grep -qE 'nan|inf' '$dir/few'"
check "no guests" refuses "--vms 0: .* from 1 to 10000" --vms 0
check "one move is no history" refuses "--history 1: .* from 2 to 32" --history 1
check "a link that is none" refuses "--link fast: bytes a second" --link fast
check "what is not an option" refuses "7: there are options only" 7
check "where nothing can be written" refuses "--json $dir/nowhere/x: No such file" --json "$dir/nowhere/x"
check "help and version" sh -c "'$simulate' -h | grep -q '^usage: simulate-ram' && '$simulate' --version | grep -qx 'simulate-ram [0-9.]*' &&
    [ \$('$simulate' --help | wc -L) -le 110 ]"
tap_end
