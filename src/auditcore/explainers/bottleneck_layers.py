"""Layers through which everything must pass that reaches the logits.

Whoever restricts the information of a layer must know that none flows around it: a convolution inside a residual
block restricts nothing, since the skip connection carries the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from auditcore.models.classifier import Classifier

_WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)

_PASSAGES: WeakKeyDictionary[Classifier, tuple[str, ...]] = WeakKeyDictionary()


def passages(classifier: Classifier) -> tuple[str, ...]:
    """Feature layers, in the order in which they run, around which nothing flows from the image to the logits.

    Found on the autograd graph of one pass: without the layer's node, the image cannot be reached from the logits.
    Layers that run more than once are no passages, nor are tokens beside a class token, which carries information
    of all positions. Looked for once a model.
    """
    if classifier not in _PASSAGES:
        _PASSAGES[classifier] = _find(classifier)
    return _PASSAGES[classifier]


def nearest_passage(classifier: Classifier) -> str | None:
    """The passage that ends nearest to two thirds of the depth, the first of those that are equally near.

    Depth counts the convolutions and linear layers with feature maps, in the order in which they run.
    """
    weighted = [isinstance(classifier.module.get_submodule(name), _WEIGHTED) for name in classifier.feature_layers]
    depths = dict(zip(classifier.feature_layers, accumulate(weighted), strict=True))
    # in whole numbers, so that a tie is a tie
    return min(passages(classifier), key=lambda name: abs(3 * depths[name] - 2 * sum(weighted)), default=None)


@dataclass
class _Runs:
    """How often a layer ran, and the node of the graph that its last output came from."""

    count: int = 0
    node: Any = None


def _find(classifier: Classifier) -> tuple[str, ...]:
    runs = {name: _Runs() for name in classifier.feature_layers}

    def record(name: str, output: Tensor) -> None:
        runs[name].count += 1
        tokens = output.shape[1] if classifier.layouts[name] == "tokens" else 0
        if tokens == math.isqrt(tokens) ** 2:
            runs[name].node = output.grad_fn

    handles = [
        classifier.module.get_submodule(name).register_forward_hook(
            lambda _layer, _inputs, output, name=name: record(name, output)
        )
        for name in runs
    ]
    size = classifier.size
    try:
        with torch.enable_grad():
            image = torch.zeros(1, 3, size, size, device=classifier.device).requires_grad_().clone()
            # `forward` itself: the structure is looked at, no image is explained, so the ledger need not know
            logits = classifier.module.forward(image)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(
        name
        for name, run in runs.items()
        if run.count == 1 and run.node is not None and not _reaches(logits.grad_fn, image.grad_fn, without=run.node)
    )


def _reaches(start: Any, goal: Any, *, without: Any) -> bool:  # noqa: ANN401 - nodes of autograd have no public type
    """Whether the graph leads from one node to another and not only through a third."""
    seen = {without}
    ahead = [start]
    while ahead:
        node = ahead.pop()
        if node is goal and node is not without:
            return True
        if node is None or node in seen:
            continue
        seen.add(node)
        ahead += [following for following, _ in node.next_functions]
    return False
