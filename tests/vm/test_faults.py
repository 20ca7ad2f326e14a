# SPDX-License-Identifier: MIT
"""The kernel refuses: for every system call that the agent makes, one at a time, at its start, in a pass, at SIGHUP and while
clients ask. It neither crashes nor says "ok" while the map is wrong; no reply of three tunnels is harmed; and when the fault is over, the
map is right soon. An agent that ends says why, with the status that the manual names; the next one does what is left to do.

What it calls is found out by a run without faults, so no call is forgotten. Short by default: some of the calls, once. The long
form, and what docs/RELIABILITY.md quotes, tries each place that calls, and each error:

    tests/vm/run --timeout 0 --env BUILD_DIR=$PWD/build --env IPIPDIRECT_FAULTS=all --env IPIPDIRECT_RECOVERS=5 -- \
        /usr/bin/python3 -B -m pytest -s tests/vm/test_faults.py

IPIPDIRECT_SHARD=1/4 does a fourth of it, and IPIPDIRECT_FAULTS=openat:error=EMFILE:when=3 nothing but that, in each test; with
when=1+ the fault lasts, IPIPDIRECT_LASTS seconds. IPIPDIRECT_SEED chooses others in the short form. With a BUILD_DIR that has
ASan and UBSan (-Db_sanitize=address,undefined) their findings are failures too.
"""

import collections
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import time

import pytest

import agent
import fleet
import injection
import topology
import traffic

SEED = int(os.environ.get("IPIPDIRECT_SEED", "1"))
FAULTS = os.environ.get("IPIPDIRECT_FAULTS", "some")
ALL = FAULTS == "all"
ONE = FAULTS.replace("when=", "").split(":") if ":" in FAULTS else None
SOME = 6  # calls a test, when not all
SHARD, SHARDS = (int(n) for n in os.environ.get("IPIPDIRECT_SHARD", "1/1").split("/"))
LASTS = float(os.environ.get("IPIPDIRECT_LASTS", "2.5"))
RECOVERS = float(os.environ.get("IPIPDIRECT_RECOVERS", "30"))  # seconds: for 5, on a machine that emulates and is busy besides
LIMIT = 30.0
TRACE, LOG = "/tmp/faults.strace", "/tmp/faults.log"
# Nothing but the fault's own repair may repair it: no periodic pass.
OPTIONS = ("--resync-interval", "3600")
EXIT_FAILED = 2
SANITIZER = re.compile(r"Sanitizer|runtime error|Assertion|corrupted")
# libasan's own use of memory is not the agent's
SANITIZED = "libasan" in subprocess.run(["ldd", agent.AGENT], check=True, text=True, stdout=subprocess.PIPE).stdout
ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}  # no leaks can be looked for under ptrace


@pytest.fixture(scope="module")
def world():
    with traffic.three_servers() as made:
        yield made
        agent.detach()


@pytest.fixture(scope="module")
def ships(world):
    with fleet.Fleet(3, uplink=False) as made:
        made.set_up(range(3))
        yield made


@pytest.fixture
def expected(world, ships):
    """Asks what the map should hold; iproute2 agrees before and afterwards."""
    def ask():
        return {**{server.remote: server.public for server in world.servers.values()},
                **{remote: remote for remote in ships.remotes.values()}}

    assert ask() == fleet.oracle()
    yield ask
    assert ask() == fleet.oracle()


class Change:
    """Something new for the agent to do: a tunnel changes; one comes and another goes, with their namespaces."""

    def __init__(self, ships):
        self.ships, self.number = ships, max(ships.remotes) + 1

    def __call__(self):
        oldest, last = min(self.ships.remotes), max(self.ships.remotes)
        self.number += 1
        self.ships.create([self.number])
        self.ships.set_up([self.number])
        self.ships.change(last)
        self.ships.delete([oldest])


def map_now():
    with agent.Remotes() as remotes:
        return remotes.all()


def is_right(expected):
    with contextlib.suppress(OSError):
        return map_now() == expected() and agent.status()["agent"]["state"] == "ok"
    return False


def wait_right(expected):
    """Seconds until the map is right and the agent says so."""
    start = time.monotonic()
    try:
        topology.wait_for(lambda: is_right(expected), "right", RECOVERS)
    except AssertionError:
        wrong = set(map_now().items()) ^ set(expected().items())
        raise AssertionError(f"not within {RECOVERS} s: {wrong or 'the map is right'}, and the agent says "
                             f"{agent.status()['agent']['problems'] or 'ok'}") from None
    return time.monotonic() - start


