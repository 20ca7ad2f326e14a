# SPDX-License-Identifier: MIT
"""top: in a real terminal, and round by round."""

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from sandbox import CTL, PINS, Sandbox
from schemas import EXAMPLES, load

BLOCKS = re.compile("[\u2581-\u2588]")
ENTERED, LEFT = b"\033[?1049h", b"\033[?1049l"  # xterm: to the alternate screen, and back


FEED = """
import select, struct, subprocess, sys
n = 0
def update(name, slot, value):
    data = " ".join(str(byte) for byte in value)
    return f"map update pinned /run/maps/{name} key {slot} 0 0 0 value {data}\\n"
while not select.select([sys.stdin], [], [], 0.02)[0]:
    n += 1
    kept = [0] * 32
    kept[2], kept[11] = 20 * n, 50 * n
    subprocess.run(["bpftool", "batch", "file", "-"], check=True, text=True, stdout=subprocess.DEVNULL, input="".join((
        update("counters", 1, struct.pack("=QQ", 1000 * n, 100000 * n)),
        update("counters", 2, struct.pack("=QQ", 100 * n, 1000000 * n)),
        update("kept", 4, struct.pack("=32Q", *kept)))))
"""


@pytest.fixture(name="road", scope="module")
def fixture_road():
    """Rows, a status that names them, and counters that go up: minecraft's most in packets, rust's in bits."""
    sandbox = Sandbox()
    sandbox.once()
    sandbox.add_row("203.0.113.10", "203.0.113.10", slot=1)
    sandbox.add_row("203.0.113.41", "203.0.113.41", slot=2)
    sandbox.add_row("192.0.2.1", None, slot=3, flags=1)
    sandbox.add_row("192.0.2.1", "198.51.100.30", slot=4, inner_source="198.51.100.30", mode=1)
    document = sandbox.read_status()
    document["entries"] = [entry for entry in load(EXAMPLES / "status.json")["entries"]
                           if entry["remote"].startswith("203.0.113.") or entry["inner_source"] == "198.51.100.30"]
    # Pinned once more, where no test takes them away.
    sandbox.do("mkdir", "/run/maps")
    sandbox.do("mount", "-t", "bpf", "bpf", "/run/maps")
    for name in ("counters", "kept"):
        sandbox.do("bpftool", "map", "pin", "pinned", f"{PINS}/v1/{name}", f"/run/maps/{name}")
    sandbox.write("/run/feed.py", FEED)
    feeder = sandbox.start("/usr/bin/python3", "/run/feed.py", stdin=subprocess.PIPE)
    yield sandbox, document
    feeder.stdin.close()
    assert feeder.wait(20) == 0
    sandbox.close()


@pytest.fixture
def traffic(road):
    """The same for all tests, with the status as it was at first."""
    sandbox, document = road
    sandbox.write_status(document)
    return sandbox


