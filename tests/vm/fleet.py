# SPDX-License-Identifier: MIT
"""Many namespaces with a tunnel each, changed by netlink: a process a change would be the slowest part in a VM. Few are
changed from here, one by one; churn.c changes many, fast."""

import collections
import json
import os
import socket
import struct
import subprocess
import threading
import time

import agent
import kernel
import topology

UNDERLAY = "192.0.2.10"
RTM_NEWLINK, NLM_F_REQUEST, NLM_F_ACK = 16, 1, 4
IFF_UP = 1
IFLA_LINKINFO, IFLA_INFO_KIND, IFLA_INFO_DATA = 18, 1, 2
IFLA_IPTUN_LOCAL, IFLA_IPTUN_REMOTE = 2, 3
CHURN = os.path.join(agent.BUILD_DIR, "tests/vm/churn")
FIRST_REMOTE = 45 << 24  # public, and each is given once


def attribute(number, data):
    return struct.pack("=HH", 4 + len(data), number) + data + b"\0" * (-len(data) % 4)


def dotted(number):
    return socket.inet_ntoa(number.to_bytes(4, "big"))


class Fleet:
    """Namespaces s0, s1 ... with a tunnel z0, z1 ..., and an uplink of the host's if it has none."""

    def __init__(self, size, prefix="s", uplink=True, first_remote=FIRST_REMOTE):
        self.size, self.prefix, self.uplink = size, prefix, uplink
        self.next_remote = first_remote
        self.seed = 0
        self.remotes = {}
        self.addresses = {}  # of those that hold a public one
        self.sockets = {}
        topology.run("modprobe", "-a", "ipip", "dummy")
        # Grace periods are most of the time that it takes to delete a device.
        with open("/sys/kernel/rcu_expedited", "w", encoding="ascii") as file:
            file.write("1")
        if uplink:
            topology.run("ip", "-batch", "-", text_in=f"""
                link add name eth0 type dummy
                link set eth0 up
                address add {UNDERLAY}/24 dev eth0
                route add default via 192.0.2.1
            """)
        self.create(range(size))

    def take_remote(self):
        self.next_remote += 1
        return dotted(self.next_remote)

    def name(self, n):
        return f"{self.prefix}{n}"

    def create(self, numbers):
        """Tunnels are made where they stay: moving each there would take twice as long."""
        lines = []
        for n in numbers:
            self.remotes[n] = self.take_remote()
            lines += [f"netns add {self.name(n)}",
                      f"link add name z{n} netns {self.name(n)} type ipip "
                      f"remote {self.remotes[n]} local {UNDERLAY}"]
        topology.run("ip", "-batch", "-", text_in="\n".join(lines) + "\n")

    def fill(self, each):
        """So many more tunnels in each namespace, which stay as they are. Returns their remotes."""
        made = []
        for n in sorted(self.remotes):
            remotes = [self.take_remote() for _ in range(each)]
            topology.run("ip", "-n", self.name(n), "-batch", "-", text_in="".join(
                f"link add name f{i} type ipip remote {remote} local {UNDERLAY}\n" for i, remote in enumerate(remotes)))
            made += remotes
        return made

    def delete(self, numbers):
        for n in numbers:
            if n in self.sockets:
                self.sockets.pop(n)[0].close()
            del self.remotes[n]
            self.addresses.pop(n, None)
        topology.run("ip", "-batch", "-", text_in="".join(f"netns delete {self.name(n)}\n" for n in numbers))

    def socket_of(self, n):
        """(netlink socket in the namespace, ifindex of its tunnel)"""
        if n not in self.sockets:
            fd = os.open(f"/run/netns/{self.name(n)}", os.O_RDONLY)
            try:
                with kernel.inside(fd):
                    index = socket.if_nametoindex(f"z{n}")
                    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
            finally:
                os.close(fd)
            self.sockets[n] = made, index
        return self.sockets[n]

    def set_link(self, n, flags=0, change=0, attributes=b""):
        sender, index = self.socket_of(n)
        body = struct.pack("=BxHiII", 0, 0, index, flags, change) + attributes
        sender.send(struct.pack("=IHHII", 16 + len(body), RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0) + body)
        error, = struct.unpack_from("=i", sender.recv(4096), 16)
        assert error == 0, os.strerror(-error)

    def change(self, n, remote=None):
        """Gives the tunnel another remote; returns it."""
        remote = remote or self.take_remote()
        data = (attribute(IFLA_IPTUN_LOCAL, socket.inet_aton(UNDERLAY))
                + attribute(IFLA_IPTUN_REMOTE, socket.inet_aton(remote)))
        info = attribute(IFLA_INFO_KIND, b"ipip\0") + attribute(IFLA_INFO_DATA, data)
        self.set_link(n, attributes=attribute(IFLA_LINKINFO, info))
        self.remotes[n] = remote
        return remote

    def give_addresses(self, numbers):
        """A public address each: they may share a remote from here on."""
        for n in numbers:
            self.addresses[n] = self.take_remote()
            topology.run("ip", "-n", self.name(n), "address", "add", f"{self.addresses[n]}/32", "dev", f"z{n}")

    def rows(self):
        """As topology.rows_of()."""
        return topology.rows_of((remote, self.addresses.get(n, remote), self.addresses.get(n, remote))
                                for n, remote in self.remotes.items())

    def set_up(self, numbers):
        """A tunnel that is down is changed without an event."""
        for n in numbers:
            self.set_link(n, IFF_UP, IFF_UP)

    def churn(self, changes, rate=0, kinds="rrrraaaauuuc", timed=False, size=None):
        """Starts churn.c for the first `size` tunnels; `end()` has its report. Their remotes are not known here after."""
        self.seed += 1
        arguments = [self.prefix, size or self.size, changes, rate, kinds, self.seed, self.next_remote + 1]
        if timed:
            arguments.append(f"{agent.PINS}/v1/remotes")
        return subprocess.Popen([CHURN, *map(str, arguments)], stdout=subprocess.PIPE, text=True)

    def end(self, process):
        out, _ = process.communicate()
        assert process.returncode == 0, "churn failed"
        report = json.loads(out)
        self.next_remote = report["next_remote"]
        return report

    def close(self):
        for opened, _ in self.sockets.values():
            opened.close()
        self.delete(list(self.remotes))
        if self.uplink:
            topology.run("ip", "link", "delete", "eth0")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


