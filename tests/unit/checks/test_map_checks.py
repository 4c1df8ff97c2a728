"""Sensitivity, infidelity and complexity: one image and one draw at a time, and whatever else shares the audit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import sensitivity_max
from torch import Tensor, nn

import digits
import reference
from auditcore.contracts.checks import Check, ComplexityCheck, InfidelityCheck, SensitivityCheck
from auditcore.contracts.explainers import (
    Explainer,
    GradCam,
    Gradient,
    GuidedBackpropagation,
    InputXGradient,
    Random,
    SmoothGrad,
)
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import Measurement, ShardResult
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.explainers.differentiation import input_gradient
from auditcore.explainers.registry import explain
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

SEED = 7
IMAGES = 3
CHECKS: tuple[Check, ...] = (
    SensitivityCheck(draws=3, radius=0.1),
    InfidelityCheck(draws=3, std=0.05),
    InfidelityCheck(name="scaled", draws=3, std=0.05, normalize=True),
    ComplexityCheck(),
)
EXPLAINERS: tuple[Explainer, ...] = (Gradient(), SmoothGrad(samples=2), GradCam())


def run(
    classifier: Classifier,
    checks: tuple[Check, ...],
    explainers: tuple[Explainer, ...],
    images: Sequence[EncodedImage] | None = None,
    micro_batch: int | None = None,
) -> ShardResult:
    return run_shard(
        ShardTask(
            plan=AuditPlan(seed=SEED, explainers=explainers, checks=checks),
            wave="compute",
            images=images or digits.encoded(IMAGES),
        ),
        Runtime(classifier, micro_batch=micro_batch, clock=lambda: 0.0),
    )


def found(result: ShardResult, explainer: str, metric: str, check: str | None = None) -> Measurement:
    (one,) = (
        m for m in result.measurements if m.explainer == explainer and m.metric == metric and check in {None, m.check}
    )
    return one


def single(classifier: Classifier, image: EncodedImage) -> tuple[Tensor, Tensor, Streams]:
    """Pixels of one image, its target, its streams."""
    pixels = (digits.digit_pixels()[0][image.index] * 255).round()[None] / 255
    return pixels, classifier.logits(pixels).argmax(dim=1), Streams(SEED, (image.digest,))


def map_of(
    classifier: Classifier, explainer: Explainer, pixels: Tensor, target: Tensor, streams: Streams
) -> np.ndarray:
    return explain(classifier, explainer, pixels, target, streams).maps[0].double().numpy()


@pytest.mark.parametrize("noise", ["common", "fresh"])
@pytest.mark.parametrize("explainer", [*EXPLAINERS, Random()], ids=lambda explainer: explainer.kind)
def test_sensitivity(digit_classifier: Classifier, explainer: Explainer, noise: Literal["common", "fresh"]) -> None:
    check = SensitivityCheck(draws=3, radius=0.1, noise=noise)
    result = run(digit_classifier, (check,), (explainer,))
    measured = found(result, explainer.kind, "max_sensitivity")
    own_draw = noise == "fresh" or explainer == Random()
    std = torch.tensor(digits.PREPROCESSING.std).view(3, 1, 1)
    for image in digits.encoded(IMAGES):
        pixels, target, streams = single(digit_classifier, image)
        before = map_of(digit_classifier, explainer, pixels, target, streams.viewing(["original"]))
        distances = []
        for draw in range(3):
            moved = 0.1 * (2 * streams.uniform((3, 32, 32), "sensitivity/noise", draw) - 1)
            view = streams.viewing([f"sensitivity/draw={draw}" if own_draw else "original"])
            after = map_of(digit_classifier, explainer, pixels + moved * std, target, view)
            distances.append(reference.relative_distance(before, after))
        assert measured.values[image.index] == pytest.approx(max(distances), rel=1e-3)
        if explainer == SmoothGrad(samples=2):
            again = map_of(digit_classifier, explainer, pixels, target, streams.viewing(["repeatability"]))
            repeated = found(result, explainer.kind, "repeatability_distance").values[image.index]
            assert repeated == pytest.approx(reference.relative_distance(before, again), rel=1e-3)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("explainer", EXPLAINERS, ids=lambda explainer: explainer.kind)
def test_infidelity(digit_classifier: Classifier, explainer: Explainer, *, normalize: bool) -> None:
    check = InfidelityCheck(draws=4, std=0.05, normalize=normalize)
    measured = found(run(digit_classifier, (check,), (explainer,)), explainer.kind, "infidelity")
    std = torch.tensor(digits.PREPROCESSING.std).view(3, 1, 1)
    for image in digits.encoded(IMAGES):
        pixels, target, streams = single(digit_classifier, image)
        attribution = map_of(digit_classifier, explainer, pixels, target, streams.viewing(["original"]))
        accounts, changes = [], []
        for draw in range(4):
            noise = 0.05 * streams.normal((3, 32, 32), "infidelity/noise", draw)
            before, after = (digit_classifier.logits(x)[0, target].item() for x in (pixels, pixels - noise * std))
            accounts.append(reference.account_of_noise(attribution, noise[0].double().numpy()))
            changes.append(before - after)
        expected = reference.infidelity(accounts, changes, normalize=normalize)
        assert measured.values[image.index] == pytest.approx(expected, rel=1e-3)


def test_complexity(digit_classifier: Classifier) -> None:
    for reduce in ("sum", "max_abs"):
        result = run(digit_classifier, (ComplexityCheck.model_validate({"reduce": reduce}),), (Gradient(), Random()))
        for explainer in (Gradient(), Random()):
            for image in digits.encoded(IMAGES):
                pixels, target, streams = single(digit_classifier, image)
                attribution = map_of(digit_classifier, explainer, pixels, target, streams.viewing(["original"]))
                values = reference.reduce_channels(attribution, reduce).ravel().tolist()
                sparseness = found(result, explainer.kind, "sparseness").values[image.index]
                entropy = found(result, explainer.kind, "entropy").values[image.index]
                assert sparseness == pytest.approx(reference.gini_index(values), rel=1e-4)
                assert entropy == pytest.approx(reference.entropy(values), rel=1e-4)


def test_channels_are_summed_without_leaving_rounding_behind() -> None:
    """In float32, 2^24 + 1 - 2^24 is 0."""
    model = Classifier(Weighing(2.0**24, 1.0, -(2.0**24)), preprocessing=digits.PREPROCESSING)
    measured = found(run(model, (ComplexityCheck(),), (Gradient(),)), "gradient", "entropy")
    assert measured.values == pytest.approx([np.log(32 * 32)] * IMAGES, rel=1e-5)


class Weighing(nn.Module):
    """A model whose gradient is one number per channel."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights))

    def forward(self, x: Tensor) -> Tensor:
        weighed = (x.sum(dim=(2, 3)) * self.weights).sum(dim=1)
        return torch.stack((weighed, weighed - 1), dim=1)


