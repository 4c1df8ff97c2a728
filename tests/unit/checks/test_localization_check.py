"""Maps against boxes, from the request's pixels to the report's numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import digits
import reference
from auditcore.contracts.checks import LocalizationCheck
from auditcore.contracts.explainers import Explainer, GradCam, Gradient, GuidedBackpropagation, InputXGradient, Random
from auditcore.contracts.images import Box
from auditcore.contracts.masks import Mask
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import Measurement, ShardResult
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.explainers.registry import explain
from auditcore.images.encoded import EncodedImage
from auditcore.images.masks import polygon_pixels
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

SEED = 7
WIDE = Box(x0=2, y0=10, x1=28, y1=17)
TALL = Box(x0=20, y0=1, x1=27, y1=30)
METRICS = (
    "energy_pointing_game",
    "effective_heat_ratio",
    "wsol_iou",
    "wsol_iou_largest_region",
    "average_precision",
    "mask_iou",
    "hit_rate",
)


def boxed(*boxes: tuple[Box, ...]) -> list[EncodedImage]:
    """Digits of the size of the model, so that boxes stay what they are."""
    return [
        dataclasses.replace(image, boxes=of_image)
        for image, of_image in zip(digits.encoded(len(boxes)), boxes, strict=True)
    ]


def run(
    classifier: Classifier,
    check: LocalizationCheck,
    explainers: tuple[Explainer, ...],
    images: Sequence[EncodedImage],
    micro_batch: int | None = None,
) -> ShardResult:
    return run_shard(
        ShardTask(plan=AuditPlan(seed=SEED, explainers=explainers, checks=(check,)), wave="compute", images=images),
        Runtime(classifier, micro_batch=micro_batch, clock=lambda: 0.0),
    )


def found(result: ShardResult, explainer: str | None, metric: str) -> Measurement:
    (one,) = (m for m in result.measurements if m.explainer == explainer and m.metric == metric)
    return one


@pytest.mark.parametrize("explainer", [Gradient(), GradCam(), Random()], ids=lambda explainer: explainer.kind)
def test_one_image_at_a_time(digit_classifier: Classifier, explainer: Explainer) -> None:
    check = LocalizationCheck(threshold=0.4, tolerance_px=2)
    images = boxed((WIDE,), (WIDE, TALL), (TALL,))
    result = run(digit_classifier, check, (explainer,), images)
    # the maps together, as the engine has them: on the plateaus of Grad-CAM rounding decides what reaches a quantile
    pixels = (digits.digit_pixels()[0][: len(images)] * 255).round() / 255
    targets = digit_classifier.logits(pixels).argmax(dim=1)
    streams = Streams(SEED, tuple(image.digest for image in images)).viewing(["original"] * len(images))
    maps = explain(digit_classifier, explainer, pixels, targets, streams).maps
    for image in images:
        map_ = reference.reduce_channels(maps[image.index].double().numpy(), "sum")
        boxes = [(int(box.x0), int(box.y0), int(box.x1), int(box.y1)) for box in image.boxes]
        mask = [[reference.in_boxes(row, column, boxes) for column in range(32)] for row in range(32)]
        expected = (
            reference.energy_pointing_game(map_, boxes),
            reference.effective_heat_ratio(map_, boxes),
            reference.wsol_iou(map_, boxes, 0.4),
            reference.wsol_iou_largest_region(map_, boxes, 0.4),
            reference.average_precision(map_, mask),
            reference.mask_iou(map_, mask),
            reference.hit_rate(map_, mask, 2),
        )
        for metric, value in zip(METRICS, expected, strict=True):
            assert found(result, explainer.kind, metric).values[image.index] == pytest.approx(value, rel=1e-4), metric
        inside = [reference.in_boxes(row, column, boxes) for row in range(32) for column in range(32)]
        share = found(result, None, "box_share")
        assert share.control
        assert share.values[image.index] == pytest.approx(np.mean(inside), rel=1e-4)


def test_a_random_map_gets_the_share_of_the_boxes(digit_classifier: Classifier) -> None:
    result = run(digit_classifier, LocalizationCheck(), (Gradient(),), boxed(*[(WIDE, TALL)] * 6))
    control = found(result, "random", "energy_pointing_game")
    assert control.control
    assert not found(result, "gradient", "energy_pointing_game").control
    share = found(result, None, "box_share").values
    assert np.mean(np.array(control.values, dtype=float)) == pytest.approx(
        np.mean(np.array(share, dtype=float)), abs=0.03
    )


def test_no_passes_at_all(digit_classifier: Classifier) -> None:
    cost = run(digit_classifier, LocalizationCheck(), (Gradient(), GradCam()), boxed((WIDE,), (TALL,))).cost
    assert (cost.checks["localization"].forward_images, cost.checks["localization"].backward_images) == (0, 0)


@pytest.mark.parametrize("micro_batch", [1, 3, 7])
def test_scores_do_not_depend_on_batches_shards_or_other_explainers(
    digit_classifier: Classifier, micro_batch: int
) -> None:
    images = boxed((WIDE,), (WIDE, TALL), (TALL,))
    whole = run(digit_classifier, LocalizationCheck(), (GradCam(), Gradient()), images, micro_batch)
    parts = [run(digit_classifier, LocalizationCheck(), (Gradient(),), images[at:end]) for at, end in ((0, 2), (2, 3))]
    for explainer in ("gradient", "random"):
        for metric in METRICS:
            split = [value for part in parts for value in found(part, explainer, metric).values]
            assert found(whole, explainer, metric).values == pytest.approx(split, rel=1e-4)


def test_the_maps_of_other_checks_are_not_overwritten(digit_classifier: Classifier) -> None:
    # InputIBA's code zeroes small values of the map it is given
    images = boxed((WIDE,))
    checks = (LocalizationCheck(), LocalizationCheck(name="again"))
    result = run_shard(
        ShardTask(plan=AuditPlan(seed=SEED, explainers=(Gradient(),), checks=checks), wave="compute", images=images),
        Runtime(digit_classifier, clock=lambda: 0.0),
    )
    for metric in METRICS:
        first, second = (m for m in result.measurements if m.explainer == "gradient" and m.metric == metric)
        assert first.values == second.values


def test_images_that_do_not_take_part_are_null_with_a_reason(digit_classifier: Classifier) -> None:
    images = boxed(
        (WIDE,),
        (),
        (TALL.model_copy(update={"label": 8}),),
        (Box(x0=0, y0=0, x1=31, y1=31),),
        (Box(x0=3, y0=3, x1=5, y1=5),),
        # another class's object
        (WIDE.model_copy(update={"label": 9}),),
    )
    result = run(digit_classifier, LocalizationCheck(box_share=(0.1, 0.5)), (Gradient(),), images)
    for explainer in (None, "gradient", "random"):
        for metric in METRICS if explainer else ("box_share",):
            measured = found(result, explainer, metric)
            assert measured.values[0] is not None
            assert measured.values[1:] == (None,) * 5
            assert all("no box for this class" in measured.reasons[index] for index in (1, 2, 5))
            assert all("outside [0.1, 0.5]" in measured.reasons[index] for index in (3, 4))


def test_each_target_has_the_boxes_of_its_own_class_and_those_of_none(digit_classifier: Classifier) -> None:
    (image,) = boxed(())
    plan = AuditPlan(seed=SEED, target="top", top_n=3, explainers=(Gradient(),), checks=(LocalizationCheck(),))

    def targets_and_shares(boxes: tuple[Box, ...]) -> tuple[list[int], tuple[float | None, ...]]:
        result = run_shard(
            ShardTask(plan=plan, wave="compute", images=[dataclasses.replace(image, boxes=boxes)]),
            Runtime(digit_classifier, clock=lambda: 0.0),
        )
        shares = found(result, None, "box_share").per_target
        assert shares is not None
        return [target.target for target in result.images[0].targets], shares[0]

    (first, second, _), _ = targets_and_shares(())
    labeled = (WIDE.model_copy(update={"label": first}), TALL.model_copy(update={"label": second}))
    wide, tall, corner = 26 * 7 / 1024, 7 * 29 / 1024, 4 / 1024
    assert targets_and_shares(labeled)[1] == (
        pytest.approx(wide, rel=1e-4),
        pytest.approx(tall, rel=1e-4),
        None,
    )
    with_corner = targets_and_shares((*labeled, Box(x0=0, y0=0, x1=2, y1=2)))[1]
    assert with_corner == pytest.approx((wide + corner, tall + corner, corner), rel=1e-4)


def test_masks_come_before_boxes_and_count_for_their_class(digit_classifier: Classifier) -> None:
    (image,) = boxed((Box(x0=0, y0=0, x1=32, y1=32),))
    wide = Mask(polygons=((2, 10, 28, 10, 28, 17, 2, 17),))
    triangle = Mask(polygons=((20, 1, 27, 1, 20, 30),))
    other = Mask(polygons=((0, 0, 9, 0, 9, 9),), label=9)
    masked = dataclasses.replace(image, masks=(wide, triangle, other))
    result = run(digit_classifier, LocalizationCheck(tolerance_px=0), (Gradient(),), [masked])
    inside = np.zeros((32, 32), dtype=bool)
    around = []
    for region in (wide, triangle):
        assert region.polygons is not None
        drawn = polygon_pixels(region.polygons[0], 32, 32)
        inside |= drawn
        (top, left), (bottom, right) = np.argwhere(drawn).min(axis=0), np.argwhere(drawn).max(axis=0)
        around.append((int(left), int(top), int(right) + 1, int(bottom) + 1))
    pixels = (digits.digit_pixels()[0][:1] * 255).round() / 255
    targets = digit_classifier.logits(pixels).argmax(dim=1)
    assert targets.item() != 9
    streams = Streams(SEED, (image.digest,)).viewing(["original"])
    maps = explain(digit_classifier, Gradient(), pixels, targets, streams).maps
    map_ = reference.reduce_channels(maps[0].double().numpy(), "sum")
    heat = map_.clip(min=0)
    expected = {
        "energy_pointing_game": heat[inside].sum() / heat.sum(),
        "wsol_iou": reference.wsol_iou(map_, around, 0.2),
        "average_precision": reference.average_precision(map_, inside.tolist()),
        "mask_iou": reference.mask_iou(map_, inside.tolist()),
        "hit_rate": reference.hit_rate(map_, inside.tolist(), 0),
    }
    for metric, value in expected.items():
        assert found(result, "gradient", metric).values == pytest.approx([value], rel=1e-4), metric
    assert found(result, None, "box_share").values == pytest.approx([inside.mean()], rel=1e-4)


def test_the_parameters_of_masks_reach_their_metrics(digit_classifier: Classifier) -> None:
    images = boxed((WIDE,), (TALL,))
    loose, strict = (
        run(
            digit_classifier, LocalizationCheck(mask_threshold=threshold, tolerance_px=tolerance), (Gradient(),), images
        )
        for threshold, tolerance in ((0.05, 40), (0.9, 0))
    )
    assert found(loose, "gradient", "hit_rate").values == (1, 1)
    assert found(loose, "gradient", "mask_iou").values != found(strict, "gradient", "mask_iou").values
    assert found(loose, "gradient", "average_precision").values == found(strict, "gradient", "average_precision").values


@pytest.mark.parametrize("threshold", [0, 1, -0.5, 2])
def test_a_mask_threshold_is_a_share(threshold: float) -> None:
    with pytest.raises(ValueError, match="mask_threshold must be `otsu` or a share"):
        LocalizationCheck(mask_threshold=threshold)


def test_a_box_beyond_its_image_excludes_it_from_the_audit(digit_classifier: Classifier) -> None:
    result = run(
        digit_classifier, LocalizationCheck(), (Gradient(),), boxed((WIDE,), (Box(x0=40, y0=0, x1=50, y1=10),))
    )
    assert [(image.index, image.code) for image in result.images] == [(0, None), (1, "annotation_invalid")]


def test_images_below_the_minimum_probability_are_null(digit_classifier: Classifier) -> None:
    images = boxed(*[(WIDE,)] * 6)
    probabilities = [
        record.targets[0].probability
        for record in run(digit_classifier, LocalizationCheck(), (Gradient(),), images).images
    ]
    between = float(np.median(probabilities))
    measured = found(
        run(digit_classifier, LocalizationCheck(min_probability=between), (Gradient(),), images), "gradient", METRICS[0]
    )
    assert [value is None for value in measured.values] == [probability < between for probability in probabilities]
    assert set(measured.values) > {None}
    assert all(reason.startswith("the target probability is not above 0.") for reason in measured.reasons.values())


class Undecided(nn.Module):
    """Two classes of the same logit: the probability of each is exactly one half."""

    def forward(self, x: Tensor) -> Tensor:
        return (x**2).mean(dim=(1, 2, 3))[:, None].expand(-1, 2)


@pytest.mark.parametrize(("limit", "counts"), [(0.5, False), (0.4999, True)])
def test_an_image_at_exactly_the_minimum_probability_is_not_used(limit: float, counts: bool) -> None:  # noqa: FBT001
    """Won et al. 2025, section 3.3: scores higher than 0.6."""
    classifier = Classifier(Undecided(), preprocessing=digits.PREPROCESSING)
    result = run(classifier, LocalizationCheck(min_probability=limit), (Gradient(),), boxed((WIDE,)))
    measured = found(result, "gradient", METRICS[0])
    assert (measured.values[0] is not None) is counts


class Mean(nn.Module):
    """Relevance of one sign everywhere, of two sizes or of one."""

    def __init__(self, *, constant: bool, sign: float) -> None:
        super().__init__()
        weights = torch.full((32, 32), sign)
        if not constant:
            weights[:16] *= 2
        self.register_buffer("weights", weights)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack(((x * self.weights).mean(dim=(1, 2, 3)) + 50, x.mean(dim=(1, 2, 3))), dim=1)


@pytest.mark.parametrize(
    ("constant", "sign", "reason"),
    [
        (True, 1.0, "constant or not finite"),
        (True, -1.0, "constant or not finite"),
        (False, -1.0, "no pixel has positive"),
    ],
)
def test_maps_that_point_nowhere_are_null_with_a_reason(*, constant: bool, sign: float, reason: str) -> None:
    classifier = Classifier(Mean(constant=constant, sign=sign), preprocessing=digits.PREPROCESSING)
    explainers = (Gradient(), GuidedBackpropagation())
    result = run(classifier, LocalizationCheck(), explainers, boxed((WIDE,), (TALL,)))
    for metric in METRICS:
        measured = found(result, "gradient", metric)
        assert measured.values == (None, None)
        assert reason in measured.reasons[0]
        unable = found(result, "guided_backpropagation", metric)
        assert unable.reasons[0] == result.not_applicable["guided_backpropagation"]


def test_a_map_of_the_object_is_localized() -> None:
    """A box around the ink: what multiplies with the image lies on it far more than chance."""
    black = digits.PREPROCESSING.model_copy(update={"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)})
    classifier = Classifier(digits.trained(), preprocessing=black)
    boxes = []
    for pixels in digits.digit_pixels()[0][:4]:
        rows, columns = (torch.nonzero(pixels.sum(dim=0).sum(dim=dim)).flatten() for dim in (1, 0))
        box = Box(x0=int(columns[0]), y0=int(rows[0]), x1=int(columns[-1]) + 1, y1=int(rows[-1]) + 1)
        boxes.append((box,))
    result = run(classifier, LocalizationCheck(), (InputXGradient(),), boxed(*boxes))
    assert found(result, "input_x_gradient", "energy_pointing_game").values == pytest.approx([1.0] * 4)
    assert all(value is not None and value < 0.9 for value in found(result, None, "box_share").values)
