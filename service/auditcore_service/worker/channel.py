"""Frames between a worker and the process that computes for it: a JSON object, and bytes beside it.

Never pickle: what computes runs code of models, so everything that it sends may be hostile.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import final

from pydantic import BaseModel

MESSAGE_BYTES = 16 * 2**20
"""Most bytes of a JSON object. What grows with images or passes stands beside it."""

FRAME_BYTES = 2**30
"""Most bytes of a whole frame; results of shards have a few MB."""

MOST_BESIDE = 100_000
"""Most pieces of bytes beside a message; a shard has at most as many images."""

SEND_S = 60.0
"""Longest wait for a reader that takes nothing of what it has asked for."""

_PIECE = 2**20
_START = struct.Struct(">II")


class ChannelClosed(Exception):
    """The other process has ended, or reads no more."""


class ChannelBroken(Exception):
    """The other process has sent something that is no frame."""


@final
@dataclass(frozen=True)
class Frame:
    """What was received.

    Attributes:
        message: The JSON object, not yet parsed.
        beside: The bytes beside it.
    """

    message: bytes
    beside: tuple[bytes, ...] = ()


@final
class Channel:
    """One end of a connection. One thread at a time may receive, and one may send."""

    def __init__(self, end: socket.socket) -> None:
        """Take over one end of a pair of stream sockets."""
        self._end = end
        self._end.settimeout(SEND_S)
        self._buffer = bytearray()
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)

    def send(self, message: BaseModel, *beside: bytes) -> None:
        """Send one frame: the number and the sizes of its parts, the message, and what stands beside it.

        Raises:
            ChannelClosed: There is nobody to receive it.
        """
        text = message.model_dump_json().encode()
        sizes = struct.pack(f">{len(beside)}Q", *map(len, beside))
        try:
            self._end.sendall(_START.pack(len(text), len(beside)) + sizes + text)
            for one in beside:
                self._end.sendall(one)
        except OSError as error:
            raise ChannelClosed(str(error)) from error

    def receive(self, timeout_s: float | None = None) -> Frame | None:
        """The next frame.

        Args:
            timeout_s: Longest wait; for ever if None.

        Returns:
            The frame, or None if no whole one has arrived within `timeout_s`.

        Raises:
            ChannelClosed: The other process has ended.
            ChannelBroken: It has sent something else than a frame, or too large a one.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (frame := self._whole_frame()) is None:
            left_ms = None if deadline is None else max(0.0, 1000 * (deadline - time.monotonic()))
            if not self._poll.poll(left_ms):
                return None
            try:
                piece = self._end.recv(_PIECE)
            except OSError as error:
                raise ChannelClosed(str(error)) from error
            if not piece:
                msg = "the other process has ended"
                raise ChannelClosed(msg)
            self._buffer += piece
        return frame

    def close(self) -> None:
        """Close this end."""
        self._end.close()

    def _whole_frame(self) -> Frame | None:
        """The first frame of the buffer, taken out of it; None while a part is missing."""
        if len(self._buffer) < _START.size:
            return None
        length, count = _START.unpack_from(self._buffer)
        if length > MESSAGE_BYTES or count > MOST_BESIDE:
            msg = f"a message of {length} bytes with {count} parts is too large"
            raise ChannelBroken(msg)
        start = _START.size + 8 * count
        if len(self._buffer) < start:
            return None
        sizes = struct.unpack_from(f">{count}Q", self._buffer, _START.size)
        whole = start + length + sum(sizes)
        if whole > FRAME_BYTES:
            msg = f"a frame of {whole} bytes is too large"
            raise ChannelBroken(msg)
        if len(self._buffer) < whole:
            return None
        parts = []
        with memoryview(self._buffer) as view:
            for size in (length, *sizes):
                parts.append(bytes(view[start : start + size]))
                start += size
        del self._buffer[:whole]
        return Frame(parts[0], tuple(parts[1:]))
