# SPDX-License-Identifier: MIT
"""Two Incus servers on one machine, with VMs that run without KVM and a link between them that can be made slow.

Everything is in namespaces of our own: mounts, network and processes end with them, however the test ends.
"""
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

PATIENCE_S = 300  # only ends a hang
MIB = 1 << 20
PROJECT = "a-project"
QUOTA_MIB = 60  # of a VM in the pool `quota`, beside its disk: less than the guest's working set
OTHER_ROOT = "my-root-disk"  # a root disk's name, by the profile `other`
HERE = os.path.dirname(os.path.abspath(__file__))
# What the guest writes (writer.h); `make` and `check` are told the same.
WRITER = {"sectors": 8, "window": 16384, "start": 0, "random": 1, "seed": 1, "depth": 4, "id": 7}
# The guest drives virtio of the old kind, and has no vsock.
QEMU_CONF = """[machine]
accel = "tcg"
[device "qemu_vsock"]
[device "qemu_scsi"]
disable-modern = "on"
virtqueue_size = "256"
"""


class Failed(Exception):
    """What was awaited did not come, or something came that must not."""


def demand(condition, says):
    if not condition:
        raise Failed(says)


def wait_until(condition, says, every_s=0.1):
    until = time.monotonic() + PATIENCE_S
    while True:
        value = condition()
        if value:
            return value
        demand(time.monotonic() < until, "never: " + says)
        time.sleep(every_s)


def command(*words, **options):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S, **options)
    demand(done.returncode == 0, "%s: %s" % (" ".join(words), done.stdout.strip()))
    return done.stdout


def tail(path, lines=15):
    with contextlib.suppress(OSError), open(path, errors="replace") as file:
        return file.read().splitlines()[-lines:]
    return []


# ---- namespaces ----

# They end with whoever starts them, also when that is killed.
NAMESPACES = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]


