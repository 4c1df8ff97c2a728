"""Where the token of each request comes from."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from auditcore.client.errors import InvalidArgument

TOKEN_VARIABLE = "AUDIT_TOKEN"  # noqa: S105 - the name of the variable
TOKEN_FILE_VARIABLE = "AUDIT_TOKEN_FILE"  # noqa: S105 - the same

TokenSource = Callable[[], str]
"""Gives the token of the next request."""


def token_from_environment() -> TokenSource | None:
    """The source that AUDIT_TOKEN or AUDIT_TOKEN_FILE names; None if neither is set.

    Raises:
        InvalidArgument: Both are set, or one holds no token.
    """
    token, path = os.environ.get(TOKEN_VARIABLE), os.environ.get(TOKEN_FILE_VARIABLE)
    return token_source(token or None, Path(path) if path else None)


def token_source(token: str | None, token_file: Path | None) -> TokenSource | None:
    """A fixed token, or a file that others may renew, which is read for each request; None without one.

    Args:
        token: The token itself.
        token_file: A file that holds it.

    Raises:
        InvalidArgument: Both are given, or one holds no token. The message does not show it.
    """
    if token is not None and token_file is not None:
        message = (
            f"give the token itself or the file that holds it: only one of {TOKEN_VARIABLE} and {TOKEN_FILE_VARIABLE}"
        )
        raise InvalidArgument(message)
    if token_file is not None:
        _ = _from_file(token_file)
        return lambda: _from_file(token_file)
    if token is None:
        return None
    checked = _checked(token, "the token")
    return lambda: checked


def _from_file(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror}); check {TOKEN_FILE_VARIABLE}"
        raise InvalidArgument(message) from error
    return _checked(data.decode("ascii", "replace"), str(path))


def _checked(text: str, source: str) -> str:
    token = text.strip()
    # what is not one line of plain characters cannot be sent in a header, or would be another header
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        message = f"{source} holds no API key or token: it has to be one word of plain characters"
        raise InvalidArgument(message)
    return token
