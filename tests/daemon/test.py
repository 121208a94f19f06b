#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""test.py CAGE GUEST WRITER GUARD CASE...: whole live migrations between two Incus servers, with and without migbuf-guard.

Run by tests/incus.sh and tests/newer_qemu.sh, which set MIGBUF_INCUS and MIGBUF_QEMU. Prints TAP, and of each move what was measured.
"""
import os
import re
import signal
import sys
import time
import traceback

sys.dont_write_bytecode = True
import lab as daemons
from lab import MIB, PATIENCE_S, demand, wait_until

SLOW, FAST = "40mbit", "1gbit"  # the link until what is awaited has come, and afterwards
SMALL_MIB = 38  # what is free in the small pool; the guest's working set is 64


class Guard:
    """migbuf-guard beside server a."""

    def __init__(self, lab):
        self.lab = lab
        self.state = lab.path("guard-state")
        self.log = lab.path("guard.log")
        with open(self.log, "w"):
            pass
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = self.lab.a.beside(self.lab.guard, "--interval", "200", "--state-dir", self.state, "--timeout", "120",
                                             stdout=log, stderr=log)

    def said(self):
        with open(self.log) as file:
            return file.read()

    def has_said(self, words, times=1):
        demand(self.process.poll() is None, "guard has ended")
        return self.said().count(words) >= times

    def wait_for(self, words, times=1):
        wait_until(lambda: self.has_said(words, times), "guard says \"%s\"" % words)

    def room_bytes(self):
        """At most this much: it is said in tenths."""
        room = re.search(r"guarded: .*, ([0-9.]+) (KiB|MiB) of it for writes", self.said())
        return (float(room[1]) + 0.05) * (MIB if room[2] == "MiB" else 1024)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        """On request: its exit status."""
        if not self.process:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


def begin(lab, guard, vm, overlay_mib=8):
    """A move with a guard, to the point where the guest is held and its overlay grows."""
    guard.start()
    guard.wait_for("waiting for migrations")
    lab.shape(SLOW)
    vm.begin_move()
    vm.wait_for(lambda: guard.has_said(vm.name + ": guarded"), "guard has seen it")
    vm.wait_for(lambda: guard.has_said("of growth"), "a limit")
    vm.wait_for(lambda: vm.watch.overlay_bytes > overlay_mib * MIB, "an overlay of %d MiB" % overlay_mib)


def finish(lab, guard, vm, server, what):
    """What must be so after every move, on the server where the guest is now. Nothing is left of it then."""
    with_guard = bool(guard.process)
    if with_guard:
        wait_until(lambda: guard.has_said(vm.name + ": over, its own") or guard.has_said(vm.name + ": its QEMU has ended"),
                   "guard lets it go")
        demand("NOT in force" not in guard.said(), "limits are left")
        demand(os.listdir(guard.state) == [], "limits are left on record")
        if not vm.watch.io_errors:
            demand(vm.watch.peak_bytes <= guard.room_bytes(), "the overlay became %d bytes" % vm.watch.peak_bytes)
    demand(not vm.watch.error, "the VM cannot be watched: %s" % vm.watch.error)
    status = vm.ask(server, "query-status")["status"]
    demand(status == "running", "the guest is %s on %s" % (status, server.name))
    before = vm.writes(server)
    wait_until(lambda: vm.writes(server) > before, "the guest goes on writing")
    limits = vm.limits(server)
    demand(limits == vm.own_limits, "its limits are %s, not %s" % (limits, vm.own_limits))
    guest = vm.check(server)
    print("# | %s | %s | %.1f | %.1f | %d | 0 | yes |" % (
        what, "%.1f" % (guard.room_bytes() / MIB) if with_guard else "-", vm.watch.peak_bytes / MIB, vm.watch.stall_s,
        guest["acknowledged"]))
    demand(guard.end() == 0, "guard could not give everything back")
    server.do("delete", "--force", vm.name)
    wait_until(lambda: not lab.left(), "nothing is left; there is " + ", ".join(lab.left()))


def plenty_of_room(lab, guard):
    vm = lab.make_vm("vm1", state_mib=256)
    begin(lab, guard, vm)
    lab.shape(FAST)
    demand(vm.end_move(), "the move failed: " + vm.said)
    finish(lab, guard, vm, lab.b, "guard, plenty of room")


def no_room_without_guard(lab, guard):
    """The measure for the next one: the pool is full, and the guest stands until it has moved."""
    vm = lab.make_vm("vm1", memory_mib=32, pool="small")
    ballast = lab.leave_room(SMALL_MIB)
    lab.shape(SLOW)
    vm.begin_move()
    vm.wait_for(lambda: vm.watch.status == "io-error", "the guest stands")
    lab.filled_s = time.monotonic() - vm.watch.overlay_since
    lab.shape(FAST)
    demand(vm.end_move(), "the move failed: " + vm.said)
    demand(vm.watch.io_errors > 0 and vm.watch.status != "running", "the guest stood until it had moved")
    finish(lab, guard, vm, lab.b, "no guard, %d MiB free" % SMALL_MIB)
    os.unlink(ballast)


def no_room_with_guard(lab, guard):
    """The same pool and link, for three times as long as it took to fill."""
    vm = lab.make_vm("vm1", memory_mib=32, state_mib=SMALL_MIB - 2, pool="small")
    ballast = lab.leave_room(SMALL_MIB)
    begin(lab, guard, vm, overlay_mib=1)
    vm.wait_for(lambda: time.monotonic() - vm.watch.overlay_since > 3 * lab.filled_s, "longer than it took to fill")
    lab.shape(FAST)
    demand(vm.end_move(), "the move failed: " + vm.said)
    demand(vm.watch.io_errors == 0, "the guest had I/O errors")
    finish(lab, guard, vm, lab.b, "guard, %d MiB free, size.state %d MiB" % (SMALL_MIB, SMALL_MIB - 2))
    os.unlink(ballast)


def target_killed(lab, guard):
    """The daemon of the target ends in the middle: the guest stays, and its limits come back."""
    vm = lab.make_vm("vm1", state_mib=256)
    begin(lab, guard, vm)
    lab.b.end()
    lab.shape(FAST)
    demand(not vm.end_move(), "a move to a dead server succeeded")
    print("#", vm.said)
    finish(lab, guard, vm, lab.a, "guard, target daemon killed")
    lab.b.start()


def cancelled(lab, guard):
    vm = lab.make_vm("vm1", state_mib=256)
    begin(lab, guard, vm)
    print("#", lab.a.ask("/1.0/operations?recursion=1"))
    operation = next(o for o in lab.a.ask("/1.0/operations?recursion=1")["running"] if "igrat" in o["description"])
    lab.a.do("operation", "delete", operation["id"])
    lab.shape(FAST)
    demand(not vm.end_move(), "a move that was cancelled succeeded")
    print("#", vm.said)
    finish(lab, guard, vm, lab.a, "guard, move cancelled")


def guard_killed(lab, guard):
    """Killed in the middle, and started again."""
    vm = lab.make_vm("vm1", state_mib=256)
    begin(lab, guard, vm)
    guard.kill()
    demand(vm.limits(lab.a) != vm.own_limits and os.listdir(guard.state), "its limits have gone with it")
    guard.start()
    guard.wait_for(vm.name + ": guarded", 2)
    lab.shape(FAST)
    demand(vm.end_move(), "the move failed: " + vm.said)
    finish(lab, guard, vm, lab.b, "guard killed and started again")


def guard_late(lab, guard):
    """Started when the overlay is there already."""
    vm = lab.make_vm("vm1", state_mib=256)
    lab.shape(SLOW)
    vm.begin_move()
    vm.wait_for(lambda: vm.watch.overlay_bytes > 8 * MIB, "an overlay of 8 MiB")
    guard.start()
    vm.wait_for(lambda: guard.has_said("of growth"), "a limit")
    lab.shape(FAST)
    demand(vm.end_move(), "the move failed: " + vm.said)
    finish(lab, guard, vm, lab.b, "guard started late")


CASES = [plenty_of_room, no_room_without_guard, no_room_with_guard, target_killed, cancelled, guard_killed, guard_late]


def run(lab, number, case):
    guard = Guard(lab)
    try:
        case(lab, guard)
        print("ok %d - %s" % (number, case.__name__), flush=True)
        return True
    except Exception:
        said = traceback.format_exc().splitlines() + ["guard said:"] + daemons.tail(guard.log, 30)
        for server in lab.a, lab.b:
            said += ["server %s said:" % server.name] + daemons.tail(server.log)
        print("not ok %d - %s" % (number, case.__name__), *said, sep="\n# ", flush=True)
        return False


def main():
    if not os.environ.get("MIGBUF_DAEMON_DIRECTORY"):
        why = daemons.missing()
        if why:
            print("1..0 # SKIP " + why)
            return 0
        return daemons.enter([*map(os.path.abspath, sys.argv[:5]), *sys.argv[5:]])
    cases = [c for c in CASES if c.__name__ in sys.argv[5:]]
    print("1..%d" % len(cases), flush=True)
    lab = daemons.Lab(*sys.argv[1:5])
    lab.start()
    for number, case in enumerate(cases, 1):
        if not run(lab, number, case):  # what it has left would be in the next one's way
            print("Bail out!")
            return 1
    lab.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
