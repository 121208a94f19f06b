#!/usr/bin/env bash
# End to end: real QEMUs, a real full disk, Ctrl-C in every phase, and what must be found is found. TAP.
# usage: evacuate_test.sh RIG PART [EVACUATE]     (root; the rig is evacuate with tests/rig, EVACUATE the program itself)
#   basics      one of each kind, a minute          interrupts  Ctrl-C in all other steps, two minutes
#   others      all other faults, four minutes      newer       what another QEMU may do differently, half a minute
# Environment: MIGBUF_QEMU, another QEMU; EVACUATE_SHORT leaves out of `others` what takes long.
set -u
evacuate=${1:?the path of evacuate-rig} part=${2:?a part} demonstration=${3:-$1}
case $part in basics | interrupts | others | newer) ;; *) echo "no part $part" >&2; exit 2 ;; esac
dir=$(mktemp -d)
shm=
trap 'rm -rf "$dir" $shm' EXIT
n=0
here="--work-dir $dir${MIGBUF_QEMU:+ --qemu $MIGBUF_QEMU}"
small="--policy paper --admission off --disk 16MiB --buffer 64MiB --link 24MB $here"

report() { # RESULT TEXT: 0 is good; what the program said follows a failure
    n=$((n + 1))
    if [ "$1" = 0 ]; then
        echo "ok $n - $2"
    else
        echo "not ok $n - $2"
        tail -15 "$dir/said" | sed 's/^/# /'
    fi
}

refused() { # WORDS OPTIONS...: exit status 2, and these words
    local words=$1
    shift
    "$evacuate" "$@" >"$dir/said" 2>&1
    [ $? = 2 ] && grep -q "$words" "$dir/said"
}

skip_all() {
    echo "1..0 # SKIP $1"
    exit 0
}

# What a number or text in the summary is: value KEY, or value vm INDEX KEY. Read once for each summary, into lines of "keys=value".
value() {
    if [ ! "$dir/flat" -nt "$dir/summary" ]; then
        rm -f "$dir/flat"
        python3 -c '
import json, sys
def lines(v, keys):
    print(" ".join(keys) + "=" + (v if isinstance(v, str) else str(v).lower()))
    if isinstance(v, (dict, list)):
        for key, inner in v.items() if isinstance(v, dict) else enumerate(v):
            lines(inner, keys + [str(key)])
lines(json.load(open(sys.argv[1])), [])' "$dir/summary" >"$dir/new" && mv "$dir/new" "$dir/flat" || return 1
    fi
    sed -n "/^$*=/{s///p;q}" "$dir/flat"
}

# Nothing of ours is left: no QEMU of this directory, no mount, no loop device, no file.
clean() {
    local left
    left=$(grep -l -- "$dir/[e]vacuate-" /proc/[0-9]*/cmdline 2>/dev/null | wc -l)
    [ "$left" = 0 ] || { echo "$left processes left" >>"$dir/said"; return 1; }
    grep -q "$dir" /proc/mounts && { echo "a mount is left" >>"$dir/said"; return 1; }
    grep -qs "$dir" /sys/block/loop*/loop/backing_file && { echo "a loop device is left" >>"$dir/said"; return 1; }
    ls -d "$dir"/evacuate-* >/dev/null 2>&1 && { echo "files are left" >>"$dir/said"; return 1; }
    return 0
}

# said WORDS: waits until the program in the background has said so, or is over. How long that takes is the machine's affair.
said() {
    until grep -q -- "$1" "$dir/said"; do
        kill -0 "$pid" 2>/dev/null || return 1
        sleep 0.1
    done
}

# begin OPTIONS: in the background, as process $pid. What the last one said is gone before `said` can take it for this one's.
begin() {
    rm -f "$dir/summary" "$dir/flat"
    : >"$dir/said"
    "$evacuate" "$@" >"$dir/said" 2>&1 &
    pid=$!
}

# run STATUS OPTIONS: runs with this exit status and leaves nothing behind.
run() {
    local wanted=$1 status
    shift
    rm -f "$dir/summary" "$dir/flat"
    timeout -s KILL 900 "$evacuate" "$@" --json="$dir/summary" >"$dir/said" 2>&1
    status=$?
    [ $status = "$wanted" ] || { echo "exit status $status, not $wanted" >>"$dir/said"; return 1; }
    clean
}

# Every VM is at one place, checked, with nothing lost and its host's limits in force. That nothing overflows is promised for
# ticks that come in time.
whole() {
    [ "$(value writes_lost)" = 0 ] && [ "$(value limits_restored)" = true ] || return 1
    [ "$(value overflows)" = 0 ] || grep -q "came too late for the promise" "$dir/said" || return 1
    for i in 0 1 2; do
        [ $i = 0 ] || [ -n "$(value vm $i name)" ] || break # a run of fewer
        [ "$(value vm $i checked)$(value vm $i settings_restored)" = truetrue ] || return 1
        case $(value vm $i runs_at) in source | target) ;; *) return 1 ;; esac
    done
}

[ "$(id -u)" = 0 ] || skip_all "needs root for a loop mount"
for tool in qemu-system-x86_64 qemu-img mkfs.ext4 python3; do
    command -v $tool >/dev/null || skip_all "no $tool"
done

