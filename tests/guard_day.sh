#!/usr/bin/env bash
# A day of migbuf-guard beside a server whose VMs move, fail, die and come back, with a clock that goes thirty times as fast: no
# server and no QEMU can be made to live a day in three quarters of an hour, so both are played. What the guard must keep: no state
# volume overflows while it looks each second, nobody keeps a limit or stands once its migration is over, memory, descriptors and
# files stay as many, and it says no more than a page for each migration.
# usage: tests/guard_day.sh [HOURS [SEED]]      (24; a seed of its own, printed)
# Environment: GUARD, the path of migbuf-guard; DAY_SPEED, how many times as fast (30); DAY_KEEP keeps the files.
cd "$(dirname "$0")/.." || exit 1
exec python3 - "$@" <<'PYTHON'
import http.server, json, os, random, re, shutil, signal, socket, socketserver, subprocess, sys, tempfile, threading, time, urllib.parse

hours = float(sys.argv[1]) if len(sys.argv) > 1 else 24
seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1000000)
speed = float(os.environ.get("DAY_SPEED", "30"))
guard = os.environ.get("GUARD", "build/plain/examples/migbuf-guard")
if not os.access(guard, os.X_OK):
    sys.exit(guard + " is not there: meson setup build/plain && meson compile -C build/plain makes it")

MIB = 1 << 20
CLUSTER = 65536
VMS = 5
PAGE = 60 # lines
LATE_S = 2.5 # the guard looks each second
STATE_BYTES, OTHER_BYTES = 1024 * MIB, 64 * MIB # what the guard counts beside an overlay that it cannot look at
directory = tempfile.mkdtemp(prefix="guard-day-")
chance = random.Random(seed)
began = time.monotonic()

