#!/usr/bin/env bash
# selftest.sh SOURCE: does check.sh see what it is for? Breaks a copy of the libraries in each way, one after the other, and
# wants a failure that names what was broken. TAP.
set -u
source=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LC_ALL=C
count=0
result() {
    count=$((count + 1))
    if [ "$1" = 0 ]; then echo "ok $count - $2"; else echo "not ok $count - $2"; fi
}

mkdir "$work/tree"
cp -r "$source"/{include,lib,meson.build,meson_options.txt,migbuf.pc.in} "$work/tree/"
mkdir -p "$work/tree/examples" "$work/tree/tests"
cp -r "$source/tests/abi" "$work/tree/tests/"
cd "$work/tree" || exit 1
meson setup build -Dtests=disabled -Dexamples=disabled -Doptimization=0 -Dauto_features=enabled >"$work/log" 2>&1 &&
    meson compile -C build >>"$work/log" 2>&1 || { sed 's/^/# /' "$work/log" | tail -n 20; }
cp -r include lib "$work/"

check() {
    tests/abi/check.sh build/lib include/migbuf lib tests/abi migbuf migbuf-ram migbuf-mirror migbuf-qmp migbuf-lxd >"$work/said" 2>&1
    grep -q '^not ok' "$work/said"
}

# broken NAME WHAT: the tree was changed; some test has to fail, and NAME has to be said.
broken() {
    local status=0
    ninja -C build >"$work/log" 2>&1 || { tail -n 5 "$work/log" | sed 's/^/# /'; status=1; }
    check || { echo "# nothing failed"; status=1; }
    grep -q "^#.*\b$1\b" "$work/said" || { sed 's/^#* */# /' "$work/said" | head -n 20; status=1; }
    result $status "$2: told with its name, $1"
    local f
    (cd "$work" && find include lib -type f) | while read -r f; do
        cmp -s "$work/$f" "$f" || { cp "$work/$f" "$f" && touch "$f"; } # what was changed only: the rest stays built
    done
}

if check; then
    grep -A30 '^not ok\|^#' "$work/said" | sed 's/^/# /' | head -n 40
    result 1 "the untouched tree passes"
else
    result 0 "the untouched tree passes"
fi

sed -i 's/\bused_bytes\b/taken_bytes/' include/migbuf/cow.h lib/cow.c
broken taken_bytes "a field renamed"

sed -i 's/uint64_t free_bytes;/uint64_t wedged_bytes;\n    &/' include/migbuf/cow.h
broken wedged_bytes "a field inserted in the middle"

sed -i 's/uint64_t used_bytes;.*/&\n    uint64_t trailing_bytes;/' include/migbuf/cow.h
broken trailing_bytes "a record that grew at its end"

helper='__attribute__((visibility("default"))) int migbuf__helper(void);\nint migbuf__helper(void)\n{\n    return 1;\n}\n'
sed -i 's/^    migbuf_version;/&\n    migbuf__helper;/' lib/migbuf.map
printf '%b' "$helper" >>lib/version.c
broken migbuf__helper "a helper exported"

printf '%b' "$helper" >>lib/version.c
broken migbuf__helper "a helper visible in the archive"

sed -i '/^    migbuf_cow_volume;/d' lib/migbuf.map
broken migbuf_cow_volume "a symbol dropped from the map"

sed -i '/^    migbuf_cow_volume;/d' lib/migbuf.map
sed -i 's/^MIGBUF_API \(int migbuf_cow_volume\)/\1/' include/migbuf/cow.h
broken migbuf_cow_volume "a symbol dropped from header and map"

sed -i 's/^    migbuf_version;/&\n    migbuf_version_later;/' lib/migbuf.map
sed -i 's/^MIGBUF_API int migbuf_version(void);/&\nMIGBUF_API int migbuf_version_later(void);/' include/migbuf/version.h
printf 'int migbuf_version_later(void)\n{\n    return 1;\n}\n' >>lib/version.c
broken migbuf_version_later "a symbol added"

sed -i 's/^#define MIGBUF_LINK_AT_LEAST.*/#define MIGBUF_LINK_AT_LEAST 2u/' include/migbuf/link.h
broken MIGBUF_LINK_AT_LEAST "a constant with another value"

sed -i 's/^    migbuf_qmp_sent;/&\n    migbuf__json_next;/' lib/migbuf-qmp.map
sed -i 's/^bool migbuf__json_next(/__attribute__((visibility("default"))) &/' lib/json.h
broken migbuf__json_next "a helper that two libraries share, exported by one"

sed -i "s/^void migbuf__write(/__attribute__((visibility(\"default\"))) &/; s/ void migbuf__write(/ __attribute__((visibility(\"default\")))&/" lib/text.h
broken migbuf__write "a helper that all libraries share, visible in their archives"

sed -i '/^    migbuf_growth_init;/d; s/^    migbuf_geometry_init;/&\n    migbuf_growth_init;/' lib/migbuf.map
broken migbuf_growth_init "what is experimental called stable"

sed -i 's/^ \* Link with -lmigbuf-qmp\./ * Link with -lmigbuf./' include/migbuf/report.h
broken migbuf_report_block "a header that says the wrong library"

sed -i '/^ \* Link with /d' include/migbuf/cow.h
broken cow.h "a header that says no library"

sed -i "s/'needs': m,/'needs': [m, jansson],/" lib/meson.build
printf '#include <jansson.h>\nvoid migbuf__needs(void);\nvoid migbuf__needs(void)\n{\n    json_decref(json_null());\n    json_object_clear(0);\n}\n' >>lib/version.c
broken libjansson "the first library needs what another does"
echo "1..$count"
