# SPDX-License-Identifier: MIT
"""A small internet around this machine: clients, gateway, POPs, host and game namespaces:

    client ── gateway ── host (this network namespace: the agent runs here)
                 │         ├── game namespace g1: tunnel to its POP
               pop 1..     └── game namespace g2 …

What is outside the host lives in namespaces that only a mount namespace of its own knows by name, so
that /run/netns here holds the game namespaces and nothing else, as on a real host.

Addresses: clients 198.51.100.0/24, host 192.0.2.10 behind the gateway 192.0.2.1, POP n at 198.18.n.2,
game server g n has the public address 203.0.113.n; underlay of its namespace 10.9.n.2.

POPs are stateless, as in the field: nftables rewrites addresses, an ipip device wraps (no conntrack,
which would call one-way TCP invalid).
"""

import collections
import contextlib
import itertools
import json
import os
import subprocess
import time

import kernel

STANDSTILL = 0.5  # seconds that a look at a condition counts for at most
CLIENT, CLIENT_GATEWAY = "198.51.100.2", "198.51.100.1"
HOST, GATEWAY = "192.0.2.10", "192.0.2.1"


def public_ip(n):
    return f"203.0.113.{n}"


def pop_ip(n):
    return f"198.18.{n}.2"


def wait_for(condition, what, seconds=10.0):
    """Calls until it returns something true, and returns that. The seconds are those in which the machine ran: when it
    stands still so does what is waited for, and that is not to blame."""
    left, last = seconds, time.monotonic()
    for delay in itertools.chain([0.001] * 20, [0.005] * 50, itertools.repeat(0.02)):
        result = condition()
        if result:
            return result
        if left <= 0:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(delay)
        now = time.monotonic()
        left -= min(now - last, STANDSTILL)
        last = now


def run(*argv, check=True, text_in=None):
    return subprocess.run(argv, check=check, text=True, input=text_in, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT if not check else None).stdout


class Outside:
    """The mount namespace in which client, gateway and POPs have their names."""

    def __init__(self):
        self.holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c",
             "mount -t tmpfs none /run && mkdir -p /run/netns && echo up && exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout.readline() == "up\n"
        self.fds = {}

    def run(self, *argv, text_in=None):
        return run("nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "--", *argv,
                   text_in=text_in)

    def batch(self, netns, *lines):
        self.run("ip", "-n", netns, "-batch", "-", text_in="\n".join(lines) + "\n")

    def nft(self, netns, rules):
        self.run("ip", "netns", "exec", netns, "nft", "-f", "-", text_in=rules)

    def nft_counters(self, netns):
        out = self.run("ip", "netns", "exec", netns, "nft", "-j", "list", "counters")
        return {c["counter"]["name"]: c["counter"]["packets"]
                for c in json.loads(out)["nftables"] if "counter" in c}

    def netns_fd(self, netns):
        if netns not in self.fds:
            self.fds[netns] = os.open(f"/proc/{self.holder.pid}/root/run/netns/{netns}", os.O_RDONLY)
        return self.fds[netns]

    def close(self):
        for fd in self.fds.values():
            os.close(fd)
        self.holder.stdin.close()
        self.holder.wait()


# 4 is IPIP as in RFC 2003; what /etc/protocols calls ipip is 94.
GATEWAY_RULES = """
table ip count {
    counter host_ipip { }
    counter host_direct { }
    counter host_other { }
    chain pre {
        type filter hook prerouting priority raw;
        iifname "host*" ip protocol 4 counter name host_ipip return
        iifname "host*" ip saddr 203.0.113.0/24 counter name host_direct return
        iifname "host*" counter name host_other
    }
}
"""

SYSCTLS = {"net.ipv4.ip_forward": 1, "net.ipv4.conf.all.rp_filter": 0,
           "net.ipv4.conf.default.rp_filter": 0,
           # A POP forwards packets from addresses that it holds itself.
           "net.ipv4.conf.all.accept_local": 1}


