#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What ipipdirectctl shows on a terminal, from the real thing, for docs/captures, README.md and docs/OPERATING.md.

    captures.py --take DIR     in the VM: game servers, traffic, the agent; each screen becomes a file of DIR
    captures.py --write DIR    puts these files into the documents

Plain text: a document shows no colour, and what the colours say is said by words as well.
"""

import argparse
import contextlib
import fcntl
import os
import pathlib
import re
import select
import struct
import subprocess
import sys
import termios
import time

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "vm"))

CAPTURES = ROOT / "docs" / "captures"
DOCUMENTS = [ROOT / "README.md", ROOT / "docs" / "OPERATING.md"]
BLOCK = re.compile(r"(<!-- capture ([\w-]+) -->\n```\n)(.*?)(```\n)", re.S)
NARROW, WIDE = 80, 132

# name, POP, model (the design's A: the remote is the public address; C: the device holds it), requests a second
SERVERS = (("minecraft", 1, "A", 40), ("rust", 2, "C", 16), ("valheim", 2, "C", 4))
CONFIG = pathlib.Path("/etc/ipipdirect/config.json")
USER = 4711  # nobody's number


# ---- a terminal

def shown(command, columns, lines, ready=None):
    """The screen after a command has ended, or, if it does not end by itself, once ready(lines) holds; and its exit status."""
    import pyte
    screen = pyte.Screen(columns, lines)
    stream = pyte.ByteStream(screen)
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        environment.pop(name, None)
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True)
    os.close(theirs)
    text, end = [], time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux: nobody has the other end open any more
                data = b""
            if not data:
                break
            stream.feed(data)
        elif ready:
            text = [line.rstrip() for line in screen.display]
            if ready(text):
                os.write(ours, b"q")
                ready = None
    else:
        process.kill()
        raise AssertionError(f"{command} does not come to an end; it shows\n" + "\n".join(screen.display))
    status = process.wait(30)
    os.close(ours)
    text = text or [line.rstrip() for line in screen.display]
    assert ready or "q quit" in text[-1] or not text[-1], f"{command}: more than a screen of {lines} lines"
    return "\n".join(text).rstrip() + "\n", status


# ---- what is shown

class Taker:
    def __init__(self, place):
        import agent
        self.ctl_path, self.place = agent.CTL, place

    def take(self, name, *args, columns=NARROW, status=0, ready=None):
        lines = 24 if ready else 200
        text, ended = shown([self.ctl_path, *args], columns, lines, ready)
        assert ended == status, f"{name}: ended with {ended}:\n{text}"
        (self.place / f"{name}-{columns}.txt").write_text(f"# ipipdirectctl {' '.join(args)}\n{text}", encoding="utf-8")

    def both(self, name, *args, **options):
        for columns in (NARROW, WIDE):
            self.take(name, *args, columns=columns, **options)


def healthy(taker, is_busy):
    taker.both("status", "status")
    taker.both("tunnels", "tunnels")
    taker.both("explain", "explain", "rust")
    taker.both("doctor", "doctor")
    taker.take("map", "map", "dump")
    taker.take("top", "top", "-d", "1", ready=is_busy)


def configure(text):
    import agent
    CONFIG.parent.mkdir(parents=True, exist_ok=True)
    CONFIG.write_text(text, encoding="utf-8")
    subprocess.run([agent.CTL, "reload"], check=True, stdout=subprocess.DEVNULL)


def cautious(taker):
    """The steps of a roll-out, and a mistake in the configuration."""
    import topology
    configure('{ "mode": "shadow" }\n')
    topology.wait_for(all_in_shadow, "packets that are counted as shadow", 30)
    taker.take("status-shadow", "status")
    taker.take("explain-shadow", "explain", "rust", status=4)
    configure('{\n  "mode": "shadow",\n  "rules": [\n    { "match": { "netns": "rust" }, "set": { "mode": "direct" } }\n  ]\n}\n')
    taker.take("tunnels-one", "tunnels")
    CONFIG.write_text('{\n  "mode": "sideways"\n}\n', encoding="utf-8")
    taker.take("config-mistake", "config", "check", str(CONFIG), status=2)
    configure("{}\n")


@contextlib.contextmanager
def namespace_of_a_user():
    """What anybody may make on a host: a tunnel with somebody else's address in it."""
    import topology
    script = "ip link add tun0 type ipip remote 203.0.113.1 local 10.9.77.2 && echo up && exec cat"
    with subprocess.Popen(["unshare", "--user", "--map-root-user", "--net", "sh", "-ec", script], user=USER, group=USER,
                          extra_groups=[], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as holder:
        assert holder.stdout.readline() == "up\n"
        comm = pathlib.Path(f"/proc/{holder.pid}/comm")  # the agent calls the namespace by it
        topology.wait_for(lambda: comm.read_text(encoding="ascii") == "cat\n", "cat", 30)
        yield
        holder.stdin.close()


def ailing(taker, world):
    """What goes wrong on hosts."""
    import topology
    run = topology.run
    run("sysctl", "-qw", "net.ipv4.conf.eth0.forwarding=0")
    taker.take("explain-forwarding", "explain", "rust")
    run("sysctl", "-qw", "net.ipv4.conf.eth0.forwarding=1")
    run("ip", "-n", "rust", "link", "set", "tun0", "mtu", "1500")
    run("ip", "netns", "add", "copycat")
    run("ip", "-n", "copycat", "link", "add", "tun0", "type", "ipip", "remote", world.servers[1].public, "local", "10.9.66.2")
    topology.wait_for(lambda: states().get("copycat") == "conflict", "the conflict", 30)
    with namespace_of_a_user():
        run(taker.ctl_path, "resync")
        topology.wait_for(lambda: "untrusted" in reasons(), "the user's tunnel", 30)
        taker.both("status-attention", "status", status=4)
        taker.take("tunnels-attention", "tunnels")
        taker.take("explain-conflict", "explain", "copycat", status=4)
        taker.both("doctor-attention", "doctor", status=4)
    run("ip", "netns", "delete", "copycat")
    run("ip", "-n", "rust", "link", "set", "tun0", "mtu", "1480")
    topology.wait_for(all_is_well, "all being well again, in the agent's last status too", 30)


def all_in_shadow():
    import agent
    return all(row["counters"]["kept"]["shadow"] for row in agent.live_entries() if row["game_server_ip"])


def all_is_well():
    import agent
    return states() == {name: "mapped" for name, *_ in SERVERS} and agent.status()["agent"]["state"] == "ok"


def states():
    import agent
    return {t["netns"]: t["state"] for t in agent.status()["tunnels"] if t["ifname"] == "tun0"}


def reasons():
    import agent
    return {t["reason"] for t in agent.status()["tunnels"]}


def take_all(place):
    import agent
    import topology
    import traffic
    taker = Taker(place)
    with topology.World(pops=2) as world, contextlib.ExitStack() as stack:
        for n, (name, pop, model, _rate) in enumerate(SERVERS, 1):
            stack.enter_context(traffic.UdpServer(world.add_server(n, pop, model, name)))
        configuration = stack.enter_context(contextlib.ExitStack())
        configuration.callback(lambda: CONFIG.unlink(missing_ok=True))
        running = agent.Agent(command=(agent.AGENT,))
        streams = [traffic.Stream(world, world.servers[n].public, rate)
                   for n, (_name, _pop, _model, rate) in enumerate(SERVERS, 1)]
        topology.wait_for(lambda: all(len(stream.received) > 20 for stream in streams), "replies", 60)

        def is_busy(screen):
            rows = [line.split("tun0", 1)[1] for line in screen if " tun0 " in line]
            rates = [re.sub(r"\d+(\.\d+){3}", "", row) for row in rows]
            lines = sum(bool(re.search("[\u2581-\u2588]{8}", row)) for row in rows)
            return lines == len(SERVERS) and all(re.match(r" *[\d.]*[1-9]", rate) for rate in rates)

        healthy(taker, is_busy)
        cautious(taker)
        ailing(taker, world)
        running.stop()
        taker.take("status-stopped", "status", status=3)
        for stream in streams:
            stream.stop(grace=0)
        taker.take("detach", "detach")


# ---- the documents

def put(text, captures):
    """The text with the blocks that the captures' markers enclose made anew."""
    return BLOCK.sub(lambda found: found[1] + captures[found[2]] + found[4], text)


def blocks(text):
    return {found[2]: found[3] for found in BLOCK.finditer(text)}


def read(place):
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(place.glob("*.txt"))}


