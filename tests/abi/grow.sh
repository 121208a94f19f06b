#!/usr/bin/env bash
# grow.sh SOURCE: structs with a size field grow without harm. Builds the library of today and one of tomorrow, in which
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

mkdir "$work/today" "$work/tomorrow"
for d in today tomorrow; do cp -r "$source/lib" "$source/include" "$work/$d/"; done
core=$(sed -n '/^sources = files(/,/^)/p' "$source/lib/meson.build" | grep -oE "'[a-z_]+\.c'" | tr -d "'")
qmp=$(sed -n '/^if with_qmp/,/^endif/p' "$source/lib/meson.build" | grep -oE "'[a-z_]+\.c'" | tr -d "'")
flags="-std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden -O0 -Wall -Werror"
with='' libs='-lm'
if pkg-config --exists jansson; then
    core="$core $qmp" with=-DWITH_QMP libs="$(pkg-config --libs jansson) -lm"
else
    echo "# without jansson: the core only"
fi
if [ -n "$with" ] && pkg-config --exists libcurl; then
    core="$core $(sed -n '/^if with_lxd/,/^endif/p' "$source/lib/meson.build" | grep -oE "'[a-z_]+\.c'" | tr -d "'")"
    with="$with -DWITH_LXD" libs="$libs $(pkg-config --libs libcurl)"
else
    echo "# without libcurl: not the room lxd"
fi

structs=$(sized "$source"/include/migbuf/*.h)
for s in $structs; do
    grep -q "struct $s\b" "$source/tests/abi/caller.c" || { echo "# caller.c does not use struct $s"; missing=1; }
done
[ -n "$structs" ] && [ -z "${missing-}" ]
result $? "every struct that may grow is tried: $(echo $structs | wc -w) of them"

for s in $structs; do
    sed -i "/^struct $s {/,/^};/s/^};/    uint64_t tomorrow;\n};/" "$work"/tomorrow/include/migbuf/*.h
done
# shellcheck disable=SC2086
for d in today tomorrow; do
    (cd "$work/$d/lib" && printf '%s\n' $core | xargs -P 2 -I{} cc $flags -I../include -c {} &&
        cc -shared -Wl,--version-script=migbuf.map -Wl,-soname,libmigbuf.so.0 -o libmigbuf.so.0 ./*.o $libs) 2>&1 |
        sed 's/^/# /'
    cc -std=c11 -D_GNU_SOURCE -Wall -Werror $with $([ $d = today ] || echo -DTOMORROW) -I"$work/$d/include" \
        -o "$work/caller-$d" "$source/tests/abi/caller.c" "$work/$d/lib/libmigbuf.so.0" $libs 2>&1 | sed 's/^/# /'
done

run() { # CALLER LIBRARY
    LD_LIBRARY_PATH=$work/$2/lib "$work/caller-$1" "library-of-$2" >"$work/$1-$2" 2>&1
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
