#!/bin/sh
# Stands first in the servers' PATH as qemu-system-x86_64: the real one ($MIGBUF_QEMU), with TCG in KVM's place.
option=
for word; do
    shift
    case "$option $word" in
        '-cpu host'*) word=max$(printf %s "${word#host}" | sed 's/,hv_passthrough//') ;;
        '-accel kvm'*) word=tcg${word#kvm} ;;
    esac
    option=$word
    set -- "$@" "$word"
done
exec "$MIGBUF_QEMU" "$@"
