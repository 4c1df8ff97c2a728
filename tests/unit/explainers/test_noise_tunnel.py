"""SmoothGrad, its square and VarGrad, around any gradient method."""

from __future__ import annotations

from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

import digits
import reference_explainers as reference
from auditcore.contracts.explainers import (
    Deconvolution,
    DeepLift,
    GradCam,
    Gradient,
    GradientShap,
    GuidedBackpropagation,
    GuidedGradCam,
    InputXGradient,
    IntegratedGradients,
    NoiseTunnel,
    Saliency,
    SmoothGrad,
)
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.costs.estimate import explanation_passes
from auditcore.errors import NotApplicable
from auditcore.explainers.registry import applicability, explain
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

STREAMS = Streams(7, tuple(f"sha256:{number}" for number in range(5)))
SIDE = reference.SIDE
MEAN, STD = np.array((0.45, 0.5, 0.4))[:, None, None], np.array((0.2, 0.25, 0.3))[:, None, None]
PREPROCESSING = Preprocessing(resize=SIDE, crop=SIDE, mean=(0.45, 0.5, 0.4), std=(0.2, 0.25, 0.3))
TARGETS = torch.tensor([2, 0, 3])
INNER: list[Any] = [
    Gradient(),
    InputXGradient(),
    Saliency(),
    IntegratedGradients(steps=2, baseline="uniform"),
    GradientShap(samples=2),
    DeepLift(baseline="gaussian"),
    GuidedBackpropagation(),
    Deconvolution(),
    GuidedGradCam(),
    GradCam(),
]
AGGREGATES = ("smoothgrad", "smoothgrad_squared", "vargrad")


def pixels(count: int) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def noises(position: int, samples: int) -> list[np.ndarray]:
    """What the tunnel adds to one image, in pixel space, before it is scaled by the share."""
    streams = STREAMS.viewing(["rotate"] * 5)
    return [
        streams.generator(position, "smoothgrad", sample).standard_normal((3, SIDE, SIDE), dtype=np.float32)
        for sample in range(samples)
    ]


def linear(weights: Tensor) -> Classifier:
    """Logits that are linear in the pixels, on a mean of 0 and a deviation of 0.5."""
    head = nn.Linear(weights.shape[1], len(weights))
    with torch.no_grad():
        head.weight.copy_(weights)
    preprocessing = Preprocessing(resize=SIDE, crop=SIDE, mean=(0.0, 0.0, 0.0), std=(0.5, 0.5, 0.5))
    return Classifier(nn.Sequential(nn.Flatten(), head), preprocessing=preprocessing)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_aggregates_are_those_of_the_papers(aggregate: Any) -> None:
    net = reference.ResidualNet(seed=3)
    unrolled, images = reference.Unrolled(net), pixels(3)
    contract = NoiseTunnel(method=InputXGradient(), aggregate=aggregate, samples=5, std=0.2)
    streams = STREAMS.viewing(["rotate"] * 5).take(range(3))
    actual = explain(
        Classifier(net, preprocessing=PREPROCESSING), contract, images, TARGETS, streams, micro_batch=4
    ).maps
    for position, image in enumerate(images.double().numpy()):
        copies = [(image + 0.2 * noise - MEAN) / STD for noise in noises(position, 5)]
        replica = reference.noise_tunnel(
            [copy * unrolled.gradient(copy, int(TARGETS[position])) for copy in copies], aggregate
        )
        np.testing.assert_allclose(actual[position], replica, rtol=0, atol=1e-4 * np.abs(replica).max())


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_captum_agrees_on_the_same_noise(aggregate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(4 * (SIDE - 4) ** 2, 3))
    )
    preprocessing = Preprocessing(resize=SIDE, crop=SIDE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    classifier, images = Classifier(module, preprocessing=preprocessing), pixels(1)
    drawn = torch.from_numpy(np.stack(noises(0, 6)))
    monkeypatch.setattr(torch, "normal", lambda _mean, deviations: deviations * drawn)
    # a share of 0.15 of the range from black to white, which is 4 once normalized
    expected = captum.attr.NoiseTunnel(captum.attr.InputXGradient(classifier.module)).attribute(
        classifier.normalize(images).requires_grad_(),
        nt_type={"smoothgrad_squared": "smoothgrad_sq"}.get(aggregate, aggregate),
        nt_samples=6,
        stdevs=0.15 * 4,
        target=1,
    )
    monkeypatch.undo()
    contract = NoiseTunnel(method=InputXGradient(), aggregate=aggregate, samples=6, std=0.15)
    streams = STREAMS.viewing(["rotate"] * 5).take([0])
    actual = explain(classifier, contract, images, torch.tensor([1]), streams).maps
    torch.testing.assert_close(actual, expected.float(), rtol=0, atol=1e-5 * float(expected.abs().max()))


def of_deviations(*std: float) -> Classifier:
    """A smooth model behind a preprocessing with these deviations of its channels."""
    torch.manual_seed(0)
    module = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(4 * (SIDE - 4) ** 2, 3))
    )
    preprocessing = Preprocessing(resize=SIDE, crop=SIDE, mean=(0.45, 0.5, 0.4), std=std)  # type: ignore[arg-type]
    return Classifier(module, preprocessing=preprocessing)


