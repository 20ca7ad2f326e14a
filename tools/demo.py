#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What `tools/demo` shows: clients, POPs and game servers, before and after the agent starts.

It lives in a network and a mount namespace that it makes first, with a /run and a bpffs of its own:
what it does is out of sight for the machine around it, and gone when it ends, however it ends.
Everything it claims it has measured; it exits with 1 if anything is not as it says.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import textwrap
import time
import typing

sys.dont_write_bytecode = True  # root would leave its files in somebody's clone
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "vm"))

import agent
import kernel
import topology
import traffic

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000

POPS = {1: 30, 2: 60}  # number: milliseconds there and back
# name, POP, model (A: the remote is the public address; C: the device holds it)
SERVERS = (("minecraft", 1, "A"), ("rust", 1, "C"), ("valheim", 2, "C"), ("factorio", 2, "C"))
REQUESTS = 10  # to each server
TCP_BYTES = 4_000_000
AGENT_LOG = pathlib.Path("/run/agent.log")

PICTURE = """
             request                      IPIP tunnel
  client ---------------> POP 1, {ms1} ms ==================> host: {servers} game servers,
   ^  ^                   POP 2, {ms2} ms                     |  each in a network
   |  |                                                    |  namespace
   |  '--- reply {before} --- POP 1, 2 <=====================|
   |                                                       |
   '------ reply {after} ------------------------------------'
"""

problems = []


class Style:
    """Colours, or none."""

    def __init__(self, color):
        self.color = color

    def __call__(self, code, text):
        return f"\033[{code}m{text}\033[0m" if self.color else text

    def bold(self, text):
        return self("1", text)

    def good(self, text):
        return self("32", text)

    def bad(self, text):
        return self("31", text)


def say(text=""):
    print(text, flush=True)


def expect(true, claim):
    """A claim of the demo; one that does not hold is shown and remembered."""
    if not true:
        problems.append(claim)


def enclose():
    """Namespaces for all that follows. The machine's own configuration stays outside as well."""
    kernel.check(kernel.libc.unshare(CLONE_NEWNS | CLONE_NEWNET))

    def mount(*argv):
        subprocess.run(["mount", "--no-mtab", *argv], check=True)

    mount("--make-rprivate", "/")
    mount("-t", "tmpfs", "-o", "mode=755", "demo", "/run")
    mount("-t", "sysfs", "demo", "/sys")
    mount("-t", "bpf", "-o", "mode=700", "demo", "/sys/fs/bpf")
    os.mkdir("/run/netns")
    if os.path.isdir("/etc/ipipdirect"):
        mount("-t", "tmpfs", "demo", "/etc/ipipdirect")


class Row(typing.NamedTuple):
    """What was measured of one server."""
    median: float  # round trips, in ms
    best: float
    pop: int  # replies seen at the gateway
    direct: int


class Scene:
    """The world of the VM tests with POPs at a distance, and counters of its own at the gateway."""

    def __init__(self):
        self.world = topology.World(pops=len(POPS))
        for pop, ms in POPS.items():
            for netns, device in (("gw", f"pop{pop}"), (f"pop{pop}", "eth0")):
                self.world.outside.run("ip", "netns", "exec", netns, "tc", "qdisc", "add", "dev",
                                       device, "root", "netem", "delay", f"{ms / 2}ms")
        self.servers = [self.world.add_server(n, pop, model, name)
                        for n, (name, pop, model) in enumerate(SERVERS, 1)]
        self.answering = [traffic.UdpServer(server) for server in self.servers]
        self.world.outside.nft("gw", self.rules())
        self.client = traffic.udp_client(self.world)

    def rules(self):
        # What leaves a namespace's tunnel has its underlay address outside; 4 is IPIP.
        lines = ["chain pre { type filter hook prerouting priority -301;"]
        for server in self.servers:
            lines.insert(0, f"counter pop{server.n} {{ }}\ncounter direct{server.n} {{ }}")
            lines += [f'iifname "host" ip protocol 4 ip saddr {server.underlay} '
                      f"counter name pop{server.n}",
                      f'iifname "host" ip protocol != 4 ip saddr {server.public} '
                      f"counter name direct{server.n}"]
        return "table ip demo {\n" + "\n".join(lines) + "\n}\n}\n"

    def ask(self, server, data):
        """One request; the seconds until its reply, which must be right."""
        began = time.monotonic()
        answer, peer = traffic.udp_ask(self.client, server.public, data)
        seconds = time.monotonic() - began
        expect(answer == data and peer == (server.public, traffic.PORT),
               f"{server.netns}: a reply was wrong: {answer!r} from {peer}")
        return seconds

    def measure(self, requests=REQUESTS):
        """{server number: Row}"""
        before = self.world.counters()
        times = {server.n: [self.ask(server, f"{server.netns} {i}".encode())
                            for i in range(requests)] for server in self.servers}
        after = self.world.counters()
        seen = {name: packets - before[name] for name, packets in after.items()}
        expect(seen["host_other"] == 0, f"{seen['host_other']} packets were neither way's")
        return {n: Row(statistics.median(seconds) * 1000, min(seconds) * 1000,
                       seen[f"pop{n}"], seen[f"direct{n}"]) for n, seconds in times.items()}


