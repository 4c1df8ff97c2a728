"""Canonical form: the same function, and a module for every rule to hook."""

from __future__ import annotations

import functools
import itertools

import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn
from torch.nn.utils.parametrizations import weight_norm
from zennit.layer import Sum

import reference_explainers
from architectures import architecture
from auditcore.contracts.access import AccessRules
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.models import DemoModel
from auditcore.errors import NotApplicable
from auditcore.models.canonical import called_module, canonicalize, rectifiers, signal_path
from auditcore.models.layers import Addition, Gate, SpatialMean
from auditcore.models.loading import load_classifier

SIZE = 64
ARCHITECTURES = (
    "resnet18",
    "resnet50",
    "vgg16",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "shufflenet_v2_x0_5",
)


def fresh(name: str) -> nn.Module:
    """Random weights, but statistics of a model that has seen data, so that merging has something to do."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = architecture(name).eval()
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 1.5)
                nn.init.uniform_(layer.weight, 0.8, 1.2)
                nn.init.normal_(layer.bias, 0, 0.1)
    return module


# one at a time: together they would fill the memory
@functools.lru_cache(maxsize=1)
def canonical_of(name: str) -> nn.Module:
    return canonicalize(fresh(name), shape=InputShape(3, SIZE, SIZE))


def images(count: int = 3, size: int = SIZE) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(5))


def assert_same_function(module: nn.Module, canonical: nn.Module, inputs: Tensor) -> None:
    with torch.no_grad():
        expected, actual = module(inputs), canonical(inputs)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().amax()))


def kinds(canonical: nn.Module) -> list[str]:
    """Types of the called modules, in order."""
    assert isinstance(canonical, fx.GraphModule)
    layers = (called_module(canonical, node) for node in canonical.graph.nodes)
    return [type(layer).__name__ for layer in layers if layer is not None]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_torchvision_models_keep_their_function(name: str) -> None:
    assert_same_function(fresh(name), canonical_of(name), images())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_module_is_called_once_and_nothing_is_in_place(name: str) -> None:
    canonical = canonical_of(name)
    assert isinstance(canonical, fx.GraphModule)
    called = [called_module(canonical, node) for node in canonical.graph.nodes if node.op == "call_module"]
    assert len(called) == len(set(called))
    assert not any(getattr(layer, "inplace", False) for layer in canonical.modules())
    # registered in execution order, which is how zennit finds the first layer
    assert list(canonical.children()) == called
    left = {node.target for node in canonical.graph.nodes if node.op in {"call_function", "call_method"}}
    assert not left & {F.relu, F.relu6, torch.relu, torch.add, "relu", "relu_", "add_"}
    assert not {"Dropout", "StochasticDepth", "Identity"} & set(kinds(canonical))


def test_the_original_stays_as_it_was() -> None:
    module = reference_explainers.ResidualNet()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    canonicalize(module, shape=InputShape(3, 8, 8))
    assert module.relu6.inplace
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_the_demo_model_keeps_its_padded_convolutions_whole() -> None:
    classifier = load_classifier(DemoModel(), access=AccessRules())
    canonical = canonicalize(classifier.module, shape=InputShape(3, 224, 224))
    assert_same_function(classifier.module, canonical, images(2, 224))
    convolutions = [layer for layer in classifier.module.modules() if isinstance(layer, nn.Conv2d)]
    counted = kinds(canonical)
    assert counted.count("Conv2dStaticSamePadding") == len(convolutions) == 49
    # one activation shared by a whole block has become one for each call
    assert counted.count("ReLU6") == 33
    assert counted.count("Addition") == 9
    assert "BatchNorm2d" not in counted


def test_additions_are_sums_that_zennit_knows() -> None:
    canonical = canonical_of("resnet18")
    assert sum(isinstance(layer, Sum) for layer in canonical.modules()) == 8


def test_batch_norm_merges_only_where_it_follows_a_linear_layer() -> None:
    counted = kinds(canonical_of("densenet121"))
    # norm1 and the norms of transitions follow a concatenation; norm0 and norm2 follow a convolution
    assert counted.count("BatchNorm2d") == 58 + 3 + 1
    assert "BatchNorm2d" not in kinds(canonical_of("resnet50"))


def test_gates_take_the_sigmoid_as_gate_in_any_order() -> None:
    class Gated(nn.Module):
        def __init__(self, *, gate_first: bool) -> None:
            super().__init__()
            self.conv, self.squeeze, self.gate_first = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), gate_first
            self.inner = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            gate = torch.sigmoid(self.squeeze(self.inner(F.adaptive_avg_pool2d(x, 1))))
            x = gate * x if self.gate_first else x * gate
            return x.mean((2, 3))

    for gate_first in (True, False):
        module = Gated(gate_first=gate_first).eval()
        canonical = canonicalize(module, shape=InputShape(3, 16, 16))
        assert isinstance(canonical, fx.GraphModule)
        assert_same_function(module, canonical, images(size=16))
        (gate,) = [node for node in canonical.graph.nodes if isinstance(called_module(canonical, node), Gate)]
        assert [str(argument.target) for argument in gate.args] == ["conv", "sigmoid_2"]
        # the signal never meets the rectifier inside the gate
        assert "inner" not in [str(node.target) for node in signal_path(canonical)]
        assert rectifiers(canonical) == []


class Functional(nn.Module):
    """Everything as functions, nothing as modules."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.one(x), inplace=True)
        x = F.relu6(self.two(x)).add(x)
        x = F.leaky_relu(self.two(x), negative_slope=0.2) + F.hardtanh(x, 0, 6)
        x = F.dropout(torch.relu(x) + x.clamp(min=0), training=self.training)
        x = F.avg_pool2d(x, 2)
        # models that are trained in half precision end so
        return self.head(sum([x, x.relu()]).mean(dim=(-1, -2)).to(torch.float32) * 0.5).float()


