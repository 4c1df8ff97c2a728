"""Names of images: their length, and which characters they may have."""

from __future__ import annotations

import unicodedata

NAME_LENGTH = 255
"""Most characters of an image's name."""

_NO_TEXT = frozenset({"\ufffe", "\uffff"})
"""Characters that are never text; XML, the format of JUnit reports, cannot hold them."""


def short_name(name: str) -> str:
    """A name of at most `NAME_LENGTH` characters, cut at the front so that its ending stays."""
    return name[-NAME_LENGTH:]


def file_name(path: str) -> str:
    """What a report calls an image with a path or URI: its last part."""
    return short_name(path.replace("\\", "/").rsplit("/", 1)[-1])


def inline_name(number: int) -> str:
    """What a report calls an image inside the request, which has no name of its own."""
    return f"inline-{number}"


def fault_of_name(name: str) -> str | None:
    """Why a file cannot have this name, in words that follow the name; None if it can.

    Every Unicode character is allowed that is text: also spaces of all widths, joiners and variation selectors, which
    screenshots and emoji bring along. Control characters are not, because terminals act on them.
    """
    if not name:
        return "is empty"
    for character in name:
        # category Cs: half of a surrogate pair, which UTF-8 cannot encode
        if unicodedata.category(character) in {"Cc", "Cs"} or character in _NO_TEXT:
            return f"contains the control character U+{ord(character):04X}"
    if len(name) > NAME_LENGTH:
        return f"is longer than {NAME_LENGTH} characters"
    return None
