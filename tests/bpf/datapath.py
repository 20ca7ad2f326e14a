# SPDX-License-Identifier: MIT
"""What the datapath tests stand on: a network namespace, the program runner in it, the contract's numbers.

The namespace has the interface `uplink` with a gateway, a neighbour on-link and one that does not answer; its
other end is `wire`. Nothing here knows what the program ought to do; that is oracle.py.
"""

import ctypes
import json
import os
import pathlib
import re
import secrets
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRUN = os.environ.get("IPIPDIRECT_PROGRUN", str(ROOT / "build/tests/bpf/progrun"))

TC_ACT_UNSPEC = -1
MODE_DIRECT, MODE_SHADOW, MODE_TUNNEL = range(3)
FLAG_SHARED = 1
FLAG_EXEMPT = {0x49: 1 << 1, 0x41: 1 << 2, 0x44: 1 << 3, 0x45: 1 << 4}  # by the letter that it exempts
FLAG_SERVER_PORTS, FLAG_EXEMPT_CLIENTS, FLAG_OWN_SOURCE, FLAG_PRIVATE_SOURCE = 1 << 5, 1 << 6, 1 << 7, 1 << 8
SLOT_NONE = 0

# The namespace.
UP_MAC, WIRE_MAC = "02:00:00:00:01:02", "02:00:00:00:01:99"
GATEWAY_MAC, NEIGHBOUR_MAC = "02:00:00:00:01:01", "02:00:00:00:01:77"
POP_MAC = "02:00:00:00:01:88"  # of the next hop the tunnel chose; no direct packet goes there
HOST = "198.51.100.2"
GATEWAY, NEIGHBOUR, STRANGER = "198.51.100.1", "198.51.100.77", "198.51.100.99"
BLACKHOLE, UNREACHABLE = "198.18.0.201", "198.18.0.202"
NETWORK = "198.51.100.0/24"
ROUTES = (NETWORK, f"{HOST}/32", f"{BLACKHOLE}/32", f"{UNREACHABLE}/32")  # all but the default one


def as_bytes(mac):
    return bytes.fromhex(mac.replace(":", ""))


def read_reasons():
    """{name: number} of enum maps_reason, from the contract itself."""
    text = (ROOT / "schema/maps.h").read_text()
    names = re.findall(r"^\s*MAPS_((?:KEPT|DROP)_\w+)\s*=\s*(\d+)", text, re.M)
    return {name: int(number) for name, number in names}


REASONS = read_reasons()
REASON_NAMES = {number: name for name, number in REASONS.items()}


class Namespace:
    """A network namespace of its own name, gone when closed."""

    def __init__(self):
        self.note = lambda question, answer: None  # or that of a transcript.Recorder
        self.name = f"ipipdirect-bpf-{os.getpid()}-{secrets.token_hex(3)}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        try:
            self._fill()
        except BaseException:
            self.close()
            raise

    def _fill(self):
        # Or interfaces would speak unasked.
        self.sysctl("net/ipv6/conf/default/disable_ipv6", 1)
        self.batch(f"""
            link set lo up
            link add uplink address {UP_MAC} type veth peer name wire address {WIRE_MAC}
            link set uplink up
            link set wire up
            addr add {HOST}/24 dev uplink
            route add default via {GATEWAY} dev uplink
            route add blackhole {BLACKHOLE}
            route add unreachable {UNREACHABLE}
            neigh add {GATEWAY} lladdr {GATEWAY_MAC} dev uplink nud permanent
            neigh add {NEIGHBOUR} lladdr {NEIGHBOUR_MAC} dev uplink nud permanent
        """)
        # bpf_fib_lookup() answers only on interfaces that forward, as a game host's do.
        self.sysctl("net/ipv4/ip_forward", 1)

    def batch(self, commands):
        self.note(f"ip {commands.encode().hex()}", "{}\n")
        subprocess.run(["ip", "-n", self.name, "-batch", "-"], input=commands, text=True, check=True)

    def sysctl(self, path, value):
        self.note(f"sysctl {path} {value}", "{}\n")
        self.run("sh", "-c", f"echo {value} > /proc/sys/{path}")

    def command(self, *argv):
        return ["ip", "netns", "exec", self.name, *argv]

    def run(self, *argv):
        return subprocess.run(self.command(*argv), check=True, text=True, stdout=subprocess.PIPE).stdout

    def enter(self):
        """Move this thread in; returns a function that moves it back."""
        libc = ctypes.CDLL(None, use_errno=True)
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY)

        def switch(fd):
            if libc.setns(fd, 0x40000000):  # CLONE_NEWNET
                raise OSError(ctypes.get_errno(), "setns")
            os.close(fd)

        switch(there)
        return lambda: switch(home)

    def close(self):
        subprocess.run(["ip", "netns", "del", self.name], check=False)


