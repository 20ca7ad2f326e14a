# SPDX-License-Identifier: MIT
"""The agent under test, and what it left in the kernel."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import time

import kernel
import topology

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import varlink  # pylint: disable=wrong-import-position

BUILD_DIR = os.environ["BUILD_DIR"]
AGENT = os.path.join(BUILD_DIR, "agent/ipipdirectd")
# With no more system calls than the unit allows: another one kills.
FILTER = tuple(os.path.join(BUILD_DIR, "tests", name) for name in ("filtered", "allowed-calls"))
FILTERED = (*FILTER, AGENT)
CTL = os.path.join(BUILD_DIR, "tools/ipipdirectctl")
PINS = "/sys/fs/bpf/ipipdirect"
SOCKET = "/run/ipipdirect/io.ipipdirect"
ENTRY_SIZE, SHARED, PRIVATE_SOURCE = 16, 1, 1 << 8  # schema/maps.h


class Agent:
    """ipipdirectd as a child; ready when __init__ returns."""

    def __init__(self, *options, log="/tmp/agent.log", command=FILTERED, environment=None):
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(f"\0ipipdirect-test-{os.urandom(8).hex()}")
        self.log = open(log, "ab")
        environment = {**os.environ, **(environment or {}),
                       "NOTIFY_SOCKET": "@" + self.notify.getsockname()[1:].decode()}
        self.process = subprocess.Popen([*command, *options], stderr=self.log, env=environment)
        self.wait_ready()

    def wait_ready(self, seconds=30):
        deadline = time.monotonic() + seconds
        self.notify.settimeout(0.1)
        while True:
            with contextlib.suppress(TimeoutError):
                if "READY=1" in self.notify.recv(4096).decode().split("\n"):
                    # From here on read by nobody, as the agent must not depend on it; but a
                    # socket that nobody reads fills up and blocks, so it goes.
                    self.notify.close()
                    return
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                self.process.wait()
                with open(self.log.name, encoding="utf-8", errors="replace") as file:
                    log = "".join(file.readlines()[-20:])
                self.close()
                raise AssertionError(f"the agent does not get ready; its log ends with\n{log}")

    def kill(self):
        self.end(signal.SIGKILL, -signal.SIGKILL)

    def stop(self):
        self.end(signal.SIGTERM, 0)

    def end(self, number, expected):
        """What goes on without it hides from all but this that it was gone already."""
        self.process.send_signal(number)
        status = self.process.wait(30)
        self.close()
        assert status == expected, f"the agent ended with {status}, see {self.log.name}"

    def close(self):
        self.log.close()
        self.notify.close()

    def __enter__(self):
        return self

    def __exit__(self, exception, *_):
        if self.log.closed:
            return
        if self.process.poll() is None or not exception:
            self.stop()


def _resident(pid):
    """Bytes: all, and those that are shared."""
    pages = pathlib.Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1:3]
    return [int(n) * os.sysconf("SC_PAGE_SIZE") for n in pages]


def rss(pid):
    return _resident(pid)[0]


def own_memory(pid):
    """Bytes of the agent's own; shared pages are those of libraries and maps, which come as they are touched."""
    resident, shared = _resident(pid)
    return resident - shared


def n_fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def detach():
    """For the next test, whose agent shall attach also when the last one was killed, and whose host has its own addresses."""
    subprocess.run([CTL, "detach"], check=True, stdout=subprocess.DEVNULL)
    assert not os.path.exists(PINS), "detach leaves pins"
    for name in ("placement.json", "held.json"):
        pathlib.Path("/run/ipipdirect", name).unlink(missing_ok=True)


def resync():
    """Returns after a pass that began after the call: the agent has read what the kernel has now. A pass more
    in the status says less, as the one under way may have read before."""
    until_complete("resync")


def until_complete(command):
    """Says `resync` or `reload` until the answer is that everything could be read: a namespace that ends is listed
    until the kernel has come to it, and cannot be read."""
    def is_complete():
        status = subprocess.run([CTL, command], check=False, stdout=subprocess.DEVNULL).returncode
        assert status in (0, 4), f"{command}: exit status {status}"
        return status == 0

    topology.wait_for(is_complete, f"{command}, complete")


def status():
    with open("/run/ipipdirect/status.json", encoding="utf-8") as file:
        return json.load(file)


def status_now():
    """What the agent says itself; its file is written a while after each pass."""
    with varlink.Client(SOCKET) as client:
        return client.call("io.ipipdirect.GetStatus")["status"]


def rows_told():
    """Those of its file, as map_now()."""
    return rows_in(status()["entries"])


def quiet_for(seconds):
    """Whether no pass ended in so many seconds from now."""
    before = status()["agent"]["passes"]
    time.sleep(seconds)
    return status()["agent"]["passes"] == before


def live_entries():
    """The rows with their counters of this moment, as the CLI reads them from the pins."""
    out = subprocess.run([CTL, "-j", "map", "dump"], check=True, stdout=subprocess.PIPE).stdout
    return json.loads(out)["entries"]


def rows_in(entries):
    """As topology.rows_of() has them."""
    return {(e["remote"], e["inner_source"]): e["game_server_ip"] for e in entries}


def map_now():
    return rows_in(live_entries())


def model_a(address):
    """What Remotes has for a tunnel whose device has no public address."""
    return address, PRIVATE_SOURCE


def unpack(value):
    """(game server IP, flags) of an entry's bytes, or None."""
    if value is None:
        return None
    address, _slot, flags = struct.unpack_from("=4sIH", value)
    return socket.inet_ntoa(address), flags


class Remotes:
    """The map of remotes, looked at from outside the agent; and that of inner sources with all()."""

    def __init__(self):
        self.map = kernel.PinnedMap(f"{PINS}/v1/remotes", ENTRY_SIZE)
        self.sources = kernel.PinnedMap(f"{PINS}/v1/sources", ENTRY_SIZE)

    def get(self, remote):
        """(game server IP, flags) or None."""
        return unpack(self.map.get(socket.inet_aton(remote)))

    def all(self):
        """As map_now(), but without the start of a process."""
        rows = {}
        for opened, size in ((self.map, 4), (self.sources, 8)):
            for key in opened.keys(size):
                row = unpack(opened.get(key))
                if row:
                    address, flags = row
                    inner_source = socket.inet_ntoa(key[4:]) if size > 4 else None
                    rows[socket.inet_ntoa(key[:4]), inner_source] = None if flags & SHARED else address
        return rows

    def wait(self, remote, expected, seconds=10.0):
        return topology.wait_for(lambda: [self.get(remote)] if self.get(remote) == expected else None,
                                 f"{remote} -> {expected}, is {self.get(remote)}", seconds)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.map.close()
        self.sources.close()