def test_functions_become_modules() -> None:
    torch.manual_seed(0)
    module = Functional().eval()
    canonical = canonicalize(module, shape=InputShape(3, 16, 16))
    assert_same_function(module, canonical, images(size=16))
    assert kinds(canonical) == [
        *("Conv2d", "ReLU", "Conv2d", "ReLU6", "Addition", "Conv2d", "LeakyReLU", "ReLU6", "Addition"),
        *("ReLU", "ReLU", "Addition", "AvgPool2d", "ReLU", "Addition", "SpatialMean", "Gate", "Linear"),
    ]
    assert len(rectifiers(canonical)) == 7
    slopes = [layer.negative_slope for layer in canonical.modules() if isinstance(layer, nn.LeakyReLU)]
    assert slopes == [0.2]


def test_a_shared_layer_shares_weights_but_not_hooks() -> None:
    canonical = canonicalize(Functional().eval(), shape=InputShape(3, 16, 16))
    twice = [layer for name, layer in canonical.named_children() if name.startswith("two")]
    assert len(twice) == 2
    assert twice[0] is not twice[1]
    assert twice[0].weight is twice[1].weight


def test_a_layer_shared_between_two_norms_is_merged_with_each() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
            nn.init.constant_(self.first.weight, 2.0)
            nn.init.constant_(self.second.weight, 3.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.conv(self.first(self.conv(x)))).mean((2, 3))

    module = Shared().eval()
    canonical = canonicalize(module, shape=InputShape(3, 16, 16))
    assert kinds(canonical) == ["Conv2d", "Conv2d", "SpatialMean"]
    assert_same_function(module, canonical, images(size=16))


def test_norm_layers_with_built_in_activation_are_taken_apart() -> None:
    module = timm.create_model("efficientnet_lite0", pretrained=False).eval()
    canonical = canonicalize(module, shape=InputShape(3, SIZE, SIZE))
    assert_same_function(module, canonical, images())
    assert "ReLU6" in kinds(canonical)
    assert not {"BatchNormAct2d", "BatchNorm2d"} & set(kinds(canonical))


class Standardized(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight / self.weight.norm(), self.bias, padding=1)


class Rectified(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


@pytest.mark.parametrize("layer", [Standardized(3, 4, 3), Rectified(3, 4, 3)], ids=["standardized", "rectified"])
def test_a_convolution_that_does_more_is_not_kept_whole(layer: nn.Module) -> None:
    module = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    canonical = canonicalize(module, shape=InputShape(3, 16, 16))
    assert type(layer).__name__ not in kinds(canonical)
    assert_same_function(module, canonical, images(size=16))


def test_a_parametrized_weight_is_fixed_at_its_value() -> None:
    module = nn.Sequential(weight_norm(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    canonical = canonicalize(module, shape=InputShape(3, 16, 16))
    assert kinds(canonical) == ["Conv2d", "ReLU", "AdaptiveAvgPool2d", "Flatten"]
    assert_same_function(module, canonical, images(size=16))


def test_control_flow_on_values_is_not_applicable() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)) if x.sum() > 0 else -x.mean((2, 3))

    with pytest.raises(NotApplicable, match=r"cannot be traced .* by torch\.fx"):
        canonicalize(Branching(), shape=InputShape(3, 16, 16))


def test_a_function_that_lives_on_in_place_effects_is_not_applicable() -> None:
    class Overwriting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = x * 2
            rectified = F.relu(x, inplace=True)
            return (x + rectified).mean((2, 3))  # x has been overwritten by now

    with pytest.raises(NotApplicable, match="its logits would change"):
        canonicalize(Overwriting(), shape=InputShape(3, 16, 16))


def test_optional_arguments_keep_their_defaults() -> None:
    class Optional(nn.Module):
        def forward(self, x: Tensor, mask: Tensor | None = None, scale: float = 2.0) -> Tensor:
            x = F.relu(x)
            if mask is not None:
                x = x * mask
            return x.mean((2, 3)) * scale

    assert kinds(canonicalize(Optional(), shape=InputShape(3, 16, 16))) == ["ReLU", "SpatialMean", "Gate"]


def test_own_layers_compute_what_they_replace() -> None:
    left, right = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(Addition()(left, right), left + right)
    torch.testing.assert_close(Gate()(left, right[:, :, :1, :1]), left * right[:, :, :1, :1])
    for keep in (True, False):
        torch.testing.assert_close(SpatialMean(keep_dimensions=keep)(left), left.mean((2, 3), keepdim=keep))


def test_signal_path_refuses_other_modules() -> None:
    with pytest.raises(TypeError, match="expected a canonical model, got Linear"):
        signal_path(nn.Linear(1, 1))


def test_signal_path_is_in_execution_order() -> None:
    canonical = canonicalize(reference_explainers.ResidualNet(), shape=InputShape(3, 8, 8))
    names = [str(node.target) for node in signal_path(canonical)]
    wanted = ["stem", "inner", "outer", "down", "head"]
    positions = [names.index(name) for name in wanted]
    assert all(before < after for before, after in itertools.pairwise(positions))
