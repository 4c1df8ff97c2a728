"""A small vision transformer, trained in seconds on scikit-learn's digits, for methods that need attention."""

from __future__ import annotations

import functools

import torch
from torch import nn
from torchvision.models import VisionTransformer

import digits
from auditcore.contracts.explainers import Explainer
from auditcore.models.classifier import Classifier

PATCH, WIDTH, HEADS = 8, 24, 3


@functools.cache
def trained() -> VisionTransformer:
    """A class token, 16 patches and two blocks, right on about nine digits in ten."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = VisionTransformer(digits.SIDE, PATCH, 2, HEADS, WIDTH, 2 * WIDTH, num_classes=10)
        pixels, labels = digits.digit_pixels()
        mean = torch.tensor(digits.PREPROCESSING.mean).view(1, 3, 1, 1)
        std = torch.tensor(digits.PREPROCESSING.std).view(1, 3, 1, 1)
        inputs = (pixels - mean) / std
        optimizer = torch.optim.Adam(network.parameters(), lr=4e-3)
        for _ in range(8):
            for batch in torch.randperm(len(inputs)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(inputs[batch]), labels[batch]).backward()
                optimizer.step()
    return network.eval().requires_grad_(requires_grad=False)


def classifier(device: str = "cpu") -> Classifier:
    """The trained transformer, ready to audit."""
    return Classifier(trained(), preprocessing=digits.PREPROCESSING, device=device)


def suited(convolutional: Classifier, explainer: Explainer) -> Classifier:
    """A model on which an explainer is applicable: the convolutional one, or the transformer if it needs attention."""
    return classifier() if "attention" in explainer.needs else convolutional