def write(place):
    captures = read(place)
    CAPTURES.mkdir(exist_ok=True)
    for old in CAPTURES.glob("*.txt"):
        old.unlink()
    for name, text in captures.items():
        (CAPTURES / f"{name}.txt").write_text(text, encoding="utf-8")
    for document in DOCUMENTS:
        document.write_text(put(document.read_text(encoding="utf-8"), captures), encoding="utf-8")


def normal(text):
    """What must be the same each time: no times, counters, pids, MAC addresses and widths of columns."""
    text = re.sub(r"\d\d:\d\d:\d\dZ", "TIME", text)
    text = re.sub(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", "MAC", text)
    text = re.sub(r"\b\d+(?:m\d+s|h\d+m|d\d+h)\b", "N", text)  # more than a minute
    text = re.sub(r"(\d+(?:\.\d+){3}(?:/\d+)?)|\d[\d.,:]*(?:-\d[\w.-]*)?(?: ?(?:ms|s|min|h|d|[KMG]iB|B|[kMG]))?\b",
                  lambda found: found[1] or "N", text)
    text = re.sub("[\u2581-\u2588 ]*[\u2581-\u2588][\u2581-\u2588 ]*", " ", text)
    return "".join(text.split())  # where lines are broken depends on how long a number is


def main():
    parser = argparse.ArgumentParser(description="The inner part of tools/captures.")
    parser.add_argument("--take", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--write", type=pathlib.Path, metavar="DIR")
    args = parser.parse_args()
    if args.take:
        take_all(args.take)
    if args.write:
        write(args.write)


if __name__ == "__main__":
    main()
