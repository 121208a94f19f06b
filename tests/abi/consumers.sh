#!/usr/bin/env bash
# consumers.sh SOURCE BUILD: everybody who may link migbuf does so here, with README's first program: headers alone in every
# dialect, installed and found by pkg-config (shared, static), as a meson subproject, loaded and unloaded, with link-time
# optimisation, on musl. Measures libmigbuf. TAP.
set -u
source=$(cd "$1" && pwd) build=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset DESTDIR PKG_CONFIG_PATH
count=0
result() {
    count=$((count + 1))
    if [ "$1" = 0 ]; then echo "ok $count - $2"; else echo "not ok $count - $2" && sed 's/^/# /' "$work/log" | tail -n 15; fi
}
cd "$work" || exit 1
: >log

# The program of README, as a reader copies it.
awk '/`host\.c`/ { seen = 1 } /^```$/ { if (on) exit } on { print } seen && /^```c$/ { on = 1 }' "$source/README.md" >host.c
expected='^lower to [0-9]+ units of 65536 bytes a second, for '
works() { "$@" >out 2>>log && grep -qE "$expected" out; }

# Headers

headers=$(cd "$source/include" && ls migbuf/*.h)
# Each twice, so that its guard works; with the names of a host that has its own `link` and `index`.
dialect() { # NAME COMPILER FLAGS..
    local name=$1 h bad=0
    shift
    : >log
    for h in $headers; do
        printf '#include "%s"\n#include "%s"\nint use(void);\nint use(void)\n{\n    return 0;\n}\n' "$h" "$h" |
            "$@" -I"$source/include" -fsyntax-only - >>log 2>&1 || { echo "$h" >>log; bad=1; }
    done
    result $bad "every header alone: $name"
}
all='-Wall -Wextra -Wundef -Werror -pedantic'
# (no -Wshadow for C++: it takes `struct migbuf_disk_info` and the function that fills it for rivals)
# shellcheck disable=SC2086
for cc in gcc clang; do
    command -v $cc >/dev/null || continue
    dialect "C11, $cc" $cc -std=c11 $all -Wshadow -Wconversion -Wstrict-prototypes -xc
    dialect "C++11, $cc" $cc -std=c++11 $all -Wold-style-cast -xc++
    # lxd/cgo.go of LXD
    dialect "cgo as LXD compiles it, $cc" $cc -std=gnu11 -Wvla -Werror -fvisibility=hidden -Winit-self -Wformat=2 -Wshadow \
        -Wendif-labels -fasynchronous-unwind-tables -pipe --param=ssp-buffer-size=4 -g -Wunused \
        -Werror=implicit-function-declaration -Werror=return-type -Werror=overflow -Wnested-externs -fexceptions -xc
done

# Installed

meson install -C "$build" --no-rebuild --quiet --destdir "$work/root" >log 2>&1
result $? "meson install"
prefix=$work/root$(meson introspect "$build" --buildoptions | tr '{' '\n' | sed -nE 's/.*"name": "prefix", "value": "([^"]*)".*/\1/p')
pc=$(find "$work/root" -name migbuf.pc)
libdir=${pc%/pkgconfig/migbuf.pc}
config() { PKG_CONFIG_PATH=${pc%/*} pkg-config --define-variable=prefix="$prefix" "$@"; }
{ ls "$source/include/migbuf" && ls "$prefix/include/migbuf"; } | sort | uniq -u >log
[ ! -s log ]
result $? "every header is installed"

# What a program is linked with by its own wish, and all that it brings when it starts.
asks() { readelf -dW "$1" | sed -nE 's/.*\(NEEDED\).*\[(.*)\.so.*/\1/p' | grep -vE '^(libc|libm|ld-.*)$' | sort | tr '\n' ' '; }
brings() { LD_LIBRARY_PATH=$libdir ldd "$1" | grep -oE '(libmigbuf[a-z-]*|libjansson|libcurl)\.so' | sort -u | tr '\n' ' '; }
all_lines() { config --static --libs "$@" | tr ' ' '\n' | grep -E '^-l' | sort -u | tr '\n' ' '; }

# shellcheck disable=SC2046
cc -Wall -Werror -o shared host.c $(config --cflags --libs migbuf) >log 2>&1 && LD_LIBRARY_PATH=$libdir works ./shared &&
    [ "$(asks shared)" = "libmigbuf " ] && [ "$(brings shared)" = "libmigbuf.so " ]
result $? "pkg-config migbuf, shared: libmigbuf.so.0 and nothing that the other libraries need"

# The archives of migbuf, the system's own libraries as they are.
archives() { config --static --cflags --libs "$@" | sed -E 's/-l(migbuf[a-z-]*)/-Wl,-Bstatic -l\1 -Wl,-Bdynamic/g'; }
[ "$(all_lines migbuf)" = "-lm -lmigbuf " ]
result $? "pkg-config --static migbuf: -lmigbuf -lm, whatever else was built"
# shellcheck disable=SC2046
cc -Wall -Werror -o static host.c $(archives migbuf) >log 2>&1 && works ./static && [ -z "$(asks static)$(brings static)" ]
result $? "pkg-config --static migbuf: the archive alone"

cat >qmp.c <<'C'
#include <migbuf/qmp.h>
#include <migbuf/report.h>
#include <stdio.h>
#include <string.h>
int main(void)
{
    static const char reply[] = "{\"running\": true, \"status\": \"running\"}";
    struct migbuf_status_report status;
    struct migbuf_qmp *qmp;
    uint64_t id;
    if (migbuf_qmp_new(NULL, NULL, &qmp) || migbuf_qmp_command(qmp, "query-status", NULL, &id) ||
        migbuf_report_status(reply, strlen(reply), &status, NULL))
        return 1;
    migbuf_qmp_free(qmp);
    return status.running ? puts("running") < 0 : 1;
}
C
cat >lxd.c <<'C'
#include <migbuf/lxd.h>
#include <stdio.h>
#include <string.h>
int main(void)
{
    struct migbuf_lxd *lxd;
    uint64_t bytes;
    if (migbuf_lxd_processed("vm1: 1.20GB", 11, &bytes) || bytes != 1200000000 ||
        migbuf_lxd_open("/nobody/is/there", NULL, NULL, 1000, &lxd, NULL) != MIGBUF_E_SYSTEM)
        return 1;
    return puts("nobody") < 0;
}
C
cat >ram.c <<'C'
#include <migbuf/ram.h>
#include <stdio.h>
int main(void)
{
    struct migbuf_agreement agreed;
    struct migbuf_ram *ram;
    if (migbuf_agreement_init(&agreed, sizeof agreed) || migbuf_ram_new(&agreed, NULL, NULL, &ram))
        return 1;
    migbuf_ram_free(ram);
    return puts(migbuf_ram_state_text(MIGBUF_RAM_STATE_SWITCH)) < 0;
}
C
cat >mirror.c <<'C'
#include <migbuf/mirror.h>
#include <stdio.h>
int main(void)
{
    struct migbuf_mirror *mirror;
    if (migbuf_mirror_new("job", "disk", "target", NULL, NULL, &mirror))
        return 1;
    migbuf_mirror_free(mirror);
    return puts(migbuf_mirror_state_text(MIGBUF_MIRROR_STATE_SYNCED)) < 0;
}
C
grep -vh '^int main' ram.c mirror.c qmp.c lxd.c host.c | grep '^#include' >five.c # one program of all
sed -n '/^int main/,$p' ram.c | sed 's/^int main/static int ram_main/' >>five.c
sed -n '/^int main/,$p' mirror.c | sed 's/^int main/static int mirror_main/' >>five.c
sed -n '/^int main/,$p' qmp.c | sed 's/^int main/static int qmp_main/' >>five.c
sed -n '/^int main/,$p' lxd.c | sed 's/^int main/static int lxd_main/' >>five.c
sed -n '/^int main/,$p' host.c | sed 's/^int main/static int host_main/' >>five.c
printf 'int main(void)\n{\n    return ram_main() || mirror_main() || qmp_main() || lxd_main() || host_main();\n}\n' >>five.c
for name in ram mirror qmp lxd; do
    case $name in
    ram) needs="libmigbuf-ram.so " lines="-lm -lmigbuf-ram " says=switch ;;
    mirror) needs="libmigbuf-mirror.so " lines="-lm -lmigbuf-mirror " says=synced ;;
    qmp) needs="libjansson.so libmigbuf-qmp.so libmigbuf-ram.so libmigbuf.so " lines="-ljansson -lm -lmigbuf -lmigbuf-qmp -lmigbuf-ram " says=running ;;
    lxd) needs="libcurl.so libjansson.so libmigbuf-lxd.so libmigbuf.so " lines="-lcurl -ljansson -lm -lmigbuf -lmigbuf-lxd " says=nobody ;;
    esac
    # shellcheck disable=SC2046
    cc -Wall -Werror -o $name $name.c $(config --cflags --libs migbuf-$name) >log 2>&1 &&
        [ "$(LD_LIBRARY_PATH=$libdir ./$name 2>>log)" = $says ] && asks $name | grep -q "libmigbuf-$name " &&
        [ "$(brings $name)" = "$needs" ]
    result $? "pkg-config migbuf-$name, shared: $needs"
    [ "$(all_lines migbuf-$name)" = "$lines" ]
    result $? "pkg-config --static migbuf-$name: $lines"
    # shellcheck disable=SC2046
    cc -Wall -Werror -o $name-static $name.c $(archives migbuf-$name) >log 2>&1 && [ "$(./$name-static 2>>log)" = $says ] &&
        ! asks $name-static | grep migbuf >>log
    result $? "pkg-config --static migbuf-$name: the archives"
