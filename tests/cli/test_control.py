# SPDX-License-Identifier: MIT
"""The control socket of the real agent, by a client that knows the interface text and nothing else."""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import resource
import signal
import socket
import stat
import subprocess
import time

import pytest

from control import CLIENTS, CLIENTS_ROOT, MESSAGE_MAX, NAME, assert_lives, connect, cpu_ticks, in_sandbox, varlink, wait_for
from sandbox import AGENT, CTL
from schemas import closed, validator

FILE = "/run/etc/config.json"
OVERRIDES = [{"netns": "game1", "ifname": "tun0", "mode": "tunnel", "until_reload": False},
             {"netns": "game2", "ifname": "tun0", "mode": "shadow", "until_reload": True}]


@pytest.fixture
def agent(sandbox):
    sandbox.write(FILE, "{}")
    sandbox.start_agent("--config", FILE)
    return sandbox


@pytest.fixture
def client(agent):
    with connect(agent) as made:
        yield made


def wait_for_complete(ask):
    """The first answer of a pass that nothing came into."""
    answers = []

    def is_complete():
        answers.append(ask())
        return answers[-1]["complete"]

    wait_for(is_complete)
    return answers[-1]


def wait_for_ok(place):
    wait_for(lambda: place.read_status()["agent"]["state"] == "ok")


# ---- every method ----

def test_every_method_of_the_text(agent, client, fits):
    info = client.call("org.varlink.service.GetInfo")
    assert info["interfaces"] == ["org.varlink.service", NAME]
    for name in info["interfaces"]:
        assert client.learn(name).name == name
    text = pathlib.Path(__file__).parents[2] / "schema" / f"{NAME}.varlink"
    described = client.call("org.varlink.service.GetInterfaceDescription", interface=NAME)["description"]
    assert described == text.read_text(encoding="utf-8")

    wait_for_ok(agent)
    status = client.call(f"{NAME}.GetStatus")["status"]
    fits("status", status)
    assert status["interfaces"][0]["name"] == "wan"
    assert client.call(f"{NAME}.ListTunnels")["tunnels"] == status["tunnels"]
    assert client.call(f"{NAME}.ListNamespaces")["namespaces"][0]["label"] == "host"
    assert wait_for_complete(lambda: client.call(f"{NAME}.Resync")) == {"complete": True}
    assert client.call(f"{NAME}.GetStatus")["status"]["agent"]["passes"] > status["agent"]["passes"]
    assert wait_for_complete(lambda: client.call(f"{NAME}.Reload")) == {"config": FILE, "complete": True}
    with pytest.raises(varlink.Error) as caught:
        client.call(f"{NAME}.SetMode", netns="game1", ifname="tun0", mode="tunnel")
    assert caught.value.name == f"{NAME}.TunnelNotFound"
    assert client.call(f"{NAME}.Detach") == {"complete": True}
    assert client.call(f"{NAME}.GetStatus")["status"]["interfaces"] == []
    with pytest.raises(varlink.Error) as caught:
        client.call(f"{NAME}.Attach", ifname="nothing")
    assert caught.value.name == f"{NAME}.LinkNotFound"
    reply = client.call(f"{NAME}.Attach")
    assert reply["complete"] and [item["name"] for item in reply["interfaces"]] == ["wan"]
    client.monitor()
    assert client.event()["reason"] == "begin"
    assert set(client.interfaces[NAME].methods) == {
        "GetStatus", "ListTunnels", "ListNamespaces", "Resync", "Reload", "SetMode", "Attach", "Detach", "Monitor"}


