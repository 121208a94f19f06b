#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""test.py CAGE GUEST WRITER GUARD [cluster] CASE...: whole live migrations between two Incus servers, with and without migbuf-guard.

The word `cluster`: the servers are the two members of one, and a guard is beside each.

Run by tests/incus.sh and tests/newer_qemu.sh, which set MIGBUF_INCUS and MIGBUF_QEMU. Prints TAP, and of each move what was measured.
"""
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
import urllib.parse

sys.dont_write_bytecode = True
import lab as daemons
from lab import MIB, PATIENCE_S, demand, wait_until

FAST = "1gbit"  # the link when what is awaited has come
# Until then a disk needs so long over it: longer than that comes on a slow machine.
MOVE_S = 60
BUFFER_MIB = 56  # of a Host's file system
SMALL_MIB = 38  # what is free in the small pool; the guest's working set is 64
# Writes a second there, each a new cluster of 64 KiB. What is written before the guard's first look is for nobody to hold: it is
# to be little on a slow machine too.
SMALL_PACE = 150


class Guard:
    """migbuf-guard beside a server."""

    def __init__(self, lab, server):
        self.server = server
        self.state = lab.path("guard-state-" + server.name)
        self.log = lab.path("guard-%s.log" % server.name)
        self.history = lab.path("guard-history-" + server.name)
        for path in self.log, self.history:
            with open(path, "w"):
                pass
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = self.server.beside(self.server.lab.guard, "--interval", "200", "--state-dir", self.state, "--timeout", "120",
                                             "--history", self.history, stdout=log, stderr=log)

    def said(self):
        with open(self.log) as file:
            return file.read()

    def has_said(self, words, times=1):
        demand(self.process.poll() is None, "guard has ended")
        return self.said().count(words) >= times

    def wait_for(self, words, times=1):
        wait_until(lambda: self.has_said(words, times), "guard says \"%s\"" % words)

    def room_bytes(self):
        """What it holds overlays to, of the last VM that it has taken; it says that in three digits."""
        return float(re.findall(r"guarded: .*, ([0-9.]+) MiB of it for writes", self.said())[-1]) * MIB

    def keeps(self, number):
        """Is that among the limits of the VM's own that it has written down?"""
        text = ""
        for name in os.listdir(self.state):
            with contextlib.suppress(FileNotFoundError), open(os.path.join(self.state, name)) as file:  # a new one takes its place
                text += file.read()
        return re.search(r"\b%d\b" % number, text)

    def outcomes(self, vm):
        """What it has written down of a VM's moves, and to whom where it knows."""
        found = []
        with open(self.history) as file:
            for line in file:
                fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
                if urllib.parse.unquote(fields["id"]) == vm.shown:
                    found.append((fields["out"], fields.get("to", "")))
        return found

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


def begin(lab, guard, vm, *words, overlay_mib=8):
    """A move with a guard, by that command, to the point where the guest is held and its overlay grows."""
    guard.start()
    guard.wait_for("waiting for migrations")
    lab.slow(max(MOVE_S, 6 * (lab.filled_s or 0)))
    vm.begin_move(*words)
    vm.wait_for(lambda: guard.has_said(vm.shown + ": guarded"), "guard has seen it")
    vm.wait_for(lambda: guard.has_said("of growth"), "a limit")
    vm.wait_for(lambda: vm.watch.overlay_bytes > overlay_mib * MIB, "an overlay of %d MiB" % overlay_mib)


