"""Pixel flipping against one pass at a time, against Quantus where it counts pixels, and against its known bugs."""

from __future__ import annotations

import numpy as np
import pytest
import quantus
import torch
from torch import Tensor, nn

import digits
import reference
from auditcore.checks.pixel_flipping import compute
from auditcore.contracts.checks import PixelFlippingCheck
from auditcore.contracts.explainers import Explainer, GradCam, Gradient, GuidedBackpropagation, InputXGradient, Random
from auditcore.models.classifier import Classifier
from naive_removal import (
    UNTOUCHED,
    ConstantNet,
    CountingNet,
    exchange_curve,
    found_in,
    group_of,
    naive,
    raw,
    relevance_order,
    run,
    untouched_pixels,
)

METRIC = "pixel_flipping_aoc"


@pytest.mark.parametrize("fill", ["black", "mean"])
@pytest.mark.parametrize(
    ("explainer", "rank_by", "reduce"),
    [(Gradient(), "auto", "sum"), (InputXGradient(), "signed", "sum"), (GradCam(), "auto", "mean")],
    ids=lambda value: getattr(value, "kind", value),
)
def test_pixel_flipping(
    digit_classifier: Classifier, explainer: Explainer, rank_by: str, reduce: str, fill: str
) -> None:
    check = PixelFlippingCheck.model_validate(
        {"pixels_per_step": 60, "fill": fill, "rank_by": rank_by, "reduce": reduce}
    )
    images = digits.encoded(2)
    found = found_in(run(digit_classifier, check, (explainer,), images))
    counts = reference.removal_counts(32 * 32, 60, "0.2")
    assert counts == [0, 60, 120, 180, 205]
    color = {"black": (0.0, 0.0, 0.0), "mean": digits.PREPROCESSING.mean}[fill]
    for position, image in enumerate(images):
        slow = naive(digit_classifier, image)
        filled = np.broadcast_to(np.array(color)[:, None, None], slow.pixels.shape)
        for each in (explainer, Random()):
            curve = exchange_curve(slow, slow.pixels, filled, relevance_order(slow, check, each), counts)
            relative = reference.relative_curve(curve, slow.probability)
            measured = found[METRIC, each.kind]
            assert measured.values[position] == pytest.approx(
                reference.pixel_flipping_aoc(relative, counts), rel=1e-4, abs=1e-6
            )
            assert measured.curve is not None
            assert measured.curve.values[position] == pytest.approx(relative, rel=1e-4, abs=1e-6)
            assert measured.curve.x == pytest.approx([count / 1024 for count in counts])


def test_steps_follow_the_size(digit_classifier: Classifier) -> None:
    # 512 of 224 x 224 are 10 of 32 x 32: 20 steps and a rest
    found = found_in(run(digit_classifier, PixelFlippingCheck(), (Gradient(),), digits.encoded(1)))
    curve = found[METRIC, "gradient"].curve
    assert curve is not None
    assert [round(1024 * x) for x in curve.x] == [*range(0, 205, 10), 205]


def test_the_random_order_is_a_control_that_always_runs(digit_classifier: Classifier) -> None:
    check = PixelFlippingCheck(pixels_per_step=100)
    without = found_in(run(digit_classifier, check, (Gradient(),), digits.encoded(2)))[METRIC, "random"]
    asked = run(digit_classifier, check, (Gradient(), Random()), digits.encoded(2)).measurements
    assert without.control
    assert [m.control for m in asked] == [False, False]
    assert found_in(run(digit_classifier, check, (Random(),), digits.encoded(2)))[METRIC, "random"].values == (
        without.values
    )


def test_scores_do_not_depend_on_batches_shards_or_other_explainers(digit_classifier: Classifier) -> None:
    check = PixelFlippingCheck(pixels_per_step=60)
    images = digits.encoded(3)
    whole = found_in(run(digit_classifier, check, (Gradient(), GradCam()), images))
    for micro_batch in (1, 3, 7):
        # the plateaus of Grad-CAM, where rounding would decide the order
        other = found_in(run(digit_classifier, check, (GradCam(),), images, micro_batch=micro_batch))
        for explainer in ("grad_cam", "random"):
            # printed with five digits, of which rounding may turn the last
            assert other[METRIC, explainer].values == pytest.approx(whole[METRIC, explainer].values, rel=1e-4)
    shards = [found_in(run(digit_classifier, check, (Gradient(),), part)) for part in (images[:1], images[1:])]
    for explainer in ("gradient", "random"):
        values = [value for shard in shards for value in shard[METRIC, explainer].values]
        assert values == pytest.approx(whole[METRIC, explainer].values, rel=1e-4)


