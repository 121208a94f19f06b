#!/usr/bin/env bash
# The core on other machines and systems: its unit tests and laws, each as a row of a table.
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/packages.sh
. tests/aside.sh

usage() {
    cat <<TXT
usage: tests/elsewhere.sh [--tests LIST] [PLACE...]

  PLACE      i686     32 bit: pointers, size_t, and doubles with more bits in between (x87)
             armhf    32 bit, under qemu-arm
             s390x    big-endian, under qemu-s390x
             musl     another C library: the programs of tests/fuzz over their corpora
             trixie   Debian 13 in a chroot: gcc 14, all rooms, all tests that need no other program
             dist     the tarball of meson dist, away from git; two builds of it, each in a directory of its own, must be the
                      same bytes (libraries, archives, programs)
             (default: all of these)
  --tests    programs, comma-separated (default: unit tests and laws of libmigbuf and libmigbuf-ram)

As root on Debian 12; it installs cross compilers and qemu-user, and unpacks the rest under build/. One row for each place:
tests that passed, failed, were skipped. The exit status is 0 when all that could be had passed. Environment: MIGBUF_TEST_OPS,
MIGBUF_TEST_PERCENT, MIGBUF_TEST_LIVES; by default a tenth of the rounds, for what is emulated.
TXT
}

core=error,number,throttle,priority,placement,bins,limits,growth,buffer,disk,cow,forecast,planner,admission,link,state
core=$core,convergence,downtime,history,ram,golden,laws,buffer_model,convergence_laws
places=()
while [ $# -gt 0 ]; do
    case $1 in
        --tests) core=$2; shift 2 ;;
        --help | -h) usage; exit 0 ;;
        i686 | armhf | s390x | musl | trixie | dist) places+=("$1"); shift ;;
        *) echo "unknown place $1, see --help" >&2; exit 2 ;;
    esac
