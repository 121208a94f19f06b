#!/usr/bin/env bash
# Kills an evacuation N times with SIGKILL, each time at another random moment, starts it again, and checks what came of it.
# TAP, and a table by phase. usage: tests/kills.sh [--late SECONDS | --memory] N [SEED [FIRST]]   (root; ten seconds a kill)
#   SEED    of the moments and of everything else, - for any; printed, so that one kill can be repeated: N 1, FIRST its number
#   --late  the restart comes that much later instead of within the time the buffer reckons with; then guests may have been
#           stopped for lack of room, but nothing may be lost
#   --memory  guests write to their memory all the time and move by throttle and force, or by post-copy; they are hit while
#           memory is on its way (half a minute a kill, in /dev/shm)
# Environment: EVACUATE, the path of evacuate-rig; EVACUATE_SHORT, half as many kills; MIGBUF_QEMU, another QEMU.
cd "$(dirname "$0")/.." || exit 1
exec python3 - "$@" <<'PYTHON'
import glob, json, os, random, shutil, signal, subprocess, sys, tempfile, time

sys.dont_write_bytecode = True
sys.path.insert(0, "tests")
from left import left_over, processes

late, memory = 0.0, False
args = sys.argv[1:]
if args and args[0] == "--memory":
    memory, args = True, args[1:]
if args and args[0] == "--late":
    late, args = float(args[1]), args[2:]
if not args:
    sys.exit("usage: tests/kills.sh [--late SECONDS | --memory] N [SEED [FIRST]]")
count = int(args[0])
if os.environ.get("EVACUATE_SHORT"):
    count = (count + 1) // 2
seed = int(args[1]) if len(args) > 1 and args[1] != "-" else random.randrange(1000000)
first = int(args[2]) if len(args) > 2 else 0
evacuate = os.environ.get("EVACUATE", "build/plain/tests/rig/evacuate-rig")
if not os.access(evacuate, os.X_OK):
    sys.exit(evacuate + " is not there: meson setup build/plain && meson compile -C build/plain makes it")
qemu = os.environ.get("MIGBUF_QEMU")

if os.geteuid():
    print("1..0 # SKIP needs root for a loop mount")
    sys.exit(0)
for tool in "qemu-system-x86_64", "qemu-img", "mkfs.ext4":
    if not shutil.which(tool):
        print("1..0 # SKIP no", tool)
        sys.exit(0)

# Steps as messages name them, and for how many milliseconds after its beginning each is worth being hit.
PHASES = {
    "set-up": {"starting the source": 300, "setting the host's own limits": 2, "waiting for the other guests": 20,
               "learning the disk": 2, "waiting for room in the buffer": 2, "setting the first limit": 3,
               "waiting for room on the volume": 2, "creating the overlay": 30, "opening the overlay": 2,
               "putting the overlay on top": 5},
    "base": {"copying the base": 1200},
    "mirror": {"starting the target": 150, "starting the NBD server": 2, "exporting the target's disk": 2,
               "connecting to the target's disk": 5, "starting the mirror": 5,
               "waiting until the mirror is ready": 1000, "waiting for its turn on the link": 5},
    "switch-over": {"asking what is set for memory": 5, "stopping the guest for its memory": 5,
                    "sending the memory": 60, "ending the mirror": 5,
                    "switching over": 8},
    "target": {"arriving at the target": 5, "deleting the export": 2, "stopping the NBD server": 2,
               "giving back what was set for memory": 5,
               "ending the source": 20, "watching it go on": 400, "checking the host's limits": 2,
               "stopping it to check its disk": 5, "ending it": 10},
    "way back": {"cancelling the migration": 5, "cancelling the mirror": 5, "ending the target": 10,
                 "merging the overlay back": 5, "waiting until the overlay is merged": 50,
                 "stopping the guest to complete the merge": 3, "completing the merge": 5, "letting the guest go on": 2,
                 "closing the overlay": 2, "leaving the buffer": 2, "restoring the host's limits": 3},
}
WHERE = {step: phase for phase, steps in PHASES.items() for step in steps}
WHERE.update({"handing over the overlay": "set-up", "asking whether it may migrate": "set-up", "asking for KVM": "set-up", "asking which commands it knows": "set-up", "sending the rest of its memory": "switch-over",
              "waiting for its guest to write": "set-up", "setting the host's new limits at the target": "switch-over", "reading the host's own limits": "set-up",
              "checking capabilities": "target", "checking parameters": "target",
              "setting the host's limits at the target": "mirror",
              "over": "over", "moving": "target", "beginning again": "going on"})
