"""What does not hold in a piece of evidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

_LONGEST = 100
"""Characters of a value in a message; a digest fits."""


@final
@dataclass(frozen=True)
class Finding:
    """One thing that does not hold.

    Attributes:
        where: Its place: a path in a document, such as `statement.predicate.result`.
        message: What was found there, and what was expected.
    """

    where: str
    message: str


def differences(found: object, expected: object, where: str) -> Iterator[Finding]:
    """Every leaf in which two JSON documents differ.

    Args:
        found: What a document says.
        expected: What it should say.
        where: Place of the documents.

    Yields:
        A finding per leaf, in the order of the documents. `true` and `1` differ, `1` and `1.0` do not.
    """
    if isinstance(found, dict) and isinstance(expected, dict):
        for name in dict.fromkeys((*found, *expected)):
            yield from _compared(found, expected, name, f"{where}.{name}")
    elif isinstance(found, list) and isinstance(expected, list):
        if len(found) != len(expected):
            yield Finding(where, f"has {len(found)} entries, and {len(expected)} were expected")
        for index, (one, other) in enumerate(zip(found, expected, strict=False)):
            yield from differences(one, other, f"{where}[{index}]")
    elif isinstance(found, bool) != isinstance(expected, bool) or found != expected:
        yield Finding(where, f"is {_short(found)}, and {_short(expected)} was expected")


def _compared(found: dict[str, object], expected: dict[str, object], name: str, where: str) -> Iterator[Finding]:
    if name not in expected:
        yield Finding(where, f"is {_short(found[name])}, and nothing was expected here")
    elif name not in found:
        yield Finding(where, f"is missing, and {_short(expected[name])} was expected")
    else:
        yield from differences(found[name], expected[name], where)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
