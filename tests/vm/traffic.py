# SPDX-License-Identifier: MIT
"""Game servers and clients of a few lines each, in the namespaces of topology.py."""

import collections
import contextlib
import hashlib
import os
import select
import socket
import struct
import threading
import time

import topology

PORT = 27015
# asm-generic/socket.h: send UDP with checksum 0; a larger buffer than the system's limit
SO_NO_CHECK, SO_RCVBUFFORCE = 11, 33
ROOM = 8 << 20  # for what comes at once when the machine has stood still


class UdpServer(threading.Thread):
    """Answers each datagram; `reply` makes the answer. Bound to the namespace's inner address."""

    def __init__(self, server, reply=lambda data: data, checksum=True, port=PORT):
        super().__init__(daemon=True)
        self.socket = server.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        if not checksum:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        self.socket.bind((server.inner, port))
        self.reply = reply
        self.wake_read, self.wake_write = os.pipe()
        self.start()

    def run(self):
        while True:
            ready, _, _ = select.select([self.socket, self.wake_read], [], [])
            if self.wake_read in ready:
                return
            data, peer = self.socket.recvfrom(65536)
            self.socket.sendto(self.reply(data), peer)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        os.write(self.wake_write, b"x")
        self.join()
        self.socket.close()
        os.close(self.wake_read)
        os.close(self.wake_write)


def udp_client(world):
    client = world.client_socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(20)
    return client


def udp_ask(client, address, data=b"hello", port=PORT):
    """Sends and returns (answer, where it came from)."""
    client.sendto(data, (address, port))
    answer, peer = client.recvfrom(65536)
    return answer, peer


def way_of_an_answer(world, server, data=b"hello", port=PORT):
    """Asks a game server that answers @data once. Which way the answer left the host, as its gateway saw it: "direct" or
    "tunnel". Either way it comes once, from the public address."""
    before = world.counters()
    with udp_client(world) as client:
        assert udp_ask(client, server.public, port=port) == (data, (server.public, port))
    after = world.counters()
    ways = {way: after[counter] - before[counter] for way, counter in (("direct", "host_direct"), ("tunnel", "host_ipip"))}
    assert sorted(ways.values()) == [0, 1], ways
    return "direct" if ways["direct"] else "tunnel"


def way_of_a_reply(world, server, data=b"hello", port=PORT):
    """The same of a game server that is there for this one question."""
    with UdpServer(server, reply=lambda _: data, port=port):
        return way_of_an_answer(world, server, data, port)


class TcpServer(threading.Thread):
    """Accepts one connection, sends `size` bytes, closes; `digest` is theirs."""

    def __init__(self, server, size, port=PORT):
        super().__init__(daemon=True)
        self.listener = server.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((server.inner, port))
        self.listener.listen()
        self.listener.settimeout(30)
        self.size = size
        self.digest = None
        self.info = None
        self.start()

    def run(self):
        connection, _ = self.listener.accept()
        digest = hashlib.sha256()
        block = os.urandom(1 << 20)
        with connection:
            left = self.size
            while left:
                part = block[:min(left, len(block))]
                connection.sendall(part)
                digest.update(part)
                left -= len(part)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)  # the client has it all
            self.info = tcp_info(connection)
        self.digest = digest.hexdigest()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.join(60)
        self.listener.close()


def tcp_info(connection):
    """Retransmitted segments in all, and segments sent (linux/tcp.h, struct tcp_info)."""
    raw = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    (total_retrans,) = struct.unpack_from("=I", raw, 100)
    (segs_out,) = struct.unpack_from("=I", raw, 136)
    return {"retransmitted": total_retrans, "sent": segs_out}


def tcp_fetch(world, address, port=PORT):
    """Everything the server sends: (bytes, digest, address of the peer)."""
    client = world.client_socket(socket.AF_INET, socket.SOCK_STREAM)
    client.settimeout(60)
    digest, size = hashlib.sha256(), 0
    with client:
        client.connect((address, port))
        while True:
            part = client.recv(1 << 18)
            if not part:
                break
            digest.update(part)
            size += len(part)
        peer = client.getpeername()
    return size, digest.hexdigest(), peer


def internet_checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ping(world, address, payload=b"ipipdirect" * 5, timeout=20):
    """One ICMP echo; returns (source of the reply, seconds)."""
    client = world.client_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    identifier = os.getpid() & 0xffff
    request = struct.pack("!BBHHH", 8, 0, 0, identifier, 1) + payload
    request = request[:2] + struct.pack("!H", internet_checksum(request)) + request[4:]
    with client:
        start = time.monotonic()
        client.sendto(request, (address, 0))
        while True:
            client.settimeout(max(0.001, start + timeout - time.monotonic()))
            packet, peer = client.recvfrom(65536)
            reply = packet[(packet[0] & 15) * 4:]
            if reply[0] == 0 and reply[4:6] == struct.pack("!H", identifier):
                assert reply[8:] == payload and internet_checksum(reply) == 0
                return peer[0], time.monotonic() - start


