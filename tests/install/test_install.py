# SPDX-License-Identifier: MIT
"""`meson install` puts everything in its place, and the pages name what the programs take."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD_DIR = pathlib.Path(os.environ["BUILD_DIR"])
MESON = os.environ.get("MESON", "meson")
SCHEMAS = sorted(path.name for path in (ROOT / "schema").glob("*.json")) + ["io.ipipdirect.varlink", "maps.h"]
EXAMPLES = sorted(path.name for path in (ROOT / "schema" / "examples").glob("*.json"))


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, **options)


class Installed:
    """Where things are, below DESTDIR."""

    def __init__(self, root):
        self.root = root
        run(MESON, "install", "-C", BUILD_DIR, "--no-rebuild", "--destdir", root)
        listed = json.loads(run(MESON, "introspect", "--buildoptions", BUILD_DIR).stdout)
        self.options = {option["name"]: option["value"] for option in listed}

    def place(self, option, *rest):
        """The directory of an option, as programs see it. An absolute one is not below the prefix."""
        return pathlib.Path(self.options["prefix"], self.options[option], *rest)

    def at(self, path):
        return self.root / path.relative_to("/")

    def program(self, name):
        """What people call is in everybody's path."""
        return self.place("bindir" if name == "ipipdirectctl" else "sbindir", name)

    def man(self, name):
        return self.at(self.place("mandir", f"man{name[-1]}", name))

    def unit(self):
        found = list(self.root.rglob("ipipdirect.service"))
        assert len(found) == 1
        return found[0]

    def sysusers(self):
        found = list(self.root.rglob("sysusers.d/ipipdirect.conf"))
        assert len(found) == 1
        return found[0]

    def output(self, name, *args):
        done = run(self.at(self.program(name)), *args)
        assert done.stderr == ""
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return Installed(tmp_path_factory.mktemp("destdir"))


# ---- places

def test_nothing_more_and_nothing_less(installed):
    schema = installed.place("datadir", "ipipdirect", "schema")
    wanted = {installed.at(installed.program(name)) for name in ("ipipdirectd", "ipipdirectctl")}
    wanted |= {installed.man(name) for name in ("ipipdirectd.8", "ipipdirectctl.8", "ipipdirect-config.5")}
    wanted |= {installed.at(schema / name) for name in SCHEMAS}
    wanted |= {installed.at(schema / "examples" / name) for name in EXAMPLES}
    wanted |= {installed.at(installed.place("datadir", "ipipdirect", name))
               for name in ("grafana-dashboard.json", "ipipdirect.rules.yml")}
    wanted.add(installed.at(installed.place("datadir", "bash-completion", "completions", "ipipdirectctl")))
    wanted |= {installed.unit(), installed.sysusers()}
    assert {path for path in installed.root.rglob("*") if not path.is_dir()} == wanted


def test_schemas_are_those_of_the_source(installed):
    schema = installed.at(installed.place("datadir", "ipipdirect", "schema"))
    for name in [*SCHEMAS, *(f"examples/{name}" for name in EXAMPLES)]:
        assert (schema / name).read_bytes() == (ROOT / "schema" / name).read_bytes()


def test_unit_is_where_systemd_looks(installed):
    wanted = installed.options["systemd_unitdir"]
    where = pathlib.Path("/") / installed.unit().parent.relative_to(installed.root)
    if wanted:
        assert where == installed.place("systemd_unitdir")
    else:
        assert where.parts[-3:] == ("lib", "systemd", "system")


def test_files_are_for_all_to_read_and_programs_to_run(installed):
    for path in installed.root.rglob("*"):
        if not path.is_dir():
            executable = path.parent in (installed.at(installed.place("sbindir")), installed.at(installed.place("bindir")))
            assert path.stat().st_mode & 0o7777 == (0o755 if executable else 0o644), path


# ---- the unit