# Its clock, its sleeping and its patience, all by the same factor.
FAST = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>
static double speed(void) { static double s; return s ? s : (s = atof(getenv("DAY_SPEED"))); }
int clock_gettime(clockid_t id, struct timespec *t)
{
    static int (*real)(clockid_t, struct timespec *);
    int rc = (real ? real : (real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime")))(id, t);
    if (!rc && id != CLOCK_PROCESS_CPUTIME_ID && id != CLOCK_THREAD_CPUTIME_ID && id != CLOCK_REALTIME) {
        double s = ((double)t->tv_sec + (double)t->tv_nsec / 1e9) * speed();
        t->tv_sec = (time_t)s;
        t->tv_nsec = (long)((s - (double)t->tv_sec) * 1e9);
    }
    return rc;
}
int poll(struct pollfd *f, nfds_t n, int ms)
{
    static int (*real)(struct pollfd *, nfds_t, int);
    if (!real) real = (int (*)(struct pollfd *, nfds_t, int))dlsym(RTLD_NEXT, "poll");
    return real(f, n, ms <= 0 ? ms : (int)(ms / speed()) + 1);
}
"""


def now():
    return (time.monotonic() - began) * speed


def complain(text):
    faults.append("%.0f s: %s" % (now(), text))
    print("# FAULT " + faults[-1], flush=True)


faults, story = [], []
done = {"moved": 0, "failed": 0, "QEMU died": 0, "server restarted": 0, "guard killed": 0, "guard ended and started": 0,
        "not looked at in time": 0, "never looked at": 0}


class VM:
    """A guest with its QEMU: what it writes lands in its overlay, as fast as its limits let it."""

    def __init__(self, name):
        self.name, self.lock, self.life = name, threading.RLock(), 0
        self.listener, self.connections = None, []
        self.overlay, self.operation, self.present = None, None, False
        self.result = {}
        self.peak, self.looked, self.gap, self.looks = 0, 0, 0, 0
        self.come_up()

    def come_up(self):
        with self.lock:
            self.life += 1
            self.present = True
            self.running, self.written, self.operations, self.at = True, 0, 0, now()
            self.overlay = self.operation = None
            self.block = chance.choice([4096, 65536, 1 << 20])
            self.demand = chance.choice([2, 20, 100]) * 1e6 * min(self.block, CLUSTER) / CLUSTER # so many bytes of clusters
            self.own = [chance.choice([0, 0, 30000000]), 0, 0]
            self.groups, self.group = {"dev-incus_root": list(self.own)}, "dev-incus_root"
            self.path = "%s/%s.%d" % (directory, self.name, self.life)
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(self.path)
            self.listener.listen(4)
            threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def go(self):
        """Its QEMU ends."""
        with self.lock:
            self.present = False
            self.overlay = None
            self.listener.close()
            os.unlink(self.path)
            for c in self.connections:
                try:
                    c.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            self.connections = []

    def accept(self, listener):
        while True:
            try:
                c, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections.append(c)
            threading.Thread(target=self.talk, args=(c,), daemon=True).start()

    def talk(self, c):
        try:
            with c, c.makefile("rw") as f:
                f.write('{"QMP":{"version":{},"capabilities":[]}}\r\n')
                f.flush()
                for line in f:
                    m = json.loads(line)
                    with self.lock:
                        if not self.present:
                            return
                        self.go_on()
                        value = self.answer(m["execute"], m.get("arguments", {}))
                    f.write(json.dumps({"return": value, "id": m.get("id")}) + "\r\n")
                    f.flush()
        except (OSError, ValueError): # who talked to it has gone, perhaps in the middle of a word
            pass
        with self.lock:
            if c in self.connections:
                self.connections.remove(c)

    def go_on(self):
        seconds, self.at = now() - self.at, now()
        if not self.running or not self.present:
            return
        bps, iops, unit = self.limits()
        writes = self.demand / self.block
        if bps:
            writes = min(writes, bps / self.block)
        if iops:
            writes = min(writes, iops / (-(-self.block // unit) if unit else 1))
        self.written += int(writes * seconds) * self.block
        self.operations += int(writes * seconds)
        if self.overlay is not None:
            self.overlay += int(writes * seconds) * max(self.block, CLUSTER)
            self.peak = max(self.peak, self.overlay)

    def limits(self):
        return self.groups[self.group]

    @staticmethod
    def read(limits, before):
        return [limits.get(k, b) for k, b in zip(("bps-write", "iops-write", "iops-size"), before)]

    def top(self):
        return "incus_root" if self.overlay is None else "migration"

    def answer(self, name, arguments):
        if name == "query-blockstats":
            self.looks += 1
            self.gap, self.looked = max(self.gap, now() - self.looked), now()
            return [{"qdev": "dev-incus_root", "node-name": self.top(), "stats": {"wr_bytes": self.written, "wr_operations": self.operations},
                     "parent": {"node-name": "#f", "stats": {"wr_highest_offset": self.overlay or 0}}, "backing": {"node-name": "incus_root"}}]
        if name == "query-named-block-nodes":
            return [{"node-name": n, "image": {"virtual-size": 10 << 30}, "actual-size": (self.overlay or 0) + 196608} for n in {self.top(), "incus_root"}]
        if name == "query-block":
            bps, iops, unit = self.limits()
            limits = {"bps": 0, "bps_rd": 0, "bps_wr": bps, "iops": 0, "iops_rd": 0, "iops_wr": iops, "iops_size": unit}
            return [{"qdev": "dev-incus_root", "inserted": dict(limits, **{"node-name": self.top()}, **({"group": self.group} if bps or iops else {}))}]
        if name == "query-block-jobs":
            return []
        if name == "query-status":
            return {"status": "running" if self.running else "paused", "running": self.running}
        if name == "block_set_io_throttle":
            self.group = arguments.get("group", "dev-incus_root")
            self.groups[self.group] = [arguments.get(k, 0) for k in ("bps_wr", "iops_wr", "iops_size")]
        elif name == "object-add":
            self.groups[arguments["id"]] = self.read(arguments.get("limits", {}), [0, 0, 0])
        elif name == "object-del":
            self.groups.pop(arguments["id"])
        elif name == "qom-set":
            group = arguments["path"].split("/")[-1]
            self.groups[group] = self.read(arguments["value"], self.groups[group])
        elif name == "stop":
            self.running = False
        elif name == "cont":
            self.running = True
        return {}

    def document(self):
        return {"name": self.name, "project": "default", "type": "virtual-machine", "status": "Running", "location": "none",
                "expanded_config": {"raw.qemu": "-qmp unix:%s,server=on,wait=off" % self.path},
                "expanded_devices": {"root": {"type": "disk", "path": "/", "pool": "p", "size.state": "%d" % STATE_BYTES}}}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self):
        return ""

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        status, value = self.value(urllib.parse.urlsplit(self.path).path.split("/")[1:])
        body = {"type": "sync", "metadata": value} if status == 200 else {"type": "error", "error": value}
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def value(self, parts):
        if parts == ["1.0"]:
            return 200, {"auth": "trusted", "api_extensions": ["migration_vm_live", "vm_disk_io_limits", "operations_get_query_all_projects"], "config": {},
                         "environment": {"server": "incus", "server_version": "6.0.4", "server_name": "host"}}
        if parts == ["1.0", "operations"]:
            return 200, {"running": [{"id": v.operation, "description": "Migrating instance", "location": "none", "may_cancel": True,
                                      "resources": {"instances": ["/1.0/instances/" + v.name]}, "metadata": {}} for v in vms if v.operation]}
        if parts[:2] == ["1.0", "operations"] and len(parts) == 3:
            for v in vms:
                if parts[2] in v.result:
                    return 200, {"id": parts[2], "status_code": v.result[parts[2]]}
            return 404, "not found"
        if parts[:2] == ["1.0", "instances"] and len(parts) == 3:
            for v in vms:
                if v.name == parts[2] and v.present:
                    return 200, v.document()
        return 404, "not found"


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads, allow_reuse_address, request_queue_size = True, True, 64


def serve():
    if os.path.exists(directory + "/server"):
        os.unlink(directory + "/server")
    s = Server(directory + "/server", Handler)
    threading.Thread(target=s.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return s


def wait(seconds):
    time.sleep(seconds / speed)


def live(vm, chance, end):
    """One VM's day: it runs, it is moved, and something becomes of that."""
    while now() < end:
        wait(chance.uniform(20, 400))
        if not vm.present:
            vm.come_up()
        with vm.lock:
            vm.operation = "%s-%d-%d" % (vm.name, vm.life, chance.randrange(1 << 30))
            operation, own, vm.peak = vm.operation, list(vm.own), 0
        wait(chance.uniform(1, 6))
        with vm.lock:
            vm.go_on()
            vm.overlay, vm.gap, vm.looks = 0, 0, 0
            vm.looked = max(vm.looked, now() - 1)
        wait(chance.uniform(10, 500))
        becomes = chance.choice(["moved", "moved", "failed", "QEMU died"])
        with vm.lock:
            vm.go_on()
            if becomes != "failed":
                vm.running = False
            vm.gap = max(vm.gap, now() - vm.looked)
            vm.overlay = None # it is merged, or what was in it is over there
            vm.result = {operation: 200 if becomes == "moved" else 400}
        if becomes != "failed":
            vm.go()
        vm.operation = None
        done[becomes] += 1
        if not vm.looks:
            done["never looked at"] += 1
        elif vm.gap > LATE_S: # the guard was away, or the server, or this machine was busy
            done["not looked at in time"] += 1
        elif vm.peak > STATE_BYTES - OTHER_BYTES:
            complain("%s's overlay of %d MiB did not fit, and it was looked at every %.1f s" % (vm.name, vm.peak / MIB, vm.gap))
        if becomes == "failed":
            left = now() + 600 # a guard that was killed meanwhile is there again by then, and a busy machine is no fault
            while (vm.limits() != own or not vm.running) and now() < left:
                wait(1)
            if vm.limits() != own:
                complain("%s keeps the limits %s, and had %s" % (vm.name, vm.limits(), own))
            if not vm.running:
                complain(vm.name + " stands")


def start_guard():
    environment = dict(os.environ, LD_PRELOAD=directory + "/fast.so", DAY_SPEED=repr(speed))
    return subprocess.Popen([guard, "--state-dir", directory + "/state", "--history", directory + "/history", "--server", directory + "/server"],
                            stdout=log, stderr=log, env=environment)


def weigh(pid):
    with open("/proc/%d/status" % pid) as f:
        kib = int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))
    return kib, len(os.listdir("/proc/%d/fd" % pid))