def log_tail():
    with open(LOG, encoding="utf-8", errors="replace") as file:
        return "".join(file.readlines()[-15:])


def written():
    with contextlib.suppress(FileNotFoundError):
        return os.stat("/run/ipipdirect/status.json").st_mtime_ns
    return 0


def is_signalled():
    """Whether it said that it ends because it was told to."""
    with open(LOG, encoding="utf-8", errors="replace") as file:
        return "ending; " in file.read()


def check_said():
    with open(LOG, encoding="utf-8", errors="replace") as file:
        text = file.read()
    assert not SANITIZER.search(text), text
    return text


def check_end(process, call, fault):
    """One that ended did so in an orderly way, and not because a signal came in between; the kernel interrupts no bpf()."""
    assert process.returncode == EXIT_FAILED, f"ended with {process.returncode}"
    assert fault != "error=EINTR" or call == "bpf", f"ended of an interrupted call: {log_tail()}"
    assert "ipipdirectd: " in check_said(), "no word why"


def was_injected():
    with contextlib.suppress(FileNotFoundError), open(TRACE, encoding="utf-8", errors="replace") as file:
        return "(INJECTED)" in file.read()
    return False


def cases(places, rng):
    if ONE:
        return [(ONE[0], int(ONE[2]), ONE[1])] if ONE[2] != "1+" else []
    if SANITIZED:
        places = {place: numbers for place, numbers in places.items() if place[0] not in ("mmap", "mremap", "mprotect")}
    if not ALL:
        return injection.some_of(places, SOME, rng)
    return injection.all_of(places)[SHARD - 1::SHARDS]


class Report:
    """What became of each fault; all are tried before the first failure is one."""

    def __init__(self, name):
        self.name, self.count, self.slowest, self.failures = name, collections.Counter(), 0.0, []

    def recovered(self, seconds):
        self.slowest = max(self.slowest, seconds)

    @contextlib.contextmanager
    def trial(self, what):
        """Of one fault; what fails in it is kept for the end. Yields a list that is not empty after a failure."""
        start, failed = time.monotonic(), []
        try:
            yield failed
            print(f"{self.name}: {what}: {time.monotonic() - start:.1f} s", flush=True)
        except (AssertionError, OSError) as failure:
            failed.append(what)
            self.failures.append(f"{what}: {failure}\n{log_tail()}")
            print(f"{self.name}: {what}: FAILED: {self.failures[-1]}", flush=True)

    def end(self, calls):
        print(json.dumps({"phase": self.name, "seed": SEED, "calls": len(calls), **self.count,
                          "slowest recovery, s": round(self.slowest, 2)}), flush=True)
        assert not self.failures, "\n".join(self.failures)
        assert not self.count["faults"] or self.count["not reached"] < self.count["faults"], "nothing was tried"


class Harm:
    """Looked at after each fault: replies that took the POP are that one's doing."""

    def __init__(self, world):
        self.world, self.before = world, world.counters()["host_ipip"]

    def check(self):
        before, self.before = self.before, self.world.counters()["host_ipip"]
        assert self.before == before, f"{self.before - before} replies took the POP"


# ---- at its start


def start_traced(*options):
    """An agent below strace until it is ready or has ended. Returns (strace, whether it is ready)."""
    pathlib.Path(TRACE).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, open(LOG, "wb") as log:
        notify.bind("")
        notify.settimeout(0.02)
        environment = {**os.environ, **ENVIRONMENT, "NOTIFY_SOCKET": "@" + notify.getsockname()[1:].decode()}
        process = subprocess.Popen(["strace", "-f", "--seccomp-bpf", "-qq", "-o", TRACE, *options, agent.AGENT, *OPTIONS],
                                   stderr=log, env=environment)
        deadline, ready = time.monotonic() + LIMIT, False
        while not ready and process.poll() is None:
            if time.monotonic() > deadline:
                kill_traced(process)
                raise AssertionError("neither ready nor ended")
            with contextlib.suppress(TimeoutError):
                ready = "READY=1" in notify.recv(4096).decode().split("\n")
    return process, ready


def tracee(process):
    return int(pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()[0])