done
[ ${#places[@]} -gt 0 ] || places=(i686 armhf s390x musl trixie dist)
export MIGBUF_TEST_OPS=${MIGBUF_TEST_OPS:-10000} MIGBUF_TEST_PERCENT=${MIGBUF_TEST_PERCENT:-10}
need_packages meson ninja-build gcc pkg-config check || exit 1
top=$PWD
failures=0

row() { printf '| %s | %s | %s | %s | %s |\n' "$@"; }

# One row from meson's JUnit log: every single test counts.
count() { # PLACE WHAT DIR
    local n
    n=$(grep -oh '<testsuite [^>]*>' "$3"/meson-logs/*.junit.xml 2>/dev/null | awk '{
        for (i = 1; i <= NF; i++) if (split($i, a, "\"") >= 2) v[a[1]] += a[2]
    } END { printf "%d %d %d", v["tests="], v["failures="] + v["errors="], v["skipped="] }')
    set -- "$1" "$2" $n
    [ "$4" = 0 ] && [ "$3" -gt 0 ] || failures=$((failures + 1))
    row "$1" "$2" $(($3 - $4 - $5)) "$4" "$5"
}

cannot() { # PLACE WHY
    row "$1" "cannot be had: $2" - - -
}

# check for another machine, unpacked beside the cross compiler's C library.
foreign_check() { # DIR ARCHITECTURE
    [ -f "$1/root/usr/include/check.h" ] || (
        aside_apt() { # of that architecture
            local dir=$1
            shift
            timeout 300 apt-get -qq -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" \
                -o Dir::Etc::SourceList="$dir/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$dir/lists" \
                -o Dir::State::status=/dev/null -o Dir::Cache="$dir/cache" -o APT::Sandbox::User=root "$@" >>"$dir/log" 2>&1
        }
        architecture=$2
        aside_unpack "$1" bookworm alone check libsubunit0 libsubunit-dev
    )
}

cross_file() { # FILE COMPILER RUNNER FAMILY CPU ENDIAN ROOT LIBRARIES
    cat >"$1" <<TXT
[binaries]
c = '$2'
ar = '${2%-gcc}-ar'
strip = '${2%-gcc}-strip'
pkgconfig = 'pkg-config'
${3:+exe_wrapper = [$3]}
[properties]
pkg_config_libdir = '$7/usr/lib/$8/pkgconfig'
sys_root = '$7'
[built-in options]
c_args = ['-I$7/usr/include']
c_link_args = ['-L$7/usr/lib/$8']
[host_machine]
system = 'linux'
cpu_family = '$4'
cpu = '$5'
endian = '$6'
TXT
}

# `link` asks the kernel for TCP_INFO and the like, which qemu-user does not pass on.
run_core() { # PLACE WHAT DIR EMULATED
    local names
    names=$(meson test -C "$3" --list 2>/dev/null | sed 's/.* //' | grep -xE "${core//,/|}" | grep -vx "${4:+link}")
    rm -f "$3"/meson-logs/*.junit.xml
    # shellcheck disable=SC2086
    meson test -C "$3" --no-rebuild --timeout-multiplier 10 --num-processes 2 $names >"$3.log" 2>&1
    count "$1" "$2" "$3"
    grep -E '^ *[0-9]+/[0-9]+ .*(FAIL|TIMEOUT|ERROR)' "$3.log" | sed 's/^/    /'
}

build_core() { # DIR CROSSFILE
    rm -rf "$1"
    meson setup "$1" --cross-file "$2" -Dqmp=disabled -Dlxd=disabled -Dexamples=disabled -Dtests=enabled -Dwerror=true >"$1.log" 2>&1 &&
        ninja -C "$1" -j2 >>"$1.log" 2>&1 && return
    grep -E 'error|ERROR|FAILED' "$1.log" | head -n 20
    failures=$((failures + 1))
    return 1
}

cross() { # PLACE WHAT ARCHITECTURE TRIPLET RUNNER FAMILY CPU ENDIAN C-LIBRARY
    local dir=$top/build/elsewhere-$1 word
    need_packages "gcc-$4" "libc6-dev-$9-cross" ${5:+qemu-user} || { cannot "$1" "its compiler"; return; }
    mkdir -p "$dir.aside"
    word=$(foreign_check "$dir.aside" "$3") || { cannot "$1" "check: $word"; return; }
    local libraries=${4/i686/i386} runner=${5:+"'$5', '-L', '/usr/$4', '-E', 'LD_LIBRARY_PATH=$dir.aside/root/usr/lib/$4'"}
    cross_file "$dir.cross" "$4-gcc" "$runner" "$6" "$7" "$8" "$dir.aside/root" "$libraries"
    build_core "$dir" "$dir.cross" || return
    if [ -z "$5" ]; then # this machine runs it; the cross compiler's C library is not where the loader looks
        LD_LIBRARY_PATH=$dir.aside/root/usr/lib/$libraries run_core "$1" "$2" "$dir"
    else
        run_core "$1" "$2" "$dir" emulated
    fi
}

# The targets of tests/fuzz need no check: their corpora with mutations, models and laws among them.
musl() {
    local dir=$top/build/elsewhere-musl name passed=0 failed=0
    need_packages musl-tools || { cannot musl "musl-gcc"; return; }
    mkdir -p "$dir"
    : >"$dir.log"
    for name in buffer_calls buffer_model formulas history texts; do
        # shellcheck disable=SC2046
        if musl-gcc -static -std=c11 -O1 -D_GNU_SOURCE -Iinclude -Ilib -Itests -idirafter /usr/include \
            -idirafter "/usr/include/$(gcc -dumpmachine)" -o "$dir/$name" "tests/fuzz/$name.c" tests/fuzz/corpus.c \
            $(ls lib/*.c | grep -vE 'lib/(lxd|qmp|json|report|link_linux)') -lm >>"$dir.log" 2>&1 &&
            "$dir/$name" "tests/fuzz/corpus/$name" >>"$dir.log" 2>&1; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1)) failures=$((failures + 1))
        fi
    done
    row musl "musl-gcc: programs of tests/fuzz" $passed $failed 0
}

# Debian 13: everything that needs no other program of the system.
trixie() {
    local root=$top/build/elsewhere-trixie mirror what="Debian 13, gcc 14: unit, laws, fuzz, oom, examples"
    need_packages debootstrap git || { cannot trixie debootstrap; return; }
    mirror=$(aside_mirror)
    if ! [ -x "$root/usr/bin/meson" ]; then
        debootstrap --variant=minbase --include=meson,ninja-build,gcc,g++,libc6-dev,pkg-config,check,libjansson-dev,libcurl4-openssl-dev \
            trixie "$root" "$mirror" >"$root.log" 2>&1 || { cannot trixie "no mirror of it"; return; }
    fi
    rm -rf "$root/src" && mkdir -p "$root/src" && git archive HEAD | tar x -C "$root/src"
    # Terminals of its own are there for programs that ask how wide theirs is.
    unshare --mount chroot "$root" sh -c "mount -t proc proc /proc; mount -t tmpfs tmpfs /dev/shm
        mkdir -p /dev/pts; mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts; ln -sf pts/ptmx /dev/ptmx; cd /src && meson setup build -Dwerror=true && ninja -C build -j2 &&
        meson test -C build --no-rebuild --suite unit --suite laws --suite fuzz --suite oom --suite examples --no-suite long \
            --timeout-multiplier 10" >"$root.log" 2>&1
    count trixie "$what" "$root/src/build"
    grep -E '^ *[0-9]+/[0-9]+ .*(FAIL|TIMEOUT|ERROR)' "$root.log" | sed 's/^/    /'
}

hardened() { # FILE: what is missing of it, in words
    local said
    said=$(readelf -Wdlh "$1")
    case $said in *"GNU_RELRO"*) ;; *) echo "relro" ;; esac
    case $said in *BIND_NOW* | *"Flags: NOW"*) ;; *) echo "bind now" ;; esac
    case $said in *"Type: "*DYN*) ;; *) echo "position independence" ;; esac
    readelf -Wl "$1" | grep -q 'GNU_STACK.*RWE' && echo "a stack that is not run"
    case $1 in
        */libmigbuf.so* | */libmigbuf-ram.so* | */libmigbuf-mirror.so*) ;; # they read no peer's bytes
        *) readelf -Ws "$1" | grep -q __stack_chk_fail || echo "stack protector" ;;
    esac
    readelf -Ws "$1" | grep -qE '__[a-z]+_chk' || echo "fortified calls"
}

# The tarball alone, twice, without git: the same bytes, hardened; the tests of the first one.
dist() {
    local tree=$top/build/elsewhere-dist a b file missing different=0 weak=0
    need_packages git libjansson-dev libcurl4-openssl-dev binutils || { cannot dist "its libraries"; return; }
    a=$(mktemp -d) b=$(mktemp -d)/another/place
    mkdir -p "$b"
    rm -rf "$tree"
    {
        meson setup "$tree" -Dtests=disabled && meson dist -C "$tree" --no-tests --formats gztar --allow-dirty &&
            for place in "$a" "$b"; do
                tar xzf "$tree"/meson-dist/migbuf-*.tar.gz -C "$place" --strip-components=1 &&
                    (cd "$place" && GIT_DIR=/nowhere meson setup build && GIT_DIR=/nowhere ninja -C build -j2) || break
            done
    } >"$tree.log" 2>&1 || { row dist "the tarball does not build, see $tree.log" 0 1 0; failures=$((failures + 1)); return; }
    while read -r file; do
        cmp -s "$a/$file" "$b/$file" || { echo "    not the same bytes: $file"; different=$((different + 1)); }
    done < <(cd "$a" && find build/lib build/examples \( -name '*.so.*.*.*' -o -name '*.a' -o -type f -executable \) ! -name '*.p' ! -name '*.elf')
    for file in "$a"/build/lib/libmigbuf*.so.*.*.* "$a"/build/examples/migbuf-{guard,volume,plan}; do
        [ -f "$file" ] || continue # its objects' directory
        missing=$(hardened "$file" | tr '\n' ',')
        [ -z "$missing" ] || { echo "    ${file##*/}: without ${missing%,}"; weak=$((weak + 1)); }
    done
    row dist "two builds of the tarball: other bytes, files not hardened" $((different + weak == 0)) $((different + weak)) 0
    failures=$((failures + different + weak))
    (cd "$a" && GIT_DIR=/nowhere meson test -C build --no-rebuild --suite unit --suite laws --suite oom --no-suite long) >>"$tree.log" 2>&1
    count dist "the tarball's unit, laws, oom" "$a/build"
    rm -rf "$a" "${b%/another/place}"
}

row place what passed failed skipped
row --- --- --- --- ---
for place in "${places[@]}"; do
    case $place in
        i686) cross i686 "gcc 12, 32 bit, x87" i386 i686-linux-gnu '' x86 i686 little i386 ;;
        armhf) cross armhf "gcc 12, 32 bit, qemu-arm" armhf arm-linux-gnueabihf qemu-arm arm armv7 little armhf ;;
        s390x) cross s390x "gcc 12, big-endian, qemu-s390x" s390x s390x-linux-gnu qemu-s390x s390x s390x big s390x ;;
        *) "$place" ;;
    esac
done
[ $failures = 0 ]
