# SPDX-License-Identifier: MIT
"""The man pages render cleanly and name what the programs take; what the documents show and link to is right."""

import json
import pathlib
import re
import shutil
import subprocess

import pytest

from sandbox import AGENT, CTL

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
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
             for command in ([[], ["status"], ["stats"], ["top"], ["metrics"], ["detach"]] if program == CTL else [[]])]
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


def test_names_who_ends_with_3_or_4():
    """What a command's own help says of its exit status."""
    page = words(render("ipipdirectctl").stdout)
    page = page[page.index(" EXIT STATUS "):page.index(" EXAMPLES ")]
    said = {"3": page[page.index(" 3 "):page.index(" 4 ")], "4": page[page.index(" 4 "):]}
    found = set()
    for command in ("status", "explain", "doctor", "events", "reload", "mode", "resync", "attach", "detach"):
        _, _, text = output(CTL, command, "--help").partition("Exit status:")
        for number in re.findall(r"\b[34]\b", text.partition("\n\n")[0]):
            assert re.search(rf"\b{command}\b", said[number]), f"{number} of {command}"
            found.add((command, number))
    assert len(found) >= 12


def test_names_every_error_code():
    """… and so does the schema."""
    page = words(render("ipipdirectctl").stdout)
    schema = (ROOT / "schema" / "ctl-error.schema.json").read_text(encoding="utf-8")
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tools" / "ctl").glob("*.c"))
    calls = re.findall(r"(?:ctl_fail(?:_with)?\([^;]*?CTL_(?:USAGE|FAILED|UNREACHABLE)|refuse\(ctl),\s*([^,]*),",
                       sources)
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


def samples():
    """The configurations that the page shows."""
    source = (ROOT / "docs" / PAGES["config"]).read_text(encoding="utf-8")
    blocks = re.findall(r"^\.Bd -literal[^\n]*\n(.*?)^\.Ed$", source, re.M | re.S)
    return [block for block in blocks if block.startswith("{")]


def documents_samples():
    """Those of the other documents. An object within a line of text is a part of one."""
    texts = [path.read_text(encoding="utf-8") for path in DOCUMENTS]
    return [block for text in texts for block in re.findall(r"^```json\n(.*?)^```$", text, re.M | re.S)]


def test_documents_have_samples():
    assert len(documents_samples()) >= 10


@pytest.mark.parametrize("text", samples() + documents_samples(), ids=lambda text: " ".join(text.split())[:40])
def test_config_sample_is_good(text, tmp_path, fits):
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    done = subprocess.run([CTL, "-j", "config", "check", path], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout
    fits("ctl-config", json.loads(done.stdout))
    fits("config", json.loads(text))


def keys(value):
    if isinstance(value, dict):
        return {key for name, item in value.items() for key in {name, *keys(item)}}
    return {key for item in value for key in keys(item)} if isinstance(value, list) else set()


def test_config_samples_show_every_key():
    schema = json.loads((ROOT / "schema" / "config.schema.json").read_text(encoding="utf-8"))
    rule = schema["$defs"]["rule"]["properties"]
    shown = set().union(*(keys(json.loads(text)) for text in samples()))
    assert shown == {*schema["properties"], *schema["properties"]["limits"]["properties"], *rule,
                     *rule["match"]["properties"], *rule["set"]["properties"]}


def anchors(text):
    """As the headings of a document are linked to."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def problems():
    """What status may list, as it prints it of several."""
    found = []
    macros = dict(re.findall(r'#define (\w+)[ \\\n\t]+((?:"[^"]*"[ \\\n\t]*)+)',
                             (ROOT / "agent" / "core" / "attachment.h").read_text(encoding="utf-8")))
    for name in ("status.c", "status_netns.c"):
        text = (ROOT / "agent" / "core" / name).read_text(encoding="utf-8")
        text = re.sub(r"problems, (\w+)\);", lambda call: f"problems, {macros[call[1]]});", text)
        for call in re.findall(r'add_problem\(\s*problems,\s*((?:"(?:[^"\\]|\\.)*"\s*)+)', text):
            sentence = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', call))
            sentence = re.sub(r"(?<=[a-z])%s", "s", sentence)
            found.append(re.sub(r"%(?:zu|u|d|s)", "X", sentence))
    return found


def test_what_needs_attention_has_a_row_each():
    text = (ROOT / "docs" / "OPERATING.md").read_text(encoding="utf-8")
    table = text[text.index("| it says | it means"):]
    rows = re.findall(r"^\| `([^`]*)` \|", table[:table.index("\n\n")], re.M)
    patterns = {row: re.compile(".+".join(map(re.escape, row.split("…")))) for row in rows}
    sentences = problems()
    source = "".join((ROOT / "agent" / "core" / name).read_text(encoding="utf-8") for name in ("status.c", "status_netns.c"))
    assert len(sentences) == source.count("add_problem(problems,") + len(re.findall(r"add_problem\(\n\s*problems,", source))
    for sentence in sentences:
        assert [row for row in rows if patterns[row].match(sentence)], sentence
    for row in rows:
        assert [sentence for sentence in sentences if patterns[row].match(sentence)], row


def test_packages_in_documents_are_of_this_version():
    """Of the name that build-deb gives them; NEWER stands for what is not there yet."""
    version = re.search(r"^\tversion: '(.*)',$", (ROOT / "meson.build").read_text(encoding="utf-8"), re.M)[1]
    names = {path.name: re.findall(r"\bipipdirect_(?!NEWER_)[^_\s]+_amd64\.deb", path.read_text(encoding="utf-8")) for path in DOCUMENTS}
    assert names["README.md"] and names["OPERATING.md"]
    assert {name for found in names.values() for name in found} == {f"ipipdirect_{version}_amd64.deb"}


def test_names_of_commands_in_documents():
    """`ipipdirectctl WORD` in code is a command."""
    known = set(re.findall(r"^  ([a-z]+)", output(CTL, "--help"), re.M))
    assert {"status", "map", "detach"} <= known
    for path in DOCUMENTS:
        for command in re.findall(r"(?<!\w)ipipdirectctl (?:-j |-p )?([a-z]+)\b", path.read_text(encoding="utf-8")):
            assert command in known, f"{path.name}: {command}"
