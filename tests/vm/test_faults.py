# SPDX-License-Identifier: MIT
"""The kernel refuses: for every system call that the agent makes, one at a time, at its start, where another version's program
is to be replaced as well, in a pass, at SIGHUP, for maps of another size too, while clients ask, and while an operator takes the
program off and puts it back.
It neither crashes nor says "ok" while the map is wrong; no reply of three tunnels is harmed; and when the fault is over, the
map is right soon. An agent that ends says why, with the status that the manual names; the next one does what is left to do.
Reads and writes of a part (partial.c) are no failures, and change nothing.

What it calls is found out by a run without faults, so no call is forgotten. Short by default: some of the calls, once. The long
form, and what docs/RELIABILITY.md quotes, tries each place that calls, and each error:

    tests/vm/run --timeout 0 --env BUILD_DIR=$PWD/build --env IPIPDIRECT_FAULTS=all --env IPIPDIRECT_RECOVERS=5 -- \
        /usr/bin/python3 -B -m pytest -s tests/vm/test_faults.py

IPIPDIRECT_SHARD=1/4 does a fourth of it, and IPIPDIRECT_FAULTS=openat:error=EMFILE:when=3 (or `read:in part:when=3`) nothing but
that, in each test; with when=1+ the fault lasts, IPIPDIRECT_LASTS seconds. IPIPDIRECT_SEED chooses others in the short form.
With a BUILD_DIR that has ASan and UBSan (-Db_sanitize=address,undefined) their findings are failures too.
"""

import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import time

import pytest

import agent
import faults
import fleet
import injection
import kernel
import topology
import traffic
from faults import AtWork, Change, Harm, Report, arguments_of, lists, new_agent, start_traced, strace, wait_right
from kernel import has_tcx

SEED = int(os.environ.get("IPIPDIRECT_SEED", "1"))
FAULTS = os.environ.get("IPIPDIRECT_FAULTS", "some")
ALL = FAULTS == "all"
ONE = FAULTS.replace("when=", "").split(":") if ":" in FAULTS else None
SOME, SOME_PARTS = 4, 1  # calls a test, when not all
SHARD, SHARDS = (int(n) for n in os.environ.get("IPIPDIRECT_SHARD", "1/1").split("/"))
LASTS = float(os.environ.get("IPIPDIRECT_LASTS", "2.5"))
CONFIG = pathlib.Path("/etc/ipipdirect/config.json")  # where it looks unless it is told
OTHER = os.path.join(agent.BUILD_DIR, "tests/vm/other/build/agent/ipipdirectd")


@pytest.fixture(scope="module")
def ships(world):
    with fleet.Fleet(3, uplink=False) as made:
        made.set_up(range(3))
        yield made


@pytest.fixture(scope="module")
def pairs(world):
    with fleet.Pairs() as made:
        yield made


@pytest.fixture
def expected(world, ships, pairs):
    """Asks what the map should hold; iproute2 agrees before and afterwards."""
    def ask():
        return {**world.rows(), **ships.rows(), **pairs.rows()}

    assert ask() == fleet.oracle()
    yield ask
    assert ask() == fleet.oracle()


def cases(places, in_parts, rng, found=(), some=SOME):
    """[(call, number, fault)] of those that come once."""
    if ONE:
        return [(ONE[0], int(ONE[2]), ONE[1])] if ONE[2] != "1+" else []
    if faults.SANITIZED:
        places = {place: numbers for place, numbers in places.items() if place[0] not in ("mmap", "mremap", "mprotect")}
    if not ALL:
        return (injection.found_of(places, found) + injection.some_of(places, some, rng)
                + rng.sample(in_parts, min(SOME_PARTS, len(in_parts))))
    return (injection.all_of(places) + in_parts)[SHARD - 1::SHARDS]


# ---- at its start


def places_at_start(expected, prepare):
    """Where it calls what, and those calls that the kernel may do in part."""
    def trace(arguments):
        prepare()
        process, ready = start_traced(arguments)
        assert ready, faults.log_tail()
        wait_right(expected)
        assert faults.end_traced(process), faults.log_tail()
        return faults.trace_text()

    text = trace(strace("-s", "200"))
    parts = injection.cut_in(trace(arguments_of(*injection.COUNT_PARTS)))
    after = injection.after_the_loader(text)
    return injection.places_in(text, after), injection.parts_of(parts, injection.reads_before(text, after))