@pytest.mark.parametrize("method, parameters, flags, error, says", [
    ("io.systemd.Resolve", {}, {}, "InterfaceNotFound", {"interface": "io.systemd"}),
    ("Foo", {}, {}, "InterfaceNotFound", {"interface": "Foo"}),
    (f"{NAME}.Foo", {}, {}, "MethodNotFound", {"method": "Foo"}),
    (f"{NAME}.GetStatus", {"x": 1}, {}, "InvalidParameter", {"parameter": "x"}),
    (f"{NAME}.SetMode", {"netns": "a", "mode": "tunnel"}, {}, "InvalidParameter", {"parameter": "ifname"}),
    (f"{NAME}.SetMode", {"netns": "a", "ifname": "b", "mode": "x"}, {}, "InvalidParameter", {"parameter": "mode"}),
    (f"{NAME}.SetMode", {"netns": "a", "ifname": "b", "until_reload": 1}, {}, "InvalidParameter",
     {"parameter": "until_reload"}),
    ("org.varlink.service.GetInterfaceDescription", {"interface": "a.b"}, {}, "InterfaceNotFound", {"interface": "a.b"}),
    ("org.varlink.service.GetInterfaceDescription", {}, {}, "InvalidParameter", {"parameter": "interface"}),
    (f"{NAME}.GetStatus", {}, {"upgrade": True}, "InvalidParameter", {"parameter": "upgrade"}),
    (f"{NAME}.Attach", {"ifname": 1}, {}, "InvalidParameter", {"parameter": "ifname"}),
    (f"{NAME}.Detach", {"ifname": "wan"}, {}, "InvalidParameter", {"parameter": "ifname"}),
    (f"{NAME}.Monitor", {}, {}, "ExpectedMore", {}),
])
def test_what_cannot_be_called(client, method, parameters, flags, error, says):
    client.send(method, parameters, **flags)
    assert client.receive() == {"error": f"org.varlink.service.{error}", "parameters": says}
    client.call("org.varlink.service.GetInfo")  # the connection goes on


def test_reload_says_what_is_wrong(agent, client):
    agent.write(FILE, '{\n  "offload_guard": "of"}')
    with pytest.raises(varlink.Error) as caught:
        client.call(f"{NAME}.Reload")
    assert caught.value.name == f"{NAME}.ConfigRefused"
    said = caught.value.parameters
    assert (said["file"], said["line"], said["column"], said["place"]) == (FILE, 2, 20, "offload_guard")
    agent.write(FILE, "{}")
    wait_for_complete(lambda: client.call(f"{NAME}.Reload"))


def test_oneway_is_done_and_not_answered(agent, client):
    before = client.call(f"{NAME}.GetStatus")["status"]["agent"]["reloads"]
    client.send(f"{NAME}.Reload", oneway=True)
    client.send(f"{NAME}.Nothing", oneway=True)
    client.send(f"{NAME}.GetStatus", oneway=True)
    client.send(f"{NAME}.Resync")
    assert list(client.receive()["parameters"]) == ["complete"]
    assert client.call(f"{NAME}.GetStatus")["status"]["agent"]["reloads"] == before + 1
    # Whoever says something and leaves is heard.
    with connect(agent) as other:
        other.send(f"{NAME}.Reload", oneway=True)
    wait_for(lambda: client.call(f"{NAME}.GetStatus")["status"]["agent"]["reloads"] == before + 2)


def test_many_calls_at_once_are_answered_in_order(client):
    names = ["org.varlink.service.GetInfo", f"{NAME}.GetStatus", f"{NAME}.Resync"] * 40
    client.write(b"".join(json.dumps({"method": name}).encode() + b"\0" for name in names))
    client.socket.shutdown(socket.SHUT_WR)
    for name in names:
        reply = client.result()["parameters"]
        assert next(iter(reply)) == {"GetInfo": "vendor", "GetStatus": "status", "Resync": "complete"}[name.rpartition(".")[2]]
    assert client.receive() is None


def test_a_pass_that_changed_rows_is_followed_by_another(sandbox):
    """What it changed may decide who has an address next. No bell tells of it, and no other pass is due for an hour."""
    sandbox.start_agent("--resync-interval", "3600")
    sandbox.add_row("203.0.113.10", "203.0.113.10", slot=1)  # nobody's
    before = sandbox.read_status()["agent"]["passes"]
    with connect(sandbox) as client:
        assert client.call(f"{NAME}.Resync")["complete"]
    wait_for(lambda: sandbox.read_status()["agent"]["passes"] >= before + 2, 20)
    assert sandbox.read_status()["map"]["remotes"] == 0


# ---- the socket and who may ----