# Ctrl-C. Before the switch-over the guest is at the source afterwards, after it at the target.
interrupt_before() { # STEP
    run 1 $small --inject "interrupt@$1" && whole && [ "$(value interrupted)" = true ] &&
        [ "$(value vm 0 runs_at)$(value vm 1 runs_at)$(value vm 2 runs_at)" != targettargettarget ]
    report $? "Ctrl-C while $1"
}
interrupt_after() { # STEP
    run 1 $small --inject "interrupt@$1" && whole && [ "$(value moved)" -ge 1 ]
    report $? "Ctrl-C while $1"
}

# With on-target-error report, of 75 guests whose target died so, 4 took QEMU 7.2 with them: it is stop
# (migbuf/report.h, migbuf_report_job_error). The others' mirrors ended by themselves and none was there to cancel.
target_dies() { # STEP
    local status=1 try
    # Whether its mirror has seen the death before it is cancelled is the machine's affair: in one of five runs it has.
    for try in 1 2 3 4 5; do
        run 1 $small --inject "kill-target@$1" && whole && [ "$(value moved)" = 2 ] || break
        [ "$1" != "waiting until the mirror is ready" ] || grep -q "its mirror had stopped and was cancelled" "$dir/said" || continue
        status=0
        break
    done
    report $status "a target dies while $1: its guest goes on at the source"
}

nvme() {
    run 1 --policy paper --device nvme $here &&
        grep -qE "QEMU cannot migrate this VM: non-migratable device|cannot write to one" "$dir/said" &&
        [ "$(value moved)" = 0 ] && [ "$(value writes_acknowledged)" = 0 ] && [ "$(value limits_restored)" = true ]
    report $? "what QEMU does not migrate is told with its reason before anything is begun"
}

