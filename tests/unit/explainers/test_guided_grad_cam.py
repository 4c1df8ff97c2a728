"""Grad-CAM times guided backpropagation, upsampled bilinearly."""

from __future__ import annotations

import captum.attr
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import digits
import reference_explainers as reference
from auditcore.contracts.explainers import GradCam, GuidedBackpropagation, GuidedGradCam
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.costs.estimate import explanation_passes
from auditcore.errors import NotApplicable
from auditcore.explainers.registry import applicability, explain
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

STREAMS = Streams(7, tuple(f"sha256:{number}" for number in range(5)))
SIDE = reference.SIDE
PREPROCESSING = Preprocessing(resize=SIDE, crop=SIDE, mean=(0.45, 0.5, 0.4), std=(0.2, 0.25, 0.3))
TARGETS = torch.tensor([2, 0, 3])


def pixels(count: int, side: int = SIDE) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


class Plain(nn.Module):
    """ReLU modules, each used once, so that captum is right too; Grad-CAM's maps have 5 x 5 positions."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU()),
        )
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


@pytest.fixture(scope="module")
def plain() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return Classifier(Plain(), preprocessing=Preprocessing(resize=24, crop=24))


def foreign(model: Classifier, images: Tensor, layer: nn.Module, mode: str) -> Tensor:
    inputs = model.normalize(images).requires_grad_()
    maps: Tensor = captum.attr.GuidedGradCam(model.module, layer).attribute(inputs, TARGETS, interpolate_mode=mode)
    return maps.detach()


def test_the_product_of_both_formulas() -> None:
    net, images = reference.ResidualNet(seed=3), pixels(3)
    unrolled, model = reference.Unrolled(net), Classifier(net, preprocessing=PREPROCESSING)
    maps = explain(model, GuidedGradCam(), images, TARGETS, STREAMS.take(range(3)), micro_batch=2).maps
    for actual, image, target in zip(maps, model.normalize(images).double().numpy(), TARGETS.tolist(), strict=True):
        guided = reference.rectified(unrolled, image, target, reference.GUIDED)
        expected = reference.grad_cam(unrolled, image, target)[None] * guided
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations:UserWarning")
@pytest.mark.parametrize("layer", [None, "first", "features.4"])
def test_captum_agrees_once_it_upsamples_bilinearly(layer: str | None, plain: Classifier) -> None:
    images = pixels(3, 24)
    features = plain.module.get_submodule("features")
    chosen = features.get_submodule({None: "7", "first": "0", "features.4": "4"}[layer])
    actual = explain(plain, GuidedGradCam(layer=layer), images, TARGETS, STREAMS.take(range(3))).maps
    expected = foreign(plain, images, chosen, "bilinear")
    assert float(expected.abs().max()) > 0
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations:UserWarning")
def test_pixels_of_a_cell_do_not_share_one_factor(plain: Classifier) -> None:
    images = pixels(3, 24)
    guided = explain(plain, GuidedBackpropagation(), images, TARGETS, STREAMS.take(range(3))).maps
    ours = explain(plain, GuidedGradCam(), images, TARGETS, STREAMS.take(range(3))).maps
    nearest = foreign(plain, images, plain.module.get_submodule("features.6"), "nearest")

    def factors(maps: Tensor) -> int:
        seen = guided[0].abs() > 1e-3 * guided.abs().max()
        return len(set(torch.round((maps[0] / guided[0])[seen], decimals=6).tolist()))

    # 25 positions, some of them zero after rectification
    assert factors(nearest) <= 25
    assert factors(ours) > 50


def test_maps_do_not_depend_on_the_batch(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:5]
    targets = digit_classifier.logits(images).argmax(1)
    together = explain(digit_classifier, GuidedGradCam(), images, targets, STREAMS, micro_batch=7).maps
    alone = explain(digit_classifier, GuidedGradCam(), images[3:], targets[3:], STREAMS.take([3, 4]), micro_batch=1)
    assert float(together.abs().max()) > 0
    torch.testing.assert_close(alone.maps, together[3:], rtol=0, atol=1e-4 * float(together.abs().max()))


def test_first_is_the_first_convolution_and_no_name_for_grad_cam(digit_classifier: Classifier) -> None:
    images, targets = digits.digit_pixels()[0][:2], torch.tensor([0, 1])
    by_word, by_name = (
        explain(digit_classifier, GuidedGradCam(layer=layer), images, targets, STREAMS.take([0, 1])).maps
        for layer in ("first", "stem.0")
    )
    assert torch.equal(by_word, by_name)
    assert "no layer 'first'" in str(applicability(digit_classifier, GradCam(layer="first")))


def test_either_factor_may_stop_it(digit_classifier: Classifier) -> None:
    torch.manual_seed(0)
    smooth = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = Classifier(smooth, preprocessing=PREPROCESSING)
    assert "no rectifier" in str(applicability(model, GuidedGradCam()))
    flat = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 4)), preprocessing=PREPROCESSING)
    for layer in (None, "first"):
        assert "no layer that gives feature maps" in str(applicability(flat, GuidedGradCam(layer=layer)))
    contract = GuidedGradCam(layer="dwn")
    assert "did you mean 'down'" in str(applicability(digit_classifier, contract))
    with pytest.raises(NotApplicable, match="did you mean 'down'"):
        explain(digit_classifier, contract, digits.digit_pixels()[0][:1], torch.tensor([0]), STREAMS.take([0]))


def test_it_costs_what_both_cost() -> None:
    assert explanation_passes(GuidedGradCam()) == explanation_passes(GradCam()) + explanation_passes(
        GuidedBackpropagation()
    )
