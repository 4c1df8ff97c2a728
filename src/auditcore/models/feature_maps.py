"""Layouts of feature maps: how the outputs of convolutions and transformers keep positions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from auditcore.contracts.input_shape import InputShape
from auditcore.errors import ShapeError

Layout = Literal["channels_first", "channels_last", "tokens"]
"""(N,C,h,w); (N,h,w,C); or (N,T,C) with a grid of positions after some prefix tokens, the class token first.

The grid of a feature map has the proportions of the input, which distinguishes the layouts.
"""

_MOST_PREFIX_TOKENS = 5
"""A class token and four registers (DINOv2); DeiT has two."""

_CHANNELS_FIRST_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)
_CHANNELS_LAST_LAYERS = (nn.Linear, nn.LayerNorm)


class TokenGrid(NamedTuple):
    """How tokens lie over an image.

    Attributes:
        prefix: Tokens before the grid, such as a class token.
        height: Rows of the grid.
        width: Columns of the grid.
    """

    prefix: int
    height: int
    width: int


def layout_of(layer: nn.Module, output: object, shape: InputShape, *, images: int) -> Layout | None:
    """Return the layout of a layer's output, or None if it does not keep more than one position.

    Args:
        layer: The layer; its class decides if height, width and channels are alike.
        output: Output of the layer.
        shape: Channels, height and width of the model's input.
        images: Images in the batch; an output with a different length, such as windows, is not organized by image.
    """
    if not isinstance(output, Tensor) or len(output.shape) not in {3, 4} or len(output) != images:
        return None
    if output.ndim == 3:  # noqa: PLR2004 - (N,T,C)
        return None if token_grid(output.shape[1], shape) is None else "tokens"
    _, first, second, third = output.shape
    last_pair, first_pair = _proportional(second, third, shape), _proportional(first, second, shape)
    if isinstance(layer, _CHANNELS_FIRST_LAYERS) or (
        last_pair and not (first_pair and isinstance(layer, _CHANNELS_LAST_LAYERS))
    ):
        return "channels_first" if second * third > 1 else None
    return "channels_last" if first_pair and first * second > 1 else None


def as_maps(
    values: Float[Tensor, "image ..."], layout: Layout, shape: InputShape
) -> Float[Tensor, "image channel height width"]:
    """Convert a layer's output, or its gradient, to (N,C,h,w); prefix tokens are dropped.

    Args:
        values: The output or its gradient.
        layout: How it lays out positions.
        shape: Channels, height and width of the model's input.
    """
    match layout:
        case "channels_first":
            return values
        case "channels_last":
            return values.permute(0, 3, 1, 2)
        case "tokens":
            found = token_grid(values.shape[1], shape)
            if found is None:
                raise ShapeError(expected="tokens in a grid", actual=tuple(values.shape))
            grid: Tensor = values[:, found.prefix :].mT.unflatten(2, (found.height, found.width))
            return grid


def token_grid(tokens: int, shape: InputShape) -> TokenGrid | None:
    """Return how tokens lie over an image; None if they form no grid of square patches.

    Args:
        tokens: Number of tokens, those before the grid included.
        shape: Channels, height and width of the model's input.
    """
    for prefix in range(_MOST_PREFIX_TOKENS + 1):
        positions = tokens - prefix
        if positions <= 1:
            return None
        # patches are square, so the grid has the proportions of the input
        height = math.isqrt(positions * shape.height // shape.width)
        if height and positions % height == 0 and height * shape.width == positions // height * shape.height:
            return TokenGrid(prefix, height, positions // height)
    return None


def _proportional(height: int, width: int, shape: InputShape) -> bool:
    """Whether a grid has the proportions of the input, up to one position that strides round away."""
    if shape.height == shape.width:
        return height == width
    return abs(height * shape.width - width * shape.height) < max(shape.height, shape.width)


@contextmanager
def layers_run(module: nn.Module, shape: InputShape, *, images: int) -> Iterator[dict[str, Layout | None]]:
    """Record the layers that run inside the block, by their last run, with the layout of their last output.

    Args:
        module: The network.
        shape: Channels, height and width of its input.
        images: Images in the batch.
    """
    layouts: dict[str, Layout | None] = {}

    def record(name: str, layer: nn.Module, output: object) -> None:
        layouts.pop(name, None)  # a layer that runs twice is placed at its last run
        layouts[name] = layout_of(layer, output, shape, images=images)

    handles = [
        layer.register_forward_hook(lambda layer, _inputs, output, name=name: record(name, layer, output))
        for name, layer in module.named_modules()
        # TorchScript layers do not support hooks
        if name and not isinstance(layer, torch.jit.ScriptModule)
    ]
    try:
        yield layouts
    finally:
        for handle in handles:
            handle.remove()


def positions_reach_logits(module: nn.Module, layouts: Mapping[str, Layout], *, shape: InputShape) -> frozenset[str]:
    """Return the layers whose positions the logits depend on, in the layer's last run.

    After the attention of its last block, a vision transformer reads only the class token. This runs one forward and
    one backward pass of one random image.

    Args:
        module: The network.
        layouts: Layers to test.
        shape: Channels, height and width of the input.
    """
    runs: dict[str, list[bool]] = {name: [] for name in layouts}

    def watch(name: str, layer: nn.Module, output: Tensor) -> None:
        run = len(runs[name])
        runs[name].append(False)

        def reached(gradient: Tensor) -> None:
            runs[name][run] = bool(as_maps(gradient, layouts[name], shape).count_nonzero())

        # a layer that runs several times may lay out only some of its outputs in positions
        if output.requires_grad and layout_of(layer, output, shape, images=1) == layouts[name]:
            output.register_hook(reached)

    handles = [
        module.get_submodule(name).register_forward_hook(
            lambda layer, _inputs, output, name=name: watch(name, layer, output)
        )
        for name in layouts
    ]
    try:
        _forward_and_backward(module, shape=shape)
    finally:
        for handle in handles:
            handle.remove()
    return frozenset(name for name, reached in runs.items() if reached and reached[-1])


def grid_reaches_logits_around(
    module: nn.Module, layer: str, *, start: str, layouts: Mapping[str, Layout], shape: InputShape
) -> bool:
    """Return whether the logits depend on the positions of one layer on a path around those of another layer.

    This runs one forward and one backward pass of one random image, and blocks the gradient at the positions of
    `layer`. Tokens before the grid do not block it.

    Args:
        module: The network.
        layer: The layer whose positions block the gradient; its output is tokens.
        start: The layer to test; it runs earlier, and its output is tokens too.
        layouts: Layouts of the layers.
        shape: Channels, height and width of the input.
    """
    reached = []

    def close(output: Tensor) -> Tensor:
        found = token_grid(output.shape[1], shape)
        prefix = 0 if found is None else found.prefix
        return torch.cat((output[:, :prefix], output[:, prefix:].detach()), dim=1)

    def watch(output: Tensor) -> None:
        output.register_hook(
            lambda gradient: reached.append(bool(as_maps(gradient, layouts[start], shape).count_nonzero()))
        )

    handles = [
        module.get_submodule(layer).register_forward_hook(lambda _layer, _inputs, output: close(output)),
        module.get_submodule(start).register_forward_hook(lambda _layer, _inputs, output: watch(output)),
    ]
    try:
        _forward_and_backward(module, shape=shape)
    finally:
        for handle in handles:
            handle.remove()
    return any(reached)


def _forward_and_backward(module: nn.Module, *, shape: InputShape) -> None:
    """Pass one random image forward, and the gradient of a random combination of the logits backward.

    Only the structure matters here, so parameters that are all zero, such as those of a new head, get random values
    during the pass.
    """
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    filled = {
        f"module.{name}": torch.randn(parameter.shape, generator=generator).to(parameter)
        for name, parameter in module.named_parameters()
        if not parameter.count_nonzero()
    }
    image = torch.randn(1, *shape, generator=generator).to(device).requires_grad_()
    with torch.enable_grad():
        logits = functional_call(_Unhooked(module), filled, (image,))
    # random weights, so that nothing cancels
    torch.autograd.grad(logits, image, torch.randn(logits.shape, generator=generator).to(device))


class _Unhooked(nn.Module):
    """Runs a model without its own hooks: the ledger of passes must not count this pass."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: Float[Tensor, "image channel height width"]) -> Tensor:
        """Return the model's logits."""
        logits: Tensor = self.module.forward(image)
        return logits
