"""Explainers against other implementations, and what must hold on any model."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn
from zennit.attribution import Gradient as ZennitGradient
from zennit.composites import EpsilonAlpha2Beta1Flat, EpsilonGammaBox, EpsilonPlusFlat
from zennit.torchvision import ResNetCanonizer

import digit_transformer
import digits
from auditcore.contracts.access import AccessRules
from auditcore.contracts.explainers import (
    EXPLAINER_CONTRACTS,
    Ablation,
    Deconvolution,
    DeepLift,
    GradCam,
    Gradient,
    GradientShap,
    GuidedBackpropagation,
    GuidedGradCam,
    InputXGradient,
    IntegratedGradients,
    KernelShap,
    LrpEpsilonAlpha2Beta1Flat,
    LrpEpsilonGammaBox,
    LrpEpsilonPlusFlat,
    NoiseTunnel,
    Occlusion,
    Random,
    Rise,
    Saliency,
    SmoothGrad,
    has_defaults,
)
from auditcore.contracts.models import DemoModel
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import NotApplicable, ShapeError
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.baselines import baseline_pixels
from auditcore.explainers.lrp import _gates_pass_to_signal
from auditcore.explainers.registry import EXPLAINERS, applicability, explain
from auditcore.models.canonical import called_module
from auditcore.models.classifier import Classifier
from auditcore.models.layers import Gate
from auditcore.models.loading import load_classifier
from auditcore.random_numbers.streams import Streams
from every_explainer import with_the_others

ALL: list[Any] = [
    Gradient(),
    InputXGradient(),
    IntegratedGradients(steps=5),
    SmoothGrad(samples=4),
    Saliency(),
    GradientShap(samples=4),
    NoiseTunnel(method=IntegratedGradients(steps=2, baseline="gaussian"), samples=3),
    DeepLift(),
    GuidedBackpropagation(),
    Deconvolution(),
    GradCam(),
    GuidedGradCam(),
    LrpEpsilonPlusFlat(),
    LrpEpsilonGammaBox(),
    LrpEpsilonAlpha2Beta1Flat(),
    Occlusion(window=16),
    Ablation(grid=4),
    Rise(masks=8),
    KernelShap(samples=12, count=9),
    Random(),
]
# a method that needs statistics of a whole audit has tests of its own, which provide them
ALL += [one for one in with_the_others(ALL)[len(ALL) :] if not one.needs_measure_wave]
SPATIAL = (
    *("saliency", "grad_cam", "occlusion", "ablation", "rise", "kernel_shap"),
    *("attention_rollout", "gradient_weighted_attention"),
)
RELEVANCE: list[Any] = [LrpEpsilonPlusFlat(), LrpEpsilonGammaBox(), LrpEpsilonAlpha2Beta1Flat()]
SIZE = 64
PREPROCESSING = Preprocessing(resize=SIZE, crop=SIZE)


def kind(contract: Any) -> str:
    return str(contract.kind)


def streams(count: int) -> Streams:
    return Streams(7, tuple(f"sha256:{number}" for number in range(count)))


def pixels(count: int, size: int = SIZE) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(2))


# one at a time: together they would fill the memory
@functools.lru_cache(maxsize=1)
def fresh(name: str) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = torchvision.models.get_model(name, weights=None)
    return Classifier(module, preprocessing=PREPROCESSING, trained=False)


@functools.cache
def demo() -> Classifier:
    return load_classifier(DemoModel(), access=AccessRules())


def run(classifier: Classifier, contract: Any, images: Tensor, view: str = "original", **options: Any) -> Attribution:
    targets = classifier.logits(images).argmax(1)
    viewed = streams(len(images)).viewing([view] * len(images))
    return explain(classifier, contract, images, targets, viewed, **options)


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """Relative to the largest value."""
    assert float(expected.abs().amax()) > 0
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * float(expected.abs().amax()))


def test_every_contract_has_an_implementation_and_a_place_in_these_tests() -> None:
    # these need statistics of a whole audit, a file or code that a request names, which their own tests provide
    elsewhere = {kind for kind in EXPLAINER_CONTRACTS if kind.needs_measure_wave or not has_defaults(kind)}
    assert set(EXPLAINER_CONTRACTS) == set(EXPLAINERS) == {type(contract) for contract in ALL} | elsewhere


# --- what must hold for all ------------------------------------------------------------------------


@pytest.mark.parametrize("contract", ALL, ids=kind)
def test_maps_do_not_depend_on_the_batch(contract: Any, digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:5]
    classifier = digit_transformer.suited(digit_classifier, contract)
    targets = classifier.logits(images).argmax(1)
    assert applicability(classifier, contract) is None
    together = explain(classifier, contract, images, targets, streams(5), micro_batch=3)
    assert together.maps.shape == (5, 1 if contract.kind in SPATIAL else 3, digits.SIDE, digits.SIDE)
    assert together.maps.dtype == torch.float32
    assert not together.maps.requires_grad
    order = [3, 0, 4]
    alone = explain(classifier, contract, images[order], targets[order], streams(5).take(order), micro_batch=1)
    assert_close(alone.maps, together.maps[order], tolerance=1e-3)
    for name, values in together.diagnostics.items():
        torch.testing.assert_close(alone.diagnostics[name], values[order], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("contract", ALL, ids=kind)
def test_nothing_is_left_behind(contract: Any, digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:2]
    classifier = digit_transformer.suited(digit_classifier, contract)
    before = classifier.logits(images)
    first = run(classifier, contract, images)
    second = run(classifier, contract, images)
    assert torch.equal(first.maps, second.maps)
    assert torch.equal(classifier.logits(images), before)
    for module in (classifier.module, classifier.canonical):
        hooked = [layer for layer in module.modules() if layer._forward_pre_hooks or layer._backward_hooks]
        assert hooked == []
        # the one on the whole is the ledger's
        assert sum(len(layer._forward_hooks) for layer in module.modules()) == 1


@pytest.mark.parametrize(
    ("contract", "forward", "backward"),
    [
        (Gradient(), 3, 3),
        # for the completeness error each image, and black once
        (IntegratedGradients(steps=5), 15 + 3 + 1, 15),
        (SmoothGrad(samples=4), 12, 12),
        (Saliency(), 3, 3),
        (GradientShap(samples=4), 12, 12),
        (NoiseTunnel(method=IntegratedGradients(steps=5), samples=2), 2 * 15, 2 * 15),
        (DeepLift(), 6, 3),
        (GuidedGradCam(), 6, 6),
        (GuidedBackpropagation(), 3, 3),
        (GradCam(), 3, 3),
        (LrpEpsilonPlusFlat(), 3, 3),
        (Random(), 0, 0),
    ],
    ids=lambda value: getattr(value, "kind", str(value)),
)
def test_every_pass_is_counted(contract: Any, forward: int, backward: int, digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:3]
    targets = digit_classifier.logits(images).argmax(1)
    assert applicability(digit_classifier, contract) is None
    ledger = digit_classifier.ledger
    before = ledger.forward_images, ledger.backward_images
    explain(digit_classifier, contract, images, targets, streams(3), micro_batch=2)
    assert (ledger.forward_images - before[0], ledger.backward_images - before[1]) == (forward, backward)


@pytest.mark.parametrize("contract", [SmoothGrad(samples=2), Random()], ids=kind)
def test_random_draws_belong_to_image_and_view(contract: Any, digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:1].expand(2, -1, -1, -1)
    maps = run(digit_classifier, contract, images).maps
    assert not torch.allclose(maps[0], maps[1])
    assert not torch.allclose(maps, run(digit_classifier, contract, images, view="rotate/3").maps)


def test_the_control_is_standard_normal_noise(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:20]
    noise = run(digit_classifier, Random(), images).maps
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    other = run(digit_classifier, Random(name="second"), images).maps
    assert abs(float(np.corrcoef(noise.flatten(), other.flatten())[0, 1])) < 0.02


def test_targets_and_streams_must_match(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:2]
    with pytest.raises(ShapeError, match="2 targets and 3 streams"):
        explain(digit_classifier, Gradient(), images, torch.tensor([1, 2]), streams(3))


# --- other implementations -------------------------------------------------------------------------


class Plain(nn.Module):
    """ReLU modules, each used once, so that captum is right too."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU()),
        )
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


