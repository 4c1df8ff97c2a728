"""Our rules of relevance against zennit's, layer by layer and model by model."""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from PIL import Image
from torch import Tensor, nn
from zennit.core import BasicHook
from zennit.rules import AlphaBeta

import digits
from architectures import architecture
from auditcore.contracts.access import AccessRules
from auditcore.contracts.explainers import LrpEpsilonAlpha2Beta1Flat, LrpEpsilonGammaBox, LrpEpsilonPlusFlat
from auditcore.contracts.models import DemoModel
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.explainers import lrp
from auditcore.explainers import relevance_rules as rules
from auditcore.explainers.differentiation import input_gradient
from auditcore.explainers.linear_maps import ConvolutionMap, DenseMap, ForeignMap, Weights, linear_map
from auditcore.explainers.registry import applicability, explain
from auditcore.explainers.relevance_model import nonnegative_nodes
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore.random_numbers.streams import Streams
from auditcore_service.cli.demo import PHOTOS, photo_path

SIZE = 64
TOLERANCE = 1e-4
"""Largest deviation from zennit, relative to the largest value of its map."""

CONTRACTS: list[Any] = [LrpEpsilonPlusFlat(), LrpEpsilonGammaBox(), LrpEpsilonAlpha2Beta1Flat()]
ONE_IN_CI = [CONTRACTS[1], *(pytest.param(one, marks=pytest.mark.long) for one in (CONTRACTS[0], CONTRACTS[2]))]
QUICK_NAMES = ("resnet18", "vgg11_bn", "mobilenet_v2")
NAMES = ("resnet18", "vgg11", "vgg11_bn", "densenet121", "mobilenet_v2", "mobilenet_v3_small")


def kind(contract: Any) -> str:
    return str(contract.kind)


def classifier_of(module: nn.Module, size: int) -> Classifier:
    return Classifier(module, preprocessing=Preprocessing(resize=size, crop=size), trained=False)


# one at a time: together they would fill the memory
@functools.lru_cache(maxsize=1)
def fresh(name: str) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return classifier_of(architecture(name), SIZE)


@functools.cache
def demo() -> Classifier:
    return load_classifier(DemoModel(), access=AccessRules())


def pixels(count: int, size: int) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def ours(classifier: Classifier, contract: Any, images: Tensor, targets: Tensor) -> Tensor:
    model = lrp.model_with_rules(classifier, contract)
    return input_gradient(model, classifier.normalize(images), targets)[0]


def zennits(classifier: Classifier, contract: Any, images: Tensor, targets: Tensor) -> Tensor:
    with lrp.rules_of_zennit(classifier, contract) as canonical:
        return input_gradient(canonical, classifier.normalize(images), targets)[0]


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    scale = expected.abs().amax((1, 2, 3))
    assert bool((scale > 0).all())
    assert bool(((actual - expected).abs().amax((1, 2, 3)) <= tolerance * scale).all())


def assert_parity(classifier: Classifier, contract: Any, images: Tensor) -> None:
    targets = classifier.logits(images).argmax(1)
    assert_close(ours(classifier, contract, images, targets), zennits(classifier, contract, images, targets))


def rules_of(classifier: Classifier, contract: Any) -> list[rules.Rule]:
    model = lrp.model_with_rules(classifier, contract)
    return [layer.rule for layer in model.modules() if isinstance(layer, rules.Ruled)]


# --- whole models ----------------------------------------------------------------------------------


@pytest.mark.parametrize("contract", CONTRACTS, ids=kind)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK_NAMES else pytest.mark.long) for name in NAMES]
)
def test_models_of_torchvision(name: str, contract: Any) -> None:
    assert_parity(fresh(name), contract, pixels(2, SIZE))


@pytest.mark.parametrize("contract", CONTRACTS, ids=kind)
def test_the_trained_demo_model(contract: Any) -> None:
    # on noise, float32 is as far as 8e-4 from float64 with zennit's rules; on this photo 4e-6
    photo = torch.from_numpy(np.array(Image.open(photo_path(*PHOTOS[0])).convert("RGB").resize((224, 224)))) / 255
    assert_parity(demo(), contract, photo.permute(2, 0, 1)[None])


