"""Models of the MLflow registry: from a name and an alias to a version, its files and their digest.

This module asks the registry and downloads files. It never calls `load_model`, which runs code of the model.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from auditcore.contracts.access import AccessRules
from auditcore.contracts.capabilities import WHITE_BOX
from auditcore.contracts.mlflow_names import MlflowName, parse_mlflow_uri
from auditcore.contracts.packaged_models import MlflowModel
from auditcore.errors import (
    DigestMismatch,
    InputError,
    InvalidRequest,
    ModelChanged,
    ModelNotLoadable,
    UnreachableResource,
    UnsafeReference,
)
from auditcore.sources.model_source import ModelSource
from auditcore.sources.proxies import proxy_in_use
from auditcore.sources.registries.folders import folder_digest
from auditcore.sources.registries.mlflow_files import check_location, copy_files, location_in_run, location_of
from auditcore.sources.resolved_model import Resolution

FIELD = "model.uri"


def check_access(model: MlflowModel, access: AccessRules) -> None:
    """Refuse a model where no registry is configured, or whose architecture is not allowed.

    Raises:
        UnsafeReference: The operator has not set AUDIT_MLFLOW_TRACKING_URI, or has not allowed the architecture.
    """
    if access.mlflow_tracking_uri is None:
        msg = "no MLflow registry is configured; the operator can name one (AUDIT_MLFLOW_TRACKING_URI)"
        raise UnsafeReference(msg, field=FIELD)
    access.check_architecture(model.architecture)


def resolve(model: MlflowModel, access: AccessRules) -> Resolution:
    """The reference with the version that it stands for now, and with the digest of its files.

    Raises:
        InputError: The registry does not answer, or has no such model, version or alias.
    """
    pinned = _pinned(model, access)
    with _downloaded(pinned, access) as (_, digest):
        if model.sha256 is not None and model.sha256 != digest:
            raise DigestMismatch(expected=model.sha256, actual=digest, field="model.sha256")
    return Resolution(pinned.model_copy(update={"sha256": digest}), WHITE_BOX, {"registry": "MLflow"})


@contextmanager
def artifacts(model: MlflowModel, access: AccessRules) -> Iterator[Path]:
    """The files of a resolved model in a private folder, which is removed afterwards.

    Raises:
        ModelChanged: The version holds other files than when the audit was submitted.
        InputError: The files cannot be downloaded.
    """
    proxy = proxy_in_use()
    if proxy is not None:
        yield proxy.open_registry(model)
        return
    pinned = _pinned(model, access)
    with _downloaded(pinned, access) as (folder, digest):
        if model.sha256 is not None and model.sha256 != digest:
            of_version = "" if pinned.version is None else f"version {pinned.version} of "
            msg = f"{of_version}{model.uri} holds other files than when the audit was submitted; submit it again"
            raise ModelChanged(msg, field="model.uri" if pinned.version is None else "model.version")
        yield folder


def _pinned(model: MlflowModel, access: AccessRules) -> MlflowModel:
    """The reference with its version; a version that is set already stays, even if the alias has moved.

    A logged model and the model of a run have no version: they are written once.
    """
    if model.version is not None or not parse_mlflow_uri(model.uri).registered:
        return model
    return model.model_copy(update={"version": _version(model, access)})


def _client(access: AccessRules) -> Any:  # noqa: ANN401 - MLflow's own type, imported when it is needed
    return registry_client(str(access.mlflow_tracking_uri))


def registry_client(uri: str) -> Any:  # noqa: ANN401 - MLflow's own type, imported when it is needed
    """A client of the registry and the runs at an address.

    Raises:
        ModelNotLoadable: MLflow's client is not installed.
    """
    _settle_environment()
    try:
        from mlflow import MlflowClient  # noqa: PLC0415 - an extra, and 2 s of imports
    except ImportError as error:
        msg = f"the MLflow client is not installed here ({error}); install auditcore[mlflow]"
        raise ModelNotLoadable(msg, field=FIELD) from error
    # MLflow's file registry opens a second client, which without this would create a database in the working folder
    os.environ.setdefault("MLFLOW_TRACKING_URI", uri)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _version(model: MlflowModel, access: AccessRules) -> str:
    named = parse_mlflow_uri(model.uri)
    client = _client(access)
    try:
        match named.kind:
            case "version":
                return str(client.get_model_version(named.name, named.value).version)
            case "alias":
                return str(client.get_model_version_by_alias(named.name, named.value).version)
            case _:
                versions = _latest_versions(client, named)
    # MLflow raises errors of its own, and those of `requests` if the host does not answer
    except Exception as error:
        raise _refusal(model, error) from error
    if not versions:
        what = "version" if named.kind == "latest" else f"version in the stage {named.value}"
        msg = f"the registered model {named.name} has no {what}; name a version or an alias"
        raise InvalidRequest(msg, field=FIELD)
    return str(max(versions))


def _latest_versions(client: Any, named: MlflowName) -> list[int]:  # noqa: ANN401 - MLflow's own type
    """Numbers of the latest versions of a registered model: of one stage, or of each stage."""
    with warnings.catch_warnings():
        # MLflow has replaced stages by aliases and still reads them
        warnings.simplefilter("ignore", FutureWarning)
        found = client.get_latest_versions(named.name, [named.value] if named.kind == "stage" else None)
    return [int(version.version) for version in found]


def _refusal(model: MlflowModel, error: Exception) -> InvalidRequest | UnreachableResource:
    text = (str(error) or type(error).__name__).splitlines()[0]
    code = getattr(error, "error_code", "")
    if code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"}:
        msg = f"the registry has no {model.uri} ({text}); check name, version and alias, or the id"
        return InvalidRequest(msg, field=FIELD)
    msg = f"the MLflow registry does not answer for {model.uri} ({text}); check that it is up"
    return UnreachableResource(msg, field=FIELD)


@contextmanager
def _downloaded(model: MlflowModel, access: AccessRules) -> Iterator[tuple[Path, str]]:
    """A folder with the files of a version, and their digest."""
    named = parse_mlflow_uri(model.uri)
    folder = Path(tempfile.mkdtemp(prefix="auditcore-mlflow-"))
    try:
        client = _client(access)
        try:
            match named.kind:
                case "run":
                    location = location_in_run(named, client, str(access.mlflow_tracking_uri))
                case "logged":
                    location = location_of(model.uri, client, str(access.mlflow_tracking_uri))
                case _:
                    source = client.get_model_version_download_uri(named.name, model.version)
                    location = location_of(source, client, str(access.mlflow_tracking_uri))
            check_location(location, access, field=FIELD)
            root = copy_files(location, folder, access, field=FIELD)
        except InputError:
            raise
        except Exception as error:
            raise _refusal(model, error) from error
        names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
        limit = access.limits.weights_bytes
        yield root, folder_digest(root, names, limit_bytes=limit, field=FIELD)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def _settle_environment() -> None:
    """Configure MLflow once per process, because threads share the environment.

    No code of models runs, no telemetry is sent and no progress bar is drawn. Timeouts are short unless they are set.
    """
    os.environ["MLFLOW_ALLOW_MODEL_CODE_EXECUTION"] = "false"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")


def _display_name(model: MlflowModel) -> str:
    moves = parse_mlflow_uri(model.uri).kind in {"alias", "stage", "latest"}
    return f"{model.uri} (version {model.version})" if moves and model.version is not None else model.uri


MLFLOW = ModelSource(
    contract=MlflowModel,
    check_access=check_access,
    resolve=resolve,
    loader="auditcore.models.loaders.mlflow",
    display_name=_display_name,
)