# One of each kind: there, back, a fault that is found, a peer that dies, a question that is refused.
if [ "$part" = basics ]; then
    rig=$evacuate evacuate=$demonstration
    run 0 $here && whole && [ "$(value moved)" = 3 ] && [ "$(value contrast overflowed)" = true ] &&
        [ "$(value buffer_peak_bytes)" -lt "$(value buffer_bytes)" ]
    report $? "the default run moves all, loses nothing, and overflows without throttle only"
    for option in --inject --inject-after --trace --replay --window --method --overlay; do
        refused "evacuate: $option=x is no option" $option=x && ! "$evacuate" --help | grep -q -- "$option "
        report $? "$option is the rig's alone"
    done
    evacuate=$rig

    run 0 $small --trace "$dir/trace" --svg "$dir/svg" && "$evacuate" --replay "$dir/trace" >>"$dir/said" 2>&1 &&
        grep -q '</svg>' "$dir/svg" && grep -q '"written_bytes":[1-9][0-9]*,"writes":[1-9]' "$dir/trace"
    report $? "the decision log replays identically and the timeline is a picture"

    run 0 $small --history "$dir/history" --downtime 40 && whole && [ "$(value vm 0 memory limit_ms)$(value vm 0 memory state)" = 40moved ] &&
        [ "$(value vm 0 memory downtime_ms)" -gt 0 ] && [ "$(value vm 0 memory pages)" -gt 4000 ] &&
        [ "$(value vm 0 memory bytes)" -gt 100000 ] && [ "$(value vm 0 wanted_bytes)" -gt 0 ] &&
        [ "$(value vm 0 delivered_bytes)" -gt 0 ] && [ "$(value vm 0 memory held)" = true ] &&
        grep -q "3 of 3 guests stood while their memory was sent: TCG" "$dir/said" &&
        grep -q "^VM 0 sequential: stood for [0-9]* ms; [0-9]* pages, .* written of .* wanted" "$dir/said"
    report $? "each VM tells what its memory took, within the downtime that was agreed"

    printf 'migbuf-history 1 id=vm9 n=1 cut' >>"$dir/history" # by a disk that was full
    run 1 $small --inject "kill-target@sending the memory" --history "$dir/history" --trace "$dir/believed" && whole && [ "$(grep -c "" "$dir/history")" = 7 ] &&
        grep -q "^attempt 1 of vm3: the last moved" "$dir/said" && [ "$(grep -c "n=2 .*out=moved phase=target" "$dir/history")" = 2 ] &&
        grep -q "n=2 .*out=failed phase=ram why=peer-gone moved=1 " "$dir/history" &&
        [ "$(grep -c '"rate_bytes_per_s":[1-9]' "$dir/believed")" = 3 ] && ! grep -q '"rate_bytes_per_s":[1-9]' "$dir/trace" && ! ls "$dir"/history.* 2>/dev/null
    report $? "the history knows how earlier attempts ended, and this one is added"

    once="--policy paper --disk 8MiB --buffer 64MiB --link 24MB --vms 1 --history $dir/once ${MIGBUF_QEMU:+--qemu $MIGBUF_QEMU} --state $dir/state"
    begin $once --inject die@reporting
    wait $pid 2>/dev/null
    grep -q "n=1 " "$dir/once" && run 0 --state "$dir/state" && [ "$(value moved)$(value restarts)" = 11 ] && run 0 --state "$dir/state" &&
        [ "$(grep -c "" "$dir/once")" = 1 ] && grep -q "n=1 .*out=moved" "$dir/once" && "$evacuate" --end "$dir/state" >>"$dir/said" 2>&1
    report $? "killed when the history was written and the run not yet over: the attempt is in it once"

    run 1 $small --inject lose && [ "$(value writes_lost)" -ge 1 ]
    report $? "a damaged sector is found"

    run 0 $small --disks 2 --disk 12MiB --device virtio-scsi && whole
    report $? "VMs with two disks each move, on virtio-scsi"

    for step in "copying the base" "waiting until the mirror is ready" "sending the memory"; do
        interrupt_before "$step"
    done
    interrupt_after "switching over"
    target_dies "waiting until the mirror is ready"

    # Options.
    for help in -h --help; do
        "$evacuate" $help >"$dir/said" 2>&1 && grep -q "^Usage: evacuate" "$dir/said" && [ "$(wc -L <"$dir/said")" -le 100 ]
        report $? "$help, in 100 columns"
    done
    "$evacuate" --version >"$dir/said" 2>&1 && grep -qx "evacuate [0-9.]*" "$dir/said"
    report $? "--version"
    for wrong in "--help=x" "-z" "--vms" "--v"; do
        refused "evacuate: ${wrong%%=*} " "$wrong"
        report $? "$wrong is refused by name"
    done

    # What is missing is said before anything begins: nobody waits a minute for it.
    nothing_begun() { ! grep -q "starting\|guests" "$dir/said"; }
    mkdir "$dir/bin" "$dir/with,comma" && ln -s "$(command -v mkfs.ext4)" "$(command -v mount)" "$dir/bin/"
    for there in qemu-system-x86_64 qemu-img; do
        missing=qemu-img && [ $there = qemu-img ] && missing=qemu-system-x86_64
        ln -s "$(command -v $there)" "$dir/bin/"
        PATH=$dir/bin "$evacuate" --policy paper >"$dir/said" 2>&1
        [ $? = 2 ] && grep -q "cannot run $missing: No such file" "$dir/said" && nothing_begun
        report $? "$missing is missed before anything begins"
        rm "$dir/bin/$there"
    done
    for output in svg json trace; do
        refused "$dir/nowhere/x" $small --$output "$dir/nowhere/x" && nothing_begun && refused "$dir" $small --$output "$dir" && nothing_begun
        report $? "--$output where nothing can be written is refused before anything begins"
    done
    echo kept >"$dir/kept"
    refused "cannot run" --policy paper --svg "$dir/kept" --json "$dir/kept" --qemu /nonexistent && grep -q kept "$dir/kept"
    report $? "and what is there stays until there is something new"
    refused "with a comma" --policy paper --work-dir "$dir/with,comma" && nothing_begun && [ -z "$(ls "$dir/with,comma")" ]
    report $? "a path that QEMU cannot be told is refused before anything begins"
    run 2 $small --guest /etc/passwd && grep -q "it never ran" "$dir/said" && [ "$(value moved)" = 0 ]
    report $? "a machine where no guest runs is no failed evacuation"
    rm -f "$dir/summary"
    "$evacuate" $small --json "$dir/summary" --vms 1 >"$dir/said" 2>&1 && [ "$(value moved)" = 1 ]
    report $? "--json FILE as well as --json=FILE"

    for wrong in "--vms 0" "--buffer 1" "--policy fast" "--tick x" "--qd 99" "--pattern noise" "--disks 3" "--device ide" "--link -5" "--nonsense" \
        "--overlay both" "--links 9" "--window 0" "--downtime 0" "--accel xen"; do
        "$evacuate" $wrong >"$dir/said" 2>&1
        [ $? = 2 ] && grep -q -e "${wrong%% *}" "$dir/said"
        report $? "$wrong is refused by name"
    done
    echo "1..$n"
    exit 0
fi

# The other steps.
if [ "$part" = interrupts ]; then
    for step in "starting the source" "waiting for the other guests" "learning the disk" "setting the first limit" \
        "creating the overlay" "opening the overlay" "putting the overlay on top" "starting the target" \
        "exporting the target's disk" "connecting to the target's disk" "starting the mirror" \
        "asking what is set for memory" "stopping the guest for its memory" "ending the mirror"; do
        interrupt_before "$step"
    done
    for step in "arriving at the target" "stopping the NBD server" "giving back what was set for memory" "ending the source"; do
        interrupt_after "$step"
    done
    echo "1..$n"
    exit 0
fi

