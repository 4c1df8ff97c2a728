"""GradientSHAP against its formula and against captum on the same draws."""

from __future__ import annotations

from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import digits
import reference_explainers as reference
from auditcore.contracts.explainers import GradientShap, IntegratedGradients
from auditcore.contracts.explainers.baselines import Baseline
from auditcore.contracts.explainers.noise import NoiseUnit
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.explainers.registry import explain
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

SIDE = reference.SIDE
PREPROCESSING = Preprocessing(resize=SIDE, crop=SIDE, mean=(0.45, 0.5, 0.4), std=(0.2, 0.25, 0.3))
MEAN, STD = (np.array(value)[:, None, None] for value in (PREPROCESSING.mean, PREPROCESSING.std))
STREAMS = Streams(7, tuple(f"sha256:{number}" for number in range(5)), ("rotate",) * 5)
TARGETS = torch.tensor([2, 0, 3])


def pixels(count: int) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def sample(position: int, number: int) -> Streams:
    """The streams of one sample of an image."""
    return STREAMS.take([position]).viewing([f"rotate/gradient_shap/{number}"])


def alpha(position: int, number: int) -> float:
    return float(sample(position, number).generator(0, "gradient_shap/alpha").random(dtype=np.float32))


@pytest.mark.parametrize(
    ("baseline", "std", "unit"),
    [
        ("uniform", 0.0, "range"),
        ("uniform", 0.1, "range"),
        ("black", 0.1, "range"),
        ("normal", 0.0, "range"),
        ("black", 1.2, "normalized"),
    ],
)
def test_the_formula_on_the_same_draws(baseline: Baseline, std: float, unit: NoiseUnit) -> None:
    net = reference.ResidualNet(seed=3)
    unrolled, images, shape = reference.Unrolled(net), pixels(3), (3, SIDE, SIDE)
    contract = GradientShap(samples=4, baseline=baseline, std=std, std_unit=unit)
    spread = STD if unit == "normalized" else 1.0
    classifier = Classifier(net, preprocessing=PREPROCESSING)
    actual = explain(classifier, contract, images, TARGETS, STREAMS.take(range(3)), micro_batch=5)
    assert actual.diagnostics == {}
    for position, image in enumerate(images.double().numpy()):
        copies, starts = [], []
        for number in range(4):
            noise = STREAMS.generator(position, "gradient_shap", number).standard_normal(shape, dtype=np.float32)
            copies.append((image + std * spread * noise - MEAN) / STD)
            generator = sample(position, number).generator(0, f"baseline/{baseline}")
            if baseline == "uniform":
                starts.append((generator.random(shape, dtype=np.float32) - MEAN) / STD)
            elif baseline == "normal":
                starts.append(generator.standard_normal(shape, dtype=np.float32).astype(np.float64))
            else:
                starts.append((np.zeros(shape) - MEAN) / STD)
        alphas = [alpha(position, number) for number in range(4)]
        replica = reference.gradient_shap(unrolled, copies, starts, alphas, int(TARGETS[position]))
        np.testing.assert_allclose(actual.maps[position], replica, rtol=0, atol=1e-4 * np.abs(replica).max())


def test_captum_agrees_on_the_same_alphas(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(4 * (SIDE - 4) ** 2, 3))
    )
    classifier, images = Classifier(module, preprocessing=PREPROCESSING), pixels(1)
    alphas = np.array([alpha(0, number) for number in range(6)])
    monkeypatch.setattr(np.random, "uniform", lambda _low, _high, count: alphas[:count])
    expected = captum.attr.GradientShap(classifier.module).attribute(
        classifier.normalize(images),
        classifier.low.expand(1, -1, SIDE, SIDE),
        n_samples=6,
        stdevs=0.0,
        target=1,
    )
    monkeypatch.undo()
    contract = GradientShap(samples=6, baseline="black")
    actual = explain(classifier, contract, images, torch.tensor([1]), STREAMS.take([0])).maps
    torch.testing.assert_close(actual, expected.float(), rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("contract", [GradientShap(samples=3), GradientShap(samples=3, baseline="gaussian", std=0.1)])
def test_maps_do_not_depend_on_the_batch(contract: Any, digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:5]
    targets = digit_classifier.logits(images).argmax(1)
    together = explain(digit_classifier, contract, images, targets, STREAMS, micro_batch=7).maps
    for micro_batch, order in ((1, [3, 0]), (3, [0, 1]), (3, [2, 3, 4])):
        alone = explain(
            digit_classifier, contract, images[order], targets[order], STREAMS.take(order), micro_batch=micro_batch
        ).maps
        scale = float(together[order].abs().amax())
        torch.testing.assert_close(alone, together[order], rtol=0, atol=1e-4 * scale)


def test_integrated_gradients_in_expectation(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:4]
    targets = digit_classifier.logits(images).argmax(1)
    maps, paths = (
        explain(digit_classifier, contract, images, targets, STREAMS.take(range(4)), micro_batch=256).maps
        for contract in (GradientShap(samples=800, baseline="black"), IntegratedGradients(steps=100))
    )
    for shap, path in zip(maps, paths, strict=True):
        assert float((shap - path).norm() / path.norm()) < 0.1


def test_an_image_that_is_its_own_baseline_gets_nothing(digit_classifier: Classifier) -> None:
    black = torch.zeros(1, 3, digits.SIDE, digits.SIDE)
    contract = GradientShap(samples=2, baseline="black")
    assert not explain(digit_classifier, contract, black, torch.tensor([0]), STREAMS.take([0])).maps.any()