def table(style, scene, rows, before=None):
    """Prints what was measured; with the times before also what is saved."""
    say(f"  {'':38}  {'round trip':>10}  replies seen at")
    say(f"  {'':38}  {'of UDP,':>10}  the gateway")
    say(f"  {'game server':13}{'public address':16}{'POP':9}  {'median':>10}  via POP  direct"
        + ("     saved" if before else ""))
    for server in scene.servers:
        ms, _best, pop, direct = rows[server.n]
        paths = [style.bad(f"{pop:7}") if pop else f"{pop:7}",
                 style.good(f"{direct:6}") if direct else f"{direct:6}"]
        saved = style.good(f"{before[server.n].median - ms:7.1f} ms") if before else ""
        say(f"  {server.netns:13}{server.public:16}{server.pop}, {POPS[server.pop]} ms".ljust(42)
            + f"{ms:7.1f} ms  {paths[0]}  {paths[1]}" + saved)


def expect_path(rows, via_pop, requests, what):
    for n, row in rows.items():
        name = SERVERS[n - 1][0]
        wanted = (requests, 0) if via_pop else (0, requests)
        expect((row.pop, row.direct) == wanted,
               f"{what}: of {requests} replies of {name} {row.pop} went via the POP, "
               f"{row.direct} direct")


def one_each(scene, via_pop, what):
    """One request to each server; in words, which way the replies went."""
    rows = scene.measure(1)
    expect_path(rows, via_pop, 1, what)
    return (f"{sum(row.pop for row in rows.values())} replies via POP, "
            f"{sum(row.direct for row in rows.values())} direct")


def prompt(style, command):
    say()
    say(style.bold(f"host# {command}"))


def ctl(style, *argv):
    """Runs ipipdirectctl and shows what it prints."""
    prompt(style, " ".join(("ipipdirectctl", *argv)))
    done = subprocess.run([agent.CTL, *argv], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=dict(os.environ, COLUMNS="80"))
    say(done.stdout.rstrip())
    expect(done.returncode == 0, f"ipipdirectctl {argv[0]} ended with status {done.returncode}")


def show_tcp(style, scene):
    before = scene.world.counters()
    server = scene.servers[-1]
    with traffic.TcpServer(server, TCP_BYTES) as sender:
        began = time.monotonic()
        size, digest, _peer = traffic.tcp_fetch(scene.world, server.public)
        seconds = time.monotonic() - began
    after = scene.world.counters()
    pop, direct = (after[name] - before[name] for name in (f"pop{server.n}", f"direct{server.n}"))
    right = (size, digest) == (TCP_BYTES, sender.digest)
    expect(right, f"TCP: {size} bytes, of {TCP_BYTES}, or the digest is wrong")
    expect(pop == 0 and direct > 0, "TCP: not all packets went direct")
    say(f"  TCP: {size / 1e6:g} MB from {server.netns} in {seconds:.1f} s, SHA-256 "
        + (style.good("equal") if right else style.bad("differs"))
        + f";\n       packets at the gateway: {pop} via POP, {direct} direct (large ones: TSO is on)")


def explain_skipped():
    skipped = [t for t in agent.status()["tunnels"] if t["state"] != "mapped"]
    expect(all(t["reason"] == "fallback-device" for t in skipped), "a tunnel of ours was skipped")
    if skipped:
        say("(skipped: tunl0, which the ipip module itself puts into every namespace)")


