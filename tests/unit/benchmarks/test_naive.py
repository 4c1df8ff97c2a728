"""The papers' way must be right, or its time means nothing: it agrees with the engine where both compute the same."""

import numpy as np
import pytest
import torch

import digits
from auditcore.contracts.augmentations import Brightness, Rotate
from auditcore.contracts.checks import (
    DeletionCheck,
    EddaCheck,
    InsertionDeletionCheck,
    PixelFlippingCheck,
    SensitivityCheck,
    SweepCheck,
)
from auditcore.contracts.explainers import GradCam, Gradient, InputXGradient, LrpEpsilonPlusFlat
from auditcore.contracts.plan import AuditPlan
from auditcore.explainers.registry import explain
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams
from benchmarks.naive import Paper, scores_of
from naive_removal import raw


@pytest.fixture(scope="module")
def paper() -> Paper:
    classifier = Classifier(digits.trained(), preprocessing=raw(32))
    module = Classifier(digits.trained(), preprocessing=raw(32)).module
    return Paper(classifier, module, torch.contiguous_format, digits.digit_pixels()[0][0])


@pytest.mark.parametrize("explainer", [Gradient(), InputXGradient(), GradCam(), LrpEpsilonPlusFlat()])
def test_maps_agree_with_the_engine(
    paper: Paper, explainer: Gradient | InputXGradient | GradCam | LrpEpsilonPlusFlat
) -> None:
    pixels = torch.from_numpy(paper.image)[None]
    streams = Streams(0, ("0" * 64,)).viewing(["original"])
    theirs = explain(paper.classifier, explainer, pixels, torch.tensor([paper.target]), streams)
    expected = theirs.maps.sum(1)[0].numpy()
    found = paper.attribution(explainer, paper.tensor(paper.image))
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4 * float(np.abs(expected).max()))


def test_every_score_makes_as_many_steps_as_it_announces(paper: Paper) -> None:
    checks = (
        SweepCheck(augmentations=(Brightness(interval=(-0.3, 0.3)), Rotate(interval=(-20, 20))), levels=3),
        DeletionCheck(grid=4, repeats=1),
        EddaCheck(),
        PixelFlippingCheck(pixels_per_step=50),
        InsertionDeletionCheck(pixels_per_step=100),
        SensitivityCheck(draws=2),
    )
    plan = AuditPlan(explainers=(Gradient(),), checks=checks)
    scores = scores_of(plan, paper)
    # every check but deletion runs the random control too
    assert len(scores) == 2 * len(checks) - 1
    for score in scores:
        assert len([step() for step in score.make()]) == score.count
        score.advance(limit_s=60)
        assert score.done == score.count
        assert score.seconds == pytest.approx(score.once_s + score.steps_s)


def test_a_score_that_is_cut_short_goes_on_where_it_stopped(paper: Paper) -> None:
    (score, _) = scores_of(AuditPlan(explainers=(Gradient(),), checks=(EddaCheck(),)), paper)
    score.advance(limit_s=0)
    assert score.done == 1
    score.advance(limit_s=60)
    assert score.done == score.count