@pytest.mark.parametrize("contract", CONTRACTS, ids=kind)
def test_the_trained_digits(contract: Any, digit_classifier: Classifier) -> None:
    assert_parity(digit_classifier, contract, digits.digit_pixels()[0][:6])


@pytest.mark.parametrize("contract", [LrpEpsilonGammaBox(gamma=1.5, epsilon=0.1), LrpEpsilonPlusFlat(epsilon=0.5)])
def test_parameters_reach_the_rules(contract: Any, digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:3]
    assert_parity(digit_classifier, contract, images)
    targets = digit_classifier.logits(images).argmax(1)
    usual = ours(digit_classifier, type(contract)(), images, targets)
    assert float((usual - ours(digit_classifier, contract, images, targets)).abs().amax()) > 1e-3 * float(usual.amax())


# --- layers ----------------------------------------------------------------------------------------


class SamePadding(nn.Conv2d):
    """Pads by a module, as EfficientNet does; asymmetric."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.before = nn.ZeroPad2d((0, 1, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.before(x), self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class EvenPadding(nn.Conv2d):
    """Pads by a module as much at one end as at the other; the library pads further."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.before = nn.ZeroPad2d((2, 2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.before(x))


class SizedPadding(nn.Conv2d):
    """Pads by what the input's size demands."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (x.shape[-1] % 2, 1, 0, 1)))


class Forgetful(nn.Conv2d):
    """Never looks at its bias."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, int(x.shape[2]) % 3, 1)), self.weight, None, self.stride)


def _layers() -> dict[str, Callable[[], nn.Module]]:
    return {
        "plain": lambda: nn.Conv2d(8, 6, 3),
        "without_bias": lambda: nn.Conv2d(8, 6, 3, bias=False),
        "strided": lambda: nn.Conv2d(8, 6, 3, stride=2, padding=1),
        "pointwise": lambda: nn.Conv2d(8, 24, 1),
        "wide": lambda: nn.Conv2d(8, 32, 5, padding=2),
        "grouped": lambda: nn.Conv2d(8, 12, 3, groups=4),
        "depthwise": lambda: nn.Conv2d(8, 16, 3, groups=8, padding=1),
        "dilated": lambda: nn.Conv2d(8, 6, 3, dilation=2),
        "named_padding": lambda: nn.Conv2d(8, 6, 3, padding="same"),
        "circular": lambda: nn.Conv2d(8, 6, 3, padding=1, padding_mode="circular"),
        "same_padding": lambda: SamePadding(8, 6, 3, stride=2),
        "same_padding_depthwise": lambda: SamePadding(8, 8, 3, groups=8, bias=False),
        "even_padding": lambda: EvenPadding(8, 6, 3, stride=2, padding=(0, 1)),
        "sized_padding": lambda: SizedPadding(8, 6, 3),
        "forgetful": lambda: Forgetful(8, 6, 3, bias=False),
        "transposed": lambda: nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1),
        "transposed_grouped": lambda: nn.ConvTranspose2d(8, 6, 3, groups=2),
    }


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
    "tanh": nn.Tanh,
    "none": nn.Identity,
}