def kill_traced(process):
    with contextlib.suppress(OSError, IndexError):
        os.kill(tracee(process), signal.SIGKILL)
    process.wait(LIMIT)


def end_traced(process):
    """Whether it ended of that, and not by itself in the same moment."""
    with contextlib.suppress(OSError, IndexError):
        os.kill(tracee(process), signal.SIGTERM)
    if process.wait(LIMIT) == 0:
        return True
    assert not is_signalled(), f"ended with {process.returncode}"
    return False


def places_at_start(expected):
    process, ready = start_traced("-s", "200")
    assert ready, log_tail()
    wait_right(expected)
    assert end_traced(process), log_tail()
    with open(TRACE, encoding="utf-8", errors="replace") as file:
        text = file.read()
    return injection.places_in(text, injection.after_the_loader(text))


def is_up(process, expected, report):
    """Whether it makes the map right, or ends instead."""
    try:
        report.recovered(wait_right(expected))
    except AssertionError:
        if process.poll() is None:
            raise
    with contextlib.suppress(subprocess.TimeoutExpired):  # what comes after the first pass
        process.wait(0.2)
    return process.poll() is None


def start_with(case, expected, report):
    """Returns whether it got ready."""
    call, number, fault = case
    process, ready = start_traced("-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={number}")
    try:
        if ready and is_up(process, expected, report) and end_traced(process):
            check_said()
            report.count["endured"] += 1
        else:
            ready = False
            check_end(process, call, fault)
            report.count["ended, saying why"] += 1
    finally:
        if process.poll() is None:
            kill_traced(process)
    report.count["faults"] += 1
    report.count["not reached"] += not was_injected()
    return ready


def restarted(expected, report):
    with new_agent():
        report.recovered(wait_right(expected))


def test_at_its_start(world, ships, expected):
    change, report = Change(ships), Report("at its start")
    with new_agent():
        wait_right(expected)
    change()
    places = places_at_start(expected)
    with traffic.Unharmed(world, per_second=20):
        harm = Harm(world)
        for i, case in enumerate(cases(places, random.Random(SEED))):
            call, number, fault = case
            with report.trial(f"{call}:{fault}:when={number}") as failed:
                change()
                endured = start_with(case, expected, report)
                if not endured and (ALL or i % 4 == 0):
                    restarted(expected, report)
                harm.check()
            if failed:
                restarted(expected, report)
                harm = Harm(world)
        restarted(expected, report)
    report.end({call for call, _ in places})


# ---- at work


class Tracer:
    """strace on the running agent, while the context lasts."""

    def __init__(self, pid, *options):
        pathlib.Path(TRACE).unlink(missing_ok=True)
        self.process = subprocess.Popen(["strace", "-f", "-qq", "-o", TRACE, *options, "-p", str(pid)],
                                        stderr=subprocess.DEVNULL)
        topology.wait_for(lambda: "TracerPid:\t0\n" not in pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii"),
                          "strace is attached", LIMIT)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.terminate()
        self.process.wait(LIMIT)


def bell(running, change):
    del running
    change()


