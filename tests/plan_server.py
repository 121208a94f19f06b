#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""plan_server.py SOCKET HOW: as much of a server as migbuf-plan asks for, on a unix socket, until it is killed.

Each reading of its counters is 1 s after the one before, so that their ratios are the same however slow the machine is. HOW: good, cluster; or what a real
server does not do when it is told to: refuses (the metrics), garbage (in them), broken (a rate of a VM that is no number)."""
import json
import os
import socketserver
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler

path, how = sys.argv[1:]
MIB = 1 << 20
SECONDS = iter(range(1 << 30))
SECONDS_LOCK = threading.Lock()


def vm(name, project, status, root, **more):
    return {"name": name, "project": project, "type": more.pop("type", "virtual-machine"), "status": status, "location": more.pop("location", "m1"),
            "expanded_config": {}, "expanded_devices": {root: {"type": "disk", "path": "/", "pool": "pool", **more},
                                                        "data": {"type": "disk", "path": "/data", "pool": "pool", "source": "d", "size": "7TiB"}}}


INSTANCES = [
    vm("db", "default", "Running", "root", size="400MiB"),
    vm("idle", "default", "Running", "my-root", size="300MiB"),
    vm("off", "default", "Stopped", "root"),
    vm("box", "default", "Running", "root", type="container"),
    vm("web", "p&q", "Running", "root", size="200MiB"),
    vm("quiet", "agentless", "Running", "root", size="100MiB"),
    vm("db", "other", "Running", "root", size="250MiB"),
    vm("away", "default", "Running", "root", size="100MiB", location="m2"),
    vm("e\x1b[31mvil", "evil", "Running", "root", size="100MiB"),
]
# project, name, device, bytes a second, bytes of one write: whole writes, so that their size is exact
COUNTERS = [("default", "db", "dev-incus_data", 90112000, 4096), ("default", "db", "dev-incus_root", 2048000, 8192),
            ("default", "idle", "dev-incus_my--root", 0, 4096), ("p&q", "web", "sda1", 1024000, 4096), ("p&q", "web", "sda", 3276800, 16384),
            ("p&q", "web", "sda2", 2048000, 4096), ("other", "db", "dev-incus_root", 5120000, 4096), ("default", "away", "dev-incus_root", 1024000, 4096)]


def metrics(member):
    with SECONDS_LOCK:
        age_s = next(SECONDS)
    text = ""
    for counter, of in ("written_bytes", lambda rate, block: rate), ("writes_completed", lambda rate, block: rate // block):
        text += "# TYPE incus_disk_%s_total counter\n" % counter
        for project, name, device, rate, block in COUNTERS:
            if how == "cluster" and (name == "away") != (member == "m2"):
                continue
            value = "many" if how == "broken" and name == "db" else str(5000000000 + age_s * of(rate, block))
            text += 'incus_disk_%s_total{device="%s",name="%s",project="%s",type="virtual-machine"} %s\n' % (counter, device, name, project, value)
    return text + "# EOF\n"


def answer(url):
    """Status and value; text for what is no JSON."""
    query = urllib.parse.parse_qs(url.query)
    parts = [urllib.parse.unquote(part) for part in url.path.split("/")[1:]]
    if parts == ["1.0"]:
        return 200, {"auth": "trusted", "api_extensions": ["metrics"], "environment": {
            "server": "incus", "server_version": "7.0", "server_name": "m1", "server_clustered": how == "cluster"}}
    if parts == ["1.0", "metrics"]:
        if how == "refuses":
            return 403, None
        return 200, "incus_disk_written_bytes_total{" if how == "garbage" else metrics(query.get("target", [None])[0])
    if parts[:2] == ["1.0", "storage-pools"]:
        return 200, {"config": {"volume.size": "500MiB"}}
    if parts[:2] == ["1.0", "instances"] and len(parts) == 2:
        project = query.get("project", [None])[0]
        return 200, [i for i in INSTANCES if project in (None, i["project"])]
    found = [i for i in INSTANCES if i["name"] == parts[2] and i["project"] == query.get("project", ["default"])[0]]
    if not found:
        return 404, None
    if parts[3:] == ["state"]:
        return 200, {"disk": {"root": {"usage": 150 * MIB}} if found[0]["name"] in ("db", "quiet") else None}
    return 200, found[0]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        status, value = answer(urllib.parse.urlsplit(self.path))
        if not isinstance(value, str):
            value = json.dumps({"type": "sync", "metadata": value} if status == 200 else {"type": "error", "error": "not \x1b[2Jyours", "error_code": status})
        self.send_response(status)
        self.send_header("Content-Length", str(len(value)))
        self.end_headers()
        self.wfile.write(value.encode())

    def address_string(self):
        return ""

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


with Server(path, Handler) as server:
    print("ready", flush=True)
    server.serve_forever()