@functools.cache
def plain() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return Classifier(Plain(), preprocessing=Preprocessing(resize=24, crop=24))


def _upsampled(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    cam = captum.attr.LayerGradCam(module, module.features).attribute(x, y, relu_attributions=True)
    return F.interpolate(cam, size=(24, 24), mode="bilinear", align_corners=False)


CAPTUM: list[tuple[Any, Callable[[nn.Module, Tensor, Tensor], Tensor]]] = [
    (Gradient(), lambda module, x, y: captum.attr.Saliency(module).attribute(x, y, abs=False)),
    (InputXGradient(), lambda module, x, y: captum.attr.InputXGradient(module).attribute(x, y)),
    (
        IntegratedGradients(steps=12, baseline="mean"),
        lambda module, x, y: captum.attr.IntegratedGradients(module).attribute(x, 0 * x, y, n_steps=12),
    ),
    (GuidedBackpropagation(), lambda module, x, y: captum.attr.GuidedBackprop(module).attribute(x, y)),
    (Deconvolution(), lambda module, x, y: captum.attr.Deconvolution(module).attribute(x, y)),
    (GradCam(), _upsampled),
]


@pytest.mark.parametrize(("contract", "foreign"), CAPTUM, ids=[kind(contract) for contract, _ in CAPTUM])
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations:UserWarning")
def test_captum_agrees(contract: Any, foreign: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> None:
    classifier = plain()
    images = pixels(3, 24)
    targets = torch.tensor([1, 4, 0])
    inputs = classifier.normalize(images).detach().requires_grad_()
    expected = foreign(classifier.module, inputs, targets).detach().float()
    actual = explain(classifier, contract, images, targets, streams(3)).maps
    assert_close(actual, expected)


@pytest.mark.parametrize(
    ("contract", "composite"),
    [
        (LrpEpsilonPlusFlat(), EpsilonPlusFlat),
        (LrpEpsilonGammaBox(), EpsilonGammaBox),
        (LrpEpsilonAlpha2Beta1Flat(), EpsilonAlpha2Beta1Flat),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_zennit_with_its_own_canonizer_agrees(contract: Any, composite: Any) -> None:
    classifier = fresh("resnet18")
    images = pixels(2)
    targets = torch.tensor([3, 8])
    box = {"low": classifier.low, "high": classifier.high} if composite is EpsilonGammaBox else {}
    inputs = classifier.normalize(images).detach().requires_grad_()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = torchvision.models.resnet18(weights=None).eval()
    with ZennitGradient(module, composite(canonizers=[ResNetCanonizer()], **box)) as attributor:
        _, expected = attributor(inputs, lambda output: F.one_hot(targets, 1000) * output.detach())
    assert_close(explain(classifier, contract, images, targets, streams(2)).maps, expected, tolerance=1e-3)


def test_blur_is_a_gaussian_of_31_pixels() -> None:
    images = pixels(1, 48)
    batch = Batch(plain(), images, torch.tensor([0]), streams(1))
    # 15 pixels to each side: 3 standard deviations; scipy's mirror is torch's reflect
    expected = images[0].double().numpy()
    for axis in (1, 2):
        expected = gaussian_filter1d(expected, 5.0, axis=axis, mode="mirror", truncate=3.0)
    np.testing.assert_allclose(baseline_pixels(batch, "blur")[0], expected, atol=1e-5)


# --- gradients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", ["black", "mean", "blur"])
def test_integrated_gradients_are_complete(baseline: str, digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:4]
    few, many = (
        run(digit_classifier, IntegratedGradients(steps=steps, baseline=baseline), images).diagnostics[
            "completeness_error"
        ]
        for steps in (4, 300)
    )
    # relative to a change that may be small, so the middle is what counts
    assert float(many.median()) < 0.01
    assert float(many.max()) < 0.1
    assert float(many.mean()) < float(few.mean())


def test_completeness_is_undefined_at_the_baseline(digit_classifier: Classifier) -> None:
    black = torch.zeros(1, 3, digits.SIDE, digits.SIDE)
    diagnostics = run(digit_classifier, IntegratedGradients(steps=2, baseline="black"), black).diagnostics
    assert diagnostics["completeness_error"].isnan().all()


# --- rectifiers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("contract", [GuidedBackpropagation(), Deconvolution()], ids=kind)
def test_rectifier_methods_differ_from_the_gradient_on_the_demo_model(contract: Any) -> None:
    images = pixels(1, 224)
    assert applicability(demo(), contract) is None
    plain_gradient, changed = run(demo(), Gradient(), images).maps, run(demo(), contract, images).maps
    correlation = np.corrcoef(plain_gradient.flatten(), changed.flatten())[0, 1]
    assert abs(correlation) < 0.9


@pytest.mark.parametrize("contract", [GuidedBackpropagation(), Deconvolution()], ids=kind)
@pytest.mark.parametrize("name", ["efficientnet_b0", "convnext_tiny"])
def test_rectifier_methods_do_not_apply_without_rectifiers(contract: Any, name: str) -> None:
    reason = applicability(fresh(name), contract)
    assert reason is not None
    assert "no rectifier" in reason


# --- class activation maps -------------------------------------------------------------------------


def test_a_named_layer_is_used(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:2]
    last = run(digit_classifier, GradCam(), images).maps
    assert torch.equal(run(digit_classifier, GradCam(layer="down"), images).maps, last)
    assert not torch.allclose(run(digit_classifier, GradCam(layer="inner.0"), images).maps, last)
    assert float(last.min()) >= 0


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        ("dwn", "did you mean 'down'"),
        (
            "head",
            "no layer 'head' that gives feature maps of .*; layers that do, from the last: 'down', 'pool', 'stem'",
        ),
    ],
)
def test_an_unknown_layer_is_answered_with_near_ones(layer: str, match: str, digit_classifier: Classifier) -> None:
    contract = GradCam(layer=layer)
    reason = applicability(digit_classifier, contract)
    assert reason is not None
    assert re.search(match, reason)
    with pytest.raises(NotApplicable, match=match):
        run(digit_classifier, contract, digits.digit_pixels()[0][:1])


def test_no_class_activation_map_without_convolutions() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    classifier = Classifier(flat, preprocessing=Preprocessing(resize=8, crop=8))
    assert "no layer that gives feature maps" in str(applicability(classifier, GradCam()))


def test_in_place_activations_behind_the_layer_do_no_harm() -> None:
    modules = [nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    torch.manual_seed(0)
    classifier = Classifier(nn.Sequential(*modules), preprocessing=Preprocessing(resize=8, crop=8))
    maps = run(classifier, GradCam(), pixels(2, 8)).maps
    modules[1] = nn.ReLU()
    torch.testing.assert_close(
        maps,
        run(Classifier(nn.Sequential(*modules), preprocessing=classifier.preprocessing), GradCam(), pixels(2, 8)).maps,
    )


# --- relevance -------------------------------------------------------------------------------------


@pytest.mark.parametrize("contract", RELEVANCE, ids=kind)
@pytest.mark.parametrize("name", [pytest.param("vgg16", marks=pytest.mark.long), "resnet50", "densenet121", "resnet18"])
def test_relevance_is_conserved_on_fresh_models(name: str, contract: Any) -> None:
    assert applicability(fresh(name), contract) is None
    conservation = run(fresh(name), contract, pixels(2)).diagnostics["conservation"]
    assert ((conservation > 0.9) & (conservation < 1.05)).all(), conservation


@pytest.mark.parametrize("contract", RELEVANCE, ids=kind)
def test_relevance_stays_small_on_the_trained_demo_model(contract: Any) -> None:
    # biases absorb nearly all of it (definitions 11); without canonical form it explodes to 1e14
    attribution = run(demo(), contract, pixels(1, 224))
    assert float(attribution.diagnostics["conservation"].abs().max()) < 0.1
    assert attribution.maps.isfinite().all()
    assert float(attribution.maps.abs().sum()) > 0


@pytest.mark.parametrize("contract", RELEVANCE, ids=kind)
def test_a_rule_reaches_every_layer(contract: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from zennit.core import BasicHook, Hook  # noqa: PLC0415

    reached: set[nn.Module] = set()
    for hook in (Hook, BasicHook):
        original = hook.backward

        def counting(self: Any, module: nn.Module, *gradients: Any, original: Callable[..., Any] = original) -> Any:
            reached.add(module)
            return original(self, module, *gradients)

        monkeypatch.setattr(hook, "backward", counting)
    run(demo(), contract, pixels(1, 224))
    linear = [layer for layer in demo().canonical.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert len(linear) == 50
    assert set(linear) <= reached


@pytest.mark.parametrize("name", ["vit_b_32", "convnext_tiny"])
def test_relevance_does_not_apply_where_a_layer_has_no_rule(name: str) -> None:
    size = 224 if name == "vit_b_32" else SIZE
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = torchvision.models.get_model(name, weights=None)
    classifier = Classifier(module, preprocessing=Preprocessing(resize=size, crop=size))
    assert "no rule here for" in str(applicability(classifier, LrpEpsilonPlusFlat()))
    assert "LayerNorm" in str(applicability(classifier, LrpEpsilonPlusFlat()))


def test_the_box_needs_the_image() -> None:
    shifted = nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = Classifier(shifted, preprocessing=Preprocessing(resize=8, crop=8))
    assert "does not bound" in str(applicability(classifier, LrpEpsilonGammaBox()))
    assert applicability(classifier, LrpEpsilonPlusFlat()) is None


def test_a_model_that_cannot_be_traced_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)) if x.sum() > 0 else -x.mean((2, 3))

    classifier = Classifier(Branching(), preprocessing=Preprocessing(resize=8, crop=8))
    reason = applicability(classifier, LrpEpsilonPlusFlat())
    assert "cannot be traced" in str(reason)
    monkeypatch.setattr("auditcore.models.module_forms.canonicalize", None)
    assert applicability(classifier, LrpEpsilonGammaBox()) == reason
    # the others do not need the graph
    assert applicability(classifier, Gradient()) is None


def test_gates_hand_relevance_to_the_signal_unscaled() -> None:
    canonical = fresh("efficientnet_b0").canonical
    gate = next(layer for layer in canonical.modules() if isinstance(layer, Gate))
    signal, weight = torch.rand(2, 3, 4, 4, requires_grad=True), torch.rand(2, 3, 1, 1, requires_grad=True)
    above = torch.randn(2, 3, 4, 4)
    with _gates_pass_to_signal(canonical):
        output = gate(signal, weight)
        below = torch.autograd.grad(output, (signal, weight), above, allow_unused=True)
    torch.testing.assert_close(output, signal * weight)
    assert torch.equal(below[0], above)
    assert below[1] is None
    # outside, the gradient is that of a product again
    (slope,) = torch.autograd.grad(gate(signal, weight), weight, above)
    torch.testing.assert_close(slope, (signal * above).sum((2, 3), keepdim=True))


def test_squeeze_and_excitation_gets_no_relevance() -> None:
    classifier = fresh("efficientnet_b0")
    assert applicability(classifier, LrpEpsilonPlusFlat()) is None
    canonical = classifier.canonical
    gates = [node for node in canonical.graph.nodes if isinstance(called_module(canonical, node), Gate)]
    # torchvision's squeeze-excitation blocks, one a block
    assert len(gates) == 16
    assert all("scale_activation" in str(node.args[1].target) for node in gates)
