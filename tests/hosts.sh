#!/usr/bin/env bash
# Evacuations on a host that misbehaves: N of each kind, each at a random moment of its own. TAP.
# usage: tests/hosts.sh [--seconds S] N [SEED [KIND...]]      (root; a minute each)
#   --seconds S  how long it lasts (20). QEMU is given a minute to answer: with more it is given up, and then that must be said
#   SEED         of the moments, - for any; printed, so that it can be repeated
#   KIND         silent   a source's QEMU is stopped (SIGSTOP), and goes on later
#                asleep   all of it is stopped, the program too, as when a host sleeps
#                full     no byte more can be saved where --state keeps its files
#                clock    the time of day jumps by days at each look, for the program and its QEMUs
# Environment: EVACUATE, the path of evacuate-rig; HOSTS_KEEP keeps the files of one that went wrong.
cd "$(dirname "$0")/.." || exit 1
exec python3 - "$@" <<'PYTHON'
import json, os, random, shutil, signal, subprocess, sys, tempfile, time

sys.dont_write_bytecode = True
sys.path.insert(0, "tests")
from left import processes

args, seconds = sys.argv[1:], 20.0
if args and args[0] == "--seconds":
    seconds, args = float(args[1]), args[2:]
if not args:
    sys.exit("usage: tests/hosts.sh [--seconds S] N [SEED [KIND...]]")
count = int(args[0])
seed = int(args[1]) if len(args) > 1 and args[1] != "-" else random.randrange(1000000)
kinds = args[2:] or ["silent", "asleep", "full", "clock"]
evacuate = os.environ.get("EVACUATE", "build/plain/tests/rig/evacuate-rig")
if not os.access(evacuate, os.X_OK):
    sys.exit(evacuate + " is not there: meson setup build/plain && meson compile -C build/plain makes it")
if os.geteuid():
    print("1..0 # SKIP needs root for mounts")
    sys.exit(0)

JUMPS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
static int looks;
static long jump(void) { return (long)(++looks % 7 - 3) * 86400; }
int clock_gettime(clockid_t id, struct timespec *t)
{
    int rc = ((int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime"))(id, t);
    if (!rc && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) t->tv_sec += jump();
    return rc;
}
int gettimeofday(struct timeval *restrict t, void *restrict zone)
{
    int rc = ((int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday"))(t, zone);
    if (!rc) t->tv_sec += jump();
    return rc;
}
time_t time(time_t *t)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}
"""


def tell(pids, what):
    for pid in pids:
        try:
            os.kill(pid, what)
        except OSError:
            pass


def disturb(kind, parent, chance):
    """Begins it, and returns what ends it."""
    if kind == "silent":
        qemus = processes(parent, "qemu-system")
        pids = [chance.choice(qemus)] if qemus else []
    elif kind == "asleep":
        pids = processes(parent)
    else:
        pids = []
    if kind == "full":
        os.symlink("/dev/full", parent + "/full") # what is written there finds no room
        os.rename(parent + "/full", parent + "/state/state.new")
        return lambda: os.path.islink(parent + "/state/state.new") and os.unlink(parent + "/state/state.new")
    tell(pids, signal.SIGSTOP)
    return lambda: tell(pids, signal.SIGCONT)


def evacuation(kind, number, parent):
    chance = random.Random("%d-%s-%d" % (seed, kind, number))
    summary, log, environment = parent + "/summary", parent + "/log", dict(os.environ)
    if kind == "clock":
        with open(parent + "/jumps.c", "w") as file:
            file.write(JUMPS)
        subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-o", parent + "/jumps.so", parent + "/jumps.c", "-ldl"], check=True)
        environment["LD_PRELOAD"] = parent + "/jumps.so"
    load = [evacuate, "--state", parent + "/state", "--keep-dir", "--disk", "24MiB", "--buffer", "40MiB",
            "--link", "24MB", "--tick", "500", "--seed", str(chance.randrange(1, 10000)), "--json=" + summary]
    moment = chance.uniform(1, 8)
    with open(log, "wb") as out:
        child = subprocess.Popen(load, stdout=out, stderr=out, env=environment)
        try:
            child.wait(moment)
        except subprocess.TimeoutExpired:
            end = disturb(kind, parent, chance)
            try:
                child.wait(seconds)
            except subprocess.TimeoutExpired:
                pass
            end()
        status = child.wait(900)
    if status not in (0, 1):
        return moment, ["exit status %s" % status], {}
    try:
        with open(summary) as file:
            result = json.load(file)
    except (OSError, ValueError):
        return moment, ["no summary"], {}
    vms, wrong = result.get("vm", []), []
    # Given up after a minute without an answer, or never begun for want of a place to save it: then that must be said.
    excused = (kind == "silent" and seconds >= 60) or kind == "full"
    if result.get("moved") != 3 and not (excused and status == 1):
        wrong.append("moved %s of 3" % result.get("moved"))
    if status == 1 and not (result.get("warnings") or any(vm.get("error") for vm in vms)):
        wrong.append("failed without a word")
    if not all(vm["runs_at"] in ("source", "target") for vm in vms) and not excused:
        wrong.append("a guest is nowhere")
    if result.get("writes_lost") != 0 or result.get("guest_errors") != 0:
        wrong.append("lost %s, errors %s" % (result.get("writes_lost"), result.get("guest_errors")))
    return moment, wrong, result


def one(kind, number):
    parent = tempfile.mkdtemp(prefix="hosts-")
    wrong = ["it did not end"]
    try:
        moment, wrong, result = evacuation(kind, number, parent)
        time.sleep(0.1)
        if processes(parent):
            wrong.append("processes left")
        return moment, wrong, result
    finally: # whatever became of it, and of us, nothing stays
        tell(processes(parent), signal.SIGKILL)
        time.sleep(0.1)
        with open("/proc/mounts") as file:
            for line in file:
                if parent in line:
                    subprocess.run(["umount", line.split()[1]], stderr=subprocess.DEVNULL)
        if os.environ.get("HOSTS_KEEP") and wrong:
            print("# kept in", parent)
        else:
            shutil.rmtree(parent, ignore_errors=True)


print("1..%d" % (count * len(kinds)))
print("# seed %d" % seed)
number = bad = 0
for kind in kinds:
    for k in range(count):
        number += 1
        moment, wrong, result = one(kind, k)
        bad += bool(wrong)
        print("%s %d - %s after %.1f s for %g s: %s moved, %s writes checked, %s lost, %s overflows%s" % (
            "not ok" if wrong else "ok", number, kind, moment, seconds, result.get("moved"), result.get("writes_acknowledged"),
            result.get("writes_lost"), result.get("overflows"), ": " + ", ".join(wrong) if wrong else ""), flush=True)
        for words in sorted({vm.get("error") for vm in result.get("vm", []) if vm.get("error")} | set(result.get("warnings", []))):
            print("#   " + words, flush=True)
sys.exit(bad != 0)
PYTHON
