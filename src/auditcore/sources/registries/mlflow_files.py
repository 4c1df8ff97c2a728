"""Files of a version in an MLflow registry: where they are, whether that is allowed, and a private copy of them.

A version is a row with a location, and everyone who may register models chooses it. So the location is resolved
completely, and it must be the registry's own server, its own folder, or a place that the operator allows.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from auditcore.contracts.access import STORAGE_SCHEMES, AccessRules
from auditcore.contracts.mlflow_names import MlflowName
from auditcore.errors import LimitExceeded, UnsafeReference
from auditcore.sources.object_stores import copy_objects

MOST_FILES = 10_000


def location_of(source: str, client: Any, tracking_uri: str) -> str:  # noqa: ANN401 - MLflow's own type
    """Where the files of a version are, after `runs:` and `models:` were resolved."""
    match urlsplit(source).scheme:
        case "runs":
            from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository  # noqa: PLC0415 - an extra

            return str(RunsArtifactRepository.get_underlying_uri(source, tracking_uri))
        case "models":
            return str(client.get_logged_model(source.removeprefix("models:/").strip("/")).artifact_location)
        case _:
            return source


def location_in_run(named: MlflowName, client: Any, tracking_uri: str) -> str:  # noqa: ANN401 - MLflow's own type
    """Where the files of a model of a run are.

    MLflow 3 keeps a model that a run has logged outside of the run, under the name with which it was logged.
    """
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - an extra

    name, _, inside = named.value.partition("/")
    run = client.get_run(named.name)
    try:
        logged = client.search_logged_models(
            experiment_ids=[run.info.experiment_id], filter_string=f"source_run_id = '{named.name}'"
        )
    # a server of an older MLflow knows no such models
    except MlflowException:
        logged = []
    for model in logged:
        if model.name == name and model.source_run_id == named.name:
            return f"{str(model.artifact_location).rstrip('/')}/{inside}".rstrip("/")
    return location_of(f"runs:/{named.name}/{named.value}", client, tracking_uri)


def check_location(location: str, access: AccessRules, *, field: str) -> None:
    """Refuse files at a place that is neither the registry's own nor allowed by the operator.

    Raises:
        UnsafeReference: The place is not allowed; the message names it and says how to allow it.
    """
    parts, registry = urlsplit(location), urlsplit(str(access.mlflow_tracking_uri))
    match parts.scheme:
        case "mlflow-artifacts":
            # MLflow lets such a URI name another server
            if parts.netloc not in {"", registry.netloc}:
                msg = f"the version's files are at another server, {parts.netloc}; register it at this one"
                raise UnsafeReference(msg, field=field)
        case "" | "file":
            if registry.scheme != "file" or not _path(location).is_relative_to(_path(registry.geturl())):
                access.check_uri(_path(location).as_uri(), field=field)
        case scheme if scheme in STORAGE_SCHEMES:
            access.check_uri(f"{location.rstrip('/')}/", field=field)
        case scheme:
            msg = f"the version's files are at {scheme}:, which is not read; let the registry's server keep artifacts"
            raise UnsafeReference(msg, field=field)


def copy_files(location: str, folder: Path, access: AccessRules, *, field: str) -> Path:
    """Copy the files of a version into a folder, after their sizes were checked.

    Returns:
        The folder in which `MLmodel` is.

    Raises:
        LimitExceeded: There are too many files, or they are too large.
        InputError: The files cannot be read. MLflow's own errors are not caught here.
    """
    limit = access.limits.weights_bytes
    match urlsplit(location).scheme:
        case "" | "file":
            source = _path(location)
            _refuse_links(source, field)
            _check(((file.stat().st_size) for file in source.rglob("*") if file.is_file()), limit, field)
            shutil.copytree(source, folder, dirs_exist_ok=True)
            return folder
        case scheme if scheme in STORAGE_SCHEMES:
            copy_objects(location, folder, limit_bytes=limit, most=MOST_FILES, field=field)
            return folder
        case _:
            import mlflow.artifacts  # noqa: PLC0415 - an extra

            tracking_uri = access.mlflow_tracking_uri
            _check(_listed(location, tracking_uri), limit, field)
            return Path(
                mlflow.artifacts.download_artifacts(
                    artifact_uri=location, dst_path=str(folder), tracking_uri=tracking_uri
                )
            )


def _listed(location: str, tracking_uri: str | None) -> Iterator[int]:
    """Sizes in bytes of the files behind an artifact URI."""
    import mlflow.artifacts  # noqa: PLC0415 - an extra

    root = location.rstrip("/")
    waiting = [root]
    while waiting:
        here = waiting.pop()
        for entry in mlflow.artifacts.list_artifacts(artifact_uri=here, tracking_uri=tracking_uri):
            if entry.is_dir:
                waiting.append(f"{here}/{entry.path.rstrip('/').rsplit('/', 1)[-1]}")
                yield 0
            else:
                yield int(entry.file_size or 0)


def _refuse_links(folder: Path, field: str) -> None:
    link = next((path for path in folder.rglob("*") if path.is_symlink()), None)
    if link is not None:
        msg = (
            f"{link.relative_to(folder)} of the version is a link, which could lead anywhere and which MLflow never "
            "writes; log the model again"
        )
        raise UnsafeReference(msg, field=field)


def _check(sizes: Iterator[int], limit_bytes: int, field: str) -> None:
    total = 0
    for number, size in enumerate(sizes, start=1):
        total += size
        if number > MOST_FILES:
            raise LimitExceeded(what="the model", limit=MOST_FILES, actual=number, unit="files", field=field)
        if total > limit_bytes:
            raise LimitExceeded(what="the model", limit=limit_bytes, actual=total, unit="bytes", field=field)


def _path(location: str) -> Path:
    parts = urlsplit(location)
    return Path(os.path.realpath(unquote(parts.path) if parts.scheme == "file" else location))
