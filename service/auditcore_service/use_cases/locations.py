"""Where in a document a mistake is, and which of pydantic's errors its sender should see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def root_mistakes(errors: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The errors without those that only follow from others.

    Pydantic removes wrong entries from a tuple and then reports that the tuple, and every tuple around it, is too
    short.
    """
    inside = {error["loc"][:depth] for error in errors for depth in range(len(error["loc"]))}
    return [error for error in errors if error["type"] != "too_short" or error["loc"] not in inside]


def sentence(error: Mapping[str, Any]) -> str:
    """The message of an error, in terms of JSON."""
    context = error.get("ctx", {})
    match error["type"]:
        case "too_short":
            return f"the list has {context['actual_length']} entries; send at least {context['min_length']}"
        case "too_long":
            return f"the list has {context['actual_length']} entries; send at most {context['max_length']}"
        case "tuple_type":
            return "send a list here"
        case _:
            return str(error["msg"]).removeprefix("Value error, ")


def unsafe_integer(document: object, largest: int) -> tuple[str | int, ...] | None:
    """Return the path of the first integer in a document that is larger than `largest`; None if there is none."""
    return next(_unsafe(document, largest), None)


def _unsafe(value: object, largest: int) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, int) and abs(value) > largest:
        yield ()
    entries = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for part, inner in entries:
        yield from ((part, *rest) for rest in _unsafe(inner, largest))


def parts_in(location: Sequence[str | int], document: object, *, missing: bool = True) -> tuple[str | int, ...]:
    """Convert a pydantic location to the path in the document.

    Pydantic names the branch of a union that it took (`plan`, `explicit`, `seed`). Such a name is not in the document,
    or means something else there. So the location is followed along the document, with and without each part, and the
    reading that arrives is taken.

    Args:
        location: Location from pydantic.
        document: The parsed JSON that was validated.
        missing: Whether the last part may be missing from the document because it should be added. If not, a last part
            that is missing was the name of a branch.
    """
    return _walk(tuple(location), document, missing=missing)[1]


def _walk(
    location: tuple[str | int, ...], value: object, *, missing: bool
) -> tuple[tuple[bool, int], tuple[str | int, ...]]:
    """Return the best reading of a location: its quality (whether its last part exists, steps found) and its parts."""
    if not location:
        return (True, 0), ()
    part, rest = location[0], location[1:]
    found, inner = _step(value, part)
    readings = []
    if found:
        (arrives, steps), parts = _walk(rest, inner, missing=missing)
        readings.append(((arrives, steps + 1), (part, *parts)))
    if rest:
        readings.append(_walk(rest, value, missing=missing))
    elif not found:
        # the last part is what is missing, or, if nothing can be missing, the name of a branch
        absent = isinstance(value, Mapping) or (isinstance(value, list) and isinstance(part, int))
        readings.append(((False, 0), (part,) if missing and absent else ()))
    return max(readings, key=lambda reading: reading[0])


def _step(value: object, part: str | int) -> tuple[bool, object]:
    """Return whether a JSON value has this part, and the part."""
    if isinstance(value, Mapping) and part in value:
        return True, value[part]
    if isinstance(value, list) and isinstance(part, int) and 0 <= part < len(value):
        return True, value[part]
    return False, None