def test_every_step_removes_exactly_its_pixels_in_all_channels() -> None:
    # aliased steps, channel values counted as pixels (Quantus 0.6), a threshold that removes all of a sparse map's
    # pixels (grad-cam), steps that pile up: each would give other counts
    classifier = Classifier(CountingNet(12), preprocessing=raw(12))
    group = group_of(classifier, torch.full((2, 3, 12, 12), UNTOUCHED), (Gradient(),))
    check = PixelFlippingCheck(pixels_per_step=10, share=0.5)
    for _ in range(2):
        for measured in compute(check, group, {}):
            assert measured.curve is not None
            for row, original in zip(measured.curve.values, group.probabilities.tolist(), strict=True):
                assert row is not None
                left = untouched_pixels([original * point for point in row if point is not None], 144)
                assert left == pytest.approx([144 - gone for gone in (0, 10, 20, 30, 40, 50, 60, 70, 72)], abs=1e-2)


def test_the_most_relevant_pixels_go_first() -> None:
    weight = torch.zeros(3, 8, 8)
    weight[:, 2, 5] = 1.0

    class OnePixel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(weight)

        def forward(self, x: Tensor) -> Tensor:
            first = 20 * (x * self.weight).mean(dim=1).sum(dim=(1, 2))
            return torch.stack([first, torch.zeros_like(first)], dim=1)

    group = group_of(Classifier(OnePixel(), preprocessing=raw(8)), torch.ones(1, 3, 8, 8), (Gradient(),))
    found = {m.explainer: m for m in compute(PixelFlippingCheck(pixels_per_step=1, share=0.25), group, {})}
    # p falls from 1 to 1/2 with the first of 16 pixels: 15.5 / 16 of the curve lie at half
    assert found["gradient"].values[0] == pytest.approx(0.5 * 15.5 / 16, rel=2e-5)


def test_a_probability_that_vanishes_is_not_applicable() -> None:
    class Certain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 40 * x.mean(dim=3)[:, :2, 0]

    pixels = torch.zeros(2, 3, 8, 8)
    pixels[:, 0] = 1
    group = group_of(Classifier(Certain(), preprocessing=raw(8)), pixels, (Gradient(),), targets=(1, 0))
    for measured in compute(PixelFlippingCheck(), group, {}):
        assert measured.values[0] is None
        assert "below 1e-8" in measured.reasons[0]
        assert measured.values[1] is not None


def test_a_constant_map_is_not_applicable_and_its_control_is() -> None:
    group = group_of(Classifier(ConstantNet(), preprocessing=raw(8)), torch.rand(2, 3, 8, 8), (Gradient(),))
    found = {m.explainer: m for m in compute(PixelFlippingCheck(), group, {})}
    assert found["gradient"].values == (None, None)
    assert "gives no order" in found["gradient"].reasons[0]
    assert found["gradient"].curve is not None
    assert found["gradient"].curve.values == (None, None)
    assert found["random"].values == (0.0, 0.0)


def test_an_explainer_that_cannot_run_is_not_applicable() -> None:
    # no rectifier: guided backpropagation would be the plain gradient
    classifier = Classifier(CountingNet(8), preprocessing=raw(8))
    result = run(classifier, PixelFlippingCheck(), (GuidedBackpropagation(),), digits.encoded(1))
    found = {m.explainer: m for m in result.measurements}
    assert found["guided_backpropagation"].values == (None,)
    assert found["guided_backpropagation"].reasons[0]
    assert found["random"].values[0] is not None


def test_curves_agree_with_quantus_on_gray_images() -> None:
    # Quantus 0.6 removes channel values; an image of one channel has as many of them as pixels
    class Gray(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x.expand(-1, 3, -1, -1))

    pixels = digits.digit_pixels()[0][:3, :1]
    classifier = Classifier(digits.trained(), preprocessing=raw(32))
    group = group_of(classifier, pixels.expand(-1, 3, -1, -1).contiguous(), (Gradient(),), targets=(0, 1, 2))
    # 1024 = 16 x 64: steps of one size, as Quantus divides them
    (measured,) = [
        m
        for m in compute(PixelFlippingCheck(pixels_per_step=64, share=1.0, rank_by="signed"), group, {})
        if not m.control
    ]
    maps = group.original(Gradient()).maps.double().sum(dim=1, keepdim=True)
    metric = quantus.PixelFlipping(
        features_in_step=64,
        perturb_baseline=0.0,
        abs=False,
        normalise=False,
        return_auc_per_sample=False,
        disable_warnings=True,
        display_progressbar=False,
    )
    theirs = metric(
        model=Gray(digits.trained()).eval(),
        x_batch=pixels.numpy(),
        y_batch=np.array([0, 1, 2]),
        a_batch=maps.numpy(),
        softmax=True,
        channel_first=True,
    )
    assert measured.curve is not None
    for position in range(3):
        row = measured.curve.values[position]
        assert row is not None
        original = group.probabilities[position].item()
        # their curve starts after the first step and is not relative
        assert row[1:] == pytest.approx([min(1, p / original) for p in theirs[position]], rel=1e-3, abs=1e-5)