def is_up(process, expected, report, started):
    """Whether it makes the map right, in time from its start on and so from the fault on, or ends instead."""
    lied = False

    def is_over():
        nonlocal lied
        if process.poll() is None:
            with contextlib.suppress(IndexError, OSError):  # it is just ending
                lied = lied or faults.is_lying_at_start(expected, faults.tracee(process))
        return process.poll() is not None or faults.is_right(expected)

    with contextlib.suppress(AssertionError):
        topology.wait_for(is_over, "", faults.LIMIT)
    seconds = time.monotonic() - started
    assert not lied, "it said ok, and the map was wrong"
    if process.poll() is None:
        assert faults.is_right(expected) and seconds <= faults.RECOVERS, f"{seconds:.1f} s after its start: {faults.what_is_wrong(expected)}"
        report.recovered(seconds)
    with contextlib.suppress(subprocess.TimeoutExpired):  # what comes after the first pass
        process.wait(0.2)
    return process.poll() is None


def start_with(case, expected, report):
    """Returns whether it got ready."""
    started = time.monotonic()
    process, ready = start_traced(arguments_of(*case))
    try:
        if ready and is_up(process, expected, report, started) and faults.end_traced(process):
            faults.check_said()
            report.count["endured"] += 1
        else:
            ready = False
            faults.check_end(process, case[0], case[2])
            report.count["ended, saying why"] += 1
    finally:
        if process.poll() is None:
            faults.kill_traced(process)
    report.count["faults"] += 1
    report.count["not reached"] += not faults.was_injected()
    return ready


def restarted(expected, report):
    with new_agent():
        report.recovered(wait_right(expected))


def its_own():
    """What is attached is of the agent before."""


def another_version():
    agent.Agent(command=(OTHER,)).kill()


# What a sweep found wanting once is tried each time: the modes that are read by an interrupted call, a process that cannot be
# looked at, which was put off for longer than it took to come right; the maps that do not get
# their place, the other version's that stay, and "ready" that is not heard.
FOUND = {its_own: [("openat", "modes.json", "error=EINTR"), ("newfstatat", "net/stat", "error=ENOMEM")],
         another_version: [("rename", "_new", "error=EPERM"), ("rmdir", "", "error=EPERM"), ("sendmsg", "READY", "error=ENOBUFS")]}


@pytest.mark.parametrize("prepare", [its_own, another_version], ids=["after its like", "after another version"])
def test_at_its_start(world, ships, pairs, expected, prepare):
    change, report, rng = Change(ships, pairs), Report(f"start, {prepare.__name__}", SEED), random.Random(SEED)
    restarted(expected, report)
    change()
    places, in_parts = places_at_start(expected, prepare)
    with traffic.Unharmed(world, per_second=20):
        harm = Harm(world)
        for i, case in enumerate(cases(places, in_parts, rng, FOUND[prepare])):
            call, number, fault = case
            with report.trial(f"{call}:{fault}:when={number}") as failed:
                prepare()
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


def bell(work):
    work.change()


def ask(work):
    """What clients have it do, besides; they may be refused, or get no answer. One that gets the answer that all could be read,
    after the change, has been told that the map is right."""
    work.change()
    ship = max(work.change.ships.remotes)
    if faults.ctl("resync") == 0:
        assert faults.map_now() == work.expected(), "'resync' says that it is complete, and the map is wrong"
    for words in (["mode", work.change.ships.name(ship), f"z{ship}", "shadow"],
                  ["mode", work.change.ships.name(ship), f"z{ship}", "default"], ["-j", "status"]):
        faults.ctl(*words)


def hangup(work):
    """With something new, of which it may hear either way."""
    work.change()
    with contextlib.suppress(ProcessLookupError):
        work.running.process.send_signal(signal.SIGHUP)


def resize(work):
    """The maps get another size each time, so that another program takes the place of the one that is attached."""
    CONFIG.parent.mkdir(exist_ok=True)
    CONFIG.write_text(json.dumps({"max_entries": 8192 + work.change.number % 2}), encoding="ascii")
    hangup(work)


def place(work):
    """An operator takes the program off and puts it back, which may be refused."""
    work.change()
    faults.ctl("detach")
    faults.ctl("attach")


