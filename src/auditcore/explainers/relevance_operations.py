"""Rules of layer-wise relevance propagation for single operations, as corrections of their gradient.

The relevance of a value is the value times its corrected gradient. In this form a linear operation needs no rule: its
plain gradient is the epsilon rule with epsilon 0, without a division. What remains:

- Matrix product or product of two signals: each factor gets half (Proposition 3.2 and 3.3).
- Softmax: the gradient is right as it is (Proposition 3.1).
- Normalization: the statistic that a value is divided by gets no relevance (Proposition 3.4).
- Activation: all relevance goes to its one input (Equation 9), so the gradient is output over input.
- Gate, which is a product with a sigmoid: the signal gets everything, as in the composites of `lrp`.

Source: Achtibat et al. 2024; the form as input times gradient is that of their code, `lxt.efficient`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import Tensor
from torch.autograd.graph import Node

from auditcore.explainers.autograd_graph import operation, origin, reads, saved

Gradients = tuple[Tensor | None, ...]
Correction = Callable[[Gradients, Gradients], Gradients]
"""(gradients of the inputs, gradients of the outputs) -> corrected gradients of the inputs."""

_PLAIN = frozenset(
    {
        # the image itself
        "torch::autograd::AccumulateGrad",
        # linear in one signal
        *("Add", "Convolution", "Cumsum", "Mean", "MkldnnConvolution", "MkldnnLinear", "Neg", "Rsub", "Sub", "Sum"),
        *("AdaptiveAvgPool2D", "AvgPool2D", "UpsampleBicubic2D", "UpsampleBicubic2DAa", "UpsampleBilinear2D"),
        *("UpsampleBilinear2DAa", "UpsampleNearest2D"),
        # values are only moved or left out
        *("Alias", "AsStrided", "Cat", "ChannelShuffle", "Clone", "ConstantPadNd", "Diagonal", "Expand", "Flip"),
        *("Gather", "Im2Col", "Index", "IndexSelect", "MaskedFill", "Permute", "PixelShuffle", "PixelUnshuffle"),
        *("ReflectionPad2D", "Repeat", "ReplicationPad2D", "ReshapeAlias", "Roll", "Select", "Slice", "Split"),
        *("SplitWithSizes", "Squeeze", "Stack", "T", "ToCopy", "Transpose", "Unbind", "Unfold", "UnsafeSplit"),
        *("UnsafeView", "Unsqueeze", "View", "Where"),
        # values are only chosen
        *("AdaptiveMaxPool2D", "Amax", "Max", "MaxPool2DWithIndices"),
        # the slope is output over input
        *("LeakyRelu", "PreluKernel", "Relu"),
        # Proposition 3.1
        *("SafeSoftmax", "Softmax"),
    }
)
"""Operations whose plain gradient is right."""

_GATES = frozenset({"Hardsigmoid", "Sigmoid"})
_STATISTICS = frozenset({"Reciprocal", "Rsqrt"})
_BATCH_NORMS = frozenset({"CudnnBatchNorm", "MiopenBatchNorm", "NativeBatchNorm"})

_MATRIX_PRODUCTS: Mapping[str, int] = {"Addbmm": 1, "Addmm": 1, "Baddbmm": 1, "Bmm": 0, "Mm": 0}
"""Product -> position of its first factor; what comes before is added."""

_FUSED_ATTENTION = frozenset(
    {
        *("ScaledDotProductCudnnAttention", "ScaledDotProductEfficientAttention", "ScaledDotProductFlashAttention"),
        *("ScaledDotProductFlashAttentionForCpu", "ScaledDotProductFusedAttentionOverrideable"),
    }
)

_ACTIVATIONS: Mapping[str, tuple[Callable[..., Tensor], Mapping[str, str], float]] = {
    "Celu": (F.celu, {"alpha": "alpha"}, 1.0),
    "Gelu": (F.gelu, {"approximate": "approximate"}, 0.5),
    "Hardswish": (F.hardswish, {}, 0.5),
    "Hardtanh": (F.hardtanh, {"min_val": "min_val", "max_val": "max_val"}, 1.0),
    "Mish": (F.mish, {}, 0.6),
    "Silu": (F.silu, {}, 0.5),
}
"""Activation that is 0 at 0 -> its function, the arguments that autograd saves, and its slope at 0."""


def rule_of(node: Node) -> Correction | None:
    """Return how to correct the gradients of an operation; None if they are right.

    The correction keeps nothing that refers to the operation, so that both are freed together.

    Raises:
        KeyError: There is no rule for the operation. The key is its name.
    """
    name = operation(node)
    if name in _PLAIN or (name in _BATCH_NORMS and not saved(node, "training")):
        return None
    if name in _MATRIX_PRODUCTS:
        first = _MATRIX_PRODUCTS[name]
        return _halved(node, first, first + 1)
    if name == "Mul":
        without = _without_relevance(node)
        return _halved(node, 0, 1) if without is None else _scaled({without: 0.0})
    if name == "Div" and reads(node, 0):
        return _scaled({1: 0.0}) if reads(node, 1) else None
    if name in _FUSED_ATTENTION:
        # two products on the way of query and key, one on the way of the value
        return _scaled({0: 0.25, 1: 0.25, 2: 0.5})
    return _FURTHER[name](node)


def carriers(node: Node) -> list[Node]:
    """Return the inputs of an operation that get relevance."""
    name = operation(node)
    without = 1 if name == "Div" and reads(node, 0) else _without_relevance(node) if name == "Mul" else None
    return [source for place, (source, _) in enumerate(node.next_functions) if place != without and source is not None]


def _without_relevance(node: Node) -> int | None:
    """Return the position of a factor that is a gate, or one over a statistic, beside a signal."""
    if not (reads(node, 0) and reads(node, 1)):
        return None
    for place in (1, 0):
        computed = origin(node.next_functions[place][0])
        if computed is not None and operation(computed) in _GATES | _STATISTICS:
            return place
    return None


def _halved(node: Node, first: int, second: int) -> Correction | None:
    """Halve the gradients of two factors, unless one of them is constant."""
    return _scaled({first: 0.5, second: 0.5}) if reads(node, first) and reads(node, second) else None


def _scaled(factors: Mapping[int, float]) -> Correction:
    """Multiply the gradients at some positions."""

    def correct(given: Gradients, _outputs: Gradients) -> Gradients:
        return tuple(
            gradient if gradient is None or place not in factors else gradient * factors[place]
            for place, gradient in enumerate(given)
        )

    return correct


def _activation(node: Node) -> Correction:
    """Give all relevance to the one input: the gradient is output over input."""
    function, arguments, at_zero = _ACTIVATIONS[operation(node)]
    x: Tensor = saved(node, "self")
    value = function(x, **{name: saved(node, kept) for name, kept in arguments.items()})
    slope = torch.where(x == 0, at_zero, value / x)
    return lambda _given, outputs: (None if outputs[0] is None else outputs[0] * slope,)


def _layer_norm(node: Node) -> Correction:
    """Subtract the mean, which is linear, and take the deviation for a constant."""
    weight, scale = saved(node, "weight"), saved(node, "result2")
    axes = tuple(range(-len(saved(node, "normalized_shape")), 0))

    def correct(given: Gradients, outputs: Gradients) -> Gradients:
        if outputs[0] is None:
            return given
        gradient = outputs[0] * scale if weight is None else outputs[0] * weight * scale
        return (gradient - gradient.mean(axes, keepdim=True), *(None for _ in given[1:]))

    return correct


def _group_norm(node: Node) -> Correction:
    """The same for groups of channels."""
    weight, scale = saved(node, "weight"), saved(node, "result2")

    def correct(given: Gradients, outputs: Gradients) -> Gradients:
        if outputs[0] is None:
            return given
        shape = outputs[0].shape
        gradient = outputs[0] if weight is None else outputs[0] * weight.view(-1, *(1 for _ in shape[2:]))
        gradient = gradient.reshape(*scale.shape, -1) * scale[..., None]
        return ((gradient - gradient.mean(-1, keepdim=True)).reshape(shape), *(None for _ in given[1:]))

    return correct


def _root_mean_square_norm(node: Node) -> Correction:
    """Take the root mean square for a constant."""
    weight, scale = saved(node, "weight"), saved(node, "result1")
    factor = scale if weight is None else weight * scale
    return lambda given, outputs: (
        None if outputs[0] is None else outputs[0] * factor,
        *(None for _ in given[1:]),
    )


_FURTHER: Mapping[str, Callable[[Node], Correction]] = {
    **dict.fromkeys(_ACTIVATIONS, _activation),
    "FusedRmsNorm": _root_mean_square_norm,
    "NativeGroupNorm": _group_norm,
    "NativeLayerNorm": _layer_norm,
}
