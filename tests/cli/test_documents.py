# SPDX-License-Identifier: MIT
"""The man pages render cleanly and name what the programs take."""

import json
import pathlib
import re
import shutil
import subprocess

import pytest

from sandbox import AGENT, CTL

ROOT = pathlib.Path(__file__).parents[2]
PAGES = {"ipipdirectctl": "ipipdirectctl.8", "ipipdirectd": "ipipdirectd.8", "config": "ipipdirect-config.5"}


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


def render(name):
    """Plain text: no overstriking, no escape sequences."""
    return subprocess.run(["groff", "-mdoc", "-ww", "-Tascii", "-P-cbou", ROOT / "docs" / PAGES[name]],
                          capture_output=True, text=True, timeout=30, check=True)


@pytest.fixture(autouse=True)
def groff():
    if not shutil.which("groff"):
        pytest.skip("groff is not installed")


@pytest.mark.parametrize("name", PAGES)
def test_renders_without_warnings(name):
    done = render(name)
    assert done.stderr == ""
    assert "NAME" in done.stdout and max(map(len, done.stdout.splitlines())) <= 80


def words(text):
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("program, name", [(AGENT, "ipipdirectd"), (CTL, "ipipdirectctl")], ids=["agent", "ctl"])
def test_names_every_option(program, name):
    page = words(render(name).stdout)
    texts = [output(program, *command, "--help")
             for command in ([[], ["status"], ["detach"]] if program == CTL else [[]])]
    options = set(re.findall(r"(?<!\w)--[a-z-]+", "".join(texts)))
    assert len(options) >= 6
    for option in options:
        assert option in page


def test_names_every_command():
    page = words(render("ipipdirectctl").stdout)
    commands = re.findall(r"^  ([a-z][a-z ]*[a-z])(?=[ A-Z\[\]_]*  )", output(CTL, "--help"), re.M)
    assert {"status", "map dump", "map get"} <= set(commands)
    for command in commands:
        assert f"ipipdirectctl [-jphV] {command}" in page


def test_names_every_error_code():
    """… and so does the schema."""
    page = words(render("ipipdirectctl").stdout)
    schema = (ROOT / "schema" / "ctl-error.schema.json").read_text(encoding="utf-8")
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tools" / "ctl").glob("*.c"))
    calls = re.findall(r"ctl_fail\([^;]*?CTL_(?:USAGE|FAILED|UNREACHABLE),\s*([^,]*),", sources)
    codes = {code for call in calls for code in re.findall(r'"([a-z-]+)"', call)}
    assert len(codes) > 10
    for code in codes:
        assert f" {code} " in page or f" {code}," in page, code
        assert f'"{code}"' in schema


def test_config_page_names_every_key():
    page = words(render("config").stdout)
    schema = json.loads((ROOT / "schema" / "config.schema.json").read_text(encoding="utf-8"))
    rule = schema["$defs"]["rule"]["properties"]
    for key in [*schema["properties"], *rule, *rule["match"]["properties"], *rule["set"]["properties"]]:
        assert f" {key} " in page, key
