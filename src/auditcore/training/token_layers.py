"""The blocks of a vision transformer, and how tokens are read and changed between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from timm.models import vision_transformer as timm_transformer
from torch import Tensor, nn
from torchvision.models import vision_transformer as torchvision_transformer

from auditcore.errors import ModelNotTrainable
from auditcore.explainers.attention_probabilities import attention_softmaxes, probabilities_of, token_grid
from auditcore.explainers.autograd_graph import operations_before, recording
from auditcore.models.classifier import Classifier
from auditcore.models.probe_images import probe_images

Change = Callable[[Tensor], Tensor]
"""Tokens (N,T,D) to tokens of the same shape."""


@final
@dataclass(frozen=True)
class TokenLayers:
    """The blocks of a transformer.

    Attributes:
        blocks: In running order.
        prefix: Tokens before the patches, of which the first is the class token.
        patches: Number of patches.
    """

    blocks: tuple[nn.Module, ...]
    prefix: int
    patches: int

    @property
    def tokens(self) -> int:
        """Tokens of an image."""
        return self.prefix + self.patches


def token_layers(start: Classifier, module: nn.Module, kind: str) -> TokenLayers:
    """Find the blocks of a transformer.

    Args:
        start: The classifier, whose passes find class token and patches.
        module: The copy of its module that has the blocks.
        kind: The method that a message names.

    Raises:
        ModelNotTrainable: It is no vision transformer of timm or torchvision, or has no class token.
    """
    blocks = next((found for part in module.modules() if (found := _blocks(part)) is not None), None)
    if blocks is None:
        msg = (
            f"method {kind!r} mixes tokens between blocks of a vision transformer, and this model is no "
            "VisionTransformer of timm or torchvision; take one, or another method, such as 'cutmix'"
        )
        raise ModelNotTrainable(msg, field="plan.method.kind")
    with start.ledger.paused():
        images = start.normalize(probe_images(start.shape, count=2).to(start.device))
        grid = token_grid(start.module, images)
    if isinstance(grid, str):
        msg = f"method {kind!r} reads the attention of a class token, which this model does not allow: {grid}"
        raise ModelNotTrainable(msg, field="plan.method.kind")
    return TokenLayers(blocks, grid.prefix, grid.height * grid.width)


def _blocks(part: nn.Module) -> tuple[nn.Module, ...] | None:
    """Blocks of a part that is a transformer; None if it is none, or has other blocks."""
    if isinstance(part, timm_transformer.VisionTransformer):
        blocks = tuple(part.blocks)
        return blocks if all(isinstance(one, timm_transformer.Block) for one in blocks) else None
    if isinstance(part, torchvision_transformer.VisionTransformer):
        return tuple(part.encoder.layers)
    return None


def class_attention(block: nn.Module, tokens: Float[Tensor, "image token width"]) -> Float[Tensor, "image key"]:
    """How much the class token attends to each token in a block, as mean over heads; rows sum to 1.

    Args:
        block: The block, which runs once in evaluation mode.
        tokens: Its input; no gradient flows back.
    """
    leaf = tokens.detach().requires_grad_()
    # not a call of the block itself, which would run hooks of this module
    with _evaluating(block), recording(attention_matrices=True):
        result: Tensor = block.forward(leaf)
    matrices = probabilities_of(attention_softmaxes(operations_before(result))[0], images=len(tokens))
    assert matrices is not None  # noqa: S101 - `token_grid` has found images first
    return matrices.float().mean(dim=1)[:, 0]


@contextmanager
def entering(block: nn.Module, change: Change) -> Iterator[None]:
    """Change the tokens that a block reads, inside the block of `with`."""
    handle = block.register_forward_pre_hook(lambda _block, inputs: (change(inputs[0]), *inputs[1:]))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def attending_to_more(block: nn.Module, more: Sequence[Tensor]) -> Iterator[None]:
    """Let the attention of a block read more tokens, inside the block of `with`; no more tokens attend.

    Args:
        block: The block.
        more: Tokens (N,T,D) that are read in the block's pass; may be filled after this call.
    """
    attention, norm = _attention_of(block)
    if isinstance(block, timm_transformer.Block):
        handles = [
            attention.register_forward_pre_hook(
                lambda _attention, inputs: (_joined(inputs[0], norm, more), *inputs[1:])
            ),
            # its queries are its keys; what the additional ones read is of no use
            attention.register_forward_hook(
                lambda _attention, _inputs, result: result[:, : result.shape[1] - sum(one.shape[1] for one in more)]
            ),
        ]
    else:

        def read_more(_attention: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            query, key, value, *rest = inputs
            return (query, _joined(key, norm, more), _joined(value, norm, more), *rest)

        handles = [attention.register_forward_pre_hook(read_more)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _attention_of(block: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The attention of a block, and the normalization before it."""
    names = ("attn", "norm1") if isinstance(block, timm_transformer.Block) else ("self_attention", "ln_1")
    attention, norm = (block.get_submodule(name) for name in names)
    return attention, norm


def _joined(normalized: Tensor, norm: nn.Module, more: Sequence[Tensor]) -> Tensor:
    return torch.cat((normalized, norm(torch.cat(tuple(more), dim=1)).to(normalized.dtype)), dim=1)


@contextmanager
def _evaluating(block: nn.Module) -> Iterator[None]:
    training = [part for part in block.modules() if part.training]
    block.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
