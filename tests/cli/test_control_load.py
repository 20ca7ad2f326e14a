# SPDX-License-Identifier: MIT
"""Crowds, floods and sluggards at the control socket: the agent does its own work meanwhile, and grows no further
than its limits say. test_control.py has what each of them is told."""

import contextlib
import json
import socket
import subprocess
import time

import pytest

from control import CLIENTS, CLIENTS_ROOT, MESSAGE_MAX, NAME, Usage, assert_lives, connect, varlink, wait_for

FILE = "/run/etc/config.json"
CROWD = 1000
LATE = 1.0  # second in which a route is followed on a busy machine, too
MIB = 1024 * 1024
GET_INFO = b'{"method": "org.varlink.service.GetInfo"}\0'
GET_STATUS = json.dumps({"method": f"{NAME}.GetStatus"}).encode() + b"\0"


@pytest.fixture
def agent(sandbox):
    sandbox.write(FILE, "{}")
    sandbox.start_agent("--config", FILE)
    sandbox.do("chmod", "666", f"/run/ipipdirect/{NAME}")
    sandbox.do("ip", "address", "add", "198.18.1.2/24", "dev", "gateway")
    return sandbox


@contextlib.contextmanager
def bounded(place, memory):
    usage = Usage(place)
    descriptors = usage.descriptors()
    usage.forget_peak()
    before = usage.peak()
    yield usage
    grown = usage.peak() - before
    print(f"{grown / MIB:.1f} MiB more at most")
    assert grown < memory
    wait_for(lambda: usage.descriptors() <= descriptors + 2)  # it may be looking at something


@contextlib.contextmanager
def nobody_runs(place, script):
    """A program of a user without rights; what is given is its first line."""
    with place.start("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", script,
                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()


def follow_routes(place, watcher, times=4):
    """How long, at best, the program took to follow the default route: whatever else a machine does only adds.

    More often than so many times while each of them was late: then the machine has not let it run yet.
    """
    seconds = []
    while len(seconds) < times or min(seconds) >= LATE and len(seconds) < 5 * times:
        for net, left in (1, "wan"), (0, "gateway"):
            start = time.monotonic()
            place.do("ip", "route", "replace", "default", "via", f"198.18.{net}.1")
            watcher.until("interface-left", lambda event, name=left: event["interface"]["name"] == name)
            seconds.append(time.monotonic() - start)
    return min(seconds)


def watching(place):
    watcher = connect(place, seconds=60)
    watcher.monitor()
    assert watcher.event()["reason"] == "begin"
    return watcher


COME = f"""
import json, resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({CROWD} + 50, {CROWD} + 50))
held = []
for i in range({CROWD}):
    held.append(socket.socket(socket.AF_UNIX))
    held[-1].connect("/run/ipipdirect/{NAME}")
refused = []
for s in held:
    s.settimeout(60)
    try:
        s.sendall({GET_INFO!r})
    except BrokenPipeError:
        pass
    refused.append(b"TooManyClients" in s.recv(4096))
print(json.dumps(refused), flush=True)
"""


def test_a_crowd_of_idle_clients(agent):
    with watching(agent) as watcher:
        alone = follow_routes(agent, watcher)
        with bounded(agent, 16 * MIB) as usage, nobody_runs(agent, COME + "sys.stdin.read()") as refused:
            # The first ones stay; of the places one is the watcher's.
            assert refused == [False] * (CLIENTS - CLIENTS_ROOT - 1) + [True] * (CROWD - CLIENTS + CLIENTS_ROOT + 1)
            assert usage.descriptors() < 2 * CLIENTS
            crowded = follow_routes(agent, watcher)
            assert agent.ctl("resync").returncode in (0, 4)
    print(f"a route is followed within {alone * 1000:.0f} ms alone, {crowded * 1000:.0f} ms in a crowd of {CROWD}")
    assert crowded < max(LATE, 5 * alone)
    wait_for(lambda: agent.ctl("resync").returncode == 0)


# They come, ask for everything as often as they can, and go without reading.
FLOOD = f"""
import json, socket, sys, threading
ended = threading.Event()

def flood():
    while not ended.is_set():
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(1)
                s.connect("/run/ipipdirect/{NAME}")
                s.sendall({GET_STATUS!r} * 200)
                s.recv(65536)
        except OSError:
            pass

many = [threading.Thread(target=flood) for _ in range(8)]
for one in many:
    one.start()
print("true", flush=True)
sys.stdin.read()
ended.set()
"""


def test_a_flood_of_questions_does_not_keep_it_from_its_work(agent):
    with watching(agent) as watcher, bounded(agent, 64 * MIB):
        alone = follow_routes(agent, watcher)
        with nobody_runs(agent, FLOOD):
            flooded = follow_routes(agent, watcher)
            assert_lives(agent)
    wait_for(lambda: agent.ctl("resync").returncode == 0)  # the last of them have gone
    print(f"a route is followed within {alone * 1000:.0f} ms alone, {flooded * 1000:.0f} ms in a flood of questions")
    assert flooded < max(LATE, 5 * alone)


def test_who_watches_and_never_reads(agent):
    """All places are taken by such: each has his 256 KiB, and what others hear is not late for it."""
    with bounded(agent, (CLIENTS * 256 + 16 * 1024) * 1024), contextlib.ExitStack() as stack:
        for _ in range(CLIENTS - 2):
            stack.enter_context(connect(agent)).monitor()
        watcher = stack.enter_context(watching(agent))
        alone = follow_routes(agent, watcher)
        caller = stack.enter_context(connect(agent))
        agent.write(FILE, '{"' + "x" * 60 + '": 1}')
        reload = json.dumps({"method": f"{NAME}.Reload", "oneway": True}).encode() + b"\0"
        for _ in range(100):
            # As much as the sockets of 62 and their shares hold, and more.
            caller.write(reload * 20)
            for _ in range(20):
                watcher.until("config-refused")
        assert caller.raw("org.varlink.service.GetInfo")
        assert follow_routes(agent, watcher) < max(LATE, 5 * alone)


def send_all_of(client, piece, size):
    """How much of `size` bytes went before the other side closed."""
    sent = 0
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while sent < size:
            sent += client.socket.send(piece)
    return sent


def test_a_line_without_end_is_cut_off_early(agent):
    with bounded(agent, 4 * MIB):
        for beginning in (b"", b'{"method": "', b'{"parameters": {"a": [', b'{"method": "a.b", "parameters": {"a": "'):
            with connect(agent) as bad:
                bad.write(beginning)
                assert send_all_of(bad, b"x" * 65536, 1024 * MIB) < 4 * MIB
                assert bad.receive() is None
        assert_lives(agent)


def test_who_says_a_byte_now_and_then(agent):
    """Everybody else's calls go between his bytes, however long he takes."""
    with bounded(agent, 16 * MIB), contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(agent)) for _ in range(CLIENTS - 2)]
        watcher = stack.enter_context(watching(agent))
        alone = follow_routes(agent, watcher)
        # The same all the time: of one that left, the place is not free at once.
        other = stack.enter_context(connect(agent))
        for i, byte in enumerate(GET_INFO):
            for client in slow:
                client.write(bytes([byte]))
            if i % 8 == 0:
                assert other.raw("org.varlink.service.GetInfo")["product"] == "ipipdirectd"
            if i == len(GET_INFO) // 2:
                assert follow_routes(agent, watcher) < max(LATE, 5 * alone)
        for client in slow:
            assert client.result()["parameters"]["product"] == "ipipdirectd"


