# SPDX-License-Identifier: MIT
"""config check and reload: good and bad files, where they are wrong, and what the running agent makes of them."""

import json
import os
import pathlib
import re
import signal
import subprocess
import threading

import pytest

from control import wait_for
from sandbox import CTL, ctl_outside

EXAMPLES = pathlib.Path(__file__).parents[2] / "schema" / "examples"
FILE = "/run/config.json"
BAD_PREFIX = '{ "rules": [\n    { "match": { "remote": "192.0.2.1/24" }, "set": {} } ] }'


@pytest.fixture
def check(tmp_path):
    """check(text or bytes, *args): what the command says about a file with that in it."""
    def run(text, *args, **options):
        path = tmp_path / "x.json"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return ctl_outside(*args, "config", "check", str(path), **options)
    return run


# config check.


def test_a_good_file_is_summed_up(check):
    done = check((EXAMPLES / "config-full.json").read_text(encoding="utf-8"))
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"File +\S+/x\.json: good\n", done.stdout)
    assert re.search(r"^Rules +5, 2 of them about trust$", done.stdout, re.M)
    assert re.search(r"^Interfaces +eth0, eth1$", done.stdout, re.M)


def test_a_good_file_as_json(check, fits):
    done = check((EXAMPLES / "config-full.json").read_text(encoding="utf-8"), "-j")
    document = fits("ctl-config", json.loads(done.stdout))
    assert (done.returncode, document["rules"], document["allowed_game_server_ips"]) == (0, 5, 2)
    assert document["defaults"]["server_ports"] == [7777, "27015-27020"]
    document = fits("ctl-config", json.loads(check("{}", "-j").stdout))
    assert (document["rules"], document["limits"]["namespaces"]) == (0, 16384)


def rule(match, **parts):
    return {"match": match, "set": parts or {"mode": "shadow"}}


@pytest.mark.parametrize("rules, hidden", [
    ([rule({"netns": "a"}), rule({"netns": "a"}, server_ports=[1])], {1: 0}),
    ([rule({"netns": "a"}, mode="direct"), rule({"netns": "a"}, server_ports=[1], trust=True)], {1: 0}),
    ([rule({"netns": "a"}), rule({"netns": "a"}, trust=True)], {}),
    ([rule({"netns": "a"}, trust=True), rule({"netns": "a", "ifname": "tun0"})], {1: 0}),
    ([rule({}), rule({"netns": "a"}), rule({"remote": "192.0.2.1"})], {1: 0, 2: 0}),
    ([rule({"netns": "a", "ifname": "tun0"}), rule({"netns": "a"})], {}),
    ([rule({"label": "a"}), rule({"netns": "a"})], {}),
    ([rule({"remote": "192.0.2.0/24"}), rule({"remote": "192.0.2.7"}), rule({"remote": "192.0.0.0/16"})], {1: 0}),
    ([rule({"local": "192.0.2.0/24"}), rule({"remote": "192.0.2.7"}), rule({"local": "192.0.2.0/25"})], {2: 0}),
    ([rule({"remote": "192.0.2.0/24"}), rule({"netns": "a"}), rule({"netns": "a", "remote": "192.0.2.9"})], {2: 0}),
], ids=str)
def test_rules_that_never_decide_are_told(check, fits, rules, hidden):
    text = json.dumps({"rules": rules})
    done = check(text)
    assert done.returncode == 0
    for i in range(len(rules)):
        told = f"rules[{i}] never decides" in done.stdout
        assert told == (i in hidden) and (not told or f"rules[{hidden[i]}] matches all" in " ".join(done.stdout.split()))
    document = fits("ctl-config", json.loads(check(text, "-j").stdout))
    assert {each["rule"]: each["by"] for each in document["hidden_rules"]} == hidden