class Stream(threading.Thread):
    """A client that asks at a steady pace with sequence numbers, and keeps count of the answers."""

    def __init__(self, world, address, per_second=100, port=PORT):
        super().__init__(daemon=True)
        self.client = world.client_socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.client.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        self.client.connect((address, port))  # answers from any other address are not heard
        self.client.setblocking(False)
        self.interval = 1 / per_second
        self.sent = 0
        self.received = {}
        self.excused = set()  # numbers that may be lost
        self.stopping = threading.Event()
        self.start()

    def drain(self):
        while True:
            try:
                data = self.client.recv(65536)
            except BlockingIOError:
                return
            (number,) = struct.unpack("!I", data)
            self.received[number] = self.received.get(number, 0) + 1

    def ask(self):
        try:
            self.client.send(struct.pack("!I", self.sent))
            self.sent += 1
        except BlockingIOError:  # those before have not left yet; this one is asked again
            select.select([], [self.client], [], self.interval)

    def run(self):
        next_time = time.monotonic()
        while not self.stopping.is_set():
            self.ask()
            # What was not asked while the machine stood still is not made up for: a burst fills what queues there are.
            next_time = max(next_time + self.interval, time.monotonic())
            while (left := next_time - time.monotonic()) > 0:
                select.select([self.client], [], [], left)
                self.drain()
            self.drain()

    def missing(self):
        return set(range(self.sent)) - set(self.received)

    def has_all(self):
        self.drain()
        return not self.missing() - self.excused

    def stop(self, grace=5.0):
        """Ends asking, waits for what is under way; returns (sent, lost, duplicated)."""
        self.stopping.set()
        self.join()
        with contextlib.suppress(AssertionError):  # the caller judges what is lost
            topology.wait_for(self.has_all, "the last answers", grace)
        self.client.close()
        lost = len(self.missing() - self.excused)
        return self.sent, lost, sum(n - 1 for n in self.received.values())


@contextlib.contextmanager
def servers_that_answer(models):
    """A world with a game server for each letter of models, and whose neighbours are known: what is counted from here on goes its
    way from the first packet."""
    with topology.World(models) as world, contextlib.ExitStack() as echoes:
        for server in world.servers.values():
            echoes.enter_context(UdpServer(server))
            with udp_client(world) as client:
                udp_ask(client, server.public)
        yield world


def three_servers():
    """Of two models, two of them behind one remote."""
    return servers_that_answer("ACC")


class Unharmed:
    """Replies of all game servers all the time, none of which may be lost, doubled, or, while all are to go direct, sent over
    the POP. What a test asks besides, it counts in `besides`, by the gateway's counter."""

    def __init__(self, world, per_second=100, all_direct=True):
        self.world, self.per_second, self.all_direct = world, per_second, all_direct
        self.besides = collections.Counter()

    def __enter__(self):
        self.before = self.world.counters()
        self.streams = [Stream(self.world, server.public, self.per_second)
                        for server in self.world.servers.values()]
        self.more()
        return self

    def more(self, seconds=0.3, limit=30):
        """Waits for so many seconds' answers."""
        least = [len(stream.received) + int(self.per_second * seconds) for stream in self.streams]
        topology.wait_for(lambda: all(len(s.received) >= n for s, n in zip(self.streams, least)), "replies", limit)

    @contextlib.contextmanager
    def gap(self):
        """What is on its way, or asked meanwhile, may be lost; not doubled."""
        begins = [min(stream.missing(), default=stream.sent) for stream in self.streams]
        yield
        for stream, begin in zip(self.streams, begins):
            stream.excused.update(range(begin, stream.sent))

    def ways(self, seconds=0.4):
        """By which ways they leave the host: {"direct"}, {"ipip"}, or both."""
        before = self.world.counters()
        self.more(seconds)
        after = self.world.counters()
        return {way for way in ("direct", "ipip") if after[f"host_{way}"] > before[f"host_{way}"]}

    def __exit__(self, exception, *_):
        if not exception:
            self.more()  # or nobody would see that a stream has ceased to ask
        results = [stream.stop() for stream in self.streams]
        after = self.world.counters()
        self.sent = sum(sent for sent, _, _ in results)
        if exception:
            return
        lost = [sorted(stream.missing() - stream.excused)[:20] for stream in self.streams]
        assert not any(lost), f"of {self.sent} these got no answer: {lost}"
        assert not any(duplicated for _, _, duplicated in results), f"sent, lost, doubled: {results}"
        took = {way: after[way] - self.before[way] - self.besides[way] for way in ("host_ipip", "host_direct")}
        assert sum(took.values()) == sum(len(stream.received) for stream in self.streams), took
        assert not (self.all_direct and took["host_ipip"]), f"{took['host_ipip']} replies took the way over the POP"