def around(layer: nn.Module, before: nn.Module, after: nn.Module) -> Classifier:
    """A small network around one layer, with an input that has the sign of `before`."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3), before, layer, after, nn.AdaptiveAvgPool2d(2), nn.Flatten())
    with torch.no_grad():
        features = network(torch.zeros(1, 3, 13, 13)).shape[1]
    return classifier_of(nn.Sequential(*network, nn.Linear(features, 5)), size=13)


@pytest.mark.parametrize("contract", CONTRACTS, ids=kind)
@pytest.mark.parametrize("signs", ["relu-relu", "relu-none", "none-relu6", "hardswish-tanh"])
@pytest.mark.parametrize("name", list(_layers()))
def test_layers_between_values_of_every_sign(name: str, signs: str, contract: Any) -> None:
    before, after = signs.split("-")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        classifier = around(_layers()[name](), ACTIVATIONS[before](), ACTIVATIONS[after]())
    assert_parity(classifier, contract, pixels(2, 13))
    assert not any(isinstance(rule, rules.ZennitRule) for rule in rules_of(classifier, contract))


FIRST: dict[str, Callable[[], nn.Module]] = {
    "grouped": lambda: nn.Conv2d(3, 6, 3, groups=3, padding=1),
    "without_bias": lambda: nn.Conv2d(3, 6, 3, bias=False, padding=2),
    "strided": lambda: nn.Conv2d(3, 6, 5, stride=3, padding=2),
    "dilated": lambda: nn.Conv2d(3, 6, 3, dilation=3),
    "same_padding": lambda: SamePadding(3, 6, 3, stride=2),
    "sized_padding": lambda: SizedPadding(3, 6, 3),
    "transposed": lambda: nn.ConvTranspose2d(3, 6, 3, stride=2),
}


@pytest.mark.parametrize("contract", CONTRACTS, ids=kind)
@pytest.mark.parametrize("name", list(FIRST))
def test_first_layers(name: str, contract: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        classifier = classifier_of(
            nn.Sequential(FIRST[name](), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3)), size=13
        )
    assert_parity(classifier, contract, pixels(3, 13))


def test_flat_on_a_dense_first_layer() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        classifier = classifier_of(
            nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 9), nn.Tanh(), nn.Linear(9, 3)), size=8
        )
    assert_parity(classifier, LrpEpsilonPlusFlat(), pixels(3, 8))


class Branches(nn.Module):
    """Sums behind and before rectifiers, a leftover normalization, cat, chunk, gates of both sorts, two poolings."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.left, self.right = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.squeeze = nn.Conv2d(8, 8, 1)
        self.mix = nn.Conv2d(16, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(F.relu(self.stem(x))))
        first = F.relu(self.left(x) + self.right(x))
        gated = first * torch.sigmoid(self.squeeze(first.mean((2, 3), keepdim=True)))
        upper, lower = torch.cat((gated + x, F.hardswish(self.left(first)) * 0.5), 1).chunk(2, 1)
        mixed = F.leaky_relu(self.mix(torch.cat((F.max_pool2d(upper, 2), F.avg_pool2d(lower, 2)), 1)), 0.2)
        return self.head(F.adaptive_avg_pool2d(mixed + 0.5 * mixed, 1).flatten(1))


