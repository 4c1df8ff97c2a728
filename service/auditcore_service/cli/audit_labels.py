"""The options `--name` and `--tag`: by what people find an audit in a list."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from auditcore_service.cli.outcome import CommandError


def with_labels(document: MutableMapping[str, Any], *, name: str | None, tags: Sequence[str]) -> None:
    """Write a name and tags into a request; a tag replaces one of the request with the same key.

    Args:
        document: The request; changed in place.
        name: Name of the audit; None to keep that of the request.
        tags: As typed, `key:value`.

    Raises:
        CommandError: A tag has no colon.
    """
    if name is not None:
        document["name"] = name
    given = tags_of(tags)
    if given:
        known = document.get("tags")
        document["tags"] = {**(known if isinstance(known, Mapping) else {}), **given}


def tags_of(given: Sequence[str]) -> dict[str, str]:
    """Key -> value of tags as typed, `key:value`.

    Raises:
        CommandError: A tag has no colon.
    """
    return dict(_tag(one) for one in given)


def _tag(text: str) -> tuple[str, str]:
    key, colon, value = text.partition(":")
    if not (key and colon and value):
        message = f"--tag {text!r} is no tag; write KEY:VALUE, such as --tag version:3.1"
        raise CommandError(message)
    return key, value