def test_unit_starts_what_is_installed(installed):
    text = installed.unit().read_text(encoding="utf-8")
    program = installed.place("sbindir", "ipipdirectd")
    assert f"ExecStart={program}\n" in text and f"ExecStartPre=+{program} --prepare\n" in text
    assert not re.search(r"@\w+@", text)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_unit_satisfies_systemd(installed, tmp_path):
    """verify wants the program to be there, so it is shown where it is now."""
    text = installed.unit().read_text(encoding="utf-8")
    program = installed.place("sbindir", "ipipdirectd")
    copy = tmp_path / "ipipdirect.service"
    copy.write_text(text.replace(str(program), str(installed.at(program))), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", copy],
                          capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_unit_exposes_little(installed):
    """systemd's own judgement, times ten: it fails above the threshold."""
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=21", "--no-pager",
                           installed.unit()], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Overall exposure level for ipipdirect.service" in done.stdout


# What would take the host's network, mounts or processes from it; the unit says why.
FORBIDDEN = {
    "MountFlags", "PrivateNetwork", "PrivateUsers", "ProcSubset", "ProtectProc", "RootDirectory", "RootImage",
    "TemporaryFileSystem",
}


def test_unit_takes_nothing_that_the_agent_needs(installed):
    text = installed.unit().read_text(encoding="utf-8")
    keys = set(re.findall(r"^(\w+)=", text, re.M))
    assert {"Type", "WatchdogSec", "ExecReload", "RuntimeDirectoryPreserve", "LimitMEMLOCK"} <= keys
    assert not keys & FORBIDDEN


def test_unit_gives_the_capabilities_that_the_page_names(installed):
    """What each is for stands there, and "no other". The bounding set is all that the agent can ever have."""
    text = installed.unit().read_text(encoding="utf-8")
    page = installed.man("ipipdirectd.8").read_text(encoding="utf-8")
    named = re.findall(r"^\.It Dv (CAP_\w+)$", page, re.M)
    assert len(named) == len(set(named)) == 4  # "It needs four capabilities"
    for key in ("CapabilityBoundingSet", "AmbientCapabilities"):
        (given,) = re.findall(rf"^{key}=(.*)$", text, re.M)
        assert sorted(given.split()) == sorted(named), key


def test_unit_has_a_user_that_is_made(installed):
    text = installed.unit().read_text(encoding="utf-8")
    made = installed.sysusers().read_text(encoding="utf-8")
    assert re.search(r"^u ipipdirect ", made, re.M)
    assert "\nUser=ipipdirect\nGroup=ipipdirect\n" in text


# ---- the programs

@pytest.mark.parametrize("name", ["ipipdirectd", "ipipdirectctl"])
def test_programs_answer(installed, name):
    version = json.loads(run(MESON, "introspect", "--projectinfo", BUILD_DIR).stdout)["version"]
    assert installed.output(name, "--version") == f"{name} {version}\n"
    assert installed.output(name, "--help").startswith(f"Usage: {name} ")


# ---- the pages

def page(installed, name):
    """What a reader sees, near enough: options with their dashes, one blank between words, no macros."""
    text = installed.man(name).read_text(encoding="utf-8")
    text = re.sub(r"^\.\\\".*$", "", text, flags=re.M)
    text = re.sub(r"\bFl -", "--", text)
    text = re.sub(r"\bFl (\w+)\b", r"-\1", text)
    text = re.sub(r"(?<=[ .])(?:Ar|Cm|It|Op|Pq|Va|Xr) ", "", text)
    return re.sub(r"\s+", " ", text)


def commands(text):
    """The words in front of the arguments, from --help."""
    return re.findall(r"^  ([a-z]+(?: [a-z]+)*)(?: [A-Z\[][A-Z_\[\] ]*)?  ", text, re.M)


def options(text):
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][a-z-]*", text))


def test_agent_page_names_every_option(installed):
    text = page(installed, "ipipdirectd.8")
    found = options(installed.output("ipipdirectd", "--help"))
    assert {"-c", "--config", "--dry-run", "--version"} <= found
    assert not [option for option in found if not re.search(rf"{option}(?![\w-])", text)]


def test_ctl_page_names_every_command(installed):
    found = commands(installed.output("ipipdirectctl", "--help"))
    assert {"status", "map dump", "map get", "detach"} <= set(found)
    source = installed.man("ipipdirectctl.8").read_text(encoding="utf-8")
    for command in found:
        assert re.search(rf"^\.It Cm {command}( |$)", source, re.M), command


