#!/usr/bin/env bash
# Moves a guest that never converges by itself between real QEMUs, by each means that may be agreed, N times each, and prints
# the table: what was agreed, how long it was to stand and stood, time, bytes, and the guest time that was lost. TAP beside it.
# usage: tests/ram.sh [N [ROW...]]     (root; about a quarter of a minute a move)
#   N    moves of each kind (3)
#   ROW  only rows whose name begins so
# Environment: EVACUATE, the path of evacuate-rig; MIGBUF_QEMU, another QEMU. With newer ones:
#   tests/newer_qemu.sh 11.1 build/qemu-11.1 tests/ram.sh
cd "$(dirname "$0")/.." || exit 1
exec python3 - "$@" <<'PYTHON'
import json, os, shutil, statistics, subprocess, sys, tempfile

count = int(sys.argv[1]) if len(sys.argv) > 1 else 3
only = sys.argv[2:]
evacuate = os.environ.get("EVACUATE", "build/plain/tests/rig/evacuate-rig")
if not os.access(evacuate, os.X_OK):
    sys.exit(evacuate + " is not there: meson setup build/plain && meson compile -C build/plain makes it")
if os.geteuid() or not os.access("/dev/shm", os.W_OK):
    print("1..0 # SKIP needs root, and /dev/shm for post-copy")
    sys.exit(0)
qemu = os.environ.get("MIGBUF_QEMU")

# 40 MB/s to 24 MiB over a link of 16 MB/s: with every round 22 MB are dirty again, 1.4 s of the link.
GUEST = "--policy paper --vms 1 --disk 8MiB --buffer 64MiB --link 16MB --dirty 40MB:24MiB"
# The name, the options, what is asked for, and what must come of it.
ROWS = [
    ("a longer stop", "--throttle 0 --downtime 3000", 3000, lambda m: m["throttle_percent"] == 0 and not m["post_copy"] and m["limit_ms"] <= 3000),
    ("a throttle", "--throttle 95", 500, lambda m: m["throttle_percent"] == 95 and m["limit_ms"] <= 500 and not m["post_copy"]),
    ("post-copy", "--throttle 0 --postcopy", 500, lambda m: m["post_copy"]),
    ("post-copy, link cut", "--throttle 0 --postcopy", 500, lambda m: m["post_copy"]),
    ("force", "--throttle 0 --force", 500, lambda m: m["limit_ms"] == 2000000 and not m["post_copy"]),
    ("nothing of it", "--throttle 0", 500, None),
    ("nova's rule, a quiet guest", "--ram-policy nova --dirty 4MB:16MiB", 0, lambda m: m["throttle_percent"] == 0 and m["limit_ms"] in (50, 95)),
    ("proxmox's rule", "--ram-policy proxmox", 0, lambda m: m["throttle_percent"] == 0),
    ("cloudstack's rule", "--ram-policy cloudstack", 0, lambda m: m["throttle_percent"] == 0),
    ("kubevirt's rule", "--ram-policy kubevirt", 0, lambda m: m["throttle_percent"] == 0),
]


def run(options, directory, log):
    summary = directory + "/summary"
    if os.path.exists(summary):
        os.unlink(summary)
    with open(log, "ab") as out:
        child = subprocess.Popen([evacuate] + options + ["--json=" + summary], stdout=out, stderr=out)
        try:
            status = child.wait(600)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            child.terminate() # it gives up, and ends what it started
            child.wait()
            raise
    try:
        with open(summary) as file:
            return status, json.load(file)
    except (OSError, ValueError):
        return status, None


def move(name, more):
    """One move; what the summary says, and why it is not as it should be."""
    directory = tempfile.mkdtemp(prefix="ram-", dir="/dev/shm")
    log = directory + "/said"
    options = GUEST.split() + more.split() + (["--qemu", qemu] if qemu else [])
    try:
        if name == "post-copy, link cut":
            options += ["--state", directory + "/state"]
            run(options + ["--inject", "die@sending the rest of its memory", "--inject-after", "300"], directory, log)
            status, s = run(["--state", directory + "/state"], directory, log)
            with open(log) as file:
                cut = "the link broke in post-copy: it is mended" in file.read()
            subprocess.run([evacuate, "--end", directory + "/state"], capture_output=True)
        else:
            status, s = run(options + ["--work-dir", directory], directory, log)
            cut = True
        with open(log) as file:
            said = file.read().strip().splitlines()[-4:]
        return status, s, said if cut else ["the link was not cut in post-copy"] + said
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def judge(name, check, status, s, said):
    """None: it is as it should be."""
    if not s or not s.get("vm"):
        return "no summary"
    vm = s["vm"][0]
    m = vm["memory"]
    if s["writes_lost"] or not vm["settings_restored"] or not vm["limits_restored"]:
        return "something is not as it was: writes lost %d, settings %s, limits %s" % (s["writes_lost"], vm["settings_restored"], vm["limits_restored"])
    if m["held"]:
        return "the guest was held"
    if check is None:
        return None if vm["runs_at"] == "source" and m["state"] == "cancelled" and vm["checked"] else "it was not given back unharmed"
    if name == "kubevirt's rule" and vm["runs_at"] == "source" and vm["checked"]:
        return None
    if status or vm["runs_at"] != "target":
        return "it did not move: " + vm.get("error", "")
    if said and said[0].startswith("the link was not cut"):
        return said[0]
    return None if check(m) else "by other means: %s" % m


def span(values):
    values = [v for v in values if v is not None]
    if not values:
        return "-"
    low, high = min(values), max(values)
    return "%g" % low if low == high else "%g-%g" % (low, high)


rows = [r for r in ROWS if not only or any(r[0].startswith(o) for o in only)]
version, table, number, failed = None, [], 0, 0
for name, more, asked, check in rows:
    results = []
    for k in range(count if "rule" not in name else 1):
        for again in range(3): # a busy machine may have sent all of it before the link was cut
            status, s, said = move(name, more)
            if not said or not said[0].startswith("the link was not cut"):
                break
        why = judge(name, check, status, s, said)
        number += 1
        failed += why is not None
        print("%sok %d - %s, %d" % ("not " if why else "", number, name, k + 1), flush=True)
        for line in ([why] + said) if why else []:
            print("# " + line)
        if s and s.get("vm"):
            version = s["vm"][0]["qemu"] or version
            if not why:
                results.append(s["vm"][0])
    moved = [v["memory"] for v in results if v["runs_at"] == "target"]
    all_of = [v["memory"] for v in results]
    table.append((name, "%d of %d" % (len(results), count if "rule" not in name else 1), "%d" % asked if asked else "-",
                  span([m["downtime_ms"] or m["qemu_downtime_ms"] for m in moved]), span([m["limit_ms"] for m in moved]),
                  span([round(m["total_ms"] / 1000, 1) for m in all_of]), span([round(m["bytes"] / 1e6) for m in all_of]),
                  span([round(100 * m["lost_ms"] / m["total_ms"]) for m in all_of if m["total_ms"]])))
head = ("means", "as it should", "stop asked ms", "stood ms", "limit ms", "total s", "MB sent", "guest time lost %")
widths = [max(len(row[k]) for row in [head] + table) for k in range(len(head))]
print("# QEMU %s; %s" % (version, GUEST))
for row in [head] + table:
    print("# " + "  ".join(cell.ljust(w) if not k else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths))))
print("1..%d" % number)
sys.exit(failed > 0)
PYTHON
