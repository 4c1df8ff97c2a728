"""Which layer Grad-CAM reads: of every kind of block the output as a whole, around which nothing flows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from auditcore.contracts.explainers import GradCam
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.explainers.registry import applicability
from auditcore.models.classifier import Classifier
from auditcore.models.feature_maps import as_maps, token_grid

SIDE, WIDTH = 32, 6


def conv(given: int = WIDTH, width: int = WIDTH, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(given, width, 3, stride=stride, padding=1), nn.BatchNorm2d(width))


class Gated(nn.Module):
    """A residual block with squeeze-excitation, whose gate ends with a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.body = conv()
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(WIDTH, WIDTH, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return (x + y * self.gate(y)).relu()


class SpatiallyGated(nn.Module):
    """A gate of one value for each position, computed last."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.gate = conv(), nn.Conv2d(WIDTH, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return x * self.gate(x).sigmoid()


class Branches(nn.Module):
    """Branches that are concatenated, as in inception networks."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = conv(), nn.Sequential(nn.MaxPool2d(3, 1, 1), conv())

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.left(x), self.right(x)), dim=1)


class Dense(nn.Module):
    """Every convolution sees all before it, and what it gives is added to the list."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(), conv(2 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat((x, self.first(x)), dim=1)
        return torch.cat((x, self.second(x)), dim=1)


class Shortcut(nn.Module):
    """A shortcut with a convolution of its own, which runs last."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.downsample = conv(stride=2), conv(stride=2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return (y + self.downsample(x)).relu()


class Positions(nn.Module):
    """Adds a convolution of itself as a code of positions, as conditional position encodings do."""

    def __init__(self) -> None:
        super().__init__()
        self.code = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.code(x)


class Network(nn.Module):
    """A stem, blocks and a head."""

    def __init__(self, block: Callable[[], nn.Module], width: int = WIDTH) -> None:
        super().__init__()
        self.stem, self.stage = conv(3, stride=2), nn.Sequential(Gated(), block())
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stage(self.stem(x)).mean((2, 3)))


class Ends(nn.Module):
    """What lies behind the last block: pooling that keeps positions, dropout, identities or a normalization."""

    def __init__(self, *ends: nn.Module) -> None:
        super().__init__()
        self.stem, self.stage, self.ends = conv(3, stride=2), Gated(), nn.ModuleList(ends)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage(self.stem(x))
        for layer in self.ends:
            x = layer(x)
        return self.head(x.mean((2, 3)))


class ConvolutionalHead(nn.Module):
    """Classes by a convolution of one position, before pooling, as in squeezenet, or behind it."""

    def __init__(self, *, pools_first: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(conv(3, stride=2), nn.ReLU(), Branches())
        classifier = [nn.Conv2d(2 * WIDTH, 5, 1), nn.ReLU()]
        pool = [nn.AdaptiveAvgPool2d(1)]
        self.classifier = nn.Sequential(*(pool + classifier if pools_first else classifier + pool))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x)).flatten(1)


class TwoNetworks(nn.Module):
    """Two networks on one stem, or on the image, whose logits are averaged."""

    def __init__(self, *, stem: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 3, padding=1) if stem else None
        self.one, self.two = Network(Gated), Network(Gated)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.stem is None else self.stem(x)
        return (self.one(x) + self.two(x)) / 2


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return (self.query(x) @ self.key(x).mT).softmax(-1) @ self.value(x)


