"""The MLflow registry: aliases become versions, weights are read without running the code that is pickled with them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import torch
from pydantic import ValidationError

import digits
from auditcore.contracts.access import AccessRules
from auditcore.contracts.packaged_models import MlflowModel
from auditcore.errors import (
    DigestMismatch,
    InputError,
    InvalidRequest,
    ModelChanged,
    UnreachableResource,
    UnsafeReference,
)
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore.sources.registries.mlflow_files import check_location
from auditcore.sources.registry import source_of
from auditcore.sources.resolving import resolve_model

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

ARCHITECTURE = {"kind": "factory", "target": "digits:build"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with two versions of the digits network of the pytorch flavor; the second is `champion`."""
    import warnings  # noqa: PLC0415 - only here

    folder = tmp_path_factory.mktemp("mlflow")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient  # noqa: PLC0415 - 2 s of imports

        uri = (folder / "mlruns").as_uri()
        # a client that registers opens the store of the environment too, by default a database in the working folder
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.create_registered_model("digits")
        for version, network in enumerate((digits.DigitNet().eval(), digits.trained()), start=1):
            files = folder / f"logged-{version}"
            (files / "data").mkdir(parents=True)
            torch.save(network, files / "data" / "model.pth")
            (files / "MLmodel").write_text("flavors:\n  pytorch:\n    model_data: data\n")
            client.create_model_version("digits", files.as_uri())
        client.set_registered_model_alias("digits", "champion", "2")
        client.transition_model_version_stage("digits", "1", "Production")
    return folder


def access(store: Path) -> AccessRules:
    return digits.access(store).model_copy(update={"mlflow_tracking_uri": (store / "mlruns").as_uri()})


def model(uri: str, **changes: Any) -> MlflowModel:
    fields = {"uri": uri, "architecture": ARCHITECTURE, "preprocessing": digits.PREPROCESSING, **changes}
    return MlflowModel.model_validate(fields)


