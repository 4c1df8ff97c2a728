"""Where in a document a mistake is that pydantic has found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def parts_in(location: Sequence[str | int], document: object) -> tuple[str | int, ...]:
    """Keys and positions that lead to a pydantic location in the document itself.

    Pydantic names the branch of a union it took (`plan`, `explicit`, `seed`). Such a name is not in the document, or
    means something else there, so the location is walked along the document and of all readings the one is taken that
    arrives. The last part may be missing from the document: it is what should be added.
    """
    return _walk(tuple(location), document)[1]


def _walk(location: tuple[str | int, ...], value: object) -> tuple[tuple[bool, int], tuple[str | int, ...]]:
    """Best reading of a location: how good it is (is its last part there, steps found), and its parts."""
    if not location:
        return (True, 0), ()
    part, rest = location[0], location[1:]
    found, inner = _step(value, part)
    readings = []
    if found:
        (arrives, steps), parts = _walk(rest, inner)
        readings.append(((arrives, steps + 1), (part, *parts)))
    if rest:
        readings.append(_walk(rest, value))
    elif not found:
        # the last part is what is missing or, where nothing could be missing, it named a branch
        readings.append(((False, 0), (part,) if isinstance(value, Mapping) else ()))
    return max(readings, key=lambda reading: reading[0])


def _step(value: object, part: str | int) -> tuple[bool, object]:
    """Whether a JSON value has this part, and what it is."""
    if isinstance(value, Mapping) and part in value:
        return True, value[part]
    if isinstance(value, list) and isinstance(part, int) and 0 <= part < len(value):
        return True, value[part]
    return False, None