@pytest.mark.parametrize("std", [1.0, 2.5])
@pytest.mark.parametrize("deviations", [(0.229, 0.224, 0.225), (0.5, 0.5, 0.5), (0.1, 0.25, 1.0)])
def test_normalized_noise_is_that_of_captum_for_any_std_of_the_model(
    deviations: tuple[float, ...], std: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier, images = of_deviations(*deviations), pixels(1)
    drawn = torch.from_numpy(np.stack(noises(0, 6)))
    monkeypatch.setattr(torch, "normal", lambda _mean, spread: spread * drawn)
    expected = captum.attr.NoiseTunnel(captum.attr.InputXGradient(classifier.module)).attribute(
        classifier.normalize(images).requires_grad_(), nt_type="smoothgrad", nt_samples=6, stdevs=std, target=1
    )
    monkeypatch.undo()
    contract = NoiseTunnel(method=InputXGradient(), aggregate="smoothgrad", samples=6, std=std, std_unit="normalized")
    streams = STREAMS.viewing(["rotate"] * 5).take([0])
    actual = explain(classifier, contract, images, torch.tensor([1]), streams).maps
    torch.testing.assert_close(actual, expected.float(), rtol=0, atol=2e-5 * float(expected.abs().max()))


def test_normalized_noise_is_that_of_the_replica() -> None:
    net = reference.ResidualNet(seed=3)
    unrolled, images = reference.Unrolled(net), pixels(3)
    contract = NoiseTunnel(method=InputXGradient(), aggregate="smoothgrad", samples=5, std=1.5, std_unit="normalized")
    streams = STREAMS.viewing(["rotate"] * 5).take(range(3))
    actual = explain(
        Classifier(net, preprocessing=PREPROCESSING), contract, images, TARGETS, streams, micro_batch=4
    ).maps
    for position, image in enumerate(images.double().numpy()):
        copies = [(image - MEAN) / STD + 1.5 * noise for noise in noises(position, 5)]
        replica = reference.noise_tunnel(
            [copy * unrolled.gradient(copy, int(TARGETS[position])) for copy in copies], "smoothgrad"
        )
        np.testing.assert_allclose(actual[position], replica, rtol=0, atol=1e-4 * np.abs(replica).max())


def test_both_units_are_the_same_noise_where_the_model_divides_by_one() -> None:
    classifier, images, streams = of_deviations(1.0, 1.0, 1.0), pixels(1), STREAMS.take([0])
    maps = [
        explain(classifier, SmoothGrad(samples=3, std=0.3, std_unit=unit), images, torch.tensor([1]), streams).maps
        for unit in ("range", "normalized")  # type: ignore[arg-type]
    ]
    torch.testing.assert_close(maps[0], maps[1], rtol=0, atol=1e-6 * float(maps[0].abs().max()))


@pytest.mark.parametrize("contract", [SmoothGrad, NoiseTunnel, GradientShap])
def test_a_share_of_the_range_is_at_most_one(contract: Any) -> None:
    with pytest.raises(ValidationError, match="set std_unit to 'normalized'"):
        contract(std=1.5)
    assert contract(std=1.5, std_unit="normalized").std == 1.5
    assert contract(std=1.0).std_unit == "range"
    with pytest.raises(ValidationError, match="less than or equal to 100"):
        contract(std=101, std_unit="normalized")


@pytest.mark.parametrize("inner", INNER, ids=lambda inner: str(inner.kind))
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_maps_do_not_depend_on_the_batch(inner: Any, aggregate: Any, digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:5]
    targets = digit_classifier.logits(images).argmax(1)
    contract = NoiseTunnel(method=inner, aggregate=aggregate, samples=3)
    together = explain(digit_classifier, contract, images, targets, STREAMS, micro_batch=7)
    assert together.maps.shape == (5, 1 if inner.kind in {"saliency", "grad_cam"} else 3, digits.SIDE, digits.SIDE)
    assert together.maps.dtype == torch.float32
    assert together.diagnostics == {}
    order = [3, 0]
    for micro_batch in (1, 4):
        alone = explain(
            digit_classifier, contract, images[order], targets[order], STREAMS.take(order), micro_batch=micro_batch
        ).maps
        # relative to the square of the largest map, of which a variance is a part
        scale = float(together.maps[order].abs().amax())
        torch.testing.assert_close(alone, together.maps[order], rtol=0, atol=2e-3 * scale)


def test_smoothgrad_is_the_tunnel_around_the_gradient(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:2]
    targets, streams = torch.tensor([1, 2]), STREAMS.take([0, 1])
    tunnel = NoiseTunnel(method=Gradient(), aggregate="smoothgrad", samples=4, std=0.3)
    short = explain(digit_classifier, SmoothGrad(samples=4, std=0.3), images, targets, streams).maps
    assert torch.equal(explain(digit_classifier, tunnel, images, targets, streams).maps, short)


def test_the_variance_is_mean_square_minus_squared_mean(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:2]
    mean, square, variance = (
        explain(
            digit_classifier,
            NoiseTunnel(aggregate=aggregate, samples=4),  # type: ignore[arg-type]
            images,
            torch.tensor([1, 2]),
            STREAMS.take([0, 1]),
        ).maps.double()
        for aggregate in AGGREGATES
    )
    torch.testing.assert_close(variance, square - mean.square(), rtol=0, atol=1e-6 * float(square.max()))
    assert float(variance.min()) >= 0


def test_noise_is_not_clipped() -> None:
    weights = torch.randn(2, 3 * SIDE**2, generator=torch.Generator().manual_seed(5))
    black = torch.zeros(1, 3, SIDE, SIDE)
    contract = NoiseTunnel(method=InputXGradient(), aggregate="smoothgrad", samples=6, std=0.4)
    streams = STREAMS.viewing(["rotate"] * 5).take([0])
    maps = explain(linear(weights), contract, black, torch.tensor([1]), streams).maps[0]
    # of a linear model: mean noise times weight, of either sign; the range from black to white is 2 once normalized
    expected = 0.4 * 2 * np.mean(noises(0, 6), axis=0) * weights[1].double().numpy().reshape(3, SIDE, SIDE)
    np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-5)


