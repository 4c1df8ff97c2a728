"""Pictures of a report: which ones there are, that they need no pass, and that they are reproducible."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import digits
from auditcore.auditing import audit
from auditcore.contracts.artifacts import PICTURE_IMAGES
from auditcore.contracts.checks import EddaCheck
from auditcore.contracts.explainers import GradCam, Gradient, Occlusion, Random
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.presets import standard_plan
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.significance import VALUE_DIGITS
from auditcore.explainers.registry import explain
from auditcore.images.batch import decode_batch
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams
from auditcore.report.pictures import detail_of, draw_maps, draw_photo
from auditcore.report.serialize import report_bytes
from auditcore.report.slices import REPORT_BYTES

SLICES_BYTES = 2 * 6 * 2 * 10 * 230
"""Both sides of six augmentations, two headline metrics, ten explainers; what a slice takes."""

PLAN = AuditPlan(seed=7, explainers=(Gradient(), GradCam(), Random()), checks=(EddaCheck(keep=(0.15,)),))
TWO_TARGETS = {"target": "top", "top_n": 2}
NAMES = ("gradient", "grad_cam", "random")

Run = Callable[..., AuditReport]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    weights = digits.write_weights(tmp_path_factory.mktemp("weights"))

    def run(images: list[EncodedImage], plan: AuditPlan = PLAN, **options: Any) -> AuditReport:
        request = AuditRequest(
            model=digits.reference(weights), images=ImageBatchReference(digest="sha256:" + "0" * 64), plan=plan
        )
        options.setdefault("micro_batch", 8)
        return audit(request, images=images, access=digits.access(weights.parent), audit_id="test", **options)

    return run


def test_the_photo_comes_first_and_then_its_maps_image_by_image(run: Run) -> None:
    pictures: dict[str, bytes] = {}
    report = run(digits.encoded(3), pictures=pictures, shard_images=2)
    assert [(one.image, one.explainers) for one in report.artifacts] == [
        (i, of) for i in range(3) for of in ((), NAMES)
    ]
    assert {one.digest for one in report.artifacts} == set(pictures)
    assert report.images.pictured == 3


def test_pictures_show_the_channel_sum_of_the_maps_that_were_scored(run: Run, digit_classifier: Classifier) -> None:
    pictures: dict[str, bytes] = {}
    images = digits.encoded(1)
    photo, drawn = (pictures[one.digest] for one in run(images, pictures=pictures).artifacts)
    batch = decode_batch(images, digits.PREPROCESSING, digits.access(Path("/")).limits)
    assert photo == draw_photo(batch.pixels[0])
    target = digit_classifier.logits(batch.pixels).argmax(dim=1)
    streams = Streams(7, batch.digests).viewing(["original"])
    maps = [
        explain(digit_classifier, explainer, batch.pixels, target, streams, micro_batch=4).maps[0].sum(dim=0)
        for explainer in PLAN.explainers
    ]
    assert drawn == draw_maps(torch.stack(maps), detail_of(3))[0]


def test_a_map_that_points_nowhere_is_named(run: Run) -> None:
    whole = Occlusion(window=32, stride=32)
    _, maps = run(digits.encoded(1), PLAN.model_copy(update={"explainers": (whole, Gradient())}), pictures={}).artifacts
    assert maps.explainers == ("occlusion", "gradient")
    assert maps.flat == ("occlusion",)


def test_pictures_cost_no_pass_and_change_no_number(run: Run) -> None:
    without, drawn = run(digits.encoded(3)), run(digits.encoded(3), pictures={})
    assert without.artifacts == ()
    assert (drawn.results, drawn.controls) == (without.results, without.controls)
    assert drawn.cost.forward_images == without.cost.forward_images
    assert drawn.cost.backward_images == without.cost.backward_images


def test_the_same_audit_gives_the_same_digests(run: Run) -> None:
    assert run(digits.encoded(3), pictures={}).artifacts == run(digits.encoded(3), pictures={}).artifacts


@pytest.mark.parametrize("limit", [0, 2])
def test_only_the_first_images_get_pictures(run: Run, limit: int) -> None:
    pictures: dict[str, bytes] = {}
    report = run(digits.encoded(3), pictures=pictures, picture_images=limit)
    assert {one.image for one in report.artifacts} == set(range(limit))
    assert report.images.pictured == limit
    assert len(report.artifacts) == limit * 2


def test_an_image_with_several_targets_shows_the_maps_of_its_first(run: Run) -> None:
    one, two = (run(digits.encoded(2), PLAN.model_copy(update=top), pictures={}) for top in ({}, TWO_TARGETS))
    assert len(two.images.items[0].further_targets) == 1
    assert two.artifacts == one.artifacts


def test_an_image_that_cannot_be_used_has_no_picture(run: Run) -> None:
    images = [EncodedImage(0, "notes.txt", b"not an image"), *digits.encoded(2)[1:]]
    report = run(images, pictures={})
    assert {one.image for one in report.artifacts} == {1}


def test_a_standard_report_of_100_images_stays_below_its_limit(run: Run) -> None:
    small = run(digits.encoded(1), plan=standard_plan(), pictures={}, micro_batch=64)
    assert [len(one.explainers) for one in small.artifacts] == [0, len(standard_plan().explainers)]
    values = np.random.default_rng(0)

    def hundred(number: float | None) -> tuple[float | None, ...]:
        # as many digits as a report prints, in the order of magnitude of the score
        size = 10 ** math.floor(math.log10(abs(number))) if number else 1
        return tuple(float(f"{values.uniform(-10, 10) * size:.{VALUE_DIGITS}g}") for _ in range(100))

    def widened(rows: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(row.model_copy(update={"per_image": hundred(row.mean), "small_sample": False}) for row in rows)

    item = small.images.items[0].model_copy(update={"name": "n" * 20})
    items = tuple(item.model_copy(update={"index": index}) for index in range(100))
    artifacts = tuple(
        one.model_copy(update={"image": index, "digest": "sha256:" + values.bytes(32).hex()})
        for index in range(PICTURE_IMAGES)
        for one in small.artifacts
    )
    large = small.model_copy(
        update={
            "images": small.images.model_copy(update={"items": items}),
            "artifacts": artifacts,
            "results": widened(small.results),
            "controls": widened(small.controls),
        }
    )
    assert len(report_bytes(large)) + SLICES_BYTES < REPORT_BYTES


def test_drawing_can_be_cancelled_between_images(run: Run) -> None:
    seen: list[float] = []
    run(digits.encoded(3), progress=seen.append)
    plain = len(seen)
    seen.clear()
    run(digits.encoded(3), progress=seen.append, pictures={})
    assert len(seen) == plain + 3
