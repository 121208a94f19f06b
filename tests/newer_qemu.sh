#!/usr/bin/env bash
# newer_qemu.sh VERSION DIR                  QEMU 10.0 or 11.1, unpacked in DIR (made once, kept): prints the program's path
# newer_qemu.sh VERSION DIR PROGRAM [ARG..]  runs a test program with it (MIGBUF_QEMU); TAP's skip line when it cannot be had
#
# It is Debian's own, see aside.sh, with its own libraries and firmware: the system's may be too old for it.
set -u
[ $# -ge 2 ] || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
case $1 in
    10.0) release=bookworm ;;
    11.1) release=trixie ;;
    *) echo "no QEMU $1 is known here: 10.0 or 11.1" >&2; exit 2 ;;
esac
spice=qemu-system-modules-spice # Incus starts no VM without
version=$1
mkdir -p "$2" && dir=$(cd "$2" && pwd) || exit 1
shift 2
. "$(dirname "$0")/aside.sh"
binary=$dir/bin/qemu-system-x86_64

runs() { "$binary" --version 2>>"$dir/log" | grep -qF "version $version." && "$dir/bin/qemu-img" --version >/dev/null 2>&1 &&
    "$binary" -spice help 2>&1 | grep -q addr=; }

# What is run instead of a program of the root: the same, by the root's own loader.
wrapper() { # PROGRAM [ARGUMENT...]
    local program=$1
    shift
    cat <<END
#!/bin/sh
root=\$(cd "\$(dirname "\$0")/../root" && pwd) || exit 127
libraries=\$root/usr/lib/x86_64-linux-gnu:\$root/lib/x86_64-linux-gnu
for loader in "\$root/usr/lib/x86_64-linux-gnu" "\$root/lib/x86_64-linux-gnu"; do
    [ ! -x "\$loader/ld-linux-x86-64.so.2" ] || break
done
export QEMU_MODULE_DIR="\$root/usr/lib/x86_64-linux-gnu/qemu"
exec "\$loader/ld-linux-x86-64.so.2" --library-path "\$libraries" --argv0 "\$0" "\$root/usr/bin/$program" $* "\$@"
END
}

unpack() {
    aside_unpack "$dir" "$release" whole qemu-system-x86 qemu-utils $spice || return 1 # one word or none
    mkdir -p "$dir/bin" &&
        wrapper qemu-system-x86_64 -L '"$root/usr/share/qemu"' -L '"$root/usr/share/seabios"' \
            -L '"$root/usr/lib/ipxe/qemu"' >"$binary" &&
        wrapper qemu-img >"$dir/bin/qemu-img" && chmod +x "$dir"/bin/* || { echo "no room"; return 1; }
}

aside_have "QEMU $version" "$dir" runs unpack "$@"
if [ $# -eq 0 ]; then
    echo "$binary"
else
    MIGBUF_QEMU=$binary exec "$@"
fi
