#!/usr/bin/env bash
# newer_qemu.sh DIR                  a newer QEMU, unpacked in DIR (made once, kept): prints the path of its binary
# newer_qemu.sh DIR PROGRAM [ARG..]  runs a test program with it (MIGBUF_QEMU); TAP's skip line when it cannot be had
#
# It is Debian's own, see aside.sh. Exit 1 with a word when it cannot be had.
set -u
[ $# -ge 1 ] || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
mkdir -p "$1" && dir=$(cd "$1" && pwd) || exit 1
shift
. "$(dirname "$0")/aside.sh"
aside_what="a newer QEMU"
binary=$dir/root/usr/bin/qemu-system-x86_64

unpack() {
    aside_unpack "$dir" qemu-system-x86 qemu-system-common qemu-system-data qemu-utils seabios || return 1
    "$binary" --version >>"$dir/log" 2>&1 || { echo "it does not run"; return 1; }
}

exec 9>"$dir/lock"
flock 9
if ! "$binary" --version >/dev/null 2>&1; then
    word=$(unpack) || aside_cannot "${word:-no word}" "$@"
fi
exec 9>&-
if [ $# -eq 0 ]; then
    echo "$binary"
else
    MIGBUF_QEMU=$binary exec "$@"
fi
