"""`study`, `measure` and `remediate` with a service: upload folders, submit, follow, and write the files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from auditcore.client import Client
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.experiments.stage import REPORT, FileName
from auditcore.contracts.remedies.report import RemedyReport
from auditcore.contracts.retraining.f_fidelity import FFidelityReport
from auditcore.contracts.retraining.idsds import IdsdsReport
from auditcore.contracts.retraining.roar import RoarReport
from auditcore_service.cli.computing import write_result
from auditcore_service.cli.given_files import read_report_file
from auditcore_service.cli.inputs import read_request
from auditcore_service.cli.labeled_folders import find_labeled_folder
from auditcore_service.cli.outcome import CommandError
from auditcore_service.cli.progress import follow
from auditcore_service.cli.service_client import connected, upload_files

_NAME: TypeAdapter[str] = TypeAdapter(FileName)
_CHECKPOINTS = "checkpoints/"
_REPORTS: Mapping[str, type[RoarReport | FFidelityReport | IdsdsReport]] = {
    "roar": RoarReport,
    "f_fidelity": FFidelityReport,
    "idsds": IdsdsReport,
}


class Folders(NamedTuple):
    """Folders of labeled images.

    Attributes:
        training: To train on.
        validation: To validate on; some of the others if None.
        test: To audit on; None where the request needs none.
    """

    training: Path
    validation: Path | None = None
    test: Path | None = None


class Remote(NamedTuple):
    """The service that a command asks.

    Attributes:
        url: Its address.
        token: Gives the token of each request; None for a service without authentication.
    """

    url: str
    token: Callable[[], str] | None


def remedy_request(given: str, plan: Path | None) -> dict[str, Any]:
    """A remedy of an audit of a service.

    Args:
        given: Id of the failed audit, or a file with its report.
        plan: File with what may be tried; a short search if None.

    Raises:
        CommandError: A file cannot be read.
    """
    path = Path(given)
    audit = read_report_file(path).audit_id if path.exists() else given
    return {"audit": audit, "plan": {"kind": "remedy", **({} if plan is None else read_request(plan))}}


def run_remotely(remote: Remote, document: dict[str, Any], folders: Folders, out: Path, console: Console) -> bytes:
    """Upload images, submit an experiment, follow it to its end, and write what it has kept to a folder.

    Args:
        remote: The service.
        document: The request without images.
        folders: The images.
        out: The folder.
        console: For progress.

    Returns:
        The report.

    Raises:
        CommandError: The service refuses it or cannot be reached, or it was cancelled or has failed.
    """
    with connected(remote.url, token=remote.token) as client:
        for field, folder in (
            ("images", folders.training),
            ("validation", folders.validation),
            ("test", folders.test),
        ):
            if folder is not None:
                option = "--training" if field == "images" else f"--{field}"
                found = find_labeled_folder(folder, option=option)
                document[field] = {"kind": "batch", "digest": upload_files(client, found.files, found.annotations)}
        experiment_id = client.submit_experiment(document).id
        address = f"{remote.url.rstrip('/')}/v1/experiments/{experiment_id}"
        console.print(f"experiment {experiment_id} accepted: {address}", highlight=False, markup=False)
        try:
            follow(lambda told: client.wait_for_experiment(experiment_id, on_progress=told), console)
        except KeyboardInterrupt:
            console.print(
                f"interrupted; the experiment goes on: its files will be at {address}/files; stop it with POST "
                f"{address}/cancel",
                highlight=False,
                markup=False,
            )
            raise
        return _fetch(client, experiment_id, out)


def _fetch(client: Client, experiment_id: str, out: Path) -> bytes:
    """Write the files of an experiment to a folder; returns the report."""
    report = b""
    for kept in client.experiment_files(experiment_id):
        name = kept.name
        try:
            path = out / _NAME.validate_python(name)
        except ValidationError as error:
            message = f"the service names a file {name!r}, which is no name of a kept file; check --url"
            raise CommandError(message) from error
        if name.startswith(_CHECKPOINTS):
            continue
        content = client.experiment_file(experiment_id, name)
        if sha256(content) != kept.digest:
            message = f"{name} came damaged from the service; run the command again"
            raise CommandError(message)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_result(path, content)
        if name == REPORT:
            report = content
    return report


def read_measurement(report: bytes) -> RoarReport | FFidelityReport | IdsdsReport:
    """The report of a measure that retrains.

    Raises:
        CommandError: It is of another version.
    """
    try:
        return _REPORTS[json.loads(report)["request"]["plan"]["kind"]].model_validate_json(report)
    except (ValueError, KeyError) as error:
        raise _unreadable(error) from error


def read_remedy(report: bytes) -> RemedyReport:
    """The report of a remedy.

    Raises:
        CommandError: It is of another version.
    """
    try:
        return RemedyReport.model_validate_json(report)
    except ValueError as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> CommandError:
    message = f"the service's report cannot be read ({error}); use the version of auditcore that the service has"
    return CommandError(message)