def test_the_file(agent):
    path = in_sandbox(agent, f"/run/ipipdirect/{NAME}")
    status = os.lstat(path)
    assert stat.S_ISSOCK(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o660
    assert not os.path.exists(in_sandbox(agent, f"/run/ipipdirect/.{NAME}.new"))
    agent.stop_agent()
    assert not os.path.lexists(path)


def test_a_link_is_replaced_and_not_followed(sandbox):
    sandbox.do("mkdir", "-p", "/run/ipipdirect")
    sandbox.write("/run/victim", "precious")
    for name in (NAME, f".{NAME}.new"):
        sandbox.do("ln", "-s", "/run/victim", f"/run/ipipdirect/{name}")
    sandbox.start_agent()
    assert_lives(sandbox)
    assert sandbox.do("cat", "/run/victim") == "precious"
    # The one of an agent that was killed, likewise.
    sandbox.stop_agent(signal.SIGKILL)
    assert sandbox.exists(f"/run/ipipdirect/{NAME}")
    assert sandbox.ctl("resync").returncode == 3
    sandbox.start_agent()
    assert_lives(sandbox)


def test_a_second_agent_leaves_the_socket_alone(agent):
    before = os.lstat(in_sandbox(agent, f"/run/ipipdirect/{NAME}")).st_ino
    assert agent.run(os.path.join(os.environ["BUILD_DIR"], "agent/ipipdirectd")).returncode == 2
    assert os.lstat(in_sandbox(agent, f"/run/ipipdirect/{NAME}")).st_ino == before
    assert_lives(agent)


def test_without_a_socket_it_does_its_job(sandbox):
    sandbox.do("mkdir", "-p", f"/run/ipipdirect/{NAME}/full")
    sandbox.start_agent()
    wait_for_ok(sandbox)
    sandbox.stop_agent()
    assert sandbox.exists(f"/run/ipipdirect/{NAME}/full")


ASK = f"""
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect("/run/ipipdirect/{NAME}")
for method, parameters in json.loads(sys.argv[1]):
    s.sendall(json.dumps({{"method": method, "parameters": parameters}}).encode() + b"\\0")
    data = b""
    while not data.endswith(b"\\0"):
        data += s.recv(65536)
    print(data[:-1].decode())
"""

READS = [(f"{NAME}.GetStatus", {}), (f"{NAME}.ListTunnels", {}), (f"{NAME}.ListNamespaces", {})]
CHANGES = [(f"{NAME}.Resync", {}), (f"{NAME}.Reload", {}), (f"{NAME}.SetMode", {"netns": "a", "ifname": "b", "mode": None}),
           (f"{NAME}.Attach", {"ifname": "gateway"}), (f"{NAME}.Detach", {})]


def ask_as(place, group):
    return place.run("setpriv", "--reuid=65534", f"--regid={group}", "--clear-groups", "/usr/bin/python3", "-c", ASK,
                     json.dumps(READS + CHANGES))


def test_the_group_reads_and_root_changes(agent):
    done = ask_as(agent, 65534)
    assert done.returncode != 0 and "PermissionError" in done.stderr
    group = os.lstat(in_sandbox(agent, f"/run/ipipdirect/{NAME}")).st_gid
    done = ask_as(agent, group)
    assert done.returncode == 0, done.stderr
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert all("parameters" in reply and "error" not in reply for reply in replies[:len(READS)])
    assert [reply.get("error") for reply in replies[len(READS):]] == [f"{NAME}.PermissionDenied"] * len(CHANGES)
    assert agent.read_status()["agent"]["reloads"] == 0


GROUP = 64321


@pytest.fixture(params=["group", "user-and-group"])
def grouped(sandbox, request):
    """Root's agent on a host that has the group, and perhaps the user of that name."""
    sandbox.write("/run/etc/group", f"root:x:0:\nipipdirect:x:{GROUP}:\n")
    sandbox.write("/run/etc/passwd", "root:x:0:0::/:/bin/sh\n" +
                  (f"ipipdirect:x:{GROUP}:{GROUP}::/:/bin/sh\n" if request.param == "user-and-group" else ""))
    for name in ("group", "passwd"):
        sandbox.do("mount", "--bind", f"/run/etc/{name}", f"/etc/{name}")
    sandbox.start_agent(command=[AGENT])  # only root's gives files away, and that of the unit is not root's
    return sandbox


MEMBER = ["setpriv", "--reuid=65534", "--regid=65534", f"--groups={GROUP}"]
OWN_USER = ["setpriv", f"--reuid={GROUP}", f"--regid={GROUP}", "--clear-groups"]
STRANGER = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
BARE_ROOT = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


def test_root_the_group_and_strangers(grouped, is_error):
    """Of root's agent too: who is in the group reads, root changes, others do neither."""
    for name, mode in ((NAME, 0o660), ("status.json", 0o640)):
        file = os.lstat(in_sandbox(grouped, f"/run/ipipdirect/{name}"))
        assert (file.st_uid, file.st_gid, stat.S_IMODE(file.st_mode)) == (0, GROUP, mode), name
    calls = json.dumps(READS + CHANGES[:2])
    for who in (MEMBER, OWN_USER):
        done = grouped.run(*who, "/usr/bin/python3", "-c", ASK, calls)
        assert done.returncode == 0, done.stderr
        errors = [json.loads(line).get("error") for line in done.stdout.splitlines()]
        assert errors == [None] * len(READS) + [f"{NAME}.PermissionDenied"] * 2
        assert grouped.run(*who, CTL, "-j", "status").returncode in (0, 4)
        for command in (["resync"], ["attach"], ["detach"], ["mode", "a", "b", "direct"]):
            done = grouped.run(*who, CTL, "-j", *command)
            assert done.returncode == 2
            is_error(json.loads(done.stdout), "permission")
            assert json.loads(done.stdout)["error"]["hint"] == "run as root"
    done = grouped.run(*STRANGER, "/usr/bin/python3", "-c", ASK, calls)
    assert done.returncode != 0 and "PermissionError" in done.stderr
    for command in (["status"], ["events"], ["resync"], ["attach"], ["detach"]):
        done = grouped.run(*STRANGER, CTL, "-j", *command)
        assert done.returncode == 2
        is_error(json.loads(done.stdout), "permission")
        assert json.loads(done.stdout)["error"]["hint"].startswith("run as root")
    assert grouped.read_status()["agent"]["placement"]["detached"] is False
    # It is the user that counts, not his capabilities.
    assert grouped.run(*BARE_ROOT, CTL, "resync").returncode in (0, 4)


# ---- what clients do wrong ----

def message(**fields):
    return json.dumps({"method": f"{NAME}.GetStatus", **fields}).encode()


@pytest.mark.parametrize("data", [
    b"\0", b"{\0", b"[]\0", b"42\0", b"\xff\xfe\0", b"{}\0", b'{"method": 1}\0',
    message(parameters=[]) + b"\0", message(more="yes") + b"\0", message(oneway=True, more=True) + b"\0",
    b'{"method": "a.b", "method": "c.d"}\0',
    b'{"method": "' + NAME.encode() + b'.GetStatus", "parameters": {"a": ' + b"[" * 20 + b"]" * 20 + b"}}\0",
    b"[" * 30000 + b"\0", b'{"a":' * 10000 + b"\0",
    b"x" * (MESSAGE_MAX + 1),
    message(parameters={"x": "y" * MESSAGE_MAX}) + b"\0",
], ids=range(16))
def test_malformed_input_ends_that_connection_alone(agent, client, data):
    with connect(agent) as bad:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            bad.write(data)
        assert bad.receive() is None
    client.call("org.varlink.service.GetInfo")
    assert_lives(agent)


def test_brackets_in_strings_are_no_depth(client):
    with pytest.raises(varlink.Error) as caught:
        client.call(f"{NAME}.SetMode", netns='[{"\\' * 100, ifname="x", mode="direct")
    assert caught.value.name == f"{NAME}.TunnelNotFound"


def test_the_largest_message(client):
    text = message(parameters={"x": ""})
    text = message(parameters={"x": "y" * (MESSAGE_MAX - len(text))})
    assert len(text) == MESSAGE_MAX
    client.write(text + b"\0")
    assert client.receive()["error"] == "org.varlink.service.InvalidParameter"


def test_slow_and_half_messages(agent, client):
    with connect(agent) as half, connect(agent) as gone:
        half.write(message()[:10])
        gone.write(message()[:10])
        gone.socket.close()
        for byte in message() + b"\0":
            client.write(bytes([byte]))
            if byte in b'"':
                assert_lives(agent)
        assert "status" in client.result()["parameters"]
        half.write(message()[10:] + b"\0")
        assert "status" in half.result()["parameters"]


def test_clients_are_bounded(agent):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(agent)) for _ in range(CLIENTS)]
        for client in clients:
            client.call("org.varlink.service.GetInfo")
        with connect(agent) as more:
            assert more.receive() == {"error": f"{NAME}.TooManyClients", "parameters": {"max": CLIENTS}}
            assert more.receive() is None
        done = agent.ctl("resync")
        assert (done.returncode, done.stdout) == (2, "")
        assert "too many clients" in done.stderr
        clients[7].socket.close()
        wait_for(lambda: agent.ctl("resync").returncode == 0)