done
# shellcheck disable=SC2046
cc -Wall -Werror -o five five.c $(archives migbuf-mirror migbuf-qmp migbuf-lxd) >log 2>&1 && ./five >out 2>>log && ! asks five | grep migbuf >>log
result $? "one program of all archives"

# shellcheck disable=SC2046
cc -Wall -Werror -o uninstalled five.c \
    $(PKG_CONFIG_PATH=$build/lib pkg-config --cflags --libs migbuf-mirror migbuf-qmp migbuf-lxd 2>log) >>log 2>&1 &&
    LD_LIBRARY_PATH=$build/lib ./uninstalled >out 2>>log
result $? "pkg-config, the build tree: all of them"

# Loaded and unloaded

cat >load.c <<'C'
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
static int mapped(const char *name)
{
    char line[512];
    int n = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    while (f && fgets(line, sizeof line, f))
        n += strstr(line, name) != NULL;
    return f ? fclose(f), n : -1;
}
static long memory(void)
{
    long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%ld %ld", &size, &resident) != 2)
        return -1;
    fclose(f);
    return size;
}
int main(int argc, char **argv)
{
    long before = 0;
    for (int i = 0; argc == 2 && i < 200; i++) {
        void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL), *buffer = NULL;
        int (*make)(unsigned long long, const void *, const void *, void **);
        void (*end)(void *);
        if (!library)
            return puts(dlerror()), 1;
        *(void **)&make = dlsym(library, "migbuf_buffer_new");
        *(void **)&end = dlsym(library, "migbuf_buffer_free");
        if (!make || !end || make(1ull << 30, NULL, NULL, &buffer) || !buffer)
            return puts("no buffer"), 1;
        end(buffer);
        if (dlclose(library) || mapped("libmigbuf") != 0)
            return puts("still mapped after dlclose"), 1;
        if (i == 9)
            before = memory();
    }
    return memory() != before ? puts("the address space grew"), 1 : 0;
}
C
cc -Wall -o load load.c -ldl >log 2>&1 && ./load "$libdir/libmigbuf.so.0" >>log 2>&1
result $? "dlopen and dlclose 200 times: nothing stays"
# gcc calls STB_GNU_UNIQUE, NODELETE and a constructor what would stay or run by itself.
for name in migbuf migbuf-ram migbuf-mirror migbuf-qmp migbuf-lxd; do
    readelf -dW "$libdir/lib$name.so.0" | grep -E 'NODELETE|TEXTREL|RPATH|RUNPATH'
    readelf -lW "$libdir/lib$name.so.0" | grep 'GNU_STACK' | grep -v ' RW '
