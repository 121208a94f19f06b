#!/usr/bin/env bash
# docs.sh SOURCE BUILD: the reference made from the headers: HTML by doxygen without a warning, every public name in it,
# formulas in their lines; manual pages that mandoc and man can read. And a name without words is told. TAP.
set -u
source=$(cd "$1" && pwd) build=$(cd "$2" && pwd)
. "$source/tests/abi/lib.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LC_ALL=C.UTF-8
count=0
result() {
    count=$((count + 1))
    if [ "$1" = 0 ]; then echo "ok $count - $2"; else echo "not ok $count - $2" && sed 's/^/# /' "$work/log" | head -n 15; fi
}
make_html() { # SOURCE OUTPUT
    mkdir -p "$2"
    sed "s|@SOURCE@|$1|g; s|@OUTPUT@|$2|; s|@VERSION@||" "$1/include/migbuf/Doxyfile" | (cd "$2" && doxygen -) >"$work/log" 2>&1
}

ninja -C "$build" reference >"$work/log" 2>&1 && mkdir "$work/doc" && cp -r "$build/lib/html" "$work/doc/"
result $? "ninja reference: doxygen has nothing to warn of"

headers=$(cd "$source/include/migbuf" && ls ./*.h)
# shellcheck disable=SC2086
{
    declared "$source/include/migbuf" $headers
    constants "$source/include/migbuf" $headers | cut -d' ' -f1
    cd "$source/include/migbuf" && sed -nE 's/^struct (migbuf_[a-z_]+) \{.*/\1/p' $headers
} | sort -u >"$work/names"
cat "$work"/doc/html/*.html >"$work/all"
grep -oE '[A-Za-z_0-9]+' "$work/all" | sort -u >"$work/words"
comm -23 "$work/names" "$work/words" >"$work/log"
[ "$(wc -l <"$work/names")" -gt 150 ] && [ ! -s "$work/log" ]
result $? "all $(wc -l <"$work/names") public names are in it"

# Two lines of a formula are two lines of the page.
grep -A1 'h = (E / tau) \* exp(-a \* f' "$work/doc/html/throttle_8h.html" >"$work/log"
grep -q '<pre' "$work/doc/html/throttle_8h.html" && grep -qE '^ *E  capacity_bytes   size' "$work/log"
result $? "formulas keep their lines"

grep -h 'how often the host will tick' "$work"/doc/html/structmigbuf__buffer__options.html >"$work/log"
grep -q "; 10 … 60'000" "$work/log" && ! grep -qE '^<p>\. [0-9]' "$work"/doc/html/*.html
result $? "a range is not cut in two"

mkdir "$work/broken"
cp -r "$source/include" "$work/broken/"
sed -i 's/^    uint64_t free_bytes;/    uint64_t wordless_bytes;\n&/' "$work/broken/include/migbuf/cow.h"
! make_html "$work/broken" "$work/broken/doc" && grep -q wordless_bytes "$work/log"
result $? "a field without words is told, with its name"

pages=$(cd "$build/lib" && ls ./*.3)
: >"$work/log"
for p in $pages; do # the date of a release is in CHANGELOG
    mandoc -T lint -W warning "$build/lib/$p" 2>&1 | grep -v 'missing date' >>"$work/log"
done
[ ! -s "$work/log" ]
result $? "mandoc has nothing to warn of in $(echo $pages | wc -w) manual pages"

: >"$work/log"
for p in $pages; do
    MANWIDTH=200 man -l "$build/lib/$p" >"$work/page" 2>>"$work/log" || echo "$p" >>"$work/log"
    cat "$work/page" >>"$work/pages"
done
grep -oE '[A-Za-z_0-9]+' "$work/pages" | sort -u >"$work/words"
comm -23 "$work/names" "$work/words" >>"$work/log"
[ ! -s "$work/log" ]
result $? "man shows them, and every public name is in one"

: >"$work/log"
for p in $pages; do
    MANWIDTH=80 man -l "$build/lib/$p" 2>/dev/null | awk -v p="$p" '
        { line = $0; gsub(/[\200-\277]/, "", line) } # mawk counts bytes
        length(line) > 80 { print p ": " $0 }' >>"$work/log"
done
[ ! -s "$work/log" ]
result $? "no line is wider than a terminal of 80 columns"

mkdir -p "$work/man/man3"
cp "$build"/lib/*.3 "$work/man/man3/"
mandb -q -c -u "$work/man" >"$work/log" 2>&1
man -M "$work/man" -w migbuf_buffer_tick >>"$work/log" 2>&1 && MANPAGER=cat man -M "$work/man" migbuf_buffer_tick 2>>"$work/log" | grep -q 'MIGBUF_BUFFER(3)'
result $? "man migbuf_buffer_tick finds its page"
echo "1..$count"