def test_some_places_are_kept_for_root(agent):
    agent.do("chmod", "666", f"/run/ipipdirect/{NAME}")
    crowd = f"""
import socket, sys
held = []
for i in range({CLIENTS}):
    s = socket.socket(socket.AF_UNIX)
    s.connect("/run/ipipdirect/{NAME}")
    try:
        s.sendall(b'{{"method": "org.varlink.service.GetInfo"}}\\0')
    except BrokenPipeError:
        pass  # turned away already: why stands in what it sent
    if b"TooManyClients" in s.recv(4096):
        break
    held.append(s)
print(len(held), flush=True)
sys.stdin.read()
"""
    with agent.start("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", crowd,
                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert int(process.stdout.readline()) == CLIENTS - CLIENTS_ROOT
        assert agent.ctl("resync").returncode in (0, 4)  # 4: served, and not complete
        process.stdin.close()


def ticks_of_a_second(place):
    """A pass may fall into one second, hardly into all of many."""
    before = cpu_ticks(place)
    time.sleep(1)
    return cpu_ticks(place) - before


def test_idle_clients_cost_nothing(agent):
    with contextlib.ExitStack() as stack:
        for i in range(CLIENTS):
            client = stack.enter_context(connect(agent))
            if i % 3 == 0:
                client.write(message()[:10])
            elif i % 3 == 1:
                client.monitor()
                client.event()
        wait_for(lambda: ticks_of_a_second(agent) <= 0.05 * os.sysconf("SC_CLK_TCK"))


def calls_within(pid, call, seconds):
    done = subprocess.run(["timeout", "--signal=INT", str(seconds), "strace", "-qq", "-e", f"trace={call}", "-p", str(pid)], check=False,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return done.stderr.count(f"{call}(")


def test_descriptors_that_run_out_do_not_make_it_spin(agent):
    pid = agent.agent.pid
    used = len(os.listdir(f"/proc/{pid}/fd"))
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 2, before[1]))
    with connect(agent) as one, connect(agent) as two, connect(agent) as waits:
        one.call("org.varlink.service.GetInfo")
        two.call("org.varlink.service.GetInfo")
        waits.send("org.varlink.service.GetInfo")
        wait_for(lambda: ticks_of_a_second(agent) <= 0.2 * os.sysconf("SC_CLK_TCK"))
        # Each one and a half seconds, so that who comes later is not kept waiting for long.
        wait_for(lambda: calls_within(pid, "accept4", 4) >= 2)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        assert waits.result()["parameters"]["product"] == "ipipdirectd"


