"""Automatic intervals: what the first wave measures, and what all its shards together come to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import digits
import reference
from auditcore.checks.sweep import reduce_shared
from auditcore.contracts.augmentations import (
    Augmentation,
    Brightness,
    Composition,
    GaussianBlur,
    GaussianNoise,
    Gmic,
    JpegQuality,
    Rotate,
    Scale,
)
from auditcore.contracts.checks import SweepCheck
from auditcore.contracts.explainers import Gradient
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import ShardResult
from auditcore.costs.estimate import passes_of
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.engine.shared import reduce_shared as reduce_all
from auditcore.models.classifier import Classifier
from auditcore.report.intervals import calibrated_intervals

PLAN = AuditPlan(
    explainers=(Gradient(),),
    checks=(
        SweepCheck(augmentations=(Brightness(), Scale(), Rotate(interval=(-5, 5)))),
        SweepCheck(name="again", augmentations=(Brightness(),)),
    ),
)


def measure(classifier: Classifier, first: int, last: int, plan: AuditPlan = PLAN) -> ShardResult:
    return run_shard(
        ShardTask(plan=plan, wave="measure", images=digits.encoded(last)[first:]),
        Runtime(classifier, clock=lambda: 0.0),
    )


def test_both_ends_of_every_tenth_of_the_bound_are_measured(digit_classifier: Classifier) -> None:
    samples = {sample.key: sample.values for sample in measure(digit_classifier, 0, 2).shared}
    assert set(samples) == {"sweep.brightness.interval", "sweep.scale.interval", "again.brightness.interval"}
    augmentations: dict[str, Augmentation] = {"brightness": Brightness(), "scale": Scale()}
    images = np.round(digits.digit_pixels()[0][:2].double().numpy() * 255) / 255
    for kind, augmentation in augmentations.items():
        for image, row in zip(images, samples[f"sweep.{kind}.interval"], strict=True):
            changes = [
                augmentation.identity + sign * augmentation.bound * tenth / 10
                for tenth in range(1, 11)
                for sign in (-1, 1)
            ]
            copies = [image, *(getattr(reference, kind)(image, value) for value in changes)]
            logits = np.stack([reference_logits(digit_classifier, copy) for copy in copies])
            target = logits[0].argmax()
            shares = np.exp(logits - logits.max(axis=1, keepdims=True))
            assert row == pytest.approx((shares[:, target] / shares.sum(axis=1)).tolist(), rel=2e-3, abs=2e-4)


def reference_logits(classifier: Classifier, image: np.ndarray) -> np.ndarray:
    return classifier.logits(torch.from_numpy(image.astype(np.float32))[None])[0].double().numpy()


def row(original: float, *ends: tuple[float, float], rest: float = 1.0) -> list[float]:
    """Probability of the original, then of low and high end at each tenth of the bound."""
    return [original, *(value for end in (*ends, *[(rest, rest)] * (10 - len(ends))) for value in end)]


@pytest.mark.parametrize(
    ("rows", "tenths", "reached"),
    [
        # exactly 10 % is a drop of 10 %
        ([row(1.0, (1, 1), (1, 0.9))], 2, True),
        ([row(1.0, (1, 1), (0.9, 1))], 2, True),
        ([row(1.0, (1, 1), (0.901, 1), (0.5, 1))], 3, True),
        # relative to the original
        ([row(0.5, (0.5, 0.5), (0.44, 0.5), rest=0.5)], 2, True),
        ([row(0.5, (0.5, 0.46), (0.46, 0.5), rest=0.5)], 10, False),
        # the mean over images decides, not the median and not the mean of ends
        ([row(1.0, (1, 1), (1, 0.6)), row(1.0), row(1.0)], 2, True),
        ([row(1.0, (0.85, 1), (0.6, 1)), row(1.0, (1, 0.85), (0.6, 1)), row(1.0)], 2, True),
        # it may recover: the first drop counts
        ([row(1.0, (1, 0.5))], 1, True),
        ([row(1.0, *[(1.0, 1.0)] * 9, (1, 0.8))], 10, True),
        ([row(1.0)], 10, False),
    ],
)
def test_the_first_drop_of_the_mean_ends_the_interval(rows: list[list[float]], tenths: int, reached: bool) -> None:  # noqa: FBT001
    for augmentation, identity, bound in ((Brightness(), 0.0, 100 / 255), (Scale(), 1.0, 0.2)):
        check = SweepCheck(augmentations=(augmentation,))
        ((low, high, found),) = reduce_shared(check, {f"sweep.{augmentation.kind}.interval": rows}).values()
        assert (low, high) == pytest.approx((identity - bound * tenths / 10, identity + bound * tenths / 10))
        assert found == float(reached)


ONE_SIDED: list[Augmentation] = [
    GaussianNoise(),
    GaussianBlur(),
    JpegQuality(),
    Gmic(filter="sharpen", interval="auto"),
    Composition(first=GaussianNoise(), second=GaussianBlur(), interval="auto"),
]


@pytest.mark.parametrize("augmentation", ONE_SIDED, ids=lambda augmentation: augmentation.label)
def test_an_augmentation_with_one_side_is_measured_and_widened_only_on_that_side(
    digit_classifier: Classifier, augmentation: Augmentation
) -> None:
    check = SweepCheck(augmentations=(augmentation,))
    plan = AuditPlan(seed=7, explainers=(Gradient(),), checks=(check,))
    result = measure(digit_classifier, 0, 2, plan)
    (sample,) = result.shared
    assert result.cost.forward_images == 2 * passes_of(plan, wave="measure") == 2 * (1 + 10)
    side = 0 if isinstance(augmentation, JpegQuality) else 1
    for values in sample.values:
        assert all(values[1 + 2 * tenth + (1 - side)] == values[0] for tenth in range(10))
        assert len({values[1 + 2 * tenth + side] for tenth in range(10)}) > 5
    # a drop on the side that exists, and the whole bound without one
    drop = (0.5, 1.0) if side == 0 else (1.0, 0.5)
    for rows, tenths in (([row(1.0, (1, 1), (1, 1), drop)], 3), ([row(1.0)], 10)):
        ((low, high, _),) = reduce_shared(check, {f"sweep.{augmentation.label}.interval": rows}).values()
        width = augmentation.bound * tenths / 10
        assert (low, high) == pytest.approx((100 - width, 100) if side == 0 else (0, width))


def test_the_report_names_an_augmentation_by_its_label() -> None:
    augmentation = Gmic(filter="sharpen", interval="auto")
    plan = AuditPlan(explainers=(Gradient(),), checks=(SweepCheck(augmentations=(augmentation,)),))
    (told,) = calibrated_intervals(plan, {None: {"sweep.gmic_sharpen.interval": (0.0, 0.3, 1.0)}})
    assert (told.augmentation, told.interval, told.reached) == ("gmic_sharpen", (0, 0.3), True)


def test_explicit_intervals_are_not_reduced() -> None:
    check = SweepCheck(augmentations=(Rotate(interval=(-5, 5)),))
    assert reduce_shared(check, {"sweep.rotate.interval": [row(1.0)]}) == {}
    assert reduce_shared(SweepCheck(augmentations=(Rotate(),)), {}) == {}


def test_shards_and_checks_are_reduced_together(digit_classifier: Classifier) -> None:
    together = reduce_all(PLAN, [measure(digit_classifier, 0, 4)])
    assert set(together) == {"sweep.brightness.interval", "sweep.scale.interval", "again.brightness.interval"}
    # one bad shard must not be all that counts: its means differ
    shards = [measure(digit_classifier, 0, 3), measure(digit_classifier, 3, 4)]
    assert reduce_all(PLAN, shards) == together
    spoiled = shards[0].model_copy(
        update={"shared": tuple(s.model_copy(update={"values": tuple((1.0, *[0.0] * 20) for _ in range(3))})
                                for s in shards[0].shared)}
    )  # fmt: skip
    reached = reduce_all(PLAN, [spoiled, shards[1]])["sweep.brightness.interval"]
    assert reached == pytest.approx((-10 / 255, 10 / 255, 1.0))
