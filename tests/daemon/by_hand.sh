#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# by_hand.sh RELEASE [cluster] CASE...: cases of test.py with Incus 6.0 (QEMU 10.0) or 7.0 (QEMU 11.1), from build/plain. Root.
set -u
cd "$(dirname "$0")/../.." || exit 1
case ${1:-} in
    6.0) incus=build/incus qemu=10.0 ;;
    7.0) incus=build/incus-7.0 qemu=11.1 ;;
    *) sed -n '3s/^# //p' "$0" >&2; exit 2 ;;
esac
release=$1
shift
programs=build/plain/examples
export MIGBUF_PLAN=$PWD/$programs/migbuf-plan
export MIGBUF_VOLUME=$PWD/$programs/migbuf-volume
exec tests/newer_qemu.sh $qemu build/qemu-$qemu tests/incus.sh "$release" $incus tests/daemon/test.py build/plain/tests/cage \
    $programs/evacuate/guest.elf $programs/evacuate/writer $programs/migbuf-guard "$@"
