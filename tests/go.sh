#!/usr/bin/env bash
# go.sh SOURCE BUILD PART: the Go package and the program that uses it, built without network against the build tree. TAP.
#   basics  formatted, vetted, all tests, with real QEMU, the package's under cgocheck=2, what is said where there is no cgo, and
#           README's first program against an installed library, in an empty directory
#   race    all tests under the race detector
#   newer   the evacuations alone, with the QEMU of MIGBUF_QEMU
set -u
source=$(cd "$1" && pwd) build=$(cd "$2" && pwd) part=${3:?a part}
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
command -v go >/dev/null || { echo "1..0 # SKIP no go"; exit 0; }
unset DESTDIR GOFLAGS
export GOPROXY=off GOTOOLCHAIN=local MIGBUF_BUILD=$build
export PKG_CONFIG_PATH=$build/lib LD_LIBRARY_PATH=$build/lib
count=0
result() { # STATUS NAME [LOG]
    count=$((count + 1))
    if [ "$1" = 0 ]; then echo "ok $count - $2"; else echo "not ok $count - $2" && sed 's/^/# /' "${3:-$work/log}" | tail -n 40; fi
}

# Go's build cache knows nothing of C headers outside its packages: other headers, other flags.
CGO_CFLAGS="-g -O2 -DMIGBUF_HEADERS=$(cat "$source"/include/migbuf/*.h | cksum | cut -d' ' -f1)"
export CGO_CFLAGS

cd "$source/examples/go" || exit 1

# Every test and example of go is one here.
go_test() { # NAME ARGUMENTS..
    local name=$1 status verdict test
    shift
    go test -count=1 -v "$@" >"$work/log" 2>&1
    status=$?
    while read -r verdict test; do
        awk -v test="$test" '/^=== RUN/ { on = $3 == test } on' "$work/log" >"$work/one"
        [ "$verdict" = PASS: ]
        result $? "$name: $test" "$work/one"
    done < <(sed -nE 's/^--- (PASS:|FAIL:|SKIP:) ([A-Za-z_]+).*/\1 \2/p' "$work/log")
    result $status "$name: go test $*"
}

if [ "$part" != basics ]; then
    case $part in
        race) go_test race -race ./... ;;
        newer) go_test newer ./evacuate ;;
        *) echo "no part $part" >&2; exit 2 ;;
    esac
    echo "1..$count"
    exit 0
fi

gofmt -l . >"$work/log"
[ ! -s "$work/log" ]
result $? "gofmt"
go vet ./... >"$work/log" 2>&1
result $? "go vet"
# One line that says what is missing, and no other.
CGO_ENABLED=0 go build ./migbuf >"$work/log" 2>&1
[ $? != 0 ] && grep -q '^migbuf/nocgo.go:.*"migbuf needs cgo: CGO_ENABLED=1, a C compiler, pkg-config"' "$work/log" && [ "$(grep -vc '^#' "$work/log")" = 1 ]
result $? "without cgo it says what it needs"
GODEBUG=cgocheck=2 go_test cgocheck=2 ./migbuf ./bench
go_test plain ./evacuate

# As a new user: installed, nothing else of this tree but the package, README's words.
meson install -C "$build" --no-rebuild --quiet --destdir "$work/root" >"$work/log" 2>&1
pc=$(find "$work/root" -name migbuf.pc)
export PKG_CONFIG_SYSROOT_DIR=$work/root PKG_CONFIG_PATH=${pc%/*} LD_LIBRARY_PATH=${pc%/pkgconfig/migbuf.pc}
mkdir "$work/host"
cd "$work/host" || exit 1
awk '/`host\.go`/ { seen = 1 } /^```$/ { if (on) exit } on { print } seen && /^```go$/ { on = 1 }' "$source/README.md" >host.go
commands=$(sed -nE 's/^    (go mod .*)/\1/p' "$source/README.md" | sed "s|/path/to/migbuf|$source|g")
[ -n "$commands" ] && bash -ec "$commands && ./host" >"$work/log" 2>&1 &&
    grep -qE '^lower to [0-9]+ units of 65536 bytes a second, for ' "$work/log"
result $? "README's program, installed, in an empty directory"
echo "1..$count"
