# SPDX-License-Identifier: MIT
"""Faults of system calls: how one is made to strike an agent, at its start and at work, and what is looked at then.
The cases are those of injection.py; test_faults.py has the tests."""

import collections
import contextlib
import datetime
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

import agent
import injection
import topology

RECOVERS = float(os.environ.get("IPIPDIRECT_RECOVERS", "30"))  # seconds: for 5, on a machine that emulates and is busy besides
LIMIT = 30.0
TRIES = 3
TRACE, LOG = "/tmp/faults.strace", "/tmp/faults.log"
PARTIAL = os.path.join(agent.BUILD_DIR, "tests/vm/partial")
# Nothing but the fault's own repair may repair it: no periodic pass.
OPTIONS = ("--resync-interval", "3600")
EXIT_FAILED = 2
SANITIZER = re.compile(r"Sanitizer|runtime error|Assertion|corrupted")
# libasan's own use of memory is not the agent's
SANITIZED = "libasan" in subprocess.run(["ldd", agent.AGENT], check=True, text=True, stdout=subprocess.PIPE).stdout
ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}  # no leaks can be looked for under ptrace


class Change:
    """Something new for the agent to do: a tunnel changes; one comes and another goes, with their namespaces; two come to share a
    remote, and two others to do so no more."""

    def __init__(self, ships, pairs):
        self.ships, self.pairs, self.number = ships, pairs, max(ships.remotes) + 1

    def __call__(self):
        oldest, last = min(self.ships.remotes), max(self.ships.remotes)
        self.number += 1
        self.ships.create([self.number])
        self.ships.set_up([self.number])
        self.ships.change(last)
        self.pairs.swap()
        self.ships.delete([oldest])


# ---- what the agent says, and what is so


def map_now():
    """Without an agent, `detach` removes the map."""
    with contextlib.suppress(FileNotFoundError), agent.Remotes() as remotes:
        return remotes.all()
    return {}


def is_right(expected):
    with contextlib.suppress(OSError):
        return map_now() == expected() and agent.status()["agent"]["state"] == "ok"
    return False


def is_wrongly_ok(expected, is_meant):
    """Whether a status whose part about the agent is meant says "ok", and the map is wrong."""
    with contextlib.suppress(OSError):
        said = agent.status()["agent"]
        return said["state"] == "ok" and is_meant(said) and map_now() != expected()
    return False


def is_lying(expected, since):
    """Whether it says "ok" of a complete pass that began after `since` (time.time()), and the map is wrong. A status has whole
    seconds, and what began before may have ended a second later."""
    def is_meant(said):
        return bool(said["synced_at"]) and datetime.datetime.fromisoformat(said["synced_at"]).timestamp() >= since + 2

    return is_wrongly_ok(expected, is_meant)


def is_lying_at_start(expected, pid):
    """Whether that agent, whose every pass began after all there is to read, says "ok", and the map is wrong."""
    return is_wrongly_ok(expected, lambda said: said["pid"] == pid)


def lists(expected):
    """Whether the status is one of the map as it should be."""
    return agent.rows_told() == expected()


def what_is_wrong(expected):
    wrong = set(map_now().items()) ^ set(expected().items())
    return f"{wrong or 'the map is right'}, and the agent says {agent.status()['agent']['problems'] or 'ok'}"


def wait_right(expected):
    """Seconds until the map is right and the agent says so."""
    start = time.monotonic()
    try:
        topology.wait_for(lambda: is_right(expected), "right", RECOVERS)
    except AssertionError:
        raise AssertionError(f"not within {RECOVERS} s: {what_is_wrong(expected)}") from None
    return time.monotonic() - start


def written():
    with contextlib.suppress(FileNotFoundError):
        return os.stat("/run/ipipdirect/status.json").st_mtime_ns
    return 0


