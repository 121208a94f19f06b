#!/usr/bin/env python3
"""mirror.py WRITER GUEST QEMU WAY KIB: one run. A guest of 4 writes of KIB in flight, 12 MB/s wanted, on ground that its mirror has
copied already, over a link of 24 MB/s. Prints: guest MB/s, copy MB/s, p50 ms, p99 ms, and the seconds that were measured.
Ways: none, blocking, small, paced, background (tests/mirror.sh says what they are)."""
import bisect, json, os, shutil, signal, socket, subprocess, sys, tempfile, threading, time

writer, guest, qemu, way, kib = sys.argv[1:5] + [int(sys.argv[5])]
U, DEMAND, DEPTH, SECONDS = 24e6, 12e6, 4, 8
DISK, REGION = 448 << 20, 32 << 20
programs = []


class Link(threading.Thread):
    """Between two unix sockets: towards the target a token bucket of 5 ms, back as it comes."""

    def __init__(self, near, far):
        super().__init__(daemon=True)
        self.near, self.far = socket.socket(socket.AF_UNIX), far
        self.near.bind(near)
        self.near.listen(1)

    def run(self):
        here, _ = self.near.accept()
        there = socket.socket(socket.AF_UNIX)
        there.connect(self.far)
        for s in here, there:
            for option in socket.SO_SNDBUF, socket.SO_RCVBUF:
                s.setsockopt(socket.SOL_SOCKET, option, 262144)
        threading.Thread(target=self.carry, args=(there, here, None), daemon=True).start()
        self.carry(here, there, U)

    @staticmethod
    def carry(a, b, rate):
        due = time.monotonic()
        try:
            while data := a.recv(65536):
                b.sendall(data)
                if rate:
                    due = max(due, time.monotonic() - 0.005) + len(data) / rate
                    while (wait := due - time.monotonic()) > 0:
                        time.sleep(wait)
        except OSError:
            pass


class Monitor:
    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.s.connect(path)
                break
            except OSError:
                time.sleep(0.02)
        self.f = self.s.makefile("rw")
        json.loads(self.f.readline())
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        self.f.write(json.dumps({"execute": command, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}) + "\n")
        self.f.flush()
        while True:
            answer = json.loads(self.f.readline())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise SystemExit(f"{command}: {answer['error']['desc']}")


def start(*words):
    programs.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))


def percentile(histogram, part):
    """The upper bound of its bin, in ms."""
    left = part * sum(histogram["bins"])
    for k, n in enumerate(histogram["bins"]):
        left -= n
        if left <= 0:
            return histogram["boundaries"][min(k, len(histogram["boundaries"]) - 1)] / 1e6
    return 0


def measure(d):
    disk, target, memory, sectors = f"{d}/disk", f"{d}/target", f"{d}/memory", kib * 2
    pace, window = int(DEMAND / (kib << 10)), REGION // (kib << 10)
    numbers = dict(sectors=sectors, window=window, start=64, random=1, seed=7, depth=DEPTH, pace=pace, on_ms=0, off_ms=0, count=0, id=1)
    subprocess.run([writer, "make", disk, str(DISK), *(f"{k}={v}" for k, v in numbers.items()), f"base_sectors={DISK // 512}"], check=True)
    for path, size in (target, DISK), (memory, 16 << 20):
        with open(path, "wb") as f:
            f.truncate(size)
    nbd = shutil.which("qemu-nbd", path=os.path.dirname(qemu)) if "/" in qemu else None
    start(nbd or "qemu-nbd", "-k", f"{d}/far", "-f", "raw", "-x", "disk", "--discard=unmap", "--cache=writeback", target)
    while not os.path.exists(f"{d}/far"):
        time.sleep(0.02)
    Link(f"{d}/near", f"{d}/far").start()
    append = " ".join(f"{k}={v}" for k, v in {**numbers, "disks": 1, "dirty": 0, "set": 0}.items())
    start(qemu, "-accel", "tcg", "-M", "q35,usb=off,memory-backend=ram", "-object",
          f"memory-backend-file,id=ram,size=16M,mem-path={memory},share=on", "-m", "16M", "-nodefaults", "-no-user-config", "-display", "none",
          "-qmp", f"unix:{d}/qmp,server=on,wait=off", "-S", "-blockdev",
          json.dumps({"node-name": "disk", "driver": "raw", "discard": "unmap", "file": {"driver": "file", "filename": disk, "locking": "off"}}),
          "-device", "virtio-blk-pci,id=dev,drive=disk,disable-modern=on,request-merging=off", "-kernel", guest, "-append", append)
    q = Monitor(f"{d}/qmp")

    def job():
        return next(iter(q.ask("query-block-jobs")), {"offset": 0, "len": DISK})

    def written():
        return next(b for b in q.ask("query-blockstats") if b["node-name"] == "disk")["stats"]

    if way != "none":
        q.ask("blockdev-add", node_name="target", driver="raw",
              file={"driver": "nbd", "export": "disk", "server": {"type": "unix", "path": f"{d}/near"}})
        more = {"blocking": dict(granularity=65536), "small": dict(granularity=65536, buf_size=65536),
                "paced": dict(granularity=65536, buf_size=65536), "background": dict(granularity=4096 if kib < 64 else 65536)}[way]
        q.ask("blockdev-mirror", job_id="j", device="disk", target="target", sync="full",
              copy_mode="background" if way == "background" else "write-blocking", **more)
        while job()["offset"] < REGION + (2 << 20): # the ground that the guest writes to is copied
            time.sleep(0.02)
    speed = int(0.1 * U)
    if way == "paced":
        q.ask("block-job-set-speed", device="j", speed=speed)
    q.ask("cont")
    bounds, at = [], 50000.0
    while at < 4e9:
        bounds.append(int(at))
        at *= 1.12
    begun = measured = time.monotonic()
    wrote = counted = written()["wr_bytes"]
    remained = None
    while (now := time.monotonic()) < measured + SECONDS or remained is None:
        time.sleep(0.5)
        w = written()["wr_bytes"]
        rate, counted = (w - counted) / (time.monotonic() - now), w
        if way == "paced": # migbuf_mirror_pace
            speed = int(max(0.1 * U, min(speed + 0.05 * U, 0.9 * U - rate)))
            q.ask("block-job-set-speed", device="j", speed=speed)
        if remained is None and time.monotonic() > begun + 2:
            q.ask("block-latency-histogram-set", id="/machine/peripheral/dev/virtio-backend", boundaries_write=bounds)
            wrote, remained, measured = written()["wr_bytes"], job(), time.monotonic()
    stats, left, seconds = written(), job(), time.monotonic() - measured
    fell = (remained["len"] - remained["offset"]) - (left["len"] - left["offset"])
    h = stats["wr_latency_histogram"]
    print(f"{(stats['wr_bytes'] - wrote) / seconds / 1e6:.2f} {0 if way == 'none' else fell / seconds / 1e6:.1f} "
          f"{percentile(h, 0.5):.2f} {percentile(h, 0.99):.2f} {seconds:.1f}")


with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as d:
    try:
        measure(d)
    finally:
        for p in programs: # a guest that waits for its target does not go by itself
            p.send_signal(signal.SIGKILL)
            p.wait()