def ask(running, change):
    """What clients have it do, besides; they may be refused, or get no answer."""
    del running
    change()
    ship = max(change.ships.remotes)
    for words in (["resync"], ["mode", change.ships.name(ship), f"z{ship}", "shadow"],
                  ["mode", change.ships.name(ship), f"z{ship}", "default"], ["-j", "status"]):
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run([agent.CTL, *words], check=False, timeout=2, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def hangup(running, change):
    """With something new, of which it may hear either way."""
    change()
    with contextlib.suppress(ProcessLookupError):
        running.process.send_signal(signal.SIGHUP)


def new_agent():
    # Without the unit's filter: a call that strace has fail is none that a filter knows.
    return agent.Agent(*OPTIONS, log=LOG, command=(agent.AGENT,), environment=ENVIRONMENT)


class AtWork:
    """An agent at work, or the next one in its place, as systemd would have it."""

    def __init__(self, trigger, change, expected, report):
        self.trigger, self.change, self.expected, self.report = trigger, change, expected, report
        self.last = None, None  # call and fault
        self.running = new_agent()
        wait_right(expected)

    def survive(self):
        if self.running.process.poll() is None:
            return
        try:
            check_end(self.running.process, *self.last)
            self.report.count["ended, saying why"] += 1
        finally:
            self.anew()

    def anew(self):
        if self.running.process.poll() is None:
            self.running.kill()
        self.running.close()
        self.running = new_agent()
        wait_right(self.expected)

    def places(self):
        with Tracer(self.running.process.pid, "-s", "200"):
            self.trigger(self.running, self.change)
            wait_right(self.expected)
            time.sleep(0.5)  # what comes after a pass
        with open(TRACE, encoding="utf-8", errors="replace") as file:
            return injection.places_in(file.read())

    def has_ended(self):
        return self.running.process.poll() is not None

    def fault(self, call, number, fault):
        self.survive()
        self.last = call, fault
        with Tracer(self.running.process.pid, "-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={number}"):
            self.trigger(self.running, self.change)
            with contextlib.suppress(AssertionError):
                topology.wait_for(lambda: was_injected() or self.has_ended() or is_right(self.expected), "", 3)
            with contextlib.suppress(AssertionError):
                topology.wait_for(lambda: was_injected() or self.has_ended(), "", 0.3)
        self.report.count["faults"] += 1
        self.report.count["not reached"] += not was_injected()
        self.recover()

    def outcome(self, before):
        """Of a fault that lasts, with what was `written` before it; None where the agent says ok, and the map is wrong."""
        if map_now() == self.expected():
            return "right all the same"
        if written() == before or self.has_ended():
            return "nothing said"
        return "degraded, as it says" if agent.status()["agent"]["state"] == "degraded" else None

    def lasting(self, call, fault):
        """While it lasts the map may be wrong, but not with "ok" above it: unless the agent cannot even say so."""
        self.survive()
        self.last = call, None  # that each call is interrupted is no accident
        with Tracer(self.running.process.pid, "-e", f"trace={call}", "-e", f"inject={call}:{fault}:when=1+"):
            before = written()  # what was to be written of the last case may come until now
            self.trigger(self.running, self.change)
            time.sleep(LASTS)
            outcome = topology.wait_for(lambda: self.outcome(before), "it says ok, and the map is wrong")
            self.report.count[outcome] += 1
        self.report.count["lasting faults"] += 1
        self.recover()

    def recover(self):
        start = time.monotonic()
        with contextlib.suppress(AssertionError):
            topology.wait_for(lambda: self.has_ended() or is_right(self.expected), "", LIMIT)
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that ends may have written all before
            self.running.process.wait(0.1)
        if self.has_ended():
            self.survive()
        else:
            wait_right(self.expected)
            seconds = time.monotonic() - start - 0.1
            self.report.recovered(seconds)
            assert seconds <= RECOVERS, f"right after {seconds:.1f} s"
        check_said()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if not self.has_ended():
            self.running.stop()


# In the short form: the maps when tunnels change, the configuration when it is to be read anew, clients when they come.
FIRST_TO_LAST = {bell: ("bpf", "error=ENOMEM"), hangup: ("openat", "error=EMFILE"), ask: ("accept4", "error=EMFILE")}


def lasting_cases(places, rng, trigger):
    calls = sorted({call for call, _ in places})
    if ONE:
        return [(ONE[0], ONE[1])] if ONE[2] == "1+" else []
    if ALL:
        return [(call, fault) for call in calls for fault in injection.faults_of(call)][SHARD - 1::SHARDS]
    call = rng.choice(calls)
    return [FIRST_TO_LAST[trigger], (call, rng.choice(injection.faults_of(call)))]


@pytest.mark.parametrize("trigger", [bell, hangup, ask], ids=["in a pass", "at SIGHUP", "while clients ask"])
def test_at_work(world, ships, expected, trigger):
    report, rng = Report(trigger.__name__), random.Random(SEED)
    with AtWork(trigger, Change(ships), expected, report) as work:
        places = work.places()
        with traffic.Unharmed(world, per_second=20):
            harm = Harm(world)
            for call, number, fault in cases(places, rng):
                with report.trial(f"{call}:{fault}:when={number}") as failed:
                    work.fault(call, number, fault)
                    harm.check()
                if failed:
                    work.anew()
            for call, fault in lasting_cases(places, rng, trigger):
                with report.trial(f"{call}:{fault}:when=1+") as failed:
                    work.lasting(call, fault)
                    harm.check()
                if failed:
                    work.anew()
    report.end({call for call, _ in places})
