"""What the command line shows a service to be let in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from auditcore_service.cli.outcome import CommandError


def token_source(token: str | None, token_file: Path | None) -> Callable[[], str] | None:
    """Where the token of each request comes from: a fixed text, or a file that others may renew; None without one.

    Args:
        token: The token itself.
        token_file: A file that holds it.

    Raises:
        CommandError: Both are given, or one holds no token. The message does not show it.
    """
    if token is not None and token_file is not None:
        message = (
            "give the token itself or the file that holds it: only one of --token (AUDIT_TOKEN) and --token-file "
            "(AUDIT_TOKEN_FILE)"
        )
        raise CommandError(message)
    if token_file is not None:
        _ = _from_file(token_file)
        return lambda: _from_file(token_file)
    if token is None:
        return None
    checked = _checked(token, "the token")
    return lambda: checked


def _from_file(path: Path) -> str:
    from auditcore_service.cli.given_files import read_file  # noqa: PLC0415 - loads pydantic, and help needs none

    data = read_file(path, remedy="check --token-file or AUDIT_TOKEN_FILE")
    return _checked(data.decode("ascii", "replace"), str(path))


def _checked(text: str, source: str) -> str:
    token = text.strip()
    # what is not one line of plain characters cannot be sent in a header, or would be another header
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        message = f"{source} holds no API key or token: it has to be one word of plain characters"
        raise CommandError(message)
    return token
