"""A report in MLflow: numbers, tags and files at the run and the version of the model, and an alias that it earns."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from auditcore.contracts.access import AccessRules
from auditcore.contracts.packaged_models import MlflowModel
from auditcore.contracts.report import AuditReport, Verdict
from auditcore.errors import InputError
from auditcore.report.headline_numbers import headline_numbers
from auditcore.sources.registries.mlflow import registry_client, resolve

ALLOWING: Final = frozenset[Verdict]({"pass", "warn"})
"""Verdicts that let a version have an alias. A report without a policy allows nothing: nobody has said what is good."""

FOLDER: Final = "auditcore"
"""Folder of the artifacts of a run; below it is one folder per audit."""


class NotLogged(Exception):
    """Nothing was written; the message says why and what to do."""


@final
class VerdictForbids(NotLogged):
    """The verdict lets the version have no alias and no stage."""


@final
@dataclass(frozen=True)
class LoggedReport:
    """What was written.

    Attributes:
        run_id: The run of the version; None if the version has none, so that only the version has tags.
        metrics: Name -> value, as logged.
        files_compared: Whether the files of the version were compared with those that were audited.
    """

    run_id: str | None
    metrics: Mapping[str, float]
    files_compared: bool


def log_report(
    report: AuditReport,
    files: Mapping[str, bytes],
    *,
    model: str,
    tracking_uri: str,
    url: str | None = None,
    alias: str | None = None,
    stage: str | None = None,
) -> LoggedReport:
    """Write a report to the run of a model version, tag the version, and let it have an alias or a stage.

    Everything is checked first, so that what is refused has changed nothing.

    Args:
        report: The report.
        files: Name -> content of the artifacts, such as `report.json`.
        model: `name/version` in the registry.
        tracking_uri: Address of MLflow.
        url: Address of the audit, for a tag.
        alias: Alias that the version gets if the verdict is pass or warn.
        stage: The same for a stage, at a server that still has them.

    Raises:
        VerdictForbids: An alias or a stage was asked for, and the verdict is another.
        NotLogged: There is no such version, its files are not those that were audited, or MLflow refuses.
    """
    if (alias or stage) and report.verdict not in ALLOWING:
        message = (
            f"the verdict is {report.verdict}, so version {model} gets no {'alias' if alias else 'stage'}; nothing was "
            "written. To record this report, leave the option out"
        )
        raise VerdictForbids(message)
    name, _, number = model.rpartition("/")
    if not name or not number.isdecimal():
        message = f"--model {model!r} names no version; write NAME/VERSION, such as scans/3"
        raise NotLogged(message)
    client = registry_client(tracking_uri)
    # MLflow raises errors of its own, and those of `requests` if the host does not answer
    try:
        version = client.get_model_version(name, number)
        compared = _check_files(report, name, number, tracking_uri)
        tags = _tags(report, url)
        run_id = version.run_id or None
        metrics = headline_numbers(report) if run_id else {}
        if run_id:
            _log_to_run(client, run_id, report.audit_id, metrics, tags, files)
        for key, value in tags.items():
            client.set_model_version_tag(name, number, key, value)
        if alias:
            client.set_registered_model_alias(name, alias, number)
        if stage:
            _move(client, name, number, stage)
    except NotLogged:
        raise
    except Exception as error:
        text = (str(error) or type(error).__name__).splitlines()[0]
        message = f"MLflow at {tracking_uri} refuses or does not answer ({text}); check --tracking-uri and --model"
        raise NotLogged(message) from error
    return LoggedReport(run_id, metrics, compared)


def _check_files(report: AuditReport, name: str, number: str, tracking_uri: str) -> bool:
    """Whether the files of the version could be compared with those of the report, and are the same.

    Raises:
        NotLogged: They are others.
    """
    audited = [
        one.reference
        for one in report.audited_models
        if isinstance(one.reference, MlflowModel) and one.reference.sha256
    ]
    if not audited:
        return False
    uri = f"models:/{name}/{number}"
    wanted = audited[0].model_copy(update={"uri": uri, "version": number, "sha256": None})
    try:
        found = resolve(wanted, AccessRules(mlflow_tracking_uri=tracking_uri)).reference
    except InputError:
        # its files are where only the operator of the service may read
        return False
    digest = getattr(found, "sha256", None)
    if digest not in {one.sha256 for one in audited}:
        message = (
            f"the files of {uri} have the digest {digest}, and the report is about {audited[0].uri} with "
            f"{audited[0].sha256}; nothing was written. Name the version that was audited, or audit this one"
        )
        raise NotLogged(message)
    return True


def _tags(report: AuditReport, url: str | None) -> dict[str, str]:
    tags = {
        "auditcore.verdict": report.verdict,
        "auditcore.audit_id": report.audit_id,
        "auditcore.plan_digest": report.manifest.plan_digest,
        "auditcore.images_digest": report.images.digest,
    }
    for model in report.audited_models:
        tags["auditcore.model_digest" if model.name is None else f"auditcore.model_digest.{model.name}"] = model.digest
    if report.policy is not None:
        tags["auditcore.policy"] = f"{report.policy.name}@{report.policy.version}"
        tags["auditcore.policy_digest"] = report.policy.digest
    if url is not None:
        tags["auditcore.url"] = url
    return tags


def _log_to_run(
    client: Any,  # noqa: ANN401 - MLflow's own type
    run_id: str,
    audit_id: str,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    files: Mapping[str, bytes],
) -> None:
    from mlflow.entities import Metric, RunTag  # noqa: PLC0415 - an extra, and 2 s of imports

    now_ms = int(time.time() * 1000)
    # MLflow takes 1000 metrics in one request
    entries = [Metric(name, value, now_ms, 0) for name, value in metrics.items()]
    for start in range(0, max(len(entries), 1), 1000):
        client.log_batch(run_id, metrics=entries[start : start + 1000])
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    with tempfile.TemporaryDirectory(prefix="auditcore-") as folder:
        for name, content in files.items():
            path = Path(folder) / name
            path.write_bytes(content)
            client.log_artifact(run_id, str(path), f"{FOLDER}/{audit_id}")


def _move(client: Any, name: str, number: str, stage: str) -> None:  # noqa: ANN401 - MLflow's own type
    move = getattr(client, "transition_model_version_stage", None)
    if move is None:
        message = "this MLflow has no stages any more; use --gate-alias"
        raise NotLogged(message)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        move(name, number, stage)