def finish(lab, guard, vm, server, what, with_errors=False):
    """What must be so after every move, on the server where the guest is now. Nothing is left of it then."""
    with_guard = bool(guard.process)
    if with_guard:
        wait_until(lambda: guard.has_said(vm.shown + ": over, its own") or guard.has_said(vm.shown + ": its QEMU has ended"),
                   "guard lets it go")
        demand("NOT in force" not in guard.said(), "limits are left")
        outcome = ("failed", "") if server is lab.a else ("moved", lab.b.name if lab.clustered else "")
        wait_until(lambda: guard.outcomes(vm), "guard writes down what became of it")
        demand(guard.outcomes(vm) == [outcome], "guard takes it for %s, and it is %s" % (guard.outcomes(vm), outcome))
        demand("not guarded" not in guard.said(), "guard has seen a move that it could not guard")
        demand(vm.without_room or vm.watch.peak_bytes <= guard.room_bytes() + 0.05 * MIB,
               "the overlay became %d bytes" % vm.watch.peak_bytes)
    demand(not vm.watch.error, "the VM cannot be watched: %s" % vm.watch.error)
    status = vm.ask(server, "query-status")["status"]
    demand(status == "running", "the guest is %s on %s" % (status, server.name))
    before = vm.writes(server)
    wait_until(lambda: vm.writes(server) > before, "the guest goes on writing")
    limits = vm.limits(server)
    guest = vm.check(server, with_errors)
    print("# | %s | %s | %s | %.1f | %.1f | %.1f | %d | %d | %s |" % (
        what, lab.release, "%.1f" % (guard.room_bytes() / MIB) if with_guard else "-", vm.watch.peak_bytes / MIB, vm.watch.stall_s,
        guest["longest_ms"] / 1000, guest["acknowledged"], guest["lost"], "yes" if limits == vm.own_limits else "no"))
    demand(limits == vm.own_limits, "its limits are %s, not %s" % (limits, vm.own_limits))
    vm.delete(server)
    return guest


def refuses(lab, *words):
    try:
        lab.a.do(*words)
    except daemons.Failed as e:
        demand("busy running a \"migrate\" operation" in str(e), "refused for another reason: %s" % e)
    else:
        demand(False, "%s: not refused" % " ".join(words))


def plenty_of_room(lab, guard):
    """Limits of a VM that moves are not for its server to change: it refuses, and the move goes on."""
    vm = lab.make_vm("vm1", state_mib=256)
    begin(lab, guard, vm)
    refuses(lab, "config", "set", "vm1", "limits.memory=96MiB")
    refuses(lab, "config", "device", "set", "vm1", "root", "limits.write=50MB")
    lab.shape(FAST)
    demand(vm.end_move(), "the move failed: " + vm.said)
    finish(lab, guard, vm, lab.b, "guard, plenty of room")


def no_room_without_guard(lab, guard):
    """The measure for the next one: the pool is full, and the guest stands until it has moved."""
    vm = lab.make_vm("vm1", memory_mib=32, pace=SMALL_PACE, pool="small")
    ballast = lab.leave_room(SMALL_MIB)
    lab.slow(3 * MOVE_S)
    vm.begin_move()
    vm.wait_for(lambda: vm.watch.status == "io-error", "the guest stands")
    lab.filled_s = time.monotonic() - vm.watch.overlay_since
    lab.shape(FAST)
    demand(vm.end_move(), "the move failed: " + vm.said)
    demand(vm.watch.io_errors > 0, "the guest had no I/O error")
    if lab.release.startswith("6."):  # 7.0 lets the guest here run before its QEMU ends
        demand(vm.watch.status != "running", "the guest did not stand until it had moved")
    finish(lab, guard, vm, lab.b, "no guard, %d MiB free" % SMALL_MIB)
    os.unlink(ballast)


def outlast_filling(lab, vm):
    """Three times as long as it took no_room_without_guard to fill the pool."""
    demand(lab.filled_s, "run no_room_without_guard before: it measures how long the pool takes to fill")
    vm.wait_for(lambda: time.monotonic() - vm.watch.overlay_since > 3 * lab.filled_s, "longer than it took to fill")


def no_room_with_guard(lab, guard):
    """The same pool and link."""
    vm = lab.make_vm("vm1", memory_mib=32, state_mib=SMALL_MIB - 2, pace=SMALL_PACE, pool="small")
    ballast = lab.leave_room(SMALL_MIB)
    begin(lab, guard, vm, overlay_mib=1)
    outlast_filling(lab, vm)
    lab.shape(FAST)
    demand(vm.end_move(), "the move failed: " + vm.said)
    demand(vm.watch.io_errors == 0, "the guest had I/O errors")
    finish(lab, guard, vm, lab.b, "guard, %d MiB free, size.state %d MiB" % (SMALL_MIB, SMALL_MIB - 2))
    os.unlink(ballast)


def kill_target(lab, vm):
    """The daemon of the target ends in the middle of the move, which fails."""
    lab.b.end()
    lab.shape(FAST)
    demand(not vm.end_move(), "a move to a dead server succeeded")