def test_the_same_noise_through_captum(digit_classifier: Classifier) -> None:
    checks: tuple[Check, ...] = (
        SensitivityCheck(draws=3, radius=0.1),
        InfidelityCheck(draws=3, std=0.05),
        InfidelityCheck(name="scaled", draws=3, std=0.05, normalize=True),
    )
    result = run(digit_classifier, checks, (Gradient(),))
    images = digits.encoded(IMAGES)
    rows = [single(digit_classifier, image) for image in images]
    inputs = digit_classifier.normalize(torch.cat([pixels for pixels, _, _ in rows])).contiguous()
    targets = torch.cat([target for _, target, _ in rows])
    streams = [streams for _, _, streams in rows]
    shape = (3, 32, 32)
    uniform = torch.cat([s.uniform(shape, "sensitivity/noise", draw) for s in streams for draw in range(3)])
    normal = 0.05 * torch.cat([s.normal(shape, "infidelity/noise", draw) for s in streams for draw in range(3)])

    def gradients(values: Tensor, target: Tensor) -> Tensor:
        return input_gradient(digit_classifier.module, values, target)[0].contiguous()

    def for_captum(values: Tensor | tuple[Tensor, ...], *, target: Tensor) -> tuple[Tensor, ...]:
        return (gradients(values[0] if isinstance(values, tuple) else values, target),)

    sensitivity = sensitivity_max(
        for_captum,
        inputs,
        perturb_func=lambda repeated: repeated + 0.1 * (2 * uniform - 1),
        n_perturb_samples=3,
        target=targets,
    )
    ours = found(result, "gradient", "max_sensitivity").values
    np.testing.assert_allclose(np.array(ours, dtype=float), sensitivity, rtol=1e-4)
    for label, normalize in (("infidelity", False), ("scaled", True)):
        foreign = captum_infidelity(
            digit_classifier.module,
            lambda repeated: (normal, repeated - normal),
            inputs,
            gradients(inputs, targets),
            target=targets,
            n_perturb_samples=3,
            normalize=normalize,
        )
        ours = found(result, "gradient", "infidelity", label).values
        np.testing.assert_allclose(np.array(ours, dtype=float), foreign, rtol=2e-3)


@pytest.mark.parametrize("micro_batch", [1, 3, 7])
def test_scores_do_not_depend_on_batches_shards_or_other_explainers(
    digit_classifier: Classifier, micro_batch: int
) -> None:
    images = digits.encoded(IMAGES)
    whole = run(digit_classifier, CHECKS, EXPLAINERS, images, micro_batch)
    parts = [
        run(digit_classifier, CHECKS, (GradCam(), SmoothGrad(samples=2)), images[at:end])
        for at, end in ((0, 1), (1, 3))
    ]
    for explainer in ("grad_cam", "smoothgrad", "random"):
        for m in (m for m in whole.measurements if m.explainer == explainer and m.check != "explainer"):
            split = [value for part in parts for value in found(part, explainer, m.metric, m.check).values]
            assert m.values == pytest.approx(split, rel=2e-4), (explainer, m.check, m.metric)