class TokenBlock(nn.Module):
    """One attention behind its normalization, or two side by side, each behind its own."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(heads))
        self.attentions = nn.ModuleList(Attention(width) for _ in range(heads))
        self.dense = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + sum(attend(norm(x)) for norm, attend in zip(self.norms, self.attentions, strict=True))
        return x + self.dense(x)


class Tokens(nn.Module):
    """A vision transformer that reads its first token, the mean of all, or nothing but the first two."""

    def __init__(self, *, prefix: int, read: int | None, heads: int = 1) -> None:
        super().__init__()
        width, self.read = 8, read
        self.patches = nn.Conv2d(3, width, 8, stride=8)
        self.prefix = nn.Parameter(torch.randn(1, prefix, width))
        self.blocks = nn.Sequential(*(TokenBlock(width, heads) for _ in range(3)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).mT
        x = self.norm(self.blocks(torch.cat((self.prefix.expand(len(x), -1, -1), x), dim=1)))
        return self.head(x[:, : self.read].mean(1))


def classifier(module: nn.Module, size: int = SIDE) -> Classifier:
    return Classifier(module, preprocessing=Preprocessing(resize=size, crop=size), trained=False)


@pytest.fixture(autouse=True)
def _same_weights() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


MADE: list[tuple[str, Callable[[], nn.Module], str | None]] = [
    ("squeeze-excitation", lambda: Network(Gated), "stage"),
    ("gate of positions", lambda: Network(SpatiallyGated), "stage"),
    ("concatenated branches", lambda: Network(Branches, 2 * WIDTH), "stage"),
    ("dense connections", lambda: Network(Dense, 3 * WIDTH), "stage"),
    ("shortcut", lambda: Network(Shortcut), "stage"),
    ("position code", lambda: Network(Positions), "stage"),
    ("pooling that keeps positions", lambda: Ends(nn.AdaptiveAvgPool2d(16), nn.AvgPool2d(2)), "stage"),
    ("dropout and identities", lambda: Ends(nn.Dropout(), nn.Identity()), "stage"),
    ("normalization", lambda: Ends(nn.BatchNorm2d(WIDTH)), "ends.0"),
    ("normalization and rectifier", lambda: Ends(nn.BatchNorm2d(WIDTH), nn.ReLU()), "ends.1"),
    ("rectifier in place", lambda: Ends(nn.BatchNorm2d(WIDTH), nn.ReLU(inplace=True)), "ends.1"),
    ("convolution of classes", lambda: ConvolutionalHead(pools_first=False), "classifier.1"),
    ("convolution behind the pooling", lambda: ConvolutionalHead(pools_first=True), "features"),
    ("class token", lambda: Tokens(prefix=1, read=1), "blocks.2.norms.0"),
    ("class and distillation token", lambda: Tokens(prefix=2, read=2), "blocks.2.norms.0"),
    ("registers, mean of all", lambda: Tokens(prefix=5, read=None), "norm"),
    ("mean of positions", lambda: Tokens(prefix=0, read=None), "norm"),
    ("two attentions side by side", lambda: Tokens(prefix=1, read=1, heads=2), "blocks.1"),
    ("two networks", lambda: TwoNetworks(stem=False), None),
    ("two networks on one stem", lambda: TwoNetworks(stem=True), None),
]


@pytest.mark.parametrize(("module", "layer"), [case[1:] for case in MADE], ids=[case[0] for case in MADE])
def test_every_kind_of_block_as_a_whole(module: Callable[[], nn.Module], layer: str | None) -> None:
    found = classifier(module())
    assert found.last_feature_layer == layer
    if layer is not None:
        assert_nothing_flows_around(found)


def test_without_such_a_block_a_layer_must_be_named() -> None:
    reason = str(applicability(classifier(TwoNetworks(stem=False)), GradCam()))
    assert reason.startswith("no block of the model holds everything that flows to the logits; name a layer")
    assert "'two.stage'" in reason
    assert applicability(classifier(TwoNetworks(stem=False)), GradCam(layer="two.stage")) is None


def test_one_convolution_is_a_block() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert classifier(module).last_feature_layer == "1"


def test_a_computation_without_a_gradient_has_no_block() -> None:
    class Detached(Network):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return super().forward(x)

    assert classifier(Detached(Gated)).last_feature_layer is None


def assert_nothing_flows_around(found: Classifier) -> None:
    """Two images with the same positions there have the same logits, but for what tokens before the grid carry."""
    layer = str(found.last_feature_layer)
    layout = found.layouts[layer]
    images = torch.rand(2, *found.shape, generator=torch.Generator().manual_seed(3))
    kept: list[Tensor] = []

    def freeze(_layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        kept.append(output[:1].expand_as(output).clone())
        return kept[-1].clone()

    place = found.module.get_submodule(layer)
    handle = place.register_forward_hook(freeze)
    with torch.inference_mode():
        frozen = found.module(found.normalize(images))
        handle.remove()
        free = found.module(found.normalize(images))
    assert not torch.equal(free[0], free[1])
    flow = next(flow for flow in found.flows if flow.name == layer)
    if flow.value is not None:
        torch.testing.assert_close(frozen[0], frozen[1], rtol=0, atol=1e-5 * float(frozen.abs().max()))
    else:  # the entrance of the last block: the class token goes around it, positions do not
        grid = token_grid(flow.shape[1], found.shape)
        assert grid is not None
        assert grid.prefix
    # and the logits do depend on its positions
    outputs: list[Tensor] = []
    handle = place.register_forward_hook(lambda _layer, _inputs, output: outputs.append(output))
    inputs = found.normalize(images).requires_grad_()
    logits = found.module(inputs)
    handle.remove()
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(4))
    (gradient,) = torch.autograd.grad(logits, outputs[-1], weights)
    assert float(as_maps(gradient, layout, found.shape).abs().max()) > 0


# --- published models ------------------------------------------------------------------------------

TORCHVISION = [
    ("resnet18", "layer4"),
    ("densenet121", "features"),
    ("squeezenet1_1", "classifier.2"),
    ("mobilenet_v2", "features"),
    ("mobilenet_v3_small", "features"),
    ("mnasnet0_5", "layers"),
    ("shufflenet_v2_x0_5", "conv5"),
    ("regnet_y_400mf", "trunk_output"),
    ("convnext_tiny", "features"),
]
TIMM = [
    ("skresnet18", "layer4"),
    ("resnest14d", "layer4"),
    ("ghostnet_100", "blocks"),
    ("efficientnet_b0", "bn2"),
    ("edgenext_xx_small", "stages"),
    ("mobilevit_xxs", "final_conv"),
    ("pvt_v2_b0", "stages"),
    ("poolformer_s12", "stages"),
    ("lcnet_050", "blocks"),
]
FIXED_SIZE = [
    ("deit_tiny_distilled_patch16_224", "blocks.11.norm1"),
    ("cait_xxs24_224", "blocks"),
    ("xcit_nano_12_p16_224", "cls_attn_blocks.1.norm1"),
    ("coat_lite_tiny", "serial_blocks4.1.norm1"),
    ("convit_tiny", "blocks.11.norm1"),
    ("levit_128s", "stages"),
    ("mixer_s32_224", "norm"),
]


@pytest.mark.parametrize(("name", "layer"), TORCHVISION)
def test_torchvision(name: str, layer: str) -> None:
    found = classifier(torchvision.models.get_model(name, weights=None), 64)
    assert found.last_feature_layer == layer
    assert_nothing_flows_around(found)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op")
@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_torchvision_with_branches(name: str) -> None:
    module = torchvision.models.get_model(name, weights=None, aux_logits=False, init_weights=False)
    found = classifier(module, 128)
    assert found.last_feature_layer == {"googlenet": "inception5b", "inception_v3": "Mixed_7c"}[name]
    assert_nothing_flows_around(found)


SIZED = [pytest.param(*case, 64, id=case[0]) for case in TIMM]
SIZED += [pytest.param(*case, 224, id=case[0], marks=pytest.mark.long) for case in FIXED_SIZE]


@pytest.mark.parametrize(("name", "layer", "size"), SIZED)
def test_timm(name: str, layer: str, size: int) -> None:
    module = timm.create_model(name, pretrained=False)
    for parameter in module.parameters():
        if not parameter.count_nonzero():  # a new head
            nn.init.normal_(parameter, std=0.02)
    found = classifier(module, size)
    assert found.last_feature_layer == layer
    assert_nothing_flows_around(found)
