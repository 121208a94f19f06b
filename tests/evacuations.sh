#!/usr/bin/env bash
# N evacuations in a row, each drawn anew: QEMU, policy, device, disks, admission, loads, how many VMs. TAP, and a table of sums.
# usage: tests/evacuations.sh N [SEED [FIRST]]      (root; a quarter of a minute each)
#   SEED   of what is drawn, - for any; printed, so that one can be repeated: N 1, FIRST its number
# SIGTERM ends it after the one that runs: the sums are told then as well.
# Environment: EVACUATE, the path of evacuate-rig; QEMUS, paths of QEMUs (the system's); EVACUATIONS_KEEP keeps the files of
# one that went wrong.
cd "$(dirname "$0")/.." || exit 1
exec python3 - "$@" <<'PYTHON'
import json, os, random, shutil, signal, subprocess, sys, tempfile, time

sys.dont_write_bytecode = True
sys.path.insert(0, "tests")
from left import left_over

args = sys.argv[1:]
if not args:
    sys.exit("usage: tests/evacuations.sh N [SEED [FIRST]]")
count = int(args[0])
seed = int(args[1]) if len(args) > 1 and args[1] != "-" else random.randrange(1000000)
first = int(args[2]) if len(args) > 2 else 0
evacuate = os.environ.get("EVACUATE", "build/plain/tests/rig/evacuate-rig")
if not os.access(evacuate, os.X_OK):
    sys.exit(evacuate + " is not there: meson setup build/plain && meson compile -C build/plain makes it")
qemus = os.environ.get("QEMUS", "qemu-system-x86_64").split()
if os.geteuid():
    print("1..0 # SKIP needs root for a loop mount")
    sys.exit(0)
for tool in qemus + ["mkfs.ext4"]:
    if not shutil.which(tool):
        print("1..0 # SKIP no", tool)
        sys.exit(0)
TICK_MS = 500
over = False


def end(*_):
    global over
    over = True


signal.signal(signal.SIGTERM, end)


def drawn(number):
    """What the guests write is about twice the buffer: without limits it overflows."""
    chance = random.Random("%d-%d" % (seed, number))
    qemu = chance.choice(qemus)
    policy = chance.choice(["planner", "paper", "hybrid"])
    words = ["--device", chance.choice(["virtio-blk", "virtio-blk", "virtio-scsi"])]
    words += chance.choice(["", "--admission off", "--admission off", "--admission fifo"]).split()
    words += chance.choice(["", "", "--overlay name", "--method typed"]).split()
    words += chance.choice(["", "", "--links 2"]).split()
    words += chance.choice(["", "", "--pattern random,large", "--pattern large,bursty,sequential"]).split()
    disks, vms = chance.choice([1, 1, 2]), chance.choice([3, 3, 3, 3, 3, 8])
    words += ["--vms", str(vms), "--disks", str(disks), "--disk", "%dMiB" % (24 // disks), "--buffer", "%dMiB" % (40 * vms // 3),
              "--link", "%dMB" % (8 * vms)]
    return qemu, policy, ["--tick", str(TICK_MS), "--seed", str(chance.randrange(1, 10000)), "--policy", policy] + words


def one(number):
    qemu, policy, words = drawn(number)
    parent = tempfile.mkdtemp(prefix="evacuations-")
    wrong = ["it did not end"]
    try:
        with open(parent + "/log", "wb") as out:
            child = subprocess.Popen([evacuate, "--state", parent + "/state", "--keep-dir", "--json=" + parent + "/summary",
                                      "--qemu", qemu] + words, stdout=out, stderr=out)
            try:
                status = child.wait(900)
            except BaseException:
                subprocess.run([evacuate, "--end", parent + "/state"], stdout=out, stderr=out)
                child.kill()
                child.wait()
                raise
        try:
            with open(parent + "/summary") as file:
                result = json.load(file)
        except (OSError, ValueError):
            return qemu, policy, words, ["no summary, exit status %s" % status], {}
        vms, wrong = result["vm"], []
        if status != 0:
            wrong.append("exit status %s" % status)
        if result["moved"] != result["vms"]:
            wrong.append("moved %s of %s" % (result["moved"], result["vms"]))
        if not all(vm["checked"] for vm in vms):
            wrong.append("a disk was not checked")
        if result["writes_lost"] or result["guest_errors"] or result["io_errors"]:
            wrong.append("lost %s, errors %s, %s" % (result["writes_lost"], result["guest_errors"], result["io_errors"]))
        if not result["limits_restored"] or not all(vm["settings_restored"] for vm in vms):
            wrong.append("leftover limits")
        if result["overflows"]:
            wrong.append("%s overflows, latest tick %s ms" % (result["overflows"], result["latest_tick_ms"]))
        wrong += [what + " left" for what in left_over(parent)]
        return qemu, policy, words, wrong, result
    finally: # whatever became of it, nothing stays
        if os.environ.get("EVACUATIONS_KEEP") and wrong:
            print("# kept in", parent)
        else:
            shutil.rmtree(parent, ignore_errors=True)


print("# seed", seed)
table, bad, ran = {}, 0, 0
for number in range(first, first + count):
    if over:
        break
    qemu, policy, words, wrong, result = one(number)
    bad += bool(wrong)
    ran += 1
    version = (result.get("vm") or [{}])[0].get("qemu") or "?"
    release = ".".join(version.split(".")[:2])
    print("%s %d - %d: QEMU %s, %s: %s moved, %s checked, %s lost, %s overflows, peak %s%s" % (
        "not ok" if wrong else "ok", ran, number, release, " ".join(words), result.get("moved"), result.get("writes_acknowledged"),
        result.get("writes_lost"), result.get("overflows"),
        "%.0f %%" % (100 * result["buffer_peak_bytes"] / result["buffer_bytes"]) if result.get("buffer_bytes") else "-",
        ": " + ", ".join(wrong) if wrong else ""), flush=True)
    for words in sorted({vm.get("error") for vm in result.get("vm", []) if vm.get("error")} | set(result.get("warnings", []))):
        print("#   " + words, flush=True)
    row = table.setdefault((release, policy), [0] * 7)
    for k, n in enumerate([1, result.get("moved", 0), result.get("vms", 0), result.get("writes_acknowledged", 0),
                           result.get("writes_lost", 0), result.get("overflows", 0)]):
        row[k] += n
    row[6] = max(row[6], result.get("buffer_peak_bytes", 0) / (result.get("buffer_bytes") or 1))
print("# | QEMU | policy | evacuations | VMs moved | writes acknowledged, then checked | lost | overflows | highest peak of Ω |")
print("# |---|---|---|---|---|---|---|---|---|")
for release, policy in sorted(table):
    row = table[release, policy]
    print("# | %s | %s | %d | %d of %d | %d | %d | %d | %.0f %% |" % (release, policy, *row[:6], 100 * row[6]))
print("# %d evacuations, %d wrong, seed %d" % (ran, bad, seed))
print("1..%d" % ran)
sys.exit(bad > 0)
PYTHON
