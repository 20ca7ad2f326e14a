# SPDX-License-Identifier: MIT
"""Frames that end too early, at every byte: whatever the lengths say, nothing is read that is not there."""

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.packet import Raw

import datapath
import oracle
from checks import check_with_oracle
from packets import *  # pylint: disable=wildcard-import,unused-wildcard-import

FRAMES = {
    "udp": tunnelled(udp()(PRIVATE)),
    "udp, inner options": tunnelled(udp(options=OPTIONS)(PRIVATE)),
    "udp, outer options": tunnelled(udp()(PRIVATE), options=OPTIONS),
    "udp, public address on the server": tunnelled(udp()(PUBLIC_C), POP_C),
    "udp, shared remote": tunnelled(udp()(SHARED_PRIVATE), POP_SHARED),
    "tcp": tunnelled(tcp()(PRIVATE)),
    "dccp": tunnelled(dccp()(PRIVATE)),
    "icmp echo reply": tunnelled(icmp_echo()(PRIVATE)),
    "icmp error": tunnelled(IP(src=PRIVATE, dst=CLIENT) / ICMP(type=3, code=3) / Raw(
        bytes(IP(src=CLIENT, dst=PRIVATE, options=OPTIONS) / tcp()(PRIVATE)[20:]))),
    "later fragment": tunnelled(pieces(udp(bytes(3000))(PRIVATE), 1456)[1][:120]),
    "unknown protocol": tunnelled(other(253)(PRIVATE)),
}


def sized(frame, outer=None, inner=None):
    """The frame with other total lengths; header checksums are not looked at here."""
    changed = bytearray(frame)
    if outer is not None:
        changed[16:18] = outer.to_bytes(2, "big")
    if inner is not None and len(changed) >= 38:
        at = 14 + (changed[14] & 15) * 4
        changed[at + 2:at + 4] = inner.to_bytes(2, "big")
    return bytes(changed)


def run(runner, frame):
    """The kernel itself refuses frames that end before the IPv4 header does, on some versions."""
    try:
        return check_with_oracle(runner, frame)
    except datapath.Refused:
        assert len(frame) < 34
        return oracle.judge(frame, oracle.Config())


@pytest.mark.parametrize("name", FRAMES)
def test_frame_cut_at_every_byte(configured, name):
    frame = FRAMES[name]
    for size in range(14, len(frame)):
        judgement = run(configured, frame[:size])
        assert judgement.out == frame[:size], "a cut frame never goes direct"


@pytest.mark.parametrize("name", FRAMES)
def test_frame_cut_and_outer_length_with_it(configured, name):
    for size in range(34, len(FRAMES[name])):
        frame = sized(FRAMES[name][:size], outer=size - 14)
        assert run(configured, frame).out == frame, "the inner length is too much"


@pytest.mark.parametrize("name", FRAMES)
def test_frame_cut_and_both_lengths_with_it(configured, name):
    """Whether it goes direct depends on what is cut off."""
    for size in range(34, len(FRAMES[name])):
        run(configured, sized(FRAMES[name][:size], outer=size - 14, inner=max(size - 34, 0)))


@pytest.mark.parametrize("name", FRAMES)
def test_lengths_cut_and_the_rest_is_padding(configured, name):
    """What is behind the total length is there, and must not be taken for the packet's."""
    for size in range(34, len(FRAMES[name])):
        run(configured, sized(FRAMES[name], outer=size - 14, inner=max(size - 34, 0)))


@pytest.mark.parametrize("name", FRAMES)
def test_every_inner_header_length(configured, name):
    frame = bytearray(FRAMES[name])
    for ihl in range(16):
        frame[34] = 0x40 | ihl
        run(configured, bytes(frame))