@pytest.mark.parametrize("contract", CONTRACTS, ids=kind)
def test_branches(contract: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = Branches()
        nn.init.normal_(network.norm.bias)
        nn.init.normal_(network.norm.running_mean)
    assert_parity(classifier_of(network, 12), contract, pixels(4, 12))


class Spread(nn.Module):
    """A gate with positions spreads a signal that has none."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.where = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 1, 1)
        self.mix, self.head = nn.Conv2d(6, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        spread = x.mean((2, 3), keepdim=True) * torch.sigmoid(self.where(x))
        return self.head(F.relu(self.mix(spread)).mean((2, 3)))


@pytest.mark.parametrize("contract", CONTRACTS, ids=kind)
def test_gates_that_spread_their_signal(contract: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        classifier = classifier_of(Spread(), 12)
    assert any(isinstance(rule, rules.GateRule) for rule in rules_of(classifier, contract))
    assert_parity(classifier, contract, pixels(3, 12))


@pytest.mark.parametrize("contract", CONTRACTS, ids=kind)
def test_autocast_stops_at_the_rules(contract: Any, digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:3]
    targets = digit_classifier.logits(images).argmax(1)
    expected = ours(digit_classifier, contract, images, targets)
    with torch.autocast("cpu", torch.bfloat16):
        actual = ours(digit_classifier, contract, images, targets)
    assert_close(actual, expected, 1e-5)


@pytest.mark.parametrize("contract", CONTRACTS, ids=kind)
def test_maps_do_not_depend_on_the_batch(contract: Any) -> None:
    classifier, images = fresh("mobilenet_v2"), pixels(4, SIZE)
    targets = torch.tensor([3, 8, 1, 0])
    together = ours(classifier, contract, images, targets)
    order = [2, 0]
    assert_close(ours(classifier, contract, images[order], targets[order]), together[order], 1e-5)
    # what is kept of one size does not spoil another
    assert_parity(classifier, contract, pixels(1, SIZE // 2))
    assert torch.equal(ours(classifier, contract, images, targets), together)


# --- what is known beforehand ----------------------------------------------------------------------


def test_values_behind_rectifiers_are_known_not_to_be_negative() -> None:
    canonical: Any = classifier_of(Branches(), 12).canonical
    values: dict[Any, Tensor] = {}
    nodes = nonnegative_nodes(canonical)

    class Recording(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            values[n] = super().run_node(n)
            return values[n]

    Recording(canonical).run(torch.randn(3, 3, 12, 12))
    known = {node for node in nodes if isinstance(values[node], Tensor)}
    assert all(float(values[node].min()) >= 0 for node in known)
    # two rectified, their sum, its mean, a gate and what it lets through, at the least
    assert len(known) >= 6
    assert not any(
        isinstance(canonical.get_submodule(node.target), nn.Conv2d) for node in known if node.op == "call_module"
    )


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Linear(3, 2), DenseMap),
        (nn.Conv2d(3, 4, 3, padding=1), ConvolutionMap),
        (nn.Conv1d(3, 4, 3), ConvolutionMap),
        (SamePadding(3, 4, 3), ConvolutionMap),
        (EvenPadding(3, 4, 3, padding=(0, 1)), ConvolutionMap),
        (SizedPadding(3, 4, 3), ForeignMap),
        (nn.Conv2d(3, 4, 3, padding="same"), ForeignMap),
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), ForeignMap),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_the_transpose_is_the_adjoint(layer: Any, expected: type) -> None:
    found = linear_map(layer)
    assert isinstance(found, expected)
    shape = {nn.Linear: (2, 3), nn.Conv1d: (2, 3, 9)}.get(type(layer), (2, 3, 9, 9))
    x, weights = torch.randn(shape), Weights(torch.randn_like(layer.weight), None)
    y = found.apply(x, weights)
    above = torch.randn_like(y)
    with torch.no_grad():
        torch.testing.assert_close(
            (y * above).sum(), (found.transposed(x, weights, above) * x).sum(), rtol=1e-4, atol=1e-3
        )
        torch.testing.assert_close(found.apply(x, Weights(layer.weight, layer.bias)), layer(x))


def test_even_padding_is_left_to_the_library() -> None:
    found = linear_map(EvenPadding(3, 4, 3, padding=(0, 1)))
    assert isinstance(found, ConvolutionMap)
    assert (found.padding, found.margins) == ((1, 3), ())
    uneven = linear_map(SamePadding(3, 4, 3))
    assert isinstance(uneven, ConvolutionMap)
    assert (uneven.padding, uneven.margins) == ((0, 0), (0, 1, 2, 1))


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.5])
@pytest.mark.parametrize("lowest", [0.0, -1.0])
@pytest.mark.parametrize("name", ["plain", "without_bias", "grouped", "depthwise", "transposed"])
def test_alpha_beta_is_that_of_zennit_and_overwrites_nothing(name: str, lowest: float, alpha: float) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(8)
        layer: Any = _layers()[name]().to(memory_format=torch.channels_last)
        x = torch.empty(2, 8, 7, 7).uniform_(lowest, 1).contiguous(memory_format=torch.channels_last)
        relevance = torch.randn_like(layer(x)).detach()
    rule = rules.AlphaBetaRule(layer, None, alpha=alpha, nonnegative=lowest == 0)
    with torch.no_grad():
        y, saved = rule.evaluate(x)
        before = y.clone(), x.clone(), relevance.clone()
        actual = rule.share(saved, relevance)[0]
        assert all(map(torch.equal, (y, x, relevance), before))
        assert torch.equal(actual, rule.share(saved, relevance)[0])
    hook = AlphaBeta(alpha=alpha, beta=alpha - 1)
    hook.stored_tensors["input"] = (x,)
    assert_close(actual, hook.backward(layer, (x,), (relevance,))[0], 1e-5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_alpha_beta_keeps_the_digits_of_a_sum_far_below_the_other(sign: float) -> None:
    # the output is the difference of both, of which float32 has no digit as small as the lesser
    layer = nn.Conv2d(2, 1, 1, bias=False)
    x = torch.tensor([1.0, 1.0]).view(1, 2, 1, 1)
    for size in (1e-3, 1e4):
        layer.weight.data = sign * torch.tensor([size, -0.3]).view(1, 2, 1, 1)
        rule = rules.AlphaBetaRule(layer, None, alpha=2.0, nonnegative=True)
        with torch.no_grad():
            shares = rule.share((x,), torch.ones(1, 1, 1, 1))[0].flatten()
        expected = torch.tensor([2.0, -1.0]) if sign > 0 else torch.tensor([-1.0, 2.0])
        # but for the stabilizer, each sum has one contribution, which gets all
        sums = torch.tensor([size, 0.3])
        torch.testing.assert_close(shares, expected * sums / (sums + rules.STABILIZER), rtol=1e-6, atol=0)


# --- the way it is taken ---------------------------------------------------------------------------


@pytest.mark.parametrize("contract", ONE_IN_CI, ids=kind)
def test_no_rule_of_zennit_is_evaluated_where_ours_serve(contract: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        pytest.fail("a rule of zennit was evaluated")

    monkeypatch.setattr(BasicHook, "backward", refused)
    for classifier in (demo(), fresh("resnet18"), fresh("densenet121"), fresh("mobilenet_v3_small")):
        images = pixels(1, classifier.shape.height)
        assert float(ours(classifier, contract, images, torch.tensor([1])).abs().amax()) > 0
        linear = [layer for layer in classifier.canonical.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
        # squeeze-excitation has layers without relevance
        ruled = {rule.layer for rule in rules_of(classifier, contract)}
        assert len(ruled & set(linear)) >= len(linear) - 18


def counted_calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Calls of the library for convolutions, from now on."""
    counts = {"apply": 0, "transposed": 0}
    for name in counts:
        original = getattr(ConvolutionMap, name)

        def counting(*arguments: Any, name: str = name, original: Callable[..., Any] = original) -> Tensor:
            counts[name] += 1
            result: Tensor = original(*arguments)
            return result

        monkeypatch.setattr(ConvolutionMap, name, counting)
    return counts


@pytest.mark.parametrize("contract", [LrpEpsilonPlusFlat(), LrpEpsilonAlpha2Beta1Flat()], ids=kind)
def test_rectified_layers_run_once_more_forward_and_once_back(contract: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = counted_calls(monkeypatch)
    classifier = fresh("vgg11")
    ours(classifier, contract, pixels(1, SIZE), torch.tensor([0]))
    counts.update(apply=0, transposed=0)
    ours(classifier, contract, pixels(1, SIZE), torch.tensor([0]))
    # eight convolutions, of which the first is flat: its counts are known from the first call
    assert counts == {"apply": 8 + 7, "transposed": 8}


@pytest.mark.parametrize(("name", "calls"), [("plain", 1), ("grouped", 4)])
def test_parts_of_alpha_beta_share_a_call_unless_channels_are_grouped(
    name: str, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = counted_calls(monkeypatch)
    rule = rules.AlphaBetaRule(_layers()[name](), None, alpha=2.0, nonnegative=False)
    with torch.no_grad():
        y, saved = rule.evaluate(torch.randn(2, 8, 7, 7))
        rule.share(saved, torch.ones_like(y))
    assert counts == {"apply": 1 + calls, "transposed": calls}


class Scaled(nn.Conv2d):
    """Has a parameter that our rules do not know."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.scale * x[:, :6, 1:-1, 1:-1]


@pytest.mark.parametrize("contract", CONTRACTS, ids=kind)
def test_a_layer_without_a_rule_of_ours_keeps_zennits(contract: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(6)
        classifier = around(Scaled(8, 6, 3), nn.ReLU(), nn.ReLU())
    kept = [rule for rule in rules_of(classifier, contract) if isinstance(rule, rules.ZennitRule)]
    assert [type(rule.layer) for rule in kept] == [Scaled]
    images = pixels(2, 13)
    assert_parity(classifier, contract, images)
    # nothing stays in the hook
    assert kept[0].template.stored_tensors == {}


class ByName(nn.Module):
    """Calls layers by the name of their argument."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.rectifier, self.head = nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        features = self.rectifier(input=self.norm(input=self.convolution(input=x)))
        return self.head(input=features.mean((2, 3)))


@pytest.mark.parametrize("contract", CONTRACTS, ids=kind)
def test_layers_may_be_given_their_input_by_name(contract: Any) -> None:
    classifier = classifier_of(ByName(), 12)
    assert applicability(classifier, contract) is None
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in classifier.canonical.modules())
    assert_parity(classifier, contract, pixels(3, 12))


class Sized(nn.Module):
    """Tells a layer more than its input."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.head = nn.ConvTranspose2d(3, 4, 3, stride=2), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.up(x, (26, 26)).mean((2, 3)))


def test_layers_that_are_given_more_have_no_rule() -> None:
    reason = applicability(classifier_of(Sized(), 12), LrpEpsilonPlusFlat())
    assert "ConvTranspose2d layers that are given more than their input" in str(reason)


@pytest.mark.parametrize("contract", CONTRACTS, ids=kind)
def test_maps_are_relevance_times_the_score(contract: Any, digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:3]
    targets = torch.tensor([0, 2, 1])
    ledger = digit_classifier.ledger
    before = ledger.forward_images, ledger.backward_images
    attribution = explain(digit_classifier, contract, images, targets, Streams(7, ("a", "b", "c")))
    assert (ledger.forward_images - before[0], ledger.backward_images - before[1]) == (3, 3)
    expected = zennits(digit_classifier, contract, images, targets)
    scores = digit_classifier.logits(images).gather(1, targets[:, None])[:, :, None, None]
    assert_close(attribution.maps, expected * scores)
    torch.testing.assert_close(attribution.diagnostics["conservation"], expected.sum((1, 2, 3)), rtol=1e-3, atol=1e-5)


def test_altered_classifiers_have_rules_of_their_own(digit_classifier: Classifier) -> None:
    contract = LrpEpsilonPlusFlat()
    images = digits.digit_pixels()[0][:3]
    targets = digit_classifier.logits(images).argmax(1)
    before = ours(digit_classifier, contract, images, targets)

    def negate(module: nn.Module) -> None:
        for value in module.parameters():
            value.data.mul_(-0.5)

    altered = digit_classifier.altered(negate, digest="sha256:negated")
    assert lrp.model_with_rules(altered, contract) is not lrp.model_with_rules(digit_classifier, contract)
    assert_parity(altered, contract, images)
    assert float((ours(altered, contract, images, targets) - before).abs().amax()) > 1e-3 * float(before.abs().amax())
    assert torch.equal(ours(digit_classifier, contract, images, targets), before)


def test_rules_are_prepared_once_and_go_with_the_model() -> None:
    classifier = classifier_of(Branches(), 12)
    contract = LrpEpsilonGammaBox()
    model = lrp.model_with_rules(classifier, contract)
    assert lrp.model_with_rules(classifier, contract.model_copy(update={"name": "other"})) is model
    assert lrp.model_with_rules(classifier, LrpEpsilonGammaBox(gamma=0.5)) is not model
    gone = weakref.ref(model), weakref.ref(classifier.canonical)
    del model, classifier
    gc.collect()  # finds the canonical model, which is part of a cycle; and then what hung on it
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


@pytest.mark.parametrize("contract", ONE_IN_CI, ids=kind)
def test_no_memory_of_the_images_is_kept(contract: Any) -> None:
    classifier = classifier_of(Branches(), 12)

    def tensors() -> int:
        # what hangs on a cycle of another test goes only after it
        while gc.collect():
            pass
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    ours(classifier, contract, pixels(2, 12), torch.tensor([0, 1]))
    before = tensors()
    for count in (1, 3, 5):
        ours(classifier, contract, pixels(count, 12), torch.zeros(count, dtype=torch.long))
    assert tensors() == before