# ---- events ----

def fit_event(event):
    validator("ctl-events", closed).validate(event)
    return event


def test_events_of_namespaces_interfaces_and_configuration(agent, client):
    client.monitor()
    assert fit_event(client.event())["type"] == "resync"

    # Held until the namespace has its name: it may be found by the process that makes it, before.
    agent.agent.send_signal(signal.SIGSTOP)
    agent.do("sh", "-c", "mkdir -p /run/netns && ip netns add game1")
    agent.agent.send_signal(signal.SIGCONT)
    events = client.until("namespace-added", lambda event: event["namespace"]["names"] == ["game1"])
    number = events[-1]["namespace"]["nsid"]
    agent.do("ip", "netns", "delete", "game1")
    # The name may go before the namespace does.
    events += client.until("namespace-removed", lambda event: event["namespace"]["nsid"] == number)

    agent.do("ip", "address", "add", "198.18.1.2/24", "dev", "gateway")
    agent.do("ip", "route", "replace", "default", "via", "198.18.1.1")
    events += client.until("interface-left")
    assert events[-1]["interface"]["name"] == "wan"
    assert [event["interface"]["name"] for event in events if event["type"] == "interface-attached"] == ["gateway"]
    agent.do("ip", "route", "replace", "default", "via", "198.18.0.1")
    events += client.until("interface-left")
    assert [event["interface"]["name"] for event in events if event["type"] == "interface-attached"] == ["gateway", "wan"]

    link = f"/sys/fs/bpf/ipipdirect/link_{agent.ifindex()}"
    if agent.exists(link):
        agent.do("rm", link)
    else:
        agent.do("tc", "filter", "delete", "dev", "wan", "egress")
    events += client.until("interface-restored")
    assert events[-1]["interface"]["restored"] == 1

    assert agent.ctl("reload").returncode in (0, 4)
    events += client.until("config-reloaded")
    assert events[-1]["config"] == FILE
    agent.write(FILE, "{")
    assert agent.ctl("reload").returncode == 2
    events += client.until("config-refused")
    assert events[-1]["error"]["file"] == FILE
    for event in events:
        fit_event(event)


