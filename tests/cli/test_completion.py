# SPDX-License-Identifier: MIT
"""Completion, by bash itself: sourced, asked, and what it offers compared with what the program says."""

import json
import pathlib
import re
import shlex
import subprocess

import pytest

from sandbox import CTL, ENVIRONMENT, ctl_outside

SCRIPT = pathlib.Path(__file__).parents[2] / "tools" / "completion" / "ipipdirectctl.bash"


def script(words):
    """Asks for the last word; the program is called by its path."""
    quoted = " ".join(shlex.quote(word) for word in [CTL, *words])
    return (f"set -e; . {shlex.quote(str(SCRIPT))}; set +e; COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; "
            '_ipipdirectctl; printf "%s\\n" "${COMPREPLY[@]}"')


def offered(*words, sandbox=None):
    command = ["bash", "--norc", "-c", script(words)]
    if sandbox:
        done = sandbox.run(*command)
    else:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=ENVIRONMENT, check=False)
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1] if done.stdout != "\n" else []


def commands():
    text = ctl_outside("--help").stdout
    names = re.findall(r"^  ([a-z]+)(?: ([a-z]+))?(?= )", text[:text.index("\nOptions")], re.M)
    assert ("map", "get") in names and ("explain", "") in names
    return names


def test_offers_all_commands():
    assert offered("") == sorted({first for first, _second in commands()})
    assert offered("-j", "s") == ["stats", "status"]
    assert offered("expl") == ["explain"]
    assert offered("nothing") == []


@pytest.mark.parametrize("word", sorted({first for first, second in commands() if second}))
def test_offers_the_second_word(word):
    assert offered(word, "") == sorted(second for first, second in commands() if first == word)


@pytest.mark.parametrize("name", [[word for word in name if word] for name in commands()], ids=" ".join)
def test_offers_all_options_of_a_command(name):
    text = ctl_outside(*name, "--help").stdout
    options = set()
    for line in re.findall(r"^ +(-.*)$", text[text.index("\nOptions"):], re.M):
        options |= set(re.findall(r"-{1,2}[a-z][a-z-]*", line.split("  ")[0]))
    assert {"-j", "--json", "-br", "--no-legend"} <= options
    assert set(offered(*name, "-")) == options
    assert offered(*name, "--js") == ["--json"]


def test_offers_values_of_options(tmp_path):
    (tmp_path / "status.json").touch()
    assert offered("status", "--status-file", f"{tmp_path}/st") == [f"{tmp_path}/status.json"]
    assert offered("top", "--sort", "") == ["b", "k", "n", "p"]
    assert offered("top", "-n", "") == []


@pytest.fixture(name="host", scope="module")
def fixture_host():
    """Made once: nothing here changes it."""
    from sandbox import Sandbox  # pylint: disable=import-outside-toplevel
    from schemas import EXAMPLES, load  # pylint: disable=import-outside-toplevel
    sandbox = Sandbox()
    sandbox.once()
    sandbox.add_rows()
    sandbox.add_row("192.0.2.77", None, slot=4, flags=1)
    document = load(EXAMPLES / "status.json")
    document["tunnels"][0]["netns"] = "$(touch /run/evil)"
    document["tunnels"][0]["ifname"] = "`touch /run/evil`"
    document["tunnels"][1]["netns"] = "mine\ncraft"
    sandbox.write_status(document)
    yield sandbox
    sandbox.close()


def test_offers_remotes_and_names(host):
    assert offered("stats", "203.", sandbox=host) == ["203.0.113.10", "203.0.113.40", "203.0.113.41"]
    assert "192.0.2.77" in offered("map", "get", "", sandbox=host), "of the maps"
    assert offered("map", "get", "192.0.2.1", "", sandbox=host) == ["198.51.100.30"]
    assert offered("explain", "cs", sandbox=host) == ["csgo"]
    assert offered("expl", "192.0.2.2", sandbox=host) == ["192.0.2.2"]
    assert offered("explain", "rust", "", sandbox=host) == ["fou0", "spare0", "tun0"]
    assert offered("explain", "rust", "fou0", "", sandbox=host) == []


def test_offers_what_mode_takes(host):
    modes = ["default", "direct", "shadow", "tunnel"]
    assert {"192.0.2.1", "203.0.113.10", "csgo", "rust"} <= set(offered("mode", "", sandbox=host))
    assert "tun0" not in offered("mode", "", sandbox=host)
    assert offered("mode", "rust", "", sandbox=host) == ["fou0", "spare0", "tun0"]
    assert offered("mode", "rust", "tun0", "", sandbox=host) == modes
    assert offered("mode", "192.0.2.1", "", sandbox=host) == modes, "the remote alone names the tunnel"
    assert offered("mode", "192.0.2.1", "direct", "", sandbox=host) == []


def test_offers_the_hosts_interfaces_to_attach_to(host):
    """test_ctl.py in the VM has tunnels among them."""
    links = json.loads(host.do("ip", "-j", "link"))
    known = {link["ifname"] for link in links if link.get("link_type") == "ether"}
    assert known == {"wan", "gateway"}
    assert known <= set(offered("attach", "", sandbox=host)) <= {link["ifname"] for link in links} - {"lo"}
    assert offered("attach", "wan", "", sandbox=host) == []


def test_names_of_others_are_never_run(host):
    for words in (["explain", ""], ["explain", "x", ""], ["explain", "$"], ["explain", "`"]):
        assert not [word for word in offered(*words, sandbox=host) if re.search(r"[^\w.:-]", word)]
    assert not host.exists("/run/evil")


def test_bash_takes_it_by_name():
    done = subprocess.run(["bash", "--norc", "-c", f". {shlex.quote(str(SCRIPT))}; complete -p ipipdirectctl"],
                          capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "complete -F _ipipdirectctl ipipdirectctl\n"
