"""Explainers of other libraries, of the team and behind a server, through every check of an audit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import digits
import prediction_only
import team_explainers
from auditcore.auditing import audit
from auditcore.contracts.access import AccessRules
from auditcore.contracts.capabilities import OTHER_WEIGHTS
from auditcore.contracts.explainers import CallableExplainer, Captum, Explainer, Zennit
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import AuditReport
from auditcore.contracts.shards import ShardResult
from auditcore.costs.passes import ModelFacts, passes_needed
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.engine.shared import reduce_shared
from auditcore.errors import UnsafeReference
from auditcore.models.classifier import Classifier
from auditcore.models.randomization import parameter_layers
from scripted_server import Asked, Reply, Scripted, scripted

ENTRIES: list[dict[str, Any]] = [
    {"kind": "captum", "method": "InputXGradient"},
    {"kind": "captum", "name": "cam", "method": "LayerGradCam", "arguments": {"relu_attributions": True}},
    {"kind": "captum", "name": "shap", "method": "GradientShap", "arguments": {"baselines": [0, 1], "n_samples": 2}},
    {
        "kind": "captum",
        "name": "windows",
        "method": "Occlusion",
        "arguments": {"sliding_window_shapes": [3, 16, 16], "strides": [3, 16, 16]},
    },
    {"kind": "captum", "name": "failing", "method": "DeepLift"},
    {"kind": "zennit", "composite": "EpsilonPlusFlat", "canonizer": "SequentialMergeBatchNorm"},
    {"kind": "callable", "target": "team_explainers:gradient"},
    {"kind": "callable", "name": "smooth", "target": "team_explainers:smooth", "draws": True},
]
CHECKS = [*prediction_only.CHECKS, {"kind": "randomization", "stages": 2}]
RANDOM = {"shap", "smooth"}


def answer(asked: Asked) -> Reply:
    """Maps that are the absolute input times the class."""
    instances = json.loads(asked.body)["instances"]
    maps = [(torch.tensor(one["data"]).abs().sum(0) * (1 + one["target"])).tolist() for one in instances]
    return Reply(content=json.dumps({"explanations": maps}).encode())


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    with scripted(answer) as running:
        yield running


@pytest.fixture(scope="module")
def report(server: Scripted, tmp_path_factory: pytest.TempPathFactory) -> AuditReport:
    folder = tmp_path_factory.mktemp("weights")
    served = {"kind": "served_explainer", "protocol": "kserve_v1", "url": server.url, "model": "maps"}
    request = prediction_only.request(
        digits.reference(digits.write_weights(folder)), explainers=[*ENTRIES, served], checks=CHECKS, seed=3
    )
    access = AccessRules(
        factories=("digits:build",),
        file_roots=(folder,),
        explainers=("team_explainers:gradient", "team_explainers:smooth"),
        server_prefixes=(f"{server.url}/",),
    )
    return audit(request, images=prediction_only.images(2), access=access, micro_batch=8)


def test_every_check_judges_every_explainer(report: AuditReport) -> None:
    labels = {entry.get("name", entry["kind"]) for entry in ENTRIES} | {"served_explainer"}
    for check in CHECKS:
        rows = [one for one in report.results if one.check == check["kind"] and one.explainer is not None]
        assert labels <= {one.explainer for one in rows}, check["kind"]
        valued = {one.explainer for one in rows if one.mean is not None}
        without = {"failing"} | ({"served_explainer"} if check["kind"] == "randomization" else set())
        assert labels - without <= valued, check["kind"]
        reasons = {reason for one in rows if one.explainer == "failing" for reason in one.reasons.values()}
        assert all("captum's DeepLift failed" in reason for reason in reasons)
        assert reasons


def test_altered_weights_do_not_reach_a_server(report: AuditReport) -> None:
    rows = [one for one in report.results if (one.check, one.explainer) == ("randomization", "served_explainer")]
    assert rows
    assert {reason for one in rows for reason in one.reasons.values()} == {OTHER_WEIGHTS}


def test_the_report_states_the_deviation_and_what_is_random(report: AuditReport) -> None:
    cosines = {one.explainer: one for one in report.controls if one.metric == "cosine_to_own"}
    assert set(cosines) == {"captum", "cam", "windows", "zennit"}
    assert cosines["captum"].mean == pytest.approx(1, abs=1e-4)
    assert cosines["windows"].mean == pytest.approx(1, abs=1e-4)
    assert {one.explainer for one in report.controls if one.metric == "repeatability"} == RANDOM


def test_the_same_request_gives_the_same_numbers(server: Scripted, tmp_path: Path, report: AuditReport) -> None:
    access = AccessRules(
        factories=("digits:build",),
        file_roots=(tmp_path,),
        explainers=("team_explainers:smooth",),
    )
    chosen = [entry for entry in ENTRIES if entry.get("name") in {"smooth", "shap"}]
    request = prediction_only.request(
        digits.reference(digits.write_weights(tmp_path)), explainers=chosen, checks=CHECKS[:1], seed=3
    )
    # in micro-batches of another size, and without the other explainers
    again = audit(request, images=prediction_only.images(2), access=access, micro_batch=3)
    before = {(one.explainer, one.metric, one.variant): one for one in report.results if one.check == "sweep"}
    compared = 0
    for one in again.results:
        if one.explainer in RANDOM:
            assert one.per_image == pytest.approx(
                before[one.explainer, one.metric, one.variant].per_image, rel=1e-3, abs=2 * prediction_only.ONE_POSITION
            )
            compared += 1
    assert compared > 10
    assert server.asked


def test_a_function_that_fails_on_altered_weights_is_a_reason_and_tried_once(digit_classifier: Classifier) -> None:
    plan = AuditPlan.model_validate(
        {
            "explainers": [CallableExplainer(target="team_explainers:particular"), {"kind": "gradient"}],
            "checks": [{"kind": "randomization", "stages": 2}],
        }
    )
    team_explainers.CALLS.clear()
    task = ShardTask(plan=plan, wave="compute", images=digits.encoded(3))
    result = run_shard(task, Runtime(digit_classifier, micro_batch=5))
    failed = [one for one in result.measurements if one.explainer == "callable" and one.check == "randomization"]
    reasons = {reason for one in failed for reason in one.reasons.values()}
    assert any("these are not the weights of the product" in reason for reason in reasons)
    gradients = [one for one in result.measurements if one.explainer == "gradient"]
    assert any(value is not None for one in gradients for value in one.values)
    # the trial: two images twice and one by one; then the originals, and one try for each stage and who failed in it
    assert team_explainers.CALLS[:5] == [2, 2, 1, 1, 3]
    assert set(team_explainers.CALLS[5:]) == {3}


def test_the_ledger_agrees_with_the_price(digit_classifier: Classifier) -> None:
    explainers: tuple[Explainer, ...] = (
        Captum(method="InputXGradient"),
        Captum(name="cam", method="LayerGradCam"),
        Captum(name="path", method="IntegratedGradients", arguments={"n_steps": 3}),
        Captum(name="kernel", method="KernelShap", arguments={"n_samples": 5, "feature_mask": [[0, 1], [2, 3]]}),
        Zennit(composite="EpsilonPlusFlat"),
        CallableExplainer(target="team_explainers:gradient"),
        CallableExplainer(
            name="predictions",
            target="team_explainers:predictions_only",
            model_access="predictions",
            forward_passes=2,
            backward_passes=0,
        ),
    )
    plan = AuditPlan.model_validate(
        {
            "explainers": explainers,
            "checks": [
                {"kind": "sweep", "augmentations": [{"kind": "brightness", "interval": [-0.3, 0.3]}], "levels": 3},
                {"kind": "sensitivity", "draws": 2},
                {"kind": "randomization", "stages": 2},
                {"kind": "edda", "keep": [0.3]},
            ],
        }
    )
    results: list[ShardResult] = []
    for wave in ("measure", "compute"):
        task = ShardTask(plan=plan, wave=wave, images=digits.encoded(3), shared=reduce_shared(plan, results))
        results.append(run_shard(task, Runtime(digit_classifier, micro_batch=5)))
    facts = ModelFacts(shape=digits.PREPROCESSING.shape, layers=len(parameter_layers(digit_classifier)))
    needed = passes_needed(plan, wave="compute", images=3, facts=facts)
    made = {name: (cost.forward_images, cost.backward_images) for name, cost in results[-1].cost.checks.items()}
    assert made == {name: (passes.forward, passes.backward) for name, passes in needed.items()}


@pytest.mark.parametrize("entry", [ENTRIES[6], {"kind": "served_explainer", "protocol": "torchserve", "model": "m"}])
def test_nothing_is_called_that_the_operator_has_not_allowed(
    entry: dict[str, Any], server: Scripted, tmp_path: Path
) -> None:
    named = entry | ({} if entry["kind"] == "callable" else {"url": server.url})
    before = len(server.asked)
    request = prediction_only.request(
        digits.reference(digits.write_weights(tmp_path)), explainers=[named], checks=CHECKS[-2:-1]
    )
    with pytest.raises(UnsafeReference, match="the operator can add"):
        audit(request, images=prediction_only.images(1), access=digits.access(tmp_path))
    assert len(server.asked) == before
