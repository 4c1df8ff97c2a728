"""Linear layers as linear maps: applied with any weights, and transposed."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any, NamedTuple, cast, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, fx, nn

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Weights(NamedTuple):
    """Weight and bias in the shapes of the layer's own."""

    weight: Tensor
    bias: Tensor | None


class LinearMap(ABC):
    """x -> W x + b for a layer's pattern of connections and any W and b."""

    @abstractmethod
    def apply(self, x: Tensor, weights: Weights) -> Tensor:
        """W x + b."""

    @abstractmethod
    def transposed(self, x: Tensor, weights: Weights, y: Tensor) -> Tensor:
        """W^T y, in the shape of `x`, whose values do not matter."""


def linear_map(layer: nn.Module) -> LinearMap:
    """The map of a linear layer; subclasses are looked into, as those with "same" padding."""
    if type(layer) is nn.Linear:
        return DenseMap()
    if type(layer) in {*_CONVOLUTIONS, *_TRANSPOSED}:
        return _plain_convolution(layer) or ForeignMap(layer)
    return _padded_convolution(layer) or ForeignMap(layer)


@final
class DenseMap(LinearMap):
    """Of `nn.Linear`."""

    def apply(self, x: Tensor, weights: Weights) -> Tensor:
        """W x + b over the last axis."""
        return F.linear(x, weights.weight, weights.bias)

    def transposed(self, x: Tensor, weights: Weights, y: Tensor) -> Tensor:  # noqa: ARG002 - a matrix knows its sizes
        """W^T y over the last axis."""
        return y @ weights.weight


@final
@dataclass(frozen=True)
class ConvolutionMap(LinearMap):
    """Of a convolution that pads with zeros, by one call of the library there and one back.

    Attributes:
        stride: As in torch, for each spatial axis, as are padding, dilation and output_padding.
        padding: Zeros on both sides.
        dilation: Distance of the taps.
        output_padding: Of a transposed convolution.
        is_transposed: Whether it is a transposed one.
        groups: Groups of channels.
        margins: Zeros put around the input before, in the order of `F.pad`; empty for none.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    is_transposed: bool
    groups: int
    margins: tuple[int, ...] = ()

    def apply(self, x: Tensor, weights: Weights) -> Tensor:
        """The convolution."""
        padded = F.pad(x, self.margins) if self.margins else x
        return torch.convolution(
            padded,
            weights.weight,
            weights.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.is_transposed,
            self.output_padding,
            self.groups,
        )

    def transposed(self, x: Tensor, weights: Weights, y: Tensor) -> Tensor:
        """The gradient of the convolution with regard to its input."""
        # only the sizes of the input are read, so it is not padded again
        padded = _unwritten(x, self.margins) if self.margins else x
        gradient: Tensor = torch.ops.aten.convolution_backward(
            y,
            padded,
            weights.weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.is_transposed,
            self.output_padding,
            self.groups,
            [True, False, False],
        )[0]
        for axis, start in enumerate(self.margins[::2]):
            gradient = gradient.narrow(-1 - axis, start, x.shape[-1 - axis])
        return gradient


@final
class ForeignMap(LinearMap):
    """Of any other layer: its own forward with other parameters, and the gradient of that."""

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer

    def apply(self, x: Tensor, weights: Weights) -> Tensor:
        """What the layer computes with these weights."""
        stand_in = copy.copy(self._layer)
        # a layer without a bias may not look for one
        without = cast("nn.Linear", self._layer).bias is None
        stand_in._parameters = {"weight": weights.weight, "bias": None if without else weights.bias}  # type: ignore[dict-item] # noqa: SLF001 - only of the copy
        y: Tensor = stand_in(x)
        if without and weights.bias is not None:
            y = y + weights.bias.view(-1, *[1] * (0 if isinstance(self._layer, nn.Linear) else weights.weight.ndim - 2))
        return y

    def transposed(self, x: Tensor, weights: Weights, y: Tensor) -> Tensor:
        """The gradient of that with regard to the input."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.apply(leaf, weights), leaf, y)
        return gradient


def takes_more_channels(linear: LinearMap) -> bool:
    """Whether the channels of several weights fit beside each other into one call, in the layout of the layer's own.

    They would in grouped convolutions too, but the fast kernels for depthwise ones want as many channels out as in: on
    a CPU, one call with twice as many takes 1.6 to 10 times as long as two.
    """
    return isinstance(linear, ConvolutionMap) and linear.groups == 1 and not linear.is_transposed


@final
class BlockMap:
    """A block matrix of weights over the connections of one layer: y_r = sum over c of W_rc x_c + b_r.

    Where channels can be stacked, one call there and one back evaluate it, so that every input is read once and sums
    over blocks cost no memory of their own; elsewhere it takes a call for each block.

    Args:
        linear: The layer's connections.
        blocks: Rows of weights. The bias of a row is that of its first block; others have none.
    """

    def __init__(self, linear: LinearMap, blocks: Sequence[Sequence[Weights]]) -> None:
        self._map = linear
        self._blocks = blocks
        self._stacked_rows, self._stacked_columns = 1, 1
        if takes_more_channels(linear):
            self._stacked_rows, self._stacked_columns = len(blocks), len(blocks[0])
            weight = torch.cat([torch.cat([block.weight for block in row], 1) for row in blocks])
            biases = [row[0].bias for row in blocks if row[0].bias is not None]
            self._blocks = [[Weights(weight, torch.cat(biases) if biases else None)]]

    def stacked(self, parts: list[Tensor]) -> list[Tensor]:
        """Inputs of the columns as calls take them: one tensor of all channels, or as they are."""
        return [torch.cat(parts, 1)] if self._stacked_columns > 1 else parts

    def apply(self, stacked: list[Tensor]) -> list[Tensor]:
        """Outputs as calls give them: one tensor of all channels, or one for each row."""
        return [
            reduce(Tensor.add_, (self._map.apply(x, block) for x, block in zip(stacked, row, strict=True)))
            for row in self._blocks
        ]

    def rows(self, outputs: list[Tensor]) -> list[Tensor]:
        """The output of each row, in the memory of what `apply` gave."""
        return _parts(outputs, self._stacked_rows)

    def transposed(self, stacked: list[Tensor], outputs: list[Tensor]) -> list[Tensor]:
        """For each column, the sum over rows of W_rc^T y_r; of the inputs, only shapes matter."""
        columns = zip(stacked, zip(*self._blocks, strict=True), strict=True)
        handed = [
            reduce(torch.add, (self._map.transposed(x, block, y) for block, y in zip(column, outputs, strict=True)))
            for x, column in columns
        ]
        return _parts(handed, self._stacked_columns)


