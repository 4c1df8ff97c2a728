"""Layouts of feature maps: how the outputs of convolutions and transformers keep positions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

Layout = Literal["channels_first", "channels_last", "tokens"]
"""(N,C,h,w); (N,h,w,C); or (N,T,C) with a square number of positions after some prefix tokens, the class token first.

Inputs and their feature maps are square, which distinguishes the layouts.
"""

_MOST_PREFIX_TOKENS = 5
"""A class token and four registers (DINOv2); DeiT has two."""

_CHANNELS_FIRST_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)
_CHANNELS_LAST_LAYERS = (nn.Linear, nn.LayerNorm)


def layout_of(layer: nn.Module, output: object, *, images: int) -> Layout | None:
    """Return the layout of a layer's output, or None if it does not keep more than one position.

    Args:
        layer: The layer; its class decides if height, width and channels are equal.
        output: Output of the layer.
        images: Images in the batch; an output with a different length, such as windows, is not organized by image.
    """
    if not isinstance(output, Tensor) or len(output.shape) not in {3, 4} or len(output) != images:
        return None
    if output.ndim == 3:  # noqa: PLR2004 - (N,T,C)
        return "tokens" if prefix_tokens(output.shape[1]) is not None else None
    _, first, second, third = output.shape
    if isinstance(layer, _CHANNELS_FIRST_LAYERS) or (
        second == third and not (first == second and isinstance(layer, _CHANNELS_LAST_LAYERS))
    ):
        return "channels_first" if second * third > 1 else None
    return "channels_last" if first == second > 1 else None


def as_maps(values: Float[Tensor, "image ..."], layout: Layout) -> Float[Tensor, "image channel height width"]:
    """Convert a layer's output, or its gradient, to (N,C,h,w); prefix tokens are dropped."""
    match layout:
        case "channels_first":
            return values
        case "channels_last":
            return values.permute(0, 3, 1, 2)
        case "tokens":
            prefix = prefix_tokens(values.shape[1]) or 0
            side = math.isqrt(values.shape[1] - prefix)
            grid: Tensor = values[:, prefix:].mT.unflatten(2, (side, side))
            return grid


def prefix_tokens(tokens: int) -> int | None:
    """Return the number of tokens before a square grid of at least two positions per side, or None without a grid."""
    side = math.isqrt(tokens)
    prefix = tokens - side**2
    return prefix if side > 1 and prefix <= _MOST_PREFIX_TOKENS else None


@contextmanager
def layers_run(module: nn.Module, *, images: int) -> Iterator[dict[str, Layout | None]]:
    """Record the layers that run inside the block, by their last run, with the layout of their last output.

    Args:
        module: The network.
        images: Images in the batch.
    """
    layouts: dict[str, Layout | None] = {}

    def record(name: str, layer: nn.Module, output: object) -> None:
        layouts.pop(name, None)  # a layer that runs twice is placed at its last run
        layouts[name] = layout_of(layer, output, images=images)

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


def positions_reach_logits(module: nn.Module, layouts: Mapping[str, Layout], *, size: int) -> frozenset[str]:
    """Return the layers whose positions the logits depend on, in the layer's last run.

    After the attention of its last block, a vision transformer reads only the class token. This runs one forward and
    one backward pass of one random image.

    Args:
        module: The network.
        layouts: Layers to test.
        size: Side of the input, in pixels.
    """
    runs: dict[str, list[bool]] = {name: [] for name in layouts}

    def watch(name: str, output: Tensor) -> None:
        run = len(runs[name])
        runs[name].append(False)

        def reached(gradient: Tensor) -> None:
            runs[name][run] = bool(as_maps(gradient, layouts[name]).count_nonzero())

        if output.requires_grad:
            output.register_hook(reached)

    handles = [
        module.get_submodule(name).register_forward_hook(lambda _layer, _inputs, output, name=name: watch(name, output))
        for name in layouts
    ]
    try:
        _forward_and_backward(module, size=size)
    finally:
        for handle in handles:
            handle.remove()
    return frozenset(name for name, reached in runs.items() if reached and reached[-1])


def grid_reaches_logits_around(
    module: nn.Module, layer: str, *, start: str, layouts: Mapping[str, Layout], size: int
) -> bool:
    """Return whether the logits depend on the positions of one layer on a path around those of another layer.

    This runs one forward and one backward pass of one random image, and blocks the gradient at the positions of
    `layer`. Tokens before the grid do not block it.

    Args:
        module: The network.
        layer: The layer whose positions block the gradient; its output is tokens.
        start: The layer to test; it runs earlier, and its output is tokens too.
        layouts: Layouts of the layers.
        size: Side of the input, in pixels.
    """
    reached = []

    def close(output: Tensor) -> Tensor:
        prefix = prefix_tokens(output.shape[1]) or 0
        return torch.cat((output[:, :prefix], output[:, prefix:].detach()), dim=1)

    def watch(output: Tensor) -> None:
        output.register_hook(lambda gradient: reached.append(bool(as_maps(gradient, layouts[start]).count_nonzero())))

    handles = [
        module.get_submodule(layer).register_forward_hook(lambda _layer, _inputs, output: close(output)),
        module.get_submodule(start).register_forward_hook(lambda _layer, _inputs, output: watch(output)),
    ]
    try:
        _forward_and_backward(module, size=size)
    finally:
        for handle in handles:
            handle.remove()
    return any(reached)


def _forward_and_backward(module: nn.Module, *, size: int) -> None:
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
    image = torch.randn(1, 3, size, size, generator=generator).to(device).requires_grad_()
    with torch.enable_grad():
        logits = functional_call(_Unhooked(module), filled, (image,))
    # random weights, so that nothing cancels
    torch.autograd.grad(logits, image, torch.randn(logits.shape, generator=generator).to(device))


class _Unhooked(nn.Module):
    """Runs a model without its own hooks: the ledger of passes must not count this pass."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: Float[Tensor, "image 3 size size"]) -> Tensor:
        """Return the model's logits."""
        logits: Tensor = self.module.forward(image)
        return logits
