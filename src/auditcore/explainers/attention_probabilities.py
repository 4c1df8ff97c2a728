"""Attention matrices of a pass, and the tokens from which a transformer reads its logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node

from auditcore.explainers.autograd_graph import (
    inputs_of,
    operation,
    operations_before,
    origin,
    reads,
    recording,
    saved,
    structural_pass,
)

NO_ATTENTION = (
    "the model has no attention, which is a softmax whose result is multiplied by a matrix; use an explainer for "
    "convolutional networks, such as lrp_epsilon_plus_flat or grad_cam"
)

_SOFTMAX = frozenset({"SafeSoftmax", "Softmax"})
_PRODUCTS = frozenset({"Bmm", "Mm"})
_FEWEST_AXES = 3
"""Of attention: images or heads, positions that attend, positions attended to."""

_MOST_PREFIX_TOKENS = 5
"""A class token and four registers (DINOv2); DeiT has two."""


@final
@dataclass(frozen=True)
class TokenGrid:
    """Where the patches are among the tokens, and which tokens the logits are read from.

    Attributes:
        prefix: Number of tokens before the first patch, such as a class token.
        height: Patches in a column.
        width: Patches in a row.
        readers: Tokens whose attention in the last layer reaches the logits; all of them are prefix tokens.
    """

    prefix: int
    height: int
    width: int
    readers: tuple[int, ...]


def attention_softmaxes(operations: Sequence[Node]) -> list[Node]:
    """Return the softmax of each attention, in the order of the operations.

    Attention is a softmax over the last axis whose result is a factor of a matrix product with another signal.
    """
    found: dict[Node, None] = {}
    for node in operations:
        if operation(node) not in _PRODUCTS or not (reads(node, 0) and reads(node, 1)):
            continue
        for source, _ in node.next_functions:
            softmax = origin(source)
            if softmax is not None and operation(softmax) in _SOFTMAX and _is_over_the_last_axis(softmax):
                found[softmax] = None
    return [node for node in operations if node in found]


def probabilities_of(softmax: Node, *, images: int) -> Float[Tensor, "image head query key"] | None:
    """Return the attention matrices of one layer; None if they are not organized by image, such as those of windows."""
    result: Tensor = saved(softmax, "result")
    return by_image(result, images=images)


def by_image(values: Tensor, *, images: int) -> Float[Tensor, "image head query key"] | None:
    """Separate images from heads: attention may keep them in one axis, images first."""
    if values.ndim == _FEWEST_AXES and len(values) % images == 0:
        separated: Tensor = values.unflatten(0, (images, -1))
        return separated
    return values if values.ndim == _FEWEST_AXES + 1 and len(values) == images else None


def token_grid(module: nn.Module, images: Float[Tensor, "2 channel height width"]) -> TokenGrid | str:
    """Find the class token and the patches of a transformer, or say why it has none.

    Args:
        module: Normalized inputs to logits.
        images: Two images of the size of the input. Their values do not matter.
    """
    leaf = images.detach().requires_grad_()
    with recording(attention_matrices=True):
        logits = structural_pass(module, leaf)
    layers = attention_softmaxes(operations_before(logits))
    reason = _why_no_product(layers, images=len(images))
    if reason is not None:
        return reason
    tokens: int = saved(layers[0], "result").shape[-1]
    grid = _patches(tokens, *images.shape[-2:])
    if grid is None:
        return (
            "the product of attention matrices is read from a class token, and the model has no class token before a "
            f"grid of patches: its {tokens} tokens do not divide into both; use attn_lrp"
        )
    prefix, height, width = grid
    readers = _readers(logits, layers[-1], images=len(images))
    if not readers:
        return "the logits do not depend on the attention of the last layer; use attn_lrp"
    if readers[-1] >= prefix:
        return (
            "the product of attention matrices is read from a class token, and this model reads its logits from "
            f"{len(readers)} of its {tokens} tokens, patches among them, such as their mean; use attn_lrp"
        )
    return TokenGrid(prefix, height, width, readers)


def _why_no_product(layers: Sequence[Node], *, images: int) -> str | None:
    """Why the attention matrices of all layers cannot be multiplied."""
    if not layers:
        return NO_ATTENTION
    sizes = dict.fromkeys(tuple(saved(layer, "result").shape[-2:]) for layer in layers)
    by_images = all(probabilities_of(layer, images=images) is not None for layer in layers)
    if not by_images or len(sizes) > 1 or any(rows != keys for rows, keys in sizes):
        listed = ", ".join(f"{rows} x {keys}" for rows, keys in sizes)
        return (
            "the product of attention matrices needs layers in which every token of the image attends to every other, "
            "and this model attends within windows, by class tokens only, or to a changing number of tokens; its "
            f"matrices are {listed}; use attn_lrp"
        )
    if not _is_a_chain(layers):
        return "the model has attention in parallel branches, for which no product of matrices is defined; use attn_lrp"
    return None


def _is_over_the_last_axis(softmax: Node) -> bool:
    result: Tensor = saved(softmax, "result")
    axis: int = saved(softmax, "dim")
    # autograd keeps a negative number as an unsigned one
    return result.ndim >= _FEWEST_AXES and axis in {result.ndim - 1, -1, 2**64 - 1}


def _is_a_chain(layers: Sequence[Node]) -> bool:
    """Whether each layer reads what the one before it gives."""
    return all(before in _ancestors(after) for before, after in pairwise(layers))


def _ancestors(node: Node) -> set[Node]:
    found: set[Node] = set()
    ahead = [node]
    while ahead:
        new = [source for source in inputs_of(ahead.pop()) if source not in found]
        found.update(new)
        ahead += new
    return found


def _patches(tokens: int, height_px: int, width_px: int) -> tuple[int, int, int] | None:
    """Number of prefix tokens, patches in a column and patches in a row; None if no square patch explains them.

    The prefix is the shortest that leaves as many tokens as there are patches of some side in the image.
    """
    fits = []
    for side_px in range(1, min(height_px, width_px) + 1):
        height, width = height_px // side_px, width_px // side_px
        prefix = tokens - height * width
        if 0 < prefix <= _MOST_PREFIX_TOKENS and height * width > 1:
            fits.append((prefix, height, width))
    return min(fits, default=None)


def _readers(logits: Tensor, last: Node, *, images: int) -> tuple[int, ...]:
    """Tokens whose attention in the last layer the logits depend on."""
    # random weights, so that nothing cancels
    start = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)
    (gradient,) = torch.autograd.grad(logits, GradientEdge(last, 0), start)
    matrices = by_image(gradient, images=images)
    assert matrices is not None  # noqa: S101 - the attention itself is organized by image
    return tuple(matrices.abs().amax((0, 1, 3)).nonzero()[:, 0].tolist())