def finish_on_source(lab, guard, vm, what):
    finish(lab, guard, vm, lab.a, what)
    lab.b.start()
    lab.b.forget(vm)


def target_killed(lab, guard):
    """The guest stays, and its limits come back."""
    vm = lab.make_vm("vm1", state_mib=256)
    begin(lab, guard, vm)
    kill_target(lab, vm)
    finish_on_source(lab, guard, vm, "guard, target's daemon killed")


def cancelled(lab, guard):
    """The operation is deleted. Its client is killed before: that of Incus 6.0.4 takes a deleted move for done, and deletes the VM."""
    vm = lab.make_vm("vm1", state_mib=256)
    begin(lab, guard, vm)
    vm.moving.kill()
    operation = next(o for o in lab.a.ask("/1.0/operations?recursion=1")["running"] if o["description"] == "Migrating instance" and o["may_cancel"])
    lab.a.do("operation", "delete", operation["id"])
    lab.shape(FAST)
    for server in lab.a, lab.b:
        wait_until(lambda: not server.ask("/1.0/operations").get("running"), "%s gives up" % server.name)
    finish(lab, guard, vm, lab.a, "guard, move cancelled")


def begin_and_kill_guard(lab, guard):
    """Killed in the middle, and started again."""
    vm = lab.make_vm("vm1", state_mib=256)
    begin(lab, guard, vm)
    guard.kill()
    demand(vm.limits(lab.a) != vm.own_limits and os.listdir(guard.state), "its limits have gone with it")
    guard.start()
    vm.wait_for(lambda: guard.has_said(vm.shown + ": guarded", 2), "it is guarded again")
    return vm


def guard_killed(lab, guard):
    vm = begin_and_kill_guard(lab, guard)
    lab.shape(FAST)
    demand(vm.end_move(), "the move failed: " + vm.said)
    finish(lab, guard, vm, lab.b, "guard killed and started again")


def guard_killed_then_target(lab, guard):
    vm = begin_and_kill_guard(lab, guard)
    kill_target(lab, vm)
    finish_on_source(lab, guard, vm, "guard killed and started again, then target's daemon killed")


def begin_without_guard(lab, guard):
    """It is started when the overlay is there already."""
    vm = lab.make_vm("vm1", state_mib=256)
    lab.slow(MOVE_S)
    vm.begin_move()
    vm.wait_for(lambda: vm.watch.overlay_bytes > 8 * MIB, "an overlay of 8 MiB")
    guard.start()
    vm.wait_for(lambda: guard.has_said("of growth"), "a limit")
    return vm


def guard_late(lab, guard):
    vm = begin_without_guard(lab, guard)
    lab.shape(FAST)
    demand(vm.end_move(), "the move failed: " + vm.said)
    finish(lab, guard, vm, lab.b, "guard started late")


def guard_late_then_target_killed(lab, guard):
    vm = begin_without_guard(lab, guard)
    kill_target(lab, vm)
    finish_on_source(lab, guard, vm, "guard started late, then target's daemon killed")


def limit_changed(lab, guard):
    """By another program in the middle (Incus itself refuses to): ours is in force again, and in the end the new one is."""
    vm = lab.make_vm("vm1", state_mib=256)
    begin(lab, guard, vm)
    new = 500000000
    while True:
        vm.set_write_limit(lab.a, new)
        vm.wait_for(lambda: vm.limits(lab.a)["group"] == "migbuf-guard", "our limit is in force again")
        if guard.keeps(new):
            break  # else it came between the guard's look and its own next limit, which took its place unseen
    kill_target(lab, vm)
    vm.own_limits["bps_wr"] = new
    finish_on_source(lab, guard, vm, "guard, the disk's limit changed by QMP, then target's daemon killed")


