#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# inside.sh [CASE...]: Incus 6.0.4 with a migbuf.Host compiled into it (inside.py says what is changed), and the cases of test.py for it.
# It is Debian 13's, built from its source with what Debian has of its dependencies, unpacked aside: 500 MB to fetch, ten minutes.
# Made once, in build/incus-inside; the library is that of this tree, built anew. Root.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/aside.sh
dir=$PWD/build/incus-inside
tree=root/gopath/src/github.com/lxc/incus

die() {
    echo "inside.sh: $*, see $dir/log" >&2
    exit 1
}

sources() {
    local url v
    url=$(aside_mirror)
    [ -n "$url" ] || die "apt knows no mirror of Debian"
    mkdir -p lists/partial cache/archives/partial root
    for v in deb deb-src; do
        echo "$v [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $url trixie main"
    done >sources.list
    aside_apt "$dir" update || die "no lists of Debian 13"
    for v in $(apt-cache -o Dir::State::Lists="$dir/lists" -o Dir::Etc::SourceList="$dir/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        showsrc incus 2>/dev/null | sed -n 's/^Version: //p' | sort -rV); do # a mirror may not have the last one whole
        aside_apt "$dir" --download-only source "incus=$v" && break
    done
    tar xf incus_*.orig.tar.* && tar xf incus_*.debian.tar.* || die "no source of Incus"
    mkdir -p "$(dirname $tree)" && mv incus-6.0.4 $tree || die "this is not Incus 6.0.4"
    for v in $(grep -v '^#' debian/patches/series); do
        patch -d $tree -sp1 <"debian/patches/$v" || die "$v does not go in"
    done
}

packages() {
    aside_apt "$dir" -y --no-install-recommends --download-only build-dep incus &&
        aside_apt "$dir" -y --no-install-recommends --download-only install coreutils dash gcc libc6-dev pkgconf incus-base incus-client ||
        die "what Incus needs cannot be fetched"
    for v in cache/archives/*.deb; do
        dpkg -x "$v" root
    done
    rm -rf cache lists
    for v in bin sbin lib lib64; do
        [ -e root/$v ] || ln -s usr/$v root/$v
    done
    mkdir -p root/proc root/dev root/tmp
}

library() {
    [ -f lib/build.ninja ] || meson setup lib ../.. --prefix=/usr --libdir=lib/x86_64-linux-gnu --buildtype=release \
        -Dqmp=disabled -Dlxd=disabled -Dexamples=disabled -Dtests=disabled >>log 2>&1 || return
    DESTDIR=$dir/root meson install -C lib >>log 2>&1
}

build() {
    rm -rf root/gopath/src/migbuf.example
    mkdir -p root/gopath/src/migbuf.example
    cp -r ../../examples/go/migbuf root/gopath/src/migbuf.example/ && rm root/gopath/src/migbuf.example/migbuf/*_test.go
    # shellcheck disable=SC2016
    unshare --mount sh -c 'mount --make-rprivate / && mount -t proc none root/proc && mount --rbind /dev root/dev &&
        exec chroot root /usr/bin/env -i PATH="$(cd root && echo /usr/lib/go-1.*/bin):/usr/bin" HOME=/tmp GOPATH=/gopath:/usr/share/gocode \
            GO111MODULE=off GOFLAGS=-p=2 GOCACHE=/tmp/cache CC=gcc CGO_LDFLAGS_ALLOW=-Wl,-z,now \
            /bin/sh -c "cd /gopath/src/github.com/lxc/incus && go build -o /usr/libexec/incus/incusd ./cmd/incusd"' >>log 2>&1
}

mkdir -p "$dir" && cd "$dir" || exit 1
: >>log
if [ ! -f driver_qemu.go ]; then # made last
    echo "Incus 6.0.4: source and what it is built with"
    rm -rf root incus* debian
    sources
    packages
    cp $tree/internal/server/instance/drivers/driver_qemu.go . || die "this is not Incus"
fi
echo "Incus 6.0.4 with a migbuf.Host"
library || die "the library does not build"
cp driver_qemu.go $tree/internal/server/instance/drivers/ || die "its source is gone"
python3 ../../tests/daemon/inside.py $tree/internal/server/instance/drivers || exit 1
build || die "Incus does not build"
cd ../..
[ $# -gt 0 ] || set -- host_moves host_in_a_small_buffer host_target_killed
programs=build/plain/examples
MIGBUF_INCUS_WHOLE=1 MIGBUF_INCUS=$dir/root exec tests/newer_qemu.sh 10.0 build/qemu-10.0 tests/daemon/test.py build/plain/tests/cage \
    $programs/evacuate/guest.elf $programs/evacuate/writer $programs/migbuf-guard "$@"
