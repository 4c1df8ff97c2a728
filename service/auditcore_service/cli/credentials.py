"""What the command line shows a service to be let in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from auditcore_service.cli.outcome import CommandError


def token_source(token: str | None, token_file: Path | None) -> Callable[[], str] | None:
    """Where the token of each request comes from: a fixed text, or a file that others may renew; None without one.

    Args:
        token: Value of --token.
        token_file: Value of --token-file.

    Raises:
        CommandError: Both are given, or one holds no token. The message does not show it.
    """
    from auditcore.client import credentials  # noqa: PLC0415 - loads pydantic and httpx, and help needs none
    from auditcore_service.cli.service_client import telling_what_to_do  # noqa: PLC0415 - the same

    if token is not None and token_file is not None:
        message = (
            "give the token itself or the file that holds it: only one of --token (AUDIT_TOKEN) and --token-file "
            "(AUDIT_TOKEN_FILE)"
        )
        raise CommandError(message)
    with telling_what_to_do():
        return credentials.token_source(token, token_file)
