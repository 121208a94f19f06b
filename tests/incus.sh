#!/usr/bin/env bash
# incus.sh DIR                  Incus 6.0, unpacked in DIR (made once, kept): prints its root
# incus.sh DIR PROGRAM [ARG..]  runs a test program with it (MIGBUF_INCUS); TAP's skip line when it cannot be had
#
# It is Debian's own, see aside.sh.
set -u
[ $# -ge 1 ] || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
mkdir -p "$1" && dir=$(cd "$1" && pwd) || exit 1
shift
. "$(dirname "$0")/aside.sh"
root=$dir/root

runs() {
    LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu "$root/usr/libexec/incus/incusd" --version >/dev/null 2>&1 &&
        "$root/usr/bin/incus" --version >/dev/null 2>&1
}
unpack() { aside_unpack "$dir" bookworm alone incus-base incus-client libcowsql0 libraft0 liblxc1; }

aside_have Incus "$dir" runs unpack "$@"
if [ $# -eq 0 ]; then
    echo "$root"
else
    MIGBUF_INCUS=$root exec "$@"
fi