class Refused(Exception):
    """The kernel would not do it; args[0] is the errno."""


def flags_of(entry):
    flags = FLAG_SHARED if entry.shared else 0
    flags |= FLAG_SERVER_PORTS if entry.ports is not None else 0
    flags |= FLAG_EXEMPT_CLIENTS if entry.exempt_clients else 0
    flags |= FLAG_OWN_SOURCE if entry.own_source else 0
    flags |= FLAG_PRIVATE_SOURCE if entry.private_source else 0
    return flags | sum(FLAG_EXEMPT[letter] for letter in entry.exempt)


class Runner:
    """tests/bpf/progrun.c in a namespace; see there for the protocol."""

    def __init__(self, namespace, note=lambda question, answer: None):
        self.note = note  # of transcript.Recorder
        self.agent = False
        self.process = subprocess.Popen(
            namespace.command(PROGRUN), text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, *words):
        question = " ".join(map(str, words))
        self.process.stdin.write(question + "\n")
        line = self.process.stdout.readline()
        assert line, f"progrun died at: {words[0]}"
        self.note(question, line)
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"], words[0])
        return answer

    def configure(self, config, agent=False):
        """Make the maps what an oracle.Config says; with an agent, those that only an agent has too."""
        self.ask("clear")
        self.ask("alive", int(agent))
        self.agent = agent
        if agent:
            self.ask("uplink", "uplink", GATEWAY, ",".join(ROUTES))
        for remote, entry in config.remotes.items():
            self.ask("remote", remote, entry.game_server_ip, entry.slot, entry.mode,
                     flags_of(entry), entry.key or remote)
            self.configure_ports(entry)
        for (remote, source), entry in config.sources.items():
            self.ask("source", remote, source, entry.game_server_ip, entry.slot, entry.mode,
                     flags_of(entry), entry.key or source)
            self.configure_ports(entry)
        for prefix in config.exempt_clients:
            self.ask("client", *prefix.split("/"))

    def configure_ports(self, entry):
        if entry.ports:
            self.ask("ports", entry.slot, ",".join(f"{first}-{last}" for first, last in entry.ports))

    def run(self, frame, program="direct", gso_segs=0, gso_size=0):
        """(verdict, frame, counted).

        `counted` is {(slot, reason name): packets, (slot, "direct"): (packets, bytes)}.

        With an agent, a frame that the tunnel addressed to a POP's own next hop goes to the gateway's MAC
        instead: it is the way of fast(). What stays on the tunnel is given back as it came.
        """
        sent = frame
        if self.agent and frame[:6] == as_bytes(POP_MAC):
            sent = as_bytes(GATEWAY_MAC) + frame[6:]
        answer = self.ask("run", program, "uplink", gso_segs, gso_size, sent.hex())
        out = bytes.fromhex(answer["out"])
        return answer["verdict"], frame if out == sent else out, counted(answer)

    def counters(self):
        return counted(self.ask("counters"))

    def attach(self, program, interface):
        self.ask("attach", program, interface)

    def instructions(self):
        return self.ask("instructions")

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)


def counted(answer):
    result = {}
    for slot, (packets, size) in answer["direct"].items():
        result[int(slot), "direct"] = (packets, size)
    for slot, reasons in answer["kept"].items():
        for reason, packets in reasons.items():
            result[int(slot), REASON_NAMES[int(reason)]] = packets
    return result
