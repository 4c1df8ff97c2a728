"""DeepLIFT: the rescale rule against its formula, against captum, and complete on every model it accepts."""

from __future__ import annotations

import functools
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import digits
import reference_explainers as reference
from architectures import architecture
from auditcore.contracts.access import AccessRules
from auditcore.contracts.explainers import DeepLift
from auditcore.contracts.explainers.baselines import Baseline
from auditcore.contracts.models import DemoModel
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.explainers.registry import applicability, explain
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore.random_numbers.streams import Streams

SIDE = reference.SIDE
PREPROCESSING = Preprocessing(resize=SIDE, crop=SIDE, mean=(0.45, 0.5, 0.4), std=(0.2, 0.25, 0.3))
MEAN, STD = (np.array(value)[:, None, None] for value in (PREPROCESSING.mean, PREPROCESSING.std))
STREAMS = Streams(7, tuple(f"sha256:{number}" for number in range(5)))


def pixels(count: int, size: int = SIDE) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def classifier(*layers: nn.Module, side: int = SIDE) -> Classifier:
    return Classifier(nn.Sequential(*layers), preprocessing=Preprocessing(resize=side, crop=side))


# one at a time: together they would fill the memory
@functools.lru_cache(maxsize=1)
def fresh(name: str) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = architecture(name)
    return Classifier(module, preprocessing=Preprocessing(resize=96, crop=96), trained=False)


@functools.cache
def demo() -> Classifier:
    return load_classifier(DemoModel(), access=AccessRules())


def error_of(model: Classifier, images: Tensor, baseline: Baseline) -> Tensor:
    contract = DeepLift(baseline=baseline)
    assert applicability(model, contract) is None
    targets = model.logits(images).argmax(1)
    attribution = explain(model, contract, images, targets, STREAMS.take(range(len(images))))
    # what the method says of itself, computed once more from the outside
    starts = {"black": torch.zeros_like(images), "mean": model.mean.expand_as(images)}[baseline]
    change = (model.logits(images) - model.logits(starts)).gather(1, targets[:, None])[:, 0]
    assert float(change.abs().min()) > 1e-4
    error = ((attribution.maps.double().sum((1, 2, 3)) - change) / change).abs().float()
    torch.testing.assert_close(attribution.diagnostics["completeness_error"], error, rtol=0, atol=1e-4)
    return attribution.diagnostics["completeness_error"]


# --- the rule --------------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", ["black", "mean"])
def test_rescale_rule(baseline: Baseline) -> None:
    net, images, targets = reference.ResidualNet(seed=3), pixels(3), torch.tensor([2, 0, 3])
    unrolled, model = reference.Unrolled(net), Classifier(net, preprocessing=PREPROCESSING)
    start = ((0 if baseline == "black" else MEAN) - MEAN) / STD * np.ones((3, SIDE, SIDE))
    actual = explain(model, DeepLift(baseline=baseline), images, targets, STREAMS.take(range(3)), micro_batch=2).maps
    for position, image in enumerate(images.double().numpy()):
        expected = reference.deep_lift(unrolled, (image - MEAN) / STD, start, int(targets[position]))
        np.testing.assert_allclose(actual[position], expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 0)])
