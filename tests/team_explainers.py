"""Functions as teams write them, for explainers of kind `callable`."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import digits

CALLS: list[int] = []
"""Images of each call of `particular`."""


def gradient(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Gradients of the target logits."""
    leaf = images.clone().requires_grad_()
    model(leaf).gather(1, targets[:, None]).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def numpy_map(model: nn.Module, images: Tensor, targets: Tensor, power: int = 1) -> Any:
    """An array (N,H,W), as pytorch-grad-cam returns."""
    return np.abs(gradient(model, images, targets).sum(1).numpy()) ** power


def smooth(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Random numbers from all three generators."""
    shift = float(np.random.normal()) + random.gauss(0, 1)  # noqa: NPY002 - as teams do
    return gradient(model, images + 0.1 * torch.randn_like(images) + 0.01 * shift, targets)


def own_generator(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Random numbers that no seed reaches."""
    return gradient(model, images, targets) + np.random.default_rng().normal()


def scaled_by_batch(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Scaled by the largest value of the batch."""
    maps = gradient(model, images, targets)
    return maps / maps.abs().max()


def predictions_only(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Loss of the logit without each half; two passes an image."""
    with torch.no_grad():
        whole, hidden = model(images), images.clone()
        hidden[..., : images.shape[3] // 2] = 0
        loss = (whole - model(hidden)).gather(1, targets[:, None])[:, 0]
    maps = torch.zeros_like(images[:, 0])
    maps[..., : images.shape[3] // 2] = loss[:, None, None]
    return maps


def particular(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Code that takes other weights for a mistake."""
    CALLS.append(len(images))
    if not torch.equal(model.get_submodule("head").weight.cpu(), digits.trained().head.weight):
        msg = "these are not the weights of the product"
        raise ValueError(msg)
    return gradient(model, images, targets)


def small(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Maps of another size than the images."""
    return gradient(model, images, targets)[..., ::2, ::2]


def infinite(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """A division by zero."""
    return gradient(model, images, targets) / 0


def broken(_model: nn.Module, _images: Tensor, _targets: Tensor) -> Tensor:
    """A bug."""
    msg = "no such\nlayer"
    raise KeyError(msg)


def leaving(_model: nn.Module, _images: Tensor, _targets: Tensor) -> Tensor:
    """A script's habit."""
    raise SystemExit(1)


def slow(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Slower than allowed."""
    time.sleep(1.0)
    return gradient(model, images, targets)


def text(_model: nn.Module, _images: Tensor, _targets: Tensor) -> str:
    """No map at all."""
    return "a map"


def vandal(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Leaves the model changed."""
    maps = gradient(model, images, targets)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return maps


def hooking(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Leaves a hook behind that doubles the logits."""
    maps = gradient(model, images, targets)
    model.register_forward_hook(lambda _layer, _inputs, output: 2 * output)
    return maps


NUMBER = 3
"""No function."""
