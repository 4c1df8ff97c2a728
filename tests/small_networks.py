"""Networks that the code of other libraries can follow: every layer is a module of its own."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

import digits
from auditcore.models.classifier import Classifier


class PlainNet(nn.Module):
    """Convolutions, rectifiers, pooling and a dense layer; nothing in place and nothing used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.first_relu = nn.ReLU()
        self.second = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.second_relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first_relu(self.first(x))
        x = self.second_relu(self.second(x))
        return self.head(self.pool(x).flatten(1))


@functools.cache
def plain() -> Classifier:
    """A classifier of digits with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Classifier(PlainNet(), preprocessing=digits.PREPROCESSING)


class TokenNet(nn.Module):
    """Patches as tokens behind a class token, mixed by a dense layer over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 8, stride=8)
        self.first_token = nn.Parameter(torch.randn(1, 1, 12))
        self.mix = nn.Linear(17, 17)
        self.norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT
        tokens = torch.cat([self.first_token.expand(len(tokens), -1, -1), tokens], dim=1)
        return self.head(self.norm(self.mix(tokens.mT).mT).mean(1))


@functools.cache
def tokens() -> Classifier:
    """A classifier of digits whose layers keep positions as tokens, with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return Classifier(TokenNet(), preprocessing=digits.PREPROCESSING)


def network(classifier: Classifier) -> nn.Module:
    """The same network without the hooks of the classifier."""
    fresh = PlainNet()
    fresh.load_state_dict(classifier.module.state_dict())
    return fresh.eval()