with open(directory + "/fast.c", "w") as f:
    f.write(FAST)
subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-O1", "-o", directory + "/fast.so", directory + "/fast.c", "-ldl"], check=True)
os.mkdir(directory + "/state")
log = open(directory + "/log", "wb")
vms = [VM("vm%d" % k) for k in range(VMS)]
server, process = serve(), start_guard()
print("# seed %d, %g h at %g times the speed: %.0f minutes" % (seed, hours, speed, hours * 60 / speed), flush=True)
print("# %5s %6s %5s %5s %10s  %s" % ("h", "kiB", "fds", "files", "log bytes", "migrations, what else"), flush=True)
end = hours * 3600
lives = [threading.Thread(target=live, args=(v, random.Random("%d-%s" % (seed, v.name)), end), daemon=True) for v in vms]
for t in lives:
    t.start()
rows, hour, next_server, next_guard = [], 0, chance.uniform(1000, 4000), chance.uniform(2000, 6000)
try:
    while any(t.is_alive() for t in lives):
        wait(5)
        if process.poll() is not None:
            complain("the guard ended with %d" % process.returncode)
            break
        if now() > next_server:
            server.shutdown()
            server.server_close()
            wait(chance.uniform(5, 60))
            server = serve()
            done["server restarted"] += 1
            next_server = now() + chance.uniform(1000, 4000)
        if now() > next_guard:
            if chance.randrange(2):
                process.kill()
                process.wait()
                done["guard killed"] += 1
            else:
                process.terminate()
                if process.wait(60):
                    complain("asked to end, the guard said %d" % process.returncode)
                done["guard ended and started"] += 1
            process = start_guard()
            next_guard = now() + chance.uniform(2000, 6000)
        if now() >= hour * 3600 + 600: # warm, and not the first minutes
            wait(30)
            kib, fds = weigh(process.pid)
            rows.append((kib, fds))
            print("# %5.1f %6d %5d %5d %10d  %d, %s" % (now() / 3600, kib, fds, len(os.listdir(directory + "/state")), log.seek(0, 2),
                  sum(done[k] for k in ("moved", "failed", "QEMU died")), ", ".join("%s %d" % i for i in done.items())), flush=True)
            hour += 1
    else: # the day is over
        wait(200)
    if done["never looked at"] * 10 > sum(done[k] for k in ("moved", "failed", "QEMU died")): # the server or the guard was away
        complain("%d migrations were never looked at" % done["never looked at"])
    if os.listdir(directory + "/state"):
        complain("left in its directory: %s" % os.listdir(directory + "/state"))
    if process.poll() is None:
        process.terminate()
        if process.wait(60):
            complain("asked to end, the guard said %d" % process.returncode)
finally:
    if process.poll() is None:
        process.kill()
        process.wait()
    server.shutdown()
with open(directory + "/log", "rb") as f:
    lines = f.read().count(b"\n")
migrations = sum(done[k] for k in ("moved", "failed", "QEMU died"))
if lines > PAGE * migrations:
    complain("it said %d lines" % lines)
if rows and max(r[0] for r in rows) > 1.5 * min(r[0] for r in rows):
    complain("memory from %d to %d kiB" % (min(r[0] for r in rows), max(r[0] for r in rows)))
if rows and max(r[1] for r in rows) > min(r[1] for r in rows) + 2 * VMS:
    complain("descriptors from %d to %d" % (min(r[1] for r in rows), max(r[1] for r in rows)))
print("# %d lines for %d migrations" % (lines, migrations))
print("%sok 1 - %g hours of guard, seed %d: %s" % ("not " if faults else "", hours, seed, ", ".join("%s %d" % i for i in done.items())))
print("1..1")
if os.environ.get("DAY_KEEP") or faults:
    print("# files in " + directory)
else:
    shutil.rmtree(directory)
sys.exit(bool(faults))
PYTHON