@pytest.fixture(autouse=True)
def _file_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_nothing_is_written_where_the_service_runs(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    resolve_model(model("models:/digits@champion"), access(store))
    assert not list(tmp_path.iterdir())


def test_an_alias_becomes_a_version_and_a_digest_and_loads(store: Path, digit_classifier: Classifier) -> None:
    resolved = resolve_model(model("models:/digits@champion"), access(store)).reference
    assert isinstance(resolved, MlflowModel)
    assert resolved.version == "2"
    assert resolved.sha256 is not None
    classifier = load_classifier(resolved, access=access(store))
    assert classifier.digest == digit_classifier.digest
    first = resolve_model(model("models:/digits/1"), access(store)).reference
    assert isinstance(first, MlflowModel)
    assert (first.version, first.sha256 != resolved.sha256) == ("1", True)


@pytest.mark.parametrize(("uri", "version"), [("models:/digits/latest", "2"), ("models:/digits/Production", "1")])
def test_stages_and_the_latest_version_become_a_version(store: Path, uri: str, version: str) -> None:
    resolved = resolve_model(model(uri), access(store)).reference
    assert isinstance(resolved, MlflowModel)
    assert resolved.version == version
    assert resolved.sha256 == resolve_model(model(f"models:/digits/{version}"), access(store)).reference.sha256  # type: ignore[union-attr]
    assert source_of(resolved).display_name(resolved) == f"{uri} (version {version})"
    assert load_classifier(resolved, access=access(store)).classes == 10


def test_a_stage_without_a_version_is_reported(store: Path) -> None:
    with pytest.raises(InvalidRequest, match="has no version in the stage Archived"):
        resolve_model(model("models:/digits/Archived"), access(store))


def test_models_of_runs_and_logged_models_are_read(store: Path, digit_classifier: Classifier) -> None:
    """A run keeps a model among its artifacts, or, since MLflow 3, names a logged model."""
    from mlflow import MlflowClient  # noqa: PLC0415 - 2 s of imports

    uri = (store / "mlruns").as_uri()
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    run = client.create_run(client.create_experiment("scans"))
    other = client.create_run(run.info.experiment_id)
    logged = client.create_logged_model(run.info.experiment_id, name="best", source_run_id=run.info.run_id)
    places = {
        f"runs:/{run.info.run_id}/old/model": Path(unquote(urlsplit(run.info.artifact_uri).path)) / "old" / "model",
        f"runs:/{run.info.run_id}/best": None,
        f"models:/{logged.model_id}": Path(unquote(urlsplit(logged.artifact_location).path)),
    }
    for place in places.values():
        if place is not None:
            shutil.copytree(store / "logged-2", place, dirs_exist_ok=True)
    for name in places:
        resolved = resolve_model(model(name), access(store)).reference
        assert isinstance(resolved, MlflowModel)
        assert resolved.version is None
        assert resolved.sha256 is not None
        assert load_classifier(resolved, access=access(store)).digest == digit_classifier.digest
        assert source_of(resolved).display_name(resolved) == name
        with pytest.raises(ModelChanged, match="holds other files") as caught:
            load_classifier(model(name, sha256="sha256:" + "a" * 64), access=access(store))
        assert caught.value.field == "model.uri"
    for name in (f"runs:/{other.info.run_id}/best", f"runs:/{'0' * 32}/best", "models:/m-00"):
        with pytest.raises(InputError):
            resolve_model(model(name), access(store))


def test_what_is_pinned_stays_pinned_and_two_versions_are_a_mistake(store: Path) -> None:
    pinned = resolve_model(model("models:/digits@champion", version="1"), access(store)).reference
    assert isinstance(pinned, MlflowModel)
    assert pinned.version == "1"
    assert resolve_model(pinned, access(store)).reference == pinned
    with pytest.raises(ValidationError, match="leave version out"):
        model("models:/digits/1", version="2")


def test_files_that_changed_after_the_audit_was_submitted_fail_it(store: Path) -> None:
    pinned = model("models:/digits/1", version="1", sha256="sha256:" + "a" * 64)
    with pytest.raises(ModelChanged, match="holds other files"):
        load_classifier(pinned, access=access(store))
    with pytest.raises(DigestMismatch):
        resolve_model(pinned, access(store))


@pytest.mark.parametrize("uri", ["models:/digitz/1", "models:/digits/7", "models:/digits@nobody"])
def test_a_missing_entry_of_the_registry_is_reported(store: Path, uri: str) -> None:
    with pytest.raises(InvalidRequest, match="the registry has no") as caught:
        resolve_model(model(uri), access(store))
    assert caught.value.field == "model.uri"


def test_an_unreachable_registry_is_reported(store: Path) -> None:
    away = access(store).model_copy(update={"mlflow_tracking_uri": "http://127.0.0.1:9"})
    with pytest.raises(UnreachableResource, match="does not answer"):
        resolve_model(model("models:/digits/1"), away)


@pytest.mark.parametrize(
    ("changes", "kind", "field"),
    [
        ({"mlflow_tracking_uri": None}, UnsafeReference, "model.uri"),
        ({"factories": ()}, UnsafeReference, "model.architecture.target"),
    ],
)
def test_what_the_operator_has_not_allowed_is_refused(
    store: Path, changes: dict[str, Any], kind: type[InputError], field: str
) -> None:
    with pytest.raises(kind) as caught:
        resolve_model(model("models:/digits/1"), access(store).model_copy(update=changes))
    assert caught.value.field == field


def test_a_link_among_the_files_of_a_version_is_refused(store: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("KEY")
    files = store / "logged-1"
    (files / "linked").symlink_to(tmp_path)
    try:
        with pytest.raises(UnsafeReference, match="is a link") as caught:
            resolve_model(model("models:/digits/1"), access(store))
    finally:
        (files / "linked").unlink()
    assert caught.value.field == "model.uri"


@pytest.mark.parametrize(
    "location",
    [
        "/etc",
        "file:///etc",
        "file:///models/../etc",
        "relative",
        "s3://models/other",
        "s3://models/public::file:///etc",
        "mlflow-artifacts://elsewhere:5000/1",
        "http://elsewhere/1",
        "ftp://elsewhere/1",
        "dbfs:/1",
        "simplecache::file:///etc",
    ],
)
def test_a_version_points_to_no_other_place(location: str) -> None:
    rules = AccessRules(
        mlflow_tracking_uri="http://mlflow:5000",
        file_roots=(Path("/models"),),
        storage_prefixes=("s3://models/public/",),
    )
    for allowed in ("mlflow-artifacts:/1", "/models/1", "s3://models/public/1"):
        check_location(allowed, rules, field="model.uri")
    with pytest.raises(UnsafeReference) as caught:
        check_location(location, rules, field="model.uri")
    assert caught.value.field == "model.uri"


@pytest.mark.parametrize("uri", ["models:/../1", "models:/a/b/1", "models:/./1", "runs:/x/1", "file:///etc/1"])
def test_no_name_of_a_model_is_a_path(store: Path, uri: str) -> None:
    with pytest.raises((ValidationError, InputError)):
        resolve_model(model(uri), access(store))