KINDS = ["any time"] + list(PHASES)
# With --memory: the same steps, which take longer then.
MEMORY = {"waiting for its turn on the link": 20, "asking what is set for memory": 5, "sending the memory": 6000,
          "ending the mirror": 5, "switching over": 8, "sending the rest of its memory": 600, "arriving at the target": 5,
          "giving back what was set for memory": 5, "ending the source": 20}


def read(path):
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def run(arguments, log, interrupt_after=0.0):
    with open(log, "ab") as out:
        child = subprocess.Popen([evacuate] + arguments, stdout=out, stderr=out)
        try:
            if interrupt_after:
                try:
                    return child.wait(interrupt_after)
                except subprocess.TimeoutExpired:
                    child.send_signal(signal.SIGINT)
            return child.wait(900)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            return "not over after 900 s"


def at(step, ms):
    return ["--inject", "die@" + step, "--inject-after", str(int(ms))]


def phases_at_kill(directory):
    state = read(directory + "/state")
    if not state or "finished" in state:
        return []
    return [WHERE.get(vm["step"], "coming back") if vm["outcome"] == 0 else "over" for vm in state["vms"]]


def one(number):
    parent = tempfile.mkdtemp(prefix="kills-", dir="/dev/shm" if memory else None)
    wrong = True
    try:
        hit, kills, wrong, result = evacuation(number, parent)
        return hit, kills, wrong, result
    finally: # whatever became of it, and of us, nothing stays
        for pid in processes(parent):
            os.kill(pid, signal.SIGKILL)
        if os.environ.get("KILLS_KEEP") and wrong:
            print("# kept in", parent)
        else:
            time.sleep(0.05 if wrong else 0)
            shutil.rmtree(parent, ignore_errors=True)