def ctl(*words):
    """Its exit status; None without an answer in time."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return subprocess.run([agent.CTL, *words], check=False, timeout=2, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL).returncode
    return None


# ---- its log


def log_text():
    with open(LOG, encoding="utf-8", errors="replace") as file:
        return file.read()


def log_tail():
    return "\n".join(log_text().splitlines()[-15:])


def is_signalled():
    """Whether it said that it ends because it was told to."""
    return "ending; " in log_text()


def check_said():
    text = log_text()
    assert not SANITIZER.search(text), text
    return text


def check_end(process, call, fault):
    """One that ended did so in an orderly way, and not because a signal came in between; the kernel interrupts no bpf()."""
    assert process.returncode == EXIT_FAILED, f"ended with {process.returncode}"
    assert fault != "error=EINTR" or call == "bpf", f"ended of an interrupted call: {log_tail()}"
    assert fault != injection.PART, f"ended of a call that was done in part: {log_tail()}"
    assert "ipipdirectd: " in check_said(), "no word why"


# ---- what strikes


def trace_text():
    with contextlib.suppress(FileNotFoundError), open(TRACE, encoding="utf-8", errors="replace") as file:
        return file.read()
    return ""


def arguments_of(call, number, fault):
    """The program that has the fault strike, up to whom: a command, or `-p PID`. `number`: 1+ for all of the calls."""
    if fault == injection.PART:
        return [PARTIAL, call, "0" if number == "1+" else str(number), TRACE]
    return strace("-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={number}")


def strace(*options):
    return ["strace", "-f", "-qq", "-o", TRACE, *options]


def was_injected(but=None):
    """Into any process, or any but that one. partial, unlike strace, writes at its end."""
    text = trace_text()
    return (any("(INJECTED)" in line and line.split()[0] != but for line in text.splitlines())
            or any(cut for cut, _ in injection.cut_in(text).values()))


class Tracer:
    """One that traces the running agent, while the context lasts."""

    def __init__(self, pid, arguments):
        pathlib.Path(TRACE).unlink(missing_ok=True)
        self.process = subprocess.Popen([*arguments, "-p", str(pid)], stderr=subprocess.DEVNULL)
        topology.wait_for(lambda: "TracerPid:\t0\n" not in pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii"),
                          "the agent is traced", LIMIT)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.terminate()
        self.process.wait(LIMIT)


def start_traced(arguments):
    """An agent below a tracer until it is ready or has ended. Returns (tracer, whether it is ready)."""
    pathlib.Path(TRACE).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, open(LOG, "wb") as log:
        notify.bind("")
        notify.settimeout(0.02)
        environment = {**os.environ, **ENVIRONMENT, "NOTIFY_SOCKET": "@" + notify.getsockname()[1:].decode()}
        faster = ["--seccomp-bpf"] if arguments[0] == "strace" else []  # not for one that runs
        process = subprocess.Popen([*arguments[:1], *faster, *arguments[1:], agent.AGENT, *OPTIONS], stderr=log, env=environment)
        deadline, ready = time.monotonic() + LIMIT, False
        while not ready and process.poll() is None:
            if time.monotonic() > deadline:
                kill_traced(process)
                raise AssertionError("neither ready nor ended")
            with contextlib.suppress(TimeoutError):
                ready = "READY=1" in notify.recv(4096).decode().split("\n")
    return process, ready


def children(pid):
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def tracee(process):
    return children(process.pid)[0]


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


def new_agent(*options):
    # Without the unit's filter: a call that strace has fail is none that a filter knows.
    return agent.Agent(*OPTIONS, *options, log=LOG, command=(agent.AGENT,), environment=ENVIRONMENT)


# ---- what is kept of it


class Report:
    """What became of each fault; all are tried before the first failure is one."""

    def __init__(self, name, seed):
        self.name, self.seed, self.slowest, self.failures = name, seed, 0.0, []
        self.count = collections.Counter()

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
        print(json.dumps({"phase": self.name, "seed": self.seed, "calls": len(calls), **self.count,
                          "slowest recovery, s": round(self.slowest, 2)}), flush=True)
        assert not self.failures, "\n".join(self.failures)
        # The last of the calls of a kind are not always made, nor is a child; of few, that may be every other.
        for tried, not_reached in ("faults", "not reached"), ("lasting faults", "lasting, not reached"):
            some = self.count[tried] // (20 if self.count[tried] > 20 else 2)
            assert self.count[not_reached] <= some, f"too few {tried} struck: {self.count}"


class Harm:
    """Looked at after each fault: replies that took the POP are that one's doing."""

    def __init__(self, world):
        self.world, self.before = world, world.counters()["host_ipip"]

    def check(self):
        before, self.before = self.before, self.world.counters()["host_ipip"]
        assert self.before == before, f"{self.before - before} replies took the POP"