# In the short form: the maps when tunnels change, the configuration when it is to be read anew, clients when they come,
# what is attached when the program is to be replaced, or where nobody asks by a message, the maps, the file that keeps the
# operator's wish.
FIRST_TO_LAST = {bell: ("bpf", "error=ENOMEM"), hangup: ("openat", "error=EMFILE"), ask: ("accept4", "error=EMFILE"),
                 resize: ("bpf", "error=ENOMEM") if has_tcx() else ("sendto", "error=ENOBUFS"), place: ("renameat", "error=ENOSPC")}


def lasting_cases(places, parts, rng, trigger):
    calls = sorted({call for call, _ in places})
    if ONE:
        return [(ONE[0], ONE[1])] if ONE[2] == "1+" else []
    in_parts = [(call, injection.PART) for call, (_, seen) in parts.items() if seen]
    if ALL:
        return ([(call, fault) for call in calls for fault in injection.faults_of(call)] + in_parts)[SHARD - 1::SHARDS]
    assert FIRST_TO_LAST[trigger][0] in calls
    call = rng.choice(calls)
    return [FIRST_TO_LAST[trigger], (call, rng.choice(injection.faults_of(call))), rng.choice(in_parts)]


def try_all(world, work, once, lasting=()):
    """Those that come once, and then those that last, under replies of three tunnels."""
    trials = [(f"{call}:{fault}:when={number}", lambda case=(call, number, fault): work.fault(*case)) for call, number, fault in once]
    trials += [(f"{call}:{fault}:when=1+", lambda case=(call, fault): work.lasting(*case, LASTS)) for call, fault in lasting]
    with traffic.Unharmed(world, per_second=20, all_direct=not work.detaches):
        harm = Harm(world)
        for what, strike in trials:
            with work.report.trial(what) as failed:
                strike()
                if not work.detaches:
                    harm.check()
            if failed:
                work.anew()


@pytest.mark.parametrize("trigger", [bell, hangup, resize, ask, place],
                         ids=["in a pass", "at SIGHUP", "at SIGHUP with another size", "while clients ask",
                              "while an operator detaches and attaches"])
def test_at_work(world, ships, pairs, expected, trigger):
    report, rng, detaches = Report(trigger.__name__, SEED), random.Random(SEED), trigger is place
    with AtWork(trigger, Change(ships, pairs), expected, report, detaches) as work:
        places, parts = work.places(), work.parts()
        once = cases(places, injection.parts_of(parts), rng)
        try_all(world, work, once, lasting_cases(places, parts, rng, trigger))
    report.end({call for call, _ in places})


# ---- the child that writes the status of many


EACH = 250  # with eight times as many tunnels no processor is so fast that the agent writes of them itself


@pytest.fixture
def crowd(expected):
    del expected  # asks iproute2 about all there is
    with fleet.Fleet(8, "crowd", uplink=False, first_remote=fleet.FIRST_REMOTE + (1 << 16)) as made:
        made.set_up([0])
        yield made, made.fill(EACH)


def change_one(work):
    work.change(0)


def has_ended(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"


def trace_a_child(work):
    """As strace -f does, but slowly: for a while it has ended, and the agent, which is woken for that, cannot see it."""
    def is_traced():
        for pid in faults.children(work.running.process.pid):
            with contextlib.suppress(OSError):  # it has just ended
                kernel.trace(pid)
                return pid
        return None

    work.change(0)
    child = topology.wait_for(is_traced, "a child", faults.LIMIT)
    topology.wait_for(lambda: has_ended(child), "its end", faults.LIMIT)
    time.sleep(0.5)
    os.waitpid(child, 0)


def test_while_a_child_writes_the_status(world, expected, crowd):
    """Of many tunnels. What it cannot do is tried again; the map is none of its business."""
    report, rng = Report("status", SEED), random.Random(SEED)
    ships, others = crowd
    everything = lambda: {**expected(), **ships.rows(), **{(remote, None): remote for remote in others}}
    with AtWork(change_one, ships.change, everything, report, children=True) as work:
        places = work.places()
        assert {"openat", "write", "renameat"} <= {call for call, _ in places}, "no child wrote a status"
        try_all(world, work, cases(places, [], rng, some=2))
        trace_a_child(work)
        work.change(0)
        topology.wait_for(lambda: lists(everything), "a status of what came after it", faults.LIMIT)
    report.end({call for call, _ in places})
