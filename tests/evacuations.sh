#!/usr/bin/env bash
# Twenty evacuations with different seeds, one with 8 VMs and one with 16: a table in Markdown and a verdict. Not part of
# the default run, for it takes ten minutes or so. usage: tests/evacuations.sh [path of evacuate] [first seed]
set -u
cd "$(dirname "$0")/.." || exit 1
evacuate=${1:-build/examples/examples/evacuate/evacuate}
first=${2:-1}
[ -x "$evacuate" ] || { echo "$evacuate is not there: run ./examples/run --help once, it builds it" >&2; exit 2; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
bad=0

field() { sed -n "s/^  \"$2\": \([^,]*\),*$/\1/p" "$1" | head -n 1; }

one() { # NAME ARGUMENTS...
    local name=$1 status=ok f=$out/summary.json
    shift
    "$evacuate" --policy paper --json="$f" "$@" >"$out/log" 2>&1 || { status=FAILED; bad=$((bad + 1)); tail -n 3 "$out/log" >&2; }
    printf '| %s | %s | %s of %s | %s | %s | %s | %.1f of %.1f | %s | %s | %s | %s |\n' "$name" "$(field "$f" seed)" \
        "$(field "$f" moved)" "$(field "$f" vms)" "$(field "$f" writes_acknowledged)" "$(field "$f" writes_lost)" \
        "$(field "$f" overflows)" "$(($(field "$f" buffer_peak_bytes) / 100000))e-1" \
        "$(($(field "$f" buffer_bytes) / 100000))e-1" "$(field "$f" longest_stall_ms)" "$(field "$f" limits_restored)" \
        "$(field "$f" seconds)" "$status"
}

echo '| run | seed | moved | writes acknowledged | lost | overflows | peak of Ω (MB) | longest stall (ms) | limits restored | s | |'
echo '|---|---|---|---|---|---|---|---|---|---|---|'
for i in $(seq 0 19); do one "3 VMs" --seed $((first + i)); done
one "8 VMs" --vms 8 --seed "$first"
one "16 VMs" --vms 16 --seed "$first"
echo
[ $bad = 0 ] && echo "22 evacuations: 0 failed" || echo "22 evacuations: $bad failed"
exit $((bad != 0))
