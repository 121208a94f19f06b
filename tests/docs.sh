#!/usr/bin/env bash
# docs.sh SOURCE BUILD: the reference made from the headers: HTML by doxygen without a warning, every public name in it,
# formulas in their lines; manual pages that mandoc and man can read, and what is installed. And a name without words is told. TAP.
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
    sed "s|@SOURCE@|$1|g; s|@OUTPUT@|$2|; s|@VERSION@||" "$1/lib/doc/Doxyfile" | (cd "$2" && doxygen -) >"$work/log" 2>&1
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

mkdir -p "$work/broken/lib"
cp -r "$source/include" "$work/broken/"
cp -r "$source/lib/doc" "$work/broken/lib/"
sed -i 's/^    uint64_t free_bytes;/    uint64_t wordless_bytes;\n&/' "$work/broken/include/migbuf/cow.h"
! make_html "$work/broken" "$work/broken/doc" && grep -q wordless_bytes "$work/log"
result $? "a field without words is told, with its name"

DESTDIR=$work/root meson install -C "$build" --no-rebuild --quiet >"$work/log" 2>&1
pages=$(find "$work/root" -path '*/man/man[138]/*')
guard=$(find "$work/root" -name migbuf-guard) volume=$(find "$work/root" -name migbuf-volume)
export LD_LIBRARY_PATH=$build/lib
[ "$(echo "$pages" | wc -l)" -gt 20 ] && "$guard" --version >>"$work/log" && "$volume" --version >>"$work/log" &&
    ! find "$work/root" -path '*/include/*' ! -name '*.h' -type f | grep . >>"$work/log"
result $? "installed: $(echo "$pages" | wc -l) manual pages, migbuf-guard and migbuf-volume"

: >"$work/log"
for p in $pages; do # the date of a release is in CHANGELOG; fchar names what a terminal without Greek letters shows
    mandoc -T lint -W warning "$p" 2>&1 | grep -v 'missing date\|unsupported roff request: fchar' >>"$work/log"
done
[ ! -s "$work/log" ]
result $? "mandoc has nothing to warn of in them"

: >"$work/log"
for p in $pages; do
    MANWIDTH=200 man -l "$p" >"$work/page" 2>>"$work/log" || echo "$p" >>"$work/log"
    cat "$work/page" >>"$work/pages"
done
grep -oE '[A-Za-z_0-9]+' "$work/pages" | sort -u >"$work/words"
comm -23 "$work/names" "$work/words" >>"$work/log"
[ ! -s "$work/log" ]
result $? "man shows them, and every public name is in one"

# Where the terminal has no Greek letters man would say what it leaves out.
for locale in C.UTF-8 C; do
    : >"$work/log"
    for p in $pages; do
        LC_ALL=$locale MANWIDTH=80 man -l "$p" 2>>"$work/log" | LC_ALL=C awk -v p="$p" '
            { line = $0; gsub(/[\200-\277]/, "", line) } # bytes
            length(line) > 80 { print p ": " $0 }' >>"$work/log"
    done
    [ ! -s "$work/log" ]
    result $? "LC_ALL=$locale: no character is missing, and no line is wider than a terminal of 80 columns"
done

section() { # PAGE SECTION: its text
    LC_ALL=C MANWIDTH=80 man -l "$1" 2>/dev/null | sed -n "/^$2/,/^[A-Z]/{/^[A-Z]/!p}"
}

# NAME is a sentence of the header, up to a full stop; SYNOPSIS compiles after the header, so that it says what that says.
: >"$work/log"
for p in $(echo "$pages" | grep '/migbuf.*\.3$'); do
    header=$(basename "$p" .3) && [ "$header" = migbuf ] || header=${header#migbuf_}
    short=$(section "$p" NAME | tr -s '\n ' ' ' | sed 's/.* - //; s/ $//; s/Omega/Ω/g')
    tr -s '\n *' ' ' <"$source/include/migbuf/$header.h" | grep -qF "$short. " || echo "$p: NAME ends at: $short" >>"$work/log"
    {
        section "$p" SYNOPSIS | sed '/^ *cc /d'
        echo 'int main(void) { return 0; }'
    } >"$work/synopsis.c"
    gcc -std=c11 -Werror -Wredundant-decls -Wno-error=redundant-decls -w -I"$source/include" -fsyntax-only "$work/synopsis.c" \
        2>>"$work/log" || echo "$p: SYNOPSIS does not compile" >>"$work/log"
    library=$(sed -nE 's/^ \* Link with -l([a-z-]+)\..*/\1/p' "$source/include/migbuf/$header.h")
    section "$p" SYNOPSIS | grep -qF "cc ... \$(pkg-config --cflags --libs $library)" || echo "$p: SYNOPSIS does not link $library" >>"$work/log"
    for name in $(declared "$source/include/migbuf" "$header.h"); do
        grep -q "[ *]$name(" "$work/synopsis.c" || echo "$p: no $name in SYNOPSIS" >>"$work/log"
    done
done
[ ! -s "$work/log" ]
result $? "NAME is a whole sentence, and SYNOPSIS has every function of the header as it is, and its library"

# What --help says a page says, and nothing else.
for program in "$guard" "$volume"; do
    page=$(echo "$pages" | grep "/$(basename "$program")\.")
    "$program" --help | grep -oE -e '--[a-z-]+' | sort -u >"$work/options"
    man -l "$page" 2>/dev/null | sed 's/‐/-/g' | grep -oE -e '--[a-z-]+' | sort -u | diff "$work/options" - >"$work/log" &&
        "$program" --help | awk 'length($0) > 100 { print; bad = 1 } END { exit bad }' >>"$work/log"
    result $? "$(basename "$program"): its page has the options of --help, which fits 100 columns"
done

mkdir -p "$work/man/man3"
cp "$build"/lib/*.3 "$work/man/man3/"
mandb -q -c -u "$work/man" >"$work/log" 2>&1
man -M "$work/man" -w migbuf_buffer_tick >>"$work/log" 2>&1 && MANPAGER=cat man -M "$work/man" migbuf_buffer_tick 2>>"$work/log" | grep -q 'MIGBUF_BUFFER(3)'
result $? "man migbuf_buffer_tick finds its page"
echo "1..$count"
