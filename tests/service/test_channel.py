"""Frames between a worker and its compute process, and what a process that lies can do with them."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from auditcore.errors import DigestMismatch, InputError
from auditcore_service.worker.channel import FRAME_BYTES, MESSAGE_BYTES, Channel, ChannelBroken, ChannelClosed
from auditcore_service.worker.compute_messages import ANSWER, Fault, Given, Refused


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield Channel(ours), Channel(theirs), theirs
    ours.close()
    theirs.close()


def test_frames_arrive_whole_and_in_order(ends: tuple[Channel, Channel, socket.socket]) -> None:
    here, there, _ = ends
    there.send(Given(text="one"), b"", b"\x00bytes")
    there.send(Given(yes=True))
    first, second = here.receive(5), here.receive(5)
    assert first is not None
    assert second is not None
    assert ANSWER.validate_json(first.message) == Given(text="one")
    assert first.beside == (b"", b"\x00bytes")
    assert ANSWER.validate_json(second.message) == Given(yes=True)
    assert here.receive(0.0) is None


@pytest.mark.parametrize(
    "start",
    [
        struct.pack(">II", MESSAGE_BYTES + 1, 0),
        struct.pack(">II", 2, 2**31),
        struct.pack(">IIQ", 2, 1, FRAME_BYTES + 1),
    ],
    ids=["message", "parts", "frame"],
)
def test_what_is_too_large_is_refused_before_it_is_read(
    ends: tuple[Channel, Channel, socket.socket], start: bytes
) -> None:
    here, _, raw = ends
    raw.sendall(start)
    with pytest.raises(ChannelBroken, match="too large"):
        here.receive(5)


def test_half_a_frame_costs_no_more_than_the_time_that_was_given(ends: tuple[Channel, Channel, socket.socket]) -> None:
    here, _, raw = ends
    raw.sendall(struct.pack(">II", 100, 0) + b"{")
    assert here.receive(0.05) is None
    raw.close()
    with pytest.raises(ChannelClosed):
        here.receive(5)


@pytest.mark.parametrize(
    "message", [b"[]", b'{"kind": "other"}', b'{"kind": "progress", "share": 2, "images_begun": true}']
)
def test_only_messages_of_the_contract_are_read(message: bytes) -> None:
    with pytest.raises(ValueError, match="validation error"):
        ANSWER.validate_json(message)


def test_an_error_arrives_as_its_own_kind() -> None:
    sent = DigestMismatch(expected="sha256:1", actual="sha256:2", field="model.weights.sha256")
    sent.passing = True
    refused = ANSWER.validate_json(Refused(fault=Fault.of(sent)).model_dump_json())
    assert isinstance(refused, Refused)
    error = refused.fault.as_error()
    assert isinstance(error, DigestMismatch)
    assert (error.message, error.field, error.passing) == (sent.message, sent.field, True)
    assert Fault(code="made_up", message="", field="", passing=False).as_error() is None
    for kind in InputError.__subclasses__():
        assert type(Fault(code=kind.code, message="m", field="f", passing=False).as_error()) is kind
