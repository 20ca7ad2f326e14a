# SPDX-License-Identifier: MIT
"""Random IPIP packets: sound ones of every kind, damaged a little, and the oracle's word on each.

A failure names the frame. For a long run:

    IPIPDIRECT_RANDOM_COUNT=1000000 IPIPDIRECT_RANDOM_SEED=random meson test -C build bpf-random -t 100
"""

import collections
import os
import random
import secrets


import datapath
from checks import check_with_oracle
from packets import *  # pylint: disable=wildcard-import,unused-wildcard-import
from test_icmp_errors import ERRORS, KEPT, REQUESTS, error, quoting

COUNT = int(os.environ.get("IPIPDIRECT_RANDOM_COUNT", "50000"))
SEED = os.environ.get("IPIPDIRECT_RANDOM_SEED", "20240229")
ENOUGH = 50000  # to hit everything

WAYS = [  # outer destination, inner source; the frequent ones more often
    *[(REMOTE_A, PRIVATE)] * 8, (REMOTE_A, "10.9.8.7"), (REMOTE_A, REMOTE_A), *[(REMOTE_P, PRIVATE)] * 2,
    (REMOTE_P, REMOTE_P), *[(REMOTE_P, source) for source in NEARLY_PRIVATE], *[(POP_C, PUBLIC_C)] * 2,
    (POP_C, PRIVATE), (POP_SHARED, SHARED_1), (POP_SHARED, SHARED_2), *[(POP_SHARED, SHARED_PRIVATE)] * 2,
    (POP_RULE, PRIVATE), (POP_RULE, RULED), (MOVED, PRIVATE), (POP_SHARED, SHARED_MOVED),
    (POP_SHARED, PRIVATE), (POP_SHARED, SHARED_SHADOWED), (POP_SHARED, SHARED_DRAINED),
    (PORTED, PRIVATE), (CACHED, PRIVATE), (PICKY, PRIVATE), (POP_SHARED, SHARED_PICKY),
    (SHADOWED, PRIVATE), (DRAINED, PRIVATE), (STRANGER_REMOTE, PRIVATE)]
CLIENTS = [*[CLIENT] * 6, datapath.NEIGHBOUR, datapath.STRANGER, "1.1.1.1", "223.255.255.255", "224.0.0.1",
           "10.66.0.7", "172.31.255.255", "172.32.0.1", "100.127.0.1",
           *["203.0.113.200"] * 4]
EDGES = (0, 1, 4, 5, 7, 8, 19, 20, 21, 27, 28, 40, 0x7f, 0x80, 0xff)


def base_packets(rng, source):
    """One inner packet of each kind; random where that costs scapy nothing."""
    client = rng.choice(CLIENTS)
    payload = rng.randbytes(rng.choice((0, 1, 2, 3, 17, 64, 200)))
    tos = rng.choice((0, 0, 0xb8))
    yield udp(payload, client, tos=tos)(source)
    yield udp(payload, client, chksum=0)(source)
    yield udp(b"\xff\xff\xff\xff" + bytes([rng.choice((0x41, 0x44, 0x45, 0x49, 0x4a))]) + payload,
              client)(source)
    yield udp(payload, client, options=OPTIONS)(source)
    yield udp(payload, client, options=[b"\x01"] * rng.randrange(1, 41))(source)
    yield tcp(payload, client)(source)
    yield udplite(payload, client=client)(source)
    yield dccp(payload, client)(source)
    yield icmp_echo(payload, client)(source)
    yield other(rng.randrange(256), payload, client)(source)
    yield rng.choice(pieces(udp(bytes(700), client)(source), 8 * rng.randrange(1, 40)))
    yield rng.choice(pieces(tcp(bytes(300), client)(source), 8 * rng.randrange(1, 20)))
    for icmp in ERRORS.values():
        request = rng.choice(list(REQUESTS.values()))
        yield error(icmp, quoting(request, rng.choice((None, None, 8, rng.randrange(30)))))(source)
    yield error(rng.choice(list(ERRORS.values())), rng.choice(list(KEPT.values())))(source)


