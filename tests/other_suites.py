# SPDX-License-Identifier: MIT
"""Packages of other Debian suites than this machine's, unpacked into a cache and not installed.

Where to get them is learned from the machine's apt configuration: the address that serves `bookworm` here
serves the other suites too, under the same key. apt works on a state of its own, so the machine's
package lists, pins and cache are neither used nor changed, and no root is needed.
"""

import argparse
import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ARCHIVE, SECURITY = "bookworm", "bookworm-security"


class Failure(Exception):
    """Something went wrong; the text says what, and what to do about it."""


def run(*argv, **kwargs):
    """The output of a command; its complaint becomes ours when it fails."""
    try:
        done = subprocess.run(argv, check=True, text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)
    except FileNotFoundError:
        raise Failure(f"{argv[0]} is not installed: run tools/setup test") from None
    except subprocess.CalledProcessError as error:
        raise Failure(f"{argv[0]} failed:\n{(error.stderr or error.stdout).strip()}") from None
    return done.stdout


def one_line_sources(text):
    """Entries of a sources.list: type, options in brackets, URI, suite, components."""
    for line in text.splitlines():
        found = re.match(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)", line.strip())
        if not found:
            continue
        options = dict(word.split("=", 1) for word in (found[1] or "").split() if "=" in word)
        yield {"uri": found[2], "suites": [found[3]], "components": found[4].split(),
               "signed-by": options.get("signed-by"), "trusted": options.get("trusted")}


def deb822_sources(text):
    """Entries of a .sources file. A Signed-By may be a whole key, on continuation lines."""
    text = re.sub(r"(?m)^#.*\n?", "", text)
    for stanza in re.split(r"\n[ \t]*\n", text):
        fields = {}
        name = None
        for line in stanza.splitlines():
            if line[:1] in " \t" and name:
                fields[name] += "\n" + line
            elif ":" in line:
                name, value = line.split(":", 1)
                name = name.strip().lower()
                fields[name] = value.strip()
        if fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        if "deb" not in fields.get("types", "").split():
            continue
        for uri in fields.get("uris", "").split():
            yield {"uri": uri, "suites": fields.get("suites", "").split(),
                   "components": fields.get("components", "").split(),
                   "signed-by": fields.get("signed-by"), "trusted": fields.get("trusted")}


def machine_sources():
    """All binary sources that apt is configured with, wherever its configuration puts them."""
    shell = run("apt-config", "shell", "LIST", "Dir::Etc::sourcelist/f",
                "PARTS", "Dir::Etc::sourceparts/d")
    where = dict(re.findall(r"(\w+)='([^']*)'", shell))
    files = [pathlib.Path(where.get("LIST", ""))]
    with contextlib.suppress(OSError):
        files += sorted(pathlib.Path(where.get("PARTS", "")).iterdir())
    for path in files:
        with contextlib.suppress(OSError):
            if path.suffix == ".sources":
                yield from deb822_sources(path.read_text(errors="replace"))
            elif path.suffix == ".list":
                yield from one_line_sources(path.read_text(errors="replace"))


def source_for(suite, sources):
    """The machine's entry for a suite; Debian's own before a third party that uses the same name."""
    found = [s for s in sources if suite in s["suites"] and "main" in s["components"]]
    found.sort(key=lambda s: not re.search(r"/debian(-security)?/?$", s["uri"]))
    return found[0] if found else None


def private_sources(suites, arch):
    """The text of a .sources file with these suites: (suite, from the archive that serves which suite here)."""
    sources = list(machine_sources())
    stanzas = []
    for suite, served_with in suites:
        entry = source_for(served_with, sources)
        if entry is None and served_with == SECURITY:
            continue  # a mirror without security updates still has a release
        if entry is None:
            raise Failure(f"apt has no source for Debian's suite {served_with}, component main: "
                          "add one under /etc/apt/sources.list.d")
        lines = ["Types: deb", f"URIs: {entry['uri']}", f"Suites: {suite}", "Components: main",
                 f"Architectures: {arch}"]
        if entry["signed-by"]:
            lines.append(f"Signed-By: {entry['signed-by']}")
        if entry["trusted"]:
            lines.append(f"Trusted: {entry['trusted']}")
        stanzas.append("\n".join(lines) + "\n")
    return "\n".join(stanzas)