# On another QEMU: there, back from every phase in which something is to be undone, and with a peer that dies.
if [ "$part" = newer ]; then
    run 0 $small --disks 2 --disk 8MiB --device virtio-scsi && whole && [ "$(value moved)" = 3 ] &&
        "${MIGBUF_QEMU:?}" --version | grep -q "version $(value vm 0 qemu) "
    report $? "another QEMU moves VMs with two disks each: $(value vm 0 qemu)"
    for step in "copying the base" "waiting until the mirror is ready" "sending the memory" "ending the mirror"; do
        run 1 $small --inject "interrupt@$step" && whole && [ "$(value interrupted)" = true ] && [ "$(value moved)" -lt 3 ]
        report $? "Ctrl-C while $step"
    done
    # On QEMU 11 a mirror whose target dies before it has begun to copy ends, whatever on-target-error says.
    run 1 $small --inject "kill-target@waiting until the mirror is ready" --inject-after 400 && whole && [ "$(value moved)" = 2 ] &&
        grep -qE "its mirror had stopped and was cancelled|the job lxd_root_snapshot ended: Input/output error" "$dir/said"
    report $? "a target dies while waiting until the mirror is ready: its guest goes on at the source"
    run 0 $small --policy hybrid --vms 2 --mirrored all && whole && [ "$(value moved)$(value vm 1 mirrored)" = 2true ] &&
        [ "$(grep -c "its writes go to both hosts" "$dir/said")" = 2 ]
    report $? "mirrored in the background, and write-blocking before the memory is sent"
    nvme
    if [ -w /dev/shm ]; then # its requests have a connection of their own there
        shm=$(mktemp -d /dev/shm/evacuate-XXXXXX)
        run 0 $small --dirty 200MB:32MiB --vms 1 --postcopy --work-dir "$shm" && [ "$(value moved)$(value writes_lost)" = 10 ] &&
            [ "$(value vm 0 memory post_copy)$(value vm 0 settings_restored)" = truetrue ]
        report $? "memory that does not converge moves by post-copy"
        rmdir "$shm"
    fi
    echo "1..$n"
    exit 0
fi

run 0 $small --policy planner --admission sjf --trace "$dir/trace" && whole && [ "$(value moved)$(value policy)" = 3planner ] &&
    "$evacuate" --replay "$dir/trace" >>"$dir/said" 2>&1 && grep -q '"remaining_bytes":[1-9]' "$dir/trace"
report $? "planned, one after the other: all moved, nothing lost, and the log replays identically"

# What QEMU was told, by QEMU. LXD leaves the buffer as it is, and so does its policy.
cat >"$dir/spy" <<END
#!/bin/sh
exec ${MIGBUF_QEMU:-qemu-system-x86_64} -trace handle_qmp_command "\$@" 2>>"$dir/told"
END
chmod +x "$dir/spy"
buffers() { # POLICY: buf-size of each overlay's mirror
    : >"$dir/told"
    run 0 $small --vms 1 --policy "$1" --qemu "$dir/spy" && whole &&
        grep -a '"blockdev-mirror"' "$dir/told" | sed 's/.*"buf-size": \([0-9]*\).*/\1/; t; s/.*/none/'
}
[ "$(buffers planner) $(buffers lxd)" = "65536 none" ]
report $? "an overlay's mirror keeps little in flight, so that its guest does not wait behind it"

run 0 $small --policy mirror --window 6 && whole && [ "$(value moved)$(value policy)" = 3mirror ] && [ "$(value buffer_peak_bytes)" -lt 1000000 ] &&
    ! grep -q "putting the overlay on top" "$dir/said" && [ "$(value window_delivered_bytes)" -gt 1000000 ] &&
    python3 - "$dir/summary" <<'END'
import json, sys
d = json.load(open(sys.argv[1]))
assert d["window_delivered_bytes"] < 1.05 * d["window_demanded_bytes"]
pace = {"sequential": 110 * 65536, "random": 130 * 4096, "bursty": 16 / 3 * 1048576}
for v in d["vm"]: # the pace varies by a fifth
    wanted = 6 * pace[v["name"].split()[2]]
    assert 0.95 * wanted < v["window_demanded_bytes"] < 1.25 * wanted, (v["name"], v["window_demanded_bytes"], wanted)
    assert v["move_seconds"] > 0 and v["seconds"] > 5.9, (v["name"], v["move_seconds"], v["seconds"])
END
report $? "write-through: all moved without overlays; who has moved writes on until the window ends"

run 1 $small --policy mirror --inject "interrupt@waiting until the mirror is ready" && whole && [ "$(value moved)" -lt 3 ]
report $? "write-through: Ctrl-C takes the guests back"

run 1 $small --policy hybrid --vms 2 --mirrored 0 --not-mirrored 1 --inject "kill-target@waiting until the mirror is ready" && whole &&
    [ "$(value moved)$(value vm 0 runs_at)" = 1source ]
report $? "a target that dies while a disk is mirrored: its guest goes on at the source"

# One is mirrored, one gets an overlay. The mirrored one takes no room, counts on the link, and lets its guest write.
mixed="--policy hybrid --vms 2 --mirrored 0 --not-mirrored 1 --pattern sequential"
run 0 $small $mixed && whole && [ "$(value moved)$(value policy)" = 2hybrid ] &&
    [ "$(value vm 0 mirrored)$(value vm 1 mirrored)" = truefalse ] && [ "$(value vm 0 buffer_peak_bytes)" = 0 ] &&
    [ "$(value vm 1 buffer_peak_bytes)" -gt 0 ] && # of its writes the mirrored one gets at least nine tenths of the other's part
    [ $((10 * $(value vm 0 delivered_bytes) * $(value vm 1 wanted_bytes))) -gt $((9 * $(value vm 1 delivered_bytes) * $(value vm 0 wanted_bytes))) ] &&
    ! grep -q "A base copy\|VM 0 .*: phase base copy" "$dir/said"
report $? "hybrid: a guest that is mirrored beside one with an overlay, and neither is held back for the other"

