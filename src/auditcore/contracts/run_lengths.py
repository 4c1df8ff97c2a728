"""Run lengths of masks as COCO writes them: pixels column by column, beginning with the length of a run outside."""

from __future__ import annotations

from typing import final

from pydantic import Field, model_validator

from auditcore.contracts.contract import Contract

_BITS = 5
_CONTINUES = 1 << _BITS
_FIRST_CHARACTER = 48
_CHARACTERS = 64
_MOST_BITS = 40
"""Bits of a length; no image has as many pixels. Without a bound, a number of a million characters takes minutes."""


@final
class RunLengths(Contract):
    """A mask in the run-length encoding of COCO.

    Attributes:
        size: Height and width of the image, in pixels.
        counts: Lengths of runs that alternate between outside and inside, column by column; a list, or COCO's
            compressed text.
    """

    size: tuple[int, int]
    counts: tuple[int, ...] | str = Field(union_mode="left_to_right")

    @model_validator(mode="after")
    def _covers_the_image(self) -> RunLengths:
        height, width = self.size
        if min(self.size) < 1:
            msg = f"`size` is [height, width] in pixels, got [{height}, {width}]"
            raise ValueError(msg)
        lengths = self.lengths
        if min(lengths, default=0) < 0 or sum(lengths) != height * width:
            msg = f"`counts` must be lengths that add up to {height} x {width} pixels; they add up to {sum(lengths)}"
            raise ValueError(msg)
        return self

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths of all runs, uncompressed."""
        return decompress(self.counts) if isinstance(self.counts, str) else self.counts


def decompress(text: str) -> tuple[int, ...]:
    """Lengths of runs from COCO's compressed text.

    Each number is written in groups of 5 bits, lowest first, one character a group from code 48 on; bit 6 says that
    another group follows, and bit 5 of the last group is the sign. From the fourth number on, a number is the
    difference from the one two places before.

    Raises:
        ValueError: The text has another character, or ends within a number.

    Source: `rleFrString` of the COCO API.
    """
    lengths: list[int] = []
    value, shift = 0, 0
    for character in text:
        code = ord(character) - _FIRST_CHARACTER
        if not 0 <= code < _CHARACTERS:
            msg = f"`counts` has the character {character!r}, which COCO's compressed run lengths never have"
            raise ValueError(msg)
        value |= (code & (_CONTINUES - 1)) << shift
        shift += _BITS
        if shift > _MOST_BITS:
            msg = f"`counts` has a number of more than {_MOST_BITS} bits; no image has runs of that length"
            raise ValueError(msg)
        if code & _CONTINUES:
            continue
        if code & (1 << (_BITS - 1)):
            value -= 1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)  # noqa: PLR2004 - as COCO has it
        value, shift = 0, 0
    if shift:
        msg = "`counts` ends within a number; the text is cut off"
        raise ValueError(msg)
    return tuple(lengths)
