"""ROAD against dense systems and one pass at a time, and against the bugs of other tools."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import digits
import reference
from auditcore.checks.road import compute
from auditcore.contracts.checks import RoadCheck
from auditcore.contracts.explainers import Explainer, GradCam, Gradient, GuidedBackpropagation, InputXGradient, Random
from auditcore.models.classifier import Classifier
from naive import NaiveAudit
from naive_removal import (
    UNTOUCHED,
    ConstantNet,
    CountingNet,
    found_in,
    group_of,
    naive,
    raw,
    relevance_order,
    run,
    untouched_pixels,
)

METRICS = ("morf_accuracy", "lerf_accuracy", "morf_probability", "lerf_probability", "road_gain")


def naive_road(slow: NaiveAudit, check: RoadCheck, explainer: Explainer) -> dict[str, list[float]]:
    """Curves in both orders."""
    order = relevance_order(slow, check, explainer)
    shape = slow.pixels.shape
    field = slow.streams.normal(shape, "road/noise")[0].double().numpy()
    noise = check.noise * np.array(digits.PREPROCESSING.std)[:, None, None] * field
    curves: dict[str, list[float]] = {name: [] for name in METRICS if name != "road_gain"}
    for share in check.shares:
        count = int(share * 100) * len(order) // 100
        for name, pixels in (("morf", order[:count]), ("lerf", order[len(order) - count :])):
            missing = np.zeros(len(order), dtype=bool)
            missing[pixels] = True
            missing = missing.reshape(shape[1:])
            copy = np.where(missing, reference.linear_imputation(slow.pixels, missing) + noise, slow.pixels)
            curves[f"{name}_probability"].append(slow._probability(copy))
            curves[f"{name}_accuracy"].append(float(np.argmax(slow._logits(copy)) == slow.target))
    return curves


@pytest.mark.parametrize(
    ("explainer", "rank_by", "reduce", "noise"),
    [
        (Gradient(), "auto", "sum", 0.01),
        (InputXGradient(), "signed", "sum", 0.3),
        (GradCam(), "auto", "mean", 0.0),
    ],
    ids=lambda value: getattr(value, "kind", value),
)
def test_road(digit_classifier: Classifier, explainer: Explainer, rank_by: str, reduce: str, noise: float) -> None:
    check = RoadCheck.model_validate(
        {"shares": (0.15, 0.5, 0.75), "noise": noise, "rank_by": rank_by, "reduce": reduce}
    )
    images = digits.encoded(2)
    found = found_in(run(digit_classifier, check, (explainer,), images))
    for position, image in enumerate(images):
        slow = naive(digit_classifier, image)
        for each in (explainer, Random()):
            curves = naive_road(slow, check, each)
            for name, curve in curves.items():
                measured = found[name, each.kind]
                assert measured.values[position] == pytest.approx(float(np.mean(curve)), rel=1e-4, abs=1e-5), name
                assert measured.curve is not None
                assert measured.curve.x == check.shares
                assert measured.curve.values[position] == pytest.approx(curve, rel=1e-4, abs=1e-5), name
            gain = float(np.mean(curves["lerf_probability"]) - np.mean(curves["morf_probability"]))
            assert found["road_gain", each.kind].values[position] == pytest.approx(gain, rel=1e-4, abs=2e-5)


def test_all_images_count_whatever_the_batch(digit_classifier: Classifier) -> None:
    # Quantus averages only the first batch: the same 8 images gave 1.0 in batches of 4 and 0.5 in one of 8
    check = RoadCheck(shares=(0.3, 0.8))
    images = digits.encoded(8)
    whole = found_in(run(digit_classifier, check, (GradCam(), InputXGradient()), images))
    assert all(len(m.values) == 8 for key, m in whole.items() if key[0] in METRICS)
    for micro_batch in (1, 3, 7):
        other = found_in(run(digit_classifier, check, (GradCam(),), images[:4], micro_batch=micro_batch))
        for metric in METRICS:
            for explainer in ("grad_cam", "random"):
                assert other[metric, explainer].values == pytest.approx(
                    whole[metric, explainer].values[:4], rel=1e-4, abs=1e-5
                )
    shards = [found_in(run(digit_classifier, check, (GradCam(),), part)) for part in (images[:3], images[3:])]
    for metric in METRICS:
        values = [value for shard in shards for value in shard[metric, "grad_cam"].values]
        assert values == pytest.approx(whole[metric, "grad_cam"].values, rel=1e-4, abs=1e-5)


def test_the_same_seed_gives_the_same_bytes(digit_classifier: Classifier) -> None:
    check = RoadCheck(shares=(0.5,))
    first, second = (run(digit_classifier, check, (Gradient(),), digits.encoded(2)) for _ in range(2))
    assert first.measurements == second.measurements


def test_explainers_share_the_noise(digit_classifier: Classifier) -> None:
    # two entries with the same map see the same draw, so that a difference between explainers is one of their maps
    check = RoadCheck(shares=(0.4, 0.8), noise=0.5)
    found = found_in(run(digit_classifier, check, (Gradient(), Gradient(name="again")), digits.encoded(2)))
    for metric in METRICS:
        assert found[metric, "gradient"].values == found[metric, "again"].values


@pytest.mark.parametrize("shares", [(0.1, 0.5, 0.9), (0.29, 0.57)])
def test_exactly_the_share_is_imputed_in_all_channels(shares: tuple[float, ...]) -> None:
    # a map of 16 pixels, for which pytorch-grad-cam's percentiles remove everything; a map of three channels, with
    # which Quantus fails. Noise this strong leaves no imputed value as it was.
    check = RoadCheck(shares=shares, noise=1.0)
    classifier = Classifier(CountingNet(10), preprocessing=raw(10))
    group = group_of(classifier, torch.full((2, 3, 10, 10), UNTOUCHED), (Gradient(),))
    for measured in compute(check, group, {}):
        if measured.metric in {"morf_probability", "lerf_probability"}:
            assert measured.curve is not None
            for row in measured.curve.values:
                assert row is not None
                assert untouched_pixels(row, 100) == pytest.approx([100 - round(100 * s) for s in shares], abs=1e-2)


def test_a_multi_label_target_is_predicted_at_half() -> None:
    class Bright(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            level = 10 * (x.mean(dim=(1, 2, 3)) - 0.5)
            # another label is always more probable, which says nothing of this one
            return torch.stack([level, level + 1], dim=1)

    classifier = Classifier(Bright(), preprocessing=raw(8), scores="sigmoid")
    pixels = torch.stack([torch.full((3, 8, 8), 0.8), torch.full((3, 8, 8), 0.2)])
    for measured in compute(RoadCheck(shares=(0.5,)), group_of(classifier, pixels, (Random(),)), {}):
        if measured.metric.endswith("accuracy"):
            assert measured.values == (1.0, 0.0)


def test_a_constant_map_is_not_applicable() -> None:
    group = group_of(Classifier(ConstantNet(), preprocessing=raw(8)), torch.rand(2, 3, 8, 8), (Gradient(),))
    found = {(m.metric, m.explainer): m for m in compute(RoadCheck(shares=(0.5,)), group, {})}
    for metric in METRICS:
        assert found[metric, "gradient"].values == (None, None)
        assert "gives no order" in found[metric, "gradient"].reasons[1]
        assert found[metric, "random"].values[0] is not None
        assert found[metric, "random"].control
    curve = found["morf_accuracy", "gradient"].curve
    assert curve is not None
    assert curve.values == (None, None)


def test_an_explainer_that_cannot_run_is_not_applicable() -> None:
    classifier = Classifier(CountingNet(8), preprocessing=raw(8))
    found = run(classifier, RoadCheck(shares=(0.5,)), (GuidedBackpropagation(),), digits.encoded(1)).measurements
    assert {m.metric for m in found if m.explainer == "guided_backpropagation" and m.values == (None,)} == set(METRICS)


def test_passes_are_two_a_share_and_explainer(digit_classifier: Classifier) -> None:
    group = group_of(digit_classifier, digits.digit_pixels()[0][:2], (Gradient(), GradCam()))
    for explainer in (*group.able, *group.controls):
        group.original(explainer)
    before = digit_classifier.ledger.forward_images
    compute(RoadCheck(), group, {})
    assert digit_classifier.ledger.forward_images - before == 2 * 3 * 2 * 9
