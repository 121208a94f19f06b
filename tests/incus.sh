#!/usr/bin/env bash
# incus.sh DIR                  Incus 6.0, unpacked in DIR (made once, kept): prints its root
# incus.sh DIR PROGRAM [ARG..]  runs a test program with it (MIGBUF_INCUS); TAP's skip line when it cannot be had
#
# It is Debian's own, see aside.sh. Exit 1 with a word when it cannot be had.
set -u
[ $# -ge 1 ] || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
mkdir -p "$1" && dir=$(cd "$1" && pwd) || exit 1
shift
. "$(dirname "$0")/aside.sh"
aside_what=Incus
root=$dir/root

runs() {
    LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu "$root/usr/libexec/incus/incusd" --version >/dev/null 2>&1
}

if ! runs; then
    word=$(aside_unpack "$dir" incus-base libcowsql0 libraft0 liblxc1 && { runs || { echo "it does not run"; false; }; }) ||
        aside_cannot "${word:-no word}" "$@"
fi
if [ $# -eq 0 ]; then
    echo "$root"
else
    MIGBUF_INCUS=$root exec "$@"
fi
