"""Is a map that says nothing called out, and does a verdict need knowledge?"""

from __future__ import annotations

from typing import Any

import pytest

import planted_audits
from auditcore.contracts.report import AuditReport

DELETION: dict[str, Any] = {"kind": "deletion", "grid": planted_audits.GRID}


def asked(explainer: str, at_least: float) -> AuditReport:
    """An audit of one uploaded map with a condition on deletion."""
    plan, maps = planted_audits.plan_of_uploaded("color", [explainer], [DELETION])
    condition = {"check": "deletion", "explainer": explainer, "metric": "inter_model_deletion", "at_least": at_least}
    return planted_audits.run("color", plan, maps=maps, policy=[condition])


@pytest.mark.parametrize(
    ("explainer", "at_least", "verdict"),
    [
        ("perfect", 0.0, "pass"),
        ("perfect", 0.2, "pass"),
        # near chance, on an unknown side
        ("wrong", 0.0, "inconclusive"),
        ("center", 0.0, "inconclusive"),
        ("wrong", 0.2, "fail"),
        ("center", 0.2, "fail"),
    ],
)
def test_a_verdict_needs_knowledge(explainer: str, at_least: float, verdict: str) -> None:
    assert asked(explainer, at_least).verdict == verdict


@pytest.mark.parametrize("world", ["color", "texture"])
def test_a_map_that_does_not_depend_on_the_image_gets_a_warning(world: str) -> None:
    found = planted_audits.report(world)
    called_out = {one.explainer for one in found.warnings if one.code == "image_independent"}
    assert called_out == {"center"}
    for name in planted_audits.EXPLAINERS:
        mean = planted_audits.result(found, "explainer", "image_dependence", name).mean
        assert mean is not None
        assert (mean > 0.9) == (name == "center"), name


def test_with_the_same_noise_smoothgrad_is_steadier_than_the_gradient() -> None:
    """Its own noise is no change of the image, so it must not count as one."""
    plan = {
        "seed": 3,
        "explainers": [{"kind": "gradient"}, {"kind": "smoothgrad", "samples": 50}],
        "checks": [
            {"kind": "sweep", "name": noise, "noise": noise, "levels": 11, "augmentations": [BRIGHTER]}
            for noise in ("common", "fresh")
        ],
    }
    found = planted_audits.run("texture", plan)
    score = {
        (check, explainer): planted_audits.result(found, check, "pearson_score", explainer, "brightness").mean or 0
        for check in ("common", "fresh")
        for explainer in ("gradient", "smoothgrad")
    }
    assert score["common", "smoothgrad"] > score["common", "gradient"]
    assert score["common", "smoothgrad"] > score["fresh", "smoothgrad"]
    repeatability = planted_audits.result(found, "explainer", "repeatability", "smoothgrad").mean
    assert repeatability is not None
    assert repeatability < 0.999


BRIGHTER: dict[str, Any] = {"kind": "brightness", "interval": [-0.1, 0.1]}


def test_an_explanation_of_an_untrained_model_is_another_one() -> None:
    """A map that stayed the same when the model forgot everything would explain the image, not the model."""
    plan = {
        "seed": 3,
        "explainers": [{"kind": kind} for kind in ("gradient", "integrated_gradients", "grad_cam")],
        "checks": [{"kind": "randomization", "stages": 2}],
    }
    found = planted_audits.run("color", plan)
    for one in found.results:
        if one.metric == "randomized_similarity":
            assert one.mean is not None
            assert one.mean < 0.6, one.explainer