def two_at_once(lab, guard):
    """Both overlays in one pool, which together they would fill."""
    vms = [lab.make_vm(name, memory_mib=32, state_mib=SMALL_MIB - 2, pace=SMALL_PACE, pool="small") for name in ("vm1", "vm2")]
    ballast = lab.leave_room(2 * SMALL_MIB)
    guard.start()
    guard.wait_for("waiting for migrations")
    lab.slow(max(MOVE_S, 6 * (lab.filled_s or 0)))
    for vm in vms:
        vm.begin_move()
    for vm in vms:
        vm.wait_for(lambda: guard.has_said(vm.shown + ": guarded"), "guard has seen it")
        vm.wait_for(lambda: vm.watch.overlay_bytes > MIB, "an overlay of 1 MiB")
        outlast_filling(lab, vm)
    lab.shape(FAST)
    for vm in vms:
        demand(vm.end_move(), "the move failed: " + vm.said)
        demand(vm.watch.io_errors == 0, "the guest had I/O errors")
    for vm in vms:
        finish(lab, guard, vm, lab.b, "guard, two at once, %d MiB free" % (2 * SMALL_MIB))
    os.unlink(ballast)


def begin_beyond_room(lab, guard):
    """The guard comes when the overlay is larger than the state volume: it can only stop the guest."""
    vm = lab.make_vm("vm1", state_mib=16)
    lab.slow(MOVE_S)
    vm.begin_move()
    vm.wait_for(lambda: vm.watch.overlay_bytes > 20 * MIB, "an overlay of 20 MiB")
    guard.start()
    vm.wait_for(lambda: vm.watch.status == "paused", "the guard stops the guest")
    vm.without_room = True
    # Whoever lets it run, as Incus does when a migration has failed, lets it run into a limit.
    vm.wait_for(lambda: vm.limits(lab.a).get("iops_wr") == 1, "a limit under the guest that stands")
    return vm


def stopped(lab, guard):
    """A guest that the guard had to stop goes on where it arrives."""
    vm = begin_beyond_room(lab, guard)
    lab.shape(FAST)
    demand(vm.end_move(), "the move failed: " + vm.said)
    finish(lab, guard, vm, lab.b, "guard, late, beyond its room: guest stopped")


def stopped_then_target_killed(lab, guard):
    vm = begin_beyond_room(lab, guard)
    kill_target(lab, vm)
    finish_on_source(lab, guard, vm, "guard, late, beyond its room: guest stopped, then target's daemon killed")


class Skipped(Exception):
    """Why this cannot be here."""


def need_dependent(lab):
    if lab.release.startswith("6.0"):
        raise Skipped("Incus %s moves the disk incus_root and no other" % lab.release)


def two_disks(lab, guard):
    """The second is what Incus calls dependent: it moves along, under an overlay of its own in the same state volume."""
    need_dependent(lab)
    vm = lab.make_vm("vm1", state_mib=48, disks=2)
    begin(lab, guard, vm)
    lab.shape(FAST)
    demand(vm.end_move(), "the move failed: " + vm.said)
    finish(lab, guard, vm, lab.b, "guard, two disks, size.state 48 MiB")


def two_disks_then_target_killed(lab, guard):
    need_dependent(lab)
    vm = lab.make_vm("vm1", state_mib=48, disks=2)
    begin(lab, guard, vm)
    kill_target(lab, vm)
    finish_on_source(lab, guard, vm, "guard, two disks, then target's daemon killed")


def other_names(lab, guard):
    """A project, and a root disk with dashes in its name. (7.0 cannot move one whose node's name has 31 letters: "_snap" has no room.)"""
    root = "root" if lab.release.startswith("6.0") else daemons.OTHER_ROOT
    vm = lab.make_vm("vm-1", state_mib=256, root=root, project=daemons.PROJECT)
    begin(lab, guard, vm)
    lab.shape(FAST)
    demand(vm.end_move(), "the move failed: " + vm.said)
    finish(lab, guard, vm, lab.b, "guard, project %s, root disk %s" % (daemons.PROJECT, root))


