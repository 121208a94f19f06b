#!/bin/sh
# SPDX-License-Identifier: MIT
# migbuf-plan: its readers and what they refuse, its JSON, the smallest buffer, the error bars, what a terminal shows.
# A running server's VMs: as plan_server.py tells of them. Usage: test_plan.sh PATH-OF-MIGBUF-PLAN [live].
# Prints TAP. live: it was built with libmigbuf-lxd.
set -u
tested=$1
plan=$1
# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
servers=
trap 'kill $servers 2>/dev/null; rm -rf "$dir"' EXIT

refuses_line() { # WORDS LINE: the third line of a file
    printf '# guests\n\n%b\n' "$2" >"$dir/wrong.txt"
    refuses "$dir/wrong.txt, line 3: $1" --link 1Gbit "$dir/wrong.txt"
}

refuses_json() { # WORDS TEXT
    printf '%s\n' "$2" >"$dir/wrong.json"
    refuses "$dir/wrong.json$1" --link 1Gbit "$dir/wrong.json"
}

cat >"$dir/list.txt" <<'END'
# three small ones, and one that writes more than the buffer holds
web disk=4GiB write=200kB/s

mail disk=6GiB used=5500MiB write=1MB/s block=16KiB depth=8
ci disk=5GiB write=4MB/s ws=2GiB block=64KiB
db disk=12GiB write=3MB/s ws=6GiB
END
cat >"$dir/list.json" <<'END'
{"vms": [{"name": "web", "disk": 4294967296, "write": "200kB/s"},
 {"name": "mail", "disk": "6GiB", "used": "5500MiB", "write": 1000000, "block": "16KiB", "depth": 8, "priority": false},
 {"write": "4MB/s", "name": "ci", "disk": "5GiB", "ws": "2GiB", "block": 65536},
 {"name": "db", "disk": "12GiB", "write": "3MB/s", "ws": "6GiB", "link": 1}]}
END

ask() { # OPTIONS...: JSON of the list with 1 GiB
    "$plan" --link 100MB/s --buffer 1GiB --json - "$@"
}

is_same() { # FILE OPTIONS... : the same answer as the list's
    ask "$dir/list.txt" >"$dir/first.json" && cat "$dir/is.json" && cmp "$dir/is.json" "$dir/first.json"
}

from_stdin() {
    ask <"$dir/list.txt" >"$dir/is.json" && is_same
}

from_words() {
    ask 'web disk=4GiB write=200kB/s' 'mail disk=6GiB used=5500MiB write=1MB/s block=16KiB depth=8' \
        'ci disk=5GiB write=4MB/s ws=2GiB block=64KiB' 'db disk=12GiB write=3MB/s ws=6GiB' >"$dir/is.json" && is_same
}

from_json() {
    ask "$dir/list.json" >"$dir/is.json" && is_same
}

from_json_array() {
    python3 -c 'import json, sys; json.dump(json.load(open(sys.argv[1]))["vms"], sys.stdout)' "$dir/list.json" |
        ask --json-in - >"$dir/is.json" && is_same
}

python() { # PROGRAM ARGUMENTS...
    program=$1
    shift
    python3 -c "import json, sys
def buffers(path): return json.load(open(path))['buffers']
$program" "$@"
}

shape() {
    "$plan" --link 100MB/s --deadline 10min --json "$dir/all.json" "$dir/list.txt" >"$dir/text" && python '
r = json.load(open(sys.argv[1]))
assert (r["policy"], r["admission"], r["runs"], r["seed"], r["deadline_s"]) == ("planner", "sjf", 16, 1, 600), r
assert r["links_bytes_per_s"] == [100e6] and "chance of 88 %" in r["bars"], r
assert [b["smallest"] for b in r["buffers"]] == [False, True] and r["buffers"][0]["buffer_bytes"] == 10 << 30, r
for b in r["buffers"]:
    assert b["runs_away"] == 16 and 0 <= b["runs_in_time"] <= 16 and b["text"].startswith("With "), b
    assert sorted(v["name"] for v in b["vms"]) == ["ci", "db", "mail", "web"]
    last = max(v["away_s"]["most"] for v in b["vms"])
    assert abs(b["away_s"]["most"] - last) < 0.01, (b["away_s"], last)
    for v in b["vms"]:
        for k in "start_s", "away_s", "delivered", "file_bytes":
            assert v[k]["least"] <= v[k]["middle"] <= v[k]["most"], (v["name"], k)
        assert v["start_s"]["most"] < v["away_s"]["most"] and 0 < v["delivered"]["least"] <= 1
        assert v["file_bytes"]["most"] <= b["buffer_bytes"]
    assert all(v["size_state_bytes"] >= v["file_bytes"]["most"] for v in b["vms"] if v["size_state_bytes"])
' "$dir/all.json"
}