def evacuation(number, parent):
    chance = random.Random("%d-%d" % (seed, number))
    kind = KINDS[number % len(KINDS)]
    directory, log, summary = parent + "/state", parent + "/log", parent + "/summary"
    variant = chance.choice(["", "--overlay name", "--disks 2 --overlay name", "--disks 2", "--links 2"])
    # What the guests write is nearly twice the buffer: without limits it overflows within two seconds.
    disk = "12MiB" if "--disks" in variant else "24MiB"
    load = ["--state", directory, "--keep-dir", "--disk", disk, "--buffer", "40MiB", "--link", "24MB", "--tick", "500",
            "--seed", str(chance.randrange(1, 10000)), "--json=" + summary]
    load += chance.choice(["--policy paper --admission off", "--admission off", ""]).split() # else one after the other
    if memory:
        kind = "memory"
        variant = chance.choice(["--throttle 95 --force", "--throttle 0 --postcopy"]) + " --dirty 40MB:16MiB"
    load += variant.split() + (["--qemu", qemu] if qemu else [])
    interrupt = chance.uniform(2.5, 4.5) if kind == "way back" else 0.0
    if memory:
        step = chance.choice([s for s in MEMORY if "--postcopy" in variant or s != "sending the rest of its memory"])
        ms = chance.uniform(0, MEMORY[step])
    elif kind == "any time":
        step, ms = "starting the source", chance.uniform(0, 6000)
    else:
        step = chance.choice(list(PHASES[kind]))
        ms = chance.uniform(0, PHASES[kind][step])
    status = run(load + at(step, ms), log, interrupt)
    hit = phases_at_kill(directory)
    kills, delay, again = 0, 0.0, ""
    if status == -signal.SIGKILL:
        kills, delay = 1, late if late else chance.uniform(0, 0.4)
        time.sleep(delay)
        if chance.random() < 0.2: # and the one that comes back as well
            status = run(["--state", directory, "--json=" + summary] + at("finding its QEMU again", chance.uniform(0, 1500)),
                         log)
            if status == -signal.SIGKILL:
                kills, again = 2, " and again"
                hit += phases_at_kill(directory)
                time.sleep(chance.uniform(0, 0.4))
        if status == -signal.SIGKILL:
            status = run(["--state", directory, "--json=" + summary], log)
    result = read(summary) or {}
    vms = result.get("vm", [])
    wrong = []
    if status not in (0, 1):
        wrong.append("exit status %s" % status)
    if len(vms) != 3 or not all(vm["checked"] for vm in vms):
        wrong.append("a disk was not checked")
    if not interrupt and result.get("moved") != 3:
        wrong.append("moved %s of 3" % result.get("moved"))
    if not all(vm["runs_at"] in ("source", "target") for vm in vms):
        wrong.append("a guest is nowhere")
    if result.get("writes_lost") != 0 or result.get("guest_errors") != 0:
        wrong.append("lost %s, errors %s" % (result.get("writes_lost"), result.get("guest_errors")))
    if not result.get("limits_restored") or not all(vm["settings_restored"] for vm in vms):
        wrong.append("leftover limits")
    # Ω is promised for ticks that come at most two intervals apart, and for programs that come back as soon.
    too_late = late or result.get("longest_absence_ms", 0) > 1000 or any("too late" in w for w in result.get("warnings", []))
    if result.get("overflows") != 0 and not too_late:
        wrong.append("%s overflows" % result.get("overflows"))
    wrong += [what + " left" for what in left_over(parent)]
    print("%s %d - kill %d: %s +%.0f ms%s [%s]%s, restart after %.2f s (away %d ms): %s moved, %s checked, %s lost, "
          "%s overflows%s" % ("not ok" if wrong else "ok", number - first + 1, number, step, ms, again, ", ".join(hit),
          " " + variant if variant else "", delay, result.get("longest_absence_ms", 0), result.get("moved"),
          result.get("writes_acknowledged"), result.get("writes_lost"), result.get("overflows"),
          ": " + ", ".join(wrong) if wrong else "" if kills else " (over before)"))
    if wrong:
        for path in [log] + glob.glob(directory + "/run/*/log"):
            with open(path, errors="replace") as file:
                for line in file.read().splitlines()[-12:]:
                    print("# %s: %s" % (os.path.basename(os.path.dirname(path)), line))
    sys.stdout.flush()
    return hit, kills, wrong, result


signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
print("# seed", seed)
table, bad, total = {}, 0, 0
for number in range(first, first + count):
    hit, kills, wrong, result = one(number)
    bad += bool(wrong)
    total += kills
    for phase in hit:
        row = table.setdefault(phase, [0, 0, 0, 0, 0])
        row[0] += 1
    for phase in set(hit):
        row = table[phase]
        row[1] += 1
        row[2] += result.get("writes_lost") or 0
        row[3] += not result.get("limits_restored")
        row[4] += result.get("overflows") or 0
print("# | phase | VMs hit in it | kills | writes lost | leftover limits | overflows |")
print("# |---|---|---|---|---|---|")
for phase in list(PHASES) + ["coming back", "over"]:
    if phase in table:
        print("# | %s | %s |" % (phase, " | ".join(str(n) for n in table[phase])))
print("# %d kills in %d evacuations, %d wrong, seed %d" % (total, count, bad, seed))
print("1..%d" % count)
sys.exit(bad > 0)
PYTHON