def plan_and_move(lab, guard):
    """What migbuf-plan says of three guests, watched as they run, and what becomes of them: one after the other, in its order."""
    link = 4 * 10**6
    loads = {"slow": 20, "middle": 60, "fast": 150}  # writes of 4 KiB a second, each a new cluster in the end
    vms = {name: lab.make_vm(name, memory_mib=32, state_mib=256, pace=pace) for name, pace in loads.items()}
    listed = lab.path("list.txt")
    said = daemons.command(os.environ["MIGBUF_PLAN"], "--link", "4MB/s", "--server", lab.a.directory + "/unix.socket", "--watch", "60s",
                           "--buffer", "256MiB", "--list", listed, "--json", "-")
    plan = json.loads(said)["buffers"][0]
    print("# " + open(listed).read().replace("\n", "\n# "))
    guard.start()
    guard.wait_for("waiting for migrations")
    lab.shape("%dbit" % (8 * link / 0.94))
    begun = time.monotonic()
    print("# | guest | away, plan | away, real | file, plan | file, real | gets, plan |")
    for forecast in plan["vms"]:
        vm, away, file = vms[forecast["name"]], forecast["away_s"], forecast["file_bytes"]
        vm.begin_move()
        demand(vm.end_move(), "the move failed: " + vm.said)
        print("# | %s | %.0f s (%.0f to %.0f) | %.0f s | %.0f MB (%.0f to %.0f) | %.0f MB | %.0f %% |" % (
            vm.name, away["middle"], away["least"], away["most"], time.monotonic() - begun, file["middle"] / 1e6, file["least"] / 1e6,
            file["most"] / 1e6, vm.watch.peak_bytes / 1e6, 100 * forecast["delivered"]["middle"]), flush=True)
    lab.shape(FAST)
    for vm in vms.values():
        finish(lab, guard, vm, lab.b, "guard, as planned: " + vm.name)


def need_cluster(lab, wanted=True):
    if lab.clustered != wanted:
        raise Skipped("only with the word cluster" if wanted else "not in a cluster")


def evacuated(lab, guard):
    """The member is to be empty: its VMs leave it while they run."""
    need_cluster(lab)
    vm = lab.make_vm("vm1", state_mib=256)
    begin(lab, guard, vm, "cluster", "evacuate", lab.a.name, "--force", "--action", "live-migrate")
    lab.shape(FAST)
    demand(vm.end_move(), "the move failed: " + vm.said)
    finish(lab, guard, vm, lab.b, "guard, its member is evacuated")
    lab.a.do("cluster", "restore", lab.a.name, "--force")


