#!/usr/bin/env bash
# incus.sh [VERSION] DIR                  Incus 6.0 (without a word) or 7.0, unpacked in DIR (made once, kept): prints its root
# incus.sh [VERSION] DIR PROGRAM [ARG..]  runs a test program with it (MIGBUF_INCUS); TAP's skip line when it cannot be had
#
# It is Debian's own, see aside.sh. 7.0 comes with all its libraries, the C library too: MIGBUF_INCUS_WHOLE says so, and
# daemon/lab.py lays them over the system's.
set -u
version=6.0
case ${1:-} in
    6.0 | 7.0) version=$1; shift ;;
esac
[ $# -ge 1 ] || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
mkdir -p "$1" && dir=$(cd "$1" && pwd) || exit 1
shift
. "$(dirname "$0")/aside.sh"
root=$dir/root

runs() {
    local loader=
    [ $version = 6.0 ] || loader=$root/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
    LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu $loader "$root/usr/libexec/incus/incusd" --version 2>/dev/null |
        grep -q "^$version" && "$root/usr/bin/incus" --version >/dev/null 2>&1
}
unpack() {
    case $version in
        6.0) aside_unpack "$dir" bookworm alone incus-base incus-client libcowsql0 libraft0 liblxc1 ;;
        7.0) aside_unpack "$dir" trixie whole incus-base incus-client ;;
    esac
}

aside_have "Incus $version" "$dir" runs unpack "$@"
if [ $# -eq 0 ]; then
    echo "$root"
else
    [ $version = 6.0 ] || export MIGBUF_INCUS_WHOLE=1
    MIGBUF_INCUS=$root exec "$@"
fi