# The first one that comes to the step has an overlay already. The other one's host has limits, which its second target gets too.
run 0 $small --policy hybrid --vms 2 --mirrored 1 --not-mirrored 0 --pattern sequential --admission fifo --disk 8MiB \
    --inject "overlay@waiting until the mirror is ready" && whole && [ "$(value moved)$(value vm 1 mirrored)$(value vm 1 limits bps_rd)" = 2false50000000 ] &&
    grep -q "VM 1 .*its mirror is given up: it is to get an overlay" "$dir/said" && [ "$(value vm 1 buffer_peak_bytes)" -gt 0 ]
report $? "hybrid: a choice that is changed while the disk is mirrored costs no write"

run 0 $small --vms 1 --inject "cut@connecting to the target's disk" && whole && grep -q "is cut" "$dir/said" && [ "$(value moved)" = 1 ]
report $? "a connection to the target's disk that breaks before it stands is made again"

# What another hand sets its target gets too, be it mirrored and not limited by us, or about to be.
set_by_another() { # POLICY STEP
    run 0 $small --policy $1 --vms 1 --disk 8MiB --inject "change-limits@$2" && whole &&
        [ "$(value moved)$(value vm 0 other_hands)" = 11 ] && [ "$(value vm 0 limits bps_wr)/$(value vm 0 limits iops_wr)" = 7000000/900 ]
    report $? "$1: limits changed by another hand while $2 are what the guest has at the target"
}
set_by_another mirror "waiting until the mirror is ready"
set_by_another "hybrid --not-mirrored 0" "waiting for room in the buffer"

# Link K carried its VMs' disks, and the buffer was told how fast it was.
carried() {
    [ "$(value link "$1" bytes_sent)" -gt "$2" ] && [ "$(value link "$1" measured_bytes_per_s)" -gt 0 ] &&
        [ "$(value link "$1" measured_bytes_per_s)" -lt 16000000 ] &&
        grep -q "\"call\":\"link\",\"link\":$(($1 + 1))," "$dir/trace" && grep -q "^Link $1: " "$dir/said"
}
run 0 $small --link 12MB --links 2 --trace "$dir/trace" && whole && "$evacuate" --replay "$dir/trace" >>"$dir/said" 2>&1 &&
    [ "$(value link 0 vms)" = "['vm 0 sequential', 'vm 2 bursty']" ] && [ "$(value link 1 vms)" = "['vm 1 random']" ] &&
    carried 0 33554432 && carried 1 16777216
report $? "over two links each VM has its own, and each link is measured by itself"

run 1 --policy none --admission off --disk 48MiB --buffer 32MiB --link 16MB $here && [ "$(value overflows)" -gt 0 ] &&
    [ "$(value writes_lost)" = 0 ] && [ "$(value moved)" = 3 ]
report $? "without throttle it overflows, is reported as failure, and still nothing is lost"

nvme

# Memory that is written faster than the link carries it, by guests whose disks are at rest: nobody is held. On a busy machine a
# guest that is throttled to a fifth writes little, so the link carries less.
wild="--dirty 500MB:32MiB --vms 2"
run 1 $small --link 12MB $wild && [ "$(value vm 0 runs_at)$(value vm 1 runs_at)$(value writes_lost)" = sourcesource0 ] &&
    [ "$(value vm 0 memory state)$(value vm 0 memory held)" = cancelledfalse ] && [ "$(value vm 0 memory rounds)" -ge 2 ] &&
    [ "$(value vm 0 settings_restored)$(value vm 1 settings_restored)$(value limits_restored)" = truetruetrue ] &&
    grep -q "VM 0 sequential, sending the memory: the migration cancelled: no-convergence (now at: source)" "$dir/said"
report $? "memory that does not converge: given up within what was agreed, and the guests are as they were"

run 0 $small --dirty 4MB:16MiB --vms 2 && [ "$(value moved)$(value vm 0 memory held)$(value vm 0 settings_restored)" = 2falsetrue ] &&
    [ "$(value vm 0 memory bytes)" -gt 16777216 ] && ! grep -q "TCG loses track" "$dir/said"
report $? "memory that converges moves while its guest runs"

run 0 $small --dirty 200MB:8MiB --vms 1 --ram-policy proxmox && [ "$(value moved)$(value vm 0 settings_restored)" = 1true ] &&
    case $(value vm 0 memory limit_ms) in 200 | 400 | 800 | 1600 | 3200 | 6400) true ;; *) false ;; esac &&
    [ "$(value vm 0 memory throttle_percent)" = 0 ] && refused "ram-policy fast: ours, nova" --ram-policy fast
report $? "another's rule decides: the downtime is doubled until memory fits into it"

if [ "$(stat -fc %T "$dir")" != tmpfs ]; then
    refused "is not on a tmpfs" $small --postcopy
    report $? "post-copy is refused where QEMU cannot do it"
