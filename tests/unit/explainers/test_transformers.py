"""Grad-CAM on token grids, and gradient methods on transformers."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import captum.attr
import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
from torch import Tensor, nn

from auditcore.contracts.explainers import (
    Deconvolution,
    DeepLift,
    GradCam,
    Gradient,
    GradientShap,
    GuidedBackpropagation,
    InputXGradient,
    IntegratedGradients,
    LrpEpsilonPlusFlat,
    NoiseTunnel,
    Saliency,
    SmoothGrad,
)
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import NotApplicable
from auditcore.explainers.registry import applicability, explain
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

STREAMS = Streams(7, tuple(f"sha256:{number}" for number in range(5)))
SIDE, PATCH = 16, 4
GRADIENTS: list[Any] = [
    Gradient(),
    Saliency(),
    InputXGradient(),
    IntegratedGradients(steps=2),
    GradientShap(samples=2),
    SmoothGrad(samples=2),
    NoiseTunnel(samples=2),
]


def kind(contract: Any) -> str:
    return str(contract.kind)


class TinyAttention(nn.Module):
    """Softmax attention of one head, its layers called as layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
        return self.out(weights @ value)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), TinyAttention(width)
        self.norm2, self.dense = (
            nn.LayerNorm(width),
            nn.Sequential(nn.Linear(width, 16), nn.GELU(), nn.Linear(16, width)),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.dense(self.norm2(x))


class TinyVit(nn.Module):
    """Patches of 4 pixels, some prefix tokens, two blocks; reads the first token or the mean of all."""

    def __init__(self, *, prefix: int = 1, mean: bool = False, width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.mean = nn.Conv2d(3, width, PATCH, stride=PATCH), mean
        self.prefix = nn.Parameter(torch.randn(1, prefix, width))
        self.position = nn.Parameter(torch.randn(1, prefix + (SIDE // PATCH) ** 2, width))
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).mT
        x = torch.cat([self.prefix.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        x = self.norm(self.blocks(x))
        return self.head(x.mean(1) if self.mean else x[:, 0])


class ChannelsLast(nn.Module):
    """Attention over positions that keep their grid, channels last, as in Swin transformers."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.norm = nn.Conv2d(3, width, PATCH, stride=PATCH), nn.LayerNorm(width)
        self.attention, self.last = TinyAttention(width), nn.LayerNorm(width)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.patches(x).permute(0, 2, 3, 1))
        x = self.last(x + self.attention(x.flatten(1, 2)).unflatten(1, x.shape[1:3]))
        return self.head(x.mean((1, 2)))


def tiny(module: nn.Module) -> Classifier:
    return Classifier(module, preprocessing=Preprocessing(resize=SIDE, crop=SIDE))


# one at a time: together they would fill the memory
@functools.lru_cache(maxsize=1)
def large(name: str) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name.startswith("vit_tiny"):
            module = timm.create_model(name, pretrained=False)
        else:
            module = torchvision.models.get_model(name, weights=None)
        if isinstance(module, torchvision.models.VisionTransformer):
            nn.init.normal_(module.heads.head.weight, std=0.02)  # torchvision starts it at zero
    size = 64 if name == "swin_t" else 224
    return Classifier(module, preprocessing=Preprocessing(resize=size, crop=size))


def pixels(count: int, size: int = SIDE) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def by_hand(model: Classifier, layer: str, images: Tensor, targets: Tensor, *, prefix: int | None) -> np.ndarray:
    """Grad-CAM of tokens (prefix given) or of channels last, in float64, with loops over images and positions."""
    kept: list[Tensor] = []
    module = model.module.double()
    handle = module.get_submodule(layer).register_forward_hook(lambda _l, _i, output: kept.append(output))
    inputs = model.normalize(images).double().requires_grad_()
    logits = module(inputs)
    handle.remove()
    (gradients,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), kept[-1])
    module.float()
    maps = []
    for feature, gradient in zip(kept[-1].detach().numpy(), gradients.numpy(), strict=True):
        if prefix is None:
            side = len(feature)
            cells = {(y, x): (feature[y, x], gradient[y, x]) for y in range(side) for x in range(side)}
        else:
            side = round((len(feature) - prefix) ** 0.5)
            cells = {
                (y, x): (feature[prefix + y * side + x], gradient[prefix + y * side + x])
                for y in range(side)
                for x in range(side)
            }
        weights = sum(gradient for _, gradient in cells.values()) / side**2
        cam = np.zeros((side, side))
        for place, (values, _) in cells.items():
            cam[place] = max(float(weights @ values), 0)
        maps.append(cam)
    small = torch.from_numpy(np.array(maps))[:, None]
    return F.interpolate(small, size=tuple(images.shape[2:]), mode="bilinear", align_corners=False).numpy()


def assert_by_hand(model: Classifier, contract: GradCam, layer: str, images: Tensor, prefix: int | None) -> None:
    targets = torch.arange(len(images)) + 1
    assert applicability(model, contract) is None
    actual = explain(model, contract, images, targets, STREAMS.take(range(len(images))), micro_batch=2).maps
    expected = by_hand(model, layer, images, targets, prefix=prefix)
    assert expected.max() > 0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * expected.max())


# --- tokens and channels last, by hand -------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "layer", "prefix"),
    [
        (TinyVit(), "blocks.1.norm1", 1),
        (TinyVit(prefix=2), "blocks.1.norm1", 2),
        (TinyVit(prefix=0, mean=True), "norm", 0),
        (TinyVit(prefix=5, mean=True), "norm", 5),
        (ChannelsLast(), "last", None),
    ],
    ids=["class token", "two prefix tokens", "mean without prefix", "registers", "channels last"],
)
def test_the_last_layer_whose_positions_are_read(module: nn.Module, layer: str, prefix: int | None) -> None:
    model = tiny(module)
    assert model.last_feature_layer == layer
    assert_by_hand(model, GradCam(), layer, pixels(3), prefix)


@pytest.mark.parametrize("layer", ["blocks.0", "blocks.0.attention.out", "blocks.1.attention.qkv"])
def test_named_layers_of_tokens(layer: str) -> None:
    assert_by_hand(tiny(TinyVit()), GradCam(layer=layer), layer, pixels(2), 1)


def test_a_class_token_without_a_grid_has_no_layout() -> None:
    # after the last attention the logits read only the class token: a map of zeros has no meaning
    model = tiny(TinyVit())
    reason = applicability(model, GradCam(layer="blocks.1"))
    assert "do not depend on the positions of layer 'blocks.1'" in str(reason)
    assert str(reason).endswith(
        "layers on whose positions they do, from the last: 'blocks.1.norm1', 'blocks.0', 'patches'"
    )
    with pytest.raises(NotApplicable, match="only on its class token"):
        explain(model, GradCam(layer="blocks.1"), pixels(1), torch.tensor([0]), STREAMS.take([0]))
    assert "did you mean 'blocks.1" in str(applicability(model, GradCam(layer="blocks.1.nrm1")))


def test_maps_do_not_depend_on_the_batch() -> None:
    model, images, targets = tiny(TinyVit()), pixels(5), torch.tensor([1, 2, 3, 4, 0])
    together = explain(model, GradCam(), images, targets, STREAMS, micro_batch=3).maps
    alone = explain(model, GradCam(), images[3:], targets[3:], STREAMS.take([3, 4]), micro_batch=1).maps
    torch.testing.assert_close(alone, together[3:], rtol=0, atol=1e-5 * float(together.max()))


def test_the_choice_is_made_once_and_not_counted() -> None:
    model = tiny(TinyVit())
    before = model.ledger.forward_images, model.ledger.backward_images
    assert applicability(model, GradCam()) is None
    assert (model.ledger.forward_images, model.ledger.backward_images) == before
    assert "last_feature_layer" in model.__dict__
    assert not any(layer._forward_hooks for name, layer in model.module.named_modules() if name)


def test_a_new_head_of_zeros_does_not_change_the_choice() -> None:
    module = TinyVit()
    nn.init.zeros_(module.head.weight)
    assert tiny(module).last_feature_layer == "blocks.1.norm1"


# --- published models ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layer", "prefix"),
    [
        ("swin_t", "norm", None),
        ("vit_tiny_patch16_224", "blocks.11.norm1", 1),
        pytest.param("vit_b_16", "encoder.layers.encoder_layer_11.ln_1", 1, marks=[pytest.mark.slow, pytest.mark.long]),
    ],
)
def test_published_transformers(name: str, layer: str, prefix: int | None) -> None:
    model = large(name)
    assert model.last_feature_layer == layer
    assert_by_hand(model, GradCam(), layer, pixels(1, model.shape.height), prefix)


@pytest.mark.parametrize("contract", GRADIENTS, ids=kind)
@pytest.mark.parametrize(
    "name", ["swin_t", "vit_tiny_patch16_224", pytest.param("vit_b_16", marks=[pytest.mark.slow, pytest.mark.long])]
)
def test_gradient_methods_run(name: str, contract: Any) -> None:
    model = large(name)
    assert applicability(model, contract) is None
    maps = explain(model, contract, pixels(1, model.shape.height), torch.tensor([3]), STREAMS.take([0])).maps
    assert maps.shape[2:] == model.shape[1:]
    assert maps.isfinite().all()
    assert float(maps.std()) > 0


def test_methods_of_layers_have_a_reason_why_they_do_not_run() -> None:
    reason = str(applicability(tiny(TinyVit()), GuidedBackpropagation()))
    assert reason.startswith("the model has no rectifier")
    assert "its activations are GELU; this method would be the plain gradient under another name" in reason
    assert "LayerNorm" in str(applicability(tiny(TinyVit()), DeepLift()))


class Untraceable(TinyVit):
    """Its forward asks for the value of a pixel, and torch.fx cannot trace it."""

    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(super().forward(x if float(x.detach().sum()) > -1e9 else -x))


@pytest.mark.parametrize("contract", [GuidedBackpropagation(), Deconvolution()], ids=kind)
def test_rectifiers_are_sought_in_what_runs_where_a_model_cannot_be_traced(contract: Any) -> None:
    model = tiny(Untraceable(nn.Identity()))
    assert "its activations are GELU" in str(applicability(model, contract))
    assert model.ledger.forward_images == 0
    for rectifier in (nn.ReLU(), nn.ReLU6(), nn.LeakyReLU()):
        assert "cannot be traced" in str(applicability(tiny(Untraceable(rectifier)), contract))


def test_captum_returns_the_plain_gradient_where_guided_backpropagation_is_not_applicable() -> None:
    model, images, targets = tiny(TinyVit()), pixels(2), torch.tensor([1, 2])
    with warnings.catch_warnings():
        # it warns of its own hooks
        warnings.simplefilter("ignore")
        guided = captum.attr.GuidedBackprop(model.module).attribute(model.normalize(images), targets)
    gradient = explain(model, Gradient(), images, targets, STREAMS.take([0, 1])).maps
    torch.testing.assert_close(guided, gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("module", [TinyVit(), Untraceable(nn.Identity())], ids=["traced", "not traced"])
def test_composites_of_lrp_name_the_rules_for_transformers(module: nn.Module) -> None:
    assert str(applicability(tiny(module), LrpEpsilonPlusFlat())).endswith("; use attn_lrp")
    assert "attn_lrp" not in str(applicability(tiny(nn.Sequential(nn.Flatten(), Power())), LrpEpsilonPlusFlat()))


class Power(nn.Module):
    """An operation without a rule."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :5] ** 3
