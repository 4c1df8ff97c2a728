"""A folded model is the same function, and layers that are read give what they gave."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import NotApplicable
from auditcore.explainers.shared_pass import pass_once
from auditcore.models.classifier import Classifier
from auditcore.models.folding import fold

SIZE = 16


class Network(nn.Module):
    """Convolutions with batch normalization behind them, a block, and a layer that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.twice = nn.Conv2d(6, 6, 1)
        self.dropout = nn.Dropout()
        self.last = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.norm(self.first(x)).relu())
        x = self.twice(self.twice(x).relu())
        return self.last(self.dropout(x).mean((2, 3)))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    module = Network().eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            # statistics with which normalization is no identity
            layer.running_mean = torch.randn(6)
            layer.running_var = 0.5 + torch.rand(6)
    return module


def listen(module: nn.Module, layer: str, seen: list[Tensor]) -> RemovableHandle:
    return module.get_submodule(layer).register_forward_hook(lambda _layer, _inputs, output: seen.append(output))


def output_of(module: nn.Module, layer: str, x: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = listen(module, layer, seen)
    module(x)
    handle.remove()
    return seen[-1]


def norms(module: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


def test_logits_stay_and_normalization_goes(network: nn.Module) -> None:
    found = fold(network, shape=InputShape(3, SIZE, SIZE))
    x = torch.randn(3, 3, SIZE, SIZE)
    assert norms(network) == 2
    assert norms(found.module) == 0
    assert torch.allclose(found.module(x), network(x), atol=1e-5)


def test_a_layer_that_is_read_gives_what_it_gave(network: nn.Module) -> None:
    found = fold(network, shape=InputShape(3, SIZE, SIZE), keep=("block.0", "first"))
    assert list(found.layers) == ["block.0", "first"]
    assert norms(found.module) == 2
    x = torch.randn(3, 3, SIZE, SIZE)
    for name, place in found.layers.items():
        assert torch.allclose(output_of(found.module, place, x), output_of(network, name, x), atol=1e-5)
    # around a layer that is not read normalization still goes
    assert norms(fold(network, shape=InputShape(3, SIZE, SIZE), keep=("first",)).module) == 1


def test_a_container_is_read_at_its_end_and_folded_inside(network: nn.Module) -> None:
    found = fold(network, shape=InputShape(3, SIZE, SIZE), keep=("block", "norm"))
    assert norms(found.module) == 1
    x = torch.randn(3, 3, SIZE, SIZE)
    assert torch.allclose(found.module(x), network(x), atol=1e-5)
    for name, place in found.layers.items():
        assert torch.allclose(output_of(found.module, place, x), output_of(network, name, x), atol=1e-5)
    assert not any(layer._forward_hooks for layer in network.modules())


@pytest.mark.parametrize("layer", ["twice", "dropout", "absent"])
def test_a_layer_that_is_not_a_single_step_cannot_be_kept(network: nn.Module, layer: str) -> None:
    with pytest.raises(NotApplicable, match=repr(layer)):
        fold(network, shape=InputShape(3, SIZE, SIZE), keep=(layer,))


def test_copies_for_layers_do_not_pile_up(network: nn.Module) -> None:
    classifier = Classifier(network, preprocessing=Preprocessing(resize=SIZE, crop=SIZE))
    layers = ("first", "norm", "block", "block.1", "block.2")
    kept = [weakref.ref(classifier.readable((layer,)).module) for layer in layers]
    gc.collect()
    assert [reference() is not None for reference in kept] == [False, False, True, True, True]
    assert classifier.readable(("block.2",)).module is kept[-1]()


@pytest.mark.parametrize("layer", ["block.0", "first", "block", "twice"])
def test_features_and_gradients_are_those_of_the_model_itself(network: nn.Module, layer: str) -> None:
    classifier = Classifier(network, preprocessing=Preprocessing(resize=SIZE, crop=SIZE))
    x, target = torch.randn(3, 3, SIZE, SIZE), torch.tensor([0, 1, 3])
    found = pass_once(classifier, x, target, gradient=True, layers=(layer,))
    seen: list[Tensor] = []
    handle = listen(classifier.module, layer, seen)
    leaf = x.clone().requires_grad_()
    score = classifier.module(leaf).gather(1, target[:, None]).sum()
    handle.remove()
    expected = torch.autograd.grad(score, [leaf, seen[-1]])
    assert found.gradient is not None
    assert torch.allclose(found.gradient, expected[0], atol=1e-6)
    features, slopes = found.features[layer]
    assert torch.allclose(features, seen[-1], atol=1e-5)
    assert torch.allclose(slopes, expected[1], atol=1e-6)
    assert (classifier.readable((layer,)).module is classifier.module) == (layer == "twice")
