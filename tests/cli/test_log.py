# SPDX-License-Identifier: MIT
"""What the agent logs is printable, whatever things are called; the journal gets it with fields."""

import contextlib
import os
import pathlib
import re
import socket
import subprocess

from sandbox import AGENT

NAME = b"w\x1b[7m\xc2\x9b\xff\xe2\x80\xae"


def test_names_are_escaped(sandbox):
    sandbox.do("ip", "link", "set", "wan", "down")
    sandbox.do("ip", "link", "set", "wan", "name", NAME)
    sandbox.do("ip", "link", "set", NAME, "up")
    sandbox.do("ip", "route", "add", "default", "via", "198.18.0.1", "dev", NAME)
    for options in (["--dry-run"], ["--once"]):
        done = sandbox.run(AGENT, *options, text=False)
        assert done.returncode == 0, done.stderr
        assert re.fullmatch(rb"[\x20-\x7e\n]*", done.stdout + done.stderr), done.stdout + done.stderr
        assert rb"w\x1b[7m\xc2\x9b\xff\xe2\x80\xae" in done.stdout + done.stderr
    assert [interface["name"] for interface in sandbox.read_status()["interfaces"]] == \
        ["w\x1b[7m\\xc2\\x9b\\xff\\xe2\\x80\\xae"]


def entries(data):
    """https://systemd.io/JOURNAL_NATIVE_PROTOCOL: a field is NAME=value, or NAME, a size and bytes."""
    fields = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(rest[:8], "little")
            value, rest = rest[8:8 + size], rest[9 + size:]
        assert name not in fields, name
        fields[name.decode()] = value.decode("ascii")
        data = rest
    return fields


@contextlib.contextmanager
def journal(place):
    """The journal's socket, as the sandbox sees it."""
    place.do("mkdir", "-p", "/run/systemd/journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(f"/proc/{place.holder.pid}/root/run/systemd/journal/socket")
        made.settimeout(30)
        yield made


def run_logging(place, received, *options, matches=True):
    """({message: fields}, what came on stderr)."""
    reader, writer = os.pipe()
    status = os.fstat(writer)
    stream = f"{status.st_dev}:{status.st_ino + (not matches)}"
    done = place.run(AGENT, "--once", *options, env={"JOURNAL_STREAM": stream}, capture_output=False, text=False,
                     stdout=subprocess.DEVNULL, stderr=writer)
    os.close(writer)
    with open(reader, "rb") as file:
        text = file.read()
    assert done.returncode in (0, 2, 4)
    received.setblocking(False)
    found = {}
    with contextlib.suppress(BlockingIOError):
        while True:
            fields = entries(received.recv(65536))
            found[fields["MESSAGE"]] = fields
    return found, text


def test_the_journal_gets_fields(sandbox):
    with journal(sandbox) as received:
        found, text = run_logging(sandbox, received)
        assert text == b"", "all of it went to the journal"
        (fields,) = [fields for message, fields in found.items() if message.startswith("attached to wan (")]
        assert fields["PRIORITY"] == "5" and fields["IPIPDIRECT_IFNAME"] == "wan"
        assert re.fullmatch("[0-9a-f]{32}", fields["MESSAGE_ID"])
        assert fields["SYSLOG_IDENTIFIER"] == "ipipdirectd"
        assert fields["CODE_FILE"].endswith("interfaces.c") and fields["CODE_FUNC"] == "attach_one"
        assert int(fields["CODE_LINE"]) > 0

        found, _text = run_logging(sandbox, received, "--interface", "x\x1b[7m")
        (fields,) = [fields for message, fields in found.items() if message.startswith("cannot attach to ")]
        assert fields["PRIORITY"] == "3" and fields["IPIPDIRECT_IFNAME"] == "x\\x1b[7m"
        assert fields["IPIPDIRECT_REASON"] == "there is no such interface"


def test_a_row_is_found_by_its_remote(sandbox):
    """What nobody accounts for any more is removed when all has been read: then its line says which."""
    sandbox.once()
    sandbox.add_row("203.0.113.10", "203.0.113.10", slot=1)
    with journal(sandbox) as received:
        found, _text = run_logging(sandbox, received)
    (fields,) = [fields for fields in found.values() if fields.get("IPIPDIRECT_REMOTE") == "203.0.113.10"]
    assert fields["MESSAGE"] == "remove remote 203.0.113.10" and fields["PRIORITY"] == "6"


def test_a_stream_that_is_not_the_journal_gets_lines(sandbox):
    """JOURNAL_STREAM is inherited by whoever is started with another stderr."""
    with journal(sandbox) as received:
        found, text = run_logging(sandbox, received, matches=False)
    assert not found and b"ipipdirectd: attached to wan (" in text


def test_without_a_journal_it_works_all_the_same(sandbox):
    done = sandbox.run(AGENT, "--once", env={"JOURNAL_STREAM": "nonsense"})
    assert done.returncode in (0, 2, 4) and "ipipdirectd: attached to wan (" in done.stderr


def test_message_ids_are_documented_and_differ():
    root = pathlib.Path(__file__).parents[2]
    ids = re.findall(r'#define LOG_ID_\w+ "(\w+)"', (root / "agent/util/log.h").read_text(encoding="utf-8"))
    manual = (root / "docs/ipipdirectd.8").read_text(encoding="utf-8")
    assert len(ids) == len(set(ids)) > 5
    for number in ids:
        assert re.fullmatch("[0-9a-f]{32}", number) and number in manual
