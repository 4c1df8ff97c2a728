"""A shard that ends early, goes on elsewhere, or leaves images out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

import digits
from auditcore.contracts.augmentations import Brightness
from auditcore.contracts.checks import (
    Check,
    DeletionCheck,
    EddaCheck,
    InfidelityCheck,
    InsertionDeletionCheck,
    LocalizationCheck,
    PixelFlippingCheck,
    RandomizationCheck,
    RoadCheck,
    SensitivityCheck,
    SsimSweepCheck,
    SweepCheck,
)
from auditcore.contracts.explainers import Gradient, SmoothGrad
from auditcore.contracts.images import Box
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import EndOfProcess, ShardResult, Wave
from auditcore.engine import shard
from auditcore.engine.groups import join_measurements, join_samples, shortened_group
from auditcore.engine.map_sketches import join_sketches
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.engine.shared import reduce_shared
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from every_check import and_every_other_check

CHECKS: tuple[Check, ...] = and_every_other_check(
    (
        SweepCheck(augmentations=(Brightness(),), levels=3),
        DeletionCheck(grid=2, repeats=2),
        EddaCheck(keep=(0.3,)),
        PixelFlippingCheck(pixels_per_step=200),
        InsertionDeletionCheck(pixels_per_step=500),
        RoadCheck(shares=(0.5,)),
        SensitivityCheck(draws=2),
        InfidelityCheck(draws=2),
        RandomizationCheck(stages=2),
        LocalizationCheck(),
    ),
    without=(SsimSweepCheck,),
)
PLAN = AuditPlan(seed=5, explainers=(Gradient(), SmoothGrad(samples=2)), checks=CHECKS)


@pytest.fixture(autouse=True)
def _groups_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GROUP_IMAGES", "LARGE_GROUP_IMAGES"):
        monkeypatch.setattr(f"auditcore.engine.groups.{name}", 2)


def images_of(count: int) -> list[EncodedImage]:
    return [replace(image, boxes=(Box(x0=2, y0=2, x1=6, y1=6),)) for image in digits.encoded(count)]


def run(
    classifier: Classifier,
    images: Sequence[EncodedImage],
    wave: Wave = "compute",
    said: Sequence[bool] = (),
    *,
    measured: Sequence[ShardResult] = (),
    left_out: Mapping[int, EndOfProcess] | None = None,
    plan: AuditPlan = PLAN,
) -> ShardResult:
    told = iter(said)
    return run_shard(
        ShardTask(
            plan=plan,
            wave=wave,
            images=images,
            shared=reduce_shared(plan, measured),
            audit_images=5,
            left_out=left_out or {},
        ),
        Runtime(classifier, micro_batch=2, enough=lambda: next(told, False)),
    )


def test_a_shard_in_two_parts_has_the_bytes_of_a_shard_at_once(digit_classifier: Classifier) -> None:
    images = images_of(5)
    measured = run(digit_classifier, images, "measure")
    begun = run(digit_classifier, images, "measure", (True,))
    assert [record.index for record in begun.images] == [0, 1]
    rest = run(digit_classifier, images[2:], "measure")
    assert join_samples(PLAN, (begun.shared, rest.shared)) == measured.shared

    whole = run(digit_classifier, images, measured=(measured,))
    for stop, said in ((2, (True,)), (4, (False, True))):
        first = run(digit_classifier, images, "compute", said, measured=(measured,))
        second = run(digit_classifier, images[stop:], measured=(measured,))
        assert [record.index for record in first.images] == list(range(stop))
        assert (*first.images, *second.images) == whole.images
        assert join_measurements((first.measurements, second.measurements)) == whole.measurements
        assert join_sketches((first.sketches, second.sketches)) == whole.sketches


def test_after_the_last_group_nothing_is_asked(digit_classifier: Classifier) -> None:
    plan = AuditPlan(explainers=(Gradient(),), checks=(DeletionCheck(grid=2, repeats=1),))
    result = run(digit_classifier, images_of(3), "compute", (False, True), plan=plan)
    assert [record.index for record in result.images] == [0, 1, 2]


def test_an_image_that_ended_its_process_is_listed_and_never_decoded(
    digit_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = AuditPlan(explainers=(Gradient(),), checks=(DeletionCheck(grid=2, repeats=1),))
    images = images_of(5)
    decoded: list[int] = []
    real = shard.decode_ahead

    def decode(given: Sequence[EncodedImage], *others: object, **named: object) -> object:
        decoded.extend(image.index for image in given)
        return real(given, *others, **named)

    monkeypatch.setattr(shard, "decode_ahead", decode)
    result = run(digit_classifier, images, left_out={1: "time_limit", 9: "ended_process"}, plan=plan)
    assert decoded == [0, 2, 3, 4]
    (excluded,) = [record for record in result.images if record.code is not None]
    assert (excluded.index, excluded.code) == (1, "time_limit")
    assert "took longer than it may" in str(excluded.reason)
    assert len(result.measurements[0].values) == 4
    # images beyond the border are not in the result, whatever became of them
    early = run(
        digit_classifier, images, "compute", (True,), left_out={1: "ended_process", 4: "ended_process"}, plan=plan
    )
    assert [record.index for record in early.images] == [0, 1, 2]


@pytest.mark.parametrize(
    ("image_s", "group_s", "size"),
    [(None, 60.0, 16), (100.0, None, 16), (1.0, 60.0, 16), (4.0, 60.0, 8), (30.0, 60.0, 2), (500.0, 60.0, 1)],
)
def test_groups_are_halved_until_they_are_short(image_s: float | None, group_s: float | None, size: int) -> None:
    assert shortened_group(16, image_s=image_s, group_s=group_s) == size


def test_a_slow_model_gets_smaller_groups(digit_classifier: Classifier) -> None:
    plan = AuditPlan(explainers=(Gradient(),), checks=(DeletionCheck(grid=2, repeats=1),))
    asked: list[bool] = []
    begun: list[bool] = []
    run_shard(
        ShardTask(plan=plan, wave="compute", images=images_of(4)),
        Runtime(
            digit_classifier,
            group_s=1e-9,
            enough=lambda: bool(asked.append(True)),
            begin_images=lambda: begun.append(bool(asked)),
        ),
    )
    assert len(asked) == 3
    assert begun == [False]