def test_the_same_seed_gives_the_same_bytes(digit_classifier: Classifier) -> None:
    once, again = (run(digit_classifier, CHECKS, (SmoothGrad(samples=2),)) for _ in range(2))
    assert once.model_dump_json(include={"measurements"}) == again.model_dump_json(include={"measurements"})


def test_the_random_control_always_runs(digit_classifier: Classifier) -> None:
    result = run(digit_classifier, CHECKS, (Gradient(),))
    assert all(m.control == (m.explainer == "random") for m in result.measurements)
    control = {(m.check, m.metric): m.values for m in result.measurements if m.explainer == "random"}
    asked = run(digit_classifier, CHECKS, (Random(),))
    assert control == {(m.check, m.metric): m.values for m in asked.measurements}
    # two independent maps of normal noise are sqrt(2) of their length apart
    assert control["sensitivity", "max_sensitivity"] == pytest.approx([2**0.5] * IMAGES, rel=0.05)


def test_passes_of_infidelity_are_shared_by_all_explainers_and_complexity_needs_none(
    digit_classifier: Classifier,
) -> None:
    for explainers in ((Gradient(),), (Gradient(), GradCam(), SmoothGrad(samples=2))):
        costs = run(digit_classifier, CHECKS, explainers).cost.checks
        assert costs["infidelity"].forward_images == IMAGES * 3
        assert costs["infidelity"].backward_images == 0
        assert (costs["complexity"].forward_images, costs["complexity"].backward_images) == (0, 0)
        # gradient and Grad-CAM read one pass
        maps = 3 * IMAGES * (1 if len(explainers) == 1 else 1 + 2)
        assert costs["sensitivity"].forward_images == maps


def test_draws_of_infidelity_are_independent_and_do_not_pile_up(digit_classifier: Classifier) -> None:
    seen: list[Tensor] = []
    handle = digit_classifier.folded.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].clone()))
    try:
        run(digit_classifier, (InfidelityCheck(draws=6, std=0.05),), (Random(),), digits.encoded(1), 1)
    finally:
        handle.remove()
    # the prediction, which is f(x), then six copies
    original, *copies = (x.flatten().double() for x in seen)
    noise = torch.stack([original - copy for copy in copies])
    assert len(noise) == 6
    torch.testing.assert_close(noise.std(dim=1), torch.full((6,), 0.05).double(), rtol=0.06, atol=0)
    correlation = torch.corrcoef(noise) - torch.eye(6)
    assert correlation.abs().max() < 0.08


def test_noise_is_not_clipped_to_the_range_of_images(digit_classifier: Classifier) -> None:
    lowest: list[float] = []
    handle = digit_classifier.folded.register_forward_pre_hook(
        lambda _module, inputs: lowest.append(float((inputs[0].detach() - digit_classifier.low).min()))
    )
    try:
        run(digit_classifier, (SensitivityCheck(draws=1, radius=0.1),), (Gradient(),), digits.encoded(1))
    finally:
        handle.remove()
    # below black by nearly the radius, in normalized units
    assert -0.1 <= min(lowest) < -0.09


class Blind(nn.Module):
    """No rectifier, and no gradient either: the logits do not depend on the image."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 32 * 32, 4)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


def test_zero_maps_and_methods_that_cannot_run_are_null_with_a_reason() -> None:
    blind = Classifier(Blind(), preprocessing=digits.PREPROCESSING)
    result = run(blind, CHECKS, (InputXGradient(), GuidedBackpropagation()))
    for metric, check, reason in (
        ("max_sensitivity", "sensitivity", "zero everywhere"),
        ("infidelity", "scaled", "no factor suits it"),
        ("sparseness", "complexity", "zero everywhere"),
        ("entropy", "complexity", "zero everywhere"),
    ):
        measured = found(result, "input_x_gradient", metric, check)
        assert measured.values == (None,) * IMAGES
        assert all(reason in measured.reasons[index] for index in range(IMAGES))
    # the map says that nothing matters, and it is right
    assert found(result, "input_x_gradient", "infidelity", "infidelity").values == (0,) * IMAGES
    for check, metric in (("sensitivity", "max_sensitivity"), ("infidelity", "infidelity"), ("complexity", "entropy")):
        measured = found(result, "guided_backpropagation", metric, check)
        assert measured.values == (None,) * IMAGES
        assert measured.reasons[0] == result.not_applicable["guided_backpropagation"]