def test_ctl_page_names_every_option(installed):
    text = page(installed, "ipipdirectctl.8")
    found = options(installed.output("ipipdirectctl", "--help"))
    for command in commands(installed.output("ipipdirectctl", "--help")):
        found |= options(installed.output("ipipdirectctl", *command.split(), "--help"))
    assert {"-j", "--json", "--force", "--status-file"} <= found
    # -j, -p, -h and -V stand together: -jphV.
    text += " ".join(f"-{letter}" for letters in re.findall(r"-([a-zA-Z]{2,})\b", text) for letter in letters)
    assert not [option for option in found if not re.search(rf"{option}(?![\w-])", text)]


def keys(schema):
    """Every key that a configuration may have, on any level."""
    found = set()
    todo = [schema]
    while todo:
        part = todo.pop()
        found |= set(part.get("properties", ()))
        todo += [*part.get("properties", {}).values(), *part.get("$defs", {}).values()]
        todo += [part["items"]] if isinstance(part.get("items"), dict) else []
    return found


def test_config_page_names_every_key(installed):
    schema = installed.at(installed.place("datadir", "ipipdirect", "schema", "config.schema.json"))
    source = installed.man("ipipdirect-config.5").read_text(encoding="utf-8")
    found = keys(json.loads(schema.read_text(encoding="utf-8")))
    assert {"interfaces", "rules", "match", "netns", "set", "mode"} <= found
    for key in found:
        assert f"\n.It Va {key}\n" in source or f"\n.Va {key}\n" in source, key


def test_pages_refer_to_pages_that_are_there(installed):
    ours = {"ipipdirectd.8", "ipipdirectctl.8", "ipipdirect-config.5"}
    for name in ours:
        source = installed.man(name).read_text(encoding="utf-8")
        for other, section in re.findall(r"^\.Xr (ipipdirect\S*) (\d)", source, re.M):
            assert f"{other}.{section}" in ours, f"{name}: {other}({section})"


# ---- the words of the status

def kept_reasons():
    text = (ROOT / "agent/core/reason.c").read_text(encoding="utf-8")
    names = re.findall(r'\[MAPS_\w+\] = "([a-z-]+)"', text)
    assert {"no-entry", "no-next-hop", "write-failed"} <= set(names)
    return names


def tunnel_reasons():
    text = (ROOT / "agent/core/tunnel.c").read_text(encoding="utf-8")
    names = re.findall(r'\[REASON_(?!NONE)\w+\] = \{\s*"([a-z-]+)"', text)
    assert {"no-remote", "address-claimed", "ambiguous"} <= set(names)
    return names


@pytest.mark.parametrize("reasons", [kept_reasons, tunnel_reasons])
def test_ctl_page_explains_every_reason(installed, reasons):
    source = installed.man("ipipdirectctl.8").read_text(encoding="utf-8")
    listed = re.findall(r"^\.It Cm ([a-z-]+)$", source, re.M)
    assert [name for name in listed if name in reasons()] == reasons()


def test_every_kept_reason_is_in_the_datapath_document():
    names = kept_reasons()
    text = (ROOT / "docs/DATAPATH.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| [^|]{10,} \| [^|]+ \|$", text, re.M)
    assert rows == names, "one row each, in the order of the numbers"


# ---- licences

def test_each_licence_has_its_text():
    named = set()
    for top in ("agent", "bpf", "docs", "schema", "tests", "tools"):
        for path in (ROOT / top).rglob("*"):
            if not path.is_file() or "__pycache__" in path.parts:
                continue
            head = path.read_bytes()[:400].decode("utf-8", "replace")
            found = re.search(r"SPDX-License-Identifier: ([\w.-]+(?: OR [\w.-]+)*)", head)
            if top == "bpf" and path.suffix != ".build":
                assert found and found[1] == "GPL-2.0-only", path
            named |= set(found[1].split(" OR ")) if found else set()
    assert named == {path.stem for path in (ROOT / "LICENSES").glob("*.txt")}