repeats() {
    ask --jobs 1 "$dir/list.txt" >"$dir/one.json" && ask --jobs 2 "$dir/list.txt" >"$dir/two.json" &&
        ask --seed 2 "$dir/list.txt" >"$dir/other.json" && cmp "$dir/one.json" "$dir/two.json" &&
        python 'assert buffers(sys.argv[1])[0]["vms"] != buffers(sys.argv[2])[0]["vms"]' "$dir/one.json" "$dir/other.json"
}

# The size that is found is enough; the next smaller of those that are tried is not. Steps: eight to each doubling.
smallest() {
    "$plan" --link 100MB/s --smallest --buffer 64MiB --json "$dir/s.json" "$dir/list.txt" >"$dir/text" || return 1
    found=$(python 'print([b["buffer_bytes"] for b in buffers(sys.argv[1]) if b["smallest"]][0])' "$dir/s.json")
    less=$(python '
found = int(sys.argv[1])
sizes = [(8 << 20) * (8 + k % 8) << k // 8 for k in range(200)]
assert found in sizes[1:]
print(sizes[sizes.index(found) - 1])' "$found") || return 1
    "$plan" --link 100MB/s --buffer "$less" --buffer "$found" --json "$dir/step.json" "$dir/list.txt" >>"$dir/text" && cat "$dir/text" && python '
less, found = buffers(sys.argv[1])
assert less["enough"] is False and found["enough"] is True
assert any(v["runs_short_of_room"] for v in less["vms"]) and not any(v["runs_short_of_room"] for v in found["vms"])
assert min(v["delivered"]["least"] for v in less["vms"]) < 0.99
' "$dir/step.json"
}

# Sixty other runs, one by one: how often were they within the bars of sixteen?
bars() {
    ask "$dir/list.txt" >"$dir/bars.json" || return 1
    for seed in $(seq 1001 1060); do
        ask --seeds 1 --seed "$seed" "$dir/list.txt" >"$dir/run$seed.json" || return 1
    done
    python '
said = buffers(sys.argv[1])[0]
held, asked = {}, {}
def count(what, bar, run):
    asked[what] = asked.get(what, 0) + 1
    held[what] = held.get(what, 0) + (bar["least"] <= run["middle"] <= bar["most"])
for path in sys.argv[2:]:
    is_ = buffers(path)[0]
    count("all away", said["away_s"], is_["away_s"])
    for v in said["vms"]:
        w = [w for w in is_["vms"] if w["name"] == v["name"]][0]
        for k in "away_s", "delivered", "file_bytes":
            count(k, v[k], w[k])
for what in asked:
    print(what, held[what], "of", asked[what])
assert all(held[w] >= 0.8 * asked[w] for w in asked)
' "$dir/bars.json" "$dir"/run*.json
}

order() { # NAMES OPTIONS...
    names=$1
    shift
    ask "$@" >"$dir/order.json" && python '
names = [v["name"] for v in buffers(sys.argv[2])[0]["vms"]]
print(names)
assert names == sys.argv[1].split()' "$names" "$dir/order.json"
}

first_of_all() {
    sed 's/^db.*/& priority/' "$dir/list.txt" >"$dir/first.txt"
    order "db web ci mail" "$dir/first.txt"
}

# Two links carry at the same time what one carries one after the other.
two_links() {
    sed 's/^db.*/& link=2/' "$dir/list.txt" >"$dir/links.txt"
    ask --link 100MB/s "$dir/links.txt" >"$dir/links.json" && ask "$dir/list.txt" >"$dir/one.json" && python '
two, one = buffers(sys.argv[1])[0], buffers(sys.argv[2])[0]
assert two["away_s"]["middle"] < 0.7 * one["away_s"]["middle"], (two["away_s"], one["away_s"])
assert [v["start_s"]["most"] < 5 for v in two["vms"]].count(True) == 2' "$dir/links.json" "$dir/one.json"
}

half_a_flow() { # who may have half the link goes two at a time
    ask --flow 50MB/s "$dir/list.txt" >"$dir/flow.json" && python '
assert sum(v["start_s"]["most"] < 5 for v in buffers(sys.argv[1])[0]["vms"]) == 2' "$dir/flow.json"
}

gigabit() { # 94 % of its bits
    "$plan" --link 1Gbit --buffer 1GiB --json - "$dir/list.txt" >"$dir/g.json" && python '
assert json.load(open(sys.argv[1]))["links_bytes_per_s"] == [117.5e6]' "$dir/g.json"
}

deadline() {
    "$plan" --link 100MB/s --buffer 1GiB --deadline 1h "$dir/list.txt" >"$dir/kept" || return 1
    "$plan" --link 100MB/s --buffer 1GiB --deadline 100s "$dir/list.txt" >"$dir/missed"
    status=$?
    cat "$dir/kept" "$dir/missed"
    [ $status -eq 3 ] && tr '\n' ' ' <"$dir/kept" | grep -q 'deadline of 60 min is kept in 16 of 16' &&
        tr '\n' ' ' <"$dir/missed" | grep -q 'deadline of 100 s is kept in 0 of 16'
}

too_small() { # one drain of its pours more than there is
    "$plan" --link 100MB/s --buffer 64MiB --seeds 2 --json "$dir/never.json" 'a disk=1GiB write=1MB/s block=1MiB depth=1024' >"$dir/text" &&
        cat "$dir/text" && grep -q 'a never starts: 64 MiB is too small' "$dir/text" && grep -q '^a .* never .* - ' "$dir/text" && python '
b = buffers(sys.argv[1])[0]
assert b["runs_away"] == 0 and b["away_s"]["least"] is None and b["vms"][0]["start_s"]["most"] is None' "$dir/never.json"
}

# It writes more on new ground than the link carries: no buffer helps, and it is said so.
by_link() {
    "$plan" --link 20MB/s 'a disk=20GiB write=20MB/s block=64KiB ws=10GiB' 'b disk=1GiB write=0' >"$dir/text" && cat "$dir/text" &&
        tr '\n' ' ' <"$dir/text" | grep -q 'nobody is throttled for want of room,.*No buffer helps whose clusters are written faster than the link carries them: a gets'
}

mirrored() { # advised, and then it really gets more
    set -- --link 1Gbit --buffer 2GiB --json - 'a disk=40GiB write=40MB/s block=64KiB ws=30GiB' 'b disk=1GiB write=10kB/s'
    "$plan" "$@" >"$dir/planner.json" && "$plan" --policy hybrid "$@" >"$dir/hybrid.json" && python '
p, h = ({v["name"]: v for v in buffers(f)[0]["vms"]} for f in sys.argv[1:])
assert p["a"]["mirror_advised"] and not p["b"]["mirror_advised"] and not p["a"]["mirrored"]
assert h["a"]["mirrored"] and not h["b"]["mirrored"]
assert h["a"]["delivered"]["middle"] > p["a"]["delivered"]["middle"] + 0.1
assert "Better mirrored (--policy hybrid): a (" in buffers(sys.argv[1])[0]["text"]' "$dir/planner.json" "$dir/hybrid.json"
}

sentences() {
    "$plan" --link 100MB/s "$dir/list.txt" >"$dir/text" && cat "$dir/text" && [ "$(wc -L <"$dir/text")" -le 100 ] &&
        grep -q '^With 10 GiB all 4 are away in .* (.* to .*)\. Nobody is throttled\.$' "$dir/text" &&
        grep -q '^With .*, the smallest with which nobody is throttled, all 4 are away in' "$dir/text" &&
        ! grep -q "$(printf '\033')" "$dir/text"
}

terminal() { # WIDTH: by script(1), where there is one
    command -v script >/dev/null || return 0
    script -qec "stty cols $1 && '$plan' --link 100MB/s --quiet '$dir/list.txt'" /dev/null </dev/null | tr -d '\r' >"$dir/colour"
    sed "s/$(printf '\033')\[[0-9]*m//g" "$dir/colour" >"$dir/text"
    cat "$dir/text"
    [ "$(wc -L <"$dir/text")" -le "$1" ] && grep -q "$(printf '\033')\[32m" "$dir/colour" &&
        for title in copy starts away between gets "at least" file size.state; do grep -q -- "$title" "$dir/text" || return 1; done
}

picture() {
    "$plan" --link 100MB/s --svg "$dir/a.svg" 'a<&b disk=2GiB write=1MB/s' "$(printf 'c disk=1GiB\twrite=1MB/s')" >/dev/null && python '
import xml.dom.minidom
t = xml.dom.minidom.parse(sys.argv[1]).getElementsByTagName("text")
assert sum(x.firstChild.data == "a<&b" for x in t) == 2' "$dir/a.svg"
}

escapes() { # what is refused reaches a terminal in visible signs
    "$plan" --link 1Gbit "$(printf 'a\033[31m disk=1GiB write=1')" x 2>"$dir/message"
    [ $? -eq 2 ] && cat -v "$dir/message" && ! grep -q "$(printf '\033')" "$dir/message"
}

# ---- a running server ----

serve() { # HOW: begins one on $dir/HOW
    mkfifo "$dir/$1.ready"
    "$(dirname "$0")/plan_server.py" "$dir/$1" "$1" >"$dir/$1.ready" &
    servers="$servers $!"
    read -r ready <"$dir/$1.ready" && [ "$ready" = ready ]
}

live() { # HOW OPTIONS...: its list
    at=$1
    shift
    "$plan" --link 100MB/s --server "unix:$dir/$at" --watch 1s --seeds 1 --buffer 1GiB "$@"
}

# EXPECTED: name, MiB of disk, MiB used, bytes a second (=: not measured), bytes of one write (0: not told, so 4096). What is
# measured has the right ratios, and all of it is within 2 %: the program divides by its own clock, so on a machine that is busy just
# then this takes another look.
listed() { # EXPECTED HOW OPTIONS...
    expected=$1
    shift
    for look in 1 2 3 4 5 6 7 8 9 10; do
        live "$@" --list - >"$dir/listed" && cat "$dir/listed" && python '
found = {}
for line in open(sys.argv[2]):
    name, rest = line.split(None, 1)
    found[name] = {k: float(v) for k, v in (w.split("=") for w in rest.split())}
expected = [e.split() for e in sys.argv[1].split(";")]
assert list(found) == [e[0] for e in expected], (list(found), expected)
measured = {}
for name, disk, used, write, block in expected:
    f = found[name]
    assert (f["disk"], f["used"], f["block"]) == (float(disk) * 2**20, float(used) * 2**20, float(block)), (name, f)
    if write.startswith("="):
        assert f["write"] == float(write[1:]), (name, f)
    else:
        measured[name] = float(write)
most = max(measured, key=measured.get, default=None)
factor = found[most]["write"] / measured[most] if most else 1
for name, write in measured.items():
    assert abs(found[name]["write"] - factor * write) <= 1, (name, found[name], factor)
sys.exit(0 if abs(factor - 1) <= 0.02 else 5)' "$expected" "$dir/listed"
        status=$?
        [ $status -eq 5 ] || return $status
        echo "look $look: too late"
    done
    return 1
}

cannot() { # WORDS HOW OPTIONS...: exit status 1 and one line with these words, no plan
    words=$1
    shift
    live "$@" >"$dir/said" 2>"$dir/message"
    status=$?
    cat "$dir/message"
    [ $status -eq 1 ] && [ ! -s "$dir/said" ] && [ "$(wc -l <"$dir/message")" -eq 1 ] && ! grep -q "$(printf '\033')" "$dir/message" &&
        grep -q -e "^migbuf-plan: $words" "$dir/message"
}

served() { # a plan, and its list gives the same one
    live good --list "$dir/served.txt" --json - >"$dir/served.json" && cat "$dir/served.txt" &&
        "$plan" --link 100MB/s --seeds 1 --buffer 1GiB --json - "$dir/served.txt" | cmp - "$dir/served.json"
}

# One attempt that wrote 80 MB/s, in a time to come: it counts as one of today (history.h has what is believed then).
history='migbuf-history 1 id=agentless/quiet n=1 at=4000000000 out=moved phase=target why=done write_bps=80000000 crc=4f383f7a'

list_alone() { # that is no plan: no run of the model is made for it, which would take hours here
    for k in $(seq 200); do echo "g$k disk=10TiB write=1MB/s"; done >"$dir/many.txt" &&
        (ulimit -t 20 && "$plan" --link 1MB/s --seeds 1000 --jobs 1 --list - "$dir/many.txt") >"$dir/relisted" &&
        [ "$(wc -l <"$dir/relisted")" -ge 200 ] && "$plan" --link 1MB/s --list - "$dir/relisted" | cmp - "$dir/relisted" &&
        ! "$plan" --link 1MB/s --list - "$dir/many.txt" >/dev/full 2>"$dir/message" && grep -q "^migbuf-plan: --list -: No space" "$dir/message"
}

list_and_deadline() { # its exit status tells of the deadline, and only the model knows that
    "$plan" --link 100MB/s --buffer 1GiB --deadline 100s --list - "$dir/list.txt" >"$dir/relisted"
    [ $? -eq 3 ] && [ "$(grep -c disk= "$dir/relisted")" -ge 1 ]
}

# As migbuf-guard writes a name of more than 64 characters: its beginning and a hash of the whole.
long=a-project-whose-name-takes-its-time-until-it-comes-to-an-end/vm
long_history='migbuf-history 1 id=a-project-whose-name-takes-its-time-until-it-co%7E403f7f9add88a47a n=1 at=4000000000 out=moved phase=target why=done write_bps=80000000 crc=dd9303bb'

past_of_a_long_name() { # and of that name alone
    printf '%s\n' "$long_history" >"$dir/history" &&
        "$plan" --link 100MB/s --seeds 1 --history "$dir/history" --list - "$long-1 disk=1GiB" | grep -q 'write=28284271' &&
        refuses "guest 1: $long-2: write is needed" --link 1Gbit --history "$dir/history" "$long-2 disk=1GiB"
}

past() { # a history says what nobody else does; a line that was broken is nobody's
    printf '%s\n%s\n' "$history" "$history.broken" >"$dir/history" && listed "agentless/quiet 100 100 =28284271 4096" good --project agentless --history "$dir/history" &&
        "$plan" --link 100MB/s --seeds 1 --history "$dir/history" --list - 'agentless/quiet disk=1GiB' | grep -q 'write=28284271' &&
        refuses "guest 1: other: write is needed" --link 1Gbit --history "$dir/history" 'other disk=1GiB' &&
        refuses "--history $dir: " --link 1Gbit --history "$dir" 'other disk=1GiB'
}

check "a list in a file, in words and" from_words
check "on standard input," from_stdin
check "in JSON: the same" from_json
check "a JSON array on standard input" from_json_array
check "JSON has all it promises, and spreads are in order" shape
check "same seeds, same answer, with one process as with two; others differ" repeats
check "the smallest buffer is enough, and one step less is not" smallest
check "of 60 other runs four of five lie within the bars" bars
check "the shortest first" order "web ci mail db" "$dir/list.txt"
check "as they are listed" order "web mail ci db" --admission fifo "$dir/list.txt"
check "priority goes before all" first_of_all
check "two links" two_links
check "a flow of half the link: two at a time" half_a_flow
check "a gigabit is 117.5 MB/s" gigabit
check "a deadline that is kept, and one that is not" deadline
check "a buffer in which one never starts" too_small
check "one whom no buffer helps" by_link
check "a mirror, and that it is better" mirrored
check "sentences, not wider than 100, without colour" sentences
check "a terminal of 80" terminal 80
check "a terminal of 50" terminal 50
check "a picture, whatever the names" picture
check "policy paper" sh -c "'$plan' --link 100MB/s --policy paper --buffer 1GiB '$dir/list.txt' | grep -q '^With 1 GiB'"
check "help, not wider than 100, and --version" sh -c "'$plan' --help | grep -q '^usage: migbuf-plan' && [ \$('$plan' --help | wc -L) -le 100 ] && '$plan' --version | grep -qx 'migbuf-plan [0-9.]*'"

check "a list alone" list_alone
check "a list, and whether a deadline is kept" list_and_deadline
check "what a history tells of a long name" past_of_a_long_name
if [ "${2:-}" = live ]; then
    for how in good cluster refuses garbage broken; do serve $how; done
    D="db 400 150 2048000 8192;idle 300 300 0 4096;off 500 500 0 4096"
    check "VMs of a server: one project" listed "$D;away 100 100 1024000 4096" good
    check "another project, where the guest's agent tells of its disks" listed "p&q/web 200 200 3276800 16384" good --project "p&q"
    check "two projects, and what is assumed of whom nothing is told" listed "p&q/web 200 200 3276800 16384;agentless/quiet 100 100 =7000000 4096" good --project "p&q" --project agentless --assume 7MB/s
    check "two projects that have a VM of one name" listed "db 400 150 2048000 8192;idle 300 300 0 4096;off 500 500 0 4096;other/db 250 150 5120000 4096;away 100 100 1024000 4096" good --project default --project other
    check "a member's own VMs" listed "$D" cluster
    check "another member's" listed "away 100 100 1024000 4096" cluster --target m2
    check "a member that is empty or is not there" cannot "member m9 has no VM here" cluster --target m9
    check "a server's plan, and its list once more" served
    check "what a history tells" past
    check "what nobody tells is no zero" cannot "agentless/quiet: it runs, and the server does not tell" good --project agentless
    check "nor among all" cannot "agentless/quiet: it runs" good --all-projects
    check "a name that is none" cannot "the server: .*: a name has visible signs" good --project evil --assume 1MB/s
    check "a project that is not there" cannot "the server has no VM here" good --project nowhere
    check "a server that does not tell" cannot "what VMs write: the server does not trust this client" refuses
    check "metrics that end in a line" cannot "what VMs write: a counter in the server's metrics is none" garbage
    check "a counter that is no number" cannot "what VMs write: a counter" broken
    check "no server" cannot "$dir/none: no server answers there" none
    check "help names no server that is asked unasked" sh -c "'$plan' --help | grep -q 'Incus (a list)' && '$plan' --help | grep -q 'of this project; may be given several'"
    check "a server and a list" refuses "a disk=1GiB write=1: guests are listed, or --server" --link 1Gbit --server "$dir/good" 'a disk=1GiB write=1'
    check "a watch without a server" refuses "--server is needed" --link 1Gbit --watch 10s
    check "a watch that is too short" refuses "--watch 0s: a time of 1 s to 86400 s" --link 1Gbit --server local --watch 0s
fi
check "a list where nothing can be written" refuses "--list $dir/nowhere/x: No such file" --link 1Gbit --list "$dir/nowhere/x" "$dir/list.txt"

check "refuses to guess a link" refuses "--link is needed" "$dir/list.txt"
check "a link that is no rate" refuses "--link 1GB/h: a rate" --link 1GB/h "$dir/list.txt"
check "a buffer too small" refuses "--buffer 1MiB: .*64 MiB to 1 PB" --link 1Gbit --buffer 1MiB "$dir/list.txt"
check "a deadline without a unit" refuses "--deadline 90: .*90min" --link 1Gbit --deadline 90 "$dir/list.txt"
check "a deadline that is not in tens" refuses "--deadline 0x10min: a time" --link 1Gbit --deadline 0x10min "$dir/list.txt"
check "two things on one standard output" refuses "--json - and --svg -: one of them" --link 1Gbit --json - --svg - "$dir/list.txt"
head -c 17000000 /dev/zero | tr '\0' '#' >"$dir/long.txt"
check "a list that is too long" refuses "$dir/long.txt: more than 16 MiB" --link 1Gbit "$dir/long.txt"
reals() { # JSON has one kind of number
    printf '[{"name": "a", "disk": 2e9, "write": 5000000.1, "depth": 4.0}]' >"$dir/reals.json"
    printf 'a disk=2000000000B write=5000000 depth=4\n' >"$dir/whole.txt"
    ask "$dir/reals.json" >"$dir/reals" && ask "$dir/whole.txt" | cmp - "$dir/reals"
}
check "a number of JSON is what it is, however it is written" reals
check "half a write in flight" refuses_json ".*depth is a whole number" '[{"name": "a", "disk": 2e9, "write": 1, "depth": 4.5}]'
check "an unknown policy" refuses "--policy none: it takes planner, paper, hybrid" --link 1Gbit --policy none "$dir/list.txt"
check "no runs" refuses "--seeds 0: .*1 to 1000" --link 1Gbit --seeds 0 "$dir/list.txt"
check "a file that is not there" refuses "$dir/nowhere: No such file" --link 1Gbit "$dir/nowhere"
check "a directory" refuses "$dir: Is a directory" --link 1Gbit "$dir"
for output in json svg; do
    check "--$output where nothing can be written, before it runs" refuses "--$output $dir/nowhere/x: No such file" --link 1Gbit --$output "$dir/nowhere/x" "$dir/list.txt"
done
check "JSON without a file, which would be the list" refuses "--json needs a value" --link 1Gbit "$dir/list.txt" --json
check "an empty list" refuses "standard input: no guest" --link 1Gbit
check "two files" refuses "guest 1: $dir/list.txt: disk is needed" --link 1Gbit "$dir/list.txt" "$dir/list.txt"
check "a guest without a disk, by its line" refuses_line "a: disk is needed" 'a write=1MB/s'
check "without a rate" refuses_line "a: write is needed" 'a disk=1GiB'
check "a word that is not known" refuses_line "disc=1GiB: none of disk=, write=" 'a disc=1GiB write=1MB/s'
check "a size that is none" refuses_line "disk=1GiX: disk is a size" 'a disk=1GiX write=1MB/s'
check "a disk of nothing" refuses_line "disk=0: disk is a size of 1 MiB" 'a disk=0 write=1MB/s'
check "a rate below 0" refuses_line "write=-1: write is a rate" 'a disk=1GiB write=-1'
check "not a number" refuses_line "write=nan: write is a rate" 'a disk=1GiB write=nan'
check "a word without a value" refuses_line "ws: ws is a size" 'a disk=1GiB write=1 ws'
check "a value where there is none" refuses_line "priority=1: priority is a word" 'a disk=1GiB write=1 priority=1'
check "a word twice" refuses_line "disk=2GiB: disk is said twice" 'a disk=1GiB write=1 disk=2GiB'
check "more used than there is" refuses_line "a: used is larger than its disk" 'a disk=1GiB write=1 used=2GiB'
check "no name" refuses_line "disk=1GiB: a guest's name comes first" 'disk=1GiB write=1'
check "a name that is not visible" refuses_line "a.*: a name has visible signs" 'a\0303\0244 disk=1GiB write=1'
check "a name twice" refuses "guest 2: a: this name was there" --link 1Gbit 'a disk=1GiB write=1' 'a disk=1GiB write=1'
check "a link that is not given" refuses "a: link=2: --link is given 1 times" --link 1Gbit 'a disk=1GiB write=1 link=2' 'b disk=1GiB write=1'
check "visible signs in what is refused" escapes
check "JSON that is none, by its line" refuses_json ", line 2, column" '[{"name": "a",'
check "JSON of something else" refuses_json ": \"disks\": there is \"vms\" only" '{"disks": []}'
check "a JSON guest by its number" refuses_json ", guest 2: disk \"1GiX\": disk is a size" '[{"name": "a", "disk": "1GiB", "write": 0}, {"name": "b", "disk": "1GiX", "write": 0}]'
check "a JSON rate below 0" refuses_json ", guest 1: write -1: write is a rate" '[{"name": "a", "disk": "1GiB", "write": -1}]'
check "a JSON list where a size should be" refuses_json ", guest 1: disk \\[1\\]: disk is a size" '[{"name": "a", "disk": [1], "write": 1}]'
check "a JSON priority that is a number" refuses_json ", guest 1: priority 1: priority is true or false" '[{"name": "a", "disk": "1GiB", "write": 1, "priority": 1}]'
check "a JSON guest without a name" refuses_json ", guest 1: \"name\" is needed" '[{"disk": "1GiB", "write": 1}]'
check "a JSON word that is not known" refuses_json ", guest 1: disc: none of" '[{"name": "a", "disc": "1GiB", "write": 1}]'
check "no JSON guest" refuses_json ": no guest" '[]'
tap_end