def missing(cage):
    """Why the lab cannot be here, or None."""
    if os.geteuid():
        return "namespaces and mounts need root"
    for tool in "setpriv", "unshare", "tc", "ip", "mkfs.ext4", "rsync", "qemu-img":
        if not shutil.which(tool):
            return "there is no " + tool
    if not os.path.exists("/usr/share/OVMF"):
        return "there is no firmware (ovmf)"
    for name in "MIGBUF_INCUS", "MIGBUF_QEMU":
        if not os.environ.get(name):
            return name + " names nothing unpacked aside"
    probe = subprocess.run([*NAMESPACES, "sh", "-c", "mount -t tmpfs none /mnt && ip link set lo up && "
                            "tc qdisc add dev lo root tbf rate 1mbit burst 16kb latency 1s && losetup -f && exec \"$0\" true", cage],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return None if probe.returncode == 0 else "no namespaces, mounts and filters of our own: " + " ".join(probe.stdout.split())


def enter(arguments):
    """Runs this program again, in namespaces of its own that end with it. Returns its exit status."""
    directory = tempfile.mkdtemp(prefix="migbuf-daemon-")
    # The first process of the namespace is a shell, because it takes up orphans: servers look whether their VMs have ended.
    inside = subprocess.Popen([*NAMESPACES, "sh", "-c", '"$@" & wait $!', "sh", sys.executable, *arguments],
                              env={**os.environ, "MIGBUF_DAEMON_DIRECTORY": directory})
    signal.signal(signal.SIGTERM, lambda *_: inside.kill())
    try:
        return inside.wait()
    finally:
        inside.kill()
        inside.wait()
        os.rmdir(directory)  # nothing is in it: what was, was a mount of the namespace


def processes():
    """Those that run, by pid: their command lines. A pid namespace holds our own alone."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open("/proc/%s/cmdline" % pid, "rb") as file:
            line = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
            if line:  # neither the kernel's nor ended
                found[int(pid)] = line
    return found


def mounts():
    with open("/proc/self/mounts") as file:
        return [line.split()[1] for line in file]


# ---- QMP ----

class Qmp:
    """One monitor. None from call(): its QEMU has ended."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(path)
        self.lines = self.socket.makefile("r")
        self.events = []
        self.lines.readline()
        self.call("qmp_capabilities")

    def call(self, name, **arguments):
        try:
            self.socket.sendall(json.dumps({"execute": name, "arguments": arguments}).encode())
            for line in self.lines:
                message = json.loads(line)
                if "event" in message:
                    self.events.append(message["event"])
                elif "error" in message:
                    raise Failed("%s: %s" % (name, message["error"]["desc"]))
                else:
                    return message["return"]
        except (OSError, ValueError):
            pass
        return None

    def close(self):
        self.lines.close()
        self.socket.close()


def disks_of(blocks):
    """Of what query-block or query-blockstats said: those of the VM, its root disk first."""
    found = [b for b in blocks if "dev-incus_" in b.get("qdev", "")]
    return sorted(found, key=lambda b: "dev-incus_data" in b["qdev"])


def root_disk(blocks):
    return disks_of(blocks)[0]


class Watch(threading.Thread):
    """Looks at a VM ten times a second until its QEMU ends: what its overlay weighs, and how long its guest stands."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.qmp = Qmp(path)
        self.overlay_since = None
        self.overlay_bytes = self.peak_bytes = 0
        self.writes = 0
        self.stall_s = 0.0  # the longest time under the overlay in which no write was done
        self.io_errors = self.errors = 0
        self.status = ""
        self.error = None
        self.start()

    def run(self):
        try:
            while self.look():
                time.sleep(0.1)
        except Exception as e:  # whoever waits for this VM is told
            self.error = e
        self.qmp.close()

    def look(self):
        """False: the guest is not here any more. (What it does here afterwards, Incus 6.0.4 starts it again to merge, is nothing.)"""
        blocks = self.qmp.call("query-block")
        blockstats = self.qmp.call("query-blockstats")
        status = self.qmp.call("query-status")
        if status is None or status["status"] == "postmigrate":
            return False
        now = time.monotonic()
        tops = [b["inserted"] for b in disks_of(blocks)]
        writes = sum(b["stats"]["wr_operations"] for b in disks_of(blockstats))
        overlays = [top for top in tops if "_snap" in top["node-name"]]
        overlay = bool(overlays)
        if overlay and self.overlay_since is None:
            self.overlay_since = now
        self.overlay_bytes = sum(top["image"]["actual-size"] for top in overlays)
        self.peak_bytes = max(self.peak_bytes, self.overlay_bytes)
        if writes != self.writes or not overlay:
            self.grew = now
        self.stall_s = max(self.stall_s, now - self.grew)
        self.writes = writes
        self.status = status["status"]
        self.io_errors = self.qmp.events.count("BLOCK_IO_ERROR")
        self.errors = sum(b["stats"]["failed_wr_operations"] for b in disks_of(blockstats))
        return True


# ---- servers ----

class Server:
    """An Incus that sees its own directory as `host` in the lab's, as the other one does: QEMU's paths are the same on both."""

    def __init__(self, lab, name, port):
        self.lab, self.name, self.port = lab, name, port
        self.directory = lab.path(name)
        self.log = lab.path(name + ".log")
        self.process = None
        os.mkdir(self.directory)

    def environment(self):
        return {**self.lab.environment, "INCUS_DIR": self.lab.path("host")}

    def start(self):
        script = 'mount --make-rprivate / && mount --bind "$1" "$2" && shift 2 && exec "$@"'
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", script, "sh", self.directory, self.lab.path("host"), self.lab.cage,
                 self.lab.incus + "/usr/libexec/incus/incusd", "--group", "root"],
                env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.do("admin", "waitready", "--timeout", str(PATIENCE_S))

    def address(self):
        return "127.0.0.1:%d" % self.port

    def source(self, pool):
        return "source=" + self.lab.path("pools/%s-%s" % (pool, self.name))

    def prepare(self):
        """As a server of its own."""
        self.start()
        self.do("config", "set", "core.https_address", self.address())
        for pool in "default", "small":
            self.do("storage", "create", pool, "dir", self.source(pool))
        self.make_profiles()

    def make_profiles(self):
        self.do("profile", "device", "add", "default", "root", "disk", "path=/", "pool=default")
        self.do("profile", "create", "other")
        self.do("profile", "device", "add", "other", OTHER_ROOT, "disk", "path=/", "pool=default")
        self.do("project", "create", PROJECT, "-c", "features.images=false", "-c", "features.profiles=false")

    def enter_cluster(self, token=None):
        """As the first member of one, or with a member's token for us."""
        self.start()
        preseed = {"cluster": {"enabled": True, "server_name": self.name, "server_address": self.address()}}
        if token:
            preseed["cluster"]["cluster_token"] = token
        else:
            preseed["config"] = {"core.https_address": self.address()}
        self.do("admin", "init", "--preseed", input=json.dumps(preseed))  # which is YAML, too

    def beside(self, *words, **options):
        """A program that sees what this server sees, its storage pools too."""
        return subprocess.Popen(["nsenter", "--mount", "--target", str(self.process.pid), *words], env=self.environment(),
                                stdin=subprocess.DEVNULL, **options)

    def client(self):
        return {**self.lab.environment, "INCUS_DIR": self.directory, "INCUS_CONF": self.lab.path("conf-" + self.name),
                "HOME": self.lab.directory}

    def do(self, *words, input=""):
        demand(self.process.poll() is None, "server %s has ended: %s" % (self.name, tail(self.log)))
        return command("incus", *words, env=self.client(), input=input)

    def ask(self, path):
        return json.loads(self.do("query", path))

    def forget(self, vm):
        """What a move that failed may have left here. A cluster has one record of the VM, and that is the other member's. The volume
        stays here, and the next move of that name would be refused for it."""
        if self.lab.clustered:
            shutil.rmtree(os.path.dirname(vm.disk(self)), ignore_errors=True)
            self.do("admin", "sql", "global", "DELETE FROM storage_volumes WHERE name = '%s' AND node_id = "
                    "(SELECT id FROM nodes WHERE name = '%s')" % (vm.name, self.name))
        elif any(path.endswith("/" + vm.name) for path in self.ask("/1.0/instances")):
            self.do("delete", "--force", vm.name)

    def end(self):
        self.process.kill()
        self.process.wait()


class Lab:
    def __init__(self, cage, guest, writer, guard):
        self.directory = os.environ["MIGBUF_DAEMON_DIRECTORY"]
        self.cage, self.guest, self.writer, self.guard = cage, guest, writer, guard
        self.incus = os.environ["MIGBUF_INCUS"]
        self.filled_s = None  # how long a guest without a guard took to fill the small pool
        command("mount", "--make-rprivate", "/")
        command("mount", "-t", "tmpfs", "-o", "mode=755", "migbuf", self.directory)
        for name in "bin", "host", "dev", "memory":
            os.mkdir(self.path(name))
        os.chmod(self.path("memory"), 0o1777)
        self.environment = {**os.environ, "PATH": ":".join([self.path("bin"), os.path.dirname(os.environ["MIGBUF_QEMU"]),
                                                            self.incus + "/usr/bin", os.environ["PATH"], "/usr/sbin:/sbin"]),
                            "LD_LIBRARY_PATH": self.incus + "/usr/lib/x86_64-linux-gnu"}
        if os.environ.get("MIGBUF_INCUS_WHOLE"):  # for a newer C library: what is in this namespace alone
            command("mount", "-t", "overlay", "-o", "lowerdir=%s/usr:/usr" % self.incus, "none", "/usr")
        self.make_programs()
        self.make_pools()
        self.make_devices()
        command("ip", "link", "set", "lo", "mtu", "1500", "up")
        self.shape("1gbit")
        shutil.copy(guest, self.path("guest.elf"))
        self.a, self.b = Server(self, "a", 8443), Server(self, "b", 8444)

    def path(self, name):
        return os.path.join(self.directory, name)

    def make_programs(self):
        os.symlink(HERE + "/qemu.sh", self.path("bin/qemu-system-x86_64"))
        with open(self.path("bin/modprobe"), "w") as file:
            file.write("#!/bin/sh\n")
        os.chmod(self.path("bin/modprobe"), 0o755)

    def make_devices(self):
        """A /dev of our own. Incus asks whether kvm and vhost-vsock are there, and opens them; /dev/null is as good."""
        dev = self.path("dev")
        command("mount", "-t", "tmpfs", "-o", "mode=755", "none", dev)
        for name in ["null", "zero", "full", "random", "urandom", "tty", "fuse", "loop-control"] + ["loop%d" % n for n in range(8)]:
            with contextlib.suppress(OSError):
                s = os.stat("/dev/" + name)
                os.mknod(dev + "/" + name, s.st_mode, s.st_rdev)
                os.chmod(dev + "/" + name, 0o666)
        os.mkdir(dev + "/net")
        os.mknod(dev + "/net/tun", 0o20666, os.makedev(10, 200))
        for name in "kvm", "vhost-vsock", "vsock":
            os.mknod(dev + "/" + name, 0o20666, os.makedev(1, 3))
            os.chmod(dev + "/" + name, 0o666)
        for name, target in ("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"):
            os.symlink(target, dev + "/" + name)
        for name in "pts", "shm":
            os.mkdir(dev + "/" + name)
        command("mount", "--bind", "/dev/pts", dev + "/pts")
        command("mount", "-t", "tmpfs", "none", dev + "/shm")
        command("mount", "--rbind", dev, "/dev")

    def shape(self, rate):
        """How fast the servers reach each other."""
        command("tc", "qdisc", "replace", "dev", "lo", "root", "tbf", "rate", rate, "burst", "512kb", "latency", "400ms")

    def slow(self, least_s):
        """So that the disk of a VM needs longer than that."""
        self.shape("%dkbit" % (1.2 * 128 * MIB * 8 / 1000 / least_s))

    def start(self, clustered=False):
        """Two servers, or the two members of a cluster: a has its database."""
        self.clustered = clustered
        if clustered:
            self.make_cluster()
        else:
            self.make_servers()
        self.release = self.a.ask("/1.0")["environment"]["server_version"]
        self.mounts = mounts()

    def make_cluster(self):
        self.a.enter_cluster()
        self.b.enter_cluster(self.a.do("cluster", "add", "--quiet", self.b.name).split()[-1])
        for pool in "default", "small":
            for server in self.a, self.b:
                self.a.do("storage", "create", pool, "dir", server.source(pool), "--target", server.name)
            self.a.do("storage", "create", pool, "dir")
        self.a.make_profiles()

    def make_servers(self):
        for server in self.a, self.b:
            server.prepare()
        # The client of a knows b; between themselves the servers use a secret of the move.
        os.makedirs(self.path("conf-a"), exist_ok=True)
        with open(self.path("conf-a/config.yml"), "w") as file:
            file.write("default-remote: local\nremotes:\n  local:\n    addr: unix://\n    public: false\n"
                       "  b:\n    addr: unix://%s/unix.socket\n    protocol: incus\n    public: false\n" % self.b.directory)

    def make_file_system(self, name, mib, *make):
        """ext4, or another, in a sparse file: tmpfs itself has no direct I/O on every kernel."""
        image, mount = self.path("image-%d" % mib), self.path(name)
        with open(image, "wb") as file:
            file.truncate(mib * MIB)
        command(*(make or ("mkfs.ext4", "-q", "-m", "0")), image)
        os.mkdir(mount)
        command("mount", "-o", "loop", image, mount)
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(mount + "/lost+found")  # a pool wants to be empty

    def make_pools(self):
        """Both servers' `default` and `small`, which on a is a file system of its own, for leave_room() to fill."""
        self.make_file_system("pools", 4096)
        self.make_file_system("pools/small-a", 512)
        for name in "default-a", "default-b", "small-b":
            os.mkdir(self.path("pools/" + name))

    def make_quota_pools(self):
        """`quota` on both: btrfs that holds each VM to its sizes."""
        if os.path.exists(self.path("pools/quota-a")):
            return
        self.make_file_system("pools/btrfs", 2048, "mkfs.btrfs", "-q")
        command("btrfs", "quota", "enable", self.path("pools/btrfs"))
        device = command("findmnt", "-no", "SOURCE", self.path("pools/btrfs")).strip()
        for server in self.a, self.b:
            mount = self.path("pools/quota-" + server.name)
            command("btrfs", "subvolume", "create", self.path("pools/btrfs/" + server.name))
            os.mkdir(mount)
            enter = "nsenter", "--mount", "--target"
            for pid in os.getpid(), self.a.process.pid, self.b.process.pid:  # who sees mounts of its own
                command(*enter, str(pid), "mount", "-o", "subvol=" + server.name, device, mount)
            server.do("storage", "create", "quota", "btrfs", "source=" + mount)
        self.mounts = mounts()

    def use_buffer(self, mib):
        """Server a anew, with a volume of its own for a Host inside it; how much is free there."""
        volume = self.path("buffer-%d" % mib)
        if not os.path.exists(volume):
            self.make_file_system("buffer-%d" % mib, mib)
            self.mounts = mounts()
        self.environment["INCUS_MIGBUF_VOLUME"] = volume
        self.a.end()
        self.a.start()
        return self.free_in_buffer()

    def free_in_buffer(self):
        room = os.statvfs(self.environment["INCUS_MIGBUF_VOLUME"])
        return room.f_bavail * room.f_frsize

    def leave_room(self, mib):
        """Until `mib` are free in a's small pool."""
        room = os.statvfs(self.path("pools/small-a"))
        ballast = self.path("pools/small-a/ballast-%d" % time.monotonic_ns())
        command("fallocate", "-l", str(room.f_bavail * room.f_frsize - mib * MIB), ballast)
        return ballast

    def left(self):
        """What runs or is mounted beside the two servers and the test itself."""
        running = [line for pid, line in processes().items() if pid not in (1, os.getpid()) and "incusd --group" not in line]
        return running + [path for path in mounts() if path not in self.mounts]

    def end(self):
        for server in self.a, self.b:
            server.end()

    # ---- VMs ----

    def numbers(self, pace):
        return ["%s=%d" % n for n in {**WRITER, "pace": pace}.items()]

    def make_vm(self, name, memory_mib=64, disk_mib=128, state_mib=64, pace=2000, pool="default", disks=1, root="root", project="default"):
        """On a, started; its guest writes as soon as it runs. The second disk is of the kind that moves along."""
        vm = Vm(self, name, pace, disk_mib, pool, disks, project)
        logs = self.path("host/logs/" + vm.full_name)
        vm.do(self.a, "init", name, "--empty", "--vm", *(["--target", self.a.name] if self.clustered else []),
                  *(["-s", pool] if root == "root" else ["-p", "other"]), "-c", "limits.memory=%dMiB" % memory_mib, "-c", "limits.cpu=1",
                  "-c", "migration.stateful=true", "-c", "security.secureboot=false", "-c", "security.csm=true",
                  "-d", root + ",size=%dMiB" % disk_mib, "-d", root + ",size.state=%dMiB" % state_mib, "-d", root + ",limits.write=800MB",
                  "-c", "raw.qemu.conf=" + QEMU_CONF,
                  "-c", "raw.qemu=-kernel %s -append '%s on_ms=0 off_ms=0 count=0 disks=%d targets=1' %s" % (
                      self.path("guest.elf"), " ".join(self.numbers(pace)), disks,
                      " ".join("-qmp unix:%s/%s.qmp,server=on,wait=off" % (logs, m) for m in ("guard", "watch", "check"))))
        if disks == 2:
            self.a.do("storage", "volume", "create", pool, name + "-data", "--type=block", "size=%dMiB" % disk_mib)
            vm.do(self.a, "config", "device", "add", name, "data", "disk", "pool=" + pool, "source=%s-data" % name, "dependent=true")
        for k in range(disks):
            new = self.path("new-disk")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
            command(self.writer, "make", new, str(disk_mib * MIB), *vm.numbers(k))
            command("dd", "if=" + new, "of=" + vm.disk(self.a, k), "bs=1M", "conv=notrunc", "status=none")
            os.unlink(new)
        if pool == "quota":  # Incus sets none for a VM on btrfs
            command("btrfs", "qgroup", "limit", "%dM" % (disk_mib + QUOTA_MIB), os.path.dirname(vm.disk(self.a)))
        vm.do(self.a, "start", name)
        vm.begin_watch()
        wait_until(lambda: vm.watch.writes > 0, "%s writes" % name)
        vm.own_limits = vm.limits(self.a)
        return vm


class Vm:
    def __init__(self, lab, name, pace, disk_mib, pool, disks, project):
        self.lab, self.name, self.pace, self.disk_mib, self.pool = lab, name, pace, disk_mib, pool
        self.disks, self.project = disks, project
        self.full_name = name if project == "default" else project + "_" + name  # in the servers' directories
        self.shown = name if project == "default" else project + "/" + name  # by the guard
        self.moving = None
        self.without_room = False  # its overlay was larger than its room before the guard came

    def do(self, server, *words):
        return server.do("--project", self.project, *words)

    def begin_watch(self):
        self.watch = Watch(self.monitor(self.lab.a, "watch"))

    def disk(self, server, number=0):
        where = "custom/default_%s-data" % self.name if number else "virtual-machines/" + self.full_name
        return self.lab.path("pools/%s-%s/%s/root.img" % (self.pool, server.name, where))

    def numbers(self, disk=0):
        return [*self.lab.numbers(self.pace), "base_sectors=%d" % (self.disk_mib * MIB // 512), "disk=%d" % disk]

    def monitor(self, server, which):
        return "%s/logs/%s/%s.qmp" % (server.directory, self.full_name, which)

    def limits(self, server):
        """The root disk's limits as QEMU has them."""
        disk = root_disk(self.ask(server, "query-block"))["inserted"]
        return {k: v for k, v in disk.items() if re.match("bps|iops|group", k)}

    def set_write_limit(self, server, bytes_per_s):
        device = root_disk(self.ask(server, "query-block"))["qdev"]
        self.ask(server, "block_set_io_throttle", id=device, bps=0, bps_rd=0, bps_wr=bytes_per_s, iops=0, iops_rd=0, iops_wr=0)

    def ask(self, server, *words, **arguments):
        """The answer of its third monitor there, to the last command if they are several."""
        qmp = Qmp(self.monitor(server, "check"))
        try:
            for word in words[:-1]:
                qmp.call(word)
            return qmp.call(words[-1], **arguments)
        finally:
            qmp.close()

    def writes(self, server):
        return root_disk(self.ask(server, "query-blockstats"))["stats"]["wr_operations"]

    def begin_move(self, *words):
        """By that command, or by `incus move`."""
        where = ["--target", self.lab.b.name] if self.lab.clustered else ["b:", "--target-project", self.project]
        words = words or ("--project", self.project, "move", self.name, *where)
        self.moving = subprocess.Popen(["incus", *words], env=self.lab.a.client(),
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def is_moving(self):
        return self.moving.poll() is None

    def end_move(self):
        """Waits for it; True if it succeeded. What it said is in self.said."""
        self.said = self.moving.communicate(timeout=2 * PATIENCE_S)[0]
        return self.moving.returncode == 0

    def wait_for(self, condition, says):
        """While the move is under way."""
        def reached():
            value = condition()
            if not value and not self.is_moving():
                raise Failed("the move ended (%s) before: %s" % ("it is over there" if self.end_move() else self.said.strip(), says))
            return value
        return wait_until(reached, says)

    def delete(self, server):
        self.do(server, "delete", "--force", self.name)
        if self.disks == 2 and "%s-data" % self.name in server.do("storage", "volume", "list", self.pool):
            server.do("storage", "volume", "delete", self.pool, self.name + "-data")

    def check(self, server, with_errors=False):
        """Stops the guest there and compares each write of which it was told that it is done.

        What the guest says (guest.h) of its first disk, and how many the checker misses, and counts, of all."""
        memory = self.lab.path("memory/" + self.name)
        self.ask(server, "stop", "pmemsave", val=0, size=MIB, filename=memory)
        with open(memory, "rb") as file:
            file.seek(0x600)  # guest.h
            guest = dict(zip(("magic", "acked", "issued", "failed", "last_status", "longest_ms", "acknowledged"),
                             struct.unpack("<7I", file.read(28))))
        guest["acknowledged"] = guest["lost"] = 0
        for k in range(self.disks):
            said = command(self.lab.writer, "check", self.disk(server, k), memory, *self.numbers(k))
            acknowledged = int(re.search(r"acknowledged (\d+) ", said)[1])
            demand(acknowledged > 0, "the guest was told of no write at all to its disk %d" % k)
            guest["acknowledged"] += acknowledged
            guest["lost"] += int(re.search(r" lost (\d+) ", said)[1])
        os.unlink(memory)
        demand(with_errors or guest["failed"] == 0, "the guest had %d I/O errors" % guest["failed"])
        return guest