class Pairs(Fleet):
    """Two pairs of tunnels, p0 and p1, p2 and p3. Always one pair has a remote in common."""

    def __init__(self):
        super().__init__(4, "p", uplink=False, first_remote=FIRST_REMOTE + (1 << 20))
        self.give_addresses(range(4))
        self.set_up(range(4))
        self.swap()

    def swap(self):
        """One pair comes to share a remote, the other, if it did, to do so no more."""
        joins, leaves = (0, 2) if self.remotes[0] != self.remotes[1] else (2, 0)
        self.change(joins + 1, self.remotes[joins])
        if self.remotes[leaves] == self.remotes[leaves + 1]:
            self.change(leaves + 1)


def is_private(address):
    return address.startswith("10.")  # those that tests use


def oracle():
    """What the maps should hold, as topology.rows_of(), from iproute2's word alone. It shares no code with the agent."""
    found = []
    for name in sorted(os.listdir("/run/netns")):
        fd = os.open(f"/run/netns/{name}", os.O_RDONLY)
        with kernel.inside(fd):
            out = subprocess.run(["ip", "-j", "-d", "address", "show", "type", "ipip"],
                                 check=True, stdout=subprocess.PIPE).stdout
        os.close(fd)
        for link in json.loads(out):
            remote = link.get("linkinfo", {}).get("info_data", {}).get("remote", "any")
            held = [a["local"] for a in link.get("addr_info", []) if a["family"] == "inet" and not is_private(a["local"])]
            if remote != "any":
                found += [(remote, address, address) for address in held[:1] or [remote]]
    return topology.rows_of(found)


class Churn(threading.Thread):
    """Changes a fleet at random while it is `on`: new remotes, shared ones, namespaces that go, namespaces that come."""

    def __init__(self, ships, pairs, rng, per_second=20):
        super().__init__(daemon=True)
        self.ships, self.pairs, self.rng, self.interval = ships, pairs, rng, 1 / per_second
        self.on, self.is_idle, self.ending = threading.Event(), threading.Event(), False
        self.done = collections.Counter()
        self.failure = None
        self.next_number = ships.size
        self.start()

    def change_one(self):
        present = sorted(self.ships.remotes)
        what = self.rng.choices(["change", "share", "create", "delete"], [4, 2, 2, 2])[0]
        if len(present) <= self.ships.size // 2:
            what = "create"
        elif len(present) >= 2 * self.ships.size:
            what = "delete"
        if what == "change":
            self.ships.change(self.rng.choice(present))
        elif what == "share":
            self.pairs.swap()
        elif what == "create":
            self.ships.create([self.next_number])
            self.ships.set_up([self.next_number])
            self.next_number += 1
        else:
            self.ships.delete([self.rng.choice(present)])
        self.done[what] += 1

    def run(self):
        try:
            while not self.ending:
                if not self.on.is_set():
                    self.is_idle.set()
                    self.on.wait()
                    continue
                self.change_one()
                time.sleep(self.interval)
        except Exception as failure:  # pylint: disable=broad-except
            self.failure = failure
            self.is_idle.set()

    def go(self):
        self.is_idle.clear()
        self.on.set()

    def pause(self):
        """Returns when nothing changes any more."""
        self.on.clear()
        assert self.is_idle.wait(30), "a change takes long"
        if self.failure:
            raise self.failure

    def close(self):
        self.ending = True
        self.go()
        self.join(30)