class AtWork:
    """An agent at work, or the next one in its place, as systemd would have it. `trigger(work)` gives it something to do;
    if it `detaches`, the operator attaches again until that is done. `children`: only what strikes a child of it counts."""

    def __init__(self, trigger, change, expected, report, detaches=False, children=False):
        self.trigger, self.change, self.expected, self.report = trigger, change, expected, report
        self.detaches, self.children = detaches, children
        self.last = None, None  # call and fault
        self.lied = False
        self.running = new_agent()
        self.until_right()

    def has_ended(self):
        return self.running.process.poll() is not None

    def is_attached(self):
        return not self.detaches or ctl("attach") == 0

    def until_right(self):
        topology.wait_for(self.is_attached, "attached", RECOVERS)
        wait_right(self.expected)

    def survive(self):
        if not self.has_ended():
            return
        try:
            check_end(self.running.process, *self.last)
            self.report.count["ended, saying why"] += 1
        finally:
            self.anew()

    def anew(self):
        if not self.has_ended():
            self.running.kill()
        self.running.close()
        with open(LOG, "w", encoding="utf-8"):
            pass  # what the one before said is judged
        self.running = new_agent()
        self.until_right()

    def trace(self, arguments):
        """What the tracer wrote while the agent did what the trigger has it do."""
        with Tracer(self.running.process.pid, arguments):
            self.trigger(self)
            wait_right(self.expected)
            # What comes after a pass; of many tunnels, that is a while after.
            topology.wait_for(lambda: lists(self.expected), "a status of it", LIMIT)
            time.sleep(0.5)
        return trace_text()

    def left_out(self):
        """The process, as a trace names it, in which nothing counts."""
        return str(self.running.process.pid) if self.children else None

    def places(self):
        return injection.places_in(self.trace(strace("-s", "200")), but=self.left_out())

    def parts(self):
        return injection.cut_in(self.trace(arguments_of(*injection.COUNT_PARTS)))

    def is_right(self, since):
        self.lied = self.lied or is_lying(self.expected, since)
        return is_right(self.expected)

    def has_struck(self):
        return was_injected(but=self.left_out())

    def strike(self, call, number, fault):
        """Returns when (time.time()) the agent had been given something to do."""
        with Tracer(self.running.process.pid, arguments_of(call, number, fault)):
            self.trigger(self)
            since = time.time()
            with contextlib.suppress(AssertionError):
                topology.wait_for(lambda: self.has_struck() or self.has_ended() or self.is_right(since), "", 3)
            with contextlib.suppress(AssertionError):
                topology.wait_for(lambda: self.has_struck() or self.has_ended(), "", 10 if self.children else 0.3)
        return since

    def fault(self, call, number, fault):
        """What the agent does has not always as many calls: the last ones may take more than one try."""
        for _ in range(TRIES):
            self.survive()
            self.last, self.lied = (call, fault), False
            since = self.strike(call, number, fault)
            if self.has_struck():
                break
        self.report.count["faults"] += 1
        self.report.count["not reached"] += not self.has_struck()
        self.recover(since)

    def outcome(self, call, fault, before, since):
        """Of a fault that lasts, with what was `written` before it. None where the agent says "ok" above a wrong map, or
        says nothing of what does not keep it from saying so."""
        self.is_right(since)  # or lies
        if map_now() == self.expected():
            return "right all the same"
        if self.has_ended():
            return "ended meanwhile"
        if written() == before:
            return "nothing could be said" if injection.may_be_silent(call, fault) else None
        return "degraded, as it says" if agent.status()["agent"]["state"] == "degraded" else None

    def lasting(self, call, fault, seconds):
        """While it lasts the map may be wrong, but not with "ok" above it."""
        self.survive()
        # That each call is interrupted is no accident.
        self.last, self.lied = (call, None if "EINTR" in fault else fault), False
        with Tracer(self.running.process.pid, arguments_of(call, "1+", fault)):
            before = written()  # what was to be written of the last case may come until now
            self.trigger(self)
            since = time.time()
            while time.time() < since + seconds:
                self.is_right(since)
                time.sleep(0.1)
            # A status that is written by single bytes, each under ptrace, takes its time.
            patience = 6 * LIMIT if fault == injection.PART else 10
            try:
                outcome = topology.wait_for(lambda: self.outcome(call, fault, before, since), "it says so, or is right", patience)
            finally:
                print(f"{call}:{fault}: map {'right' if map_now() == self.expected() else 'wrong'}, status "
                      f"{'as before' if written() == before else agent.status()['agent']['problems'] or 'ok'}", flush=True)
        self.report.count[outcome if self.has_struck() else "lasting, not reached"] += 1
        self.report.count["lasting faults"] += 1
        self.recover(time.time())

    def recover(self, since):
        start = time.monotonic()
        with contextlib.suppress(AssertionError):
            topology.wait_for(lambda: self.has_ended() or self.is_attached(), "", LIMIT)
            topology.wait_for(lambda: self.has_ended() or self.is_right(since), "", LIMIT)
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that ends may have written all before
            self.running.process.wait(0.1)
        if self.has_ended():
            self.survive()
        else:
            wait_right(self.expected)
            seconds = time.monotonic() - start - 0.1
            self.report.recovered(seconds)
            assert seconds <= RECOVERS, f"right after {seconds:.1f} s"
        assert not self.lied, "it said ok of a complete pass, and the map was wrong"
        check_said()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if not self.has_ended():
            self.running.stop()
