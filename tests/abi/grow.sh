#!/usr/bin/env bash
# grow.sh SOURCE: structs with a size field grow without harm. Builds the libraries of today and those of tomorrow, in which
# each of them has one more field, and runs a host compiled with either against either. TAP.
set -u
source=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
count=0
result() {
    count=$((count + 1))
    if [ "$1" = 0 ]; then echo "ok $count - $2"; else echo "not ok $count - $2"; fi
}

# Names of the structs whose first field is the size.
sized() {
    awk '/^struct migbuf_[a-z_]+ \{/ { name = $2; next } name != "" { if ($0 ~ /^ *uint64_t size;/) print name; name = "" }' "$@"
}

for d in today tomorrow; do
    mkdir "$work/$d"
    cp -r "$source"/{include,lib,meson.build,meson_options.txt,migbuf.pc.in} "$work/$d/"
done

structs=$(sized "$source"/include/migbuf/*.h)
for s in $structs; do
    grep -q "struct $s\b" "$source/tests/abi/caller.c" || { echo "# caller.c does not use struct $s"; missing=1; }
done
[ -n "$structs" ] && [ -z "${missing-}" ]
result $? "every struct that may grow is tried: $(echo $structs | wc -w) of them"

for s in $structs; do
    sed -i "/^struct $s {/,/^};/s/^};/    uint64_t tomorrow;\n};/" "$work"/tomorrow/include/migbuf/*.h
done
# shellcheck disable=SC2046
for d in today tomorrow; do
    {
        meson setup "$work/$d/build" "$work/$d" -Dtests=disabled -Dexamples=disabled -Doptimization=0 -Dwerror=true \
            -Dauto_features=enabled -Ddefault_library=shared >"$work/log" && meson compile -C "$work/$d/build" >>"$work/log" &&
            cc -std=c11 -D_GNU_SOURCE -Wall -Werror $([ $d = today ] || echo -DTOMORROW) -o "$work/caller-$d" \
                "$source/tests/abi/caller.c" \
                $(PKG_CONFIG_PATH=$work/$d/build/lib pkg-config --cflags --libs migbuf-mirror migbuf-qmp migbuf-lxd) || cat "$work/log"
    } 2>&1 | sed 's/^/# /'
done

run() { # CALLER LIBRARY
    LD_LIBRARY_PATH=$work/$2/build/lib "$work/caller-$1" "library-of-$2" >"$work/$1-$2" 2>&1
    local status=$?
    [ $status = 0 ] && cmp -s "$work/$1-$2" "$work/today-today"
    status=$((status | $?))
    [ $status = 0 ] || sed 's/^/# /' "$work/$1-$2"
    result $status "$3"
}
run today today "a host of today, the library of today"
run today tomorrow "an old host, a new library: same decisions, nothing written past its structs"
run tomorrow today "a new host, an old library: works until a new field is set, then MIGBUF_E_STRUCT"
run tomorrow tomorrow "a host of tomorrow, the library of tomorrow"
echo "1..$count"
