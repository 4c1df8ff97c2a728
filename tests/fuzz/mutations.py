"""Hostile bytes made of good ones."""

from __future__ import annotations

import random
import struct

TOKENS = (
    b"Infinity",
    b"-Infinity",
    b"NaN",
    b"1e999",
    b"-1",
    b"18446744073709551616",
    b"9" * 5000,
    b"null",
    b"true",
    b'"\\ud800"',
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\0",
    b"[" * 2000,
    b'{"a":' * 2000,
    b"../../etc/passwd",
    b"/etc/passwd",
    b"C:\\a",
    b"cos\nsystem\n(S'id'\ntR.",
)
"""Pieces of text that readers of JSON, of paths and of pickles get wrong."""

NUMBERS = (0, 1, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
"""Lengths, sizes and offsets at which arithmetic changes."""


def mutated(seeds: tuple[bytes, ...], draw: random.Random) -> bytes:
    """One of the seeds with up to eight faults."""
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        _change(data, seeds, draw)
    return bytes(data)


def _change(data: bytearray, seeds: tuple[bytes, ...], draw: random.Random) -> None:
    # headers lie at the beginning or at the end of most formats
    place = draw.choice((draw.randrange(len(data) + 1), min(len(data), draw.randrange(64)), len(data)))
    match draw.randrange(8):
        case 0 if data:
            data[min(place, len(data) - 1)] ^= 1 << draw.randrange(8)
        case 1:
            del data[place:]
        case 2:
            del data[place : place + draw.choice((1, 4, 16))]
        case 3:
            data[place:place] = draw.choice(TOKENS)
        case 4:
            form = draw.choice(["<B", "<H", ">H", "<I", ">I", "<Q", ">Q"])
            size = struct.calcsize(form)
            data[place : place + size] = struct.pack(form, draw.choice(NUMBERS) % 256**size)
        case 5:
            other = draw.choice(seeds)
            data[place:] = other[draw.randrange(len(other) + 1) :]
        case 6:
            data[place:place] = data[place : place + draw.choice((4, 32, 500))] * draw.choice((1, 50))
        case _:
            data[place:place] = draw.randbytes(draw.choice((1, 8, 100)))
