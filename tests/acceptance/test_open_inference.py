"""Models behind real servers of the Open Inference Protocol v2: MLServer (JSON), KServe (JSON and binary tensors)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import digits
import foreign_servers
import prediction_only
from auditcore.auditing import inspect_model
from auditcore.contracts.access import AccessRules
from auditcore.contracts.inspection import InspectionRequest
from auditcore.contracts.server_models import OpenInferenceModel
from auditcore.errors import InputError, InvalidRequest, ModelChanged, ModelOutputInvalid, UnreachableResource
from auditcore.models.loading import load_classifier
from auditcore.sources.resolving import resolve_model
from auditcore.sources.servers.open_inference.client import OpenInferenceClient

pytestmark = [pytest.mark.slow, pytest.mark.long]


@dataclass(frozen=True)
class Servers:
    mlserver: str
    kserve: str


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("graphs")
    graph = foreign_servers.write_onnx(folder / "digits.onnx")
    other = foreign_servers.write_onnx(folder / "other.onnx", digits.DigitNet().eval())
    models: dict[str, dict[str, Any]] = {
        "digits": {"uri": graph, "version": "1"},
        "probable": {"uri": graph, "outputs": "probabilities"},
        "noisy": {"uri": graph, "noise": 2e-3},
        "dice": {"uri": graph, "noise": 3.0},
        "double": {"uri": graph, "datatype": "FP64"},
        "whole": {"uri": graph, "datatype": "INT64"},
        "moving-1": {"name": "moving", "uri": graph, "version": "1"},
        "moving-2": {"name": "moving", "uri": other, "version": "2"},
    }
    with (
        foreign_servers.mlserver(tmp_path_factory.mktemp("mlserver"), models) as mlserver,
        foreign_servers.kserve(tmp_path_factory.mktemp("kserve"), graph) as kserve,
    ):
        yield Servers(mlserver, kserve)


def served(url: str, name: str = "digits", **changes: Any) -> OpenInferenceModel:
    fields: dict[str, Any] = {
        "url": url,
        "name": name,
        "outputs": "logits",
        "preprocessing": digits.PREPROCESSING,
        "limits": {"attempts": 2},
        **changes,
    }
    return OpenInferenceModel.model_validate(fields)


def allowed(servers: Servers) -> AccessRules:
    return AccessRules(server_prefixes=(f"{servers.mlserver}/", f"{servers.kserve}/", "http://127.0.0.1:9/"))


@pytest.mark.parametrize(("where", "tensors"), [("mlserver", "auto"), ("kserve", "binary"), ("kserve", "json")])
def test_prediction_only_checks_give_the_scores_of_the_model_itself(
    servers: Servers, tmp_path: Path, where: str, tensors: str
) -> None:
    plan = {} if where == "mlserver" else {"checks": prediction_only.CHECKS[2:5]}
    itself = prediction_only.white_box(tmp_path, **plan)
    behind = prediction_only.audited(
        served(getattr(servers, where), tensors=tensors, limits={"images_per_request": 32}), allowed(servers), **plan
    )
    compared, worst = prediction_only.differences(behind, itself)
    assert not worst
    assert compared > 100
    assert behind.model is not None
    spoken = "json" if tensors == "auto" else tensors
    client = OpenInferenceClient(served(getattr(servers, where), tensors=tensors))
    assert client.describe().said["tensors"] == spoken


def test_probabilities_give_the_scores_of_the_model_itself_where_probabilities_are_read(
    servers: Servers, tmp_path: Path
) -> None:
    plan: dict[str, Any] = {
        "explainers": [{"kind": "rise", "masks": 20, "cells": 4}],
        "checks": prediction_only.CHECKS[2:4],
    }
    itself = prediction_only.white_box(tmp_path, **plan)
    behind = prediction_only.audited(
        served(servers.mlserver, "probable", outputs="probabilities"), allowed(servers), **plan
    )
    compared, worst = prediction_only.differences(behind, itself)
    assert not worst
    assert compared > 40


def test_what_runs_and_what_is_audited_is_known_in_advance(servers: Servers) -> None:
    found = inspect_model(InspectionRequest(model=served(servers.mlserver)), access=allowed(servers))
    assert found.model.version == "1"  # type: ignore[union-attr]
    assert found.model.sha256 is not None  # type: ignore[union-attr]
    assert str(found.facts["server"]).startswith("mlserver")
    assert found.facts["classes"] == 10
    assert {one.name for one in found.explainers if one.runs} == {
        "occlusion",
        "ablation",
        "rise",
        "kernel_shap",
        "random",
    }
    # KServe's Python server knows no versions
    other = resolve_model(served(servers.kserve), allowed(servers)).reference
    assert other.version is None  # type: ignore[union-attr]


def test_doubles_are_read_as_well(servers: Servers) -> None:
    classifier = load_classifier(served(servers.mlserver, "double"), access=allowed(servers))
    assert classifier.classes == 10


@pytest.mark.parametrize(
    ("where", "changes", "kind", "field", "match"),
    [
        ("mlserver", {"name": "digitz"}, InvalidRequest, "model.name", "has no model 'digitz'"),
        ("kserve", {"name": "digitz"}, InvalidRequest, "model.name", "has no model 'digitz'"),
        ("mlserver", {"version": "7"}, InvalidRequest, "model.version", "in version '7'"),
        ("mlserver", {"url": "http://127.0.0.1:9"}, UnreachableResource, "model.url", "cannot be reached"),
        ("mlserver", {"name": "whole"}, ModelOutputInvalid, "model.output", "is of type INT64"),
        ("mlserver", {"input": "pixels"}, InvalidRequest, "model.input", "has no input 'pixels'; it has 'images'"),
        ("mlserver", {"output": "logits"}, InvalidRequest, "model.output", "it has 'scores'"),
        ("mlserver", {"layout": "NHWC"}, InvalidRequest, "model.preprocessing.crop", "check `layout`"),
        ("mlserver", {"classes": 11}, ModelOutputInvalid, "model.classes", "10 classes, not 11"),
        ("mlserver", {"outputs": "probabilities"}, ModelOutputInvalid, "model.outputs", "declared as probabilities"),
        ("mlserver", {"name": "probable"}, ModelOutputInvalid, "model.outputs", "declared as logits"),
        ("mlserver", {"name": "dice"}, ModelOutputInvalid, "model", "answers to the same image differ"),
        ("mlserver", {"sha256": "sha256:" + "e" * 64}, ModelChanged, "model.sha256", "a different model"),
    ],
)
def test_a_reference_that_does_not_fit_says_where(
    servers: Servers, where: str, changes: dict[str, Any], kind: type[InputError], field: str, match: str
) -> None:
    with pytest.raises(kind, match=match) as caught:
        load_classifier(served(**{"url": getattr(servers, where), **changes}), access=allowed(servers))
    assert caught.value.field == field


def test_small_differences_between_answers_become_a_note(servers: Servers) -> None:
    report = prediction_only.audited(
        served(servers.mlserver, "noisy"),
        allowed(servers),
        explainers=[{"kind": "ablation", "grid": 2}],
        checks=[{"kind": "edda", "keep": [0.3]}],
    )
    assert any("differ slightly" in note for note in report.notes)


def test_an_answer_of_another_version_than_the_pinned_one_fails_the_audit(servers: Servers) -> None:
    # a server that lists both lets a reference without version be answered by either
    first = load_classifier(served(servers.mlserver, "moving", version="1"), access=allowed(servers))
    second = load_classifier(served(servers.mlserver, "moving", version="2"), access=allowed(servers))
    assert first.digest != second.digest
    source = first.source
    assert source is not None
    source.begin(10)
    source._client._model = source._client._model.model_copy(update={"version": "2"})  # type: ignore[attr-defined]
    with pytest.raises(ModelChanged):
        source.end()