done >log
[ ! -s log ]
result $? "no text relocations, no run path, no executable stack"

# As a subproject

mkdir -p sub/subprojects
ln -s "$source" sub/subprojects/migbuf
cp host.c five.c sub/
cat >sub/meson.build <<'M'
project('host', 'c', default_options: ['warning_level=0'])
migbuf = dependency('migbuf', fallback: ['migbuf', 'migbuf_dep'])
executable('host', 'host.c', dependencies: migbuf)
qmp = dependency('migbuf-qmp', fallback: ['migbuf', 'migbuf_qmp_dep'], required: get_option('beside'))
ram = dependency('migbuf-ram', fallback: ['migbuf', 'migbuf_ram_dep'])
mirror = dependency('migbuf-mirror', fallback: ['migbuf', 'migbuf_mirror_dep'])
lxd = dependency('migbuf-lxd', fallback: ['migbuf', 'migbuf_lxd_dep'], required: get_option('beside'))
if qmp.found() != get_option('beside') or lxd.found() != get_option('beside')
  error('found what was not built, or not what was')
endif
if qmp.found()
  executable('five', 'five.c', dependencies: [ram, mirror, qmp, lxd])
endif
M
echo "option('beside', type: 'boolean', value: true)" >sub/meson_options.txt
for kind in shared static; do
    : >log
    meson setup sub/$kind sub -Dmigbuf:tests=disabled -Dmigbuf:examples=disabled -Dauto_features=enabled -Doptimization=0 \
        -Ddefault_library=$kind --wrap-mode=nofallback --force-fallback-for=migbuf,migbuf-ram,migbuf-mirror,migbuf-qmp,migbuf-lxd >log 2>&1 &&
        meson compile -C sub/$kind >>log 2>&1 && works sub/$kind/host && sub/$kind/five >out 2>>log
    result $? "meson subproject, $kind: all of them"
