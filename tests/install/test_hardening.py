# SPDX-License-Identifier: MIT
"""What the linker and the compiler were to put into the two programs is in them."""

import os
import pathlib
import re
import signal
import subprocess

import pytest

BUILD_DIR = pathlib.Path(os.environ["BUILD_DIR"])
PROGRAMS = ("agent/ipipdirectd", "tools/ipipdirectctl")


def readelf(*args):
    done = subprocess.run(["readelf", "-W", *args], capture_output=True, text=True, timeout=60, check=True,
                          env=os.environ | {"LC_ALL": "C"})
    assert done.stdout
    return done.stdout


@pytest.fixture(params=PROGRAMS, ids=lambda path: path.rsplit("/", 1)[1])
def program(request):
    return BUILD_DIR / request.param


def segments(program):
    """Its program headers: {type: [flags]}."""
    found = re.findall(r"^\s+([A-Z_]+)\s+0x\S+ 0x\S+ 0x\S+ 0x\S+ 0x\S+ ([RWE ]{3})", readelf("-l", program), re.M)
    headers = {}
    for kind, flags in found:
        headers.setdefault(kind, []).append(flags)
    assert "LOAD" in headers
    return headers


def calls(program):
    return set(re.findall(r"\bUND\s+(\w+)", readelf("--dyn-syms", program)))


def test_it_is_placed_anywhere(program):
    assert re.search(r"Type:\s+DYN", readelf("-h", program))
    assert re.search(r"\(FLAGS_1\).*\bPIE\b", readelf("-d", program))


def test_relocations_are_read_only_before_it_runs(program):
    assert "GNU_RELRO" in segments(program)
    assert re.search(r"\(FLAGS\).*\bBIND_NOW\b|\(FLAGS_1\).*\bNOW\b", readelf("-d", program))
    assert "(TEXTREL)" not in readelf("-d", program)


def test_nothing_is_both_written_and_executed(program):
    headers = segments(program)
    assert headers["GNU_STACK"] == ["RW "]
    assert not [flags for flags in headers["LOAD"] if "W" in flags and "E" in flags]


def test_the_stack_is_guarded(program):
    assert "__stack_chk_fail" in calls(program)


def test_the_libc_checks_sizes(program):
    checked = {name for name in calls(program) if re.fullmatch(r"__\w+_chk", name)}
    assert {"__snprintf_chk", "__fprintf_chk"} <= checked


def test_libraries_come_from_where_the_system_has_them(program):
    assert not re.search(r"\((RPATH|RUNPATH)\)", readelf("-d", program))


FILTERED = [BUILD_DIR / "tests" / name for name in ("filtered", "allowed-calls")]


@pytest.mark.parametrize("command, status", [(["true"], 0), (["false"], 1), (["chroot", "/", "true"], -signal.SIGSYS)], ids=str)
def test_the_filter_of_the_tests_kills(command, status):
    """Under it the agents of the other tests run: who asks for what the unit forbids does not get away with it."""
    assert subprocess.run([*FILTERED, *command], check=False, timeout=60).returncode == status


def test_the_filter_of_the_tests_is_the_units():
    calls = set(FILTERED[1].read_text(encoding="ascii").split())
    assert {"bpf", "capset", "setpriority", "sendmsg", "execve"} <= calls
    assert not calls & {"mount", "chroot", "ptrace", "init_module", "chown", "setresuid", "sched_setscheduler"}
