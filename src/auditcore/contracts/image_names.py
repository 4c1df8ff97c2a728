"""Names of images: their length, and which characters they may have."""

from __future__ import annotations

import unicodedata
from urllib.parse import unquote

NAME_LENGTH = 255
"""Most characters of an image's name."""

_ENCODED = frozenset({"file", "https"})
"""Schemes whose paths have % and two digits for what is not a letter of English; names of object stores do not."""

_NO_TEXT = frozenset({"\ufffe", "\uffff"})
"""Characters that are never text; XML, the format of JUnit reports, cannot hold them."""


def short_name(name: str) -> str:
    """A name of at most `NAME_LENGTH` characters, cut at the front so that its ending stays."""
    return name[-NAME_LENGTH:]


def file_name(path: str) -> str:
    """What a report calls an image with a path: its last part."""
    return short_name(path.replace("\\", "/").rsplit("/", 1)[-1])


def uri_name(uri: str) -> str:
    """What a report calls an image with a URI: the last part of its path, as people write it.

    What follows the path of an `https:` URI may be a signature that lets its holder fetch the file, so it is left out.
    """
    scheme, _, path = uri.partition(":")
    if scheme.lower() in _ENCODED:
        path = path.partition("#")[0].partition("?")[0]
        decoded = file_name(unquote(path))
        return file_name(path) if fault_of_name(decoded) else decoded
    return file_name(path or uri)


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