def sysctl_script(values):
    return " ".join(f"{key}={value}" for key, value in values.items()).split()


def rows_of(tunnels):
    """{(remote, inner source): game server IP}, as the maps should have it, of [(remote, address, game server IP)]. A row by remote
    alone has no inner source; where several share the remote, it has no game server IP, and each has a row of its own besides."""
    by_remote = collections.defaultdict(dict)
    for remote, address, game_server_ip in tunnels:
        by_remote[remote][address] = game_server_ip
    rows = {}
    for remote, found in by_remote.items():
        rows[remote, None] = None if len(found) > 1 else next(iter(found.values()))
        if len(found) > 1:
            rows.update({(remote, address): game_server_ip for address, game_server_ip in found.items()})
    return rows


class World:
    """Everything but the agent. Use as a context manager: it takes apart what it made.

    models has a letter for each game server that it begins with, of the first POP."""

    def __init__(self, models="", pops=1):
        self.outside = Outside()
        self.cleanup = contextlib.ExitStack()
        self.servers = {}
        run("modprobe", "-a", "ipip", "veth")
        run("sysctl", "-qw", *sysctl_script(SYSCTLS))
        for netns in ["client", "gw", *(f"pop{n}" for n in range(1, pops + 1))]:
            self.outside.run("ip", "netns", "add", netns)
            self.outside.run("ip", "netns", "exec", netns, "sysctl", "-qw", *sysctl_script(SYSCTLS))
        self._make_client_and_host()
        for n in range(1, pops + 1):
            self._make_pop(n)
        self.outside.nft("gw", GATEWAY_RULES)
        self.outside.netns_fd("client")
        for n, model in enumerate(models, 1):
            self.add_server(n, model=model)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        for n in list(self.servers):
            self.remove_server(n)
        self.cleanup.close()
        self.outside.close()
        run("ip", "link", "delete", "eth0", check=False)

    def _make_client_and_host(self):
        host_ns = f"/proc/{os.getpid()}/ns/net"
        self.outside.batch(
            "gw", "link set lo up",
            "link add client type veth peer name eth0 netns client",
            f"address add {CLIENT_GATEWAY}/24 dev client", "link set client up",
            "link add host type veth peer name hostside",
            f"address add {GATEWAY}/24 dev host", "link set host up")
        self.outside.batch(
            "client", "link set lo up", f"address add {CLIENT}/24 dev eth0", "link set eth0 up",
            f"route add default via {CLIENT_GATEWAY}")
        self.outside.run("ip", "-n", "gw", "link", "set", "hostside", "name", "eth0", "netns",
                         str(os.getpid()))
        run("ip", "-batch", "-", text_in="\n".join([
            "link set lo up", f"address add {HOST}/24 dev eth0", "link set eth0 up",
            f"route replace default via {GATEWAY}"]) + "\n")
        self.outside.batch("gw", f"route add 10.9.0.0/16 via {HOST}")
        assert os.path.exists(host_ns)

    def move_uplink(self, device="eth0", gateway_device="host"):
        """The addresses of host and gateway, and the routes between them, go to other devices."""
        run("ip", "-batch", "-", text_in="\n".join([
            f"address flush to {HOST}/32", f"address add {HOST}/24 dev {device}",
            f"link set {device} up", f"route replace default via {GATEWAY}"]) + "\n")
        self.outside.batch(
            "gw", f"address flush to {GATEWAY}/32",
            f"address add {GATEWAY}/24 dev {gateway_device}", f"link set {gateway_device} up",
            f"route replace 10.9.0.0/16 via {HOST}")

    def _make_pop(self, n):
        self.outside.batch(
            "gw", f"link add pop{n} type veth peer name eth0 netns pop{n}",
            f"address add 198.18.{n}.1/24 dev pop{n}", f"link set pop{n} up")
        self.outside.batch(
            f"pop{n}", "link set lo up", f"address add {pop_ip(n)}/24 dev eth0", "link set eth0 up",
            f"route add default via 198.18.{n}.1")
        self.outside.nft(f"pop{n}", "table ip pop { chain pre { "
                         "type filter hook prerouting priority raw; }; }")

    def add_server(self, n, pop=1, model="A", netns=None):
        """A game namespace with its tunnel, and its POP's side of it. Returns its Server."""
        server = Server(self, n, pop, model, netns or f"g{n}")
        self.servers[n] = server
        server.make_namespace()
        server.make_pop_side()
        return server

    def remove_server(self, n):
        self.servers.pop(n).remove()

    def rows(self):
        return rows_of((server.remote, server.inner, server.public) for server in self.servers.values())

    def counters(self):
        """Packets that came from the host, as its gateway saw them: host_ipip, host_direct, …"""
        return self.outside.nft_counters("gw")

    def client_socket(self, *args):
        return kernel.socket_in(self.outside.netns_fd("client"), *args)


