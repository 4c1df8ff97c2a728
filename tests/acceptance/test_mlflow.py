"""Models of a real MLflow server over HTTP, as its pytorch flavor logs them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import digits
import foreign_servers
import prediction_only
from auditcore.auditing import audit
from auditcore.contracts.access import AccessRules, Limits
from auditcore.contracts.packaged_models import MlflowModel
from auditcore.errors import InputError, InvalidRequest, LimitExceeded, ModelChanged, UnsafeReference
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore.sources.registries import mlflow_files
from auditcore.sources.resolving import resolve_model

pytestmark = [
    pytest.mark.long,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"),
]

EXPORTED, PICKLED, FRESH, ELSEWHERE = "1", "2", "3", "4"


@dataclass(frozen=True)
class Registry:
    url: str
    folder: Path
    client: Any

    @property
    def access(self) -> AccessRules:
        return AccessRules(factories=("digits:build",), mlflow_tracking_uri=self.url)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """`digits`: exported (1), pickled (2, `champion`), with other weights (3), and pointing elsewhere (4)."""
    folder = tmp_path_factory.mktemp("mlflow")
    with foreign_servers.mlflow(folder) as url, warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow.pytorch  # noqa: PLC0415 - 3 s of imports

        mlflow.set_tracking_uri(url)
        mlflow.set_registry_uri(url)
        example = np.zeros((2, 3, digits.SIDE, digits.SIDE), dtype=np.float32)
        logged = [
            {"pytorch_model": digits.trained(), "input_example": example},
            {"pytorch_model": digits.trained(), "serialization_format": "pickle"},
            {"pytorch_model": digits.DigitNet().eval(), "serialization_format": "pickle"},
        ]
        for options in logged:
            with mlflow.start_run():
                mlflow.pytorch.log_model(
                    name="model", registered_model_name="digits", pip_requirements=["torch"], **options
                )
        client = mlflow.MlflowClient()
        client.create_model_version("digits", "s3://elsewhere/model")
        client.set_registered_model_alias("digits", "champion", PICKLED)
        yield Registry(url, folder, client)


def model(uri: str, **changes: Any) -> MlflowModel:
    architecture = {"kind": "factory", "target": "digits:build"}
    return MlflowModel.model_validate(
        {"uri": uri, "architecture": architecture, "preprocessing": digits.PREPROCESSING, **changes}
    )


def resolved(uri: str, access: AccessRules) -> MlflowModel:
    found = resolve_model(model(uri), access).reference
    assert isinstance(found, MlflowModel)
    return found


@pytest.mark.parametrize("version", [EXPORTED, PICKLED])
def test_what_the_pytorch_flavor_logs_is_loaded(registry: Registry, digit_classifier: Classifier, version: str) -> None:
    pinned = resolved(f"models:/digits/{version}", registry.access)
    assert pinned.version == version
    assert load_classifier(pinned, access=registry.access).digest == digit_classifier.digest


def test_an_alias_that_moves_on_takes_no_audit_along(registry: Registry, digit_classifier: Classifier) -> None:
    pinned = resolved("models:/digits@champion", registry.access)
    assert pinned.version == PICKLED
    registry.client.set_registered_model_alias("digits", "champion", FRESH)
    try:
        report = audit(prediction_only.request(pinned), images=digits.encoded(2), access=registry.access)
    finally:
        registry.client.set_registered_model_alias("digits", "champion", PICKLED)
    assert isinstance(report.model.reference, MlflowModel)
    assert report.model.reference.version == PICKLED
    assert report.model.reference.sha256 == pinned.sha256
    assert report.model.digest == digit_classifier.digest


def test_files_that_changed_on_the_server_fail_the_audit(registry: Registry) -> None:
    pinned = resolved(f"models:/digits/{FRESH}", registry.access)
    location = registry.client.get_model_version_download_uri("digits", FRESH)
    file = registry.folder / "artifacts" / location.removeprefix("mlflow-artifacts:/") / "MLmodel"
    whole = file.read_bytes()
    file.write_bytes(whole + b"\n# other\n")
    try:
        with pytest.raises(ModelChanged, match="other files") as caught:
            load_classifier(pinned, access=registry.access)
    finally:
        file.write_bytes(whole)
    assert caught.value.field == "model.version"


@pytest.mark.parametrize("uri", ["models:/digitz/1", "models:/digits/77", "models:/digits@nobody"])
def test_a_missing_entry_of_the_registry_is_reported(registry: Registry, uri: str) -> None:
    with pytest.raises(InvalidRequest, match="the registry has no") as caught:
        resolved(uri, registry.access)
    assert caught.value.field == "model.uri"


def test_a_version_that_points_elsewhere_is_the_operators_choice(registry: Registry) -> None:
    with pytest.raises(UnsafeReference, match="AUDIT_STORAGE_PREFIXES") as caught:
        resolved(f"models:/digits/{ELSEWHERE}", registry.access)
    assert caught.value.field == "model.uri"


def test_a_model_that_is_too_large_is_not_downloaded(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow.artifacts  # noqa: PLC0415 - as above

    def never(**_: object) -> str:
        pytest.fail("it was downloaded")

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", never)
    small = registry.access.model_copy(update={"limits": Limits(weights_bytes=10_000)})
    with pytest.raises(LimitExceeded, match="bytes"):
        resolved(f"models:/digits/{EXPORTED}", small)
    monkeypatch.setattr(mlflow_files, "MOST_FILES", 3)
    with pytest.raises(LimitExceeded, match="files"):
        resolved(f"models:/digits/{EXPORTED}", registry.access)


@pytest.mark.parametrize(
    ("location", "allowed"),
    [
        ("mlflow-artifacts:/0/model", True),
        ("mlflow-artifacts://127.0.0.1:5000/0/model", True),
        ("mlflow-artifacts://other.example/0/model", False),
        ("http://other.example/model", False),
        ("dbfs:/model", False),
        ("file:///etc", False),
        ("/etc", False),
        ("file:///srv/models/one", True),
        ("file:///srv/models/../secret", False),
        ("s3://models/public/one", True),
        ("s3://models/publicity", False),
    ],
)
def test_files_are_read_where_the_registry_or_the_operator_keeps_them(location: str, *, allowed: bool) -> None:
    access = AccessRules(
        mlflow_tracking_uri="http://127.0.0.1:5000",
        file_roots=(Path("/srv/models"),),
        storage_prefixes=("s3://models/public/",),
    )
    if allowed:
        mlflow_files.check_location(location, access, field="model.uri")
    else:
        with pytest.raises(InputError) as caught:
            mlflow_files.check_location(location, access, field="model.uri")
        assert caught.value.field == "model.uri"
