"""Every way in which MLflow names a model is read, or answered with what to write instead."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

import digits
from auditcore.contracts.mlflow_names import MlflowName, parse_mlflow_uri
from auditcore.contracts.packaged_models import MlflowModel

RUN = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("models:/scans/7", MlflowName("version", "scans", "7")),
        ("models:/scans@champion", MlflowName("alias", "scans", "champion")),
        ("models:/main.vision.scans/7", MlflowName("version", "main.vision.scans", "7")),
        ("models:/scans/latest", MlflowName("latest", "scans")),
        ("models:/scans/Production", MlflowName("stage", "scans", "Production")),
        ("models:/scans/staging", MlflowName("stage", "scans", "Staging")),
        ("models:/m-5f0c7b0f", MlflowName("logged", "m-5f0c7b0f")),
        ("models:/m-5/7", MlflowName("version", "m-5", "7")),
        (f"runs:/{RUN}/model", MlflowName("run", RUN, "model")),
        (f"runs:/{RUN}/checkpoints/best model/", MlflowName("run", RUN, "checkpoints/best model")),
    ],
)
def test_names_of_mlflow(uri: str, expected: MlflowName) -> None:
    assert parse_mlflow_uri(uri) == expected


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("models:/scans/prod", "models:/scans@prod"),
        ("models:/scans", "models:/NAME/VERSION"),
        ("scans/7", "models:/NAME/VERSION"),
        ("mlflow-artifacts:/1", "runs:/RUN_ID/PATH"),
        ("models:/a/b/1", "models:/NAME@ALIAS"),
        ("models:/../1", "is not the name of a model"),
        ("models://profile@databricks/scans/1", "models:/NAME/VERSION"),
        (f"runs:/{RUN}", "with the id of the run and the path"),
        (f"runs:/{RUN}/../other", "with the id of the run and the path"),
        (f"runs:/{RUN}//model", "with the id of the run and the path"),
        (f"runs:/{RUN}/a\\b", "with the id of the run and the path"),
        ("runs:/../x", "with the id of the run and the path"),
        ("", "models:/NAME/VERSION"),
    ],
)
def test_other_names_are_answered_with_what_to_write(uri: str, told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        MlflowModel.model_validate(
            {
                "uri": uri,
                "architecture": {"kind": "torchvision", "name": "resnet18"},
                "preprocessing": digits.PREPROCESSING,
            }
        )
    (error,) = caught.value.errors()
    assert told in error["msg"]
    assert "pattern" not in error["msg"]


@pytest.mark.parametrize("uri", ["models:/m-5f0c7b0f", f"runs:/{RUN}/model", "models:/scans/1"])
def test_what_has_another_version_or_none_takes_no_version(uri: str) -> None:
    fields = {"architecture": {"kind": "torchvision", "name": "resnet18"}, "preprocessing": digits.PREPROCESSING}
    MlflowModel.model_validate({"uri": uri, **fields})
    with pytest.raises(ValidationError, match="leave version out"):
        MlflowModel.model_validate({"uri": uri, "version": "2", **fields})
    MlflowModel.model_validate({"uri": "models:/scans/latest", "version": "2", **fields})