# BPF_OBJ_GET
HOLD_LINK = """
import ctypes, struct, sys
path = ctypes.create_string_buffer(sys.argv[1].encode())
attr = ctypes.create_string_buffer(struct.pack("=QII", ctypes.addressof(path), 0, 0), 16)
print(ctypes.CDLL(None).syscall(321, 7, attr, 16) >= 0, flush=True)
sys.stdin.read()
"""


def test_a_link_that_outlives_its_pin_is_restored_when_it_has_gone(agent, client):
    """As each does for a grace period. It is attached until then: nothing was left."""
    link = f"/sys/fs/bpf/ipipdirect/link_{agent.ifindex()}"
    if not agent.exists(link):
        pytest.skip("this kernel has no TCX")
    client.monitor()
    assert client.event()["reason"] == "begin"
    with agent.start("/usr/bin/python3", "-c", HOLD_LINK, link, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                     text=True) as holder, connect(agent) as other:
        assert holder.stdout.readline() == "True\n"
        agent.do("rm", link)
        assert other.call(f"{NAME}.Resync") == {"complete": False}
        holder.stdin.close()
    events = client.until("interface-restored")
    assert not {event["type"] for event in events} & {"interface-left", "interface-attached"}

    # Who holds it for longer is told of.
    with agent.start("/usr/bin/python3", "-c", HOLD_LINK, link, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                     text=True) as holder:
        assert holder.stdout.readline() == "True\n"
        agent.do("rm", link)
        assert "still attached" in client.until("interface-left")[-1]["interface"]["error"]
        holder.stdin.close()
    client.until("interface-attached")


def test_what_a_mark_says_to_read_is_there(agent):
    """The events begin after what the file says, with nothing between."""
    with connect(agent) as first:
        first.monitor()
        for number in range(5):
            for name in (f"aux{number}", f"game{number}"):
                agent.do("ip", "netns", "add", name)
            first.until("namespace-added", lambda event, name=f"game{number}": event["namespace"]["names"] == [name])
            with connect(agent) as other:
                other.monitor()
                assert other.event()["reason"] == "begin"
                assert [f"game{number}"] in [netns["names"] for netns in agent.read_status()["namespaces"]]


def test_an_interface_of_any_name_has_its_events(agent, client):
    agent.do("ip", "link", "set", "wan", "down", "name", b"w\xff1")
    agent.do("ip", "link", "set", b"w\xff1", "up")
    agent.do("ip", "route", "replace", "default", "via", "198.18.0.1")
    wait_for(lambda: [item["name"] for item in agent.read_status()["interfaces"]] == ["w\\xff1"])
    client.monitor()
    agent.do(CTL, "detach")
    assert client.until("interface-left")[-1]["interface"]["name"] == "w\\xff1"
    agent.do(CTL, "attach")
    assert client.until("interface-attached")[-1]["interface"]["name"] == "w\\xff1"