fi
if [ -w /dev/shm ]; then
    shm=$(mktemp -d /dev/shm/evacuate-XXXXXX)
    run 0 $small $wild --postcopy --work-dir "$shm" && [ "$(value moved)$(value writes_lost)$(value vm 0 settings_restored)" = 20true ] &&
        [ "$(value vm 0 memory post_copy)$(value vm 0 memory state)" = truemoved ] && grep -q ", by post-copy" "$dir/said"
    report $? "the same memory moves by post-copy where that was agreed"

    # Whoever is killed in the middle of it comes back to a guest that runs there and misses memory that is here.
    post="--policy paper --disk 16MiB --buffer 64MiB --link 12MB ${MIGBUF_QEMU:+--qemu $MIGBUF_QEMU} --state $shm/state --postcopy $wild --vms 1"
    begin $post --inject "die@sending the rest of its memory"
    wait $pid 2>/dev/null
    run 0 --state "$shm/state" && [ "$(value moved)$(value writes_lost)$(value vm 0 settings_restored)$(value restarts)" = 10true1 ] &&
        grep -q "the link broke in post-copy: it is mended" "$dir/said"
    report $? "killed in post-copy: the link is mended, and the guest has all of its memory"

    run 1 $small $wild --vms 1 --postcopy --work-dir "$shm" --inject "kill-target@sending the rest of its memory" &&
        [ "$(value vm 0 runs_at)" = unknown ] && grep -q "a QEMU died that had what nobody else has" "$dir/said"
    report $? "a target that dies in post-copy takes the guest with it, and that is said"
    "$evacuate" --end "$shm/state" >"$dir/said" 2>&1 && rmdir "$shm"
    report $? "and nothing is left of that"
fi

# hand VM: which VM the other hand was at, for its index differs from run to run.
hand() { for i in 0 1 2; do [ "$(value vm $i other_hands)" != 1 ] || echo $i; done; }

if [ -z "${EVACUATE_SHORT:-}" ]; then
    run 1 $small --disks 2 --disk 8MiB --inject lose && [ "$(value writes_lost)" -ge 1 ] && grep -q lxd_data "$dir/said"
    report $? "a damaged sector of a second disk is found"

    run 1 $small --disks 2 --disk 8MiB --inject "interrupt@waiting until the mirror is ready" && whole && [ "$(value moved)" -lt 3 ]
    report $? "Ctrl-C while the overlays of two disks are sent"

    run 1 $small --disks 2 --disk 8MiB --method typed --inject "interrupt@waiting until the mirror is ready" && whole && [ "$(value moved)" -lt 3 ]
    report $? "limits by typed calls alone; Ctrl-C restores the host's"

    run 0 $small --inject "wipe-limits@copying the base" --inject-after 600 && whole && vm=$(hand) && [ -n "$vm" ] &&
        [ "$(value vm $vm slowest_back_ticks)" -le 2 ] && [ "$(value vm $vm limits iops_wr)" = 0 ]
    report $? "limits wiped by another hand are back within two ticks; the host has none from then on"

    run 0 $small --inject "change-limits@copying the base" --inject-after 600 && whole && vm=$(hand) && [ -n "$vm" ] &&
        [ "$(value vm $vm slowest_back_ticks)" -le 2 ] && [ "$(value vm $vm limits iops_wr)" = 900 ] &&
        [ "$(value vm $vm limits bps_wr)" = 7000000 ]
    report $? "limits changed by another hand are what the guest has at the target"

    begin $small --link 4MB --inject "change-limits@copying the base" --json="$dir/summary"
    said "another hand changed"
    kill -INT $pid
    wait $pid
    clean && whole && vm=$(hand) && [ -n "$vm" ] && [ "$(value vm $vm runs_at)" = source ] &&
        [ "$(value vm $vm limits iops_wr)" = 900 ] && [ "$(value vm $vm limits bps_wr)" = 7000000 ]
    report $? "limits changed by another hand are what is restored at the source"

    # The tick alone would be too late: 32 MB/s without a limit, and ten seconds to the next one.
    run 0 --policy paper --vms 1 --disk 80MiB --buffer 64MiB --link 8MB --pattern sequential --pace 500 --tick 10000 \
        --inject "wipe-limits@copying the base" --inject-after 800 $here && [ "$(value early_ticks)" -ge 1 ] &&
        [ "$(value overflows)" = 0 ] && [ "$(value moved)" = 1 ]
    report $? "a file that outgrows its claim makes a tick at once"

    run 1 $small --inject "fill@copying the base" && [ "$(value overflows)" -ge 1 ] && [ "$(value moved)" = 3 ] &&
        [ "$(value writes_lost)$(value guest_errors)$(value io_errors)" = 000 ] &&
        [ "$(value vm 0 went_on_after_full)$(value vm 1 went_on_after_full)$(value vm 2 went_on_after_full)" != \
            falsefalsefalse ] && grep -q "something else took" "$dir/said"
    report $? "a full volume stops the guests, room lets them go on, nothing is lost"

    run 0 $small --inject "fill@setting the first limit" && whole && [ "$(value moved)" = 3 ] &&
        grep -q "something else fills the volume" "$dir/said"
    report $? "an overlay is not begun on a full volume"

    run 1 $small --inject "fill-for-good@waiting until the mirror is ready" && [ "$(value overflows)" -ge 1 ] &&
        [ "$(value moved)" = 3 ] && [ "$(value writes_lost)$(value guest_errors)$(value io_errors)" = 000 ]
    report $? "a guest that a full volume stopped goes on at the target"
fi

