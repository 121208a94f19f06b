#!/usr/bin/env bash
# consumers.sh SOURCE BUILD: everybody who may link migbuf does so here, with README's first program: headers alone in every
# dialect, installed and found by pkg-config (shared, static), as a meson subproject, loaded and unloaded, with link-time
# optimisation, on musl. Reports how large the core is. TAP.
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
config() { PKG_CONFIG_PATH=${pc%/*} pkg-config --define-variable=prefix="$prefix" "$@" migbuf; }

# shellcheck disable=SC2046
cc -Wall -Werror -o shared host.c $(config --cflags --libs) >log 2>&1 && LD_LIBRARY_PATH=$libdir works ./shared &&
    readelf -d shared | grep -q 'NEEDED.*libmigbuf.so.0' && ! readelf -d shared | grep -q 'NEEDED.*jansson'
result $? "pkg-config, shared: bound to libmigbuf.so.0 and nothing of its own needs"

# The archive of migbuf, the system's own libraries as they are.
# shellcheck disable=SC2046
cc -Wall -Werror -o static host.c $(config --static --cflags --libs | sed 's/-lmigbuf/-Wl,-Bstatic -lmigbuf -Wl,-Bdynamic/') \
    >log 2>&1 && works ./static && ! readelf -d static | grep -q 'NEEDED.*migbuf'
result $? "pkg-config --static: the archive"

# shellcheck disable=SC2046
cc -Wall -Werror -o uninstalled host.c \
    $(PKG_CONFIG_PATH=$build/lib pkg-config --cflags --libs migbuf 2>log) >>log 2>&1 &&
    LD_LIBRARY_PATH=$build/lib works ./uninstalled
result $? "pkg-config, the build tree"

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
! readelf -dW "$libdir/libmigbuf.so.0" | grep -E 'NODELETE|TEXTREL|RPATH|RUNPATH' >log &&
    readelf -lW "$libdir/libmigbuf.so.0" | grep -q 'GNU_STACK.* RW '
result $? "no text relocations, no run path, no executable stack"

# As a subproject

mkdir -p sub/subprojects
ln -s "$source" sub/subprojects/migbuf
cp host.c sub/
cat >sub/meson.build <<'M'
project('host', 'c', default_options: ['default_library=static'])
migbuf = dependency('migbuf', fallback: ['migbuf', 'migbuf_dep'])
test('host', executable('host', 'host.c', dependencies: migbuf))
M
meson setup sub/build sub -Dmigbuf:tests=disabled -Dmigbuf:examples=disabled -Dmigbuf:qmp=disabled -Doptimization=0 \
    --wrap-mode=forcefallback >log 2>&1 && meson compile -C sub/build >>log 2>&1 && works sub/build/host
result $? "meson subproject"

# Link-time optimisation; the core of a release, measured

meson setup lto "$source" -Dtests=disabled -Dexamples=disabled -Dauto_features=disabled -Doptimization=2 -Db_lto=true \
    -Ddefault_library=both -Dwerror=true >log 2>&1 && meson compile -C lto >>log 2>&1 &&
    cc -O2 -flto -Wall -Werror -I"$source/include" -o host-lto host.c lto/lib/libmigbuf.a -lm >>log 2>&1 && works ./host-lto &&
    cc -O2 -Wall -Werror -I"$source/include" -o host-so host.c lto/lib/libmigbuf.so -lm >>log 2>&1 &&
    LD_LIBRARY_PATH=lto/lib works ./host-so
result $? "link-time optimisation, shared and static"
report_size() { # LIBRARY WHAT
    { size -A "$1" | awk '$1 == ".text" || $1 == ".rodata" { print $2 }' && size -B "$1" | awk 'NR == 2 { print $1 }'; } 2>/dev/null |
        awk -v what="$2" '{ n[NR] = $1 } END { if (NR == 3) printf "# %s: %.1f KiB of code and constants, %.1f KiB of text as size(1) " \
            "counts it, with unwind and symbol tables\n", what, (n[1] + n[2]) / 1024, n[3] / 1024 }'
}
report_size lto/lib/libmigbuf.so "the core as distributions build it (-O2; aim: 100 KiB)"
report_size "$(readlink -f "$libdir/libmigbuf.so")" "this build, all rooms"

# musl: the core rooms. Its compiler knows no kernel headers; a distribution made of musl ships them. Its ioctl takes an int.

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