def test_a_slow_reader_gets_a_mark_and_costs_no_memory(agent):
    """Lost is what did not fit; then comes the mark, and then again everything. People are told as much."""
    process, _first = start_events(agent)
    with process, connect(agent) as slow, connect(agent, seconds=60) as other:
        process.send_signal(signal.SIGSTOP)
        slow.monitor()
        assert slow.event()["reason"] == "begin"
        agent.write(FILE, '{"x' + "y" * 60 + '": 1}')
        call = json.dumps({"method": f"{NAME}.Reload", "oneway": True}).encode() + b"\0"
        refused = 80 * 50
        for _ in range(refused // 50):
            other.write(call * 50)
            # Answered when all of these were taken.
            other.call("org.varlink.service.GetInfo")

        seen = lost = size = 0
        while lost == 0:
            event = fit_event(slow.event())
            if event["type"] == "resync":
                assert event["reason"] == "slow-reader"
                lost = event["lost"]
            else:
                seen += event["type"] == "config-refused"
                size += len(json.dumps(event))
        # Nothing is unaccounted for.
        assert seen > 100 and lost > 100 and refused <= seen + lost < 2 * refused
        # What waits in the agent, and what the socket holds besides.
        assert size < 1024 * 1024
        agent.write(FILE, "{}")
        other.call(f"{NAME}.Reload")
        assert slow.until("config-reloaded")

        process.send_signal(signal.SIGCONT)
        line = line_that(process, lambda text: " resync " in text)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(30) == 0
    assert int(re.fullmatch(r"\S+Z resync slow-reader, (\d+) lost\n", line)[1]) > 100


def test_events_that_the_kernel_dropped_get_a_mark(agent, client):
    """While the agent is held, more comes than its socket takes. Afterwards it knows the state again."""
    client.monitor()
    assert client.event()["reason"] == "begin"
    agent.agent.send_signal(signal.SIGSTOP)
    # Messages of a kilobyte and more; the socket holds 8 MiB, which the kernel takes twice.
    lines = [f"link set dev gateway mtu {1400 + i % 2}" for i in range(12000)] + ["address add 198.18.1.2/24 dev gateway",
             "route replace default via 198.18.1.1"]
    done = agent.run("ip", "-batch", "-", input="\n".join(lines) + "\n", timeout=200)
    agent.agent.send_signal(signal.SIGCONT)
    assert done.returncode == 0, done.stderr
    events = client.until("resync")
    assert (events[-1]["reason"], events[-1]["lost"]) == ("kernel-overrun", 0)
    events += client.until("interface-attached")
    assert events[-1]["interface"]["name"] == "gateway"
    for event in events:
        fit_event(event)


def test_who_does_not_take_his_answer_keeps_nobody_waiting(agent, client):
    with connect(agent) as lazy:
        lazy.write((message() + b"\0") * 300)
        for _ in range(20):
            client.call(f"{NAME}.Resync")


def test_nothing_is_put_off_for_a_resync(agent, client):
    """A process that came a moment after the last look, and routes that were read a moment ago."""
    def reads():
        return client.call(f"{NAME}.GetStatus")["status"]["agent"]["route_reads"]

    before = reads()
    for _ in range(5):
        assert "complete" in client.call(f"{NAME}.Resync")
    assert reads() >= before + 5
    held = ["unshare", "--net", "sh", "-c", "echo $$; exec cat"]
    for _ in range(3):
        client.call(f"{NAME}.Resync")
        with agent.start(*held, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            found = f"process {int(process.stdout.readline())}"
            client.call(f"{NAME}.Resync")
            assert any(found in netns["found"] for netns in client.call(f"{NAME}.ListNamespaces")["namespaces"]), found
            process.stdin.close()


# ---- the commands ----

def test_resync(agent, fits):
    done = agent.ctl("resync")
    while done.returncode == 4:
        assert (done.stdout, "goes on trying" in done.stderr) == ("", True)
        done = agent.ctl("resync")
    assert (done.returncode, done.stdout, done.stderr) == (0, "the agent has read everything anew\n", "")
    done = agent.ctl("-j", "resync")
    assert done.returncode == (0 if fits("ctl-resync", json.loads(done.stdout))["complete"] else 4)


@pytest.mark.parametrize("command", [["resync"], ["mode", "a", "b", "direct"], ["attach"], ["events"]], ids=lambda words: words[0])
def test_without_an_agent(sandbox, is_error, command):
    status, document = sandbox.ctl_json(*command)
    assert status == 3
    is_error(document, "agent-unreachable")


@pytest.mark.parametrize("command", [["resync"], ["mode", "a", "b", "direct"], ["attach"], ["events"]], ids=lambda words: words[0])
def test_without_the_right(agent, is_error, command):
    done = agent.ctl_as_nobody("-j", *command)
    assert done.returncode == 2
    is_error(json.loads(done.stdout), "permission")


def test_changes_without_the_right(agent, is_error):
    agent.do("chmod", "666", f"/run/ipipdirect/{NAME}")
    for command in (["resync"], ["mode", "a", "b", "direct"]):
        done = agent.ctl_as_nobody("-j", *command)
        assert done.returncode == 2
        is_error(json.loads(done.stdout), "permission")


def test_mode_of_a_tunnel_that_is_not_there(agent, is_error):
    for words in (["game1", "tun0", "tunnel"], ["203.0.113.1", "tunnel"], ["game1", "tun0", "default"]):
        status, document = agent.ctl_json("mode", *words)
        assert status == 2
        is_error(document, "not-found")


def test_modes_outlive_the_agent_and_some_the_reload(sandbox, fits):
    """What an agent left is the next one's, shown, and taken back with a reload or by hand."""
    sandbox.write("/run/ipipdirect/modes.json", json.dumps({"version": 1, "overrides": OVERRIDES}))
    for _ in range(2):
        sandbox.start_agent()
        with connect(sandbox) as client:
            status = client.call(f"{NAME}.GetStatus")["status"]
            assert fits("status", status)["mode_overrides"] == OVERRIDES
        sandbox.stop_agent(signal.SIGKILL)
    sandbox.start_agent()
    assert sandbox.ctl("reload").returncode in (0, 4)
    wait_for(lambda: sandbox.read_status()["mode_overrides"] == OVERRIDES[:1])
    done = sandbox.ctl("-j", "mode", "game1", "tun0", "default")
    assert (done.returncode in (0, 4), fits("ctl-mode", json.loads(done.stdout))["tunnels"]) == (True, 0)
    assert sandbox.ctl("mode", "game1", "tun0", "default").returncode == 2
    sandbox.stop_agent()
    sandbox.start_agent()
    assert sandbox.read_status()["mode_overrides"] == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2, "overrides": []}', '{"version": 1, "overrides": {}}'])
def test_modes_that_nobody_understands_leave_packets_on_the_tunnel(sandbox, text):
    """Who was taken off is not known any more. An operator's word ends that, also for the next agent."""
    sandbox.write("/run/ipipdirect/modes.json", text)
    for _ in range(2):
        sandbox.start_agent()
        assert not sandbox.is_attached()
        status = sandbox.read_status()
        assert (status["mode_overrides"], status["agent"]["placement"]["detached"]) == ([], True)
        sandbox.stop_agent()
    sandbox.start_agent()
    assert sandbox.ctl("attach").returncode == 0
    sandbox.stop_agent()
    sandbox.start_agent()
    wait_for_ok(sandbox)
    assert sandbox.is_attached()


def test_a_mode_that_is_not_understood_is_lost_alone(sandbox):
    odd = [{}, {"netns": "", "ifname": "x", "mode": "direct", "until_reload": True},
           {"netns": "a", "ifname": "x", "mode": "sideways", "until_reload": False}]
    sandbox.write("/run/ipipdirect/modes.json", json.dumps({"version": 1, "overrides": odd + OVERRIDES}))
    sandbox.start_agent()
    wait_for_ok(sandbox)
    assert sandbox.is_attached()
    assert sandbox.read_status()["mode_overrides"] == [{**odd[2], "mode": "tunnel"}, *OVERRIDES]


def test_modes_that_are_read_in_part_are_not_taken_for_spoilt(sandbox):
    """A read that gives nothing is no word of an operator: the next start is a better try."""
    path = "/run/ipipdirect/modes.json"
    sandbox.write(path, json.dumps({"version": 1, "overrides": OVERRIDES}))
    done = sandbox.run("strace", "-f", "-qq", "-o", "/run/trace", "-P", path, "-e", "trace=read", "-e", "inject=read:retval=0",
                       AGENT, "--once")
    assert done.returncode == 2 and "cannot read the modes" in done.stderr
    assert not sandbox.exists("/run/ipipdirect/placement.json")
    sandbox.start_agent()
    assert sandbox.is_attached() and sandbox.read_status()["mode_overrides"] == OVERRIDES


def start_events(place, *options):
    process = place.start(CTL, "events", *options, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return process, process.stdout.readline()


def line_that(process, wanted):
    """The first line of the output that is wanted."""
    deadline = time.monotonic() + 60
    while not wanted(line := process.stdout.readline()):
        assert line and time.monotonic() < deadline, line
    return line


def test_events_for_programs(agent):
    process, first = start_events(agent, "-j")
    with process:
        assert fit_event(json.loads(first))["reason"] == "begin"
        assert agent.ctl("reload").returncode in (0, 4)
        line = line_that(process, lambda text: fit_event(json.loads(text))["type"] == "config-reloaded")
        assert json.loads(line)["config"] == FILE
        process.send_signal(signal.SIGINT)
        assert (process.wait(30), process.stderr.read()) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_events_end_while_nobody_reads_them(agent, number):
    process, _first = start_events(agent, "-j")
    with process:
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        for i in range(60):
            agent.do("ip", "netns", "add", f"game{i}")
        wait_for(lambda: len(agent.read_status()["namespaces"]) == 61)
        time.sleep(0.5)
        process.send_signal(number)
        assert process.wait(5) == 0


def test_events_for_people_and_the_end_of_the_agent(agent):
    process, first = start_events(agent)
    with process:
        assert first.endswith("Z resync begin\n")
        agent.write(FILE, '{"x\\u001b": 1}')
        assert agent.ctl("reload").returncode == 2
        line = line_that(process, lambda text: " config-refused " in text)
        assert " config-refused /run/etc/config.json: " in line and "\x1b" not in line
        agent.stop_agent()
        assert process.wait(30) == 3
        assert "the agent went away" in process.stderr.read()
