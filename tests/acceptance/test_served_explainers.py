"""Explainers behind real servers: the same scores as the same explainer in the worker.

TorchServe's own image_classifier explains with captum, KServe by `:explain`, MLServer by a tensor of maps.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import digits
import foreign_servers
import prediction_only
from auditcore.auditing import audit
from auditcore.contracts.access import AccessRules
from auditcore.contracts.report import AuditReport
from torchserve_server import RunningTorchServe, torchserve

pytestmark = [pytest.mark.slow, pytest.mark.long]

CHECKS: list[dict[str, Any]] = [
    {"kind": "sweep", "augmentations": [{"kind": "brightness", "interval": [-0.2, 0.2]}], "levels": 3},
    {"kind": "deletion", "grid": 4, "repeats": 2},
    {"kind": "sensitivity", "draws": 2},
]
STEPS = 15
"""Of captum's IntegratedGradients in TorchServe's handlers of images."""


def network_in_torchserve(store: Path) -> Path:
    """The digits network behind TorchServe's own image_classifier, as torch-model-archiver packs it."""
    script = store / "digits.pt"
    with warnings.catch_warnings():
        # TorchScript is deprecated, and what TorchServe takes
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(digits.trained(), torch.zeros(1, 3, digits.SIDE, digits.SIDE)), script)
    command = [
        str(Path(sys.executable).with_name("torch-model-archiver")),
        *("--model-name", "digits", "--version", "1.0", "--serialized-file", str(script)),
        *("--handler", "image_classifier", "--export-path", str(store), "--force"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return store / "digits.mar"


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTorchServe]:
    folder = tmp_path_factory.mktemp("torchserve")
    (folder / "store").mkdir()
    with torchserve(folder, [network_in_torchserve(folder / "store")], tokens=True) as running:
        yield running


def report(folder: Path, entry: dict[str, Any], **rules: Any) -> AuditReport:
    """An audit of the digits network with one explainer, called `maps`."""
    model = digits.reference(digits.write_weights(folder))
    request = prediction_only.request(model, explainers=[entry | {"name": "maps"}], checks=CHECKS, seed=2)
    access = AccessRules(factories=("digits:build",), file_roots=(folder,), **rules)
    return audit(request, images=prediction_only.images(2), access=access, micro_batch=8)


def compare(served: AuditReport, local: AuditReport, *, least: int) -> None:
    compared, worst = prediction_only.differences(
        served.model_copy(update={"controls": tuple(one for one in served.controls if one.metric != "cosine_to_own")}),
        local,
    )
    assert not worst
    assert compared > least


def test_torchserves_own_explanations_are_those_of_captum(serving: RunningTorchServe, tmp_path: Path) -> None:
    entry = {
        "kind": "served_explainer",
        "protocol": "torchserve",
        "url": serving.inference,
        "model": "digits",
        "token_file": str(serving.keys),
        "map_kind": "attribution",
    }
    rules = {"server_prefixes": (f"{serving.inference}/",), "token_roots": (serving.folder,)}
    served = report(tmp_path, entry, **rules)
    local = report(tmp_path, {"kind": "captum", "method": "IntegratedGradients", "arguments": {"n_steps": STEPS}})
    compare(served, local, least=30)
    versioned = report(tmp_path, entry | {"version": "1.0"}, **rules)
    compare(versioned, local, least=30)


def test_torchserve_says_which_model_it_does_not_have(serving: RunningTorchServe, tmp_path: Path) -> None:
    entry = {"kind": "served_explainer", "protocol": "torchserve", "url": serving.inference, "model": "other"}
    rules = {"server_prefixes": (f"{serving.inference}/",), "token_roots": (serving.folder,)}
    found = report(tmp_path, entry | {"token_file": str(serving.keys)}, **rules)
    reasons = {reason for one in found.results if one.explainer == "maps" for reason in one.reasons.values()}
    assert any("404" in reason and "check `protocol`, `model`" in reason for reason in reasons)
    found = report(tmp_path, entry, **rules)
    reasons = {reason for one in found.results if one.explainer == "maps" for reason in one.reasons.values()}
    assert any("give a valid token_file" in reason for reason in reasons)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return foreign_servers.write_onnx(tmp_path_factory.mktemp("graphs") / "digits.onnx")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> AuditReport:
    target = "team_explainers:predictions_only"
    entry = {"kind": "callable", "target": target, "model_access": "predictions"}
    return report(tmp_path_factory.mktemp("local"), entry, explainers=(target,))


def test_a_kserve_explainer_by_explain(
    graph: Path, local: AuditReport, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with foreign_servers.kserve(tmp_path_factory.mktemp("kserve"), graph) as url:
        entry = {"kind": "served_explainer", "protocol": "kserve_v1", "url": url, "model": "digits"}
        compare(report(tmp_path, entry, server_prefixes=(f"{url}/",)), local, least=30)


def test_maps_as_a_tensor_of_open_inference(
    graph: Path, local: AuditReport, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    models = {"digits": {"uri": graph, "version": "1"}}
    with foreign_servers.mlserver(tmp_path_factory.mktemp("mlserver"), models) as url:
        entry = {
            "kind": "served_explainer",
            "protocol": "open_inference",
            "url": url,
            "model": "digits",
            "version": "1",
            "maps": "maps",
        }
        compare(report(tmp_path, entry, server_prefixes=(f"{url}/",)), local, least=30)
        wrong = report(tmp_path, entry | {"maps": "scores"}, server_prefixes=(f"{url}/",))
    reasons = {reason for one in wrong.results if one.explainer == "maps" for reason in one.reasons.values()}
    assert any("answers no maps" in reason and "check `maps`" in reason for reason in reasons)
