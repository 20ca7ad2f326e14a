# SPDX-License-Identifier: MIT
"""The Debian package: it builds, lintian finds nothing, it holds what `meson install` does; and it is installed, upgraded,
removed and purged under a real systemd with traffic running (test_package_life.py, in the VM)."""

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
BUILD_DIR = pathlib.Path(os.environ["BUILD_DIR"])
KERNEL = os.environ["KERNEL_SERIES"]
PLACE = BUILD_DIR / "tests/install/package"
NEWER = "0.1.0+newer"


def run(*command, seconds=60, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds,
                          check=False, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def package():
    PLACE.mkdir(exist_ok=True)
    for old in PLACE.glob("*.deb"):
        old.unlink()
    # What decides about somebody else's packages is not to decide about this one.
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith(("DEB_", "MAKE", "MESON", "NINJA", "CMOCKA"))
                   and key not in ("CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "DESTDIR")}
    built = run(ROOT / "tools/build-deb", "--output", PLACE, seconds=900, env=environment).split()
    (made,) = [pathlib.Path(path) for path in built if "-dbgsym_" not in path]
    return made


@pytest.fixture(scope="module")
def newer(package):
    """The same files as a higher version."""
    tree = PLACE / "tree"
    run("rm", "-rf", tree)
    run("dpkg-deb", "-R", package, tree)
    control = tree / "DEBIAN/control"
    text = control.read_text(encoding="utf-8")
    version = run("dpkg-deb", "-f", package, "Version").strip()
    assert f"\nVersion: {version}\n" in text
    control.write_text(text.replace(f"\nVersion: {version}\n", f"\nVersion: {NEWER}\n"), encoding="utf-8")
    run("dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, PLACE / "newer.deb")
    return PLACE / "newer.deb"


def files_of(package):
    """{path: (mode, owner)} of what is no directory."""
    lines = [line.split(None, 5) for line in run("dpkg-deb", "-c", package).splitlines()]
    return {fields[5].removeprefix("."): (fields[0], fields[1]) for fields in lines if not fields[0].startswith("d")}


def test_lintian_finds_nothing(package):
    assert run("lintian", "--allow-root", "--fail-on", "error,warning", package, seconds=300) == ""


def test_it_holds_what_is_installed_and_the_documents(package, tmp_path):
    run("meson", "install", "-C", BUILD_DIR, "--no-rebuild", "--destdir", tmp_path)
    files = files_of(package)
    # The prefix is another, pages are compressed.
    names = {path.removesuffix(".gz").split("/")[-1] for path in files}
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} <= names
    for path in ("/usr/sbin/ipipdirectd", "/usr/bin/ipipdirectctl", "/lib/systemd/system/ipipdirect.service",
                 "/usr/lib/sysusers.d/ipipdirect.conf", "/usr/share/man/man8/ipipdirectd.8.gz",
                 "/usr/share/bash-completion/completions/ipipdirectctl",
                 "/usr/share/doc/ipipdirect/examples/config-full.json"):
        assert path in files
    doc = "/usr/share/doc/ipipdirect"
    assert {f"{doc}/docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} | {f"{doc}/README.md"} <= set(files)
    for path, (mode, owner) in files.items():
        assert owner == "root/root" and mode == ("-rwxr-xr-x" if "/sbin/" in path or "/bin/" in path else "-rw-r--r--"), path


def test_unit_starts_what_the_package_holds(package, tmp_path):
    run("dpkg-deb", "-x", package, tmp_path)
    unit = (tmp_path / "lib/systemd/system/ipipdirect.service").read_text(encoding="utf-8")
    assert "\nExecStart=/usr/sbin/ipipdirectd\n" in unit
    version = run("dpkg-deb", "-f", package, "Version").strip()
    for name, place in (("ipipdirectd", "sbin"), ("ipipdirectctl", "bin")):
        assert run(tmp_path / "usr" / place / name, "--version") == f"{name} {version}\n"


def test_programs_do_not_tell_where_they_were_built(package, tmp_path):
    run("dpkg-deb", "-x", package, tmp_path)
    for name, place in (("ipipdirectd", "sbin"), ("ipipdirectctl", "bin")):
        data = (tmp_path / "usr" / place / name).read_bytes()
        assert b"direct.bpf.c" in data or name != "ipipdirectd"
        assert b"/tmp/" not in data and str(ROOT).encode() not in data


def test_its_life_under_systemd(package, newer):
    print(run(ROOT / "tests/vm/run", "--kernel", KERNEL, "--cpus", "1", "--timeout", "1500", "--env", f"BUILD_DIR={BUILD_DIR}",
              "--env", f"PACKAGE={package}", "--env", f"NEWER={newer}", "--",
              HERE / "under-systemd", "/usr/bin/python3", "-B", "-m", "pytest", "-v", "-x", "-p", "no:cacheprovider",
              HERE / "test_package_life.py", seconds=1600))