def _parts(tensors: list[Tensor], count: int) -> list[Tensor]:
    """The parts of which one tensor was stacked; nothing was if there is one part."""
    return list(tensors[0].chunk(count, 1)) if count > 1 else tensors


def _unwritten(x: Tensor, margins: tuple[int, ...]) -> Tensor:
    """Memory of the sizes that `x` has with margins."""
    sizes = list(x.shape)
    for axis, margin in enumerate(zip(margins[::2], margins[1::2], strict=True)):
        sizes[-1 - axis] += sum(margin)
    layout = torch.channels_last if len(sizes) == 4 else torch.contiguous_format  # noqa: PLR2004 - (N,C,H,W)
    return torch.empty(sizes, dtype=x.dtype, device=x.device, memory_format=layout)


def _plain_convolution(layer: nn.Module) -> LinearMap | None:
    """The map of a convolution as torch has it, unless it pads by name or with other values than zeros."""
    convolution = cast("nn.Conv2d", layer)
    if isinstance(convolution.padding, str) or convolution.padding_mode != "zeros":
        return None
    return ConvolutionMap(
        stride=tuple(convolution.stride),
        padding=tuple(convolution.padding),
        dilation=tuple(convolution.dilation),
        output_padding=tuple(convolution.output_padding),
        is_transposed=convolution.transposed,
        groups=convolution.groups,
    )


def _padded_convolution(layer: nn.Module) -> LinearMap | None:
    """The map of a subclass whose forward pads with a fixed number of zeros, convolves, and does nothing else."""
    if not isinstance(layer, nn.Conv2d):
        return None
    try:
        graph = fx.Tracer().trace(layer)
    # foreign code runs on symbolic values here and may raise anything
    except Exception:  # noqa: BLE001
        return None
    image, *steps, convolution, output = [node for node in graph.nodes if node.op != "get_attr"]
    chain = [image, *steps, convolution, output]
    if any(after.args[:1] != (before,) for before, after in pairwise(chain)):
        return None
    paddings = [_zero_padding(layer, step) for step in steps]
    given = _convolution_arguments(convolution)
    if None in paddings or given is None or len([margins for margins in paddings if margins]) > 1:
        return None
    margins = next((margins for margins in paddings if margins), ())
    if margins and margins[::2] == margins[1::2] and min(margins) >= 0:
        # what is even, the library pads without a copy of the input
        padding = tuple(there + more for there, more in zip(given["padding"], margins[::-2], strict=True))
        given, margins = {**given, "padding": padding}, ()
    return ConvolutionMap(**given, margins=margins)


def _zero_padding(layer: nn.Module, step: fx.Node) -> tuple[int, ...] | None:
    """Zeros that a step of a forward puts around height and width, or None if it does anything else."""
    margins: object = None
    if step.op == "call_module" and len(step.args) == 1 and not step.kwargs:
        padding = layer.get_submodule(str(step.target))
        if isinstance(padding, nn.Identity):
            return ()
        if type(padding) in {nn.ZeroPad2d, nn.ConstantPad2d} and getattr(padding, "value", 0) == 0:
            margins = padding.padding
    elif step.op == "call_function" and step.target is F.pad and len(step.args) == 2 and not step.kwargs:  # noqa: PLR2004
        margins = step.args[1]
    if isinstance(margins, (tuple, list)) and len(margins) == 4 and all(type(margin) is int for margin in margins):  # noqa: PLR2004
        return tuple(cast("tuple[int, ...]", margins))
    return None


def _convolution_arguments(node: fx.Node) -> dict[str, Any] | None:
    """Arguments of a call of `F.conv2d` with the layer's own weight and bias, or None if it is another call."""
    if node.op != "call_function" or node.target is not F.conv2d:
        return None
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    given = dict(zip(names, node.args, strict=False)) | node.kwargs
    for name in ("weight", "bias"):
        source = given.get(name)
        if source is not None and not (
            isinstance(source, fx.Node) and source.op == "get_attr" and source.target == name
        ):
            return None
    pairs: dict[str, tuple[int, ...]] = {}
    for name, default in (("stride", 1), ("padding", 0), ("dilation", 1)):
        value = given.get(name, default)
        pair = (value, value) if type(value) is int else value
        if not isinstance(pair, (tuple, list)) or not all(type(number) is int for number in pair):
            return None
        pairs[name] = tuple(cast("tuple[int, int]", pair))
    groups = given.get("groups", 1)
    if type(groups) is not int:
        return None
    return {**pairs, "output_padding": (0, 0), "is_transposed": False, "groups": groups}