def show_status_file(style, scene, save):
    path = "/run/ipipdirect/status.json"
    whole = agent.status()
    part = {"schema_version": whole["schema_version"], "agent": whole["agent"],
            "interfaces": whole["interfaces"],
            "tunnels": [next(t for t in whole["tunnels"] if t["state"] == "mapped")]}
    expect(whole["agent"]["state"] == "ok", f"status: {whole['agent']['problems']}")
    mapped = {t["netns"]: t["game_server_ips"] for t in whole["tunnels"] if t["state"] == "mapped"}
    expect(mapped == {server.netns: [server.public] for server in scene.servers},
           f"status: mapped are {mapped}")
    prompt(style, f"cat {path}    (a part of it)")
    text = json.dumps(part, indent=2).splitlines()
    say("\n".join(text[:-2]))
    left = len(whole["tunnels"]) - 1
    say(f"    ... {left} more tunnels ...\n  ],")
    say("  ... " + ", ".join(f'"{key}"' for key in whole if key not in part) + " ...\n}")
    if save:
        shutil.copyfile(path, save / "status.json")
        say(f"All of it is kept in {os.path.relpath(save)}/status.json")


def play(style, scene, save):
    say(style.bold("BEFORE: replies go back through the POP"))
    for server in scene.servers:
        scene.ask(server, b"warm up")
    before = scene.measure()
    table(style, scene, before)
    expect_path(before, True, REQUESTS, "before")

    prompt(style, "ipipdirectd &")
    with agent.Agent(log=AGENT_LOG, command=(agent.AGENT,)):  # built without the tests, whose filter is the default
        for line in AGENT_LOG.read_text().splitlines():
            say(textwrap.fill(line, 80, subsequent_indent=" " * 6))
        say()
        say(style.bold("AFTER: replies go straight to the client"))
        after = scene.measure()
        table(style, scene, after, before)
        expect_path(after, False, REQUESTS, "after")
        for server in scene.servers:
            # The best times: a busy machine spoils a median, and they tell as much.
            saved = before[server.n].best - after[server.n].best
            expect(saved > POPS[server.pop] / 2, f"{server.netns}: only {saved:.1f} ms saved")
        show_tcp(style, scene)
        ctl(style, "status")
        explain_skipped()
        ctl(style, "map", "dump")
        show_status_file(style, scene, save)
    prompt(style, "kill %1")
    say("The agent has ended, its program works on: "
        + one_each(scene, False, "with the agent ended"))
    ctl(style, "detach")
    say("The POP path is back: " + one_each(scene, True, "after detach"))
    return before, after


def way(style, row, pop):
    if row.direct and not row.pop:
        return style.good("direct")
    return style.bad(f"via POP {pop}" if not row.direct else "either way")


def sum_up(style, scene, before, after):
    say(style.bold("IN SHORT: round trip, and which way the replies went"))
    for server in scene.servers:
        old, new = before[server.n], after[server.n]
        say(f"  {server.netns:13}{old.median:6.1f} ms  {way(style, old, server.pop)}"
            f"   ->  {new.median:6.1f} ms  {way(style, new, server.pop)}")


def describe(error):
    """What went wrong, with what the tool that failed had to say."""
    return f"{type(error).__name__}: {error}\n{getattr(error, 'output', None) or ''}".rstrip()


def end_children():
    """The agent or a tool may have just been started when a signal came."""
    children = pathlib.Path(f"/proc/self/task/{os.getpid()}/children")
    for pid in children.read_text().split() if children.exists() else ():
        os.kill(int(pid), signal.SIGKILL)


def on_signal(number, _frame):
    sys.exit(128 + number)


def main():
    parser = argparse.ArgumentParser(description="The inner part of tools/demo.")
    parser.add_argument("--color", action="store_true")
    parser.add_argument("--save", type=pathlib.Path, metavar="DIR", help="keep the status file there")
    args = parser.parse_args()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    style = Style(args.color)
    began = time.monotonic()
    where = "in a virtual machine" if "IPIPDIRECT_VM" in os.environ else "in namespaces of its own"
    say()
    say(style.bold(f"ipipdirect on Linux {platform.release()}, {where}"))
    say(PICTURE.format(before=style.bad("BEFORE"), after=style.good("AFTER"), servers=len(SERVERS),
                       ms1=POPS[1], ms2=POPS[2]))
    try:
        enclose()
        say("Building that ...\n")
        scene = Scene()
        before, after = play(style, scene, args.save)
        say()
        sum_up(style, scene, before, after)
    except (OSError, AssertionError, subprocess.SubprocessError) as error:
        say()
        problems.append(describe(error))
    finally:
        end_children()
    for problem in problems:
        say(style.bad(f"WRONG: {problem}"))
    if not problems:
        say("With the agent all replies went straight to the client, none via a POP.")
    say(f"Took {time.monotonic() - began:.0f} s.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
