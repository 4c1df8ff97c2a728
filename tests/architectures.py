"""Architectures of torchvision with random weights, none larger than a test of rules and passes needs."""

from __future__ import annotations

from itertools import pairwise

import torchvision
from torch import nn

HIDDEN = 128
"""Width of VGG's hidden layers, instead of 4096. Its own hold 120 of its 133 million weights, and every method that
rewrites the model keeps them twice."""


def architecture(name: str) -> nn.Module:
    """An architecture by name, drawn from torch's global random state; VGG has narrow hidden layers."""
    module: nn.Module = torchvision.models.get_model(name, weights=None)
    if isinstance(module, torchvision.models.VGG):
        module.classifier = _narrow(module.classifier)
    return module


def _narrow(head: nn.Sequential) -> nn.Sequential:
    """The same layers, with `HIDDEN` numbers between them."""
    dense = [layer for layer in head if isinstance(layer, nn.Linear)]
    widths = [dense[0].in_features, *(HIDDEN for _ in dense[1:]), dense[-1].out_features]
    narrow = (nn.Linear(before, after) for before, after in pairwise(widths))
    return nn.Sequential(*(next(narrow) if isinstance(layer, nn.Linear) else layer for layer in head))