class Terminal:
    """top on a terminal of its own."""

    def __init__(self, sandbox, *args, command=None, columns=80, lines=24, **env):
        self.ours, self.theirs = os.openpty()
        self.size(columns, lines)
        self.before = termios.tcgetattr(self.theirs)
        self.output = b""
        theirs = self.theirs

        def take():
            os.setsid()
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
        self.process = sandbox.start(*(command or [CTL, "top", "-d", "0.2", *args]), stdin=theirs, stdout=theirs, stderr=theirs,
                                     preexec_fn=take, env={"TERM": "xterm", "LC_ALL": "C.UTF-8", **env})

    def size(self, columns, lines):
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read(self, seconds):
        if select.select([self.ours], [], [], seconds)[0]:
            self.output += os.read(self.ours, 65536)

    def wait_for(self, pattern, since=0, seconds=60):
        """What is drawn from `since` on until the pattern is there; without control sequences."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            text = re.sub(rb"\033(\[[0-9;?]*[A-Za-z]|\([A-Z0-9]|[=>78])", b" ", self.output[since:])
            text = text.decode("utf-8", "replace")
            if re.search(pattern, text):
                return text
            self.read(0.2)
        raise AssertionError(f"{pattern} did not come: {text!r}")

    def wait_for_screen(self, pattern, keys=b"", seconds=60):
        """The first whole screen, down to its last line, that has the pattern: whoever counts has not always had his turn."""
        end = time.monotonic() + seconds
        self.press(keys)
        while True:
            # ^L draws all of it; else only what differs is sent.
            text = self.wait_for("q quit", self.press(b"\014"))
            if re.search(pattern, text, re.S):
                return text
            assert time.monotonic() < end, f"{pattern} did not come: {text!r}"
            self.read(0.1)

    def press(self, keys):
        since = len(self.output)
        os.write(self.ours, keys)
        return since

    def ended(self):
        """The exit status; the terminal must be as it was."""
        end = time.monotonic() + 60
        while self.process.poll() is None:
            assert time.monotonic() < end, "it does not end"
            self.read(0.1)
        while LEFT not in self.output[-200:]:  # what it wrote last may be on its way
            assert time.monotonic() < end, "the terminal is not given back"
            self.read(0.1)
        assert termios.tcgetattr(self.theirs) == self.before
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        for fd in (self.ours, self.theirs):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def terminal(traffic):
    opened = []

    def make(*args, **options):
        opened.append(Terminal(traffic, *args, **options))
        return opened[-1]
    yield make
    for one in opened:
        one.close()


def test_shows_rates_and_quits(terminal):
    top = terminal()
    text = top.wait_for(r"q quit")
    assert "agent not running: what is pinned goes on" in text
    for word in ("TUNNEL", "PKT/S", "BIT/S", "KEPT/S", "MOSTLY", "HISTORY", "csgo tun0", "minecraft tun0"):
        assert word in text
    top.wait_for(r"no-next-hop")
    assert BLOCKS.search(top.wait_for(BLOCKS.pattern))
    top.press(b"q")
    assert top.ended() == 0


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP),
                                          (signal.SIGINT, 0), (signal.SIGQUIT, -signal.SIGQUIT)], ids=str)
def test_signals_give_the_terminal_back(terminal, number, code):
    top = terminal()
    top.wait_for("TUNNEL")
    top.process.send_signal(number)
    assert top.ended() == code


def test_a_stop_gives_the_terminal_back_for_the_time(terminal):
    """^Z below a shell, and back by fg."""
    top = terminal(command=["bash", "-mc", f"{CTL} top -d 0.2; stty -a; fg"])
    top.wait_for("csgo")
    for _ in range(20):  # while it draws, ncurses ignores the key (doupdate()), as people find who press it then
        with contextlib.suppress(AssertionError):
            assert " icanon" in top.wait_for(r"echoke", top.press(b"\032"), seconds=5)
            break
    else:
        raise AssertionError("it does not stop")
    top.wait_for("TUNNEL", top.output.index(b"icanon"))
    top.press(b"q")
    assert top.ended() == 0


def test_resizes_with_the_terminal(terminal):
    top = terminal(columns=80)
    assert "REMOTE" not in top.wait_for("csgo tun0")
    for columns, lines, pattern in ((200, 24, r"TUNNEL\s+REMOTE"), (30, 4, r"TUNNEL")):
        top.size(columns, lines)
        # The kernel sends it to the foreground process group, which is not the one of nsenter's child.
        top.process.send_signal(signal.SIGWINCH)
        top.wait_for(pattern, top.press(b"\014"))
    top.press(b"q")
    assert top.ended() == 0


@pytest.mark.parametrize("columns, lines", [(1, 1), (20, 3), (80, 2), (500, 100)])
def test_any_size_will_do(terminal, columns, lines):
    top = terminal(columns=columns, lines=lines)
    end = time.monotonic() + 60
    while ENTERED not in top.output:
        assert time.monotonic() < end, "it does not begin"
        top.read(0.1)
    end = time.monotonic() + 1
    while time.monotonic() < end:  # some rounds
        top.read(0.1)
    assert top.process.poll() is None
    top.press(b"q")
    assert top.ended() == 0


def test_keys_sort(terminal):
    top = terminal()
    top.wait_for("no-next-hop")  # there are rates
    for keys, order in ((b"n", "csgo.*minecraft.*rust.*by name: "), (b"r", "rust.*minecraft.*csgo.*by name reversed: "),
                        (b"p", "minecraft.*rust.*csgo.*by packets: "), (b"k", "csgo.*minecraft.*rust.*by kept: "),
                        (b"xb", "rust.*minecraft.*csgo.*by bits: ")):
        top.wait_for_screen(order, keys)
    top.press(b"\033[B\033[A\033[6~\033[5~ q")
    assert top.ended() == 0


def test_without_utf8_it_is_ascii(terminal):
    top = terminal(LC_ALL="C")
    top.wait_for_screen(r"tun0 [^\n]*[-#=+*_.:]{2}")
    top.press(b"q")
    assert top.ended() == 0 and top.output.isascii()


def test_without_a_status_file(terminal, traffic):
    traffic.do("rm", "/run/ipipdirect/status.json")
    text = terminal().wait_for(r"q quit")
    assert "203.0.113.10" in text and "192.0.2.1 198.51.100.30" in text and "minecraft" not in text


def test_maps_that_go_are_told(terminal, traffic):
    top = terminal()
    top.wait_for("csgo tun0")
    since = len(top.output)
    traffic.do("mv", "/sys/fs/bpf/ipipdirect/v1/kept", "/sys/fs/bpf/ipipdirect/v1/away")
    top.wait_for("cannot read the maps: none are pinned", since)
    traffic.do("mv", "/sys/fs/bpf/ipipdirect/v1/away", "/sys/fs/bpf/ipipdirect/v1/kept")
    top.wait_for("agent not running", since + 1)
    top.press(b"q")
    assert top.ended() == 0


def test_a_terminal_that_goes_ends_it(terminal):
    top = terminal()
    top.wait_for("TUNNEL")
    os.close(top.theirs)
    os.close(top.ours)
    top.theirs = top.ours = -1
    top.process.wait(20)


# Round by round.


def batch(sandbox, *args, **options):
    done = sandbox.ctl("top", "-d", "0.3", *args, **options)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def busy_batch(sandbox, *args, **options):
    """One in which each row had something in each round: whoever counts has not always had his turn."""
    end = time.monotonic() + 60
    while True:
        text = batch(sandbox, *args, **options)
        figures = re.findall(r" \d+\.\d+\.\d+\.\d+((?: +\S+){3})", text)
        assert len(figures) == 3 * int(args[args.index("-n") + 1])
        if all(re.search("[1-9]", rates) for rates in figures):
            return text
        assert time.monotonic() < end, text


def test_rounds(traffic):
    text = busy_batch(traffic, "-n", "3", env={"LC_ALL": "C.UTF-8"})
    rounds = text.rstrip("\n").split("\n\n")
    assert len(rounds) == 3
    for one in rounds:
        summary, agent, titles, *rows = one.split("\n")
        assert re.fullmatch(r"\d\d:\d\d:\d\dZ  4 rows  \S+ pkt/s  \S+ bit/s direct  \S+/s kept \(no-next-hop\)", summary)
        assert agent.startswith("agent not running")
        assert titles.split() == ["TUNNEL", "REMOTE", "PKT/S", "BIT/S", "KEPT/S", "MOSTLY", "HISTORY"]
        assert [row.split()[0] for row in rows] == ["rust", "minecraft", "csgo"], "by bits; no shared row that keeps none"
        assert "no-next-hop" in rows[2] and "shadow" not in rows[2]
    assert len(BLOCKS.findall(rounds[0].split("\n")[3])) == 1 and len(BLOCKS.findall(rounds[2].split("\n")[3])) == 3


@pytest.mark.parametrize("key, first", [("p", "minecraft"), ("b", "rust"), ("k", "csgo"), ("n", "csgo")])
def test_sort_option(traffic, key, first):
    assert busy_batch(traffic, "-n", "1", "--sort", key).split("\n")[3].split()[0] == first


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_rounds_fit(traffic, columns):
    document = traffic.read_status()
    document["entries"][0]["tunnel"] = {"netns": "cni-0123abcd-4567-89ab-cdef-0123456789ab", "ifname": "\033[31mtunnel0"}
    traffic.write_status(document)
    lines = batch(traffic, "-n", "2", env={"COLUMNS": str(columns), "LC_ALL": "C.UTF-8"}).split("\n")
    tables = [line for line in lines if not re.match(r"\d\d:|agent", line)]
    if columns >= 60:
        assert max(map(len, tables)) <= columns
    assert ("~" in "".join(lines)) == (columns < 200)
    assert "\033" not in "".join(lines)


def test_dumb_terminals_get_rounds(traffic):
    code, output = traffic.ctl_on_terminal("top", "-n", "1", "-d", "0.1", env={"TERM": "dumb"})
    assert code == 0 and b"\033" not in output and b"TUNNEL" in output


def test_without_maps(sandbox):
    done = sandbox.ctl("top", "-n", "1")
    assert (done.returncode, done.stdout) == (2, "") and "no maps are pinned" in done.stderr


def test_has_no_json(sandbox, is_error):
    code, document = sandbox.ctl_json("top")
    assert code == 1
    is_error(document, "usage")
    assert "stats --watch" in document["error"]["hint"]
