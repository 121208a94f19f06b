#!/usr/bin/env bash
# check.sh LIBRARY ARCHIVE INCLUDE MAP BASELINE HEADER..: headers, symbol map, shared library, archive and the baseline
# of the interface agree. TAP; every difference is named. tests/abi/refresh takes a change over.
set -u
library=$1 archive=$2 include=$3 map=$4 baseline=$5
shift 5
. "$(dirname "$0")/lib.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
count=0

result() { # STATUS NAME
    count=$((count + 1))
    if [ "$1" = 0 ]; then echo "ok $count - $2"; else echo "not ok $count - $2"; fi
}

# Lines of $1 that $2 lacks, each with a word.
missing() {
    comm -23 "$1" "$2" | sed "s|^|# $3: |" >"$work/out"
    cat "$work/out"
    [ ! -s "$work/out" ]
}

export LC_ALL=C
declared "$include" "$@" >"$work/declared"
mapped "$map" >"$work/mapped"
exported "$library" >"$work/versioned"
sed 's/@.*//' "$work/versioned" >"$work/exported"
archived_visible "$archive" >"$work/visible"
archived_global "$archive" >"$work/global"
[ -s "$work/declared" ] && [ -s "$work/mapped" ] && [ -s "$work/exported" ] && [ -s "$work/visible" ]
result $? "there is something to compare"

bad=0
missing "$work/declared" "$work/mapped" "in a header with MIGBUF_API, not in lib/migbuf.map" || bad=1
missing "$work/mapped" "$work/declared" "in lib/migbuf.map, in no header with MIGBUF_API" || bad=1
result $bad "headers and map name the same functions"

bad=0
missing "$work/declared" "$work/exported" "in a header with MIGBUF_API, not exported by the library" || bad=1
missing "$work/exported" "$work/declared" "exported by the library, in no header with MIGBUF_API" || bad=1
result $bad "headers and nm -D name the same functions"

grep -v '@MIGBUF_' "$work/versioned" | sed 's/^/# exported without a version: /'
! grep -qv '@MIGBUF_' "$work/versioned"
result $? "every export has a version"

bad=0
missing "$work/visible" "$work/declared" "visible in the archive, in no header with MIGBUF_API" || bad=1
grep -v '^migbuf_' "$work/global" | sed 's/^/# global in the archive without our prefix: /'
grep -qv '^migbuf_' "$work/global" && bad=1
result $bad "the archive shows nothing else"

constants "$include" "$@" >"$work/constants"
bad=0
missing "$baseline/constants" "$work/constants" "the interface had" || bad=1
missing "$work/constants" "$baseline/constants" "the interface has now" || bad=1
[ $bad = 0 ] || echo "# a program compiled before keeps the old value; if it is meant: tests/abi/refresh"
result $bad "constants are those of the baseline"

# abidiff: 0 no difference, bit 4 a difference, bit 8 one that breaks. Anything at all needs a reason: a section of
# `reasons` with its label, or a new baseline.
grep -cE '^\[suppress_' "$baseline/reasons" >"$work/sections"
[ "$(cat "$work/sections")" = "$(grep -cE '^ *label *= *.{20,}' "$baseline/reasons")" ]
result $? "every accepted difference has its reason beside it (label, a sentence)"

machine=$(readelf -h "$library" | sed -nE 's/ *Machine: *//p')
case $machine in
*X86-64*)
    describe "$library" >"$work/now.abi" &&
        abidiff --harmless --redundant --no-default-suppression --suppressions "$baseline/reasons" \
            "$baseline/libmigbuf.abi" "$work/now.abi" >"$work/diff" 2>&1
    status=$?
    # Its status forgives what it calls harmless (a renamed field); its words do not.
    grep -qvE '^(Functions|Variables) changes summary: 0 Removed, 0 Changed, 0 Added (function|variable)s?$|^$' "$work/diff" &&
        status=4
    if [ $status != 0 ]; then
        sed 's/^/# /' "$work/diff" | head -n 200
        echo "# if it is meant: tests/abi/refresh, or a section in tests/abi/reasons"
    fi
    result $status "abidiff finds no difference to the baseline"
    ;;
*) echo "# the baseline is one of x86-64, this is $machine: not compared" ;;
esac
echo "1..$count"
