#!/usr/bin/env bash
# newer_qemu.sh DIR                  a newer QEMU, unpacked in DIR (made once, kept): prints the path of its binary
# newer_qemu.sh DIR PROGRAM [ARG..]  runs a test program with it (MIGBUF_QEMU); TAP's skip line when it cannot be had
#
# It is Debian's own of the suite bookworm-backports, from the mirror apt is configured with. Nothing is installed and
# no list of the system is touched. Exit 1 with a word when it cannot be had.
set -u
[ $# -ge 1 ] || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
mkdir -p "$1" && dir=$(cd "$1" && pwd) || exit 1
shift
suite=bookworm-backports packages="qemu-system-x86 qemu-system-common qemu-system-data qemu-utils seabios"
binary=$dir/root/usr/bin/qemu-system-x86_64

cannot() {
    if [ $# -ge 2 ]; then # there is a program to run
        echo "1..0 # SKIP a newer QEMU cannot be unpacked aside: $1"
        exit 0
    fi
    echo "$1" >&2
    exit 1
}

# The mirror of the first Debian source there is, old format or new; security and updates live elsewhere.
mirror() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
        sed -nE 's/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+)[[:space:]]+bookworm[[:space:]].*/\2/p'
    cat /etc/apt/sources.list.d/*.sources 2>/dev/null | sed -nE 's/^URIs:[[:space:]]*([^[:space:]]+).*/\1/p' |
        grep -v security
}

unpack() {
    local url options
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || { echo "no apt here"; return 1; }
    url=$(mirror | head -n 1)
    [ -n "$url" ] || { echo "apt knows no mirror of Debian 12"; return 1; }
    mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/packages" "$dir/root"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $url $suite main" >"$dir/sources.list"
    options="-o Dir::Etc::SourceList=$dir/sources.list -o Dir::Etc::SourceParts=/dev/null
        -o Dir::State::Lists=$dir/lists -o Dir::Cache=$dir/cache -o APT::Sandbox::User=root"
    # shellcheck disable=SC2086
    timeout 300 apt-get -qq $options update >"$dir/log" 2>&1 || { echo "no lists of $suite"; return 1; }
    # shellcheck disable=SC2086
    (cd "$dir/packages" && for p in $packages; do
        timeout 300 apt-get -qq $options download "$p" || timeout 300 apt-get -qq download "$p"
    done) >>"$dir/log" 2>&1
    for p in "$dir"/packages/*.deb; do
        dpkg -x "$p" "$dir/root" >>"$dir/log" 2>&1 || { echo "unpacking failed"; return 1; }
    done
    "$binary" --version >>"$dir/log" 2>&1 || { echo "it does not run"; return 1; }
}

if ! "$binary" --version >/dev/null 2>&1; then
    word=$(unpack) || cannot "${word:-no word}" "$@"
fi
if [ $# -eq 0 ]; then
    echo "$binary"
else
    MIGBUF_QEMU=$binary exec "$@"
fi
