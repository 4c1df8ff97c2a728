"""A client of the service for commands: errors that say what to do here, and files that options have named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from auditcore.client import Client, ClientError, NamedImage, Refused, Retries
from auditcore.client.errors import NotAuditcore
from auditcore_service.cli.found_images import ImageFile
from auditcore_service.cli.outcome import CommandError
from auditcore_service.use_cases.annotations import GivenAnnotations

_UNAUTHORIZED = 401

RETRIES = Retries(attempts=4)
"""A person who has mistyped an address is told within a second; a service that restarts answers 503 with its pause."""


@contextmanager
def connected(
    url: str, *, token: Callable[[], str] | None = None, narrate: Callable[[str], None] | None = None
) -> Iterator[Client]:
    """A client of a service while the context lasts; its errors stop the command.

    Args:
        url: Value of --url.
        token: Gives the token of each request; None for a service without authentication.
        narrate: Called before each call with a curl command that does the same.

    Raises:
        CommandError: The URL is not that of a service, or what happens inside fails.
    """
    with (
        telling_what_to_do(authenticated=token is not None),
        Client(url, token=token, narrate=narrate, retries=RETRIES) as client,
    ):
        yield client


@contextmanager
def telling_what_to_do(*, authenticated: bool = False) -> Iterator[None]:
    """Errors of the client as those of a command.

    Args:
        authenticated: Whether requests carry a token.

    Raises:
        CommandError: In place of an error of the client.
    """
    try:
        yield
    except ClientError as error:
        message = error.message
        if isinstance(error, Refused | NotAuditcore) and error.status == _UNAUTHORIZED:
            message += (
                "; check the token that AUDIT_TOKEN, --token or a file of --token-file gives"
                if authenticated
                else "; give an API key or a token with AUDIT_TOKEN or --token-file"
            )
        errors = [(one.pointer, one.fix) for one in error.mistakes]
        raise CommandError(message, errors=errors, code=error.code) from error


def upload_files(client: Client, files: Sequence[ImageFile], given: GivenAnnotations | None = None) -> str:
    """Upload image files as one batch; returns its digest.

    Args:
        client: Of the service.
        files: Files, in order.
        given: What is known of them.

    Raises:
        ClientError: The service refuses them or cannot be reached.
    """
    known = given or GivenAnnotations()
    return client.upload(
        [NamedImage(file.name, file.path) for file in files],
        labels=known.labels,
        boxes=known.boxes,
        box_format=known.box_format,
        masks=known.masks,
        mask_files=[NamedImage(mask.name, mask.data) for mask in known.mask_files],
        annotations=known.annotations,
        classes=known.classes,
    ).digest
