# SPDX-License-Identifier: MIT
"""Fixtures of the datapath tests: one namespace and one loaded object for all of them."""

import os

import pytest

import datapath
import packets
import transcript


RECORD, REPLAY = os.environ.get("IPIPDIRECT_RECORD"), os.environ.get("IPIPDIRECT_REPLAY")
collect_ignore = [] if REPLAY and transcript.fits(REPLAY) else ["test_replay.py"]


def is_live(item):
    """Whether another kernel must be asked by the test itself: real sockets, or an answer that may differ."""
    return item.get_closest_marker("live") or "inside" in item.fixturenames


def pytest_configure(config):
    config.addinivalue_line("markers", "live: never replayed from a transcript")
    config.recorder = transcript.Recorder(RECORD) if RECORD else None


def pytest_collection_modifyitems(items):
    if not collect_ignore:
        # Of the live ones those with an agent: what they send passes through all that is asked without one, too.
        items[:] = [item for item in items if item.path.name == "test_replay.py"
                    or is_live(item) and "[alone" not in item.name]
    if os.geteuid():
        for item in items:
            item.add_marker(pytest.mark.skip(reason="loading BPF programs needs root"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    if item.config.recorder:
        name = item.nodeid.rpartition("/")[2].removeprefix("test_").replace(".py::test_", "::")
        item.config.recorder.begin(None if is_live(item) else name)


def pytest_sessionfinish(session, exitstatus):
    if session.config.recorder:
        whole = not session.config.option.keyword and not session.config.option.markexpr and all(
            os.path.isdir(path) for path in session.config.args)
        session.config.recorder.close(whole and exitstatus == 0)


@pytest.fixture(scope="session")
def note(request):
    recorder = request.config.recorder
    return recorder.note if recorder else lambda question, answer: None


@pytest.fixture(scope="session")
def namespace(note):
    space = datapath.Namespace()
    space.note = note  # what it has from the start, every namespace has
    yield space
    space.close()


@pytest.fixture(scope="session")
def runner(namespace, note):
    process = datapath.Runner(namespace, note)
    yield process
    process.close()


@pytest.fixture(params=["alone", "agent"])
def configured(runner, request):
    """The runner, with the entries of packets.py and nothing counted yet; without an agent and with one."""
    runner.configure(packets.CONFIG, agent=request.param == "agent")
    return runner
