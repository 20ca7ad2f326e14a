# SPDX-License-Identifier: MIT
"""What lies where our pins should be: used when it is ours, else refused by name, and never changed.
And what the agent says when the kernel lets it load nothing."""

import pytest

from sandbox import AGENT, PINS

KEEP = "/sys/fs/bpf/keep"
REMOTES = f"{PINS}/v1/remotes"


def another_map(path, kind="lpm_trie"):
    """11 is the number of an LPM trie among maps, and of a TCX link among links."""
    return ("bpftool", "map", "create", path, "type", kind, "key", "8", "value", "4", "entries", "4",
            "flags", "1" if kind == "lpm_trie" else "0", "name", "other")


def refused(sandbox, path, *reasons):
    before = sandbox.do("ls", "-lnR", "/sys/fs/bpf"), sandbox.do("bpftool", "-j", "net")
    done = sandbox.run(AGENT, "--once")
    assert done.returncode == 2
    for text in (f"{path} is not a pin of ours", "left alone", *reasons):
        assert text in done.stderr
    assert (sandbox.do("ls", "-lnR", "/sys/fs/bpf"), sandbox.do("bpftool", "-j", "net")) == before


@pytest.fixture
def pinned(sandbox):
    """Attached; afterwards the same agent takes it over as if nothing had been."""
    sandbox.once()
    yield sandbox
    sandbox.once()
    assert sandbox.ctl("detach").returncode == 0
    assert not sandbox.exists(PINS)


def replaced(sandbox, path, *command):
    sandbox.do("mv", path, KEEP)
    sandbox.do(*command)


def put_back(sandbox, path):
    sandbox.do("rm", "-d", path)
    sandbox.do("mv", KEEP, path)


@pytest.mark.parametrize("kind", ["lpm_trie", "hash"])
def test_another_map(pinned, kind):
    replaced(pinned, REMOTES, *another_map(REMOTES, kind))
    refused(pinned, REMOTES, "key size 8, value size 4, not 1, 4, 16")
    put_back(pinned, REMOTES)


def test_a_program_for_a_map(pinned):
    replaced(pinned, REMOTES, "bpftool", "prog", "pin", "id", str(
        pinned.read_status()["interfaces"][0]["program_id"]), REMOTES)
    refused(pinned, REMOTES, "not a BPF map")
    put_back(pinned, REMOTES)


def test_a_link_elsewhere(pinned):
    """Even if it leads to the right map."""
    replaced(pinned, REMOTES, "ln", "-s", KEEP, REMOTES)
    refused(pinned, REMOTES, "not a BPF map")
    put_back(pinned, REMOTES)


@pytest.mark.parametrize("kind, thing, said", [
    ("link", "map", "not a BPF link"), ("link", "directory", "not a BPF link"),
    ("prog", "map", "not a BPF program"), ("prog", "directory", "not a BPF program"),
    ("jumps", "directory", "not a BPF map")])
def test_something_else_for_an_interface(pinned, kind, thing, said):
    path = f"{PINS}/{kind}_77"
    pinned.do(*(another_map(path) if thing == "map" else ("mkdir", path)))
    refused(pinned, path, said)
    pinned.do("rm", "-d", path)


@pytest.mark.parametrize("path", [REMOTES, f"{PINS}/v1", PINS])
def test_of_another_user(pinned, path):
    pinned.do("chown", "1000", path)
    refused(pinned, path, "belongs to user 1000")
    pinned.do("chown", "0", path)


@pytest.mark.parametrize("path", [f"{PINS}/v1", PINS])
def test_a_directory_open_to_all(pinned, path):
    pinned.do("chmod", "0777", path)
    refused(pinned, path, "anybody may write")
    pinned.do("chmod", "0750", path)


def test_no_directory(pinned):
    pinned.do("mv", f"{PINS}/v1", KEEP)
    pinned.do(*another_map(f"{PINS}/v1"))
    refused(pinned, f"{PINS}/v1", "no directory")
    put_back(pinned, f"{PINS}/v1")


@pytest.mark.parametrize("options", [["--once"], ["--dry-run"]])
@pytest.mark.parametrize("missing, said", [
    (["bpf"], "CAP_BPF"), (["net_admin"], "CAP_NET_ADMIN"),
    (["net_admin", "bpf", "perfmon"], "CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON")])
def test_a_capability_is_missing(sandbox, missing, said, options):
    """CAP_SYS_ADMIN, which the kernel takes for CAP_BPF as well, is no help: it is given up."""
    without = ",".join(f"-{name}" for name in missing)
    done = sandbox.run("setpriv", "--bounding-set", without, "--inh-caps", without, AGENT, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"ipipdirectd: it lacks {said}: start it as root, or by its unit (AmbientCapabilities=)\n"


def test_no_bpf_file_system(sandbox):
    done = sandbox.run("sh", "-c", f"while umount /sys/fs/bpf 2>/dev/null; do :; done; exec {AGENT} --once")
    assert done.returncode == 2
    assert "there is no BPF file system on /sys/fs/bpf: mount -t bpf bpf /sys/fs/bpf" in done.stderr
