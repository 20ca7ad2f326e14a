# SPDX-License-Identifier: MIT
"""The control socket by systemd's varlinkctl: a client of Varlink that others wrote."""

import json
import pathlib
import signal
import subprocess

import pytest

from control import NAME

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOCKET = f"/run/ipipdirect/{NAME}"
FILE = "/run/etc/config.json"


@pytest.fixture(scope="session")
def program():
    done = subprocess.run([ROOT / "tests" / "fetch-varlinkctl"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def varlinkctl(sandbox, program):
    """Runs it beside an agent: the completed process."""
    sandbox.write(FILE, "{}")
    sandbox.start_agent("--config", FILE)
    return lambda *args: sandbox.run(program, "--no-pager", *args)


def said(done):
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_introspects(varlinkctl):
    assert said(varlinkctl("list-interfaces", SOCKET)).split() == [NAME, "org.varlink.service"]
    assert "Product: ipipdirectd" in said(varlinkctl("info", SOCKET))
    methods = said(varlinkctl("list-methods", SOCKET, NAME)).split()
    assert {f"{NAME}.{method}" for method in ("GetStatus", "SetMode", "Monitor")} <= set(methods)
    shown = said(varlinkctl("introspect", SOCKET, NAME))
    assert f"interface {NAME}" in shown and "method SetMode(" in shown and "until_reload: ?bool" in shown


@pytest.mark.parametrize("name", [NAME, "org.varlink.service"])
def test_it_finds_our_text_valid(program, name):
    path = ROOT / "schema" / f"{name}.varlink"
    done = subprocess.run([program, "validate-idl", path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    broken = path.read_text(encoding="utf-8").replace(") -> (", ") -> ", 1)
    done = subprocess.run([program, "validate-idl"], input=broken, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0


def test_it_calls(sandbox, varlinkctl, fits):
    status = json.loads(said(varlinkctl("-j", "call", SOCKET, f"{NAME}.GetStatus", "{}")))["status"]
    fits("status", status)
    assert status["interfaces"][0]["name"] == "wan"
    assert json.loads(said(varlinkctl("-j", "call", SOCKET, f"{NAME}.Reload", "{}")))["config"] == FILE
    assert "complete" in json.loads(said(varlinkctl("-j", "call", SOCKET, f"{NAME}.Detach", "{}")))
    assert not sandbox.is_attached()
    attached = json.loads(said(varlinkctl("-j", "call", SOCKET, f"{NAME}.Attach", '{"ifname":"wan"}')))
    assert [item["name"] for item in attached["interfaces"]] == ["wan"] and sandbox.is_attached()


def test_it_hears_our_errors(varlinkctl):
    done = varlinkctl("-j", "call", SOCKET, f"{NAME}.SetMode", '{"netns":"game1","ifname":"tun0","mode":"tunnel"}')
    assert done.returncode != 0 and f"{NAME}.TunnelNotFound" in done.stderr
    done = varlinkctl("-j", "call", SOCKET, f"{NAME}.SetMode", '{"netns":"game1","ifname":"tun0","mode":"x"}')
    assert done.returncode != 0 and "InvalidParameter" in done.stderr
    assert varlinkctl("-j", "call", SOCKET, f"{NAME}.Nothing", "{}").returncode != 0


def test_it_watches(sandbox, varlinkctl, program, fits):
    watcher = sandbox.start(program, "-j", "--more", "call", SOCKET, f"{NAME}.Monitor", "{}",
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        first = json.loads(watcher.stdout.readline().lstrip(b"\x1e"))["event"]
        assert first["reason"] == "begin"
        said(varlinkctl("-j", "call", SOCKET, f"{NAME}.Reload", "{}"))
        second = json.loads(watcher.stdout.readline().lstrip(b"\x1e"))["event"]
        fits("ctl-events", second)
    finally:
        watcher.send_signal(signal.SIGTERM)
        watcher.wait(30)
        watcher.stdout.close()