# Three VMs in room for one and a half: it is extended while they are on their way.
if [ -z "${EVACUATE_SHORT:-}" ]; then
    mkdir "$dir/shm" && mount -t tmpfs -o size=16M none "$dir/shm"
    begin $small --disk 32MiB --link 12MB --volume "$dir/shm" --json="$dir/summary"
    said "base copy .*, paused" # the room is used up
    mount -o remount,size=64M "$dir/shm"
    wait $pid
    [ $? = 0 ] && whole && [ "$(value moved)" = 3 ] && [ "$(value buffer_bytes)" -gt 60000000 ] &&
        [ "$(value buffer_peak_bytes)" -gt 17000000 ] && grep -q "has been extended" "$dir/said"
    report $? "a volume that is extended on the way is used"
    umount "$dir/shm"
fi

# A btrfs whose quota answers EDQUOT, for which QEMU does not stop a guest. The overlays need more than it has.
quota=$dir/quota
make_quota() {
    mkdir "$quota" && truncate -s 512M "$dir/quota.img" && mkfs.btrfs -q "$dir/quota.img" &&
        mount -o loop "$dir/quota.img" "$quota" && btrfs quota enable "$quota" &&
        btrfs subvolume create "$quota/omega" && btrfs qgroup limit 36M "$quota/omega"
}
drop_quota() {
    umount "$quota" 2>/dev/null
    rm -rf "$quota" "$dir/quota.img"
}
trap 'drop_quota; umount "$dir/shm" 2>/dev/null; rm -rf "$dir" $shm' EXIT
if [ -z "${EVACUATE_SHORT:-}" ]; then
    make_quota >"$dir/said" 2>&1
    report $? "a volume with a quota can be made here"

    "$evacuate" --policy none --admission off --volume "$quota/omega" $here >"$dir/said" 2>&1
    [ $? = 2 ] && grep -q "bounded by a quota" "$dir/said"
    report $? "a quota without a throttle is refused"

    "$evacuate" $small --link 12MB --volume "$quota/omega" --json="$dir/summary" >"$dir/said" 2>&1
    [ $? = 0 ] && whole && [ "$(value moved)" = 3 ] && [ "$(value io_errors)$(value guest_errors)" = 00 ] &&
        grep -q "bounded by a quota" "$dir/said"
    report $? "below a quota everybody moves and no guest is told of an error"

    # Lowered behind our back: then nothing can be done but to say so.
    begin $small --volume "$quota/omega" --link 4MB --json="$dir/summary"
    said " used [1-9][0-9]\.[0-9]* MB of" # more than what will be left
    btrfs qgroup limit 6M "$quota/omega"
    said "I/O error"
    kill -INT $pid
    wait $pid
    [ $? = 1 ] && [ "$(value io_errors)" -ge 1 ] && grep -q "TOLD OF .* I/O ERRORS" "$dir/said"
    report $? "an I/O error that a guest was told of is said loudly"
    drop_quota
    clean
    report $? "nothing is left of all that"
fi

# A second and a third Ctrl-C do not shorten the way back.
begin $small --link 4MB --json="$dir/summary"
said "phase base copy"
for i in 1 2 3; do kill -INT $pid; sleep 0.1; done
wait $pid
[ $? = 1 ] && clean && whole && [ "$(value moved)" = 0 ]
report $? "three times Ctrl-C"

# 32 writes of 64 KiB always wait. Two drains of them, when the merge begins and at the stop, and 256 KiB a second; a merge that
# is completed under the running guest goes on pouring.
begin --policy fixed:256KiB --vms 1 --disk 512MiB --buffer 256MiB --link 6MB --pattern sequential --qd 32 --pace 100000 \
    --work-dir "$dir" --json="$dir/summary"
said "base copy [1-9]"
kill -INT $pid
wait $pid
[ $? = 1 ] && clean && [ "$(value vm 0 runs_at)$(value writes_lost)" = source0 ] && [ "$(value buffer_peak_bytes)" -lt 12000000 ]
report $? "a merge is completed under a guest that stands: $(value buffer_peak_bytes) bytes at most in the buffer"

# Too large for the buffer, so that guests are paused. On the way back they run before their descriptors go: QEMU would keep them.
begin --policy paper --admission off --disk 48MiB --buffer 32MiB --link 6MB --work-dir "$dir" --json="$dir/summary"
said ", paused"
kill -INT $pid
wait $pid
[ $? = 1 ] && clean && whole && [ "$(value moved)" = 0 ] && ! grep -q "something else took" "$dir/said"
report $? "guests that were paused go back, and their overlays are gone before the run is over"

# Killed: QEMUs and mounts go with it. Files cannot.
begin $small --link 4MB
said "phase base copy"
kill -KILL $pid
wait $pid 2>/dev/null
for i in $(seq 1200); do # a killed process goes when the kernel has the time
    rm -rf "$dir"/evacuate-*
    clean && break
    sleep 0.1
done
clean
report $? "SIGKILL leaves neither processes nor mounts"

