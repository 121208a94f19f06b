#!/usr/bin/env bash
# check.sh LIBDIR INCLUDE MAPS BASELINE LIBRARY..: of each library, headers, symbol map, shared library, archive and the
# baseline of the interface agree, and it needs what it may need. TAP; every difference is named. tests/abi/refresh takes a
# change over.
set -u
libdir=$1 include=$2 maps=$3 baseline=$4
shift 4
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

# What a library may need beside the C library, its mathematics and its loader.
may_need() {
    case $1 in
    migbuf | migbuf-ram | migbuf-mirror) ;;
    migbuf-qmp) printf '%s\n' libjansson libmigbuf libmigbuf-ram ;;
    migbuf-lxd) printf '%s\n' libcurl libjansson libmigbuf ;;
    *) echo "nothing: it is not known" ;;
    esac
}

check_library() {
    local name=$1 library=$libdir/lib$1.so archive=$libdir/lib$1.a map=$maps/$1.map headers bad machine status
    headers=$(headers_of "$include" "$name")
    # shellcheck disable=SC2086
    declared "$include" $headers >"$work/declared"
    mapped "$map" >"$work/mapped"
    exported "$library" >"$work/versioned"
    sed 's/@.*//' "$work/versioned" >"$work/exported"
    archived_visible "$archive" >"$work/visible"
    archived_global "$archive" >"$work/global"
    [ -s "$work/declared" ] && [ -s "$work/mapped" ] && [ -s "$work/exported" ] && [ -s "$work/visible" ]
    result $? "$name: there is something to compare"

    bad=0
    missing "$work/declared" "$work/mapped" "in a header with MIGBUF_API, not in $name.map" || bad=1
    missing "$work/mapped" "$work/declared" "in $name.map, in no header with MIGBUF_API" || bad=1
    result $bad "$name: headers and map name the same functions"

    bad=0
    missing "$work/declared" "$work/exported" "in a header with MIGBUF_API, not exported by the library" || bad=1
    missing "$work/exported" "$work/declared" "exported by the library, in no header with MIGBUF_API" || bad=1
    result $bad "$name: headers and nm -D name the same functions"

    # shellcheck disable=SC2086
    experimental "$include" $headers >"$work/experimental"
    sed -nE 's/@MIGBUF_([A-Z]+_)?EXPERIMENTAL_0$//p' "$work/versioned" >"$work/marked"
    bad=0
    missing "$work/experimental" "$work/marked" "experimental by its header, not by its version" || bad=1
    missing "$work/marked" "$work/experimental" "experimental by its version, not by its header" || bad=1
    grep -v '@MIGBUF_' "$work/versioned" | sed 's/^/# exported without a version: /'
    grep -qv '@MIGBUF_' "$work/versioned" && bad=1
    result $bad "$name: every export has a version, and one of its own where it is experimental"

    bad=0
    missing "$work/visible" "$work/declared" "visible in the archive, in no header with MIGBUF_API" || bad=1
    grep -v '^migbuf_' "$work/global" | sed 's/^/# global in the archive without our prefix: /'
    grep -qv '^migbuf_' "$work/global" && bad=1
    result $bad "$name: the archive shows nothing else"

    may_need "$name" >"$work/may"
    needed "$library" | grep -vE '^(libc|libm|ld-.*)$' >"$work/needed"
    bad=0
    missing "$work/needed" "$work/may" "the library needs" || bad=1
    missing "$work/may" "$work/needed" "the library does not need" || bad=1
    result $bad "$name: needs $(tr '\n' ' ' <"$work/may")libm and libc, and nothing else"

    # abidiff: 0 no difference, bit 4 a difference, bit 8 one that breaks. Anything at all needs a reason: a section of
    # `reasons` with its label, or a new baseline.
    machine=$(readelf -h "$library" | sed -nE 's/ *Machine: *//p')
    case $machine in
    *X86-64*)
        describe "$library" >"$work/now.abi" &&
            abidiff --harmless --redundant --no-default-suppression --suppressions "$baseline/reasons" \
                "$baseline/lib$name.abi" "$work/now.abi" >"$work/diff" 2>&1
        status=$?
        # Its status forgives what it calls harmless (a renamed field); its words do not.
        grep -qvE '^(Functions|Variables) changes summary: 0 Removed, 0 Changed, 0 Added (function|variable)s?$|^$' "$work/diff" &&
            status=4
        if [ $status != 0 ]; then
            sed 's/^/# /' "$work/diff" | head -n 200
            echo "# if it is meant: tests/abi/refresh, or a section in tests/abi/reasons"
        fi
        result $status "$name: abidiff finds no difference to the baseline"
        ;;
    *) echo "# the baseline is one of x86-64, this is $machine: not compared" ;;
    esac
}

export LC_ALL=C
(cd "$include" && ls ./*.h) | sed 's|^\./||' >"$work/all"
for name; do headers_of "$include" "$name"; done | sort >"$work/told"
bad=0
missing "$work/all" "$work/told" "no library is named in its @file comment (Link with -l...)" || bad=1
uniq -d "$work/told" | sed 's/^/# of two libraries: /'
[ -z "$(uniq -d "$work/told")" ] || bad=1
result $bad "every header says in one line which library it is of"

for name; do check_library "$name"; done

# shellcheck disable=SC2046
constants "$include" $(cat "$work/all") >"$work/constants"
bad=0
missing "$baseline/constants" "$work/constants" "the interface had" || bad=1
missing "$work/constants" "$baseline/constants" "the interface has now" || bad=1
[ $bad = 0 ] || echo "# a program compiled before keeps the old value; if it is meant: tests/abi/refresh"
result $bad "constants are those of the baseline"

grep -cE '^\[suppress_' "$baseline/reasons" >"$work/sections"
[ "$(cat "$work/sections")" = "$(grep -cE '^ *label *= *.{20,}' "$baseline/reasons")" ]
result $? "every accepted difference has its reason beside it (label, a sentence)"
echo "1..$count"
