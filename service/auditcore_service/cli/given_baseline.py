"""The option `--baseline` of `audit` and `submit`: an earlier report as a file, or the id of an audit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from auditcore.contracts.canonical_json import sha256
from auditcore_service.cli.given_files import read_file, read_report_file
from auditcore_service.cli.outcome import CommandError
from auditcore_service.use_cases.audit_ids import is_audit_id

OPTION = "--baseline"


def with_baseline(document: dict[str, Any], given: str) -> None:
    """Put a baseline into a request for a service, in place of the request's own.

    Args:
        document: The request.
        given: Id of an audit of the service, or the file of a report that the service has made.

    Raises:
        CommandError: It is neither, or the file holds no report.
    """
    path = Path(given)
    if is_audit_id(given):
        baseline = {"audit": given}
    elif path.is_file():
        read_report_file(path)
        # the service stores its reports under the digest of their bytes
        baseline = {"report": sha256(read_file(path))}
    else:
        message = f"{OPTION} {given} is no file and no id of an audit; give a report, or an id from GET /v1/audits"
        raise CommandError(message)
    own = document.get("baseline")
    model = own.get("model") if isinstance(own, dict) else None
    document["baseline"] = baseline if model is None else {**baseline, "model": model}


@contextmanager
def naming_the_option(given: object) -> Iterator[None]:
    """Let errors about a baseline that was given name the option and not the field of the request.

    Args:
        given: The value of the option; None if it was not given.

    Raises:
        CommandError: The error raised inside.
    """
    try:
        yield
    except CommandError as error:
        if given is not None:
            error.errors = tuple((_place(field), message) for field, message in error.errors)
        raise


def _place(field: str) -> str:
    """The option for a field or a JSON pointer of the baseline; its model and other fields as they are."""
    parts = field.removeprefix("#/").replace("/", ".").split(".")
    return OPTION if parts[0] == "baseline" and "model" not in parts else field