# With --state the QEMUs go on (what becomes of such runs is tested by kills.sh), and one command ends them.
qemus() { grep -l -- "$dir/[s]tate/run" /proc/[0-9]*/cmdline 2>/dev/null | wc -l; }
run 0 $small --state "$dir/state" --overlay name --svg "$dir/svg" && whole && [ "$(ls "$dir/state")" = state ] && [ "$(value restarts)" = 0 ]
report $? "a run with --state leaves its summary when it is over, and nothing else"
cp "$dir/summary" "$dir/before"
run 0 $small --state "$dir/state" --overlay name --svg "$dir/svg" && cmp -s "$dir/before" "$dir/summary" &&
    grep -q "This run is over" "$dir/said" && grep -q "3 of 3 VMs moved" "$dir/said" && ! grep -q "phase" "$dir/said" &&
    run 0 --state "$dir/state" && refused "other options" --state "$dir/state" --vms 2 &&
    refused "comes too late" --state "$dir/state" --svg "$dir/another" && [ "$(ls "$dir/state")" = state ]
report $? "the same command again tells of it with the same exit status and begins nothing"
"$evacuate" --end "$dir/state" >"$dir/said" 2>&1 && [ ! -e "$dir/state" ]
report $? "--end removes it"
begin $small --policy hybrid --vms 2 --mirrored 0 --not-mirrored 1 --state "$dir/state" --inject "die@waiting until the mirror is ready"
wait $pid 2>/dev/null
run 0 --state "$dir/state" && whole && [ "$(value moved)$(value writes_lost)$(value vm 0 mirrored)$(value restarts)" = 20true1 ]
report $? "killed while a disk is mirrored: who comes back begins its mirror again"
"$evacuate" --end "$dir/state" >"$dir/said" 2>&1
begin $small --policy hybrid --vms 1 --mirrored 0 --disk 8MiB --state "$dir/state" --inject "overlay-die@waiting until the mirror is ready"
wait $pid 2>/dev/null
run 0 --state "$dir/state" && whole && [ "$(value moved)$(value vm 0 mirrored)$(value restarts)" = 1false1 ] &&
    grep -q "its mirror is given up: it is to get an overlay" "$dir/said"
report $? "killed when a mirror was given up: who comes back does not begin it again"
"$evacuate" --end "$dir/state" >"$dir/said" 2>&1
begin $small --policy hybrid --vms 1 --pattern random --qd 4 --pace 400 --buffer 16MiB --link 8MB --state "$dir/state" \
    --inject "die@waiting for room in the buffer"
wait $pid 2>/dev/null
run 0 --state "$dir/state" && whole && [ "$(value moved)$(value vm 0 mirrored)$(value restarts)" = 1true1 ]
report $? "killed when it was seen what its guest writes: who comes back gives the same advice"
"$evacuate" --end "$dir/state" >"$dir/said" 2>&1
begin $small --vms 1 --state "$dir/state" --inject "die@stopping it to check its disk"
wait $pid 2>/dev/null
run 0 --state "$dir/state" && [ "$(value vm 0 settings_restored)$(value moved)$(value restarts)" = true11 ]
report $? "what was set for memory is looked at anew by who comes back, and counted once"
"$evacuate" --end "$dir/state" >"$dir/said" 2>&1
begin $small --link 4MB --state "$dir/state"
said "phase base copy"
refused "process $pid works on" --state "$dir/state" && refused "process $pid works on" --end "$dir/state"
report $? "one program at a time works on a run"
kill -KILL $pid
wait $pid 2>/dev/null
sleep 0.2
[ "$(qemus)" = 3 ] && refused "other options" --state "$dir/state" --vms 2 && refused "the guests still run" \
    --state "$dir/state" --guest /nonexistent && [ "$(qemus)" = 3 ]
report $? "a killed run is not taken up with other options, and its QEMUs go on"
run 0 --state "$dir/state" && whole && [ "$(value moved)$(value restarts)" = 31 ] && awk '
    BEGIN { n = split("base copy,mirror,RAM,at target", name, ","); for (k = 1; k <= n; k++) rank[name[k]] = k }
    / phase / { vm = $2; sub(/.*: phase /, ""); if (!($0 in rank) || rank[$0] <= last[vm]) bad = 1; last[vm] = rank[$0]; seen++ }
    END { exit bad || seen < 9 }' "$dir/said" && "$evacuate" --end "$dir/state" >>"$dir/said" 2>&1
report $? "who comes back sees phases in their order, and none that is not there"
begin $small --link 4MB --state "$dir/state"
said "phase base copy"
kill -KILL $pid
wait $pid 2>/dev/null
sleep 0.2
"$evacuate" --end "$dir/state" >"$dir/said" 2>&1 && grep -q "3 QEMUs ended" "$dir/said" && [ "$(qemus)" = 0 ] &&
    [ ! -e "$dir/state" ] && clean
report $? "--end ends them and leaves nothing"
mkdir "$dir/other" && echo mine >"$dir/other/file"
refused "something else" --state "$dir/other" && refused "something else" --end "$dir/other" && rm "$dir/other/file" &&
    refused "no run of evacuate" --end "$dir/other" && refused "other/nothing" --end "$dir/other/nothing"
report $? "no directory is taken for a run that is none"

# QEMUs that die.
for step in "copying the base" "waiting until the mirror is ready"; do
    run 1 $small --inject "kill-source@$step" && [ "$(value moved)" = 2 ] && [ "$(value writes_lost)" = 0 ]
    report $? "a source dies while $step: the others move"
done
for step in "starting the NBD server" "sending the memory" "ending the mirror" "switching over"; do
    target_dies "$step"
done
echo "1..$n"
