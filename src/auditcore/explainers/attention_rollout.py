"""Methods that multiply the attention matrices of all layers: attention rollout and gradient-weighted attention.

Both follow the attention of the class token back to the patches. A layer's matrix has a row for each token that attends
and a column for each token attended to. Its residual connection is the identity.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from auditcore.contracts.explainers import AttentionRollout, GradientWeightedAttention
from auditcore.errors import NotApplicable
from auditcore.explainers.attention_probabilities import (
    TokenGrid,
    attention_softmaxes,
    by_image,
    probabilities_of,
    token_grid,
)
from auditcore.explainers.attribution import Attribution, Batch, exactly
from auditcore.explainers.autograd_graph import operations_before, recording
from auditcore.models.classifier import Classifier
from auditcore.models.target_gradient import one_hot

Matrices = Float[Tensor, "image query key"]

_GRIDS: WeakKeyDictionary[nn.Module, TokenGrid | str] = WeakKeyDictionary()
"""Module -> its grid of tokens, or why it has none that these methods can use."""


def attention_rollout(batch: Batch, contract: AttentionRollout) -> Attribution:
    """Product of the attention of all layers, each averaged with the identity of the residual connection.

    Each layer's heads are fused, its smallest values set to 0, the identity is added and rows are scaled to sum to 1.
    The target does not matter.

    Returns:
        Maps (N,1,H,W), never negative: the row of the class token, enlarged bilinearly from patches to pixels. If the
        logits are read from several tokens before the patches, as in distilled DeiT, the mean of their rows.

    Raises:
        NotApplicable: The model has no class token that attends to all patches; `incompatibility` says so in advance.

    Source: Abnar & Zuidema 2020, section 3. Fusion by maximum or minimum and the ratio are those of Gildenblat 2020.
    """
    batch = exactly(batch)
    grid = _required_grid(batch.classifier)
    maps = []
    for part in batch.parts():
        row = _start(grid, part.inputs)
        for attention in reversed(_attention(part)):
            fused = discarded(fuse(attention, contract.head_fusion), contract.discard_ratio)
            joined = fused + torch.eye(fused.shape[-1], device=fused.device)
            row = row @ (joined / joined.sum(-1, keepdim=True))
        maps.append(_to_pixels(row, grid, part))
    return Attribution(torch.cat(maps) if maps else batch.pixels[:, :1])


def gradient_weighted_attention(batch: Batch, _contract: GradientWeightedAttention) -> Attribution:
    """Relevance of each patch for the class token: R = R + A R for each layer, beginning with the identity.

    A is the mean over heads of the positive part of attention times the gradient of the target logit by it.

    Returns:
        Maps (N,1,H,W), never negative, enlarged bilinearly from patches to pixels.

    Raises:
        NotApplicable: As `attention_rollout`.

    Source: Chefer et al. 2021, Generic attention-model explainability, Eq. 5 and 6.
    """
    batch = exactly(batch)
    grid = _required_grid(batch.classifier)
    maps = []
    for part in batch.parts():
        row = _start(grid, part.inputs)
        for weighted in reversed(_weighted_attention(part)):
            row = row + row @ weighted
        maps.append(_to_pixels(row, grid, part))
    return Attribution(torch.cat(maps) if maps else batch.pixels[:, :1])


def incompatibility(classifier: Classifier, _contract: AttentionRollout | GradientWeightedAttention) -> str | None:
    """Why the product of attention matrices is no map of the image."""
    grid = _grid(classifier.exact)
    return grid if isinstance(grid, str) else None


def fuse(attention: Float[Tensor, "image head query key"], how: str) -> Matrices:
    """Join the heads of a layer by their mean, maximum or minimum."""
    match how:
        case "max":
            return attention.amax(1)
        case "min":
            return attention.amin(1)
        case _:
            return attention.mean(1)


def discarded(matrices: Matrices, ratio: float) -> Matrices:
    """Set a share of the values of each matrix to 0, the smallest first; of equal values, the first first."""
    # a ratio such as 0.29 is stored as slightly less
    count = math.floor(ratio * matrices[0].numel() + 1e-9)
    if not count:
        return matrices
    flat = matrices.flatten(1)
    smallest = flat.argsort(dim=1, stable=True)[:, :count]
    return flat.scatter(1, smallest, 0.0).view_as(matrices)


def _grid(classifier: Classifier) -> TokenGrid | str:
    module = classifier.module
    if module not in _GRIDS:
        shape = (2, *classifier.shape)
        images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        with classifier.ledger.paused():
            _GRIDS[module] = token_grid(module, images.to(classifier.device))
    return _GRIDS[module]


def _required_grid(classifier: Classifier) -> TokenGrid:
    grid = _grid(classifier)
    if isinstance(grid, str):
        raise NotApplicable(grid)
    return grid


def _attention(part: Batch) -> list[Float[Tensor, "image head query key"]]:
    """Attention of each layer, from the first on."""
    return [attention for attention, _ in _layers(part, gradients=False)]


def _weighted_attention(part: Batch) -> list[Matrices]:
    """Positive part of attention times gradient, averaged over heads, of each layer from the first on."""
    return [(attention * gradient).clamp(min=0).mean(1) for attention, gradient in _layers(part, gradients=True)]


def _layers(part: Batch, *, gradients: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Attention of each layer and the target logit's gradient by it; attention twice if no gradient is wanted."""
    with recording(attention_matrices=True):
        logits: Tensor = part.classifier.module(part.inputs.detach().requires_grad_())
    layers = attention_softmaxes(operations_before(logits))
    attention = [probabilities_of(layer, images=len(part)) for layer in layers]
    found: Sequence[Tensor | None] = attention
    if gradients:
        edges = [GradientEdge(layer, 0) for layer in layers]
        slopes = torch.autograd.grad(logits, edges, one_hot(part.targets, logits))
        found = [by_image(slope, images=len(part)) for slope in slopes]
    for values, slope in zip(attention, found, strict=True):
        assert values is not None  # noqa: S101 - as the grid of tokens has shown
        assert slope is not None  # noqa: S101
        yield values, slope


def _start(grid: TokenGrid, inputs: Tensor) -> Float[Tensor, "image 1 key"]:
    """The tokens from which the logits are read, with equal weights."""
    row = inputs.new_zeros(len(inputs), 1, grid.prefix + grid.height * grid.width)
    for reader in grid.readers:
        row[:, :, reader] = 1 / len(grid.readers)
    return row


def _to_pixels(row: Float[Tensor, "image 1 key"], grid: TokenGrid, part: Batch) -> Float[Tensor, "image 1 h w"]:
    """Enlarge the values of the patches to the image."""
    patches = row[:, :, grid.prefix :].unflatten(2, (grid.height, grid.width))
    return F.interpolate(patches, size=tuple(part.pixels.shape[-2:]), mode="bilinear", align_corners=False)
