# SPDX-License-Identifier: MIT
"""A place where the real agent and the real ipipdirectctl can do what they like.

A mount, a network and a pid namespace with an empty bpffs, an empty /run and an interface `wan` with a default
route. Nothing of it is seen from outside, and all of it is gone when the process that holds it ends. Nor is
anything seen from inside: an agent looks into the namespaces of all processes that it sees, and those of tests
that run beside it come and go.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import tempfile
import termios

BUILD_DIR = os.environ["BUILD_DIR"]
AGENT = os.path.join(BUILD_DIR, "agent/ipipdirectd")
# With no more system calls than the unit allows: another one kills.
FILTER = [os.path.join(BUILD_DIR, "tests", name) for name in ("filtered", "allowed-calls")]
FILTERED = [*FILTER, AGENT]
CTL = os.path.join(BUILD_DIR, "tools/ipipdirectctl")
PINS = "/sys/fs/bpf/ipipdirect"
FLAG_PRIVATE_SOURCE = 1 << 8  # schema/maps.h

SETUP = """
set -e
mount -t tmpfs tmpfs /run
# A test that unmounts the one below must not find the machine's own.
while [ "$(stat -f -c %T /sys/fs/bpf)" = bpf_fs ]; do umount /sys/fs/bpf; done
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
ip link add wan type veth peer name gateway
ip addr add 198.18.0.2/24 dev wan
ip link set gateway up
ip link set wan up
# Nothing for the offload guard to do, unless a test turns it on.
ethtool -K wan tx-ipxip4-segmentation off
ip route add default via 198.18.0.1
echo ready
exec cat
"""

# What decides how output looks is set by the test, not by who runs it.
ENVIRONMENT = {key: value for key, value in os.environ.items()
               if key not in ("COLUMNS", "NO_COLOR", "TERM", "RUNTIME_DIRECTORY", "LC_ALL", "LANG")}
ENVIRONMENT["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"


def ctl_outside(*args, env=None, **options):
    """ipipdirectctl as it is, for what touches nothing."""
    return subprocess.run([CTL, *args], capture_output=True, text=True, timeout=30, check=False,
                          env={**ENVIRONMENT, **(env or {})}, **options)


# BPF_PROG_QUERY for BPF_TCX_EGRESS: the bpftool of Debian 12 does not know TCX, and shows nothing of it.
QUERY_TCX = """
import ctypes, socket, struct, sys
attr = ctypes.create_string_buffer(struct.pack("=IIIIQI", socket.if_nametoindex(sys.argv[1]), 47, 0, 0, 0, 0), 64)
r = ctypes.CDLL(None, use_errno=True).syscall(321, 16, attr, 64)
count = struct.unpack_from("=I", attr, 24)[0]
print(count if r == 0 or count > 0 else 0)
"""


def n_possible_cpus():
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:
        last = file.read().strip().replace(",", "-").rsplit("-", 1)[-1]
    return int(last) + 1


def hexed(data):
    return ["hex", *(f"{byte:02x}" for byte in data)]


CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def enter_namespace(path, kind):
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if LIBC.setns(fd, kind):
            raise OSError(ctypes.get_errno(), f"setns {path}")
    finally:
        os.close(fd)


class Sandbox:
    def __init__(self):
        self.agent = None
        self.log = tempfile.NamedTemporaryFile("w+", encoding="utf-8")
        self.started = []
        self.holder = subprocess.Popen(
            ["unshare", "--mount", "--net", "--propagation", "private", "--pid", "--fork", "--mount-proc", "sh", "-c", SETUP],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
        assert self.holder.stdout.readline() == "ready\n", "the sandbox cannot be made"

    def close(self):
        ended = self.agent.poll() if self.agent else None
        # The first process of the namespace ends when the last of the others has been waited for.
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait(30)
        self.holder.stdin.close()
        self.holder.wait(30)
        self.holder.stdout.close()
        self.log.close()
        assert ended is None, f"the agent ended by itself, with {ended}"

    @contextlib.contextmanager
    def as_parent(self):
        """What this thread starts is born in the sandbox, so that at no moment an agent there sees another namespace by it."""
        place, home = f"/proc/{self.holder.pid}/ns", "/proc/thread-self/ns"
        outside = os.open(f"{home}/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter_namespace(f"{place}/net", CLONE_NEWNET)
            enter_namespace(f"{place}/pid_for_children", CLONE_NEWPID)
            yield
        finally:
            enter_namespace(f"{home}/pid", CLONE_NEWPID)
            enter_namespace(f"/proc/self/fd/{outside}", CLONE_NEWNET)
            os.close(outside)

    def enter(self, *command):
        return ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "--", *command]

    def start(self, *command, env=None, **options):
        """A process there; its pid is the one that it has outside."""
        with self.as_parent():
            process = subprocess.Popen(self.enter(*command), env={**ENVIRONMENT, **(env or {})}, **options)
        self.started.append(process)
        return process

    def run(self, *command, env=None, **options):
        options = {"capture_output": True, "text": True, "check": False, "timeout": 60, **options}
        with self.as_parent():
            return subprocess.run(self.enter(*command), env={**ENVIRONMENT, **(env or {})}, **options)

    @staticmethod
    def pid_inside(process):
        """As the sandbox numbers what start() made."""
        with open(f"/proc/{process.pid}/status", encoding="utf-8") as file:
            return int(next(line for line in file if line.startswith("NSpid:")).split()[-1])

    def do(self, *command):
        """Part of the set-up: must succeed."""
        done = self.run(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def ctl(self, *args, **options):
        return self.run(CTL, *args, **options)

    def ctl_json(self, *args, **options):
        """(exit status, document); nothing else may be printed."""
        done = self.ctl("-j", *args, **options)
        assert done.stderr == ""
        return done.returncode, json.loads(done.stdout)

    def ctl_as_nobody(self, *args):
        return self.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", CTL, *args)

    def once(self, *args):
        """A pass of the real agent: program loaded and attached, maps pinned, status written."""
        self.do(*FILTERED, "--once", *args)

    def start_agent(self, *options, command=FILTERED):
        with tempfile.TemporaryDirectory() as directory:
            path = f"{directory}/notify"
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
                notify.bind(path)
                notify.settimeout(60)
                self.agent = self.start(*command, *options, stderr=self.log, env={"NOTIFY_SOCKET": path})
                while "READY=1" not in notify.recv(4096).decode().split("\n"):
                    pass

    def logged(self):
        """What agents have said so far."""
        return pathlib.Path(self.log.name).read_text(encoding="utf-8")

    def stop_agent(self, number=signal.SIGTERM):
        """What is pinned goes on without it, and hides from all but this that it was gone already."""
        agent, self.agent = self.agent, None
        agent.send_signal(number)
        expected = 0 if number == signal.SIGTERM else -number
        assert agent.wait(30) == expected, f"the agent ended with {agent.returncode}"

    def exists(self, path):
        return self.run("test", "-e", path).returncode == 0

    def is_attached(self, name="wan"):
        """Whether any program is on the egress of the interface, by what the kernel says."""
        filters = self.do("tc", "filter", "show", "dev", name, "egress")
        return "bpf" in filters or int(self.do("/usr/bin/python3", "-c", QUERY_TCX, name)) > 0

    def ifindex(self, name="wan"):
        return json.loads(self.do("ip", "-j", "link", "show", "dev", name))[0]["ifindex"]

    # What the agent would write, written by hand: this kernel need not have ipip.

    def add_row(self, remote, game_server_ip, *, slot, inner_source=None, flags=0, mode=0):
        key = socket.inet_aton(remote)
        if inner_source:
            key += socket.inet_aton(inner_source)
        value = socket.inet_aton(game_server_ip or "0.0.0.0") + struct.pack("=IHBxxxxx", slot, flags, mode)
        self.do("bpftool", "map", "update", "pinned", f"{PINS}/v1/{'sources' if inner_source else 'remotes'}",
                "key", *hexed(key), "value", *hexed(value))

    def add_rows(self):
        """One of each kind, in slots 1 to 3, for tunnels of the example of a status."""
        self.add_row("203.0.113.10", "203.0.113.10", slot=1, flags=FLAG_PRIVATE_SOURCE)
        self.add_row("192.0.2.1", None, slot=2, flags=1)
        self.add_row("192.0.2.1", "198.51.100.30", slot=3, inner_source="198.51.100.30", mode=1)

    def add_counted_rows(self):
        self.add_rows()
        self.count(0, kept={0: 7, 18: 2})
        self.count(1, packets=100, size=150000, kept={4: 2, 11: 3000, 14: 1})
        self.count(3, kept={2: 40})

    def count(self, slot, packets=0, size=0, kept=()):
        """`packets` and `size` a CPU; `kept`: {reason number: packets}."""
        numbers = [dict(kept).get(i, 0) for i in range(32)]
        key = hexed(struct.pack("=I", slot))
        self.do("bpftool", "map", "update", "pinned", f"{PINS}/v1/counters",
                "key", *key, "value", *hexed(struct.pack("=QQ", packets, size)))
        self.do("bpftool", "map", "update", "pinned", f"{PINS}/v1/kept",
                "key", *key, "value", *hexed(struct.pack("=32Q", *numbers)))

    def write(self, path, text):
        done = self.run("sh", "-c", 'mkdir -p "$(dirname "$0")" && cat > "$0"', path, input=text)
        assert done.returncode == 0, done.stderr

    def write_status(self, document):
        self.write("/run/ipipdirect/status.json", json.dumps(document))

    def read_status(self):
        return json.loads(self.do("cat", "/run/ipipdirect/status.json"))

    def hold_lock(self):
        """Stands for an agent that runs. Ends with its stdin."""
        self.do("mkdir", "-p", "/run/ipipdirect")
        holder = self.start("flock", "--exclusive", "/run/ipipdirect/agent.lock", "flock", "--exclusive",
                            "/run/ipipdirect/lock", "sh", "-c", "echo held; exec cat",
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert holder.stdout.readline() == "held\n"
        return holder

    def ctl_on_terminal(self, *args, columns=80, env=None):
        """(exit status, bytes) of a run whose stdout and stderr are a terminal."""
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        with self.start(CTL, *args, stdin=theirs, stdout=theirs, stderr=theirs, env={"TERM": "xterm", **(env or {})}) as process:
            os.close(theirs)
            output = b""
            while True:
                try:
                    data = os.read(ours, 65536)
                except OSError:  # EIO: the other side is closed
                    break
                if not data:
                    break
                output += data
        os.close(ours)
        return process.returncode, output