def costly(size):
    """What is small as a text and large when it is read."""
    return [
        b'{"method": "a.b", "parameters": {"a": [' + b",".join([b"{}"] * (size // 3)) + b"]}}",
        b'{"method": "a.b", "parameters": {"a": [' + b",".join([b"1"] * (size // 2)) + b"]}}",
        b'{"method": "a.b", "parameters": {' + b",".join(b'"%d":0' % i for i in range(size // 9)) + b"}}",
        b'{"method": "' + b"a" * size + b'"}',
        b'{"method": "' + b"." * size + b'"}',
        b'{"method": "' + b"\\u0001" * (size // 6) + b'.b"}',
        b'{"method": "' + f"{NAME}.".encode() + b"b" * size + b'"}',
        b'{"method": "a.b", "parameters": ' + b'{"a":' * 15 + b"0" + b"}" * 15 + b"}",
    ]


def test_costly_calls(agent):
    with bounded(agent, 32 * MIB), connect(agent) as client:
        for text in costly(MESSAGE_MAX - 100):
            assert len(text) <= MESSAGE_MAX
            for _ in range(20):
                client.write(text + b"\0")
                with pytest.raises(varlink.Error) as caught:
                    client.result()
                assert caught.value.name.endswith("NotFound")


def test_many_calls_in_a_row_and_nobody_who_reads(agent):
    """He is not heard until he takes his answers; then each call has had its answer, in order."""
    calls, piece = 20000, 100
    with bounded(agent, 4 * MIB), connect(agent) as client:
        client.socket.setblocking(False)
        written = 0
        while written < calls:
            try:
                # So little goes whole or not at all.
                assert client.socket.send(GET_INFO * piece) == len(GET_INFO) * piece
            except BlockingIOError:
                break
            written += piece
        assert_lives(agent)
        assert 0 < written < calls, "somebody's memory holds what nobody reads"
        client.socket.settimeout(30)
        client.socket.shutdown(socket.SHUT_WR)
        for _ in range(written):
            assert client.result()["parameters"]["product"] == "ipipdirectd"
        assert client.receive() is None