done
meson setup sub/alone sub -Dbeside=false -Dmigbuf:tests=disabled -Dmigbuf:examples=disabled -Dmigbuf:qmp=disabled \
    -Dmigbuf:lxd=disabled -Doptimization=0 --wrap-mode=forcefallback >log 2>&1 && meson compile -C sub/alone >>log 2>&1 &&
    works sub/alone/host
result $? "meson subproject, libmigbuf alone: the others are not found"

# Link-time optimisation; libmigbuf of a release, measured

meson setup lto "$source" -Dtests=disabled -Dexamples=disabled -Dauto_features=disabled -Doptimization=2 -Db_lto=true \
    -Ddefault_library=both -Dwerror=true >log 2>&1 && meson compile -C lto >>log 2>&1 &&
    cc -O2 -flto -Wall -Werror -I"$source/include" -o host-lto host.c lto/lib/libmigbuf.a -lm >>log 2>&1 && works ./host-lto &&
    cc -O2 -Wall -Werror -I"$source/include" -o host-so host.c lto/lib/libmigbuf.so -lm >>log 2>&1 &&
    LD_LIBRARY_PATH=lto/lib works ./host-so
result $? "link-time optimisation, shared and static"
meson setup release "$source" -Dtests=disabled -Dexamples=disabled -Dauto_features=disabled -Dbuildtype=release \
    -Doptimization=2 >log 2>&1 && meson compile -C release >>log 2>&1 && size -A release/lib/libmigbuf.so >>log 2>&1
code=$(size -A release/lib/libmigbuf.so 2>/dev/null | awk '$1 == ".text" { print $2 }')
[ "${code:-999999}" -le $((100 * 1024)) ]
result $? "libmigbuf is at most 100 KiB of code (-O2): ${code:-?} bytes"

# musl: libmigbuf. Its compiler knows no kernel headers; a distribution made of musl ships them. Its ioctl takes an int.

mkdir -p kernel
for d in linux asm-generic; do ln -s "/usr/include/$d" kernel/; done
ln -s "/usr/include/$(gcc -print-multiarch)/asm" kernel/asm
cat >musl.ini <<M
[binaries]
c = 'musl-gcc'
[built-in options]
c_args = ['-isystem', '$work/kernel', '-Wno-sign-conversion']
M
meson setup musl "$source" --native-file musl.ini -Dtests=disabled -Dexamples=disabled -Dauto_features=disabled \
    -Doptimization=0 -Dwerror=true -Ddefault_library=static >log 2>&1 && meson compile -C musl >>log 2>&1 &&
    musl-gcc -static -Wall -Werror -I"$source/include" -o host-musl host.c musl/lib/libmigbuf.a >>log 2>&1 &&
    works ./host-musl
result $? "musl, static"
echo "1..$count"
