"""The commands `verify`, `verify-log` and `signing-key`: evidence without a service."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from auditcore.evidence.event_log import LOG_HEAD_TYPE, LogEntry, LogHead, verify_chain
from auditcore.evidence.findings import Finding
from auditcore.evidence.signing import (
    KeyUnreadable,
    PublicKey,
    SignatureInvalid,
    payload_of,
    read_envelope,
    verify_envelope,
)
from auditcore.evidence.training_verification import (
    TrainingVerification,
    is_training_report,
    verify_training_evidence,
)
from auditcore.evidence.verification import EvidenceUnreadable, Verification, verify_evidence
from auditcore_service.cli.given_files import read_file
from auditcore_service.cli.outcome import CommandError
from auditcore_service.cli.service_client import connected
from auditcore_service.key_files import create_signing_key

PAGE = 1000
"""Entries of a log that are read at a time."""


def read_keys(paths: Sequence[Path]) -> list[PublicKey]:
    """The public keys in files.

    Raises:
        CommandError: A file cannot be read, or holds no key.
    """
    keys = []
    for path in paths:
        try:
            keys.append(PublicKey.from_pem(read_file(path)))
        except KeyUnreadable as error:
            message = f"{path}: {error}"
            raise CommandError(message) from error
    return keys


def create_key(path: Path) -> PublicKey:
    """Make a signing key in a new file, which only its user may read; the answer is its public half.

    Raises:
        CommandError: The file exists or cannot be written.
    """
    try:
        return create_signing_key(path).public
    except FileExistsError as error:
        message = (
            f"{path} exists, and a key is never overwritten: what it signed must stay verifiable; name another file"
        )
        raise CommandError(message) from error
    except OSError as error:
        message = f"{path} cannot be written ({error.strerror})"
        raise CommandError(message) from error


def verify_files(
    report: Path, evidence: Path, keys: Sequence[Path], *, weights: Path | None = None
) -> Verification | TrainingVerification:
    """Verify the evidence of a report, which may be of an audit or of a training.

    Args:
        report: The report.
        evidence: Its evidence.
        keys: Files with the public keys that are trusted.
        weights: The file of weights that a training has made; None to compare only the report.

    Raises:
        CommandError: A file cannot be read, or is something else.
    """
    document, envelope, trusted = read_file(report), read_file(evidence), read_keys(keys)
    try:
        if is_training_report(document):
            given = None if weights is None else read_file(weights)
            return verify_training_evidence(document, envelope, trusted, weights=given)
        if weights is not None:
            message = f"--weights belongs to the report of a training, and {report} is none; leave it out"
            raise CommandError(message)
        return verify_evidence(document, envelope, trusted)
    except EvidenceUnreadable as error:
        raise CommandError(str(error)) from error


def show_verification(found: Verification | TrainingVerification, console: Console) -> None:
    """Print what holds, or everything that does not."""
    if found.findings:
        show_findings(found.findings, "the evidence does not hold", console)
        return
    told = _of_audit(found) if isinstance(found, Verification) else _of_training(found)
    for line in (*told, *(f"signed by key {key_id}" for key_id in found.key_ids)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _of_audit(found: Verification) -> list[str]:
    return [
        f"the evidence of audit {found.audit_id} holds; its verdict is {found.verdict}",
        f"criteria registered at {found.registered_at}",
        *(
            f"the weights {training.weights} were made by training {training.training_id}, whose report is "
            f"{training.report}"
            for training in found.trainings
        ),
    ]


def _of_training(found: TrainingVerification) -> list[str]:
    compared = "the file is this one" if found.weights_compared else "give the file with --weights to compare it"
    return [
        f"the evidence of training {found.training_id} holds",
        f"it made the weights {found.weights}; {compared}",
        f"plan and images registered at {found.registered_at}; digest of the training images {found.training_images}",
    ]


def show_findings(findings: Sequence[Finding], title: str, console: Console) -> None:
    """Print everything that does not hold."""
    console.print(f"{title}:", style="red", highlight=False, markup=False, soft_wrap=True)
    for finding in findings:
        console.print(f"  {finding.where}: {finding.message}", highlight=False, markup=False, soft_wrap=True)


def verify_log(entries: Iterable[LogEntry], head: Path | None, keys: Sequence[Path]) -> tuple[int, list[Finding]]:
    """Verify a log.

    Args:
        entries: All its entries.
        head: File with an earlier signed head, or None.
        keys: Files with the public keys that may have signed the head.

    Returns:
        Number of entries, and everything that does not hold.

    Raises:
        CommandError: A file cannot be read, or is something else.
    """
    known, findings = None, list[Finding]()
    if head is not None:
        data = read_file(head)
        try:
            known = LogHead.model_validate_json(payload_of(read_envelope(data)))
            verify_envelope(data, read_keys(keys), payload_type=LOG_HEAD_TYPE)
        except SignatureInvalid as error:
            findings.append(Finding(str(head), str(error)))
        except ValueError as error:
            message = f"{head} is no signed head of a log ({error}); GET /v1/log/head answers one"
            raise CommandError(message) from error
    counted = 0

    def counting() -> Iterator[LogEntry]:
        nonlocal counted
        for counted, entry in enumerate(entries, start=1):  # noqa: B007 - the number is the result
            yield entry

    findings += verify_chain(counting(), known)
    return counted, findings


def entries_of_service(url: str, *, token: Callable[[], str] | None = None) -> Iterator[LogEntry]:
    """All entries of a service's log, page by page.

    Raises:
        CommandError: The service cannot be reached.
    """
    with connected(url, token=token) as client:
        yield from client.log()


def entries_of_database(url: str, tenant: str) -> Iterator[LogEntry]:
    """All entries of a tenant's log in a database, page by page.

    Args:
        url: Of the database.
        tenant: Whose log.

    Raises:
        CommandError: The database cannot be read.
    """
    from sqlalchemy import make_url  # noqa: PLC0415 - asking a service needs no database
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - the same

    from auditcore_service.store.database import Database  # noqa: PLC0415 - the same
    from auditcore_service.store.event_log import read_log  # noqa: PLC0415 - the same

    try:
        parsed = make_url(url)
        # SQLite would make a new database, with an empty log that holds
        if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
            message = f"there is no database {parsed.database}; check --database"
            raise CommandError(message)
        database = Database(url)
        try:
            with database.reading(tenant) as connection:
                page: Sequence[LogEntry] = read_log(connection, limit=PAGE)
                while page:
                    yield from page
                    page = read_log(connection, after=page[-1].sequence, limit=PAGE)
        finally:
            database.close()
    except SQLAlchemyError as error:
        message = f"the log cannot be read ({str(error).splitlines()[0]}); check --database"
        raise CommandError(message) from error