def apt_options(state, arch):
    """Options that make apt see nothing of the machine's state but its keys, proxy and network settings."""
    (state / "parts").mkdir()
    (state / "lists" / "partial").mkdir(parents=True)
    (state / "cache" / "archives" / "partial").mkdir(parents=True)
    (state / "status").touch()
    return [word for option in (
        "Dir::Etc::SourceList=/dev/null", f"Dir::Etc::SourceParts={state}/parts",
        "Dir::Etc::Preferences=/dev/null", f"Dir::Etc::PreferencesParts=/dev/null",
        f"Dir::State={state}", f"Dir::State::Lists={state}/lists", f"Dir::State::Status={state}/status",
        f"Dir::Cache={state}/cache", f"APT::Architecture={arch}", f"APT::Architectures={arch}",
        "Acquire::Languages=none", "Acquire::Retries=3", "APT::Update::Error-Mode=any",
        "APT::Update::Post-Invoke-Success=", "APT::Update::Post-Invoke=",
    ) for word in ("-o", option)]


class Apt:
    """apt as a machine of these suites would have it on which nothing is installed."""

    def __init__(self, state, suites):
        self.state = state
        self.arch = run("dpkg", "--print-architecture").strip()
        self.options = apt_options(state, self.arch)
        (state / "parts" / "other.sources").write_text(private_sources(suites, self.arch))
        run("apt-get", *self.options, "-qq", "update")

    def needs(self, package):
        """The package and all that it depends on."""
        planned = run("apt-get", *self.options, "-qq", "--simulate", "--no-install-recommends", "install", package)
        return re.findall(r"(?m)^Inst (\S+)", planned)

    def download(self, *packages):
        """The paths of the packages."""
        into = self.state / "download"
        into.mkdir()
        if os.geteuid() == 0:
            # apt downloads as its own user and says so at length when it cannot
            with contextlib.suppress(LookupError):
                shutil.chown(into, "_apt")
        run("apt-get", *self.options, "-qq", "download", *packages, cwd=into)
        return sorted(into.glob("*.deb"))


def kept(name, witness, make):
    """The directory of that name in the cache. If it has no file `witness`, make(work, tree) fills it first:
    both are directories, work for what is thrown away afterwards; tree has yet to be made."""
    cache = pathlib.Path(os.environ.get("IPIPDIRECT_CACHE") or "/var/cache/ipipdirect").absolute()
    done = cache / name
    if (done / witness).is_file():
        return done
    try:
        done.parent.mkdir(parents=True, exist_ok=True)
        lock = open(done.parent / f".lock-{done.name}", "w")
    except OSError as error:
        raise Failure(f"cannot write {done.parent}: {error.strerror}\n"
                      f"run as root, or set IPIPDIRECT_CACHE to a directory of yours") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (done / witness).is_file():
            return done  # another run was faster
        shutil.rmtree(done, ignore_errors=True)
        for left in done.parent.glob(f".new-{done.name}-*"):
            shutil.rmtree(left, ignore_errors=True)  # of a run that was killed: we hold the lock
        with tempfile.TemporaryDirectory(prefix=f".new-{done.name}-", dir=done.parent) as new:
            work = pathlib.Path(new)
            work.chmod(0o755)  # apt's own user must come through
            (work / "apt").mkdir()
            make(work / "apt", work / "tree")
            (work / "tree").chmod(0o755)
            (work / "tree").rename(done)
    return done


def main(program, about, fetch, **arguments):
    """All of a program that fetches: prints the path that fetch(), given the arguments, returns. Returns its exit status."""
    parser = argparse.ArgumentParser(prog=program, description=about,
                                     epilog="It is fetched once; remove the printed directory to get a newer one. "
                                            "IPIPDIRECT_CACHE sets the cache directory (/var/cache/ipipdirect).")
    for name, options in arguments.items():
        parser.add_argument(name, **options)
    given = vars(parser.parse_args())
    try:
        print(fetch(**given))
    except (Failure, OSError) as error:
        print(f"{' '.join([program, *given.values()])}: {error}", file=sys.stderr)
        return 1
    return 0