def bases(rng):
    """Some thousand frames to start from."""
    frames = []
    for _ in range(8):
        for remote, source in WAYS:
            for packet in base_packets(rng, source):
                padding = rng.randbytes(rng.choice((0, 0, 0, 0, 1, 18)))
                frames.append(tunnelled(packet, remote, padding=padding))
    return frames


def flip_header_bit(rng, frame):
    frame[rng.randrange(14, min(len(frame), 130))] ^= 1 << rng.randrange(8)


def set_byte(rng, frame):
    frame[rng.randrange(12, min(len(frame), 110))] = rng.choice(EDGES)


def set_random_byte(rng, frame):
    """But not in the source MAC address: it is the interface's own, whoever finds the next hop."""
    frame[rng.choice((rng.randrange(6), rng.randrange(12, len(frame))))] = rng.randrange(256)


def cut_frame(rng, frame):
    del frame[rng.randrange(34, len(frame) + 1):]


def lengthen(rng, frame):
    frame += rng.randbytes(rng.randrange(1, 40))


def zero_word(rng, frame):
    at = rng.randrange(14, len(frame) - 1) & ~1
    frame[at:at + 2] = b"\0\0"


def nudge_length(rng, frame):
    at = rng.choice((16, 36))
    if len(frame) >= at + 2:
        value = int.from_bytes(frame[at:at + 2], "big") + rng.choice((-20, -8, -1, 1, 4, 20))
        frame[at:at + 2] = (value & 0xffff).to_bytes(2, "big")


def inner_header_length(rng, frame):
    if len(frame) > 34:
        frame[34] = 0x40 | rng.choice((0, 4, 5, 5, 6, 8, 15))


def inner_protocol(rng, frame):
    if len(frame) > 43:
        frame[43] = rng.choice((1, 6, 17, 33, 132, 136, 4, 50, 253))


def inner_fragment(rng, frame):
    if len(frame) > 41:
        frame[40:42] = rng.choice((0, 0x4000, 0x2000, 1, 2, 3, 0x2001, 0x1fff)).to_bytes(2, "big")


MUTATIONS = (flip_header_bit, set_byte, set_random_byte, cut_frame, lengthen, zero_word, nudge_length,
             inner_header_length, inner_protocol, inner_fragment)


def mend_lengths(frame):
    """Total lengths that agree again, or no mutation would get past the first check."""
    if len(frame) < 54:
        return
    frame[16:18] = (len(frame) - 14).to_bytes(2, "big")
    frame[36:38] = (len(frame) - 34).to_bytes(2, "big")


def mutated(rng, frame):
    frame = bytearray(frame)
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        rng.choice(MUTATIONS)(rng, frame)
    if rng.random() < 0.5:
        mend_lengths(frame)
    return bytes(frame)


def test_random_packets(configured):
    seed = secrets.randbits(64) if SEED == "random" else int(SEED)
    rng = random.Random(f"{seed} {configured.agent}")  # the two runs together see twice as many packets
    print(f"seed {seed}")
    frames = bases(rng)
    seen = collections.Counter()
    for _ in range(COUNT):
        judgement = check_with_oracle(configured, mutated(rng, rng.choice(frames)))
        for _, what in judgement.counted or {(0, "none of ours"): 1}:
            seen[what] += 1
    print(dict(seen.most_common()))
    # A generator that hits nothing would pass too. Some things are hit once in thousands.
    assert seen["direct"] > COUNT / 5
    if COUNT >= ENOUGH:
        expected = set(datapath.REASONS) - {
            "KEPT_PULL_FAILED", "KEPT_STRIP_FAILED", "KEPT_NO_PROGRAM", "DROP_WRITE_FAILED"}
        assert set(seen) >= expected | {"direct", "none of ours"}
