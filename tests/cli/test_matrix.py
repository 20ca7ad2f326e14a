# SPDX-License-Identifier: MIT
"""Every command of --help, for people and for programs, with an agent and without, narrow and wide, on a terminal and
in a pipe, and with wrong arguments. The list is --help's own: a command that is new is here or fails the first test."""

import json
import re
import signal
import subprocess

import pytest

from sandbox import CTL, Sandbox, ctl_outside
from schemas import EXAMPLES, closed, load, validator

CONFIG = "/run/etc/config.json"
READS_AGENT = {0, 4}  # by what the status that it is shown says


class Call:
    """How a command is called here, what it may end with, and the schema of its JSON."""

    def __init__(self, *words, alive=(0,), dead=(0,), schema=None, wide=False):
        self.words, self.alive, self.dead, self.schema = list(words), set(alive), set(dead), schema
        self.wide = wide  # its lines are for programs, and as long as they are


CALLS = {
    "status": Call(alive=READS_AGENT, dead=[3], schema="status"),
    "netns": Call(dead=[3], schema="ctl-netns"),
    "tunnels": Call(dead=[3], schema="ctl-tunnels"),
    "map dump": Call(schema="ctl-map"),
    "map get": Call("203.0.113.10", schema="ctl-map"),
    "stats": Call(schema="ctl-stats"),
    "top": Call("-n1", "-d0.1"),
    "explain": Call("csgo", alive=READS_AGENT, dead=READS_AGENT, schema="ctl-explain"),
    "doctor": Call(alive=READS_AGENT, dead=[4], schema="ctl-doctor"),
    "metrics": Call(wide=True),
    "events": Call(dead=[3], schema="ctl-events"),
    "config check": Call(CONFIG, schema="ctl-config"),
    "reload": Call(dead=[3], schema="ctl-reload"),
    "mode": Call("game1", "tun0", "direct", alive=[2], dead=[3], schema="ctl-mode"),
    "resync": Call(alive=READS_AGENT, dead=[3], schema="ctl-resync"),
    "attach": Call(dead=[3], schema="ctl-attach"),
    "detach": Call(schema="ctl-detach"),
    "version": Call(schema="ctl-version"),
}
CHANGES = {"reload", "mode", "resync", "attach", "detach"}
LOOKS = [name for name in CALLS if name not in CHANGES | {"events"}]
WITHOUT_JSON = {"top", "metrics"}


def in_help():
    """{name: its arguments}, of --help."""
    text = ctl_outside("--help").stdout
    text = text[text.index("\nCommands"):text.index("\nOptions")]
    found = re.findall(r"^  ([a-z]+(?: [a-z]+)?)((?: \[?[A-Z_]+\]?)*) ", text, re.M)
    return {name: arguments.split() for name, arguments in found}


HELP = in_help()


def test_every_command_is_here():
    assert set(HELP) == set(CALLS)


def fill(sandbox, agent_lives):
    """Rows and tunnels of all kinds; a lock stands for the agent, which would remove them."""
    sandbox.write(CONFIG, "{}")
    sandbox.once()
    sandbox.add_counted_rows()
    real, document = sandbox.read_status(), load(EXAMPLES / "status.json")
    document.update(interfaces=real["interfaces"])
    sandbox.write_status(document)
    return sandbox.hold_lock() if agent_lives else None


@pytest.fixture(name="full", scope="module")
def fixture_full():
    sandbox = Sandbox()
    holder = fill(sandbox, True)
    yield sandbox
    holder.stdin.close()
    holder.wait(30)
    holder.stdout.close()
    sandbox.close()


@pytest.fixture(name="dead", scope="module")
def fixture_dead():
    sandbox = Sandbox()
    fill(sandbox, False)
    yield sandbox
    sandbox.close()


@pytest.fixture(name="alive", scope="module")
def fixture_alive():
    sandbox = Sandbox()
    sandbox.write(CONFIG, "{}")
    sandbox.start_agent("--config", CONFIG)
    yield sandbox
    sandbox.close()


def words_of(name):
    return [*name.split(), *CALLS[name].words]


def check_json(name, done):
    """One document and nothing besides; an error has its own form."""
    assert done.stderr == "" and "\x1b" not in done.stdout
    document = json.loads(done.stdout)
    if "error" in document:
        assert done.returncode in (1, 2, 3)
        validator("ctl-error", closed).validate(document)
    else:
        validator(CALLS[name].schema, closed).validate(document)


def stable(value):
    """A document without what time changes."""
    if isinstance(value, dict):
        return {key: stable(part) for key, part in value.items() if key not in ("time", "file_age")}
    if isinstance(value, list):
        return [stable(part) for part in value]
    return re.sub(r"\w+ ago", "", value) if isinstance(value, str) else value


def check_pretty(name, done, plain):
    """The document of -j, over several lines."""
    assert done.returncode == plain.returncode
    check_json(name, done)
    assert stable(json.loads(done.stdout)) == stable(json.loads(plain.stdout))
    assert plain.stdout.count("\n") == 1 and done.stdout.count("\n") > 2


def check_text(name, done):
    assert re.fullmatch(r"[\x20-\x7e\n]*", done.stdout + done.stderr), name
    if done.returncode in (1, 2, 3):
        assert done.stderr.startswith("ipipdirectctl: ")