def test_max_pooling_divides_a_change_between_two_places(kernel: int, stride: int, padding: int) -> None:
    torch.manual_seed(3)
    pool = nn.MaxPool2d(kernel, stride, padding)
    side = int(pool(torch.zeros(1, 3, SIDE, SIDE)).shape[2])
    head = nn.Linear(3 * side**2, 2)
    model, images, target = classifier(pool, nn.Flatten(), head), pixels(2), 1
    above = head.weight[target].detach().double().numpy().reshape(3, side, side)
    # against the blurred image, so that either of the two may have the larger maximum
    contract = DeepLift(baseline="uniform")
    actual = explain(model, contract, images, torch.tensor([target] * 2), STREAMS.take([0, 1])).maps
    for position, image in enumerate(images):
        generator = STREAMS.generator(position, "baseline/uniform")
        start = torch.from_numpy(generator.random((3, SIDE, SIDE), dtype=np.float32))
        x, reference_x = (model.normalize(value[None])[0].double().numpy() for value in (image, start))
        for channel in range(3):
            expected = reference.cross_maximum(
                x[channel], reference_x[channel], above[channel], kernel, stride, padding
            )
            np.testing.assert_allclose(actual[position, channel], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    "activation",
    [nn.ReLU6(), nn.SiLU(), nn.GELU(), nn.Sigmoid(), nn.Hardswish(), nn.PReLU(4), nn.Softplus(), nn.ELU(), nn.Tanh()],
    ids=lambda layer: type(layer).__name__,
)
def test_every_activation_is_rescaled(activation: nn.Module) -> None:
    torch.manual_seed(0)
    model = classifier(nn.Conv2d(3, 4, 3), activation, nn.Conv2d(4, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert float(error_of(model, pixels(3), "black").max()) < 1e-4


@pytest.mark.parametrize("change", [0.0, 1e-7, 1e-5, 1e-3])
def test_next_to_the_baseline_multipliers_are_the_gradient(change: float) -> None:
    # in float32 the quotient of two changes of one bit is anything between 0 and 2
    torch.manual_seed(0)
    model = classifier(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images = (model.mean.expand(1, -1, SIDE, SIDE) + change).contiguous()
    maps = explain(model, DeepLift(baseline="mean"), images, torch.tensor([2]), STREAMS.take([0])).maps
    inputs = model.normalize(images).requires_grad_()
    model.module(inputs)[0, 2].backward()  # type: ignore[no-untyped-call]
    expected = model.normalize(images).detach() * inputs.grad
    torch.testing.assert_close(maps, expected, rtol=0, atol=0.01 * float(expected.abs().max()))


# --- other implementations -------------------------------------------------------------------------


def captum_maps(model: Classifier, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Captum's maps from black, and how far their sums are from what they should explain."""
    inputs = model.normalize(images).requires_grad_()
    start = model.low.expand_as(images).contiguous()
    maps, delta = captum.attr.DeepLift(model.module).attribute(
        inputs, start, target=targets, return_convergence_delta=True
    )
    return maps.detach(), delta.detach()


HOOKS = "ignore:Setting forward, backward hooks and attributes on non-linear:UserWarning"


@pytest.mark.filterwarnings(HOOKS)
@pytest.mark.parametrize(("activation", "tolerance"), [(nn.ReLU, 1e-4), (nn.LeakyReLU, 1e-4), (nn.Sigmoid, 5e-3)])
def test_captum_agrees_where_no_module_is_used_twice(activation: Any, tolerance: float) -> None:
    # of sigmoids captum divides float32 differences, which costs it digits
    torch.manual_seed(4)
    model = classifier(
        *(nn.MaxPool2d(2), nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), activation(), nn.AvgPool2d(2)),
        *(nn.Conv2d(8, 8, 3), activation(), nn.Flatten(), nn.Linear(8 * 16, 16), activation(), nn.Linear(16, 5)),
        side=24,
    )
    images, targets = pixels(3, 24), torch.tensor([1, 4, 0])
    expected, _ = captum_maps(model, images, targets)
    actual = explain(model, DeepLift(), images, targets, STREAMS.take(range(3))).maps
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


@pytest.mark.filterwarnings(HOOKS)
def test_complete_behind_max_pooling_where_captum_is_not() -> None:
    torch.manual_seed(4)
    model = classifier(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU()),
        *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8 * 25, 16), nn.ReLU(), nn.Linear(16, 5)),
        side=24,
    )
    images = pixels(3, 24)
    _, delta = captum_maps(model, images, model.logits(images).argmax(1))
    assert float(delta.abs().max()) > 1e-4
    assert float(error_of(model, images, "black").max()) < 1e-4