class Server:
    """One game server's namespace, of model A, B or C (docs/OPERATING.md, Which kind of POP). In model B the address that it is
    bound to is the host's, which the test gives to the host, too."""

    def __init__(self, world, n, pop, model, netns):
        assert model in ("A", "B", "C")
        self.world, self.n, self.pop, self.model, self.netns = world, n, pop, model, netns
        self.public = public_ip(n)
        self.underlay = f"10.9.{n}.2"
        self.remote = self.public if model != "C" else pop_ip(pop)
        self.inner = {"A": f"10.0.{n}.2", "B": f"198.51.100.{n}", "C": self.public}[model]
        self.fd = None

    def make_namespace(self):
        n = self.n
        run("ip", "netns", "add", self.netns)
        run("ip", "-batch", "-", text_in="\n".join([
            f"link add v{n} type veth peer name eth0 netns {self.netns}",
            f"address add 10.9.{n}.1/24 dev v{n}", f"link set v{n} up"]) + "\n")
        run("ip", "-n", self.netns, "-batch", "-", text_in="\n".join([
            "link set lo up", f"address add {self.underlay}/24 dev eth0", "link set eth0 up",
            f"route add {self.remote} via 10.9.{n}.1",
            f"link add tun0 type ipip remote {self.remote} local {self.underlay}",
            f"address add {self.inner}/32 dev tun0", "link set tun0 up",
            "route add default dev tun0"]) + "\n")
        run("ip", "netns", "exec", self.netns, "sysctl", "-qw", *sysctl_script(SYSCTLS))
        self.fd = os.open(f"/run/netns/{self.netns}", os.O_RDONLY)

    def make_pop_side(self):
        outside, pop, n = self.world.outside, f"pop{self.pop}", self.n
        lines = []
        if self.model != "C":
            # The public address is the outer source, so it must be the POP's own.
            lines.append(f"address add {self.public}/32 dev lo")
        lines += [
            f"link add t{n} type ipip remote {self.underlay} "
            f"local {self.remote}", f"link set t{n} up", f"route add {self.inner} dev t{n}"]
        outside.batch(pop, *lines)
        if self.model != "C":
            outside.nft(pop, f"add rule ip pop pre iifname eth0 ip protocol != 4 "
                             f"ip daddr {self.public} ip daddr set {self.inner}\n"
                             f"add rule ip pop pre iifname t{n} ip saddr {self.inner} "
                             f"ip saddr set {self.public}\n")
        outside.batch("gw", f"route add {self.public} via {pop_ip(self.pop)}")

    def release(self):
        """Lets go of the namespace: an open file would keep it alive."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def remove(self):
        self.release()
        run("ip", "netns", "delete", self.netns, check=False)
        outside, pop = self.world.outside, f"pop{self.pop}"
        outside.batch("gw", f"route delete {self.public}")
        outside.batch(pop, f"link delete t{self.n}")
        if self.model != "C":
            outside.batch(pop, f"address delete {self.public}/32 dev lo")
            outside.nft(pop, "flush chain ip pop pre\n")  # servers are removed together

    def socket(self, *args):
        return kernel.socket_in(self.fd, *args)