def volume(server, *words):
    """migbuf-volume beside that member: its exit status and what it said."""
    process = server.beside(os.environ["MIGBUF_VOLUME"], *words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return process.wait(PATIENCE_S), process.stdout.read()


def volumes(lab, guard):
    """Each member has its own, and the keys are for all."""
    need_cluster(lab)
    small, target = ("--auto", "--size", "32MiB"), ("--target", lab.b.name)
    used = lab.path("pools/small-b/custom/default_migration-cow-buffer/an-overlay")

    def fill():
        with open(used, "wb") as file:
            file.write(bytes(12 * MIB))

    steps = [
        (lab.b, ["show"], 1, "there is no migration buffer"),
        (lab.a, ["init", *small, "--pool", "small"], 0, "volume     small/migration-cow-buffer on a\nsize       32 MiB"),
        (lab.b, ["show"], 1, "there is no migration buffer in the pool small"),
        (lab.b, ["remove"], 1, "member a has one"),
        (lab.b, ["init", *small, "--pool", "default"], 1, "member a has the migration buffer as small/migration-cow-buffer"),
        (lab.a, [*target, "init", "--auto", "--size", "48MiB"], 0, "volume     small/migration-cow-buffer on b\nsize       48 MiB"),
        (lab.a, ["show"], 0, "on a\nsize       32 MiB\nin use     0 B"),
        (lab.b, ["show"], 0, "on b\nsize       48 MiB\nin use     0 B"),
        (lab.b, ["show"], 0, "says 32 MiB: that of the smallest"),
        (lab.a, ["resize", "64MiB"], 0, "says 48 MiB: that of the smallest"),
        (lab.b, [fill, "show"], 0, "in use     12 MiB"),
        (lab.a, ["show"], 0, "in use     0 B"),
        (lab.a, [*target, "show"], 0, "in use     not known"),
        (lab.a, [*target, "remove"], 1, "it is on member b"),
        (lab.b, ["remove"], 1, "12 MiB are in use"),
        (lab.b, [lambda: os.unlink(used), "remove"], 0, "Removed small/migration-cow-buffer"),
        (lab.a, ["show"], 0, "on a\nsize       64 MiB"),
    ]
    for server, words, status, says in steps:
        for do in filter(callable, words):
            do()
        got = volume(server, *(w for w in words if not callable(w)))
        demand(got[0] == status and says in got[1], "migbuf-volume %s on %s: %d, and not \"%s\" but:\n%s" % (words, server.name, got[0], says, got[1]))
    keys = [lab.a.do("config", "get", "user.migbuf.buffer." + key).strip() for key in ("volume", "size")]
    demand(keys == ["small/migration-cow-buffer", str(64 * MIB)], "the keys are %s" % keys)
    demand(volume(lab.a, "remove")[0] == 0 and not lab.a.do("config", "get", "user.migbuf.buffer.volume").strip(), "it is not removed")


def planned(lab, guard):
    """Who is asked for one member's VMs may be another member."""
    need_cluster(lab)
    vm = lab.make_vm("vm1", memory_mib=32, pace=SMALL_PACE)
    plan = [os.environ["MIGBUF_PLAN"], "--link", "4MB/s", "--server", lab.b.directory + "/unix.socket", "--watch", "30s", "--list", "-"]
    try:
        daemons.command(*plan)
    except daemons.Failed as e:
        demand("member b has no VM here" in str(e), "refused for another reason: %s" % e)
    else:
        demand(False, "b has no VM, and is planned for")
    said = daemons.command(*plan, "--target", lab.a.name)
    rate = re.search(r"^vm1 .*write=(\d+)", said, re.M)
    demand(rate and int(rate[1]) > 0, "what vm1 writes is not known: " + said)
    vm.delete(lab.a)


def quota_without_guard(lab, guard):
    """btrfs with quotas: full is EDQUOT, and that is an I/O error in the guest. The move fails, and cannot be taken back either."""
    need_cluster(lab, False)
    lab.make_quota_pools()
    vm = lab.make_vm("vm1", state_mib=16, pool="quota", pace=SMALL_PACE)
    lab.slow(3 * MOVE_S)
    vm.begin_move()
    wait_until(lambda: vm.watch.errors > 0, "an I/O error")
    lab.shape(FAST)
    moved = vm.end_move()
    print("# no guard, btrfs with a quota of %d MiB beside the disk: overlay %.1f MiB, %d I/O errors, the move %s" % (
        daemons.QUOTA_MIB, vm.watch.peak_bytes / MIB, vm.watch.errors, "succeeded" if moved else "failed: " + vm.said.strip()))
    vm.delete(lab.b if moved else lab.a)
    if not moved:
        lab.b.forget(vm)


def quota_with_guard(lab, guard):
    """The merge at the end copies on write, and needs as much as the overlay once more."""
    need_cluster(lab, False)
    lab.make_quota_pools()
    vm = lab.make_vm("vm1", state_mib=16, pool="quota", pace=SMALL_PACE)
    begin(lab, guard, vm, overlay_mib=2)
    time.sleep(MOVE_S / 4)  # several times as long as it takes without
    lab.shape(FAST)
    demand(vm.end_move(), "the move failed: " + vm.said)
    demand(vm.watch.errors == 0, "the guest had I/O errors")
    finish(lab, guard, vm, lab.b, "guard, btrfs with a quota of %d MiB beside the disk, size.state 16 MiB" % daemons.QUOTA_MIB)


def begin_with_host(lab, vm, overlay_mib=8):
    """A move without a guard, by a server that holds the guest itself, to the point where its overlay grows."""
    lab.slow(MOVE_S)
    vm.begin_move()
    vm.wait_for(lambda: vm.watch.overlay_bytes > overlay_mib * MIB, "an overlay of %d MiB" % overlay_mib)
    vm.wait_for(lambda: vm.limits(lab.a) != vm.own_limits, "a limit")


def finish_with_host(lab, guard, vm, server, what, free):
    print("# %.1f MiB were free in the buffer" % (free / MIB))
    demand(vm.watch.peak_bytes <= free, "the overlay became %d bytes, %d were free" % (vm.watch.peak_bytes, free))
    finish(lab, guard, vm, server, what)
    wait_until(lambda: lab.free_in_buffer() == free, "the buffer is empty")


def need_host(lab):
    if not os.path.exists(lab.incus + "/gopath"):
        raise Skipped("there is no Host in this server: inside.sh makes one")


def host_moves(lab, guard):
    """A migbuf.Host inside the daemon: in Incus' own function, with Incus' own monitor."""
    need_host(lab)
    free = lab.use_buffer(256)
    vm = lab.make_vm("vm1")
    begin_with_host(lab, vm)
    lab.shape(FAST)
    demand(vm.end_move(), "the move failed: " + vm.said)
    finish_with_host(lab, guard, vm, lab.b, "Host inside, plenty of room", free)


def host_in_a_small_buffer(lab, guard):
    """The guest's working set does not fit, and it writes as fast as it can."""
    need_host(lab)
    free = lab.use_buffer(BUFFER_MIB)
    vm = lab.make_vm("vm1")
    begin_with_host(lab, vm, overlay_mib=4)
    demand(vm.end_move(), "the move failed: " + vm.said)
    finish_with_host(lab, guard, vm, lab.b, "Host inside, %.0f MiB free" % (free / MIB), free)


def host_target_killed(lab, guard):
    """The way back: the overlay is merged, the limits come back, and the next move goes."""
    need_host(lab)
    free = lab.use_buffer(256)
    vm = lab.make_vm("vm1")
    begin_with_host(lab, vm)
    kill_target(lab, vm)
    wait_until(lambda: vm.limits(lab.a) == vm.own_limits, "its own limits")
    lab.b.start()
    lab.b.forget(vm)
    begin_with_host(lab, vm)
    lab.shape(FAST)
    demand(vm.end_move(), "the second move failed: " + vm.said)
    finish_with_host(lab, guard, vm, lab.b, "Host inside; target's daemon killed, and moved again", free)


CASES = [plenty_of_room, no_room_without_guard, no_room_with_guard, target_killed, cancelled, guard_killed, guard_killed_then_target,
         guard_late, guard_late_then_target_killed, limit_changed, two_at_once, stopped, stopped_then_target_killed,
         two_disks, two_disks_then_target_killed, other_names, quota_without_guard, quota_with_guard,
         plan_and_move, evacuated, volumes, planned, host_moves, host_in_a_small_buffer, host_target_killed]


def run(lab, number, case):
    guard, idle = Guard(lab, lab.a), Guard(lab, lab.b)
    try:
        if lab.clustered:
            idle.start()
            idle.wait_for("waiting for migrations")
        case(lab, guard)
        demand(guard.end() == 0, "guard could not give everything back")
        demand(idle.end() == 0 and "guarded" not in idle.said(), "the guard of the other member guarded: " + idle.said())
        demand(not guard.process or os.listdir(guard.state) == [], "limits are left on record")
        wait_until(lambda: not lab.left(), "nothing is left")
        print("ok %d - %s" % (number, case.__name__), flush=True)
        return True
    except Skipped as e:
        print("ok %d - %s # SKIP %s" % (number, case.__name__, e), flush=True)
        return True
    except Exception:
        said = traceback.format_exc().splitlines() + ["there is:", *lab.left(), "guard said:"] + daemons.tail(guard.log, 30)
        said += ["guard of b said:"] + daemons.tail(idle.log)
        for server in lab.a, lab.b:
            said += ["server %s said:" % server.name] + daemons.tail(server.log)
        print("not ok %d - %s" % (number, case.__name__), *said, sep="\n# ", flush=True)
        return False


def main():
    if not os.environ.get("MIGBUF_DAEMON_DIRECTORY"):
        why = daemons.missing(os.path.abspath(sys.argv[1]))
        if why:
            print("1..0 # SKIP " + why)
            return 0
        return daemons.enter([*map(os.path.abspath, sys.argv[:5]), *sys.argv[5:]])
    known = {case.__name__: case for case in CASES}
    clustered = sys.argv[5:6] == ["cluster"]
    cases = [known[name] for name in sys.argv[6 if clustered else 5:]]
    print("1..%d" % len(cases), flush=True)
    lab = daemons.Lab(*sys.argv[1:5])
    lab.start(clustered)
    print("# | move | release | room (MiB) | peak (MiB) | longest time without a write (s) | longest write (s) | acknowledged | lost "
          "| limits back |", flush=True)
    for number, case in enumerate(cases, 1):
        if not run(lab, number, case):  # what it has left would be in the next one's way
            print("Bail out!")
            return 1
    lab.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