class Reusing(nn.Module):
    """One ReLU module for two places, as in torchvision's ResNets; a functional pooling besides."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.relu, self.head = nn.ReLU(), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.relu(self.first(x)), 3, stride=2, padding=1)
        return self.head(self.relu(self.second(x)).mean((2, 3)))


@pytest.mark.filterwarnings(HOOKS)
def test_modules_used_twice_do_no_harm_here() -> None:
    torch.manual_seed(0)
    model, images = Classifier(Reusing(), preprocessing=PREPROCESSING), pixels(2)
    with pytest.raises(RuntimeError, match="used more than once"):
        captum_maps(model, images, torch.tensor([0, 1]))
    assert float(error_of(model, images, "black").max()) < 1e-4


# --- completeness ----------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", ["black", "mean"])
def test_complete_on_the_digits_network(baseline: Baseline, digit_classifier: Classifier) -> None:
    assert float(error_of(digit_classifier, digits.digit_pixels()[0][:5], baseline).max()) < 1e-4


@pytest.mark.parametrize("name", ["resnet18", "densenet121", pytest.param("vgg11", marks=pytest.mark.slow)])
def test_complete_on_fresh_models(name: str) -> None:
    assert float(error_of(fresh(name), pixels(2, 96), "black").max()) < 1e-4


def test_complete_on_the_demo_model() -> None:
    assert float(error_of(demo(), pixels(1, 224), "mean").max()) < 1e-4


def test_completeness_is_undefined_at_the_baseline(digit_classifier: Classifier) -> None:
    black = torch.zeros(1, 3, digits.SIDE, digits.SIDE)
    attribution = explain(digit_classifier, DeepLift(), black, torch.tensor([3]), STREAMS.take([0]))
    assert attribution.diagnostics["completeness_error"].isnan().all()
    assert not attribution.maps.any()


@pytest.mark.parametrize("baseline", ["black", "uniform"])
def test_maps_do_not_depend_on_the_batch(baseline: Baseline, digit_classifier: Classifier) -> None:
    images, contract = digits.digit_pixels()[0][:5], DeepLift(baseline=baseline)
    targets = digit_classifier.logits(images).argmax(1)
    together = explain(digit_classifier, contract, images, targets, STREAMS, micro_batch=7).maps
    for micro_batch, order in ((1, [3, 0]), (3, [4, 2, 1, 0])):
        alone = explain(
            digit_classifier, contract, images[order], targets[order], STREAMS.take(order), micro_batch=micro_batch
        ).maps
        scale = float(together[order].abs().amax())
        torch.testing.assert_close(alone, together[order], rtol=0, atol=1e-4 * scale)


# --- where it is not right -------------------------------------------------------------------------


class Doubtful(nn.Module):
    """A small network around one operation that the rescale rule does not cover."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv, self.gate = (
            nn.Conv2d(3, 4, 3),
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid()),
        )
        self.norm, self.pool = nn.LayerNorm(6), nn.AdaptiveMaxPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        match self.kind:
            case "gate":
                x = x * self.gate(x)
            case "square":
                x = x * x
            case "softmax":
                x = 3 * F.softmax(x, dim=1)
            case "norm":
                x = self.norm(x)
            case "max":
                x = self.pool(x)
        return x.mean((2, 3))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("gate", "products of two signals"),
        ("square", "mul"),
        ("softmax", "softmax"),
        ("norm", "LayerNorm layers"),
        ("max", "AdaptiveMaxPool2d layers"),
    ],
)
def test_not_applicable_where_a_layer_has_no_rule(kind: str, reason: str) -> None:
    torch.manual_seed(0)
    model = Classifier(Doubtful(kind), preprocessing=Preprocessing(resize=SIDE, crop=SIDE))
    assert reason in str(applicability(model, DeepLift()))


@pytest.mark.parametrize(
    ("name", "reason"), [("efficientnet_b0", "products of two signals"), ("convnext_tiny", "LayerNorm")]
)
def test_not_applicable_to_models_with_such_layers(name: str, reason: str) -> None:
    assert reason in str(applicability(fresh(name), DeepLift()))


def test_a_scale_that_is_a_parameter_is_not_a_second_signal() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.scale = nn.Conv2d(3, 4, 3), nn.Parameter(torch.full((4, 1, 1), 0.3))

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.conv(x))
            return (x + 0.5 * x * torch.sigmoid(self.scale)).mean((2, 3))

    torch.manual_seed(0)
    model = Classifier(Scaled(), preprocessing=Preprocessing(resize=SIDE, crop=SIDE))
    assert float(error_of(model, pixels(2), "black").max()) < 1e-4
