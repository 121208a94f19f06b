#!/usr/bin/env bash
# docs.sh SOURCE BUILD: the reference made from the headers: HTML by doxygen without a warning, every public name in it,
# formulas in their lines; manual pages that mandoc and man can read, and what is installed. A name without words is told, and
# so is a function without the test that shows it at work. TAP.
# shellcheck disable=SC2016 # the backticks are Markdown's
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

# "Test: test_NAME, case; …" names cases that exist; only a _free has none.
named() { # HEADERS: function, test and case, each on a line; the function alone where it names none
    awk '/^\/\*\*/ { test = "" }
        match($0, /Test: /) { test = substr($0, RSTART + 6) }
        /^MIGBUF_API / {
            name = $0; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name)
            n = split(test, one, /; */)
            for (i = 1; i <= n; i++) { sub(/,/, "", one[i]); print name, one[i] }
            if (!n && name !~ /_free$/) print name
            test = ""
        }' "$@"
}
named "$source"/include/migbuf/*.h | while read -r name test case; do
    grep -q "^START_TEST($case)" "$source/tests/$test.c" 2>/dev/null || echo "$name: no test \"$test, $case\""
done >"$work/log"
[ "$(named "$source"/include/migbuf/*.h | wc -l)" -gt 150 ] && [ ! -s "$work/log" ]
result $? "every function names a test, and there is one"

# What stands for no function names its tests as well.
cat "$source"/include/migbuf/*.h | grep -oE '[^"]Test: .*' | sed 's/^.Test: //; s/ *\*\/$//; s/; */\n/g' | tr -d ',' >"$work/tests"
while read -r test case; do
    grep -q "^START_TEST($case)" "$source/tests/$test.c" 2>/dev/null || echo "no test \"$test, $case\""
done <"$work/tests" >"$work/log"
[ "$(wc -l <"$work/tests")" -gt 250 ] && [ ! -s "$work/log" ]
result $? "each of the $(wc -l <"$work/tests") tests that headers name is there"