@pytest.mark.skipif(os.path.exists("/etc/ipipdirect/config.json"), reason="this machine has a configuration")
def test_without_any_file_the_defaults_hold(fits):
    done = ctl_outside("config", "check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "the defaults hold" in done.stdout
    assert fits("ctl-config", json.loads(ctl_outside("-j", "config", "check").stdout))["file"] is None


@pytest.mark.parametrize("text, line, column, place, message", [
    ("", 1, 1, None, "expected"),
    ("[]", 1, 1, None, "expected an object"),
    ('{"mode": "direct",\n "mode": "shadow"}', 2, 2, None, "duplicate object key"),
    ('{"mode": "direct",\n "moed": "shadow"}', 2, 2, "moed", 'did you mean "mode"?'),
    ('{"mode":\n true}', 2, 2, "mode", 'expected "direct", "shadow" or "tunnel"'),
    ('{"max_entries": 123456789012345678901}', 1, 17, None, "too big integer"),
    ('{"max_entries": 4294967312}', 1, 17, "max_entries", "expected a whole number from 16"),
    ("[" * 1000000, 1, None, None, "maximum parsing depth"),
    (b'{"mode": "di\0rect"}', 1, 13, None, "NUL"),
    (b'{"mode":\n"\xff"}', 2, 2, None, "0xff"),
    ("\ufeff{}", 1, 1, None, "expected near"),
    (BAD_PREFIX, 2, 28, "rules[0].match.remote", "expected an IPv4 prefix"),
    ('{"rules": [{"match": {}, "set": {"trust": true}}]}', 1, 43, "rules[0].set.trust", "netns"),
], ids=lambda value: repr(value)[:30])
def test_a_bad_file_is_refused_with_its_place(check, is_error, text, line, column, place, message):
    done = check(text, "-j")
    assert (done.returncode, done.stderr) == (2, "")
    document = json.loads(done.stdout)
    is_error(document, "config-invalid")
    error = document["error"]
    assert (error["line"], error["place"]) == (line, place)
    assert column in (None, error["column"])
    assert message in error["message"] and error["file"].endswith("/x.json")

    done = check(text)
    assert (done.returncode, done.stdout) == (2, "")
    first = done.stderr.splitlines()[0]
    assert first.startswith(f"ipipdirectctl: {error['file']}: line {line}, column {error['column']}: ")
    assert message in first


def excerpt(done):
    """(the line that is shown, the column of the caret in it), both behind the gutter."""
    _message, line, caret = done.stderr.splitlines()
    assert re.fullmatch(r" *\d+ \| .*", line) and re.fullmatch(r" +\| +\^", caret)
    assert line.index("|") == caret.index("|")
    return line.split(" | ", 1)[1], caret.index("^") - caret.index("|") - 2


@pytest.mark.parametrize("columns", [1, 20, 30, 40, 60, 80, 200])
def test_the_caret_stands_under_the_mistake(check, columns):
    texts = [BAD_PREFIX, '{"rules":[' + '{"match": {}, "set": {}}, ' * 50 +
             '\t{"match": {"netns": "\u00e4\u20ac", "remote": "192.0.2.1/24"}, "set": {}}' +
             ', {"match": {}, "set": {}}' * 50 + "]}"]
    for text in texts:
        done = check(text, env={"COLUMNS": str(columns)})
        line, column = excerpt(done)
        shown = line[column:].removesuffix("...")
        assert shown and '"192.0.2.1/24"'.startswith(shown[:14])
        if columns >= 30:
            assert max(map(len, done.stderr.splitlines()[1:])) <= columns
    assert line.startswith("...") and line.endswith("...")


def test_a_terminal_breaks_the_message_between_words(sandbox):
    path = "/run/with/a/path/that/is/long/enough/config.json"
    sandbox.write(path, '{"rules": [{"match": {"remote": "192.0.2.1/24"}, "set": {}}]}')
    for command in (("config", "check", path), ("status",)):
        in_pipe = sandbox.ctl(*command).stderr.splitlines()[0]
        _status, output = sandbox.ctl_on_terminal(*command, columns=40)
        message = output.decode().replace("\r", "").split("hint:")[0].split("\n    1 | ")[0]
        lines = message[message.index("ipipdirectctl: "):].splitlines()
        # A path has no place to break.
        assert all(len(line) <= 40 or " " not in line.strip() for line in lines[1:])
        assert " ".join(line.strip() for line in lines) == in_pipe


def test_a_line_of_a_megabyte_is_not_printed(check):
    done = check('{"rules": [' + '{"match": {}, "set": {}}, ' * 1000 + '{"match": {}}]}')
    assert done.returncode == 2 and len(done.stderr) < 500


def test_the_caret_behind_the_end(check):
    line, column = excerpt(check('{\n"mode": "direct"'))
    assert line == '"mode": "direct"' and column in (len(line) - 1, len(line))


def test_nothing_in_the_file_reaches_a_terminal_raw(check):
    done = check('{"\033]0;evil\a\u202e\\u001b": 1, "x\u009b": "\\u001b[31m"}'.encode())
    assert done.returncode == 2
    assert re.fullmatch(r"[\x20-\x7e\n]*", done.stderr)


@pytest.mark.parametrize("kind", ["directory", "fifo", "device", "missing", "huge", "loop"])
def test_what_is_no_file_is_refused_at_once(tmp_path, is_error, kind):
    path = tmp_path / "x.json"
    code, message = "config-invalid", "not a regular file"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = pathlib.Path("/dev/zero")
    elif kind == "missing":
        code, message = "not-found", "No such file"
    elif kind == "loop":
        path.symlink_to(path)
        message = "symbolic links"
    else:
        with open(path, "wb") as file:
            file.truncate(100 * 1024 * 1024)
        message = "larger than 1048576 bytes"
    done = ctl_outside("-j", "config", "check", str(path))
    assert done.returncode == 2
    document = json.loads(done.stdout)
    is_error(document, code)
    assert message in document["error"]["message"] and document["error"]["line"] is None
    done = ctl_outside("config", "check", str(path))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_a_file_that_may_not_be_read(sandbox, is_error):
    sandbox.write(FILE, "{}")
    sandbox.do("chmod", "600", FILE)
    done = sandbox.ctl_as_nobody("-j", "config", "check", FILE)
    assert done.returncode == 2
    is_error(json.loads(done.stdout), "permission")


# reload.


@pytest.fixture
def agent(sandbox):
    """A sandbox in which the real agent runs, with FILE as its configuration."""
    sandbox.write(FILE, "{}")
    sandbox.start_agent("--config", FILE)
    return sandbox


def test_reload_takes_a_good_file(agent, fits):
    before = agent.read_status()["agent"]
    assert (before["reloads"], before["config"], before["config_error"]) == (0, FILE, None)
    agent.write(FILE, '{"offload_guard": "off"}')
    status, document = agent.ctl_json("reload")
    assert status == 0
    assert fits("ctl-reload", document)["config"] == FILE and document["reloads"] == 1
    after = agent.read_status()
    assert (after["agent"]["reloads"], after["agent"]["pid"]) == (1, before["pid"])
    # A pass was made with it.
    assert after["interfaces"][0]["offload_guard"]["policy"] == "off"
    done = agent.ctl("reload")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"the agent has taken {FILE}\n", "")