@pytest.mark.parametrize("name", LOOKS)
@pytest.mark.parametrize("how", ["full", "dead"])
def test_looking(request, name, how):
    place = request.getfixturevalue(how)
    done = place.ctl(*words_of(name))
    assert done.returncode in (CALLS[name].alive if how == "full" else CALLS[name].dead), done.stderr
    check_text(name, done)
    assert done.stdout
    if name in WITHOUT_JSON:
        return
    again = place.ctl("-j", *words_of(name))
    assert again.returncode == done.returncode
    check_json(name, again)
    check_pretty(name, place.ctl("-p", *words_of(name)), again)


@pytest.mark.parametrize("name", [name for name in CALLS if name in CHANGES])
def test_changing(alive, name):
    for options in ([], ["-j"], ["-p"]):
        done = alive.ctl(*options, *words_of(name))
        assert done.returncode in CALLS[name].alive, done.stdout + done.stderr
        if options:
            check_json(name, done)
            assert (done.stdout.count("\n") > 2) == (options == ["-p"])
        else:
            check_text(name, done)
    assert alive.ctl("attach").returncode == 0, "as it was"


@pytest.mark.parametrize("name", [name for name in CALLS if name in CHANGES - {"detach"}] + ["events"])
def test_without_an_agent(dead, name):
    done = dead.ctl(*words_of(name))
    assert done.returncode in CALLS[name].dead and done.stdout == ""
    assert "hint: start it" in done.stderr
    plain = dead.ctl("-j", *words_of(name))
    check_json(name, plain)
    check_pretty(name, dead.ctl("-p", *words_of(name)), plain)


def test_events(alive):
    for options in ([], ["-j"], ["-p"]):
        with alive.start(CTL, *options, "events", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            text = process.stdout.readline()
            while options == ["-p"] and not text.endswith("\n}\n"):
                text += process.stdout.readline()
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            assert (process.wait(30), process.stderr.read()) == (0, "")
        assert "\x1b" not in text and "resync" in text
        if options:
            validator("ctl-events", closed).validate(json.loads(text))


@pytest.mark.parametrize("name", [name for name in LOOKS if not CALLS[name].wide])
@pytest.mark.parametrize("columns", [80, 200])
def test_no_line_is_wider_than_the_reader(full, name, columns):
    """By COLUMNS in a pipe, and on a terminal of that width, where an error may break as it likes."""
    piped = full.ctl(*words_of(name), env={"COLUMNS": str(columns)}).stdout
    _status, shown = full.ctl_on_terminal(*words_of(name), columns=columns)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())
    for line in piped.splitlines() + shown.splitlines():
        if not line.startswith(("ipipdirectctl: ", "hint: ")):
            assert len(line) <= columns, line


@pytest.mark.parametrize("name", LOOKS)
def test_escapes_are_for_terminals(full, name):
    """Of colour nothing in a pipe (test_looking), under NO_COLOR, on a dumb terminal, or in JSON."""
    for env, options in (({"NO_COLOR": "1"}, []), ({"TERM": "dumb"}, []), ({}, ["-j"])):
        _status, shown = full.ctl_on_terminal(*options, *words_of(name), env=env)
        assert b"\x1b" not in shown, (env, options)
        if options and name not in WITHOUT_JSON:
            json.loads(shown)


@pytest.mark.parametrize("name", ["status", "doctor", "explain"])
def test_a_terminal_gets_colour(full, name):
    _status, shown = full.ctl_on_terminal(*words_of(name))
    colours = re.findall(rb"\x1b\[([0-9;]*)m", shown)
    assert set(colours) - {b"0"} and colours[-1] == b"0", "what begins ends"
    assert not re.search(rb"\x1b(?!\[[0-9;]*m)", shown)


def wrong_calls():
    for name, arguments in HELP.items():
        words = words_of(name)
        yield [*words, "--nothing"], "--nothing"
        yield [*words, *["extra"] * 4], "extra"
        if any(not argument.startswith("[") for argument in arguments):
            yield name.split(), "needs an argument"
        if "--status-file" not in ctl_outside(*name.split(), "--help").stdout:
            yield [*words, "--status-file", "x"], "--status-file"
    names = sorted({name.split()[0] for name in HELP})
    for length in range(1, 8):
        for prefix in {name[:length] for name in names} - set(names):
            rivals = [name for name in names if name.startswith(prefix)]
            if len(rivals) > 1:
                yield [prefix], ", ".join(rivals[:1])


@pytest.mark.parametrize("words, says", list(wrong_calls()), ids=str)
def test_wrong_arguments(words, says):
    done = ctl_outside(*words)
    assert (done.returncode, done.stdout) == (1, "")
    first, hint = done.stderr.splitlines()
    assert first.startswith("ipipdirectctl: ") and says in first
    assert hint.startswith("hint: try 'ipipdirectctl ") and hint.endswith("--help'")
    done = ctl_outside("-j", *words)
    assert (done.returncode, done.stderr) == (1, "")
    document = json.loads(done.stdout)
    validator("ctl-error", closed).validate(document)
    assert document["error"]["code"] == "usage"


def test_detach_without_an_agent():
    """Last, and in a place of its own: nothing is left after it."""
    sandbox = Sandbox()
    try:
        for options in ([], ["-j"]):
            fill(sandbox, False)
            done = sandbox.ctl(*options, "detach")
            assert done.returncode == 0
            if options:
                check_json("detach", done)
            else:
                check_text("detach", done)
    finally:
        sandbox.close()