# lib/README.md: each file stands in the map of the rooms, once, and the map names no other.
unmapped() { # SOURCE
    sed -n '/^## 1\. Map/,/^## 2\./p' "$1/lib/README.md" | grep -oE '`[a-z_-]+\.(c|h|map)`' | tr -d '`' | sort >"$work/mapped"
    (cd "$1/lib" && ls ./*.c ./*.h ./*.map) | sed 's|^\./||' | sort | comm -3 - "$work/mapped" | sed "s|^\t|in the map, and no such file, or twice: |"
}
unmapped "$source" >"$work/log"
[ "$(wc -l <"$work/mapped")" -gt 70 ] && [ ! -s "$work/log" ]
result $? "each of the $(wc -l <"$work/mapped") files of lib/ stands in its map, once"

pages_of="README.md lib/README.md tests/README.md examples/README.md examples/go/README.md"
anchors() { sed -nE 's/^#+ +//p' "$1" | sed 's/[^[:alnum:] _-]//g; s/ /-/g; s/.*/\L&/'; } # PAGE: as a browser names its headings
broken_links() { # SOURCE: links to what is not there
    for p in $pages_of; do
        [ -f "$1/$p" ] || continue
        grep -oE '\]\([^) ]+' "$1/$p" | sed 's/^](//' | grep -vE '^[a-z]+:' | while read -r link; do
            echo link >>"$work/links"
            to=$1/$(dirname "$p")/${link%%#*}
            [ -n "${link%%#*}" ] || to=$1/$p
            [ -e "$to" ] || { echo "$p: $link" && continue; }
            case $link in *'#'*) anchors "$to" | grep -qxF "${link#*#}" || echo "$p: $link" ;; esac
        done
    done
}
: >"$work/links"
broken_links "$source" >"$work/log"
[ "$(wc -l <"$work/links")" -gt 20 ] && [ ! -s "$work/log" ]
result $? "the $(wc -l <"$work/links") relative links of the pages lead somewhere"

# A page names a program (test_NAME), cases of it ("`test_NAME`: case, case", "test_NAME, case", "`case` and `case` in
# `tests/test_NAME.c`"), or the cases of a table below "**`tests/test_NAME.c`**".
cases_of() { # PAGE: test and case, each on a line
    tr -s '\n ' '  ' <"$1" >"$work/one"
    grep -oE '`?test_[a-z0-9_]+`?(:|,) [a-z0-9_]+(, [a-z0-9_]+)*' "$work/one" | grep -E '`: |^test_[a-z0-9_]+, ' | tr -d '`:,' |
        awk '{ for (i = 2; i <= NF; i++) print $1, $i }'
    grep -oE '`[a-z0-9_]+`((,| and) `[a-z0-9_]+`)* in `tests/test_[a-z0-9_]+\.c`' "$work/one" |
        sed 's/ in / /; s/ and / /g; s|tests/||; s/\.c`$//' | tr -d '`,' | awk '{ for (i = 1; i < NF; i++) print $NF, $i }'
    awk '/^\*\*`tests\/test_[a-z0-9_]+\.c`\*\*$/ { test = $0; gsub(/.*\/|\.c.*/, "", test) }
        test && /^\| [a-z0-9_]+ \|/ && $2 != "test" { print test, $2; rows = 1 }
        rows && !/^\|/ { test = rows = "" }' "$1"
}
untested() { # SOURCE: tests that are named, and are not there
    for p in $pages_of; do
        [ -f "$1/$p" ] || continue
        { # programs and scripts, wherever they stand
            grep -oE '\btests/[A-Za-z0-9_./-]*[A-Za-z0-9_]' "$1/$p" | grep -v NAME
            grep -oE '\btest_[a-z0-9_]+' "$1/$p" | sed 's|^|tests/|'
        } | sort -u | while read -r test; do
            [ -e "$1/$test" ] || [ -f "$1/$test.c" ] || [ -f "$1/$test.sh" ] || echo "$p: no $test"
        done
        cases_of "$1/$p" | tee -a "$work/cases" | while read -r test case; do
            grep -q "^START_TEST($case)" "$1/tests/$test.c" 2>/dev/null || echo "$p: no case $case in $test"
        done
    done
}
: >"$work/cases"
untested "$source" >"$work/log"
[ "$(wc -l <"$work/cases")" -gt 40 ] && [ ! -s "$work/log" ]
result $? "the pages name $(wc -l <"$work/cases") cases of tests, and there they are"

mkdir -p "$work/lie/tests" "$work/lie/lib"
cp "$source"/lib/*.[ch] "$source"/lib/*.map "$work/lie/lib/"
cp "$source"/tests/test_*.c "$work/lie/tests/"
touch "$work/lie/lib/nowhere.c"
{
    cat "$source/lib/README.md"
    echo '[a](none.h), [b](#no-heading), [c](README.md#5-glossary). `test_laws`: no_such_case. `tests/none.sh`. `none_either` in'
    echo '`tests/test_laws.c`. test_none.'
} >"$work/lie/lib/README.md"
{
    unmapped "$work/lie"
    broken_links "$work/lie"
    untested "$work/lie"
} | grep -E 'nowhere|none|no-heading|such_case' | sort >"$work/told"
diff - "$work/told" >"$work/log" <<'END'
lib/README.md: #no-heading
lib/README.md: no case no_such_case in test_laws
lib/README.md: no case none_either in test_laws
lib/README.md: no tests/none.sh
lib/README.md: no tests/test_none
lib/README.md: none.h
nowhere.c
END
result $? "a file outside the map is told, and a link to nowhere, and a test that is not there"

mkdir -p "$work/broken/lib"
cp -r "$source/include" "$work/broken/"
cp -r "$source/lib/doc" "$work/broken/lib/"
sed -i 's/^    uint64_t free_bytes;/    uint64_t wordless_bytes;\n&/' "$work/broken/include/migbuf/cow.h"
! make_html "$work/broken" "$work/broken/doc" && grep -q wordless_bytes "$work/log"
result $? "a field without words is told, with its name"

DESTDIR=$work/root meson install -C "$build" --no-rebuild --quiet >"$work/log" 2>&1
pages=$(find "$work/root" -path '*/man/man[138]/*')
guard=$(find "$work/root" -name migbuf-guard) volume=$(find "$work/root" -name migbuf-volume) plan=$(find "$work/root" -name migbuf-plan)
export LD_LIBRARY_PATH=$build/lib
[ "$(echo "$pages" | wc -l)" -gt 20 ] && "$guard" --version >>"$work/log" && "$volume" --version >>"$work/log" && "$plan" --version >>"$work/log" &&
    ! find "$work/root" -path '*/include/*' ! -name '*.h' -type f | grep . >>"$work/log"
result $? "installed: $(echo "$pages" | wc -l) manual pages, migbuf-guard, migbuf-volume and migbuf-plan"

# completes PROGRAM WORD... : what bash offers for the last word
completes() {
    bash -c '. "$1" && shift && export PATH=$(dirname "$1"):$PATH && COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) &&
        "_$(basename "$1" | tr - _)" "$1" && echo "${COMPREPLY[@]}"' - "$work/root$completions/$(basename "$1").bash" "$@"
}
completions=$(find "$work/root" -path '*/bash-completion/completions' | sed "s|^$work/root||")
{
    completes "$plan" --adm; completes "$plan" --admission ''; completes "$volume" re; completes "$guard" --metr
    completes "$plan" --json ho
} >"$work/offered" 2>&1
printf '%s\n' --admission 'sjf fifo off' 'resize remove' --metrics '' | diff - "$work/offered" >"$work/log"
result $? "bash completes options, words and values of the three programs"

unit=$(find "$work/root" -path '*/systemd/system/migbuf-guard.service')
: >"$work/log"
[ -n "$unit" ] && [ "$work/root$(sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' "$unit")" = "$guard" ]
installed=$?
if command -v systemd-analyze >/dev/null; then # the program is elsewhere here
    sed "s|^ExecStart=[^ ]*|ExecStart=$guard|" "$unit" >"$work/migbuf-guard.service"
    systemd-analyze verify --man=no "$work/migbuf-guard.service" 2>&1 | grep 'migbuf-guard' >"$work/log" && installed=1
fi
result $installed "a unit of migbuf-guard, of which systemd can make something"

meson setup "$work/without" "$source" -Dtests=disabled -Dsystemd=disabled -Dbash_completion=disabled >"$work/log" 2>&1 &&
    meson introspect --installed "$work/without" >"$work/files" && grep -q migbuf-plan "$work/files" &&
    ! grep -oE '[^"]*(systemd|bash-completion)[^"]*' "$work/files" >"$work/log"
result $? "both are left out where they are not wanted"

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

grep -E '[|][ -]*---' "$work/pages" >"$work/log"
grep -qE '^ +outcome   +when$' "$work/pages" && [ ! -s "$work/log" ]
result $? "a table of Markdown has columns in a manual page"

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
    short=$(section "$p" NAME | tr -s '\n ' ' ' | sed -E 's/.* - //; s/ $//; s/Omega/Ω/g; s/migbuf_([a-z_]+)\(3\)/\1.h/g')
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
for program in "$guard" "$volume" "$plan"; do
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