def test_the_inner_method_draws_again_for_every_copy() -> None:
    # a linear model whose gradient is the same everywhere: what varies beyond the noise are the baselines
    weights = torch.ones(2, 3 * SIDE**2)
    image = torch.full((1, 3, SIDE, SIDE), 0.5)
    maps = [
        explain(
            linear(weights),
            NoiseTunnel(
                method=IntegratedGradients(steps=2, baseline=baseline), aggregate="vargrad", samples=40, std=1e-6
            ),
            image,
            torch.tensor([0]),
            STREAMS.take([0]),
        ).maps
        for baseline in ("black", "uniform")
    ]
    assert float(maps[0].max()) < 1e-9
    # variance of a uniform value over a range of 2
    assert float(maps[1].mean()) == pytest.approx(4 / 12, rel=0.1)


def test_what_stops_the_inner_method_stops_the_tunnel() -> None:
    torch.manual_seed(0)
    smooth = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = Classifier(smooth, preprocessing=Preprocessing(resize=SIDE, crop=SIDE))
    assert "no rectifier" in str(applicability(classifier, NoiseTunnel(method=GuidedBackpropagation())))
    assert applicability(classifier, NoiseTunnel()) is None
    contract = NoiseTunnel(method=GradCam(layer="9"))
    assert "no layer '9'" in str(applicability(classifier, contract))
    with pytest.raises(NotApplicable, match="no layer '9'"):
        explain(classifier, contract, pixels(1), torch.tensor([0]), STREAMS.take([0]))


def test_the_cost_is_that_of_the_inner_method_times_the_samples() -> None:
    inner = IntegratedGradients(steps=10)
    assert explanation_passes(NoiseTunnel(method=inner, samples=7)) == 7 * explanation_passes(inner)
    assert explanation_passes(NoiseTunnel(samples=7)) == explanation_passes(SmoothGrad(samples=7))