def test_reload_of_a_bad_file_keeps_the_former_one(agent, fits, is_error):
    agent.write(FILE, '{"offload_guard": "off"}')
    assert agent.ctl("reload").returncode == 0
    agent.write(FILE, '{\n  "offload_guard": "of"}')
    done = agent.ctl("reload")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (f"ipipdirectctl: refused, the former configuration holds: {FILE}: line 2, column 20: "
                           'offload_guard: expected "auto", "on" or "off"\n')
    status, document = agent.ctl_json("reload")
    assert status == 2
    is_error(document, "config-refused")
    assert {name: document["error"][name] for name in ("file", "line", "column", "place")} == {
        "file": FILE, "line": 2, "column": 20, "place": "offload_guard"}

    status, document = agent.ctl_json("status")
    assert status == 4
    fits("status", document)
    assert document["agent"]["config_error"]["line"] == 2
    assert any("line 2, column 20: offload_guard" in problem for problem in document["agent"]["problems"])
    assert document["interfaces"][0]["offload_guard"]["policy"] == "off"

    agent.do("rm", FILE)
    assert "No such file" in agent.ctl_json("reload")[1]["error"]["message"]
    agent.write(FILE, "{}")
    assert agent.ctl("reload").returncode == 0
    assert agent.ctl_json("status")[1]["agent"]["config_error"] is None


def test_reload_without_an_agent(sandbox, is_error):
    status, document = sandbox.ctl_json("reload")
    assert status == 3
    is_error(document, "agent-unreachable")
    sandbox.once()
    assert sandbox.ctl("reload").returncode == 3


def test_reload_needs_root(agent, is_error):
    agent.do("chmod", "-R", "a+rX", "/run/ipipdirect")
    done = agent.ctl_as_nobody("-j", "reload")
    assert done.returncode == 2
    is_error(json.loads(done.stdout), "permission")


def test_reload_where_nobody_listens(sandbox, is_error):
    """The agent does its job without a socket, and SIGHUP is left."""
    sandbox.do("mkdir", "-p", "/run/ipipdirect/io.ipipdirect/full")
    sandbox.write(FILE, "{}")
    sandbox.start_agent("--config", FILE)
    status, document = sandbox.ctl_json("reload")
    assert status == 3
    is_error(document, "agent-unreachable")
    assert "no control socket" in document["error"]["message"]
    sandbox.agent.send_signal(signal.SIGHUP)
    wait_for(lambda: sandbox.read_status()["agent"]["reloads"] == 1)


def test_reload_is_answered_for_its_own_call(sandbox, is_error):
    """A reload before it, whose status is still being written, is another's."""
    overrides = [{"netns": f"n{i}" + "x" * 200, "ifname": "tun0", "mode": "tunnel", "until_reload": False} for i in range(4096)]
    sandbox.write("/run/ipipdirect/modes.json", json.dumps({"version": 1, "overrides": overrides}))
    sandbox.write(FILE, "{}")
    sandbox.start_agent("--config", FILE)
    for _ in range(20):
        sandbox.write(FILE, "{}")
        sandbox.agent.send_signal(signal.SIGHUP)
        sandbox.write(FILE, '{"mode": "sideways"}')
        assert sandbox.ctl("reload").returncode == 2


def test_reload_of_an_agent_that_dies(agent, is_error):
    """It waits for the process and not only for its answer."""
    agent.agent.send_signal(signal.SIGSTOP)
    with agent.start(CTL, "-j", "reload", stdout=subprocess.PIPE, text=True) as process:
        killer = threading.Timer(1, agent.stop_agent, [signal.SIGKILL])
        killer.start()
        output, _ = process.communicate(timeout=20)
        killer.join()
    assert process.returncode == 3
    is_error(json.loads(output), "agent-unreachable")
