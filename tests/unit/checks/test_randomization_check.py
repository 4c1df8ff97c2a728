"""Maps of models that forget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy import stats
from skimage.metrics import structural_similarity
from torch import Tensor, nn

import digits
import reference
from auditcore.contracts.checks import Check, RandomizationCheck
from auditcore.contracts.explainers import (
    Explainer,
    GradCam,
    Gradient,
    GuidedBackpropagation,
    InputXGradient,
    LrpEpsilonPlusFlat,
    Random,
    SmoothGrad,
)
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import Measurement, ShardResult
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.explainers.registry import explain
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.models.randomization import cascade
from auditcore.random_numbers.streams import Streams

SEED = 7
IMAGES = 3


def run(
    classifier: Classifier,
    checks: tuple[Check, ...],
    explainers: tuple[Explainer, ...],
    images: Sequence[EncodedImage] | None = None,
    micro_batch: int | None = None,
    seed: int = SEED,
) -> ShardResult:
    return run_shard(
        ShardTask(
            plan=AuditPlan(seed=seed, explainers=explainers, checks=checks),
            wave="compute",
            images=images or digits.encoded(IMAGES),
        ),
        Runtime(classifier, micro_batch=micro_batch, clock=lambda: 0.0),
    )


def found(result: ShardResult, explainer: str, metric: str) -> Measurement:
    (one,) = (m for m in result.measurements if m.explainer == explainer and m.metric == metric)
    return one


def similarity(check: RandomizationCheck, a: np.ndarray, b: np.ndarray) -> float:
    match check.similarity:
        case "spearman":
            return float(stats.spearmanr(a.ravel(), b.ravel()).statistic)
        case "pearson":
            return reference.pearson(a.ravel().tolist(), b.ravel().tolist())
        case "ssim":
            return float(structural_similarity(a, b, win_size=11, data_range=np.abs(a).max()))


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("kind", ["spearman", "pearson", "ssim"])
@pytest.mark.parametrize("explainer", [Gradient(), SmoothGrad(samples=2)], ids=lambda explainer: explainer.kind)
def test_one_image_and_one_stage_at_a_time(
    digit_classifier: Classifier, explainer: Explainer, kind: str, *, absolute: bool
) -> None:
    check = RandomizationCheck.model_validate({"stages": 3, "similarity": kind, "absolute": absolute})
    result = run(digit_classifier, (check,), (explainer,))
    whole, last = (found(result, explainer.kind, name) for name in ("cascade_similarity", "randomized_similarity"))
    assert whole.curve is not None
    assert whole.curve.x == pytest.approx([0, 1 / 3, 2 / 3, 1])
    for image in digits.encoded(IMAGES):
        pixels = (digits.digit_pixels()[0][image.index] * 255).round()[None] / 255
        # the target stays that of the trained model
        target = digit_classifier.logits(pixels).argmax(dim=1)
        streams = Streams(SEED, (image.digest,))

        def reduced(model: Classifier, view: str) -> np.ndarray:
            maps = explain(model, explainer, pixels, target, streams.viewing([view])).maps  # noqa: B023 - called at once
            values = reference.reduce_channels(maps[0].double().numpy(), "sum")
            return np.abs(values) if absolute else values

        before = reduced(digit_classifier, "original")
        points = [
            similarity(check, before, reduced(model, f"randomization/stage={number}"))
            for number, (_, model) in enumerate(cascade(digit_classifier, seed=SEED, stages=3), start=1)
        ]
        assert whole.values[image.index] == pytest.approx(np.mean(points), abs=2e-4)
        assert last.values[image.index] == pytest.approx(points[-1], abs=2e-4)
        assert whole.curve.values[image.index] == pytest.approx([1.0, *points], abs=2e-4)


def test_maps_of_gradients_and_random_maps_lose_all_similarity(digit_classifier: Classifier) -> None:
    result = run(digit_classifier, (RandomizationCheck(),), (Gradient(),), digits.encoded(8))
    for explainer in ("gradient", "random"):
        values = np.array(found(result, explainer, "randomized_similarity").values, dtype=float)
        assert abs(values.mean()) < 0.1, explainer
    curve = found(result, "random", "cascade_similarity").curve
    assert curve is not None
    assert len(curve.x) == 6 + 1
    for row in curve.values:
        assert row is not None
        assert row[0] == 1
        assert all(abs(point) < 0.15 for point in row[1:] if point is not None)


class EdgeDetector(nn.Module):
    """A fixed edge filter, and parameters whose permutation changes nothing: what it shows is the image's own."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("edges", torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).expand(3, 1, 3, 3).clone())
        self.gain = nn.Parameter(torch.full((3, 1, 1), 0.7))
        self.offset = nn.Parameter(torch.full((2,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        edges = nn.functional.conv2d(x * self.gain, self.edges, padding=1, groups=3).square().mean(dim=(1, 2, 3))
        return torch.stack((edges, -edges), dim=1) + self.offset


@pytest.mark.parametrize("kind", ["spearman", "pearson", "ssim"])
def test_a_map_that_ignores_what_was_learned_stays_at_one(kind: str) -> None:
    classifier = Classifier(EdgeDetector(), preprocessing=digits.PREPROCESSING)
    result = run(classifier, (RandomizationCheck.model_validate({"similarity": kind}),), (Gradient(), InputXGradient()))
    for explainer in ("gradient", "input_x_gradient"):
        for metric in ("cascade_similarity", "randomized_similarity"):
            assert found(result, explainer, metric).values == pytest.approx([1.0] * IMAGES)


@pytest.mark.parametrize("micro_batch", [1, 3, 7])
def test_scores_do_not_depend_on_batches_shards_or_other_explainers(
    digit_classifier: Classifier, micro_batch: int
) -> None:
    check, images = RandomizationCheck(stages=2), digits.encoded(IMAGES)
    whole = run(
        digit_classifier, (check,), (LrpEpsilonPlusFlat(), Gradient(), SmoothGrad(samples=2)), images, micro_batch
    )
    parts = [
        run(digit_classifier, (check,), (SmoothGrad(samples=2), LrpEpsilonPlusFlat()), images[at:end])
        for at, end in ((0, 1), (1, 3))
    ]
    for explainer in ("smoothgrad", "lrp_epsilon_plus_flat", "random"):
        for metric in ("cascade_similarity", "randomized_similarity"):
            split = [value for part in parts for value in found(part, explainer, metric).values]
            assert found(whole, explainer, metric).values == pytest.approx(split, abs=1e-4)


def test_the_seed_decides_which_random_models(digit_classifier: Classifier) -> None:
    checks = (RandomizationCheck(stages=2),)
    once, again, other = (run(digit_classifier, checks, (Gradient(),), seed=seed) for seed in (1, 1, 2))
    assert once.model_dump_json(include={"measurements"}) == again.model_dump_json(include={"measurements"})
    first, second = (found(result, "gradient", "randomized_similarity").values for result in (once, other))
    assert first != second


def test_passes_are_stages_times_maps(digit_classifier: Classifier) -> None:
    result = run(digit_classifier, (RandomizationCheck(stages=4),), (Gradient(), SmoothGrad(samples=2)))
    cost = result.cost.checks["randomization"]
    # the random control needs none
    assert cost.forward_images == 4 * IMAGES * (1 + 2)
    assert cost.backward_images == 4 * IMAGES * (1 + 2)
    rows = [m for m in result.measurements if m.check == "randomization"]
    assert all(m.control == (m.explainer == "random") for m in rows)


class Dying(nn.Module):
    """A filter that fires as trained, and is silent once its bias is gone and its sign left to chance."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 1, 1)
        self.norm = nn.BatchNorm2d(1)
        self.relu = nn.ReLU()
        self.head = nn.Linear(32 * 32, 2)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([3.0, 2, 1]).view(1, 3, 1, 1))
            self.first.bias.fill_(10)

    def forward(self, x: Tensor) -> Tensor:
        # a threshold far above everything but the trained filter
        return self.head(self.relu(self.norm(self.first(x)) - 4).flatten(1))


def test_a_map_that_vanishes_on_a_random_model_is_null_with_a_reason() -> None:
    torch.manual_seed(0)
    classifier = Classifier(Dying(), preprocessing=digits.PREPROCESSING)
    result = run(classifier, (RandomizationCheck(),), (Gradient(),))
    whole, last = (found(result, "gradient", name) for name in ("cascade_similarity", "randomized_similarity"))
    for measured in (whole, last):
        assert measured.values == (None,) * IMAGES
        assert measured.reasons[0] == "with 100% of the layers random, the map is constant or not finite"
    assert whole.curve is not None
    row = whole.curve.values[0]
    assert row is not None
    # what there is of the curve is kept
    assert row[-1] is None
    assert None not in row[:-1]


def test_what_has_no_map_from_the_start_is_null_with_its_own_reason() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 2)
            nn.init.zeros_(self.head.weight)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x.mean(dim=(2, 3)))

    classifier = Classifier(Constant(), preprocessing=digits.PREPROCESSING)
    result = run(classifier, (RandomizationCheck(),), (Gradient(), GuidedBackpropagation()))
    measured = found(result, "gradient", "cascade_similarity")
    assert measured.values == (None,) * IMAGES
    assert measured.reasons[1] == "the map of the trained model is constant or not finite"
    assert measured.curve is not None
    assert measured.curve.values == (None,) * IMAGES
    unable = found(result, "guided_backpropagation", "randomized_similarity")
    assert unable.reasons[1] == result.not_applicable["guided_backpropagation"]


class Fixed(nn.Module):
    """Nothing to learn, so nothing to forget."""

    def forward(self, x: Tensor) -> Tensor:
        return x.square().flatten(1)[:, :4]


def test_a_model_without_parameters_is_not_applicable() -> None:
    classifier = Classifier(Fixed(), preprocessing=digits.PREPROCESSING)
    measured = found(run(classifier, (RandomizationCheck(),), (Gradient(),)), "gradient", "cascade_similarity")
    assert measured.values == (None,) * IMAGES
    assert "no parameters" in measured.reasons[0]


def test_grad_cam_and_the_requested_control_run(digit_classifier: Classifier) -> None:
    result = run(digit_classifier, (RandomizationCheck(stages=2),), (GradCam(), Random()))
    assert not any(m.control for m in result.measurements)
    assert {m.explainer for m in result.measurements} == {"grad_cam", "random"}
